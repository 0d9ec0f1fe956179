"""One client: its socket, its calls under way, its answers and notifications in one ordered buffer."""

from __future__ import annotations

import contextlib
import logging
from typing import TYPE_CHECKING, Any, Final

import trio

from virtsnap_protocol.errors import Cancelled, Error, TooBusy
from virtsnap_protocol.messages import Call, Cancel
from virtsnap_protocol.method import Params, Result
from virtsnap_protocol.session import ServerSession
from virtsnapd.access import Caller
from virtsnapd.context import Context, Services
from virtsnapd.dispatch import Dispatcher, unforeseen

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from virtsnapd.stream import UnixStream

log = logging.getLogger(__name__)

READ_ONLY_FRAME: Final = 1024 * 1024
"""Bytes of one request over the read-only socket: nothing that reads needs more, and anybody may send it."""
RECEIVE_BYTES: Final = 64 * 1024
"""Most of one receive. CPython allocates this much each time: from 128 KiB on malloc maps and unmaps memory for
it, which costs more than all the rest of a small call."""


class Outbox:
    """What waits to be sent: written at once as far as the kernel takes it, the rest by one task."""

    def __init__(self, stream: UnixStream, limit: int) -> None:
        self._stream = stream
        self._limit = limit
        self._buffer = bytearray()
        self._waiting = trio.Event()
        self._drained = trio.Event()
        self.on_drained: Callable[[], None] = lambda: None

    @property
    def full(self) -> bool:
        """Whether the client is so slow that no more is to be queued than must be."""
        return len(self._buffer) > self._limit

    def put(self, data: bytes) -> None:
        """Queue bytes; order is the order of calls."""
        self._buffer += data

    def flush(self) -> None:
        """Send what the kernel takes now; leave the rest to the writer. A vanished client is the reader's concern."""
        if self._buffer:
            try:
                sent = self._stream.send_nowait(self._buffer)
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                sent = len(self._buffer)
            del self._buffer[:sent]
            if self._buffer:
                self._waiting.set()

    async def wait_room(self) -> None:
        """Wait until the buffer is no longer full: a client that does not read its answers is not read from."""
        while self.full:
            self._drained = trio.Event()
            await self._drained.wait()

    async def wait_sent(self) -> None:
        """Wait until everything is sent, or the client is gone."""
        while self._buffer:
            self._drained = trio.Event()
            await self._drained.wait()

    async def write(self) -> None:
        """Send what the kernel did not take at once, until cancelled or the client is gone."""
        while True:
            await self._waiting.wait()
            while self._buffer:
                await self._stream.wait_writable()
                self.flush()
                if not self.full:
                    self._drained.set()
                    self.on_drained()
            self._waiting = trio.Event()


