"""What the Tab key offers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import pytest

from tests.support.fake_daemon import FakeDaemon, refusing, silent
from tests.support.samples import DOMAIN, HELLO, POSITION
from virtsnap.cli.command import GROUPS, Command, Option
from virtsnap.cli.completion import completions
from virtsnap.cli.console import Console, Settings
from virtsnap.cli.table import COMMANDS
from virtsnap_protocol.errors import DomainNotFound
from virtsnap_protocol.methods import domain

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
        ([], "snapshot-de", ["snapshot-delete"]),
        (["snapshot-delete"], "--c", ["--children", "--children-only", "--current"]),
        (["snapshot-delete", "--current"], "--cu", []),
        (["dominfo"], "", ["vm"]),
        (["dominfo", "--domain"], "", ["vm"]),
        (["dominfo"], "--domain=", ["--domain=vm"]),
        (["dominfo"], "--domain=x", []),
        (["dominfo"], "--json=", []),
        (["dominfo"], "--bogus=", []),
        (["dominfo", "vm"], "", []),
        (["dominfo", "--"], "v", ["vm"]),
        (["dominfo", "--"], "--", []),
        (["snapshot-delete", "vm"], "s", ["s1"]),
        (["snapshot-delete", "vm", "--snapshotname"], "", ["s1"]),
        (["snapshot-delete", "vm"], "--snapshotname=s", ["--snapshotname=s1"]),
        (["snapshot-delete", "--children", "--domain", "vm"], "", ["s1"]),
        (["snapshot-delete", "--children", "--domain=vm"], "", ["s1"]),
        (["snapshot-delete", "--bogus", "vm"], "", ["s1"]),
        (["snapshot-delete"], "--snapshotname=", []),
        (["snapshot-delete", "--snapshotname", "s1"], "", ["vm"]),
        (["snapshot-list", "vm", "--from"], "", ["s1"]),
        (["snapshot-list", "vm"], "--from=", ["--from=s1"]),
        (["help"], "snapshot-p", ["snapshot-parent"]),
        (["help"], "mon", ["monitor"]),
        (["call"], "snapshot.re", ["snapshot.revert"]),
        (["event", "--event"], "", ["lifecycle", "snapshot"]),
        (["event"], "--event=l", ["--event=lifecycle"]),
        (["completion"], "", ["bash", "fish", "zsh"]),
        (["connect"], "t", ["test:///default"]),
        (["foo"], "", []),
    ],
)
def test_what_fits_is_offered(console: Console, words: list[str], prefix: str, expected: list[str]) -> None:
    assert list(completions(console, words, prefix)) == expected


def test_an_option_that_may_be_repeated_is_offered_again(console: Console) -> None:
    given = ["snapshot-create-as", "vm", "--diskspec", "vda"]
    assert list(completions(console, given, "--disks")) == ["--diskspec"]


def test_each_candidate_is_explained(console: Console) -> None:
    command = COMMANDS["snapshot-delete"]
    assert completions(console, [], "snapshot-de") == {"snapshot-delete": command.summary}
    children = command.option("children-only")
    assert children is not None
    assert completions(console, ["snapshot-delete"], "--children-") == {"--children-only": children.summary}
    assert completions(console, ["dominfo"], "") == {"vm": "running"}
    assert completions(console, ["snapshot-info", "vm"], "") == {"s1": "running"}


def test_a_name_like_an_option_is_offered_in_the_spelling_that_the_command_understands(
    console: Console, daemon: FakeDaemon
) -> None:
    odd = [msgspec.structs.replace(DOMAIN, name=name) for name in ("--all", "-x")]
    daemon.answers["domain.list"] = lambda _: domain.ListResult(domains=odd, position=POSITION)
    assert list(completions(console, ["domstate"], "")) == ["--domain=--all", "-x"]
    assert list(completions(console, ["domstate"], "-")) == [
        "--domain",
        "--domain=--all",
        "--json",
        "--reason",
        "-x",
    ]
    assert list(completions(console, ["domstate", "--"], "")) == ["--all", "-x"]
    assert list(completions(console, ["domstate", "--domain"], "")) == ["--all", "-x"]


def test_the_snapshots_of_a_domain_named_by_its_id_are_offered(console: Console, daemon: FakeDaemon) -> None:
    assert list(completions(console, ["snapshot-info", "1"], "")) == ["s1"]
    assert daemon.asked[-1][1].domain == 1


def test_only_drivers_that_are_available_are_offered(console: Console, daemon: FakeDaemon) -> None:
    missing = msgspec.structs.replace(HELLO.drivers[0], uri="qemu:///system", available=False, reason="none")
    daemon.answers["connection.hello"] = lambda _: msgspec.structs.replace(
        HELLO, drivers=[*HELLO.drivers, missing]
    )
    assert list(completions(console, ["connect"], "")) == ["test:///default"]


def test_a_refusal_offers_nothing(console: Console, daemon: FakeDaemon) -> None:
    daemon.answers["snapshot.list"] = refusing(DomainNotFound("x"))
    assert completions(console, ["snapshot-delete", "x"], "") == {}


def test_a_missing_daemon_offers_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VIRTSNAP_SOCKET", "/nonexistent/none")
    assert completions(Console(Settings(), COMMANDS), ["dominfo"], "") == {}


def test_a_daemon_that_says_nothing_is_not_waited_for(daemon: FakeDaemon) -> None:
    daemon.answers["domain.list"] = silent
    console = Console(Settings(), COMMANDS, timeout=0.01)
    assert completions(console, ["dominfo"], "") == {}
    console.disconnect()


def test_files_are_offered_where_one_is_wanted(
    console: Console, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a.xml", "a b.xml", ".hidden"):
        (tmp_path / name).touch()
    (tmp_path / "images").mkdir()
    assert list(completions(console, ["define"], f"{tmp_path}/a")) == [
        f"{tmp_path}/a b.xml",
        f"{tmp_path}/a.xml",
    ]
    monkeypatch.chdir(tmp_path)
    assert list(completions(console, ["create"], "")) == ["a b.xml", "a.xml", "images/"]
    assert list(completions(console, ["snapshot-create", "vm", "--xmlfile"], ".h")) == [".hidden"]
    assert list(completions(console, ["snapshot-create", "vm"], "--xmlfile=i")) == ["--xmlfile=images/"]
    assert list(completions(console, ["snapshot-create", "vm"], "i")) == ["images/"]
    assert completions(console, ["define"], "nowhere/") == {}


def _options() -> list[tuple[Command, Option]]:
    return [(command, option) for command in COMMANDS.values() for option in command.options]


def test_every_option_that_names_a_thing_says_of_which_kind() -> None:
    kinds = {"domain": "domain", "snapshotname": "snapshot", "xmlfile": "file"}
    named = [(command, option) for command, option in _options() if option.name in kinds]
    assert named
    assert [
        f"{command.name} --{option.name}"
        for command, option in named
        if option.kind == "text" and option.completes != kinds[option.name]
    ] == []


def test_commands_and_groups_can_be_told_apart() -> None:
    assert set(GROUPS).isdisjoint(COMMANDS)
