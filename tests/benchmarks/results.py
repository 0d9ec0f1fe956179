"""What was measured: pairs of figures, what they are to reach, and the table that shows them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

if TYPE_CHECKING:
    from collections.abc import Iterable

Unit = Literal["us", "ms", "s", "calls/s", "snapshots/s", "MiB", "KiB"]

_RATES: Final = frozenset({"calls/s", "snapshots/s"})


@dataclass(frozen=True, kw_only=True)
class Row:
    """One measurement of both daemons."""

    what: str
    unit: Unit
    ours: float
    theirs: float | None = None
    """None: libvirtd was not asked, or has nothing of the kind."""
    goal: float | None = None
    """Bound of ours/theirs, or of ours where `absolute`; for rates from below, for all else from above."""
    absolute: bool = False
    note: str = ""

    @property
    def ratio(self) -> float | None:
        return None if not self.theirs else self.ours / self.theirs

    @property
    def met(self) -> bool | None:
        """Whether the goal is reached; None when there is none, or nothing to compare with."""
        value = self.ours if self.absolute else self.ratio
        if self.goal is None or value is None:
            return None
        return value >= self.goal if self.unit in _RATES else value <= self.goal

    @property
    def target(self) -> str:
        if self.goal is None:
            return ""
        sign = ">=" if self.unit in _RATES else "<="
        return f"{sign} {self.goal:g} {self.unit}" if self.absolute else f"{sign} {self.goal:g} x"

    def cells(self) -> tuple[str, ...]:
        ratio = "" if self.ratio is None else f"{self.ratio:.2f} x"
        verdict = {None: "", True: "met", False: "NOT MET"}[self.met]
        theirs = "-" if self.theirs is None else _number(self.theirs)
        return (self.what, self.unit, _number(self.ours), theirs, ratio, self.target, verdict, self.note)


HEADER: Final = ("", "unit", "virtsnapd", "libvirtd", "ratio", "target", "", "")
_LEFT: Final = frozenset({0, 1, 6, 7})


def format_table(title: str, rows: Iterable[Row]) -> str:
    """Return the rows as text, columns aligned."""
    lines = [HEADER, *(row.cells() for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(HEADER))]
    text = [title]
    for line in lines:
        cells = (
            cell.ljust(width) if column in _LEFT else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        )
        text.append("  " + "  ".join(cells).rstrip())
    return "\n".join(text) + "\n"


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"


def percentile(values: Iterable[float], percent: float) -> float:
    """Return the value that `percent` per cent of all values do not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))]
