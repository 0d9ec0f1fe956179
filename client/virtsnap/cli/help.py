"""The texts of ``help`` and ``--help``, in virsh's layout."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from virtsnap.cli.command import GROUPS, Command, Group, Option
from virtsnap.cli.global_options import OPTIONS

if TYPE_CHECKING:
    from collections.abc import Iterable

    from virtsnap.cli.global_options import GlobalOption

_LONGEST_GLOBAL: Final = 24
"""The columns that the spelling of a global option takes, as in virsh."""
_LABEL_WIDTH: Final = 15
"""virsh's, unless a command has a longer option."""


def usage(commands: Iterable[Command]) -> str:
    """Return the text of ``--help``."""
    lines = [
        "",
        "virtsnap [options]... [<command_string>]",
        "virtsnap [options]... <command> [args...]",
        "",
        "  options:",
        *(f"    {global_label(option):<{_LONGEST_GLOBAL}}{option.summary}" for option in OPTIONS),
        "  commands (non interactive mode):",
        "",
        *(group_help(group, members, colon="") for group, members in by_group(commands).items()),
        "",
        "  (specify help <group> for details about the commands in the group)",
        "",
        "  (specify help <command> for details about the command)",
        "",
    ]
    return "".join(f"{line}\n" for line in lines)


def global_label(option: GlobalOption) -> str:
    """Return how an option of virtsnap itself is spelled."""
    long = f"--{option.name}={option.value}" if option.value else f"--{option.name}"
    return f"-{option.letter} | {long}" if option.letter else f"     {long}"


def command_help(command: Command) -> str:
    """Return the help of one command."""
    text = f"  NAME\n    {command.name} - {command.summary}\n\n  SYNOPSIS\n    {synopsis(command)}\n"
    text += "\n  DESCRIPTION\n" + "".join(f"    {line}\n" for line in command.description.splitlines())
    if command.options:
        width = max(_LABEL_WIDTH, *(len(label) for label, _ in option_lines(command)))
        text += "\n  OPTIONS\n" + "".join(
            f"    {label:<{width}}  {explanation}\n" for label, explanation in option_lines(command)
        )
    return text + "\n"


def synopsis(command: Command) -> str:
    """Return a command with its options on one line."""
    return " ".join([command.name, *(_usage(command, option) for option in command.options)])


def option_lines(command: Command) -> list[tuple[str, str]]:
    """Return how each option is spelled, and what it does.

    As in virsh (vshCmddefHelp): brackets mark a name that may be left out; that of a list may where another
    value comes before it.
    """
    return [(_label(command, option), option.explanation) for option in command.options]


def _usage(command: Command, option: Option) -> str:
    match option.kind:
        case "flag":
            return f"[--{option.name}]"
        case "many":
            before, after = ("{", "}") if option.required else ("[", "]")
            return f"{before}{_label(command, option)}{after}..."
        case _ if option.required:
            return f"<{option.name}>"
        case _:
            return f"[--{option.name} <{option.value_word}>]"


def _label(command: Command, option: Option) -> str:
    match option.kind:
        case "flag":
            return f"--{option.name}"
        case "many" if not _follows_a_value(command, option):
            return f"<{option.name}>"
        case "many":
            return f"[--{option.name}] <{option.value_word}>"
        case _ if option.required:
            return f"[--{option.name}] <{option.value_word}>"
        case _:
            return f"--{option.name} <{option.value_word}>"


def _follows_a_value(command: Command, option: Option) -> bool:
    before = command.options[: command.options.index(option)]
    return any(each.kind != "flag" for each in before)


def command_facts(command: Command) -> dict[str, Any]:
    """Return what the JSON of a command's help says."""
    options = [
        {
            "name": option.name,
            "kind": option.kind,
            "required": option.required,
            "summary": option.summary,
            **({"choices": option.choices} if option.choices else {}),
        }
        for option in command.options
    ]
    return {
        "name": command.name,
        "group": command.group,
        "summary": command.summary,
        "description": command.description,
        "options": options,
    }


def by_group(commands: Iterable[Command]) -> dict[Group, list[Command]]:
    """Return the commands of each group, in the order of their names."""
    known = sorted(commands, key=lambda command: command.name)
    return {group: [command for command in known if command.group == group] for group in GROUPS}


def group_help(group: Group, members: Iterable[Command], *, colon: str = ":") -> str:
    """Return the list of one group's commands; virsh's ``--help`` leaves out the colon of ``help``."""
    lines = [f"    {command.name:<30} {command.summary}\n" for command in members]
    return f" {GROUPS[group]} (help keyword '{group}'){colon}\n" + "".join(lines)


def all_help(commands: Iterable[Command]) -> str:
    """Return the list of all commands by group."""
    return "".join(f"{group_help(group, members)}\n" for group, members in by_group(commands).items())
