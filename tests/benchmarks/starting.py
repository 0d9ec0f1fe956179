"""Starting with many stored snapshots: the time until the daemon is ready, and the memory that they take."""

from __future__ import annotations

import statistics
import uuid
from typing import TYPE_CHECKING, Final

import trio

from tests.benchmarks.daemons import virtsnapd
from tests.benchmarks.metadata import chain, definition
from tests.benchmarks.results import Row
from virtsnapd.daemon import STORE_NAME
from virtsnapd.definitions import Definitions
from virtsnapd.models.domain import DomainDefinition
from virtsnapd.models.snapshot import Snapshot, parse_snapshot
from virtsnapd.store import DomainRow, HierarchyRow, Store, Transaction

if TYPE_CHECKING:
    from pathlib import Path

START_GOAL: Final = 1.0
"""Seconds, with 100,000 snapshots."""
IDLE_GOAL: Final = 60.0
"""MiB without any."""
PER_SNAPSHOT_GOAL: Final = 2.0
"""KiB."""
DOMAINS: Final = 100
DRIVER: Final = "test"


async def fill(folder: Path, snapshots: int) -> None:
    """Write a store with so many snapshots of 100 domains: chains, one definition for each domain."""
    state = folder / "state"
    state.mkdir(parents=True, mode=0o700)
    store = Store.open(state / STORE_NAME)
    store.load()
    store.start(lambda _events: None)
    try:
        for number in range(DOMAINS):
            transaction = Transaction()
            put_domain(transaction, number + 1, snapshots // DOMAINS)
            await store.commit(transaction)
    finally:
        await store.aclose()


def put_domain(transaction: Transaction, key: int, snapshots: int) -> None:
    name = f"vm{key}"
    domain = DomainDefinition.parse(definition(name))
    Definitions({}).keep(transaction, domain)
    transaction.put_domain(
        DomainRow(
            driver=DRIVER,
            uuid=domain.uuid,
            name=name,
            definition=domain.digest,
            live=None,
            id=None,
            state="shutoff",
            reason="unknown",
            runtime=None,
            attention=None,
        )
    )
    head = HierarchyRow(key=key, driver=DRIVER, uuid=domain.uuid, current=None, generation=snapshots)
    transaction.put_hierarchy(head)
    transaction.put_snapshots(key, _snapshots(domain, snapshots))


def _snapshots(domain: DomainDefinition, count: int) -> list[Snapshot]:
    return [
        parse_snapshot(
            document,
            redefine=True,
            offline=False,
            validate=False,
            now=0,
            unique_name=lambda _: str(uuid.uuid4()),
        ).snapshot
        for document in chain(domain.text, "snapshot-", count)
    ]


def measure(folder: Path, sizes: tuple[int, ...], *, repeat: int) -> list[Row]:
    """Start the daemon on empty and on filled stores."""
    idle_time, idle_memory = start(folder / "0", repeat)
    rows = [
        Row(what="start, nothing stored", unit="ms", ours=idle_time * 1000),
        Row(what="memory, idle", unit="MiB", ours=idle_memory / 2**20, goal=IDLE_GOAL, absolute=True),
    ]
    for size in sizes:
        place = folder / str(size)
        trio.run(fill, place, size)
        ready, memory = start(place, repeat)
        is_largest = size == 100_000
        rows += [
            Row(
                what=f"start, {size:,} snapshots",
                unit="s",
                ours=ready,
                goal=START_GOAL if is_largest else None,
                absolute=True,
            ),
            Row(
                what=f"memory of one of {size:,} snapshots",
                unit="KiB",
                ours=(memory - idle_memory) / size / 1024,
                goal=PER_SNAPSHOT_GOAL,
                absolute=True,
            ),
        ]
    return rows


def start(folder: Path, repeat: int) -> tuple[float, float]:
    """Return the median seconds until READY=1, and the bytes resident then."""
    found = []
    for _ in range(repeat):
        with virtsnapd(folder, (DRIVER,)) as daemon:
            found.append((daemon.ready_after, daemon.memory()))
    return statistics.median(t for t, _ in found), statistics.median(m for _, m in found)
