"""What the daemon says to systemd and takes over from it: see sd_listen_fds(3) and sd_notify(3)."""

from __future__ import annotations

import fcntl
import logging
import os
import socket
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping, MutableMapping

LISTEN_FDS_START: Final = 3
"""SD_LISTEN_FDS_START: the first descriptor handed over."""

log = logging.getLogger(__name__)


def listen_fds(environ: MutableMapping[str, str], pid: int) -> dict[str, int]:
    """Return the listening descriptors handed over to process `pid`, by the names their units give.

    They are set close-on-exec, and the variables are removed, so that guests inherit neither. A descriptor
    without a name of its own is called ``fdN``. Empty when nothing was handed over, or to another process.
    """
    values = {name: environ.pop(name, None) for name in ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES")}
    if values["LISTEN_PID"] is None or values["LISTEN_FDS"] is None:
        return {}
    try:
        owner, count = int(values["LISTEN_PID"]), int(values["LISTEN_FDS"])
    except ValueError:
        log.warning("ignored: LISTEN_PID=%(LISTEN_PID)s LISTEN_FDS=%(LISTEN_FDS)s are not numbers", values)
        return {}
    if owner != pid:
        return {}
    names = (values["LISTEN_FDNAMES"] or "").split(":")
    return _named(range(LISTEN_FDS_START, LISTEN_FDS_START + count), names)


def _named(fds: range, names: list[str]) -> dict[str, int]:
    named: dict[str, int] = {}
    for index, fd in enumerate(fds):
        name = names[index] if index < len(names) else ""
        try:
            fcntl.fcntl(fd, fcntl.F_SETFD, fcntl.FD_CLOEXEC)
        except OSError as error:
            log.warning("ignored: LISTEN_FDS promises descriptor %d: %s", fd, error.strerror)
            continue
        named[f"fd{fd}" if name in {"", "unknown"} or name in named else name] = fd
    return named


def notify(state: str, environ: Mapping[str, str] = os.environ) -> bool:
    """Send `state`, for instance ``READY=1``, to the service manager; return whether it was sent.

    Never waits and never fails: a daemon that is not run by systemd, or whose message is lost, goes on; the
    reason is logged.
    """
    address = environ.get("NOTIFY_SOCKET")
    if not address:
        return False
    if address[0] not in "@/":
        log.warning("cannot notify the service manager: NOTIFY_SOCKET=%s is not supported", address)
        return False
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as sender:
            sender.sendto(state.encode(), "\0" + address[1:] if address[0] == "@" else address)
    except OSError as error:
        log.warning("cannot notify the service manager at %s: %s", address, error)
        return False
    return True
