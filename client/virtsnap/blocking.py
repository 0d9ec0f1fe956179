"""The connection of scripts: a plain socket, no threads, no event loop; a call waits for its answer."""

from __future__ import annotations

import socket
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Final, Self, TypeVar, cast

from msgspec import Raw

from virtsnap.address import default_uri, socket_path, unreachable
from virtsnap.domain import BlockingDomain, HostVerbs
from virtsnap.events import LostEvents, Subscriptions
from virtsnap.outcome import lost, request, result_of, too_late
from virtsnap_protocol.errors import ConnectionLost, DeadlineExceeded
from virtsnap_protocol.method import Method, Params, Result
from virtsnap_protocol.methods import METHODS, connection, event
from virtsnap_protocol.session import ClientSession, Reply

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType

    from virtsnap.events import Inbox

P = TypeVar("P", bound=Params)
R = TypeVar("R", bound=Result)

_CHUNK: Final = 64 * 1024
_PARTING_SECONDS: Final = 1.0
"""How long the end of a subscription may take; the daemon forgets it with the connection anyway."""


def connect(
    uri: str | None = None,
    *,
    socket: str | Path | None = None,
    read_only: bool = False,
    timeout: float | None = None,
) -> BlockingConnection:
    """Connect to the daemon and open a hypervisor on it.

    `uri` defaults to ``VIRTSNAP_URI``, then to the daemon's own; `socket` to ``VIRTSNAP_SOCKET``, then to the
    system's or the user's daemon. `timeout` (seconds) is the deadline of every call that is given none.

    Raises:
        ConnectionLost: There is no daemon at that socket, or it may not be talked to.
        DriverUnavailable: The hypervisor of the URI cannot be used.
        InvalidArgument: The URI is none.
    """
    path = socket_path(socket, read_only=read_only)
    opened = BlockingConnection(_open_socket(path, timeout), timeout=timeout)
    try:
        if (wanted := default_uri(uri)) is not None:
            opened.call(connection.OPEN, connection.OpenParams(uri=wanted))
    except BaseException:
        opened.close()
        raise
    return opened


def _open_socket(path: Path, timeout: float | None) -> socket.socket:
    stream = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        stream.settimeout(timeout)
        stream.connect(str(path))
    except OSError as error:
        stream.close()
        raise unreachable(path, error) from error
    return stream


