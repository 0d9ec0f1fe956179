"""The man pages: their texts in docs/man/*.rst, with the parts that the declarations of options say, as roff."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Final, get_type_hints

import msgspec
from docutils.core import publish_string

import virtsnap
from tests.support.config_sample import description
from virtsnap.cli.command import GROUPS
from virtsnap.cli.global_options import OPTIONS
from virtsnap.cli.help import by_group, option_lines, synopsis
from virtsnap.cli.table import COMMANDS
from virtsnapd.__main__ import parser
from virtsnapd.config import Config

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Iterable

    from virtsnap.cli.command import Command

FOLDER: Final = Path(__file__).parents[2] / "docs" / "man"
SECTIONS: Final = {"virtsnap": 1, "virtsnapd": 8}

_WARNING: Final = 2
"""Of docutils' levels the one from which a template is not usable."""
_PART: Final = re.compile(r"^\.\. generated: (\w+)\n", re.MULTILINE)
_MARKUP: Final = re.compile(r"([\\*`|_<>\[\]])")


def path(name: str) -> Path:
    """Return where a page lies."""
    return FOLDER / f"{name}.{SECTIONS[name]}"


def page(name: str) -> str:
    """Return a page: its template with the generated parts, as roff."""
    template = (FOLDER / f"{name}.rst").read_text(encoding="utf-8")
    text = _PART.sub(lambda match: _GENERATORS[match[1]](), template.replace("VERSION", virtsnap.__version__))
    settings = {"halt_level": _WARNING, "output_encoding": "unicode"}
    roff = publish_string(text, writer="manpage", settings_overrides=settings)
    return str(roff).replace(".SH Name\n", ".SH NAME\n")  # as the other headings


def regenerate() -> None:
    """Write all pages."""
    for name in SECTIONS:
        path(name).write_text(page(name), encoding="utf-8")


def _plain(text: str) -> str:
    """Return a text in which nothing is markup."""
    return _MARKUP.sub(r"\\\1", text)


def _definitions(items: Iterable[tuple[str, str]]) -> str:
    """Return terms, which may have markup, with what plain text says on each."""
    return "".join(f"{term}\n{_indented(_plain(text))}\n" for term, text in items)


def _indented(text: str) -> str:
    return "".join(f"    {line}\n" if line else "\n" for line in text.splitlines())


def _global_options() -> str:
    return _definitions((_global_label(o.letter, o.name, o.value), o.summary) for o in OPTIONS)


def _global_label(letter: str, name: str, value: str) -> str:
    long = f"**--{name}**" + (f"\\ =\\ *{value}*" if value else "")
    return f"**-{letter}**, {long}" if letter else long


def _commands() -> str:
    groups = by_group(COMMANDS.values())
    return "\n".join(
        f"{GROUPS[group]}\n{'-' * len(GROUPS[group])}\n\n" + "\n".join(map(_command, members))
        for group, members in groups.items()
    )


def _command(command: Command) -> str:
    rest = synopsis(command).removeprefix(command.name)
    said = f"{_plain(command.description)}\n"
    if command.options:
        labels = ((f"**{_plain(label)}**", text) for label, text in option_lines(command))
        said += f"\n{_definitions(labels)}"
    return f"**{command.name}**\\ {_plain(rest)}\n{_indented(said)}"


def _daemon_options() -> str:
    return _definitions(
        (f"**{_plain(', '.join(a.option_strings))}**{_value(a)}", a.help or "") for a in _actions()
    )


def _daemon_synopsis() -> str:
    words = (f"[**{_plain(a.option_strings[-1])}**{_value(a)}]" for a in _actions())
    return f"**virtsnapd** {' '.join(words)}\n"


def _actions() -> list[argparse.Action]:
    return parser()._actions


def _value(action: argparse.Action) -> str:
    return f" *{action.metavar}*" if action.metavar else ""


def _daemon_settings() -> str:
    parts = []
    for table in msgspec.structs.fields(Config):
        hints = get_type_hints(table.type, include_extras=True)
        items = (
            (
                f"**{_plain(setting.name)}** = {_plain(msgspec.json.encode(setting.default).decode())}",
                description(hints[setting.name]),
            )
            for setting in msgspec.structs.fields(table.type)
        )
        title = f"[{table.name}]"
        parts.append(f"{title}\n{'-' * len(title)}\n\n{_definitions(items)}")
    return "\n".join(parts)


_GENERATORS: Final[dict[str, Callable[[], str]]] = {
    "global_options": _global_options,
    "commands": _commands,
    "daemon_synopsis": _daemon_synopsis,
    "daemon_options": _daemon_options,
    "daemon_settings": _daemon_settings,
}
