"""Runs commands one after the other, as virsh does: a failing one does not stop the rest."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from virtsnap.cli.command import CommandFailed
from virtsnap.cli.grammar import BadSyntax, parse, split
from virtsnap.cli.help import command_facts, command_help
from virtsnap_protocol.errors import DomainNotFound, Error

if TYPE_CHECKING:
    from collections.abc import Sequence

    from virtsnap.cli.console import Console
    from virtsnap.cli.grammar import Invocation


class Quit(Exception):
    """The user has had enough."""


def run_text(console: Console, text: str) -> bool:
    """Run the commands of a text; return whether the last one succeeded.

    Raises:
        Quit: One of them asked for it.
    """
    try:
        commands = split(text)
    except BadSyntax as error:
        return _refuse(console, error, asked="--json" in text.split())
    return run_words(console, commands)


def run_words(console: Console, commands: Sequence[Sequence[str]]) -> bool:
    """Run commands given as words; return whether the last one succeeded.

    Raises:
        Quit: One of them asked for it.
    """
    try:
        invocations = parse(commands, console.commands)
    except BadSyntax as error:
        return _refuse(console, error, asked=any("--json" in words for words in commands))
    succeeded = True
    for invocation in invocations:
        try:
            succeeded = _run(console, invocation)
        except CommandFailed as failure:
            console.report(failure)
            return False
    return succeeded


def _refuse(console: Console, error: BadSyntax, *, asked: bool) -> bool:
    """Report what is not understood, as JSON when that was asked for; return that nothing was done."""
    console.json = console.settings.json or asked
    console.report(CommandFailed(str(error)))
    return False


def _run(console: Console, invocation: Invocation) -> bool:
    """Run one command; return whether it succeeded.

    Raises:
        CommandFailed: There is no daemon, so that the next commands need not be tried.
    """
    command, arguments = invocation.command, invocation.arguments
    console.json = console.settings.json or arguments.flag("json")
    start = time.monotonic()
    succeeded = False
    try:
        if invocation.help_only:
            console.out(command_help(command))
            console.result(command_facts(command))
        else:
            command.run(console, arguments)
        succeeded = True
    except CommandFailed as failure:
        if failure.fatal and not console.interactive:
            raise
        console.report(failure)
    except DomainNotFound as error:
        console.report(_unknown_domain(arguments.text("domain"), error))
    except Error as error:
        console.report(error)
    if console.settings.timing:
        console.out(f"\n(Time: {(time.monotonic() - start) * 1000:.3f} ms)\n\n")
    else:
        console.tell("\n")
    return succeeded


def _unknown_domain(typed: str | None, error: DomainNotFound) -> CommandFailed | Error:
    """Return the failure to show: virsh says only what was typed."""
    if typed is None:
        return error
    failure = CommandFailed(f"failed to get domain '{typed}'")
    failure.__cause__ = error
    return failure
