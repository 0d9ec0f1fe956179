"""Listening on Unix sockets and accepting clients, and the lock that keeps one daemon to a state folder."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import grp
import logging
import os
import socket
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Final, NoReturn, Self

import trio

from virtsnap_protocol.errors import ConfigUnsupported, OperationFailed, SystemFailure
from virtsnapd.stream import PeerCredentials, UnixStream

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

__all__ = [
    "PeerCredentials",
    "StateLock",
    "UnixStream",
    "adopt_listener",
    "close_listener",
    "open_unix_listener",
    "serve",
]

MAX_PATH_BYTES: Final = 107
"""sun_path is 108 bytes with its terminator: unix(7)."""
BACKLOG: Final = socket.SOMAXCONN
ACCEPTS_PER_WAKE: Final = 64
"""Connections taken before other tasks get their turn; arbitrary."""
CAPACITY_ERRNOS: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS})
"""accept(2) says that the system is short of something for the moment; as in trio.serve_listeners."""
PASSING_ERRNOS: Final = frozenset({errno.ECONNABORTED, errno.EINTR, errno.EPROTO, errno.EPERM})
"""accept(2) reports something that concerns this one connection."""
RETRY_SECONDS: Final = 0.1

log = logging.getLogger(__name__)


def open_unix_listener(path: Path, mode: int, group: str = "") -> socket.socket:
    """Return a non-blocking socket that listens at `path` with exactly these permissions.

    The folder is created when it is missing. A socket that a dead daemon left behind is replaced.

    Raises: ConfigUnsupported for a path that is too long or an unknown group, OperationFailed when another
    daemon answers there, SystemFailure when the system refuses.
    """
    size = len(os.fsencode(path))
    if size > MAX_PATH_BYTES:
        detail = f"socket path '{path}' has {size} bytes, at most {MAX_PATH_BYTES} are possible"
        raise ConfigUnsupported(detail)
    gid = _gid(group)
    try:
        _make_folder(path.parent, 0o755)
        with _locked(path.parent):
            _remove_stale(path)
            return _bind(path, mode, gid)
    except OSError as error:
        raise _system_failure(error, "listen on", path) from error


def close_listener(listener: socket.socket) -> None:
    """Close a socket of `open_unix_listener` and remove its file, unless another daemon listens there by now.

    Its `serve` must have ended. Not for adopted sockets, which are closed by their own `close`: asking who
    listens would wake the service manager.
    """
    path = Path(listener.getsockname())
    listener.close()
    try:
        with _locked(path.parent):
            _remove_stale(path)
    except FileNotFoundError:
        pass  # the folder has been removed before us
    except (OSError, OperationFailed) as error:
        log.warning("left %s where it is: %s", path, error)


def adopt_listener(fd: int) -> socket.socket:
    """Return the listening socket that the service manager handed over as descriptor `fd`.

    Raises: ConfigUnsupported when it is not a listening Unix stream socket.
    """
    try:
        listener = socket.socket(fileno=fd)
    except OSError as error:
        detail = f"descriptor {fd} is not a socket: {error.strerror}"
        raise ConfigUnsupported(detail) from error
    if (
        listener.family != socket.AF_UNIX
        or listener.type != socket.SOCK_STREAM
        or not listener.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
    ):
        listener.detach()
        detail = f"descriptor {fd} is not a listening Unix stream socket"
        raise ConfigUnsupported(detail)
    listener.settimeout(0)
    fcntl.fcntl(fd, fcntl.F_SETFD, fcntl.FD_CLOEXEC)
    return listener


def _make_folder(path: Path, mode: int) -> None:
    """Make a missing folder with exactly this mode: the umask decides about files, not about who gets that far."""
    try:
        path.mkdir(mode=0o700, parents=True)
    except FileExistsError:
        if not path.is_dir():
            raise
    else:
        path.chmod(mode)


def _system_failure(error: OSError, action: str, path: Path) -> SystemFailure:
    return SystemFailure(f"cannot {action} '{path}': {error.strerror}", path=str(path))


def _gid(group: str) -> int:
    if not group:
        return -1  # chown(2): unchanged
    try:
        return grp.getgrnam(group).gr_gid
    except KeyError:
        detail = f"there is no group '{group}' for the socket"
        raise ConfigUnsupported(detail) from None


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Keep two daemons from replacing each other's sockets; the lock is on the folder and leaves no file."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


def _remove_stale(path: Path) -> None:
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        detail = f"'{path}' exists and is not a socket"
        raise OperationFailed(detail)
    if _answers(path):
        detail = f"another virtsnapd is listening on '{path}'"
        raise OperationFailed(detail)
    path.unlink()


def _answers(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK) as probe:
        try:
            probe.connect(os.fspath(path))
        except ConnectionRefusedError:
            return False  # nobody has it open
        except BlockingIOError:
            pass  # its backlog is full: it is very much alive
    return True


def _bind(path: Path, mode: int, gid: int) -> socket.socket:
    with contextlib.ExitStack() as undo:
        listener = undo.enter_context(
            socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        )
        # Linux creates the file with the descriptor's own mode, less the umask: it is nobody else's from the
        # start, and nobody can connect before listen(), by when its final owner and mode are set.
        os.fchmod(listener.fileno(), 0o600)
        listener.bind(os.fspath(path))
        undo.callback(path.unlink)
        os.chown(path, -1, gid)
        path.chmod(mode)
        listener.listen(BACKLOG)
        undo.pop_all()
        return listener


async def serve(
    listener: socket.socket,
    handler: Callable[[UnixStream], Awaitable[object]],
    nursery: trio.Nursery,
    clients: trio.Semaphore,
    refuse: Callable[[UnixStream], object],
) -> NoReturn:
    """Accept until cancelled, and run `handler(stream)` in `nursery` for each client.

    The stream is closed when the handler ends. `clients` counts the free places, and may be shared by several
    listeners; a client that finds none is given to `refuse`, which may send but not wait, and is closed.
    Closing `listener` is the caller's.
    """
    starved = False
    while True:
        await trio.lowlevel.wait_readable(listener)
        try:
            for _ in range(ACCEPTS_PER_WAKE):
                if (sock := _accept(listener)) is None:
                    break
                starved = False
                _admit(UnixStream(sock), handler, nursery, clients, refuse)
        except OSError as error:
            if error.errno not in CAPACITY_ERRNOS:
                raise
            if not starved:
                log.warning("cannot accept clients for the moment: %s", error.strerror)
            starved = True
            await trio.sleep(RETRY_SECONDS)


def _accept(listener: socket.socket) -> socket.socket | None:
    while True:
        try:
            return listener.accept()[0]
        except BlockingIOError:
            return None
        except OSError as error:
            if error.errno not in PASSING_ERRNOS:
                raise


def _admit(
    stream: UnixStream,
    handler: Callable[[UnixStream], Awaitable[object]],
    nursery: trio.Nursery,
    clients: trio.Semaphore,
    refuse: Callable[[UnixStream], object],
) -> None:
    try:
        clients.acquire_nowait()
    except trio.WouldBlock:
        log.warning("refused a client (process %d): too many connections", stream.peer.pid)
        with contextlib.suppress(trio.BrokenResourceError):
            refuse(stream)
        stream.close()
        return
    nursery.start_soon(_run, handler, stream, clients, name="client")


async def _run(
    handler: Callable[[UnixStream], Awaitable[object]], stream: UnixStream, clients: trio.Semaphore
) -> None:
    try:
        await handler(stream)
    finally:
        clients.release()
        stream.close()


class StateLock:
    """Keeps a second daemon off a state folder, for as long as this process lives or until `release`.

    Usable in a `with` statement. The kernel drops it with the process: nothing to clean up after a crash.
    """

    def __init__(self, state_dir: Path) -> None:
        self._state_dir = state_dir
        self._fd = -1

    def acquire(self) -> None:
        """Lock the folder, which is created when missing.

        Raises: OperationFailed naming the process that has it, SystemFailure.
        """
        try:
            # Traversable, for guests that run as another user reach their monitors below it.
            _make_folder(self._state_dir, 0o711)
            flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
            fd = os.open(self._state_dir / "lock", flags, 0o600)
        except OSError as error:
            raise _system_failure(error, "use the state folder", self._state_dir) from error
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.ftruncate(fd, 0)
            os.write(fd, b"%d\n" % os.getpid())
        except BlockingIOError:
            holder = os.read(fd, 20).decode(errors="replace").strip()
            os.close(fd)
            who = f"process {holder}" if holder else "another process"
            detail = f"state folder '{self._state_dir}' is in use by {who}"
            raise OperationFailed(detail) from None
        except OSError as error:
            os.close(fd)
            raise _system_failure(error, "lock the state folder", self._state_dir) from error
        self._fd = fd

    def release(self) -> None:
        """Unlock; may be repeated. The file stays: removing it would let two daemons lock two files."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def __enter__(self) -> Self:
        """Acquire the lock."""
        self.acquire()
        return self

    def __exit__(self, *_: object) -> None:
        """Release the lock."""
        self.release()
