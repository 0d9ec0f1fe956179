"""The prompt, on a real terminal."""

from __future__ import annotations

import os
import pty
import select
import subprocess
import sys
from typing import TYPE_CHECKING, Final

import msgspec
import pytest

from tests.support.fake_daemon import silent
from tests.support.samples import DOMAIN, POSITION
from virtsnap_protocol.methods import domain

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.fake_daemon import FakeDaemon

PATIENCE: Final = 20.0


class Terminal:
    """The command at a prompt, and somebody who types."""

    def __init__(self, folder: Path) -> None:
        self._ours, theirs = pty.openpty()
        environment = {
            **os.environ,
            "PYTHONPATH": ":".join(sys.path),
            "XDG_CACHE_HOME": str(folder),
            "TERM": "dumb",
        }
        self.process = subprocess.Popen(
            [sys.executable, "-m", "virtsnap.cli"],
            env=environment,
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            start_new_session=True,
        )
        os.close(theirs)

    def close(self) -> None:
        """End it."""
        self.process.kill()
        self.process.wait()
        os.close(self._ours)

    def type(self, text: str) -> None:
        """Type keys."""
        os.write(self._ours, text.encode())

    def read_until(self, end: str) -> str:
        """Return what appears on the screen up to and including `end`."""
        seen = b""
        while not seen.endswith(end.encode()):
            ready, _, _ = select.select([self._ours], [], [], PATIENCE)
            assert ready, f"no {end!r} after {seen!r}"
            seen += os.read(self._ours, 1)
        return seen.decode().replace("\r\n", "\n")


@pytest.fixture
def terminal(daemon: FakeDaemon, tmp_path: Path) -> Iterator[Terminal]:
    opened = Terminal(tmp_path)
    opened.read_until("virtsnap # ")
    yield opened
    opened.close()


def test_a_command_is_run_and_the_prompt_comes_back(terminal: Terminal) -> None:
    terminal.type("domstate vm\n")
    assert "running\n\nvirtsnap # " in terminal.read_until("\nvirtsnap # ")


def test_a_mistake_does_not_end_it(terminal: Terminal) -> None:
    terminal.type("foo\n")
    assert "error: unknown command: 'foo'\n" in terminal.read_until("virtsnap # ")


def test_the_tab_key_completes_a_command_and_a_name(terminal: Terminal) -> None:
    terminal.type("domst\tv\t--r\t\n")
    terminal.read_until("running (booted)")


@pytest.mark.parametrize("typed", ["", "my", "my\\ o", "'my o", '"my', "'my'"])
def test_a_name_with_blanks_and_quotes_is_completed_as_one_word(
    terminal: Terminal, daemon: FakeDaemon, typed: str
) -> None:
    name = "my old 'vm'; \"x\""
    renamed = msgspec.structs.replace(DOMAIN, name=name)
    daemon.answers["domain.list"] = lambda _: domain.ListResult(domains=[renamed], position=POSITION)
    terminal.type(f"domstate {typed}\t--reason\n")
    terminal.read_until("running (booted)")
    assert daemon.asked[-1][1].domain == name


def test_the_value_after_an_equals_sign_is_completed(terminal: Terminal, daemon: FakeDaemon) -> None:
    renamed = msgspec.structs.replace(DOMAIN, name="my vm")
    daemon.answers["domain.list"] = lambda _: domain.ListResult(domains=[renamed], position=POSITION)
    terminal.type("domstate --domain=my\t--reason\n")
    terminal.read_until("running (booted)")
    assert daemon.asked[-1][1].domain == "my vm"


def test_the_tab_key_does_not_wait_for_a_daemon_that_says_nothing(
    terminal: Terminal, daemon: FakeDaemon
) -> None:
    daemon.answers["domain.list"] = silent
    terminal.type("domstate v\tm --reason\n")
    terminal.read_until("running (booted)")
    assert [params.domain for name, params in daemon.asked if name == "domain.info"] == ["vm"]


def test_a_file_is_completed(terminal: Terminal, daemon: FakeDaemon, tmp_path: Path) -> None:
    (tmp_path / "an image").mkdir()
    (tmp_path / "an image" / "vm.xml").write_text("<domain/>")
    daemon.answers["domain.define"] = lambda _: domain.InfoResult(domain=DOMAIN)
    terminal.type(f"define {tmp_path}/an\tv\t\n")
    terminal.read_until(f"defined from {tmp_path}/an image/vm.xml")


@pytest.mark.parametrize("leave", ["quit\n", "exit\n", "\x04"])
def test_it_is_left_in_the_usual_ways(terminal: Terminal, leave: str) -> None:
    terminal.type(leave)
    assert terminal.process.wait(PATIENCE) == 0


def test_what_was_typed_is_remembered(terminal: Terminal, tmp_path: Path) -> None:
    terminal.type("echo remember\nquit\n")
    terminal.process.wait(PATIENCE)
    assert "echo remember" in (tmp_path / "virtsnap/history").read_text()
