from __future__ import annotations

import io
import logging
import re
from collections.abc import Callable, Iterator
from typing import TextIO

import pytest
from typing_extensions import override

from virtsnapd import logs

log = logging.getLogger("virtsnapd.daemon")


class Terminal(io.StringIO):
    @override
    def isatty(self) -> bool:
        return True


@pytest.fixture
def configured() -> Iterator[Callable[[str, TextIO], None]]:
    """`logs.configure`, with what pytest had configured put back afterwards."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level

    def configure(level: str, stream: TextIO) -> None:
        root.handlers[:] = []  # `configure` would close pytest's
        logs.configure(level, stream)

    yield configure
    root.handlers[:] = handlers
    root.setLevel(level)


Configure = Callable[[str, TextIO], None]


@pytest.mark.parametrize(
    ("level", "priority"),
    [("debug", 7), ("info", 6), ("warning", 4), ("error", 3), ("critical", 2)],
)
def test_journald_gets_the_priority_and_no_time(configured: Configure, level: str, priority: int) -> None:
    stream = io.StringIO()
    configured("debug", stream)
    getattr(log, level)("%d clients", 3)
    assert stream.getvalue() == f"<{priority}>virtsnapd.daemon: 3 clients\n"


def test_a_terminal_gets_local_time_and_the_level_as_a_word(configured: Configure) -> None:
    stream = Terminal()
    configured("info", stream)
    log.warning("careful")
    pattern = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d warning virtsnapd\.daemon: careful\n"
    assert re.fullmatch(pattern, stream.getvalue())


def test_what_is_below_the_level_is_not_logged(configured: Configure) -> None:
    stream = io.StringIO()
    configured("warning", stream)
    log.info("chatter")
    assert stream.getvalue() == ""


def defect() -> None:
    raise ValueError("line one\nline two")


def fail() -> None:
    try:
        defect()
    except ValueError:
        log.exception("it broke")


def test_a_traceback_is_one_record_for_journald(configured: Configure) -> None:
    stream = io.StringIO()
    configured("info", stream)
    fail()
    (line,) = stream.getvalue().splitlines()
    assert line.startswith(r"<3>virtsnapd.daemon: it broke\nTraceback (most recent call last):\n")
    assert line.endswith(r"ValueError: line one\nline two")


def test_a_traceback_has_its_lines_on_a_terminal(configured: Configure) -> None:
    stream = Terminal()
    configured("info", stream)
    fail()
    assert "it broke\nTraceback (most recent call last):\n" in stream.getvalue()


@pytest.mark.parametrize("stream", [io.StringIO(), Terminal()], ids=["journald", "terminal"])
def test_text_of_a_client_cannot_pass_for_another_record(configured: Configure, stream: TextIO) -> None:
    configured("info", stream)
    log.info("no domain '%s'", "x\n<0>kernel: fire\x1b[2J\x9b\u2028")
    assert isinstance(stream, io.StringIO)
    assert len(stream.getvalue().splitlines()) == 1
    assert stream.getvalue().endswith("no domain 'x\\n<0>kernel: fire\\x1b[2J\\x9b\\u2028'\n")


def test_configuring_again_replaces_what_was(configured: Configure) -> None:
    first, second = io.StringIO(), io.StringIO()
    configured("info", first)
    logs.configure("info", second)
    log.info("once")
    assert (first.getvalue(), second.getvalue()) == ("", "<6>virtsnapd.daemon: once\n")
