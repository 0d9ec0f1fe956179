from __future__ import annotations

from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.snapd.models.samples import record
from virtsnap_protocol.errors import SnapshotNotFound
from virtsnap_protocol.methods.snapshot import ListFlag
from virtsnapd.models.forest import Forest
from virtsnapd.models.listing import select
from virtsnapd.models.snapshot import Snapshot, SnapshotDisk

FOREST = Forest(
    [
        record("root", state="shutoff", memory="no"),
        record(
            "disks", "root", state="disk-snapshot", disks=(SnapshotDisk(name="vda", snapshot="external"),)
        ),
        record("saved", "disks", state="paused", memory="external", memory_file="/m"),
        record("crashed", "root", state="crashed"),
        record("lone"),
    ]
)


def listed(*flags: str, of: str | None = None) -> set[str]:
    return {snapshot.name for snapshot in select(FOREST, flags, of)}


EVERYTHING = {"root", "disks", "saved", "crashed", "lone"}


@pytest.mark.parametrize(
    ("flags", "names"),
    [
        ("", EVERYTHING),
        ("topological", EVERYTHING),
        ("roots", {"root", "lone"}),
        ("leaves", {"saved", "crashed", "lone"}),
        ("no-leaves", {"root", "disks"}),
        ("leaves no-leaves", EVERYTHING),
        ("metadata", EVERYTHING),
        ("no-metadata", set()),
        ("metadata no-metadata", EVERYTHING),
        ("inactive", {"root"}),
        ("disk-only", {"disks"}),
        ("active", {"saved", "crashed", "lone"}),
        ("active inactive", EVERYTHING - {"disks"}),
        ("active inactive disk-only", EVERYTHING),
        ("external", {"disks", "saved"}),
        ("internal", {"root", "crashed", "lone"}),
        ("internal external", EVERYTHING),
        ("leaves external active", {"saved"}),
        ("roots leaves", {"lone"}),
    ],
)
def test_flags_of_a_group_widen_and_groups_narrow(flags: str, names: set[str]) -> None:
    assert listed(*flags.split()) == names


@pytest.mark.parametrize(
    ("of", "flags", "names"),
    [
        ("root", "", {"disks", "crashed"}),
        ("root", "descendants", {"disks", "saved", "crashed"}),
        ("root", "roots", {"disks", "saved", "crashed"}),
        ("root", "descendants leaves", {"saved", "crashed"}),
        ("saved", "descendants", set()),
    ],
)
def test_a_listing_of_a_snapshot_shows_what_is_below_it(of: str, flags: str, names: set[str]) -> None:
    assert listed(*flags.split(), of=of) == names


def test_a_listing_of_a_missing_snapshot_is_refused() -> None:
    with pytest.raises(SnapshotNotFound):
        select(FOREST, [], "x")


states = st.sampled_from(["running", "paused", "shutoff", "crashed", "disk-snapshot"])
memories = st.sampled_from([("internal", None), ("external", "/m"), ("no", None)])


@st.composite
def forests(draw: st.DrawFn) -> Forest:
    snapshots: list[Snapshot] = []
    for number in range(draw(st.integers(0, 8))):
        above = draw(st.none() | st.integers(0, number - 1)) if number else None
        memory, file = draw(memories)
        snapshots.append(
            record(
                f"s{number}",
                None if above is None else f"s{above}",
                state=draw(states),
                memory=memory,
                memory_file=file,
            )
        )
    return Forest(snapshots)


def shows(found: Forest, snapshot: Snapshot, flags: set[str], of: str | None) -> bool:
    """Say whether a listing shows a snapshot, by the documentation's words."""
    bit = bool(flags & {"roots", "descendants"})
    if of is None:
        reached = not bit or snapshot.parent is None
    else:
        reached = found.is_ancestor(of, snapshot.name) if bit else snapshot.parent == of
    facts: list[set[str]] = [
        {"metadata"},
        {"leaves" if found.child_count(snapshot.name) == 0 else "no-leaves"},
        {{"shutoff": "inactive", "disk-snapshot": "disk-only"}.get(snapshot.state or "", "active")},
        {snapshot.location},
    ]
    groups = [
        {"metadata", "no-metadata"},
        {"leaves", "no-leaves"},
        {"inactive", "active", "disk-only"},
        {"internal", "external"},
    ]
    return reached and all(
        not flags & group or group <= flags or bool(flags & fact)
        for group, fact in zip(groups, facts, strict=True)
    )


@given(forests(), st.sets(st.sampled_from(get_args(ListFlag))), st.data())
def test_a_listing_agrees_with_the_documentation(found: Forest, flags: set[str], data: st.DataObject) -> None:
    everyone = [snapshot.name for snapshot in found]
    of = data.draw(st.none() | st.sampled_from(everyone)) if everyone else None
    listing = select(found, flags, of)
    assert {snapshot.name for snapshot in listing} == {
        snapshot.name for snapshot in found if shows(found, snapshot, flags, of)
    }
    places = {snapshot.name: place for place, snapshot in enumerate(listing)}
    assert all(places.get(snapshot.parent or "", -1) < place for place, snapshot in enumerate(listing))
