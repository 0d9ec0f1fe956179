"""What the Tab key offers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.fake_daemon import FakeDaemon, refusing
from virtsnap.cli.completion import completions
from virtsnap.cli.console import Console, Settings
from virtsnap.cli.table import COMMANDS
from virtsnap_protocol.errors import DomainNotFound

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def console(daemon: FakeDaemon) -> Iterator[Console]:
    opened = Console(Settings(), COMMANDS)
    yield opened
    opened.disconnect()


@pytest.mark.parametrize(
    ("words", "prefix", "expected"),
    [
        ([], "snapshot-d", ["snapshot-delete", "snapshot-dumpxml"]),
        (["snapshot-delete"], "--c", ["--children", "--children-only", "--current"]),
        (["snapshot-delete", "--current"], "--cu", []),
        (["dominfo"], "", ["vm"]),
        (["dominfo", "--domain"], "", ["vm"]),
        (["dominfo", "vm"], "", []),
        (["snapshot-delete", "vm"], "s", ["s1"]),
        (["snapshot-delete", "vm", "--snapshotname"], "", ["s1"]),
        (["snapshot-delete", "--children", "--domain", "vm"], "", ["s1"]),
        (["snapshot-list", "vm", "--from"], "", ["s1"]),
        (["help"], "snapshot-p", ["snapshot-parent"]),
        (["call"], "snapshot.re", ["snapshot.revert"]),
        (["event", "--event"], "", ["lifecycle", "snapshot"]),
        (["foo"], "", []),
    ],
)
def test_what_fits_is_offered(console: Console, words: list[str], prefix: str, expected: list[str]) -> None:
    assert completions(console, words, prefix) == expected


def test_a_refusal_offers_nothing(console: Console, daemon: FakeDaemon) -> None:
    daemon.answers["snapshot.list"] = refusing(DomainNotFound("x"))
    assert completions(console, ["snapshot-delete", "x"], "") == []


def test_a_missing_daemon_offers_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VIRTSNAP_SOCKET", "/nonexistent/none")
    assert completions(Console(Settings(), COMMANDS), ["dominfo"], "") == []


def test_files_are_offered_where_one_is_wanted(
    console: Console, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a.xml", "a b.xml", ".hidden"):
        (tmp_path / name).touch()
    (tmp_path / "images").mkdir()
    assert completions(console, ["define"], f"{tmp_path}/a") == [f"{tmp_path}/a b.xml", f"{tmp_path}/a.xml"]
    monkeypatch.chdir(tmp_path)
    assert completions(console, ["create"], "") == ["a b.xml", "a.xml", "images/"]
    assert completions(console, ["snapshot-create", "vm", "--xmlfile"], ".h") == [".hidden"]
    assert completions(console, ["snapshot-create", "vm"], "i") == ["images/"]
    assert completions(console, ["define"], "nowhere/") == []
