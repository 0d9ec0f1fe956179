"""Commands that need no daemon."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.client.cli.conftest import Cli


@pytest.mark.parametrize(
    ("words", "text"),
    [("a,b,,c", "a\nb,c\n"), ("a,b c,d", "a\nb\n c\nd\n"), ("", ""), ("''", "")],
)
def test_items_of_lists_are_printed_each_on_its_line(cli: Cli, words: str, text: str) -> None:
    assert cli(f"echo --split {words}") == (0, f"{text}\n", "")


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ("--shell --xml --split", "--shell and --xml"),
        ("--shell --split", "--shell and --split"),
        ("--xml --split", "--xml and --split"),
    ],
)
def test_words_are_quoted_in_one_way_only(cli: Cli, options: str, told: str) -> None:
    assert cli(f"echo {options} a")[2] == f"error: Options {told} are mutually exclusive\n"