class Session:
    """The conversation with one client, from accept to close."""

    def __init__(
        self,
        stream: UnixStream,
        dispatcher: Dispatcher,
        services: Services,
        work: trio.Nursery,
        *,
        read_only: bool,
    ) -> None:
        limits = services.config.limits
        peer = stream.peer
        self._stream = stream
        self._dispatcher = dispatcher
        self._work = work
        self._protocol = ServerSession(READ_ONLY_FRAME if read_only else limits.frame_bytes)
        self._outbox = Outbox(stream, limits.outbox_bytes)
        self._outbox.on_drained = self._confess_losses
        self._calls: dict[object, trio.CancelScope] = {}
        self._in_flight = 0
        self._idle = trio.Event()
        self._in_flight_max = limits.requests_in_flight
        self._afterwards: list[Callable[[], None]] = []
        self._context = Context(
            services=services,
            caller=Caller(uid=peer.uid, gid=peer.gid, pid=peer.pid, read_only=read_only),
            notify=self._notify,
            later=self._afterwards.append,
            uri=services.default_uri,
        )

    async def run(self) -> None:
        """Serve the client until it leaves or the conversation breaks."""
        try:
            async with trio.open_nursery() as reads:
                reads.start_soon(self._write)
                await self._read(reads)
                await self._finish_answers()
                reads.cancel_scope.cancel()
        finally:
            for subscription in self._context.subscriptions.values():
                self._context.services.events.unsubscribe(subscription)

    async def _write(self) -> None:
        # when the client is gone the reader notices it too, and ends the session
        with contextlib.suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            await self._outbox.write()

    async def _read(self, reads: trio.Nursery) -> None:
        protocol, outbox = self._protocol, self._outbox
        try:
            listening = True
            while listening:
                data = await self._stream.receive_some(RECEIVE_BYTES)
                # a client that closes its side without a newline has still said something
                for item in protocol.receive_data(data or b"\n"):
                    if isinstance(item, Call):
                        self._begin(item, reads)
                    elif isinstance(item, Cancel):
                        self._cancel(item)
                    else:
                        outbox.put(item)
                    if outbox.full:
                        outbox.flush()
                        await outbox.wait_room()
                outbox.flush()
                listening = bool(data) and not protocol.closing
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            log.debug("client %s vanished", self._context.caller)

    async def _finish_answers(self) -> None:
        """Answer what is under way: a client may close its side when it has said all (socat does) and still listen."""
        while self._in_flight:
            self._idle = trio.Event()
            await self._idle.wait()
        await self._outbox.wait_sent()

    def _begin(self, call: Call, reads: trio.Nursery) -> None:
        try:
            answer = self._dispatcher.call(self._context, call)
            if isinstance(answer, Result):
                self._outbox.put(self._protocol.result(call, answer))
            else:
                self._start(call, answer, reads)
        except Error as error:
            self._outbox.put(self._protocol.error(call, error))
        except Exception as error:  # noqa: BLE001 - a defect of one handler must not end the daemon
            self._outbox.put(self._protocol.error(call, unforeseen(call, error)))
        if self._afterwards:
            self._run_afterwards()

    def _start(self, call: Call, answer: Coroutine[Any, Any, Result], reads: trio.Nursery) -> None:
        """Give a call that waits its task.

        One that changes something belongs to the daemon, not to the connection: it is carried through though its
        caller vanishes.
        """
        change = self._dispatcher.is_change(call)
        try:
            self._require_room(change=change)
        except TooBusy:
            answer.close()
            raise
        nursery = self._work if change else reads
        scope = trio.CancelScope()
        if not call.notification:
            self._calls[call.id] = scope
        self._in_flight += 1
        nursery.start_soon(self._finish, call, answer, scope)

    def _require_room(self, *, change: bool) -> None:
        if self._in_flight >= self._in_flight_max:
            raise TooBusy(
                f"{self._in_flight} requests of this connection are under way",
                remedy="await some answers first",
            )
        if change and self._context.services.stopping:
            raise TooBusy("the daemon is stopping", remedy="try again when it is back")

    async def _finish(self, call: Call, answer: Coroutine[Any, Any, Result], scope: trio.CancelScope) -> None:
        reply = b""
        try:
            with scope:
                reply = await self._outcome(call, answer)
            if scope.cancelled_caught:
                reply = self._protocol.error(call, Cancelled(f"{call.method} was cancelled by its caller"))
        finally:
            self._in_flight -= 1
            self._idle.set()
            if self._calls.get(call.id) is scope:
                del self._calls[call.id]
        self._outbox.put(reply)
        self._outbox.flush()

    async def _outcome(self, call: Call, answer: Coroutine[Any, Any, Result]) -> bytes:
        try:
            return self._protocol.result(call, await answer)
        except Error as error:
            return self._protocol.error(call, error)
        except Exception as error:  # noqa: BLE001 - as above
            return self._protocol.error(call, unforeseen(call, error))

    def _cancel(self, request: Cancel) -> None:
        scope = self._calls.get(request.id)
        if scope is not None:
            scope.cancel()

    def _notify(self, method: str, params: Params) -> bool:
        if self._outbox.full:
            self._outbox.flush()  # what it holds may never have been offered to the kernel
            if self._outbox.full:
                return False
        self._outbox.put(self._protocol.notify(method, params))
        self._outbox.flush()
        return True

    def _run_afterwards(self) -> None:
        waiting = self._afterwards[:]
        self._afterwards.clear()
        for act in waiting:
            act()

    def _confess_losses(self) -> None:
        for number, subscription in list(self._context.subscriptions.items()):
            if subscription.lost and subscription.confess():
                self._context.services.events.unsubscribe(subscription)
                del self._context.subscriptions[number]
