"""Group D: which snapshots a listing shows, by libvirt's integers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import pytest

from tests.support.snapshots import record, redefine

if TYPE_CHECKING:
    from tests.support.rpc import Rpc
    from virtsnap.domain import Domain

ROOTS = DESCENDANTS = 0x1
METADATA: Final = 0x2
LEAVES: Final = 0x4
NO_LEAVES: Final = 0x8
NO_METADATA: Final = 0x10
INACTIVE: Final = 0x20
ACTIVE: Final = 0x40
DISK_ONLY: Final = 0x80
INTERNAL: Final = 0x100
EXTERNAL: Final = 0x200
TOPOLOGICAL: Final = 0x400

OVERLAY: Final = "<disks><disk name='vda' snapshot='external'><source file='/overlay'/></disk></disks>"
MEMORY: Final = "<memory snapshot='external' file='/memory'/><disks><disk name='vda' snapshot='no'/></disks>"
RECORDS: Final = (
    ("off", None, "shutoff", ""),
    ("disks", "off", "disk-snapshot", OVERLAY),
    ("saved", "disks", "paused", MEMORY),
    ("crashed", "off", "crashed", ""),
    ("whole", "off", "running", "<memory snapshot='external' file='/memory'/>" + OVERLAY),
    ("lone", None, "running", ""),
)
"""Names, parents, states, and where the data is."""
EVERYTHING: Final = {name for name, *_ in RECORDS}


@pytest.fixture
async def forest(rpc: Rpc, vm: Domain, definition: str) -> Domain:
    """Record the snapshots and return their domain."""
    for name, parent, state, inner in RECORDS:
        await redefine(rpc, record(name, parent=parent, state=state, domain=definition, inner=inner))
    return vm


def proves(number: int, bits: int, names: set[str], name: str) -> object:
    return pytest.param(bits, names, marks=pytest.mark.checklist(number), id=name)


BOTH_LEAVES: Final = pytest.mark.checklist(93, ours="both flags together filter nothing, as documented")


@pytest.mark.parametrize(
    ("bits", "names"),
    [
        pytest.param(0, EVERYTHING, id="none"),
        proves(90, ROOTS, {"off", "lone"}, "ROOTS"),
        proves(92, LEAVES, {"saved", "crashed", "whole", "lone"}, "LEAVES"),
        proves(92, NO_LEAVES, {"off", "disks"}, "NO_LEAVES"),
        pytest.param(LEAVES | NO_LEAVES, EVERYTHING, marks=BOTH_LEAVES, id="LEAVES NO_LEAVES"),
        pytest.param(
            LEAVES | NO_LEAVES | ROOTS, {"off", "lone"}, marks=BOTH_LEAVES, id="LEAVES NO_LEAVES ROOTS"
        ),
        proves(94, METADATA, EVERYTHING, "METADATA"),
        proves(94, NO_METADATA, set(), "NO_METADATA"),
        proves(94, METADATA | NO_METADATA, EVERYTHING, "METADATA NO_METADATA"),
        proves(95, INACTIVE, {"off"}, "INACTIVE"),
        proves(95, ACTIVE, {"saved", "crashed", "whole", "lone"}, "ACTIVE"),
        proves(95, DISK_ONLY, {"disks"}, "DISK_ONLY"),
        proves(95, INACTIVE | DISK_ONLY, {"off", "disks"}, "INACTIVE DISK_ONLY"),
        proves(95, INACTIVE | ACTIVE, EVERYTHING - {"disks"}, "INACTIVE ACTIVE"),
        proves(95, INACTIVE | ACTIVE | DISK_ONLY, EVERYTHING, "INACTIVE ACTIVE DISK_ONLY"),
        proves(96, INTERNAL, {"off", "crashed", "lone"}, "INTERNAL"),
        proves(96, EXTERNAL, {"disks", "saved", "whole"}, "EXTERNAL"),
        proves(96, INTERNAL | EXTERNAL, EVERYTHING, "INTERNAL EXTERNAL"),
        proves(97, LEAVES | EXTERNAL | ACTIVE, {"saved", "whole"}, "LEAVES EXTERNAL ACTIVE"),
        proves(97, ROOTS | ACTIVE, {"lone"}, "ROOTS ACTIVE"),
        proves(97, NO_LEAVES | INTERNAL, {"off"}, "NO_LEAVES INTERNAL"),
        proves(97, METADATA | DISK_ONLY | EXTERNAL, {"disks"}, "METADATA DISK_ONLY EXTERNAL"),
        proves(97, LEAVES | NO_METADATA, set(), "LEAVES NO_METADATA"),
        proves(97, ROOTS | DISK_ONLY, set(), "ROOTS DISK_ONLY"),
        proves(98, TOPOLOGICAL, EVERYTHING, "TOPOLOGICAL"),
        proves(
            98, TOPOLOGICAL | LEAVES | ACTIVE, {"saved", "crashed", "whole", "lone"}, "TOPOLOGICAL ACTIVE"
        ),
    ],
)
async def test_a_listing_of_a_domain_shows_what_its_bits_say(
    forest: Domain, bits: int, names: set[str]
) -> None:
    listing = await forest.snapshots(flags=bits)
    assert {found.name for found in listing.snapshots} == names
    assert len(listing.snapshots) == listing.total == len(names)
    assert (await forest.count_snapshots(flags=bits)).count == len(names)


@pytest.mark.parametrize(
    ("of", "bits", "names"),
    [
        ("off", 0, {"disks", "crashed", "whole"}),
        ("off", DESCENDANTS, {"disks", "saved", "crashed", "whole"}),
        ("off", DESCENDANTS | LEAVES, {"saved", "crashed", "whole"}),
        ("off", DISK_ONLY, {"disks"}),
        ("disks", 0, {"saved"}),
        ("disks", DESCENDANTS, {"saved"}),
        ("saved", DESCENDANTS, set()),
        ("lone", 0, set()),
    ],
)
@pytest.mark.checklist(91)
async def test_a_listing_of_a_snapshot_shows_what_is_below_it(
    forest: Domain, of: str, bits: int, names: set[str]
) -> None:
    found = [snapshot.name for snapshot in (await forest.snapshots(of=of, flags=bits)).snapshots]
    assert (len(found), set(found)) == (len(names), names)


@pytest.mark.checklist(98)
@pytest.mark.parametrize("of", [None, "off"])
@pytest.mark.parametrize("bits", [TOPOLOGICAL, TOPOLOGICAL | METADATA])
async def test_no_child_is_listed_before_its_parent(forest: Domain, of: str | None, bits: int) -> None:
    deep = 0 if of is None else DESCENDANTS
    seen: set[str | None] = {None, of}
    for found in (await forest.snapshots(of=of, flags=bits | deep)).snapshots:
        assert found.parent in seen
        seen.add(found.name)
    assert len(seen) > 4


@pytest.mark.checklist(99)
@pytest.mark.parametrize("of", [None, "off"])
async def test_counts_agree_with_listings_for_every_combination_of_bits(
    forest: Domain, of: str | None
) -> None:
    differing = [
        bits
        for bits in range(2 * TOPOLOGICAL)
        if (await forest.count_snapshots(of=of, flags=bits)).count
        != len((await forest.snapshots(of=of, flags=bits)).snapshots)
    ]
    assert differing == []
