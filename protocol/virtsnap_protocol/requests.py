"""From one frame to what a client asks for: JSON-RPC 2.0 with every error of its section 5.1.

An ordinary message costs one compiled decode that leaves `params` and `result` as they are (`msgspec.Raw`).
Whatever is odd about a request, refused or merely unusual, sends it the careful way, which alone knows all
the rules. Both ways promise the same of a request they let pass: its text is valid JSON in valid UTF-8, no
member of it is named twice (inside `params` the last of two wins, as with most readers), and `params` is an
object.
"""

from __future__ import annotations

import contextlib
import json
from typing import Any, Final, Literal

import msgspec
from msgspec import UNSET, Raw, UnsetType

from virtsnap_protocol.errors import InvalidParams, Problem
from virtsnap_protocol.messages import CANCEL_REQUEST, Call, Cancel, Id, Refusal
from virtsnap_protocol.rawjson import (
    ARRAY,
    BATCH_LIMIT,
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

ENVELOPE_LIMIT: Final = 64 * 1024
"""Bytes of a request beside its `params`. Bounds what a request costs before anybody asked for its method."""


class _Request(msgspec.Struct, gc=False):
    jsonrpc: Literal["2.0"]
    method: str
    id: Id | UnsetType = UNSET
    params: Raw | UnsetType = UNSET


class _Members(msgspec.Struct, gc=False):
    """The members of a request whose types are in doubt."""

    jsonrpc: Raw = Raw()
    method: Raw = Raw()
    id: Raw = Raw()
    params: Raw = Raw()


class _CancelParams(msgspec.Struct):
    id: Id


_request: Final = msgspec.json.Decoder(_Request)
_members: Final = msgspec.json.Decoder(_Members)
_cancel_params: Final = msgspec.json.Decoder(_CancelParams)
_id: Final[msgspec.json.Decoder[Id]] = msgspec.json.Decoder(Id)
_string: Final = msgspec.json.Decoder(str)


def decode_request(frame: bytes) -> Call | Cancel | Refusal | list[Call | Cancel | Refusal]:
    """Return what a client's frame says; a list is a batch, in its order. Raises nothing."""
    plain = _decode_plain(frame)
    if plain is not None:
        return plain
    try:
        check_text(frame)
        if first_byte(any_value.decode(frame)) != ARRAY:
            return _decode_carefully(frame)
        if is_too_long(frame):
            return Refusal(None, invalid(f"a batch has at most {BATCH_LIMIT} members"))
        texts = [bytes(member) for member in items.decode(frame)]
        if not texts:
            return Refusal(None, invalid("a batch has at least one member"))
        return [_decode_plain(text) or _decode_carefully(text) for text in texts]
    except UNREADABLE as error:
        return Refusal(None, not_json(error))


def _decode_plain(text: bytes) -> Call | Cancel | None:
    """Return an ordinary request; None when the careful way has to look at it.

    A message in its shortest spelling has no room for a member named twice, nor for an unknown one.
    """
    try:
        message = _request.decode(text)
    except UNREADABLE:
        return None
    envelope = _SHORTEST + len(message.method)
    identity, params = message.id, message.params
    if isinstance(identity, int):
        envelope += _WITH_ID + len(str(identity))
    elif isinstance(identity, str):
        envelope += _WITH_ID + 2 + len(identity)
    length = envelope
    if isinstance(params, Raw) and first_byte(params) == OBJECT:
        length += _WITH_PARAMS + len(params)
    if length != len(text) or envelope > ENVELOPE_LIMIT or not text.isascii():
        return None
    return _call(identity, message.method, None if isinstance(params, UnsetType) else params)


_SHORTEST: Final = len('{"jsonrpc":"2.0","method":""}')
_WITH_ID: Final = len(',"id":')
_WITH_PARAMS: Final = len(',"params":')


def _call(identity: Id | UnsetType, method: str, params: Raw | None) -> Call | Cancel:
    if not isinstance(identity, UnsetType):
        return Call(identity, method, params)
    if method == CANCEL_REQUEST and params is not None:
        with contextlib.suppress(*UNREADABLE):  # nobody hears what is wrong with a notification
            return Cancel(_cancel_params.decode(params).id)
    return Call(None, method, params, notification=True)


def _decode_carefully(text: bytes) -> Call | Cancel | Refusal:
    """Classify one message, which is JSON and UTF-8.

    The id of the answer to an invalid request is null unless it could be read (JSON-RPC 2.0, section 5).
    """
    if first_byte(any_value.decode(text)) != OBJECT:
        return Refusal(None, invalid("a message is an object, or an array of them"))
    members = _members.decode(text)
    identity = read_or_unset(_id, members.id)
    answer_id = None if isinstance(identity, UnsetType) else identity
    reason = _violation(members)
    if reason is not None:
        return Refusal(answer_id, invalid(reason))
    reason = _ambiguity(text, members.params)
    if reason is not None:
        return Refusal(None, invalid(reason))
    params = members.params or None
    if params is not None and first_byte(params) == ARRAY:
        problem = Problem("$", "an array instead of an object")
        error = InvalidParams("parameters are given by name, not by position", problems=[problem])
        return Refusal(answer_id, error, notification=isinstance(identity, UnsetType))
    return _call(identity, _string.decode(members.method), params)


def _violation(members: _Members) -> str | None:
    """Return the first rule of JSON-RPC 2.0, section 4, that a request breaks."""
    version = read_or_unset(_string, members.jsonrpc)
    method = read_or_unset(_string, members.method)
    identity = read_or_unset(_id, members.id)
    if version != "2.0":
        return 'the member "jsonrpc" is "2.0"'
    if isinstance(method, UnsetType):
        return 'the member "method" is a string'
    if members.id and isinstance(identity, UnsetType):
        return 'the member "id" is a string, a number or null'
    if members.params and first_byte(members.params) not in {OBJECT, ARRAY}:
        return 'the member "params" is an object'
    return None


def _ambiguity(text: bytes, params: Raw) -> str | None:
    """Return the complaint when a member is named twice: two readers could see two different requests."""
    if len(text) - len(params) > ENVELOPE_LIMIT:
        return f"all members but params are at most {ENVELOPE_LIMIT} bytes together"
    envelope = text.replace(bytes(params), b"0", 1) if params else text
    with contextlib.suppress(ValueError):  # a string beside `params` may quote a part of them
        if _repeats.decode(envelope.decode()):
            return "no member is given twice"
    return None


def _is_repetitive(pairs: list[tuple[str, Any]]) -> bool:
    return len({name for name, _ in pairs}) != len(pairs)


# Numbers stay text: Python refuses to convert integers of more than 4300 digits.
_repeats: Final = json.JSONDecoder(object_pairs_hook=_is_repetitive, parse_int=str, parse_float=str)
