"""The options before the command: one declaration feeds parsing, help, the man page and completion."""

from __future__ import annotations

import getopt
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from virtsnap.cli.console import Settings

if TYPE_CHECKING:
    from collections.abc import Sequence

    from virtsnap.cli.command import Completes


@dataclass(frozen=True, kw_only=True)
class GlobalOption:
    """An option of virtsnap itself."""

    name: str
    letter: str = ""
    value: str = ""
    """What help calls its value; empty when it takes none."""
    summary: str
    completes: Completes | None = None

    @property
    def spelling(self) -> str:
        """How messages name it, as virsh does."""
        return f"'-{self.letter}'/'--{self.name}'" if self.letter else f"'--{self.name}'"


OPTIONS: Final = (
    GlobalOption(
        name="connect", letter="c", value="URI", summary="hypervisor connection URI", completes="uri"
    ),
    GlobalOption(name="help", letter="h", summary="this help"),
    GlobalOption(name="quiet", letter="q", summary="quiet mode"),
    GlobalOption(name="readonly", letter="r", summary="connect readonly"),
    GlobalOption(name="timing", letter="t", summary="print timing information"),
    GlobalOption(name="version", letter="v", summary="print the version"),
    GlobalOption(name="socket", value="PATH", summary="socket of the daemon", completes="file"),
    GlobalOption(name="json", summary="print one JSON document per command"),
)

_SHORT: Final = "".join(option.letter + (":" if option.value else "") for option in OPTIONS if option.letter)
_LONG: Final = [option.name + ("=" if option.value else "") for option in OPTIONS]


class BadOption(Exception):
    """An option that there is not, or one whose value is missing."""

    def __init__(self, message: str, awaited: GlobalOption | None = None) -> None:
        super().__init__(message)
        self.awaited = awaited
        """The option whose value is missing."""


def parse(argv: Sequence[str]) -> tuple[list[tuple[str, str]], list[str]]:
    """Return the options that begin a command line, by their long names with their values, and the words after them.

    Raises:
        BadOption: in virsh's words.
    """
    try:
        given, words = getopt.getopt(list(argv), _SHORT, _LONG)
    except getopt.GetoptError as error:
        option = find(error.opt)
        if "requires argument" in error.msg and option is not None:
            raise BadOption(f"option {option.spelling} requires an argument", option) from error
        dashes = "-" if len(error.opt) == 1 else "--"
        raise BadOption(f"unsupported option '{dashes}{error.opt}'. See --help.") from error
    return [(_full_name(spelled), value) for spelled, value in given], words


def find(name: str) -> GlobalOption | None:
    """Return the option with this letter, name or beginning of its name, if it is clear which."""
    exact = [option for option in OPTIONS if name and name in {option.letter, option.name}]
    found = exact or [option for option in OPTIONS if name and option.name.startswith(name)]
    return found[0] if len(found) == 1 else None


def _full_name(spelled: str) -> str:
    return next(o.name for o in OPTIONS if spelled in {f"-{o.letter}", f"--{o.name}"})


def settings(given: Sequence[tuple[str, str]]) -> Settings:
    """Return what the options set."""
    found = Settings()
    for name, value in given:
        match name:
            case "connect":
                found.uri = value
            case "socket":
                found.socket = value
            case "quiet":
                found.quiet = True
            case "readonly":
                found.read_only = True
            case "timing":
                found.timing = True
            case "json":
                found.json = True
    return found
