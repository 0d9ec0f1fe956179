"""The two ends of a conversation as state machines without I/O: bytes to messages, and back.

Neither end knows sockets, tasks or clocks. Whoever owns the stream hands every received chunk to
`receive_data` and writes whatever bytes it is given, in that order; requests are answered in any order.
`closing` says that nothing more can be read: write what is due, then close.

The bytes returned are whole frames, or none (``b""``): nothing is due yet.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import msgspec
from msgspec import Raw

from virtsnap_protocol.errors import Error, FrameTooLong
from virtsnap_protocol.framing import FRAME_LIMIT, LineFramer
from virtsnap_protocol.messages import (
    CANCEL_REQUEST,
    Batch,
    Call,
    Cancel,
    Id,
    Notice,
    Refusal,
    Response,
    encode_error,
    encode_notification,
    encode_request,
    encode_result,
)
from virtsnap_protocol.rawjson import UNREADABLE
from virtsnap_protocol.replies import Answer, answer_decoder, decode_reply
from virtsnap_protocol.requests import decode_request

if TYPE_CHECKING:
    from collections.abc import KeysView, Sequence

    from virtsnap_protocol.method import Method, P, Params, R


def notify(method: str, params: msgspec.Struct) -> bytes:
    """Return the frame of a notification; the same bytes do for every session."""
    return encode_notification(method, params) + b"\n"


class ServerSession:
    """The daemon's end of one connection."""

    def __init__(self, frame_limit: int = FRAME_LIMIT) -> None:
        self._framer: Final = LineFramer(frame_limit)

    @property
    def closing(self) -> bool:
        """True after a frame beyond the limit: its answer was the last thing that `receive_data` returned."""
        return self._framer.overflow is not None

    def receive_data(self, data: bytes | bytearray | memoryview) -> list[Call | Cancel | bytes]:
        """Return what the client says: calls to answer, wishes to cancel, and answers to send at once.

        After the end of the conversation (`closing`) nothing more is understood.
        """
        if self.closing:
            return []
        events: list[Call | Cancel | bytes] = []
        try:
            frames = self._framer.feed(data)
        except FrameTooLong:
            frames = []
        for frame in frames:
            message = decode_request(frame)
            if isinstance(message, Refusal):
                if not message.notification:
                    events.append(encode_error(message.id, message.error) + b"\n")
            elif isinstance(message, list):
                events += _open_batch(message)
            else:
                events.append(message)
        if self._framer.overflow is not None:
            events.append(encode_error(None, self._framer.overflow) + b"\n")
        return events

    def result(self, call: Call, value: msgspec.Struct | Raw) -> bytes:
        """Return what to send now that a call has succeeded.

        Raises:
            UnicodeEncodeError: the value holds a lone surrogate; the call still wants an answer.
        """
        if call.notification:
            return b""
        return _reply(call, encode_result(call.id, value))

    def error(self, call: Call, error: Error) -> bytes:
        """Return what to send now that a call has failed. Never fails itself."""
        if call.notification:
            return b""
        return _reply(call, encode_error(call.id, error))

    def notify(self, method: str, params: msgspec.Struct) -> bytes:
        """Return the frame of a notification to the client."""
        return notify(method, params)


def _reply(call: Call, text: bytes) -> bytes:
    return text + b"\n" if call.batch is None else call.batch.answer(text)


def _open_batch(members: list[Call | Cancel | Refusal]) -> list[Call | Cancel | bytes]:
    """Return the events of a batch; all its answers travel in one array, with the last of them."""
    answered = [m for m in members if not isinstance(m, Cancel) and not m.notification]
    batch = Batch(len(answered))
    events: list[Call | Cancel | bytes] = []
    at_once = b""
    for member in members:
        if isinstance(member, Refusal):
            if not member.notification:
                at_once = batch.answer(encode_error(member.id, member.error))
        else:
            if isinstance(member, Call) and not member.notification:
                member.batch = batch
            events.append(member)
    return [*events, at_once] if at_once else events


