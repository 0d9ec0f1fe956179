"""Commands that need no daemon: help, echo, cd, pwd, quit."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Final

from virtsnap.cli.command import GROUPS, Command, CommandFailed, Option
from virtsnap.cli.documents import current_folder
from virtsnap.cli.help import all_help, by_group, command_facts, command_help, group_help
from virtsnap.cli.run import Quit
from virtsnap.cli.specs import items

if TYPE_CHECKING:
    from virtsnap.cli.command import Arguments
    from virtsnap.cli.console import Console

_SHELL_SAFE: Final = re.compile(r"[A-Za-z0-9_@%+=:,./-]+")
"""What a shell takes as it is."""


def _help(console: Console, arguments: Arguments) -> None:
    name = arguments.text("command")
    commands = console.commands.values()
    if name is None:
        console.out("Grouped commands:\n\n" + all_help(commands))
        console.result({command.name: command.summary for command in commands})
    elif name in console.commands:
        command = console.commands[name]
        console.out(command_help(command))
        console.result(command_facts(command))
    elif group := next((group for group in GROUPS if group == name), None):
        members = by_group(commands)[group]
        console.out(group_help(group, members))
        console.result({member.name: member.summary for member in members})
    else:
        raise CommandFailed(f"command or command group '{name}' doesn't exist")


def _echo(console: Console, arguments: Arguments) -> None:
    arguments.exclude("shell", "xml", "split")
    arguments.exclude("xml", "split")
    given = arguments.many("string")
    if arguments.flag("split"):
        text = " ".join("".join(f"{item}\n" for item in items(word)) for word in given if word)
    else:
        text = " ".join(_quoted(word, arguments) for word in given)
    if arguments.flag("err"):
        console.complain(f"error: {text}")
    else:
        console.out(text)
    console.result({"text": text})


def _quoted(word: str, arguments: Arguments) -> str:
    if arguments.flag("xml"):
        for char, entity in (("&", "amp"), ("<", "lt"), (">", "gt"), ('"', "quot"), ("'", "apos")):
            word = word.replace(char, f"&{entity};")
    if arguments.flag("shell") and not _SHELL_SAFE.fullmatch(word):
        word = "'" + word.replace("'", "'\\''") + "'"
    return word


def _cd(console: Console, arguments: Arguments) -> None:
    if not console.interactive:
        raise CommandFailed("cd: command valid only in interactive mode")
    folder = Path(arguments.text("dir") or Path.home())
    try:
        os.chdir(folder)
    except OSError as error:
        raise CommandFailed(f"cd: {folder}: {error.strerror}") from error
    console.result({})


def _pwd(console: Console, arguments: Arguments) -> None:
    folder = current_folder()
    console.out(f"{folder}\n")
    console.result({"folder": folder})


def _quit(console: Console, arguments: Arguments) -> None:
    console.result({})
    raise Quit


COMMANDS: Final = (
    Command(
        name="help",
        group="virtsnap",
        summary="show help",
        description="List the commands, those of a group, or explain one.",
        options=(Option("command", "text", "a command or a group", completes="command"),),
        run=_help,
    ),
    Command(
        name="echo",
        group="virtsnap",
        summary="print words",
        description="Print its arguments, quoted if asked for. Shows how quoting works.",
        options=(
            Option("shell", "flag", "quote for a shell"),
            Option("xml", "flag", "quote for XML"),
            Option("split", "flag", "print the items of comma-separated lists; ,, stands for a comma"),
            Option("err", "flag", "print to standard error"),
            Option("string", "many", "words to print"),
        ),
        run=_echo,
    ),
    Command(
        name="cd",
        group="virtsnap",
        summary="change the folder",
        description="Change the folder that file names are looked up in.",
        options=(Option("dir", "text", "the folder; without it the home folder", completes="file"),),
        run=_cd,
    ),
    Command(
        name="pwd",
        group="virtsnap",
        summary="print the folder",
        description="Print the folder that file names are looked up in.",
        run=_pwd,
    ),
    Command(
        name="quit",
        group="virtsnap",
        summary="leave",
        description="Leave the shell, or end a script.",
        run=_quit,
    ),
    Command(name="exit", group="virtsnap", summary="leave", description="The same as quit.", run=_quit),
)
