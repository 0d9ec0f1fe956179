"""virsh's grammar: quoting, ``;`` between commands, ``--option value``, positions, ``--``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from virtsnap.cli.command import Arguments, Command, Option

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence


class BadSyntax(Exception):
    """Something that was typed cannot be understood; nothing of it is run."""


@dataclass(frozen=True)
class Invocation:
    """A command with its arguments, ready to run."""

    command: Command
    arguments: Arguments
    help_only: bool = False
    """``--help`` was among the options."""


def split(text: str) -> list[list[str]]:
    """Return the words of each command in a text; ``;`` and line ends separate commands, ``#`` begins a comment.

    Within single quotes everything stands for itself; elsewhere ``\\`` protects the next character.

    Raises:
        BadSyntax: A quote that does not end, or a backslash before nothing.
    """
    commands: list[list[str]] = [[]]
    position = 0
    while position < len(text):
        here = text[position]
        if here in ";\n":
            commands.append([])
            position += 1
        elif here in " \t\r":
            position += 1
        elif here == "#":
            position = (text.find("\n", position) + 1 or len(text) + 1) - 1
        else:
            word, position = _word(text, position)
            commands[-1].append(word)
    return [words for words in commands if words]


def _word(text: str, position: int) -> tuple[str, int]:
    """Return the word that begins here, and where it ends."""
    word: list[str] = []
    quote = ""
    while position < len(text):
        here = text[position]
        position += 1
        if here == quote:
            quote = ""
        elif quote == "'":
            word.append(here)
        elif here == "\\":
            if position == len(text):
                raise BadSyntax("dangling \\")
            word.append(text[position])
            position += 1
        elif quote:
            word.append(here)
        elif here in "'\"":
            quote = here
        elif here in " \t\r\n;":
            return "".join(word), position - 1
        else:
            word.append(here)
    if quote:
        raise BadSyntax(f"missing {quote}")
    return "".join(word), position


def parse(commands: Iterable[Sequence[str]], table: Mapping[str, Command]) -> list[Invocation]:
    """Return what to run.

    Raises:
        BadSyntax: An unknown command or option, a value too many or too few: in any of them.
    """
    return [_invocation(words, table) for words in commands]


def _invocation(words: Sequence[str], table: Mapping[str, Command]) -> Invocation:
    command = table.get(words[0])
    if command is None:
        raise BadSyntax(f"unknown command: '{words[0]}'")
    values: dict[str, list[str]] = {}
    remaining = iter(words[1:])
    options_end = False
    for word in remaining:
        if options_end or not _is_option(word):
            if word == "--" and not options_end:
                options_end = True
            else:
                _take_positional(command, values, word)
        elif word == "--help":
            return Invocation(command, Arguments(command, {}), help_only=True)
        else:
            _take_option(command, values, word, remaining)
    for option in command.options:
        if option.required and option.name not in values:
            raise BadSyntax(f"command '{command.name}' requires <{option.name}> option")
    return Invocation(command, Arguments(command, values))


def _is_option(word: str) -> bool:
    return word.startswith("--") and word[2:3].isalnum()


def _take_positional(command: Command, values: dict[str, list[str]], word: str) -> None:
    """Give a word to the first option that may still take one."""
    for option in command.options:
        free = option.name not in values or option.kind == "many"
        if option.kind != "flag" and not option.named_only and free:
            values.setdefault(option.name, []).append(word)
            return
    raise BadSyntax(f"unexpected data '{word}'")


def _take_option(command: Command, values: dict[str, list[str]], word: str, rest: Iterator[str]) -> None:
    name, equals, value = word[2:].partition("=")
    option = command.option(name)
    if option is None:
        raise BadSyntax(f"command '{command.name}' doesn't support option --{name}")
    if option.name in values and option.kind != "many":
        raise BadSyntax(f"option --{name} already seen")
    if option.kind == "flag":
        if equals:
            raise BadSyntax(f"invalid '=' after option --{name}")
        values[name] = []
        return
    values.setdefault(name, []).append(value if equals else _value(option, rest))


def _value(option: Option, rest: Iterator[str]) -> str:
    value = next(rest, None)
    if value is None:
        raise BadSyntax(f"expected syntax: --{option.name} <{option.value_word}>")
    return value
