"""Text from plain values: virsh's tables, trees, fields and error lines."""

from __future__ import annotations

import time
import unicodedata
from typing import TYPE_CHECKING, Final

from virtsnap_protocol.errors import ConnectionLost, DeadlineExceeded

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from virtsnap_protocol.errors import Error
    from virtsnap_protocol.methods.domain import DomainState

STATES: Final[Mapping[DomainState, str]] = {
    "nostate": "no state",
    "running": "running",
    "blocked": "idle",
    "paused": "paused",
    "shutdown": "in shutdown",
    "shutoff": "shut off",
    "crashed": "crashed",
    "pmsuspended": "pmsuspended",
}
"""virsh's words for a domain's states."""


def table(header: Sequence[str], rows: Sequence[Sequence[str]], *, bare: bool = False) -> str:
    """Return virsh's table; a `bare` one has neither header nor rule."""
    lines = [[_printable(cell) for cell in row] for row in (rows if bare else [header, *rows])]
    if not lines:
        return ""
    widths = [max(map(_width, column)) for column in zip(*lines, strict=True)]
    drawn = [_row(line, widths) for line in lines]
    if not bare:
        drawn.insert(1, "-" * sum(width + 3 for width in widths))
    return "".join(f"{line}\n" for line in drawn)


def _row(cells: Sequence[str], widths: Sequence[int]) -> str:
    padded = [
        f" {cell}{' ' * (width - _width(cell) + 2)}"
        for cell, width in zip(cells[:-1], widths[:-1], strict=True)
    ]
    return "".join(padded) + f" {cells[-1]}"


def _printable(text: str) -> str:
    """Return the text with what a terminal might obey spelled out (as vsh-table.c does)."""
    return "".join(
        c if c.isprintable() else "".join(f"\\x{b:02x}" for b in c.encode("utf-8", "surrogateescape"))
        for c in text
    )


def _width(text: str) -> int:
    """Return how many columns a terminal gives to a text."""
    return sum(
        0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text
    )


def tree(parents: Mapping[str, str | None]) -> str:
    """Return virsh's drawing of a forest: names with their parents, in the order to draw them."""
    children: dict[str | None, list[str]] = {}
    for name, parent in parents.items():
        children.setdefault(parent if parent in parents else None, []).append(name)
    lines: list[str] = []
    # (name, indentation, marker, is the last of its siblings); a stack, for hierarchies deeper than Python's.
    waiting = [(root, "", "", True) for root in reversed(children.get(None, []))]
    while waiting:
        name, indent, marker, last = waiting.pop()
        lines.append(f"{indent}{marker}{name}")
        below = children.get(name, [])
        inner = indent if not marker else indent + ("  " if last else "| ")
        if below:
            lines.append(f"{inner}  |")
            waiting += [(child, f"{inner}  ", "+- ", child is below[-1]) for child in reversed(below)]
        elif last:
            lines.append(inner)
    return "".join(f"{line}\n" for line in lines)


def fields(values: Mapping[str, str]) -> str:
    """Return labelled values, one per line, as `snapshot-info` and `dominfo` show them."""
    return "".join(f"{label + ':':<15} {value}\n" for label, value in values.items())


def local_time(seconds: int) -> str:
    """Return a moment in local time, as `snapshot-list` shows it."""
    return time.strftime("%Y-%m-%d %H:%M:%S %z", time.localtime(seconds))


def error_lines(error: Error) -> list[str]:
    """Return what to show of an error: its message, every problem, its cause and what to do about it."""
    lines = [f"error: {error}"]
    lines += _problem_lines(error)
    if error.cause and error.cause not in str(error):
        lines.append(f"  {error.cause}")
    if isinstance(error, ConnectionLost | DeadlineExceeded) and error.maybe_applied:
        lines.append("  the request had been sent: whether it was applied is unknown")
    if error.remedy:
        lines.append(f"hint: {error.remedy}")
    return lines


def _problem_lines(error: Error) -> list[str]:
    """Return a line for each problem; of the only one just its place when the message says the rest.

    Where the message lists them all, each on a line of its own with its number, nothing is left to say.
    """
    if len(error.problems) > 1 and all(
        f": {problem.message}\n" in f"{error}\n" for problem in error.problems
    ):
        return []
    if len(error.problems) == 1 and str(error).endswith(error.problems[0].message):
        path = error.problems[0].path
        return [] if path in str(error) else [f"  at {path}"]
    return [f"  {problem.path}: {problem.message}" for problem in error.problems]
