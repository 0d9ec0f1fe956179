"""The table of all commands; the only place that lists the nouns."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from virtsnap.cli import (
    builtin,
    domain,
    domain_list,
    event,
    host,
    identity,
    monitor,
    save,
    shell_completion,
    snapshot,
    snapshot_create,
    snapshot_edit,
    snapshot_list,
    undefine,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from virtsnap.cli.command import Command

COMMANDS: Final[Mapping[str, Command]] = {
    command.name: command
    for noun in (
        domain,
        undefine,
        save,
        identity,
        domain_list,
        monitor,
        event,
        snapshot_create,
        snapshot_edit,
        snapshot,
        snapshot_list,
        host,
        builtin,
        shell_completion,
    )
    for command in noun.COMMANDS
}
