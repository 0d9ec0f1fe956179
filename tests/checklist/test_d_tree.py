"""Group D: parents, the current snapshot, and what deleting does to both."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, NamedTuple

import pytest

from tests.checklist.refusals import not_found, raised, refusal
from tests.support.snapshots import document, grow, record, redefine

if TYPE_CHECKING:
    from tests.support.daemon import Running
    from tests.support.rpc import Rpc
    from virtsnap.domain import Domain

Tree = dict[str, str | None]

BUSHY: Final[Tree] = {
    "top": None,
    "mid": "top",
    "left": "mid",
    "left1": "left",
    "left2": "left",
    "deep": "left2",
    "right": "mid",
    "right1": "right",
    "right2": "right",
    "lone": None,
    "under": "lone",
}
"""Two roots; every snapshot with children has siblings with children of their own somewhere."""


async def plant(rpc: Rpc, definition: str, tree: Tree, current: str | None) -> None:
    """Record this tree, with this current snapshot."""
    for name, parent in tree.items():
        xml = record(name, parent=parent, domain=definition)
        await redefine(rpc, xml, *(["current"] if name == current else []))


async def documented_tree(rpc: Rpc) -> Tree:
    """Return the parents as the snapshots' documents have them."""
    found: Tree = {}
    for name in await rpc.tree():
        parent = re.search(r"<parent>\s*<name>(.*)</name>\s*</parent>", await document(rpc, name))
        found[name] = parent[1] if parent else None
    return found


def without(*names: str, **moved: str | None) -> Tree:
    """Return the tree without these snapshots, and with others under another parent."""
    return {name: moved.get(name, parent) for name, parent in BUSHY.items() if name not in names}


LEFT: Final = ("left", "left1", "left2", "deep")
RIGHT: Final = ("right", "right1", "right2")


class Deletion(NamedTuple):
    """A delete in the bushy tree, and what it leaves."""

    name: str
    flags: list[str]
    before: str | None
    """The current snapshot."""
    left: Tree
    after: str | None
    """The current snapshot then."""


def proves(
    number: int, top: str, flags: list[str], before: str | None, left: Tree, after: str | None, *, name: str
) -> object:
    deletion = Deletion(top, flags, before, left, after)
    return pytest.param(deletion, marks=pytest.mark.checklist(number), id=name)


@pytest.mark.parametrize("metadata", [[], ["metadata-only"]], ids=["data", "metadata"])
@pytest.mark.parametrize(
    "deletion",
    [
        proves(101, "mid", [], "under", without("mid", left="top", right="top"), "under", name="middle"),
        proves(
            101, "left2", [], "deep", without("left2", deep="left"), "deep", name="middle above the current"
        ),
        proves(102, "lone", [], "top", without("lone", under=None), "top", name="root with a child"),
        proves(102, "top", [], None, without("top", mid=None), None, name="root, none current"),
        proves(103, "left2", [], "left2", without("left2", deep="left"), "left", name="current"),
        proves(103, "deep", [], "deep", without("deep"), "left2", name="current leaf"),
        proves(103, "lone", [], "lone", without("lone", under=None), None, name="current root"),
        proves(104, "left1", [], "left2", without("left1"), "left2", name="sibling of the current"),
        proves(104, "under", [], "lone", without("under"), "lone", name="child of the current"),
        proves(104, "right", [], None, without("right", right1="mid", right2="mid"), None, name="no current"),
        proves(105, "left", ["children-only"], "deep", without(*LEFT[1:]), "left", name="current below"),
        proves(105, "left", ["children-only"], "left", without(*LEFT[1:]), "left", name="current itself"),
        proves(105, "left", ["children-only"], "top", without(*LEFT[1:]), "top", name="current elsewhere"),
        proves(105, "left1", ["children-only"], "left1", BUSHY, "left1", name="nothing below"),
        proves(106, "left", ["children"], "deep", without(*LEFT), "mid", name="with children, current below"),
        proves(106, "left", ["children"], "left", without(*LEFT), "mid", name="with children, current"),
        proves(106, "lone", ["children"], "under", without("lone", "under"), None, name="root with children"),
        proves(
            107,
            "mid",
            ["children"],
            "lone",
            without("mid", *LEFT, *RIGHT),
            "lone",
            name="branching siblings",
        ),
        proves(
            107,
            "mid",
            ["children-only"],
            "right2",
            without(*LEFT, *RIGHT),
            "mid",
            name="only branching children",
        ),
    ],
)
async def test_a_delete_leaves_the_tree_and_the_current_marker_that_libvirt_leaves(
    running: Running, rpc: Rpc, definition: str, deletion: Deletion, metadata: list[str]
) -> None:
    left = deletion.left
    await plant(rpc, definition, BUSHY, deletion.before)
    gone = await rpc.call(
        "snapshot.delete", domain="test", snapshot=deletion.name, flags=[*deletion.flags, *metadata]
    )
    assert sorted(gone["deleted"]) == sorted(BUSHY.keys() - left.keys())
    assert await rpc.tree() == await documented_tree(rpc) == left
    assert await rpc.current() == deletion.after
    assert {row.name for _, rows in running.store.load().hierarchies for row in rows} == left.keys()


