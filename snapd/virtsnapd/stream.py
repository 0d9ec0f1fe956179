"""One connected Unix socket: who is at the other end, and its bytes, with little in between."""

from __future__ import annotations

import socket
import struct
from dataclasses import dataclass
from typing import Final

import trio

_ucred = struct.Struct("iII")


@dataclass(frozen=True, kw_only=True, slots=True)
class PeerCredentials:
    """Who connected: struct ucred of unix(7), taken by the kernel at connect."""

    pid: int
    """0 when the process is not visible in the daemon's PID namespace."""
    uid: int
    gid: int


class UnixStream:
    """One connected socket.

    Thinner than trio.SocketStream: a receive is one wait and one recv, a send is one send without a wait, for
    the small call is the daemon's most frequent work. One task reads, one task writes.
    """

    __slots__ = ("_closed", "_sock", "peer")

    def __init__(self, sock: socket.socket) -> None:
        sock.settimeout(0)
        self._sock = sock
        self._closed = False
        pid, uid, gid = _ucred.unpack(sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _ucred.size))
        self.peer: Final = PeerCredentials(pid=pid, uid=uid, gid=gid)

    async def receive_some(self, max_bytes: int) -> bytes:
        """Wait for bytes and return at most `max_bytes` of them; b"" is the peer's end.

        Raises: trio.BrokenResourceError, trio.ClosedResourceError, trio.BusyResourceError.
        """
        while True:
            self._check_open()
            await trio.lowlevel.wait_readable(self._sock)
            try:
                return self._sock.recv(max_bytes)
            except BlockingIOError:
                continue  # woken for nothing: the kernel may do that
            except OSError as error:
                raise self._translated(error) from error

    def send_nowait(self, data: bytes | bytearray | memoryview) -> int:
        """Return how many bytes the kernel took at once: 0 when its buffer is full.

        Raises: trio.BrokenResourceError when the peer is gone, trio.ClosedResourceError.
        """
        self._check_open()
        try:
            return self._sock.send(data)
        except BlockingIOError:
            return 0
        except OSError as error:
            raise self._translated(error) from error

    async def wait_writable(self) -> None:
        """Wait until the kernel takes bytes again, or the peer is gone.

        Raises: trio.ClosedResourceError, trio.BusyResourceError.
        """
        self._check_open()
        await trio.lowlevel.wait_writable(self._sock)

    def close(self) -> None:
        """Close at once; tasks that wait on the stream get trio.ClosedResourceError. May be repeated.

        What was sent still reaches the peer.
        """
        if not self._closed:
            self._closed = True
            trio.lowlevel.notify_closing(self._sock)
            self._sock.close()

    async def aclose(self) -> None:
        """Close as `close` does, and let other tasks run: trio.abc.AsyncResource."""
        self.close()
        await trio.lowlevel.checkpoint()

    def _check_open(self) -> None:
        if self._closed:
            raise trio.ClosedResourceError

    def _translated(self, error: OSError) -> trio.BrokenResourceError | trio.ClosedResourceError:
        if self._closed:
            return trio.ClosedResourceError()
        return trio.BrokenResourceError(f"socket connection broken: {error.strerror}")
