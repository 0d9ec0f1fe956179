"""The texts of ``help`` and ``--help``, in virsh's layout."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from virtsnap.cli.command import GROUPS, Command, Group, Option

if TYPE_CHECKING:
    from collections.abc import Iterable

USAGE: Final = """
virtsnap [options]... [<command_string>]
virtsnap [options]... <command> [args...]

  options:
    -c | --connect=URI      hypervisor connection URI
    -h | --help             this help
    -q | --quiet            quiet mode
    -r | --readonly         connect readonly
    -t | --timing           print timing information
    -v | --version          print the version
         --socket=PATH      socket of the daemon
         --json             print one JSON document per command
  commands (non interactive mode):

"""


_LABEL_WIDTH: Final = 15
"""virsh's, unless a command has a longer option."""


def command_help(command: Command) -> str:
    """Return the help of one command."""
    synopsis = " ".join([command.name, *map(_usage, command.options)])
    text = f"  NAME\n    {command.name} - {command.summary}\n\n  SYNOPSIS\n    {synopsis}\n"
    text += "\n  DESCRIPTION\n" + "".join(f"    {line}\n" for line in command.description.splitlines())
    if command.options:
        width = max(_LABEL_WIDTH, *(len(_label(option)) for option in command.options))
        text += "\n  OPTIONS\n" + "".join(
            f"    {_label(option):<{width}}  {option.summary}\n" for option in command.options
        )
    return text + "\n"


def _usage(option: Option) -> str:
    match option.kind:
        case "flag":
            return f"[--{option.name}]"
        case "many":
            return f"[[--{option.name}] <{option.value_word}>]..."
        case _ if option.required:
            return f"<{option.name}>"
        case _:
            return f"[--{option.name} <{option.value_word}>]"


def _label(option: Option) -> str:
    """Return how an option is spelled; the part in brackets may be left out."""
    if option.kind == "flag":
        return f"--{option.name}"
    return f"{f'--{option.name}' if option.named_only else f'[--{option.name}]'} <{option.value_word}>"


def command_facts(command: Command) -> dict[str, Any]:
    """Return what the JSON of a command's help says."""
    options = [{"name": o.name, "kind": o.kind, "required": o.required} for o in command.options]
    return {"name": command.name, "summary": command.summary, "options": options}


def group_help(group: Group, commands: Iterable[Command]) -> str:
    """Return the list of one group's commands."""
    members = sorted((c for c in commands if c.group == group), key=lambda c: c.name)
    lines = [f"    {c.name:<30} {c.summary}\n" for c in members]
    return f" {GROUPS[group]} (help keyword '{group}'):\n" + "".join(lines)


def all_help(commands: Iterable[Command]) -> str:
    """Return the list of all commands by group."""
    known = list(commands)
    return "".join(group_help(group, known) + "\n" for group in GROUPS)
