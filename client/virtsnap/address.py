"""Where the daemon is: the argument, else the environment, else the default."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import TYPE_CHECKING, Final

from virtsnap_protocol.errors import ConnectionLost

if TYPE_CHECKING:
    from collections.abc import Mapping

SYSTEM_SOCKET: Final = Path("/run/virtsnap/virtsnapd.sock")
"""The socket of the daemon that systemd runs."""


def socket_path(
    argument: str | Path | None = None,
    *,
    read_only: bool = False,
    environment: Mapping[str, str] = os.environ,
    uid: int | None = None,
) -> Path:
    """Return the socket to connect to: the argument, else ``VIRTSNAP_SOCKET``, else the default.

    The default is the system's daemon for root, and for others their own where it runs. The read-only socket
    lies beside the other one.
    """
    path = Path(argument or environment.get("VIRTSNAP_SOCKET") or _default(environment, uid))
    if read_only and not path.stem.endswith("-ro"):
        path = path.with_name(f"{path.stem}-ro{path.suffix}")
    return path


def _default(environment: Mapping[str, str], uid: int | None) -> Path:
    runtime = environment.get("XDG_RUNTIME_DIR")
    if (os.getuid() if uid is None else uid) != 0 and runtime:
        own = Path(runtime) / "virtsnap" / SYSTEM_SOCKET.name
        if own.exists():
            return own
    return SYSTEM_SOCKET


def default_uri(argument: str | None = None, *, environment: Mapping[str, str] = os.environ) -> str | None:
    """Return the URI to open: the argument, else ``VIRTSNAP_URI``, else None for the daemon's own default."""
    return argument or environment.get("VIRTSNAP_URI") or None


def unreachable(path: Path, failure: OSError) -> ConnectionLost:
    """Return the error for a socket that cannot be connected to: which, why, and what to do."""
    return ConnectionLost(
        f"cannot connect to '{path}': {failure.strerror or failure}",
        path=str(path),
        cause=failure.strerror,
        remedy=_remedy(failure),
    )


def _remedy(failure: OSError) -> str | None:
    if failure.errno in {errno.ENOENT, errno.ECONNREFUSED}:
        return "is virtsnapd running? See: systemctl status virtsnapd"
    if failure.errno in {errno.EACCES, errno.EPERM}:
        return (
            "only root and members of the group virtsnap may connect; see: usermod --append --groups virtsnap"
        )
    return None
