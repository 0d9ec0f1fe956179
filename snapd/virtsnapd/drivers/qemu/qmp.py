"""The QEMU Machine Protocol without I/O: bytes from the socket become typed messages, commands become bytes.

QMP (docs/interop/qmp-spec in QEMU's tree) is one JSON object per line. The server speaks first, with a
greeting; then every command is answered by a return or an error that carries the command's id, and events
come at any time. The trio side is `monitor.py`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, TypeAlias

import msgspec

from virtsnap_protocol.errors import FrameTooLong
from virtsnap_protocol.framing import LineFramer

if TYPE_CHECKING:
    from collections.abc import Mapping

FRAME_LIMIT: Final = 16 * 1024 * 1024
"""Bytes of one message. The largest is query-named-block-nodes: about 200 bytes for each snapshot."""


class ProtocolViolation(Exception):
    """The peer does not speak QMP: the conversation cannot go on."""


class QemuVersion(msgspec.Struct, frozen=True):
    """QEMU's version number."""

    major: int
    minor: int
    micro: int


class Version(msgspec.Struct, frozen=True):
    """QEMU's version and its packager's words."""

    qemu: QemuVersion
    package: str = ""


class Greeting(msgspec.Struct, frozen=True):
    """What QEMU says first, to the one client that it serves on this socket."""

    version: Version
    capabilities: list[str] = []


class Return(msgspec.Struct, frozen=True):
    """The command with this id succeeded."""

    id: int
    value: Any


class Failure(msgspec.Struct, frozen=True):
    """The command with this id failed; the id is None when QEMU could not even read the command."""

    id: int | None
    error_class: str
    desc: str


class Event(msgspec.Struct, frozen=True):
    """Something happened; `seconds` since the epoch by QEMU's clock (-1 when it could not read it)."""

    name: str
    data: dict[str, Any]
    seconds: float


Message: TypeAlias = Greeting | Return | Failure | Event


class _Error(msgspec.Struct, frozen=True):
    error_class: str = msgspec.field(name="class")
    desc: str


class _Timestamp(msgspec.Struct, frozen=True):
    seconds: int
    microseconds: int


class _Incoming(msgspec.Struct):
    """Every key that a message of the server may have: which ones it has says what it is."""

    greeting: Greeting | msgspec.UnsetType = msgspec.field(name="QMP", default=msgspec.UNSET)
    result: Any = msgspec.field(name="return", default=msgspec.UNSET)
    error: _Error | msgspec.UnsetType = msgspec.UNSET
    event: str | msgspec.UnsetType = msgspec.UNSET
    data: dict[str, Any] = {}
    timestamp: _Timestamp = _Timestamp(-1, 0)
    id: int | None = None


_DECODER: Final = msgspec.json.Decoder(_Incoming)
_ENCODER: Final = msgspec.json.Encoder()


class QmpReceiver:
    """Cut received bytes into messages."""

    def __init__(self, limit: int = FRAME_LIMIT) -> None:
        self._framer = LineFramer(limit)

    def receive_data(self, data: bytes | bytearray) -> list[Message]:
        """Return the messages that these bytes complete.

        Raises:
            ProtocolViolation: a line is not a QMP message, or is longer than the limit.
        """
        try:
            frames = self._framer.feed(data)
        except FrameTooLong as error:
            raise ProtocolViolation(str(error)) from error
        if self._framer.overflow is not None:  # what came before it does not save the conversation
            raise ProtocolViolation(str(self._framer.overflow))
        return [decode(frame) for frame in frames]


def decode(frame: bytes) -> Message:
    """Return the message that one line holds.

    Raises:
        ProtocolViolation: it holds none.
    """
    try:
        incoming = _DECODER.decode(frame)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        msg = f"not a QMP message ({error}): {frame[:200]!r}"
        raise ProtocolViolation(msg) from error
    if incoming.event is not msgspec.UNSET:
        stamp = incoming.timestamp
        return Event(incoming.event, incoming.data, stamp.seconds + stamp.microseconds / 1_000_000)
    if incoming.error is not msgspec.UNSET:
        return Failure(incoming.id, incoming.error.error_class, incoming.error.desc)
    if incoming.result is not msgspec.UNSET and incoming.id is not None:
        return Return(incoming.id, incoming.result)
    if incoming.greeting is not msgspec.UNSET:
        return incoming.greeting
    msg = f"a QMP message of no known kind: {frame[:200]!r}"
    raise ProtocolViolation(msg)


def encode_command(command: str, arguments: Mapping[str, object] | None, command_id: int) -> bytes:
    """Return the line that executes `command`; QEMU answers it with the same id."""
    message: dict[str, object] = {"execute": command, "id": command_id}
    if arguments:
        message["arguments"] = arguments
    return _ENCODER.encode(message) + b"\n"
