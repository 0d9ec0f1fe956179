"""JSON-RPC 2.0 messages as values, and their encoding; `requests` and `replies` read them."""

from __future__ import annotations

import json
from typing import Any, Final

import msgspec
from msgspec import Raw

from virtsnap_protocol.errors import Error, ErrorObject

Id = str | int | float | None
"""What a request is known by. Fractions and null are discouraged by the specification, and allowed."""

CANCEL_REQUEST: Final = "$/cancelRequest"
"""The notification that asks for the end of a request, as in the Language Server Protocol."""


class Batch:
    """The answers of one batch, kept until the last request of it is answered."""

    __slots__ = ("_answers", "_waiting")

    def __init__(self, waiting: int = 0) -> None:
        self._answers: Final[list[bytes]] = []
        self._waiting = waiting
        """Answers still to come."""

    def answer(self, reply: bytes) -> bytes:
        """Take one answer; return the frame with all of them when it is the last, else nothing."""
        self._answers.append(reply)
        self._waiting -= 1
        return b"" if self._waiting else b"[" + b",".join(self._answers) + b"]\n"


class Call(msgspec.Struct, eq=False):
    """A request or a notification, on the daemon's side; hashable, for each is a thing of its own."""

    id: Id
    method: str
    params: Raw | None
    """A JSON object; None when the member is absent."""
    notification: bool = False
    batch: Batch | None = None
    """The batch that its answer goes to; a notification has none."""


class Cancel(msgspec.Struct):
    """The wish that the request with this id end early (`$/cancelRequest`)."""

    id: Id


class Refusal(msgspec.Struct, eq=False):
    """A message that is answered without asking anybody."""

    id: Id
    error: Error
    notification: bool = False
    """It is not even answered."""


class Response(msgspec.Struct, eq=False):
    """An answer, on the client's side: exactly one of `result` and `error` is set."""

    id: Id
    result: Raw | None
    error: Error | None


class Notice(msgspec.Struct, eq=False):
    """What the daemon says unasked, on the client's side."""

    method: str
    params: Raw
    """A JSON object."""


class _Request(msgspec.Struct, tag_field="jsonrpc", tag="2.0", gc=False):
    id: Id
    method: str
    params: msgspec.Struct


class _Notification(msgspec.Struct, tag_field="jsonrpc", tag="2.0", gc=False):
    method: str
    params: msgspec.Struct


class _Result(msgspec.Struct, tag_field="jsonrpc", tag="2.0", gc=False):
    id: Id
    result: Any


class _Failure(msgspec.Struct, tag_field="jsonrpc", tag="2.0", gc=False):
    id: Id
    error: ErrorObject


_encode: Final = msgspec.json.Encoder().encode


def encode_request(identity: Id, method: str, params: msgspec.Struct) -> bytes:
    """Return the text of a request, without the newline that makes it a frame."""
    return _encode(_Request(identity, method, params))


def encode_notification(method: str, params: msgspec.Struct) -> bytes:
    """Return the text of a notification, without the newline that makes it a frame."""
    return _encode(_Notification(method, params))


def encode_result(identity: Id, value: msgspec.Struct | Raw) -> bytes:
    """Return the text of an answer, without the newline that makes it a frame.

    Raises:
        UnicodeEncodeError: the value holds a lone surrogate, which JSON in UTF-8 has no spelling for.
    """
    return _encode(_Result(identity, value))


def encode_error(identity: Id, error: Error) -> bytes:
    """Return the text of a negative answer, without the newline that makes it a frame. Never fails."""
    failure = _Failure(identity, error.to_wire())
    try:
        return _encode(failure)
    except UnicodeEncodeError:
        # The system's words may quote a file name that is not UTF-8 (PEP 383); an answer is due all the same.
        return json.dumps(msgspec.to_builtins(failure), ensure_ascii=False).encode("utf-8", "replace")
