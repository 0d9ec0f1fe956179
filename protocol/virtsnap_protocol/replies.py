"""From one frame to what the daemon says: JSON-RPC 2.0 responses and notifications, on the client's side."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any, Final, Generic, Literal, TypeVar

import msgspec
from msgspec import UNSET, Raw, UnsetType

from virtsnap_protocol.errors import Error, ErrorObject, InvalidRequest, error_from_wire
from virtsnap_protocol.messages import Id, Notice, Response
from virtsnap_protocol.rawjson import (
    ARRAY,
    OBJECT,
    UNREADABLE,
    any_value,
    check_text,
    first_byte,
    invalid,
    is_too_long,
    items,
    not_json,
    read_or_unset,
)

if TYPE_CHECKING:
    from collections.abc import Hashable

R = TypeVar("R")


class _Reply(msgspec.Struct, gc=False):
    """Everything that a daemon sends, in one type."""

    jsonrpc: Literal["2.0"]
    id: Id | UnsetType = UNSET
    result: Raw | UnsetType = UNSET
    error: Raw | UnsetType = UNSET
    method: str | UnsetType = UNSET
    params: Raw | UnsetType = UNSET


class Answer(msgspec.Struct, Generic[R], gc=False, forbid_unknown_fields=True):
    """The answer to a call that went well, its result included."""

    jsonrpc: Literal["2.0"]
    id: int
    result: R


class _WireError(msgspec.Struct):
    code: int
    message: str
    data: Raw = Raw(b"null")


_reply: Final = msgspec.json.Decoder(_Reply)
_wire_error: Final = msgspec.json.Decoder(_WireError)


@functools.cache
def answer_decoder(result: Hashable) -> msgspec.json.Decoder[Answer[Any]]:
    """Return the decoder that reads an answer with a result of this type in one go; it refuses everything else."""
    return msgspec.json.Decoder(Answer[result])  # type: ignore[valid-type] # the type is known when it runs


def decode_reply(frame: bytes) -> Response | Notice | list[Response | Notice]:
    """Return what a daemon's frame says; a list answers a batch. Raises nothing.

    A frame that makes no sense becomes a response with the id null: the conversation is broken.
    """
    try:
        check_text(frame)
        message = _reply.decode(frame)
    except UNREADABLE:
        return _decode_odd_reply(frame)
    return _response(message)


def _decode_odd_reply(frame: bytes) -> Response | Notice | list[Response | Notice]:
    try:
        check_text(frame)
        if first_byte(any_value.decode(frame)) != ARRAY or is_too_long(frame):
            return _broken("neither a response nor a notification")
        members = items.decode(frame)
    except UNREADABLE as error:
        return Response(None, None, not_json(error))
    replies: list[Response | Notice] = []
    for member in members:
        try:
            replies.append(_response(_reply.decode(member)))
        except UNREADABLE:
            replies.append(_broken("neither a response nor a notification"))
    return replies or _broken("an empty batch")


def _response(message: _Reply) -> Response | Notice:
    """Tell the three apart (JSON-RPC 2.0, sections 4.1 and 5)."""
    identity, result, error = message.id, message.result, message.error
    if isinstance(identity, UnsetType):
        if isinstance(message.method, UnsetType) or result is not UNSET or error is not UNSET:
            return _broken("a response without an id")
        params = Raw(b"{}") if isinstance(message.params, UnsetType) else message.params
        if first_byte(params) != OBJECT:
            return _broken("a notification whose parameters are not an object")
        return Notice(message.method, params)
    if isinstance(result, Raw) and error is UNSET and identity is not None:
        return Response(identity, result, None)
    if isinstance(error, Raw) and result is UNSET:
        return Response(identity, None, _read_error(error))
    return _broken("neither one result nor one error", identity)


def _read_error(raw: Raw) -> Error:
    wire = read_or_unset(_wire_error, raw)
    if isinstance(wire, UnsetType):
        return invalid('the member "error" is an object with a code and a message')
    return error_from_wire(ErrorObject(wire.code, wire.message, wire.data))


def _broken(reason: str, identity: Id = None) -> Response:
    return Response(identity, None, InvalidRequest("the daemon's answer makes no sense", cause=reason))
