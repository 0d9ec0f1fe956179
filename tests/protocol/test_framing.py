"""Cutting a stream into lines."""

from __future__ import annotations

import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.protocol.chunks import cut, cuts, streams
from virtsnap_protocol.errors import FrameTooLong
from virtsnap_protocol.framing import LineFramer

lines = st.binary(min_size=1, max_size=30).map(
    lambda line: b"x" + line.replace(b"\n", b"").replace(b"\r", b"")
)


@given(st.lists(lines), cuts)
def test_frames_are_the_lines_however_they_are_cut(frames: list[bytes], positions: list[int]) -> None:
    framer = LineFramer()
    stream = b"".join(frame + b"\n" for frame in frames)
    assert [frame for chunk in cut(stream, positions) for frame in framer.feed(chunk)] == frames


@given(streams, cuts, st.integers(1, 60))
def test_cutting_changes_neither_the_frames_nor_the_overflow(
    stream: bytes, positions: list[int], limit: int
) -> None:
    assert read(cut(stream, positions), limit) == read([stream], limit)


def read(chunks: list[bytes], limit: int) -> tuple[list[bytes], bool]:
    framer = LineFramer(limit)
    frames: list[bytes] = []
    for chunk in chunks:
        try:
            frames += framer.feed(chunk)
        except FrameTooLong:
            break
    return frames, framer.overflow is not None


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_every_kind_of_buffer_gives_bytes(kind: type[bytes | bytearray | memoryview]) -> None:
    frames = LineFramer().feed(kind(b"one\ntwo\n"))
    assert frames == [b"one", b"two"]
    assert {type(frame) for frame in frames} == {bytes}


def test_a_buffer_may_be_reused_by_its_owner() -> None:
    framer = LineFramer()
    buffer = bytearray(b"on")
    framer.feed(buffer)
    buffer[:] = b"e\n"
    assert framer.feed(buffer) == [b"one"]


def test_a_carriage_return_before_the_newline_is_not_part_of_the_frame() -> None:
    assert LineFramer().feed(b"one\r\ntwo\n") == [b"one", b"two"]


def test_a_carriage_return_elsewhere_is_kept() -> None:
    assert LineFramer().feed(b"o\rne\n") == [b"o\rne"]


@pytest.mark.parametrize("blank", [b"\n", b"\r\n", b" \t\r\n", b"\n\n\n"])
def test_blank_lines_are_skipped(blank: bytes) -> None:
    assert LineFramer().feed(b"one\n" + blank + b"two\n") == [b"one", b"two"]


def test_a_frame_of_exactly_the_limit_passes() -> None:
    framer = LineFramer(4)
    assert framer.feed(b"12") == []
    assert framer.feed(b"34") == []
    assert framer.feed(b"\n5678\n") == [b"1234", b"5678"]


def test_a_line_beyond_the_limit_is_refused_before_it_ends() -> None:
    framer = LineFramer(4)
    framer.feed(b"1234")
    with pytest.raises(FrameTooLong, match="a message is longer than 4 bytes"):
        framer.feed(b"5")


def test_frames_before_an_over_long_line_are_not_lost() -> None:
    framer = LineFramer(4)
    assert framer.feed(b"one\n12345\ntwo\n") == [b"one"]
    with pytest.raises(FrameTooLong):
        framer.feed(b"")


def test_nothing_is_understood_after_an_over_long_line() -> None:
    framer = LineFramer(4)
    with pytest.raises(FrameTooLong):
        framer.feed(b"12345\n")
    with pytest.raises(FrameTooLong):
        framer.feed(b"one\n")


def test_no_more_than_the_limit_is_kept() -> None:
    framer = LineFramer(1000)
    for _ in range(10):
        framer.feed(b"x" * 100)
    with pytest.raises(FrameTooLong):
        framer.feed(b"x" * 100_000)
    assert sys.getsizeof(framer._partial) < 1000


def test_a_frame_in_many_pieces_costs_no_object_for_each() -> None:
    framer = LineFramer()
    for _ in range(10_000):
        framer.feed(b"x")
    assert sys.getsizeof(framer._partial) < 20_000
    assert framer.feed(b"\n") == [b"x" * 10_000]