class BlockingConnection(HostVerbs):
    """One conversation with the daemon; for one thread at a time."""

    def __init__(self, stream: socket.socket, *, timeout: float | None = None) -> None:
        self._stream = stream
        self._timeout = timeout
        self._session = ClientSession()
        self._subscriptions = Subscriptions()
        self._ended: ConnectionLost | None = None

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close it."""
        self.close()

    def close(self) -> None:
        """End the conversation. Idempotent."""
        self._ended = self._ended or lost("the connection is closed")
        self._stream.close()

    @property
    def alive(self) -> bool:
        """False when further calls can only fail."""
        return self._ended is None

    def domain(self, name: str | int) -> BlockingDomain:
        """Return a handle of the domain with this name or UUID, or, given a number, of the active one with this id."""
        return BlockingDomain(self, name)

    def call(self, method: Method[P, R], params: P, *, deadline: float | None = None) -> R:
        """Make a call and return its result.

        `deadline` is in seconds from now; without it the connection's timeout holds.

        Raises:
            Error: What the daemon raised.
            ConnectionLost: The daemon is gone; `maybe_applied` says whether the request may have been applied.
            DeadlineExceeded: No answer in time; likewise.
        """
        answer = self._ask(method, params, self._timeout if deadline is None else deadline)
        return result_of(method, answer) if isinstance(answer, Reply) else answer

    def call_by_name(self, name: str, params: Raw) -> Raw:
        """Make a call that this version may not know; parameters and result are JSON.

        Raises: as `call`.
        """
        known = next((method.reads for method in METHODS if method.name == name), False)
        method = Method(name, Params, cast("type[Result]", Raw), reads=known, summary="")
        answer = self._ask(method, cast("Params", params), self._timeout)
        if not isinstance(answer, Reply):
            return cast("Raw", answer)
        if answer.error is not None:
            raise answer.error
        return answer.result or Raw(b"null")

    def events(
        self,
        since: event.Position | None = None,
        filter: event.Filter | None = None,  # noqa: A002 the protocol's word
    ) -> BlockingEventStream:
        """Subscribe to events, from a position on or from now; close the stream, or use it in a `with`.

        Raises:
            ResyncRequired: The events after the given position are no longer held.
        """
        self._subscriptions.expect()
        try:
            result = self.call(event.SUBSCRIBE, event.SubscribeParams(since=since, filter=filter))
        except BaseException:
            self._subscriptions.give_up()
            raise
        inbox = self._subscriptions.claim(result.subscription, since or result.position)
        return BlockingEventStream(self, result.subscription, inbox)

    def _ask(self, method: Method[P, R], params: P, seconds: float | None) -> R | Reply:
        """Send a request and wait for its answer: the result itself where that was all that arrived."""
        if self._ended is not None:
            raise lost(self._ended.detail)
        identity, frame = request(self._session, method, params)
        until = None if seconds is None else time.monotonic() + seconds
        answer: R | Reply | None = None
        begun, sent = False, 0
        try:
            while sent < len(frame):
                self._allow(until)
                begun = True
                sent += self._stream.send(memoryview(frame)[sent:] if sent else frame)
            while answer is None:
                data = self._receive(until)
                answer = self._session.receive_result(data, identity, method)
                if answer is None:
                    answer = self._sort(data)
        except TimeoutError:
            raise too_late(method, seconds or 0, maybe_applied=begun and not method.reads) from None
        except (ConnectionLost, OSError) as error:
            raise self._end(error, maybe_applied=begun and not method.reads) from None
        finally:
            if answer is None:
                self._give_up(identity, begun=begun, complete=sent == len(frame))
        return answer

    def _allow(self, until: float | None) -> None:
        """Let the next operation on the socket take until then."""
        if until is None:
            if self._stream.gettimeout() is not None:  # setting it is a system call, asking is not
                self._stream.settimeout(None)
            return
        left = until - time.monotonic()
        if left <= 0:
            raise TimeoutError
        self._stream.settimeout(left)

    def _receive(self, until: float | None) -> bytes:
        """Wait for something to arrive."""
        self._allow(until)
        data = self._stream.recv(_CHUNK)
        if not data:
            raise lost("the daemon closed the connection")
        return data

    def _sort(self, data: bytes) -> Reply | None:
        """Put notices where they belong; return the answer to the call under way, if it is there."""
        reply = None
        for message in self._session.receive_data(data):
            if not isinstance(message, Reply):
                self._subscriptions.accept(message)
            elif message.id is None:
                raise lost("the conversation is broken", cause=str(message.error or "")) from message.error
            else:
                reply = message
        return reply

    def _give_up(self, identity: int, *, begun: bool, complete: bool) -> None:
        """Leave a call without its answer: tell the daemon, or end a conversation that stopped mid-frame."""
        self._session.abandon(identity)
        if begun and not complete:
            self._end(lost("a request was sent in part"))
        elif complete and self._ended is None:
            with suppress(OSError):  # best effort: the cancelled call's answer is dropped anyway
                self._stream.settimeout(0)
                self._send_rest(self._session.cancel(identity))

    def _send_rest(self, frame: bytes) -> None:
        if self._stream.send(frame) != len(frame):
            self._end(lost("a request was sent in part"))

    def _end(self, error: ConnectionLost | OSError, *, maybe_applied: bool = False) -> ConnectionLost:
        if isinstance(error, OSError):
            error = lost("the connection to the daemon broke", cause=error.strerror)
        error.maybe_applied = maybe_applied
        self._ended = error
        self._stream.close()
        return error

    def _wait_for_notice(self, inbox: Inbox, until: float | None) -> None:
        """Return when the inbox has something; raise TimeoutError when there is nothing by then."""
        while not inbox and not inbox.ended:
            if self._ended is not None:
                raise lost(self._ended.detail)
            try:
                self._sort(self._receive(until))
            except TimeoutError:
                raise
            except (ConnectionLost, OSError) as error:
                raise self._end(error) from None

    def _unsubscribe(self, number: int) -> None:
        self._subscriptions.release(number)
        if self._ended is None:
            with suppress(ConnectionLost, DeadlineExceeded):
                self.call(
                    event.UNSUBSCRIBE, event.UnsubscribeParams(subscription=number), deadline=_PARTING_SECONDS
                )


class BlockingEventStream:
    """The events of one subscription, one after the other."""

    def __init__(self, connection: BlockingConnection, number: int, inbox: Inbox) -> None:
        self._connection = connection
        self._number = number
        self._inbox = inbox
        self._closed = False

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close it."""
        self.close()

    def __iter__(self) -> Self:
        """Return itself."""
        return self

    def __next__(self) -> event.Event | LostEvents:
        """Wait for the next event; the last thing may be a `LostEvents`."""
        item = self.next()
        if item is None:
            raise StopIteration
        return item

    def next(self, timeout: float | None = None) -> event.Event | LostEvents | None:
        """Return the next event, or None when there is none within `timeout` seconds or the stream has ended.

        Raises:
            ConnectionLost: The daemon is gone.
        """
        if self._closed:
            return None
        until = None if timeout is None else time.monotonic() + timeout
        try:
            self._connection._wait_for_notice(self._inbox, until)  # noqa: SLF001 two halves of one thing
        except TimeoutError:
            return None
        return self._inbox.take()

    def close(self) -> None:
        """End the subscription. Idempotent."""
        if not self._closed:
            self._closed = True
            self._connection._unsubscribe(self._number)  # noqa: SLF001 two halves of one thing
