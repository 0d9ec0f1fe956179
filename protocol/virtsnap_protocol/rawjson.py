"""JSON in bytes that is looked at before it is decoded: its text, its first byte, the length of an array."""

from __future__ import annotations

import codecs
import functools
from typing import Final, TypeVar

import msgspec
from msgspec import UNSET, Raw, UnsetType

from virtsnap_protocol.errors import InvalidRequest, ParseError

BATCH_LIMIT: Final = 1024
"""Members of one batch."""

UNREADABLE: Final = (ValueError, RecursionError)
"""What decoders raise: DecodeError and UnicodeDecodeError are ValueErrors; the stack bounds the nesting."""

OBJECT: Final = ord("{")
ARRAY: Final = ord("[")

any_value: Final = msgspec.json.Decoder(Raw)
items: Final = msgspec.json.Decoder(list[Raw])

T = TypeVar("T")


def check_text(frame: bytes) -> None:
    """Refuse what is not UTF-8; msgspec does not look into the strings that it leaves raw.

    In pieces: the text of a whole frame could take four times its bytes, and nobody wants it.

    Raises:
        UnicodeDecodeError: not UTF-8.
    """
    if not frame.isascii():
        decoder = codecs.getincrementaldecoder("utf-8")()
        for start in range(0, len(frame), _PIECE):
            decoder.decode(frame[start : start + _PIECE])
        decoder.decode(b"", final=True)


_PIECE: Final = 1024 * 1024


def is_too_long(batch: bytes) -> bool:
    """Say whether a JSON array has more than `BATCH_LIMIT` members, without making a value of each."""
    if batch.count(b",") < BATCH_LIMIT:
        return False
    try:
        _bounded_array().decode(batch)
    except msgspec.ValidationError:
        return True
    return False


@functools.cache
def _bounded_array() -> msgspec.json.Decoder[msgspec.Struct]:
    """Return the one decoder of msgspec that stops at a length: that of an array of so many members.

    A list's `max_length` is looked at when all of it has been built.
    """
    fields = [(f"member_{index}", Raw, Raw()) for index in range(BATCH_LIMIT)]
    array = msgspec.defstruct("Array", fields, array_like=True, forbid_unknown_fields=True)
    return msgspec.json.Decoder(array)


def first_byte(raw: Raw) -> int:
    """Return the first byte of a value, which says what it is; msgspec cuts off the spaces around it."""
    return memoryview(raw)[0]


def read_or_unset(decoder: msgspec.json.Decoder[T], raw: Raw) -> T | UnsetType:
    """Return the value, or UNSET when there is none of this type."""
    try:
        return decoder.decode(raw)
    except UNREADABLE:
        return UNSET


def not_json(error: Exception) -> ParseError:
    """Return the refusal of a text that a decoder choked on; its message is the specification's."""
    cause = "nested too deeply" if isinstance(error, RecursionError) else str(error)
    return ParseError("Parse error", cause=cause)


def invalid(reason: str) -> InvalidRequest:
    """Return the refusal of JSON that is no message; `reason` is the rule that it breaks."""
    return InvalidRequest("Invalid Request", cause=reason)
