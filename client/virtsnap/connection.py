"""The connection of trio programs: many calls at once, cancellable, and streams of events.

One task writes and one reads, so that a call that is cancelled never leaves half a frame behind. A call is
known to be unsent until the writer takes its frame up; from then on it may have been applied.
"""

from __future__ import annotations

import math
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final, Self, TypeVar

import trio

from virtsnap.address import default_uri, socket_path, unreachable
from virtsnap.domain import Domain, HostVerbs
from virtsnap.events import LostEvents, Subscriptions
from virtsnap.outcome import lost, request, result_of, too_late
from virtsnap_protocol.method import Method, Params, Result
from virtsnap_protocol.methods import connection, event
from virtsnap_protocol.session import ClientSession, Reply

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from virtsnap.events import Inbox
    from virtsnap_protocol.errors import ConnectionLost

P = TypeVar("P", bound=Params)
R = TypeVar("R", bound=Result)

_CHUNK: Final = 64 * 1024


@asynccontextmanager
async def open_connection(
    uri: str | None = None, *, socket: str | Path | None = None, read_only: bool = False
) -> AsyncIterator[Connection]:
    """Connect to the daemon and open a hypervisor on it, for as long as the block lasts.

    Arguments and errors are those of `virtsnap.connect`.
    """
    path = socket_path(socket, read_only=read_only)
    try:
        stream = await trio.open_unix_socket(str(path))
    except OSError as error:
        raise unreachable(path, error) from error
    async with connection_on(stream) as opened:
        if (wanted := default_uri(uri)) is not None:
            await opened.call(connection.OPEN, connection.OpenParams(uri=wanted))
        yield opened


@asynccontextmanager
async def connection_on(stream: trio.abc.Stream) -> AsyncIterator[Connection]:
    """Run a conversation on a stream, which is closed at the end of the block."""
    opened = Connection(stream)
    failure: Exception | None = None
    async with stream, trio.open_nursery() as nursery:
        nursery.start_soon(opened._read)  # noqa: SLF001 its other half
        nursery.start_soon(opened._write)  # noqa: SLF001 its other half
        try:
            yield opened
        except Exception as error:  # noqa: BLE001 raised below as it is: the nursery would wrap it
            failure = error
        finally:
            opened._end(lost("the connection is closed"))  # noqa: SLF001 its other half
            nursery.cancel_scope.cancel()
    if failure is not None:
        raise failure


class _Pending:
    """A call that waits for its answer."""

    def __init__(self, method: Method[Any, Any], frame: bytes) -> None:
        self.method = method
        self.frame = frame
        self.begun = False
        """The writer has taken it up."""
        self.given_up = False
        self.settled = trio.Event()
        self.reply: Reply | None = None

    @property
    def maybe_applied(self) -> bool:
        return self.begun and not self.method.reads


