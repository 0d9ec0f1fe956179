"""The table of all commands; the only place that lists the nouns."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from virtsnap.cli import builtin, domain, event, host, monitor, snapshot, snapshot_list

if TYPE_CHECKING:
    from collections.abc import Mapping

    from virtsnap.cli.command import Command

COMMANDS: Final[Mapping[str, Command]] = {
    command.name: command
    for noun in (domain, monitor, event, snapshot, snapshot_list, host, builtin)
    for command in noun.COMMANDS
}
