"""Tables, trees and error lines."""

from __future__ import annotations

from typing import TYPE_CHECKING

from virtsnap.cli.render import error_lines, fields, local_time, table, tree
from virtsnap_protocol.errors import ConnectionLost, HypervisorError, InvalidParams, Problem

if TYPE_CHECKING:
    import pytest

TREE = """\
s1
  |
  +- s3
  |   |
  |   +- s2
  |   +- s6
  |       |
  |       +- s4
  |       +- s5
  |         \n\
  +- s7
      |
      +- s8
        \n\
"""


def test_a_table_has_virshs_layout() -> None:
    assert table(("Id", "Name", "State"), [("1", "test", "running")]) == (
        " Id   Name   State\n----------------------\n 1    test   running\n"
    )


def test_a_bare_table_has_neither_header_nor_rule() -> None:
    assert table(("Id", "Name"), [("1", "test")], bare=True) == " 1   test\n"


def test_an_empty_bare_table_is_nothing() -> None:
    assert table(("Id", "Name"), [], bare=True) == ""


def test_wide_characters_take_two_columns() -> None:
    assert table(("N", "S"), [("日本", "x"), ("abcd", "y")], bare=True) == " 日本   x\n abcd   y\n"


def test_control_characters_do_not_reach_the_terminal() -> None:
    assert table(("N",), [("a\x1b[31m",)], bare=True) == " a\\x1b[31m\n"


def test_a_tree_has_virshs_drawing() -> None:
    parents = {"s1": None, "s2": "s3", "s3": "s1", "s4": "s6", "s5": "s6", "s6": "s3", "s7": "s1", "s8": "s7"}
    assert tree(parents) == TREE


def test_roots_are_drawn_one_after_the_other() -> None:
    assert tree({"a": None, "b": None}) == "a\n\nb\n\n"


def test_a_snapshot_whose_parent_is_not_listed_is_a_root() -> None:
    assert tree({"b": "a"}) == "b\n\n"


def test_a_very_deep_tree_is_drawn() -> None:
    depth = 5_000
    parents = {str(number): str(number - 1) if number else None for number in range(depth)}
    assert tree(parents).count("\n") == 2 * depth


def test_fields_are_aligned() -> None:
    assert fields({"Name": "s1", "Descendants": "0"}) == "Name:           s1\nDescendants:    0\n"


def test_times_are_local(monkeypatch: pytest.MonkeyPatch) -> None:
    import time  # noqa: PLC0415 for the zone of this test alone

    monkeypatch.setenv("TZ", "CET-1")
    time.tzset()
    try:
        assert local_time(0) == "1970-01-01 01:00:00 +0100"
    finally:
        monkeypatch.undo()
        time.tzset()


def test_every_problem_of_an_error_gets_a_line_and_the_remedy_is_last() -> None:
    error = InvalidParams("wrong", problems=[Problem("$.a", "x"), Problem("$.b", "y")], remedy="do it")
    assert error_lines(error) == ["error: wrong", "  $.a: x", "  $.b: y", "hint: do it"]


def test_a_cause_is_shown_unless_the_message_has_it() -> None:
    assert error_lines(HypervisorError("no", cause="why")) == ["error: internal error: no", "  why"]
    assert error_lines(HypervisorError("no: why", cause="why")) == ["error: internal error: no: why"]


def test_a_lost_change_is_said_to_be_unknown() -> None:
    error = ConnectionLost("gone")
    error.maybe_applied = True
    assert error_lines(error)[1] == "  the request had been sent: whether it was applied is unknown"


def test_the_only_problem_is_not_told_twice() -> None:
    placed = InvalidParams("wrong", problems=[Problem("/domain/os", "wrong")])
    assert error_lines(placed) == ["error: wrong", "  at /domain/os"]
    named = InvalidParams("domain.list: $.a: wrong", problems=[Problem("$.a", "wrong")])
    assert error_lines(named) == ["error: domain.list: $.a: wrong"]


def test_problems_that_the_message_lists_are_not_told_twice() -> None:
    problems = [Problem("/domain/a", "x is wrong"), Problem("/domain/b", "y is wrong")]
    listed = InvalidParams("no\nline 1: x is wrong\nline 2: y is wrong", problems=problems)
    assert error_lines(listed) == [f"error: {listed}"]
    partly = InvalidParams("no: x is wrong", problems=problems)
    assert error_lines(partly)[1:] == ["  /domain/a: x is wrong", "  /domain/b: y is wrong"]


def test_the_only_problem_is_told_when_the_message_says_something_else() -> None:
    error = InvalidParams("no", problems=[Problem("/domain/os", "wrong")])
    assert error_lines(error) == ["error: no", "  /domain/os: wrong"]
