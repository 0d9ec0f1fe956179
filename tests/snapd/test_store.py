from __future__ import annotations

import sqlite3
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import msgspec
import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from tests.snapd.models.samples import record
from virtsnap_protocol.errors import StorageError
from virtsnap_protocol.methods.event import Event
from virtsnapd.store import (
    DefinitionRow,
    DomainRow,
    HierarchyRow,
    Loaded,
    OperationRow,
    SaveOperationRow,
    SaveTarget,
    Store,
    Transaction,
)
from virtsnapd.store.schema import MIGRATIONS, VERSION
from virtsnapd.store.store import PRUNE_EVERY

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence
    from pathlib import Path

UUID: Final = "6695eb01-f6a4-8304-79aa-97f2502e193f"


def event(name: str = "web") -> Event:
    return Event(
        epoch="", seq=0, time=1, kind="snapshot.created", uri="test:///default", domain=name, uuid=UUID
    )


def definition(xml: str = "<domain/>") -> DefinitionRow:
    return DefinitionRow(xml=xml, os_type="hvm", vcpus=1, max_memory=2048, memory=1024)


def domain_row(name: str = "web", uuid: str = UUID) -> DomainRow:
    return DomainRow(
        driver="test", uuid=uuid, name=name, definition="d1", live=None, id=None, state="shutoff",
        reason="unknown", runtime=None, attention=None,
    )  # fmt: skip


def head(*, key: int = 1, current: str | None = None, uuid: str = UUID) -> HierarchyRow:
    return HierarchyRow(key=key, driver="test", uuid=uuid, current=current, generation=1)


def domain(name: str = "web", uuid: str = UUID) -> Transaction:
    change = Transaction()
    change.put_definition("d1", definition())
    change.put_domain(domain_row(name, uuid))
    change.event(event(name))
    return change


def snapshot(name: str, parent: str | None = None, *, key: int = 1) -> Transaction:
    change = Transaction()
    change.put_hierarchy(head(key=key, uuid=f"uuid {key}"))
    change.put_snapshots(key, [record(name, parent)])
    change.event(event(name))
    return change


@dataclass
class Opened:
    store: Store
    loaded: Loaded
    published: list[Event] = field(default_factory=list)
    statements: list[str] = field(default_factory=list)

    @property
    def flushes(self) -> int:
        return self.statements.count("COMMIT")

    def start(self) -> None:
        def publish(events: Sequence[Event]) -> None:
            self.published.extend(events)

        self.store._connection.set_trace_callback(self.statements.append)
        self.store.start(publish)

    async def commit(self, transaction: Transaction) -> StorageError | None:
        """Return why the change was refused."""
        try:
            await self.store.commit(transaction)
        except StorageError as error:
            return error
        return None

    async def commit_together(self, *transactions: Transaction) -> list[StorageError | None]:
        """Hand in changes before the writer looks at the queue."""
        outcomes: dict[int, StorageError | None] = {}

        async def commit(number: int, transaction: Transaction) -> None:
            outcomes[number] = await self.commit(transaction)

        async with trio.open_nursery() as nursery:
            for number, transaction in enumerate(transactions):
                nursery.start_soon(commit, number, transaction)
                await wait_all_tasks_blocked()  # trio starts tasks in no particular order
            self.start()
        return [outcomes[number] for number in range(len(transactions))]


@asynccontextmanager
async def opened(path: Path, *, events_kept: int = 1000, start: bool = True) -> AsyncIterator[Opened]:
    store = Store.open(path, events_kept=events_kept)
    try:
        found = Opened(store, store.load())
        if start:
            found.start()
        yield found
    finally:
        await store.aclose()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "store.sqlite"


def files(folder: Path) -> dict[str, bytes]:
    return {found.name: found.read_bytes() for found in folder.iterdir()}


