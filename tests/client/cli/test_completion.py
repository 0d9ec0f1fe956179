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
