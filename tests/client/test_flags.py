"""Flags given as words, as keywords and as libvirt's integers."""

from __future__ import annotations

from typing import Any

import pytest

from virtsnap import flags
from virtsnap.flags import chosen
from virtsnap_protocol.errors import InvalidFlags
from virtsnap_protocol.methods import snapshot


def test_libvirts_integer_becomes_words() -> None:
    assert chosen(snapshot.CREATE, flags.SNAPSHOT_CREATE, 0x3) == ["redefine", "current"]


def test_keywords_and_words_come_in_order_of_the_bits_and_once() -> None:
    words: list[snapshot.CreateFlag] = ["halt", "redefine"]
    given = chosen(snapshot.CREATE, flags.SNAPSHOT_CREATE, words, redefine=True, atomic=False)
    assert given == ["redefine", "halt"]


def test_a_keyword_with_an_underscore_is_a_word_with_a_hyphen() -> None:
    assert chosen(snapshot.DELETE, flags.SNAPSHOT_DELETE, (), children_only=True) == ["children-only"]


def test_an_unknown_bit_is_refused_with_its_value() -> None:
    with pytest.raises(InvalidFlags, match=r"unsupported flags \(0x1000\) in method snapshot\.create"):
        chosen(snapshot.CREATE, flags.SNAPSHOT_CREATE, 0x1001)


def test_a_word_of_a_newer_daemon_is_passed_on() -> None:
    words: list[Any] = ["newer", "halt"]
    assert chosen(snapshot.CREATE, flags.SNAPSHOT_CREATE, words) == ["halt", "newer"]


@pytest.mark.parametrize(
    ("bits", "first", "last"),
    [
        (flags.SNAPSHOT_CREATE, ("redefine", 1), ("validate", 512)),
        (flags.SNAPSHOT_LIST, ("roots", 1), ("topological", 1024)),
        (flags.SNAPSHOT_REVERT, ("running", 1), ("reset-nvram", 8)),
        (flags.SNAPSHOT_DELETE, ("children", 1), ("children-only", 4)),
    ],
)
def test_the_bits_are_libvirts(bits: dict[str, int], first: tuple[str, int], last: tuple[str, int]) -> None:
    items = list(bits.items())
    assert items[0] == first
    assert items[-1] == last
