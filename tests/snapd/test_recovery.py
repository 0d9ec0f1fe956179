"""What the next start makes of operations that a daemon left unfinished."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final

import msgspec
import pytest

from tests.support.daemon import Running, operations, running_daemon, settings
from virtsnapd.drivers.simulated.driver import SimulatedDriver
from virtsnapd.drivers.simulated.faults import Fault
from virtsnapd.store import OperationRow, Transaction, Verb

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from virtsnap_protocol.methods.domain import DomainState
    from virtsnapd.drivers.api import DriverContext

DEFAULT: Final = "test"


async def interrupt(
    running: Running, verb: Verb, name: str, *, final: DomainState = "nostate", known: bool = True
) -> None:
    """Write down what a daemon writes down before it does something, and nothing of its end."""
    domain = running.domain()
    forest = domain.hierarchy.forest
    snapshot = forest.get(name) if known else msgspec.structs.replace(forest.get("s1"), name=name)
    transaction = Transaction()
    transaction.put_operation(
        OperationRow(driver="test", uuid=domain.uuid, verb=verb, snapshot=snapshot, final=final, started=1)
    )
    await running.store.commit(transaction)


@asynccontextmanager
async def first_life(folder: Path) -> AsyncIterator[Running]:
    """Run a daemon whose domain has the snapshots s1 and s2."""
    async with running_daemon(settings(folder)) as running, running.client() as rpc:
        await rpc.take("s1")
        await rpc.take("s2")
        yield running


class Forgetful(SimulatedDriver):
    """A hypervisor that cannot do what is asked of it when the daemon comes back."""

    def __init__(self, uri: str, context: DriverContext) -> None:
        super().__init__(uri, context)
        self.faults.inject("revert", Fault(error="still broken"))
        self.faults.inject("discard", Fault(error="still broken"))


async def test_an_interrupted_take_is_undone(short_tmp: Path) -> None:
    async with first_life(short_tmp) as running:
        digest = running.domain().hierarchy.digest
        await interrupt(running, "take", "s3", known=False)
    async with running_daemon(settings(short_tmp)) as running, running.client() as rpc:
        assert running.domain().hierarchy.digest == digest
        assert running.domain().row.attention is None
        assert operations(running.config.state_dir) == []
        await rpc.take("s3")


async def test_undoing_a_take_spares_the_data_of_a_snapshot_that_was_recorded_since(
    short_tmp: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    discarded: list[str] = []

    async def discard(_driver: object, _domain: object, snapshot: object) -> None:
        discarded.append(str(snapshot))

    async with first_life(short_tmp) as running:
        await interrupt(running, "take", "s1")
    monkeypatch.setattr(SimulatedDriver, "discard", discard)
    async with running_daemon(settings(short_tmp)) as running:
        assert "s1" in running.domain().hierarchy.forest
        assert discarded == []
        assert operations(running.config.state_dir) == []


async def test_an_interrupted_delete_is_completed(short_tmp: Path) -> None:
    async with first_life(short_tmp) as running:
        await interrupt(running, "discard", "s1")
        position = running.services.events.position
    async with running_daemon(settings(short_tmp)) as running, running.client() as rpc:
        assert await rpc.tree() == {"s2": None}
        assert operations(running.config.state_dir) == []
        since = {"epoch": position.epoch, "seq": position.seq}
        await rpc.call("event.subscribe", since=since)
        assert [event["kind"] for event in await rpc.events()] == ["snapshot.deleted"]


@pytest.mark.parametrize("final", ["running", "paused", "shutoff"])
async def test_an_interrupted_revert_is_completed(short_tmp: Path, final: DomainState) -> None:
    async with first_life(short_tmp) as running:
        await interrupt(running, "revert", "s1", final=final)
    async with running_daemon(settings(short_tmp)) as running, running.client() as rpc:
        info = (await rpc.call("domain.info", domain=DEFAULT))["domain"]
        assert (info["state"], info["reason"], info["current_snapshot"]) == (final, "from snapshot", "s1")
        assert operations(running.config.state_dir) == []


@pytest.mark.parametrize("verb", ["take", "discard", "revert"])
async def test_what_cannot_be_settled_needs_attention_and_keeps_its_record(
    short_tmp: Path, monkeypatch: pytest.MonkeyPatch, verb: Verb
) -> None:
    async with first_life(short_tmp) as running:
        digest = running.domain().hierarchy.digest
        await interrupt(
            running, verb, "s3" if verb == "take" else "s1", final="running", known=verb != "take"
        )
    monkeypatch.setattr("virtsnapd.daemon.DRIVERS", {"test": Forgetful})
    async with running_daemon(settings(short_tmp)) as running, running.client() as rpc:
        info = (await rpc.call("domain.info", domain=DEFAULT))["domain"]
        assert f"the {verb} of snapshot " in info["needs_attention"]
        assert "still broken" in info["needs_attention"]
        assert "revert to another snapshot" in info["needs_attention"]
        assert running.domain().hierarchy.digest == digest
        assert operations(running.config.state_dir) == []


async def test_repeating_what_needed_attention_settles_it(
    short_tmp: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with first_life(short_tmp) as running:
        await interrupt(running, "discard", "s1")
    monkeypatch.setattr("virtsnapd.daemon.DRIVERS", {"test": Forgetful})
    async with running_daemon(settings(short_tmp)) as running, running.client() as rpc:
        await rpc.call("snapshot.delete", domain=DEFAULT, snapshot="s2")
        assert running.domain().row.attention is not None
        await rpc.call("snapshot.delete", domain=DEFAULT, snapshot="s1")
        assert running.domain().row.attention is None
        assert await rpc.tree() == {}