class Connection(HostVerbs):
    """One conversation with the daemon; for any number of tasks."""

    def __init__(self, stream: trio.abc.Stream) -> None:
        self._stream = stream
        self._session = ClientSession()
        self._pending: dict[int, _Pending] = {}
        self._outgoing, self._to_write = trio.open_memory_channel[_Pending | bytes](math.inf)
        self._subscriptions = Subscriptions()
        self._arrival = trio.Event()
        self._ended: ConnectionLost | None = None

    @property
    def alive(self) -> bool:
        """False when further calls can only fail."""
        return self._ended is None

    def domain(self, name: str | int) -> Domain:
        """Return a handle of the domain with this name or UUID, or, given a number, of the active one with this id."""
        return Domain(self, name)

    async def call(self, method: Method[P, R], params: P, *, deadline: float | None = None) -> R:
        """Make a call and return its result; `deadline` is in seconds from now.

        Cancelling it asks the daemon to stop the work, and waits for nothing.

        Raises:
            Error: What the daemon raised.
            ConnectionLost: The daemon is gone; `maybe_applied` says whether the request may have been applied.
            DeadlineExceeded: No answer in time; likewise.
        """
        if self._ended is not None:
            raise lost(self._ended.detail, cause=self._ended.cause)
        identity, frame = request(self._session, method, params)
        pending = self._pending[identity] = _Pending(method, frame)
        self._outgoing.send_nowait(pending)
        try:
            with trio.move_on_after(math.inf if deadline is None else deadline) as scope:
                await pending.settled.wait()
        finally:
            if not pending.settled.is_set():
                self._give_up(identity, pending)
        if pending.reply is not None:
            return result_of(method, pending.reply)
        if scope.cancelled_caught and not pending.settled.is_set():
            raise too_late(method, deadline or 0, maybe_applied=pending.maybe_applied)
        ended = self._ended or lost("the connection is closed")
        raise lost(ended.detail, cause=ended.cause, maybe_applied=pending.maybe_applied)

    @asynccontextmanager
    async def subscribe(
        self,
        since: event.Position | None = None,
        filter: event.Filter | None = None,  # noqa: A002 the protocol's word
    ) -> AsyncIterator[EventStream]:
        """Subscribe to events, from a position on or from now, for as long as the block lasts.

        Raises:
            ResyncRequired: The events after the given position are no longer held.
        """
        self._subscriptions.expect()
        try:
            result = await self.call(event.SUBSCRIBE, event.SubscribeParams(since=since, filter=filter))
        except BaseException:
            self._subscriptions.give_up()
            raise
        inbox = self._subscriptions.claim(result.subscription, since or result.position)
        try:
            yield EventStream(self, inbox)
        finally:
            self._subscriptions.release(result.subscription)
            self._say(event.UNSUBSCRIBE, event.UnsubscribeParams(subscription=result.subscription))

    def _say(self, method: Method[P, R], params: P) -> None:
        """Make a call whose answer interests nobody."""
        if self._ended is None:
            identity, frame = request(self._session, method, params)
            self._session.abandon(identity)
            self._outgoing.send_nowait(frame)

    def _give_up(self, identity: int, pending: _Pending) -> None:
        self._session.abandon(identity)
        self._pending.pop(identity, None)
        pending.given_up = True
        if pending.begun and self._ended is None:
            self._outgoing.send_nowait(self._session.cancel(identity))

    async def _write(self) -> None:
        """Send what calls have queued, several frames at a time when there are several."""
        try:
            async for item in self._to_write:
                frames = [self._take_up(item)]
                while sum(map(len, frames)) < _CHUNK:
                    try:
                        frames.append(self._take_up(self._to_write.receive_nowait()))
                    except (trio.WouldBlock, trio.EndOfChannel):
                        break
                if data := b"".join(frames):
                    await self._stream.send_all(data)
        except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
            self._end(lost("the connection to the daemon broke", cause=_words(error)))

    @staticmethod
    def _take_up(item: _Pending | bytes) -> bytes:
        if isinstance(item, bytes):
            return item
        if item.given_up:
            return b""
        item.begun = True
        return item.frame

    async def _read(self) -> None:
        """Hand out what the daemon says until it says nothing more."""
        try:
            while data := await self._stream.receive_some(_CHUNK):
                for message in self._session.receive_data(data):
                    if not isinstance(message, Reply):
                        self._subscriptions.accept(message)
                        self._wake_streams()
                    elif message.id is None:
                        self._end(lost("the conversation is broken", cause=str(message.error or "")))
                        return
                    elif (pending := self._pending.pop(message.id, None)) is not None:
                        pending.reply = message
                        pending.settled.set()
            self._end(lost("the daemon closed the connection"))
        except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
            self._end(lost("the connection to the daemon broke", cause=_words(error)))

    def _end(self, error: ConnectionLost) -> None:
        """Fail every waiting call and stream at once."""
        if self._ended is not None:
            return
        self._ended = error
        self._outgoing.close()
        for pending in self._pending.values():
            pending.settled.set()
        self._pending.clear()
        self._wake_streams()

    def _wake_streams(self) -> None:
        self._arrival.set()
        self._arrival = trio.Event()

    async def _next_event(self, inbox: Inbox) -> event.Event | LostEvents | None:
        while not inbox:
            if inbox.ended:
                return None
            if self._ended is not None:
                raise lost(self._ended.detail, cause=self._ended.cause)
            await self._arrival.wait()
        return inbox.take()


def _words(error: BaseException) -> str | None:
    cause = error.__cause__
    return cause.strerror if isinstance(cause, OSError) else None


class EventStream:
    """The events of one subscription, one after the other."""

    def __init__(self, connection: Connection, inbox: Inbox) -> None:
        self._connection = connection
        self._inbox = inbox

    def __aiter__(self) -> Self:
        """Return itself."""
        return self

    async def __anext__(self) -> event.Event | LostEvents:
        """Wait for the next event; the last thing may be a `LostEvents`.

        Raises:
            ConnectionLost: The daemon is gone.
        """
        await trio.lowlevel.checkpoint()
        item = await self._connection._next_event(self._inbox)  # noqa: SLF001 two halves of one thing
        if item is None:
            raise StopAsyncIteration
        return item
