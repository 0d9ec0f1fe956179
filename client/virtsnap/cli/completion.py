"""What the Tab key offers: commands, options, and the names of things."""

from __future__ import annotations

import os
from contextlib import suppress
from itertools import pairwise
from typing import TYPE_CHECKING, Protocol

from virtsnap.cli.command import JSON, CommandFailed
from virtsnap_protocol.errors import Error
from virtsnap_protocol.methods import METHODS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from virtsnap.blocking import BlockingConnection
    from virtsnap.cli.command import Command, Completes, Option


class Host(Protocol):
    """Where names come from."""

    @property
    def commands(self) -> Mapping[str, Command]:
        """All commands by name."""

    @property
    def connection(self) -> BlockingConnection:
        """The connection."""


def completions(host: Host, words: Sequence[str], prefix: str) -> list[str]:
    """Return what could stand where `prefix` is being typed, after `words` of the same command."""
    if not words:
        return _matching(prefix, host.commands)
    command = host.commands.get(words[0])
    if command is None:
        return []
    before = command.option(words[-1][2:]) if words[-1].startswith("--") else None
    if before is not None and before.kind != "flag":
        return _matching(prefix, _names(host, before.completes, _domain_of(command, words), prefix))
    if prefix.startswith("-"):
        given = set(words)
        return _matching(
            prefix, [f"--{o.name}" for o in (*command.options, JSON) if f"--{o.name}" not in given]
        )
    values = _positional(command, words)
    free = [o for o in command.options if o.kind != "flag" and not o.named_only][len(values) :]
    if not free:
        return []
    return _matching(prefix, _names(host, free[0].completes, _domain_of(command, words), prefix))


def _matching(prefix: str, names: Sequence[str] | Mapping[str, object]) -> list[str]:
    return sorted(name for name in names if name.startswith(prefix))


def _positional(command: Command, words: Sequence[str]) -> list[str]:
    """Return the values among the words, given by position or by option."""
    values: list[str] = []
    for before, word in pairwise(words):
        option: Option | None = command.option(before[2:]) if before.startswith("--") else None
        if not word.startswith("--") or (option is not None and option.kind != "flag"):
            values.append(word)
    return values


def _domain_of(command: Command, words: Sequence[str]) -> str | None:
    if "--domain" in words[:-1]:
        return words[words.index("--domain") + 1]
    first = next(iter(command.options), None)
    values = _positional(command, words)
    return values[0] if first is not None and first.name == "domain" and values else None


def _names(host: Host, what: Completes | None, domain: str | None, prefix: str) -> list[str]:
    """Return the names of a kind of things; none when the daemon cannot be asked."""
    match what:
        case "command":
            return list(host.commands)
        case "method":
            return [method.name for method in METHODS]
        case "event":
            return ["lifecycle", "snapshot"]
        case "file":
            return _files(prefix)
    with suppress(Error, CommandFailed):
        if what == "domain":
            return [found.name for found in host.connection.domains().domains]
        if what == "snapshot" and domain:
            found = host.connection.domain(domain).snapshots().snapshots
            return [snapshot.name for snapshot in found]
    return []


def _files(prefix: str) -> list[str]:
    """Return the files of the folder that is being typed, folders with a slash; hidden ones when asked for."""
    folder, slash, name = prefix.rpartition("/")
    with suppress(OSError), os.scandir(folder + slash or ".") as entries:
        return [
            f"{folder}{slash}{entry.name}{'/' if entry.is_dir() else ''}"
            for entry in entries
            if name.startswith(".") or not entry.name.startswith(".")
        ]
    return []
