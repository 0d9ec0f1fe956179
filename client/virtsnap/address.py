"""Where the daemon is: the argument, else the environment, else the default."""

from __future__ import annotations

import errno
import os
import pwd
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec

from virtsnap_protocol.errors import ConnectionLost, InvalidArgument
from virtsnap_protocol.method import Uri

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
    uid = os.getuid() if uid is None else uid
    if uid != 0:
        own = own_socket(uid, environment)
        if own.exists():
            return own
    return SYSTEM_SOCKET


def own_socket(uid: int, environment: Mapping[str, str]) -> Path:
    """Return where a user's own daemon listens: without an absolute XDG_RUNTIME_DIR in logind's folder."""
    runtime = environment.get("XDG_RUNTIME_DIR", "")
    return Path(runtime if runtime.startswith("/") else f"/run/user/{uid}", "virtsnap", SYSTEM_SOCKET.name)


def default_uri(argument: str | None = None, *, environment: Mapping[str, str] = os.environ) -> str | None:
    """Return the URI to open: the argument, else ``VIRTSNAP_URI``, else None for the daemon's own default.

    Raises:
        InvalidArgument: It is not a URI.
    """
    uri = argument or environment.get("VIRTSNAP_URI") or None
    try:
        return msgspec.convert(uri, Uri | None)
    except msgspec.ValidationError:
        raise InvalidArgument(f"'{uri}' is not a URI such as qemu:///system or test:///default") from None


def unreachable(path: Path, failure: OSError) -> ConnectionLost:
    """Return the error for a socket that cannot be connected to: which, why, and what to do."""
    return ConnectionLost(
        f"cannot connect to '{path}': {failure.strerror or failure}",
        path=str(path),
        cause=failure.strerror,
        remedy=_remedy(path, failure),
    )


def _remedy(path: Path, failure: OSError) -> str | None:
    systems = path.parent == SYSTEM_SOCKET.parent
    if failure.errno in {errno.ENOENT, errno.ECONNREFUSED}:
        if systems:
            return "is virtsnapd running? See: systemctl status virtsnapd"
        return "is virtsnapd running with this runtime folder?"
    if failure.errno in {errno.EACCES, errno.EPERM}:
        if systems:
            return (
                "only root and members of the group virtsnap may connect; "
                f"see: usermod --append --groups virtsnap {_user_name()}"
            )
        return "only the user that runs this virtsnapd and members of its group may connect"
    return None


def _user_name() -> str:
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:  # an account that is not in the system's tables, as in some containers
        return "USER"
