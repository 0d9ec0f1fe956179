"""Which snapshots a listing shows: libvirt's filters, with both leaf flags meaning no filter."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Final

from virtsnapd.models.forest import Forest
from virtsnapd.models.snapshot import Snapshot

Test = Callable[[Forest, Snapshot], bool]

_GROUPS: Final[tuple[dict[str, Test], ...]] = (
    {"metadata": lambda _, __: True, "no-metadata": lambda _, __: False},
    {
        "leaves": lambda forest, snapshot: forest.child_count(snapshot.name) == 0,
        "no-leaves": lambda forest, snapshot: forest.child_count(snapshot.name) > 0,
    },
    {
        "inactive": lambda _, snapshot: snapshot.state == "shutoff",
        "active": lambda _, snapshot: snapshot.state not in {"shutoff", "disk-snapshot"},
        "disk-only": lambda _, snapshot: snapshot.state == "disk-snapshot",
    },
    {
        "internal": lambda _, snapshot: snapshot.location == "internal",
        "external": lambda _, snapshot: snapshot.location == "external",
    },
)
"""Flags of one group widen, groups narrow; a group of which nothing or everything is given does not filter.

Every tracked snapshot has metadata here; drivers of hypervisors that keep their own trees answer for theirs.
"""


def select(forest: Forest, flags: Collection[str], of: str | None = None) -> list[Snapshot]:
    """Return the snapshots that a listing with libvirt's list flags shows, parents before their children.

    Without `of` all of the domain's (``roots``: those without a parent), else the children of that snapshot
    (``descendants``: everything below it). libvirt has one bit for both words, so either is taken in both
    places.

    Raises: SnapshotNotFound.
    """
    tests = [
        [test for flag, test in group.items() if flag in flags]
        for group in _GROUPS
        if not flags_cover(group, flags)
    ]
    found = _start(forest, flags, of)
    for group in tests:
        found = [snapshot for snapshot in found if any(test(forest, snapshot) for test in group)]
    return found


def count(forest: Forest, flags: Collection[str], of: str | None = None) -> int:
    """Return how many snapshots `select` returns; of a whole domain without a filter it is known.

    Raises: SnapshotNotFound.
    """
    return len(select(forest, flags, of)) if flags or of is not None else len(forest)


def flags_cover(group: Collection[str], flags: Collection[str]) -> bool:
    """Return whether a group filters nothing: none of its flags is given, or all are."""
    given = sum(flag in flags for flag in group)
    return given in {0, len(group)}


def _start(forest: Forest, flags: Collection[str], of: str | None) -> list[Snapshot]:
    deep_bit = "roots" in flags or "descendants" in flags
    if of is not None:
        return forest.descendants(of) if deep_bit else forest.children(of)
    return forest.roots() if deep_bit else list(forest)
