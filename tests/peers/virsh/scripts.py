"""Reads the scripts in tests/data/virsh: one file per subject, one command per line, a blank line between scripts.

Lines that begin with ``#`` are comments. The others that are no commands begin with ``%``:

- ``%option -q``: a global option.
- ``%words snapshot-list test``: instead of commands: one command, each word an argument of its own.
- ``%stdin``: the lines that follow are given on standard input.
- ``%editor sed -i s/a/b/``: the editor.
- ``%file s.xml <domainsnapshot>...``: a file. ``{domain}`` in it stands for the default domain's definition,
  ``{domain name=two memory=1 disks=/a,/b}`` for one that differs.
- ``%tree``, ``%forest``: commands that make snapshots, see below.
- ``%refused FLAGS``: `snapshot-create test s.xml FLAGS`, what that leaves, and the same once more.

``⏎`` stands for a line end within a command.
"""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Final

from tests.peers.virsh.documents import definition, record
from tests.peers.virsh.harness import Script

if TYPE_CHECKING:
    from collections.abc import Mapping

FOLDER: Final = Path(__file__).parents[2] / "data" / "virsh"

_TREE: Final = (
    "snapshot-create-as test A",
    "snapshot-create-as test b",
    "snapshot-current test --snapshotname A",
    "snapshot-create-as test C",
    "snapshot-create-as test d 'some words'",
)
"""A with the children b and C, d below C; d is current."""

_FOREST: Final = {
    "a.xml": record("a"),
    "b.xml": record("b", parent="a", state="shutoff"),
    "c.xml": record("c", parent="a", state="paused", rest="<description>of c</description>"),
    "d.xml": record(
        "d",
        parent="c",
        rest="<memory file='/m'/><disks><disk name='vda'><source file='/d'/></disk></disks>",
    ),
    "e.xml": record(
        "e", state="disk-snapshot", rest="<disks><disk name='vda'><source file='/e'/></disk></disks>"
    ),
    "f.xml": record("f", parent="e", state="crashed"),
}
"""A snapshot of every kind: a with b, and c with d below it; e with f. None is current."""


def read_scripts(folder: Path = FOLDER) -> Mapping[str, tuple[Script, ...]]:
    """Return the scripts by the name of their file."""
    return {
        path.stem: tuple(_script(part) for part in _parts(path.read_text(encoding="utf-8")))
        for path in sorted(folder.glob("*.txt"))
    }


def _parts(text: str) -> list[list[str]]:
    parts = (part.splitlines() for part in re.split(r"\n{2,}", text))
    told = ([line for line in part if not line.startswith("#")] for part in parts)
    return [part for part in told if part]


def _script(lines: list[str]) -> Script:
    commands: list[str] = []
    files: dict[str, str] = {}
    options: list[str] = []
    words, editor, typed = "", "false", False
    for line in lines:
        directive, _, rest = line.partition(" ")
        match directive:
            case "%option":
                options.append(rest)
            case "%words":
                words = rest
            case "%stdin":
                typed = True
            case "%editor":
                editor = rest
            case "%file":
                name, _, content = rest.partition(" ")
                files[name] = _content(content)
            case "%tree":
                commands += _TREE
            case "%forest":
                files |= _FOREST
                commands += (f"snapshot-create test {name} --redefine" for name in _FOREST)
            case "%refused":
                create = f"snapshot-create test s.xml {rest}".rstrip()
                commands += (create, "snapshot-list test --tree", "snapshot-current test --name", create)
            case _:
                commands.append(line.replace("⏎", "\n"))
    return Script(
        commands=() if typed else tuple(commands),
        words=tuple(shlex.split(words)),
        stdin="".join(f"{line}\n" for line in commands) if typed else "",
        options=tuple(options),
        files=tuple(files.items()),
        editor=editor,
    )


def _content(text: str) -> str:
    return re.sub(r"\{domain([^}]*)\}", lambda found: _definition(found[1].split()), text)


def _definition(changes: list[str]) -> str:
    given = dict(change.split("=", 1) for change in changes)
    memory, disks = int(given.pop("memory", 8388608)), given.pop("disks", "/guest/diskimage1")
    return definition(memory=memory, disks=tuple(disks.split(",")), **given)
