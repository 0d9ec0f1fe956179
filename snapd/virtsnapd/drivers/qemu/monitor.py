"""One connection to one QEMU: commands with their answers, and events.

Theory of operation. A `Monitor` has two tasks. The writer takes whole commands from a queue and is the only
one to send: a caller that is cancelled leaves the queue or, when its command is on the way already, only
stops listening, so there is never half a command on the wire. The reader hands answers to the waiting callers
by id and events to every subscriber. When either task meets the end of the connection both stop, and every caller
learns it at once as `MonitorClosed`, which says whether its command may have been executed.

How a connection comes to be is in `connecting.py`, jobs are in `jobs.py`, typed commands in `commands.py`.
"""

from __future__ import annotations

import array
import contextlib
import itertools
import logging
import math
import os
import socket
import struct
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import trio

from virtsnapd.drivers.qemu.qmp import (
    Event,
    Failure,
    Greeting,
    Message,
    ProtocolViolation,
    QmpReceiver,
    Return,
    encode_command,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

_LOG: Final = logging.getLogger(__name__)

END_OF_FILE: Final = "End of file from qemu monitor"
"""libvirt's words (qemuMonitorIO)."""
RECEIVE_SIZE: Final = 65536


class MonitorError(Exception):
    """Root of what talking to QEMU raises; `commands.translated` turns it into the project's errors."""


class CommandFailed(MonitorError):
    """QEMU refused or failed the command; nothing else about the connection changed."""

    def __init__(self, command: str, error_class: str, desc: str) -> None:
        super().__init__(f"unable to execute QEMU command '{command}': {desc}")
        self.command: Final = command
        self.error_class: Final = error_class
        self.desc: Final = desc


class MonitorClosed(MonitorError):
    """The connection is gone or never came to be."""

    def __init__(self, reason: str, *, sent: bool = False) -> None:
        super().__init__(reason)
        self.reason: Final = reason
        self.sent: Final = sent
        """True when the command had been sent: QEMU may or may not have executed it."""


class MonitorSilent(MonitorClosed):
    """The socket is there and nobody speaks: another client has it, or QEMU hangs."""


@dataclass(frozen=True, kw_only=True)
class Link:
    """A socket on which greeting and capabilities have been exchanged."""

    sock: trio.socket.SocketType
    receiver: QmpReceiver
    """May hold the beginning of a message."""
    greeting: Greeting


class _Waiter:
    """A command on its way: queued, then sent, then answered, unless the connection ends."""

    def __init__(self, line: bytes, fds: tuple[int, ...]) -> None:
        self.line = line
        self.fds = fds
        self.sent = False
        self.done = trio.Event()
        self.answer: Return | Failure | None = None

    def close_fds(self) -> None:
        for fd in self.fds:
            os.close(fd)
        self.fds = ()


class Monitor:
    """A negotiated connection. Made by `connecting.connect_monitor` or `connecting.open_monitor`."""

    def __init__(self, link: Link, path: Path) -> None:
        self.path: Final = path
        self.greeting: Final = link.greeting
        self.closed: Final = trio.Event()
        self.reason = "the monitor is not served"
        """Why the connection is gone, once it is."""
        self.peer_pid: Final = _peer_pid(link.sock)
        """The process that made the listening socket: QEMU itself unless the socket was handed to it."""
        self._socket = link.sock
        self._receiver = link.receiver
        self._ids = itertools.count(1)
        self._waiters: dict[int, _Waiter] = {}
        self._subscribers: set[trio.MemorySendChannel[Event]] = set()
        self._outbox, self._outgoing = trio.open_memory_channel[_Waiter](math.inf)
        self._scope = trio.CancelScope()

    async def execute(
        self, command: str, arguments: Mapping[str, object] | None = None, fds: Sequence[int] = ()
    ) -> Any:  # noqa: ANN401 (QMP's own value; `commands.py` gives it a type)
        """Execute a command and return its value; `fds` travel with it (`getfd` and the like).

        Cancelling abandons the answer; a command that is not on the wire yet is then never sent.

        Raises:
            CommandFailed: QEMU refused it.
            MonitorClosed: the connection is gone; `sent` says whether QEMU may have executed the command.
        """
        if self.closed.is_set():
            raise MonitorClosed(self.reason)
        number = next(self._ids)
        # Our own copies: the caller may close its descriptors as soon as it is cancelled.
        waiter = _Waiter(encode_command(command, arguments, number), tuple(os.dup(fd) for fd in fds))
        self._waiters[number] = waiter
        try:
            self._outbox.send_nowait(waiter)
            await waiter.done.wait()
        finally:
            del self._waiters[number]
            waiter.done.set()  # abandoned: the writer skips it
        match waiter.answer:
            case Return(value=value):
                return value
            case Failure(error_class=error_class, desc=desc):
                raise CommandFailed(command, error_class, desc)
            case None:
                raise MonitorClosed(self.reason, sent=waiter.sent)

    @contextmanager
    def events(self) -> Iterator[trio.MemoryReceiveChannel[Event]]:
        """Subscribe: every event from now on arrives in the channel, which ends with the connection.

        What happened before is not told again: subscribe first, then ask for the state.
        The channel is unbounded, since a lost event is a lost job, and QEMU limits the rate of most that a
        guest can cause at will: read it all the time, or leave the `with`.
        """
        send, receive = trio.open_memory_channel[Event](math.inf)
        with send, receive:
            if self.closed.is_set():
                send.close()
            self._subscribers.add(send)
            try:
                yield receive
            finally:
                self._subscribers.discard(send)

    async def aclose(self) -> None:
        """End the connection; QEMU goes on. Waiting callers get MonitorClosed. Closing twice is harmless."""
        self._end("the monitor was closed")
        await self.closed.wait()

    async def serve(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Carry commands and answers until the connection ends; never raises for the peer's doings."""
        try:
            with self._scope:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._write)
                    nursery.start_soon(self._read)
                    task_status.started()
        finally:
            self._end("the monitor was closed")  # keeps the first reason
            self._shut()

    async def _write(self) -> None:
        async for waiter in self._outgoing:
            try:
                if not waiter.done.is_set():
                    await self._send(waiter)
            except OSError as error:
                self._end(f"{END_OF_FILE}: {error.strerror}")
            finally:
                waiter.close_fds()

    async def _send(self, waiter: _Waiter) -> None:
        rest = memoryview(waiter.line)
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", waiter.fds))] if waiter.fds else []
        while rest:
            sent = await self._socket.sendmsg([rest], rights)
            waiter.sent = True
            rest, rights = rest[sent:], []

    async def _read(self) -> None:
        try:
            while data := await self._socket.recv(RECEIVE_SIZE):
                for message in self._receiver.receive_data(data):
                    self._deliver(message)
            self._end(END_OF_FILE)
        except OSError as error:
            self._end(f"{END_OF_FILE}: {error.strerror}")
        except ProtocolViolation as error:
            _LOG.error("closing the monitor %s: %s", self.path, error)
            self._end(str(error))

    def _deliver(self, message: Message) -> None:
        match message:
            case Event():
                for subscriber in self._subscribers:
                    subscriber.send_nowait(message)
            case Return(id=number) | Failure(id=int(number)):
                if (waiter := self._waiters.get(number)) is not None:  # else its caller was cancelled
                    waiter.answer = message
                    waiter.done.set()
            case Failure(desc=desc):
                msg = f"QEMU could not read a command: {desc}"
                raise ProtocolViolation(msg)
            case Greeting():
                msg = "QEMU greets twice"
                raise ProtocolViolation(msg)

    def _end(self, reason: str) -> None:
        if not self._scope.cancel_called:
            self.reason = reason
            self._scope.cancel()

    def _shut(self) -> None:
        self._socket.close()
        self.closed.set()
        self._outbox.close()
        with contextlib.suppress(trio.EndOfChannel):
            while True:
                self._outgoing.receive_nowait().close_fds()
        for waiter in self._waiters.values():
            waiter.done.set()
        for subscriber in self._subscribers:
            subscriber.close()


def _peer_pid(sock: trio.socket.SocketType) -> int:
    credentials = struct.Struct("3i")  # struct ucred: pid, uid, gid
    pid: int = credentials.unpack(sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, credentials.size))[0]
    return pid
