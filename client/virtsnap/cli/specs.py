"""The small languages of ``--memspec`` and ``--diskspec``."""

from __future__ import annotations

import re
from typing import Final

from virtsnap.cli.command import CommandFailed
from virtsnap.document import DiskSpec, MemorySpec

_DISK_KEYS: Final = ("snapshot", "driver", "stype", "file")


def items(text: str) -> list[str]:
    """Return the items of a comma-separated list in which ``,,`` stands for a comma."""
    found = [""]
    for piece in re.split(r"(,,|,)", text):
        if piece == ",":
            found.append("")
        else:
            found[-1] += "," if piece == ",," else piece
    return found


def memory_spec(text: str) -> MemorySpec:
    """Return what ``[file=]name[,snapshot=type]`` asks for; a bare item is a file when it begins with ``/``.

    Raises:
        CommandFailed: It is something else.
    """
    values = _values(items(text), ("file", "snapshot"), bare_file=True)
    if values is None:
        raise CommandFailed(f"unable to parse memspec: {text}")
    return MemorySpec(file=values.get("file"), snapshot=values.get("snapshot"))


def disk_spec(text: str) -> DiskSpec:
    """Return what ``disk[,snapshot=type][,driver=type][,stype=type][,file=name]`` asks for.

    Raises:
        CommandFailed: It is something else.
    """
    name, *rest = items(text)
    values = _values(rest, _DISK_KEYS)
    if values is None or not name:
        raise CommandFailed(f"unable to parse diskspec: {text}")
    storage = values.get("stype")
    if storage not in {None, "file", "block"}:
        raise CommandFailed(f"Unknown storage type: '{storage}'", f"unable to parse diskspec: {text}")
    return DiskSpec(
        name=name,
        snapshot=values.get("snapshot"),
        driver=values.get("driver"),
        storage=storage,
        source=values.get("file"),
    )


def _values(given: list[str], keys: tuple[str, ...], *, bare_file: bool = False) -> dict[str, str] | None:
    """Return the values by key, or None when a key is unknown or given twice."""
    values: dict[str, str] = {}
    for item in given:
        key, equals, value = item.partition("=")
        if bare_file and item.startswith("/"):
            key, equals, value = "file", "=", item
        if not equals or key not in keys or key in values:
            return None
        values[key] = value
    return values
