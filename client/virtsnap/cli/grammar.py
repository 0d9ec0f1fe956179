"""virsh's grammar: quoting, ``;`` between commands, ``--option value``, positions, ``--``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from virtsnap.cli.command import Arguments, Command, Option

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence


_ENDS: Final = " \t\r\n;"
_CONTINUATION: Final = "\\\n"


class BadSyntax(Exception):
    """Something that was typed cannot be understood; nothing of it is run."""


@dataclass(frozen=True)
class Invocation:
    """A command with its arguments, ready to run."""

    command: Command
    arguments: Arguments
    help_only: bool = False
    """``--help`` was among the options."""


@dataclass(frozen=True, kw_only=True)
class Word:
    """A word of a text: where it stands, what it means, and what it still lacks."""

    start: int
    end: int
    text: str
    quote: str = ""
    """The quote that does not end."""
    escaping: bool = False
    """It ends in a backslash that protects nothing yet."""

    def completed(self, raw: str, name: str) -> str:
        """Return what to type instead of `raw`, this word as it was typed, for it to mean `name`."""
        rest = name[len(self.text) :]
        if self.quote == "'":
            return raw + rest.replace("'", "'\\''") + "'"
        special = '"\\' if self.quote else " \t\r;'\"\\"
        typed = [f"\\{char}" if char in special else char for char in rest]
        if self.escaping and rest:
            typed[0] = rest[0]
        elif rest.startswith("#") and not raw:
            typed[0] = "\\#"
        return raw + "".join(typed) + self.quote


def split(text: str) -> list[list[str]]:
    """Return the words of each command in a text; ``;`` and line ends separate commands, ``#`` begins a comment.

    Within single quotes everything stands for itself; elsewhere ``\\`` protects the next character, and takes
    the end of a line away.

    Raises:
        BadSyntax: A quote that does not end, a backslash before nothing, or a NUL, which no word can have.
    """
    if "\0" in text:
        raise BadSyntax("unexpected NUL character")
    commands = _scan(text)
    for words in commands:
        for word in words:
            if word.escaping:
                raise BadSyntax("dangling \\")
            if word.quote:
                raise BadSyntax(f"missing {word.quote}")
    return [[word.text for word in words] for words in commands if words]


def unfinished(text: str) -> tuple[list[str], Word]:
    """Return the last command of a text that is being typed: the words before, and the one at the end of it."""
    words = _scan(text)[-1]
    nothing = Word(start=len(text), end=len(text), text="")
    last = words.pop() if words and words[-1].end == len(text) else nothing
    return [word.text for word in words], last


def _scan(text: str) -> list[list[Word]]:
    commands: list[list[Word]] = [[]]
    position = 0
    while position < len(text):
        here = text[position]
        if here in ";\n":
            commands.append([])
            position += 1
        elif here in " \t\r":
            position += 1
        elif text.startswith(_CONTINUATION, position):
            position += len(_CONTINUATION)
        elif here == "#":
            position = (text.find("\n", position) + 1 or len(text) + 1) - 1
        else:
            word = _word(text, position)
            commands[-1].append(word)
            position = word.end
    return commands


def _word(text: str, start: int) -> Word:
    """Return the word that begins here."""
    word: list[str] = []
    quote, position = "", start
    while position < len(text):
        here = text[position]
        if not quote and here in _ENDS:
            break
        position += 1
        if here == quote:
            quote = ""
        elif quote == "'":
            word.append(here)
        elif here == "\\":
            if position == len(text):
                return Word(start=start, end=position, text="".join(word), quote=quote, escaping=True)
            if text[position] != "\n":
                word.append(text[position])
            position += 1
        elif not quote and here in "'\"":
            quote = here
        else:
            word.append(here)
    return Word(start=start, end=position, text="".join(word), quote=quote)


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
        if options_end or not is_option(word):
            if word == "--" and not options_end:
                options_end = True
            else:
                _take_positional(command, values, word)
        elif word == "--help":
            asked: dict[str, list[str]] = {"json": []} if "--json" in words else {}
            return Invocation(command, Arguments(command, asked), help_only=True)
        else:
            _take_option(command, values, word, remaining)
    for option in command.options:
        if option.required and option.name not in values:
            raise BadSyntax(f"command '{command.name}' requires <{option.name}> option")
    return Invocation(command, Arguments(command, values))


def is_option(word: str) -> bool:
    """Return whether a word names an option rather than being a value, before ``--``."""
    return word.startswith("--") and word[2:3].isalnum()


def _take_positional(command: Command, values: dict[str, list[str]], word: str) -> None:
    """Give a word to the first option that may still take one."""
    option = _next_positional(command, values)
    if option is None:
        raise BadSyntax(f"unexpected data '{word}'")
    values.setdefault(option.name, []).append(word)


def _next_positional(command: Command, values: Mapping[str, list[str]]) -> Option | None:
    for option in command.options:
        free = option.name not in values or option.kind == "many"
        if option.kind != "flag" and not option.named_only and free:
            return option
    return None


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


@dataclass(frozen=True, kw_only=True)
class Unfinished:
    """A command that is still being typed, as far as it can be understood."""

    values: Mapping[str, list[str]]
    awaited: Option | None
    """The option whose value comes next."""
    positional: Option | None
    """What a word that is no option would be the value of."""
    options_end: bool
    """``--`` was given: every further word is a value."""


def understood(command: Command, words: Iterable[str]) -> Unfinished:
    """Return what the words after the name of a command mean so far; what is wrong with them is passed over."""
    values: dict[str, list[str]] = {}
    awaited: Option | None = None
    options_end = False
    for word in words:
        if awaited is not None:
            values.setdefault(awaited.name, []).append(word)
            awaited = None
        elif word == "--" and not options_end:
            options_end = True
        elif is_option(word) and not options_end:
            name, equals, value = word[2:].partition("=")
            option = command.option(name)
            if option is not None and option.kind != "flag" and not equals:
                awaited = option
            elif option is not None:
                values.setdefault(name, []).append(value)
        elif (option := _next_positional(command, values)) is not None:
            values.setdefault(option.name, []).append(word)
    return Unfinished(
        values=values,
        awaited=awaited,
        positional=_next_positional(command, values),
        options_end=options_end,
    )