async def test_what_was_committed_is_loaded_again(path: Path) -> None:
    operation = OperationRow(
        driver="test", uuid=UUID, verb="revert", snapshot=record("s1"), final="paused", started=5
    )
    everything = domain()
    everything.put_hierarchy(head(current="s2"))
    everything.put_snapshots(1, [record("s1"), record("s2", "s1", domain="d1")])
    everything.put_operation(operation)
    async with opened(path) as first:
        await first.store.commit(everything)
    async with opened(path) as second:
        loaded = second.loaded
    assert loaded.domains == [domain_row()]
    assert loaded.hierarchies == [(head(current="s2"), [record("s1"), record("s2", "s1", domain="d1")])]
    assert loaded.operations == [operation]
    assert loaded.definitions == {"d1": definition()}
    assert loaded.events == first.published
    assert loaded.epoch == first.loaded.epoch


async def test_the_note_of_a_save_is_loaded_again(path: Path) -> None:
    target = SaveTarget(path="/saved", temporary="/.saved", identity="i1", managed=False)
    note = SaveOperationRow(driver="test", uuid=UUID, verb="save", target=target, final="paused", started=1)
    change = domain()
    change.put_operation(note)
    async with opened(path) as first:
        await first.store.commit(change)
    async with opened(path) as second:
        assert second.loaded.operations == [note]


