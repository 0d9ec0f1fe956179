"""What a command is: one declaration feeds parsing, help and completion."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Literal

from virtsnap_protocol.errors import DomainNotFound, Error, SnapshotNotFound

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from virtsnap.cli.console import Console

Kind = Literal["flag", "text", "number", "many"]
Completes = Literal["domain", "snapshot", "command", "method", "uri", "file"]
Group = Literal["domain", "monitor", "events", "host", "snapshot", "virtsnap"]

GROUPS: Final[Mapping[Group, str]] = {
    "domain": "Domain Management",
    "monitor": "Domain Monitoring",
    "events": "Domain Events",
    "host": "Host and Hypervisor",
    "snapshot": "Snapshot",
    "virtsnap": "Virtsnap itself",
}
"""In the order of the global help, as in virsh."""


@dataclass(frozen=True)
class Option:
    """One option of a command. All but flags may also be given by position, unless `named_only`."""

    name: str
    kind: Kind
    summary: str
    required: bool = field(default=False, kw_only=True)
    named_only: bool = field(default=False, kw_only=True)
    completes: Completes | None = field(default=None, kw_only=True)
    """What its values are the names of."""
    choices: tuple[str, ...] = field(default=(), kw_only=True)
    """Its values, where they are a fixed set; the command refuses others in virsh's words."""

    @property
    def value_word(self) -> str:
        """What help calls the value."""
        return "number" if self.kind == "number" else "string"

    @property
    def explanation(self) -> str:
        """The summary, with the values there are."""
        return f"{self.summary}: {', '.join(self.choices)}" if self.choices else self.summary


@dataclass(frozen=True, kw_only=True)
class Command:
    """One command: how it is spelled, explained and run."""

    name: str
    group: Group
    summary: str
    description: str
    options: tuple[Option, ...] = ()
    run: Callable[[Console, Arguments], None]

    def option(self, name: str) -> Option | None:
        """Return the option with this name; every command has ``--json``."""
        return next((o for o in (*self.options, JSON) if o.name == name), None)


MAX_DIGITS: Final = 19
"""Of a number that fits into 64 bits; Python itself refuses to read very long ones."""
JSON: Final = Option("json", "flag", "print one JSON document instead of text")
DOMAIN: Final = Option("domain", "text", "name, id or UUID of a domain", required=True, completes="domain")
NAME_OR_UUID: Final = Option("domain", "text", "name or UUID of a domain", required=True, completes="domain")
XML_FILE: Final = Option(
    "file",
    "text",
    "file with an XML domain definition, - for standard input",
    required=True,
    completes="file",
)


class CommandFailed(Exception):
    """A command did not do its work: what to tell the user, and the error behind it if there is one."""

    def __init__(
        self, *lines: str, error: Error | None = None, fatal: bool = False, hint: str | None = None
    ) -> None:
        super().__init__(*lines)
        self.lines = lines
        self.error = error
        self.fatal = fatal
        """Nothing further can work: there is no daemon."""
        self.hint = hint
        """What the user can do about it, beside what the error itself advises."""


class Arguments:
    """What was given for a command's options."""

    def __init__(self, command: Command, values: Mapping[str, list[str]]) -> None:
        self.command = command
        self._values = values

    def flag(self, name: str) -> bool:
        """Return whether an option was given."""
        return name in self._values

    def many(self, name: str) -> list[str]:
        """Return all values given for an option."""
        return self._values.get(name, [])

    def text(self, name: str) -> str | None:
        """Return the value of an option, None when it was not given.

        Raises:
            CommandFailed: It was given and is empty.
        """
        given = self._values.get(name)
        if given is None:
            return None
        if not given[0]:
            raise CommandFailed(f"Failed to get option '{name}': Option argument is empty")
        return given[0]

    def required(self, name: str) -> str:
        """Return the value of a required option, which the grammar has seen to.

        Raises:
            CommandFailed: It is empty.
        """
        return self.text(name) or ""

    def number(self, name: str) -> int | None:
        """Return the value of an option that is a positive number.

        Raises:
            CommandFailed: It is something else.
        """
        given = self._values.get(name)
        if given is None:
            return None
        number = positive_number(given[0])
        if number is None:
            raise CommandFailed(
                f"Numeric value '{given[0]}' for <{name}> option is malformed or out of range"
            )
        return number

    def exclude(self, one: str, *others: str) -> None:
        """Refuse options that contradict each other, in virsh's words.

        Raises:
            CommandFailed: `one` was given, and one of the others as well.
        """
        for other in others:
            if self.flag(one) and self.flag(other):
                raise CommandFailed(f"Options --{one} and --{other} are mutually exclusive")

    def refuse(self, name: str, reason: str) -> None:
        """Refuse an option of virsh's that cannot be honoured here.

        Raises:
            CommandFailed: It was given.
        """
        if self.flag(name):
            raise CommandFailed(f"Option --{name} is not supported: {reason}")


def positive_number(text: str) -> int | None:
    """Return the number that a text means, None when it is none that fits into a C int."""
    digits = text.isascii() and text.isdigit() and len(text) <= MAX_DIGITS
    return int(text) if digits and 0 < int(text) < 2**31 else None


@contextmanager
def explained(summary: str) -> Iterator[None]:
    """Put virsh's summary before the daemon's error; a name that was not found says enough by itself.

    Raises:
        CommandFailed: The daemon refused.
    """
    try:
        yield
    except (DomainNotFound, SnapshotNotFound):
        raise
    except Error as error:
        raise CommandFailed(summary, error=error) from error
