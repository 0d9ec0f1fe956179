"""QMP's messages, without a socket."""

from __future__ import annotations

import contextlib
import json
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from virtsnapd.drivers.qemu.qmp import (
    Event,
    Failure,
    Greeting,
    Message,
    ProtocolViolation,
    QmpReceiver,
    Return,
    decode,
    encode_command,
)

GREETING = (
    b'{"QMP": {"version": {"qemu": {"micro": 22, "minor": 2, "major": 7}, "package": "Debian"},'
    b' "capabilities": ["oob"]}}\r\n'
)
EVENT = (
    b'{"timestamp": {"seconds": 1700000000, "microseconds": 250000}, "event": "STOP"}\r\n'
    b'{"timestamp": {"seconds": -1, "microseconds": -1}, "event": "RESET", "data": {"guest": true}}\r\n'
)
ANSWERS = (
    b'{"return": {}, "id": 1}\r\n{"return": null, "id": 2}\r\n'
    b'{"id": 3, "error": {"class": "CommandNotFound", "desc": "no \\"x\\""}}\r\n'
)


def received(*pieces: bytes) -> list[Message]:
    receiver = QmpReceiver()
    return [message for piece in pieces for message in receiver.receive_data(piece)]


def test_the_greeting_names_version_and_capabilities() -> None:
    (greeting,) = received(GREETING)
    assert isinstance(greeting, Greeting)
    assert (greeting.version.qemu.major, greeting.version.package) == (7, "Debian")
    assert greeting.capabilities == ["oob"]


def test_an_event_has_its_time_in_seconds_and_may_have_no_data() -> None:
    first, second = received(EVENT)
    assert first == Event("STOP", {}, 1_700_000_000.25)
    assert isinstance(second, Event)
    assert second.data == {"guest": True}


def test_answers_carry_the_id_of_their_command() -> None:
    assert received(ANSWERS) == [
        Return(1, {}),
        Return(2, None),
        Failure(3, "CommandNotFound", 'no "x"'),
    ]


def test_a_failure_without_id_is_kept_apart() -> None:
    line = b'{"error": {"class": "GenericError", "desc": "JSON parse error"}}'
    assert decode(line) == Failure(None, "GenericError", "JSON parse error")


def test_a_message_with_fields_of_a_newer_qemu_is_understood() -> None:
    assert decode(b'{"return": {"x": 1}, "id": 7, "new": [1]}') == Return(7, {"x": 1})


@given(st.lists(st.integers(0, 400), max_size=8))
def test_the_cuts_between_pieces_do_not_matter(cuts: list[int]) -> None:
    whole = GREETING + EVENT + ANSWERS
    places = [0, *sorted(min(cut, len(whole)) for cut in cuts), len(whole)]
    pieces = [whole[a:b] for a, b in pairwise(places)]
    assert received(*pieces) == received(whole)


@pytest.mark.parametrize(
    "line",
    [
        b"hello",
        b"[]",
        b"{}",
        b'{"return": {}}',
        b'{"QMP": 7}',
        b'{"error": "no", "id": 1}',
        b'{"event": "STOP", "data": 7}',
        b'{"event": "\xff"}',
        b"[" * 100_000,
    ],
)
def test_what_is_no_message_is_a_violation(line: bytes) -> None:
    with pytest.raises(ProtocolViolation):
        decode(line)


@given(st.binary())
def test_no_bytes_raise_anything_but_a_violation(data: bytes) -> None:
    with contextlib.suppress(ProtocolViolation):
        received(data + b"\n")


@pytest.mark.parametrize("end", [b"", b"\n"])
def test_a_message_longer_than_the_limit_is_a_violation(end: bytes) -> None:
    receiver = QmpReceiver(limit=100)
    with pytest.raises(ProtocolViolation, match="longer than 100 bytes"):
        receiver.receive_data(b'{"return": 1, "id": 1}\n' + b"x" * 101 + end)


def test_a_command_is_one_line_with_its_id() -> None:
    line = encode_command("job-dismiss", {"id": "a\nb"}, 5)
    assert line.index(b"\n") == len(line) - 1
    assert json.loads(line) == {"execute": "job-dismiss", "arguments": {"id": "a\nb"}, "id": 5}


def test_a_command_without_arguments_has_no_such_key() -> None:
    assert json.loads(encode_command("stop", None, 1)) == {"execute": "stop", "id": 1}
