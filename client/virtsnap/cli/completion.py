"""What the Tab key offers, at the prompt and in shells: commands, options, and the names of things."""

from __future__ import annotations

import os
from contextlib import suppress
from typing import TYPE_CHECKING, Final, Protocol

from virtsnap.cli.command import GROUPS, JSON, CommandFailed
from virtsnap.cli.grammar import is_option, understood
from virtsnap.cli.render import STATES
from virtsnap_protocol.errors import Error
from virtsnap_protocol.methods import METHODS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from virtsnap.blocking import BlockingConnection
    from virtsnap.cli.command import Command, Completes, Option
    from virtsnap.cli.grammar import Unfinished
    from virtsnap.domain import BlockingDomain

PATIENCE: Final = 1.0
"""Seconds that whoever pressed the key waits for the daemon's answer; without one there are no names."""


class Host(Protocol):
    """Where names come from."""

    @property
    def commands(self) -> Mapping[str, Command]:
        """All commands by name."""

    @property
    def connection(self) -> BlockingConnection:
        """The connection."""

    def domain(self, name: str) -> BlockingDomain:
        """Return a handle of a domain named as on the command line."""


def completions(host: Host, words: Sequence[str], prefix: str) -> dict[str, str]:
    """Return what could stand where `prefix` is being typed, after `words` of the same command.

    In alphabetical order, each with a few words on what it is, or none.
    """
    if not words:
        return matching(prefix, _summaries(host))
    command = host.commands.get(words[0])
    if command is None:
        return {}
    so_far = understood(command, words[1:])
    if so_far.awaited is not None:
        return matching(prefix, _values(host, so_far.awaited, so_far, prefix))
    if so_far.options_end:
        return matching(prefix, _positional_values(host, so_far, prefix))
    name, equals, value = prefix.partition("=")
    if equals and is_option(name):
        option = command.option(name[2:])
        if option is None or option.kind == "flag":
            return {}
        found = matching(value, _values(host, option, so_far, value))
        return {f"{name}={each}": what for each, what in found.items()}
    names = _positional_values(host, so_far, prefix)
    if so_far.positional is not None:  # a name that looks like an option has to be given to one
        begin = f"--{so_far.positional.name}="
        names = {f"{begin}{each}" if is_option(each) else each: what for each, what in names.items()}
    options = _free_options(command, so_far) if prefix.startswith("-") else {}
    return matching(prefix, {**names, **options})


def matching(prefix: str, names: Mapping[str, str]) -> dict[str, str]:
    """Return those of the names that begin so, in order."""
    return {name: names[name] for name in sorted(names) if name.startswith(prefix)}


def _summaries(host: Host) -> dict[str, str]:
    return {name: command.summary for name, command in host.commands.items()}


def _free_options(command: Command, so_far: Unfinished) -> dict[str, str]:
    return {
        f"--{option.name}": option.summary
        for option in (*command.options, JSON)
        if option.kind == "many" or option.name not in so_far.values
    }


def _positional_values(host: Host, so_far: Unfinished, prefix: str) -> dict[str, str]:
    return {} if so_far.positional is None else _values(host, so_far.positional, so_far, prefix)


def _values(host: Host, option: Option, so_far: Unfinished, prefix: str) -> dict[str, str]:
    if option.choices:
        return dict.fromkeys(option.choices, "")
    if option.completes is None:
        return {}
    domain = next(iter(so_far.values.get("domain", ())), None)
    return names_of(host, option.completes, prefix=prefix, domain=domain)


def names_of(host: Host, what: Completes, *, prefix: str = "", domain: str | None = None) -> dict[str, str]:
    """Return the names of a kind of things, snapshots those of a domain; none when the daemon cannot be asked."""
    match what:
        case "command":
            return {**_summaries(host), **dict(GROUPS.items())}
        case "method":
            return {method.name: method.summary for method in METHODS}
        case "file":
            return _files(prefix)
    with suppress(Error, CommandFailed):
        if what == "uri":
            drivers = host.connection.hello().drivers
            return {driver.uri: driver.version or "" for driver in drivers if driver.available}
        if what == "domain":
            return {found.name: STATES[found.state] for found in host.connection.domains().domains}
        if what == "snapshot" and domain:
            return {found.name: found.state for found in host.domain(domain).snapshots().snapshots}
    return {}


def _files(prefix: str) -> dict[str, str]:
    """Return the files of the folder that is being typed, folders with a slash; hidden ones when asked for."""
    folder, slash, name = prefix.rpartition("/")
    with suppress(OSError), os.scandir(folder + slash or ".") as entries:
        return {
            f"{folder}{slash}{entry.name}{'/' if entry.is_dir() else ''}": ""
            for entry in entries
            if name.startswith(".") or not entry.name.startswith(".")
        }
    return {}