def test_a_store_of_an_older_version_keeps_what_is_in_it(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(f"{MIGRATIONS[0]} PRAGMA user_version = 1;")
        connection.execute("INSERT INTO definitions VALUES ('d1', '<domain/>', 'hvm', 1, 2048, 1024)")
        values = ("test", UUID, "web", "d1", None, None, "shutoff", "unknown", None, None)
        connection.execute("INSERT INTO domains VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", values)
        note = ("test", UUID, "take", msgspec.msgpack.encode(record("s1")), "nostate", 1)
        connection.execute("INSERT INTO operations VALUES (?, ?, ?, ?, ?, ?)", note)
        connection.commit()
    with closing(Store.open(path)) as store:
        loaded = store.load()
    assert loaded.domains == [domain_row()]
    assert [(o.verb, o.snapshot) for o in loaded.operations if isinstance(o, OperationRow)] == [
        ("take", record("s1"))
    ]


async def test_changes_that_wait_together_are_flushed_together(path: Path) -> None:
    async with opened(path, start=False) as store:
        outcomes = await store.commit_together(*(snapshot("s", key=key) for key in range(1, 51)))
    assert outcomes == [None] * 50
    assert store.flushes == 1


async def test_a_change_that_comes_alone_is_flushed_at_once(path: Path) -> None:
    async with opened(path) as store:
        await store.store.commit(snapshot("a"))
        assert store.flushes == 1
        await store.store.commit(snapshot("b"))
        assert store.flushes == 2


async def test_a_bad_change_harms_no_other_one_of_its_batch(path: Path) -> None:
    same_name = domain("web", "another uuid")
    async with opened(path, start=False) as store:
        outcomes = await store.commit_together(domain(), same_name, snapshot("s"))
        assert [outcome is None for outcome in outcomes] == [True, False, True]
        assert [found.domain for found in store.published] == ["web", "s"]
    async with opened(path) as again:
        assert again.loaded.domains == [domain_row()]
        assert [found.domain for found in again.loaded.events] == ["web", "s"]


async def test_a_change_that_breaks_a_rule_checked_at_the_end_harms_no_other_one(path: Path) -> None:
    async with opened(path, start=False) as store:
        outcomes = await store.commit_together(
            snapshot("a", key=1), snapshot("orphan", "nobody", key=2), snapshot("c", key=3)
        )
        assert [outcome is None for outcome in outcomes] == [True, False, True]
        assert [found.domain for found in store.published] == ["a", "c"]
    async with opened(path) as again:
        assert [[s.name for s in found] for _, found in again.loaded.hierarchies] == [["a"], ["c"]]
        assert [found.domain for found in again.loaded.events] == ["a", "c"]


async def test_a_value_that_cannot_be_written_leaves_the_writer_alive(path: Path) -> None:
    unwritable = snapshot("s")
    unwritable.put_hierarchy(head(key=2**70))
    async with opened(path) as store:
        with trio.fail_after(10):
            assert await store.commit(unwritable) is not None
            assert await store.commit(snapshot("s")) is None


async def test_memory_follows_only_a_durable_change(path: Path) -> None:
    seen: list[str] = []
    good, bad = snapshot("s"), snapshot("orphan", "nobody")
    good.on_durable(lambda: seen.append("good"))
    bad.on_durable(lambda: seen.append("bad"))
    async with opened(path) as store:
        await store.commit(good)
        await store.commit(bad)
    assert seen == ["good"]


async def test_the_committer_goes_on_after_memory_and_subscribers_know(path: Path) -> None:
    order: list[str] = []
    change = snapshot("s")
    change.on_durable(lambda: order.append("memory"))
    store = Store.open(path)
    store.load()
    store.start(lambda _events: order.append("subscribers"))
    await store.commit(change)
    order.append("committer")
    await store.aclose()
    assert order == ["memory", "subscribers", "committer"]


async def test_a_commit_is_not_cancelled_half_way(path: Path) -> None:
    async with opened(path, start=False) as store:
        with trio.CancelScope() as scope:
            scope.cancel()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(store.store.commit, snapshot("s"))
                store.start()
    assert [found.domain for found in store.published] == ["s"]


async def test_positions_of_events_are_never_used_twice(path: Path) -> None:
    async with opened(path) as store:
        for name in "abc":
            await store.store.commit(snapshot(name))
    with sqlite3.connect(path) as connection:
        connection.execute("DELETE FROM events")
    connection.close()
    async with opened(path) as again:
        assert again.loaded.seq == 3
        assert again.loaded.events == []
        (found,) = await again.store.commit(snapshot("d"))
        assert found.seq == 4


async def test_a_refused_change_announces_nothing(path: Path) -> None:
    async with opened(path) as store:
        assert await store.commit(snapshot("orphan", "nobody")) is not None
        assert store.published == []
    async with opened(path) as again:
        assert again.loaded.events == []


@pytest.mark.parametrize("per_change", [1, 2, 3])
async def test_events_that_nobody_can_ask_for_are_forgotten(path: Path, per_change: int) -> None:
    kept = 10
    async with opened(path, events_kept=kept) as store:
        await store.store.commit(snapshot("first"))  # so that pairs of events end at odd positions
        for _ in range(2 * PRUNE_EVERY // per_change):
            change = snapshot("s")
            for _ in range(per_change - 1):
                change.event(event())
            await store.store.commit(change)
        (count,) = store.store._connection.execute("SELECT count(*) FROM events").fetchone()
    assert kept <= count < kept + PRUNE_EVERY + per_change
    async with opened(path, events_kept=kept) as again:
        assert [found.seq for found in again.loaded.events] == [
            found.seq for found in store.published[-kept:]
        ]


async def test_a_full_disk_refuses_and_loses_nothing(path: Path) -> None:
    seen: list[str] = []
    async with opened(path) as store:
        await store.store.commit(domain())
        (pages,) = store.store._connection.execute("PRAGMA page_count").fetchone()
        store.store._connection.execute(f"PRAGMA max_page_count = {pages}")
        big = snapshot("big")
        big.put_definition("d2", definition("x" * 1_000_000))
        big.on_durable(lambda: seen.append("big"))
        error = await store.commit(big)
        assert error is not None
        assert "full" in str(error)
        assert error.cause == "SQLITE_FULL"
        assert [found.domain for found in store.published] == ["web"]
        assert seen == []

        store.store._connection.execute("PRAGMA max_page_count = 100000")
        assert await store.commit(snapshot("after")) is None
        assert [found.seq for found in store.published] == [1, 2]
    async with opened(path) as again:
        assert again.loaded.definitions == {"d1": definition()}
        assert [[s.name for s in found] for _, found in again.loaded.hierarchies] == [["after"]]


async def test_a_full_disk_fails_every_change_of_the_batch(path: Path) -> None:
    async with opened(path, start=False) as store:
        (pages,) = store.store._connection.execute("PRAGMA page_count").fetchone()
        store.store._connection.execute(f"PRAGMA max_page_count = {pages}")
        big = snapshot("big", key=2)
        big.put_definition("d2", definition("x" * 1_000_000))
        outcomes = await store.commit_together(snapshot("a", key=1), big, snapshot("c", key=3))
        assert [outcome is None for outcome in outcomes] == [False, False, False]
        assert store.published == []


def with_version(path: Path, version: int) -> None:
    Store.open(path).close()
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA journal_mode = DELETE")
    connection.execute(f"PRAGMA user_version = {version}")
    connection.close()


def test_a_store_of_a_newer_version_is_refused_and_left_as_it_is(path: Path) -> None:
    with_version(path, VERSION + 1)
    before = files(path.parent)
    with pytest.raises(
        StorageError, match=f"has format {VERSION + 1} and this daemon knows formats up to {VERSION}"
    ):
        Store.open(path)
    assert files(path.parent) == before


def test_something_that_is_no_store_is_refused_and_left_as_it_is(path: Path) -> None:
    path.write_bytes(b"certainly not a database" * 1000)
    before = files(path.parent)
    with pytest.raises(StorageError, match="not a database"):
        Store.open(path)
    assert files(path.parent) == before


def damage(path: Path) -> None:
    data = bytearray(path.read_bytes())
    for offset in range(4096 * 2, len(data), 4096):
        data[offset : offset + 64] = b"\xff" * 64
    path.write_bytes(data)


async def test_a_damaged_store_is_refused_and_left_as_it_is(path: Path) -> None:
    async with opened(path) as store:
        for key in range(1, 200):
            await store.store.commit(snapshot(f"snapshot {key}", key=key))
    damage(path)
    before = files(path.parent)
    with pytest.raises(StorageError, match="malformed"):
        async with opened(path, start=False):
            pass
    assert files(path.parent) == before


async def test_a_record_that_cannot_be_read_is_refused(path: Path) -> None:
    async with opened(path) as store:
        await store.store.commit(snapshot("s"))
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE snapshots SET record = x'ff'")
    connection.close()
    with pytest.raises(StorageError, match=str(path)):
        async with opened(path):
            pass


def test_a_folder_that_is_missing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="No such file"):
        Store.open(tmp_path / "missing" / "store.sqlite")


async def test_nobody_else_can_read_the_store(path: Path) -> None:
    async with opened(path) as store:
        await store.store.commit(domain())
        modes = {found.name: found.stat().st_mode & 0o777 for found in path.parent.iterdir()}
    assert modes == dict.fromkeys(("store.sqlite", "store.sqlite-wal", "store.sqlite-shm"), 0o600)


async def test_definitions_without_a_user_are_forgotten_when_the_store_closes(path: Path) -> None:
    unused = Transaction()
    unused.put_definition("d9", definition())
    async with opened(path) as store:
        await store.store.commit(domain())
        await store.store.commit(unused)
    async with opened(path) as again:
        assert set(again.loaded.definitions) == {"d1"}


async def test_a_check_finds_nothing_wrong_with_a_sound_store(path: Path) -> None:
    async with opened(path) as store:
        await store.store.commit(domain())
        assert store.store.check() == []


async def test_a_check_names_a_reference_that_leads_nowhere(path: Path) -> None:
    async with opened(path) as store:
        await store.store.commit(domain())
    connection = sqlite3.connect(path)
    connection.execute("DELETE FROM definitions")
    connection.commit()
    connection.close()
    store_again = Store.open(path)
    assert store_again.check() == ["a row of domains refers to a row of definitions that does not exist"]
    store_again.close()


def test_the_epoch_belongs_to_the_store(tmp_path: Path) -> None:
    one, other = Store.open(tmp_path / "one"), Store.open(tmp_path / "other")
    assert one.epoch != other.epoch
    one.close()
    other.close()