class Reply(msgspec.Struct, eq=False):
    """The answer to one call of this session: `result` (JSON) or `error` is set."""

    id: int | None
    """None: one end could not make sense of what the other said. The conversation is broken."""
    result: Raw | None
    error: Error | None


class ClientSession:
    """The client's end of one connection."""

    def __init__(self, frame_limit: int = FRAME_LIMIT) -> None:
        self._framer: Final = LineFramer(frame_limit)
        self._last_id = 0
        self._pending: Final[dict[int, None]] = {}  # a dictionary keeps the order in which they were sent

    @property
    def pending(self) -> KeysView[int]:
        """The ids of the calls that wait for an answer, oldest first."""
        return self._pending.keys()

    @property
    def closing(self) -> bool:
        """True after a frame beyond the limit: nothing more is understood."""
        return self._framer.overflow is not None

    def call(self, method: Method[P, R], params: P) -> tuple[int, bytes]:
        """Return the id of a new request, and its frame."""
        identity = self._new_id()
        return identity, encode_request(identity, method.name, params) + b"\n"

    def batch(self, calls: Sequence[tuple[Method[Any, Any], Params]]) -> tuple[list[int], bytes]:
        """Return the ids of several new requests, and the one frame with all of them.

        The daemon answers when the last of them is done.
        """
        identities = [self._new_id() for _ in calls]
        texts = [
            encode_request(identity, method.name, params)
            for identity, (method, params) in zip(identities, calls, strict=True)
        ]
        return identities, b"[" + b",".join(texts) + b"]\n" if texts else b""

    def notification(self, name: str, params: msgspec.Struct) -> bytes:
        """Return the frame of a message that has no answer."""
        return notify(name, params)

    def cancel(self, identity: int) -> bytes:
        """Return the frame that asks the daemon to end a call early. Its answer comes all the same."""
        return notify(CANCEL_REQUEST, Cancel(identity))

    def abandon(self, identity: int) -> None:
        """Forget a call: its answer, if there will be one, is dropped."""
        self._pending.pop(identity, None)

    def receive_result(self, data: bytes, identity: int, method: Method[P, R]) -> R | None:
        """Return the result of a pending call when the data is its answer, whole and alone. Raises nothing.

        A shortcut for who waits for each answer. After None nothing has been taken: `receive_data` knows the rest.
        """
        if not data.isascii() or not self._framer.is_one_frame(data):
            return None
        try:
            answer: Answer[R] = answer_decoder(method.result).decode(data)
        except UNREADABLE:
            return None
        if answer.id != identity or identity not in self._pending:
            return None
        del self._pending[identity]
        return answer.result

    def receive_data(self, data: bytes | bytearray | memoryview) -> list[Reply | Notice]:
        """Return what the daemon says: answers to pending calls, and notices. Raises nothing.

        Answers to calls that are not pending (abandoned, or never made) are dropped.
        """
        if self.closing:
            return []
        events: list[Reply | Notice] = []
        try:
            frames = self._framer.feed(data)
        except FrameTooLong:
            frames = []
        for frame in frames:
            message = decode_reply(frame)
            for one in message if isinstance(message, list) else (message,):
                event = one if isinstance(one, Notice) else self._settle(one)
                if event is not None:
                    events.append(event)
        if self._framer.overflow is not None:
            events.append(Reply(None, None, self._framer.overflow))
        return events

    def _new_id(self) -> int:
        self._last_id += 1
        self._pending[self._last_id] = None
        return self._last_id

    def _settle(self, response: Response) -> Reply | None:
        identity: Id = response.id
        if identity is None:
            return Reply(None, response.result, response.error)
        if not isinstance(identity, int) or identity not in self._pending:
            return None
        del self._pending[identity]
        return Reply(identity, response.result, response.error)
