from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.snapd.models.samples import record
from virtsnapd.hierarchies import Hierarchy
from virtsnapd.models.forest import Change
from virtsnapd.store import HierarchyRow, Store, Transaction

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from virtsnapd.models.snapshot import Snapshot


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    store = Store.open(tmp_path / "store.sqlite")
    store.load()
    store.start(lambda _events: None)
    yield store
    await store.aclose()


def empty() -> Hierarchy:
    return Hierarchy(HierarchyRow(key=1, driver="test", uuid="u", current=None, generation=0))


async def recorded(store: Store, hierarchy: Hierarchy, change: Change) -> int:
    transaction = Transaction()
    generation = hierarchy.record(transaction, change)
    await store.commit(transaction)
    return generation


async def put(store: Store, hierarchy: Hierarchy, *snapshots: Snapshot, current: str | None = None) -> int:
    return await recorded(
        store, hierarchy, Change(put=snapshots, current=current, moves_current=current is not None)
    )


def reloaded(store: Store) -> Hierarchy:
    ((head, snapshots),) = store.load().hierarchies
    return Hierarchy(head, snapshots)


async def test_memory_changes_only_when_the_change_is_durable(store: Store) -> None:
    hierarchy, transaction = empty(), Transaction()
    hierarchy.record(transaction, Change(put=(record("s1"),)))
    assert (len(hierarchy.forest), hierarchy.generation) == (0, 0)
    await store.commit(transaction)
    assert (len(hierarchy.forest), hierarchy.generation) == (1, 1)


async def test_every_change_raises_the_generation_by_one(store: Store) -> None:
    hierarchy = empty()
    generations = [
        await put(store, hierarchy, record("s1")),
        await put(store, hierarchy, record("s2", "s1"), record("s3", "s2"), current="s3"),
        await recorded(store, hierarchy, hierarchy.forest.removal("s2")),
    ]
    assert generations == [1, 2, 3]
    assert reloaded(store).generation == 3


async def test_the_digest_follows_every_change_and_comes_back_with_the_hierarchy(store: Store) -> None:
    hierarchy = empty()
    digests = [hierarchy.digest]
    await put(store, hierarchy, record("s1"), record("s2", "s1"), current="s2")
    digests.append(hierarchy.digest)
    assert reloaded(store).digest == hierarchy.digest
    await put(store, hierarchy, current="s1")
    digests.append(hierarchy.digest)
    await recorded(store, hierarchy, hierarchy.forest.removal("s2"))
    digests.append(hierarchy.digest)
    assert len(set(digests)) == 4
    assert reloaded(store).digest == hierarchy.digest


async def test_removing_a_snapshot_stores_the_new_parents_of_its_children(store: Store) -> None:
    hierarchy = empty()
    await put(store, hierarchy, record("s1"), record("s2", "s1"), record("s3", "s2"), current="s2")
    await recorded(store, hierarchy, hierarchy.forest.removal("s2"))
    again = reloaded(store).forest
    assert {snapshot.name: snapshot.parent for snapshot in again} == {"s1": None, "s3": "s1"}
    assert again.current == "s1"


async def test_a_forgotten_hierarchy_leaves_nothing_in_the_store(store: Store) -> None:
    hierarchy, transaction = empty(), Transaction()
    await put(store, hierarchy, record("s1"), record("s2", "s1"), current="s2")
    digest = hierarchy.digest
    hierarchy.forget(transaction)
    assert len(hierarchy.forest) == 2
    await store.commit(transaction)
    assert (len(hierarchy.forest), hierarchy.generation) == (0, 2)
    assert hierarchy.digest != digest
    assert store.load().hierarchies == []
    (count,) = store._connection.execute("SELECT count(*) FROM snapshots").fetchone()
    assert count == 0


async def test_ten_thousand_snapshots_are_one_change(store: Store) -> None:
    hierarchy = empty()
    chain = [record(f"s{n}", f"s{n - 1}" if n else None) for n in range(10_000)]
    assert await put(store, hierarchy, *chain, current="s9999") == 1
    assert reloaded(store).digest == hierarchy.digest