@pytest.mark.checklist(102)
async def test_deleting_a_root_with_two_children_makes_two_roots(rpc: Rpc) -> None:
    await grow(rpc)
    await rpc.call("snapshot.delete", domain="test", snapshot="s1")
    assert await rpc.tree() == {"s2": None, "s3": "s2", "s4": None}
    for name in ("s2", "s4"):
        assert "<parent>" not in await document(rpc, name)


@pytest.mark.checklist(109)
@pytest.mark.parametrize("name", ["S1", "s", "s1 ", " s1", "s11", "1"])
async def test_a_name_is_looked_up_exactly(running: Running, rpc: Rpc, vm: Domain, name: str) -> None:
    for taken in ("s1", "\u00e9"):
        await rpc.take(taken)
    missing = not_found(f"no domain snapshot with matching name '{name}'")
    handle = vm.snapshot(name)
    with running.nothing_changes():
        for call in (handle.info, handle.xml, handle.parent, handle.revert, handle.delete):
            assert await raised(call) == missing
        decomposed = await refusal(rpc, "snapshot.get", domain="test", snapshot="e\u0301")
    assert decomposed == not_found("no domain snapshot with matching name 'e\u0301'")
    await rpc.take("S1")
    assert await rpc.tree() == {"s1": None, "\u00e9": "s1", "S1": "\u00e9"}


# --- what is kept of a snapshot, by whom ---


@pytest.mark.checklist(110)
async def test_snapshots_of_the_simulated_driver_have_metadata(rpc: Rpc) -> None:
    assert (await rpc.take("forgotten", "no-metadata"))["snapshot"]["has_metadata"] is False
    await rpc.take("s1")
    assert await metadata_of(rpc, "test") == {"s1": True}


@pytest.mark.checklist(110)
async def test_snapshots_of_qemu_have_metadata(qemu_rpc: Rpc) -> None:
    forgotten = await qemu_rpc.take("forgotten", "no-metadata", domain="tick")
    assert forgotten["snapshot"]["has_metadata"] is False
    await qemu_rpc.take("s1", domain="tick")
    assert await metadata_of(qemu_rpc, "tick") == {"s1": True}


async def metadata_of(rpc: Rpc, domain: str) -> dict[str, bool]:
    listing = await rpc.call("snapshot.list", domain=domain)
    found = {snapshot["name"]: snapshot["has_metadata"] for snapshot in listing["snapshots"]}
    for name, has in found.items():
        one = await rpc.call("snapshot.get", domain=domain, snapshot=name)
        assert one["snapshot"]["has_metadata"] == has
    return found
