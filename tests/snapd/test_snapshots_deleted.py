"""Deleting snapshots and what is below them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.snapshots import grow
from virtsnapd.drivers.simulated.faults import Fault

if TYPE_CHECKING:
    from tests.support.daemon import Running
    from tests.support.rpc import Rpc


@pytest.mark.parametrize("metadata_only", [False, True], ids=["with data", "metadata only"])
@pytest.mark.parametrize(
    ("name", "flags", "deleted", "left", "current"),
    [
        ("s2", [], ["s2"], {"s1": None, "s3": "s1", "s4": "s1"}, "s4"),
        ("s1", [], ["s1"], {"s2": None, "s3": "s2", "s4": None}, "s4"),
        ("s4", [], ["s4"], {"s1": None, "s2": "s1", "s3": "s2"}, "s1"),
        ("s2", ["children"], ["s3", "s2"], {"s1": None, "s4": "s1"}, "s4"),
        ("s1", ["children-only"], ["s2", "s3", "s4"], {"s1": None}, "s1"),
        ("s1", ["children"], ["s1", "s2", "s3", "s4"], {}, None),
    ],
)
async def test_deleting_leaves_the_right_tree(
    running: Running,
    rpc: Rpc,
    name: str,
    flags: list[str],
    deleted: list[str],
    left: dict[str, str | None],
    current: str | None,
    metadata_only: bool,
) -> None:
    await grow(rpc)
    more = ["metadata-only"] if metadata_only else []
    gone = await rpc.call("snapshot.delete", domain="test", snapshot=name, flags=flags + more)
    assert sorted(gone["deleted"]) == sorted(deleted)
    assert await rpc.tree() == left
    assert await rpc.current() == current
    saved = set(running.driver.contents(running.domain()).saved)
    assert saved == ({"s1", "s2", "s3", "s4"} if metadata_only else set(left))


async def test_children_are_deleted_before_their_parents(rpc: Rpc) -> None:
    await grow(rpc)
    gone = (await rpc.call("snapshot.delete", domain="test", snapshot="s1", flags=["children"]))["deleted"]
    assert gone.index("s3") < gone.index("s2") < gone.index("s1")


async def test_a_snapshot_that_cannot_be_deleted_keeps_all_above_it(running: Running, rpc: Rpc) -> None:
    await grow(rpc)
    running.driver.faults.inject("discard", Fault())
    running.driver.faults.inject("discard", Fault(error="in use"))
    error = await rpc.refusal("snapshot.delete", domain="test", snapshot="s1", flags=["children"])
    assert error.cause == "in use"
    tree = await rpc.tree()
    assert len(tree) == 3
    assert {parent for parent in tree.values() if parent} <= set(tree)
    assert running.store.load().operations == []


async def test_deleting_metadata_asks_nothing_of_the_hypervisor(running: Running, rpc: Rpc) -> None:
    await rpc.take("s1")
    running.driver.faults.inject("discard", Fault(error="touched"))
    await rpc.call("snapshot.delete", domain="test", snapshot="s1", flags=["metadata-only"])
    assert await rpc.tree() == {}


async def test_what_is_not_there_cannot_be_deleted_or_reverted_to(running: Running, rpc: Rpc) -> None:
    await grow(rpc)
    with running.nothing_changes():
        for method in ("snapshot.delete", "snapshot.revert"):
            error = await rpc.refusal(method, domain="test", snapshot="nobody")
            assert (error.code, error.domain, error.snapshot) == (72, "test", "nobody")
