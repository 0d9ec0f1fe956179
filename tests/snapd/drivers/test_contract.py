"""What every driver promises, run against each of them: the simulated one is the reference, qemu runs real guests."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from tests.support.guest import make_disk
from tests.support.qemu_host import LocalDaemon, TickDomain, local_daemon
from virtsnap_protocol.errors import (
    DomainNotFound,
    InvalidArgument,
    InvalidFlags,
    OperationInvalid,
    SnapshotExists,
    SnapshotNotFound,
)
from virtsnapd.drivers import DRIVERS

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from virtsnap.domain import Domain


@dataclass(frozen=True, kw_only=True)
class Bench:
    """A driver under a daemon, and a domain for it."""

    daemon: LocalDaemon
    xml: str

    @property
    def vm(self) -> Domain:
        return self.daemon.domain("contract")

    async def generation(self) -> int:
        return (await self.vm.info()).domain.generation

    async def parents(self) -> dict[str, str | None]:
        return {snapshot.name: snapshot.parent for snapshot in (await self.vm.snapshots()).snapshots}

    async def state(self) -> str:
        return (await self.vm.info()).domain.state


@pytest.fixture(params=["test", "qemu"])
async def bench(request: pytest.FixtureRequest, short_tmp: Path) -> AsyncIterator[Bench]:
    async with local_daemon(short_tmp / "d", request.param) as daemon:
        yield Bench(daemon=daemon, xml=domain_xml(request.param, short_tmp))


def domain_xml(scheme: str, folder: Path) -> str:
    tick = TickDomain(name="contract", disks=[make_disk(folder / "disk.qcow2", boot=True)])
    return tick.xml.replace("<domain type='qemu'>", f"<domain type='{scheme}'>")


def test_every_driver_has_a_contract() -> None:
    assert {"test", "qemu"} == set(DRIVERS)


async def test_a_transient_domain_goes_with_its_guest(bench: Bench) -> None:
    created = (await bench.daemon.create(bench.xml)).domain
    assert (created.state, created.persistent, created.id is not None) == ("running", False, True)
    await bench.vm.destroy()
    with pytest.raises(DomainNotFound):
        await bench.vm.info()


async def test_a_persistent_domain_stays(bench: Bench) -> None:
    defined = (await bench.daemon.define(bench.xml)).domain
    assert (defined.state, defined.persistent, defined.id) == ("shutoff", True, None)
    await bench.vm.start()
    await bench.vm.destroy()
    assert await bench.state() == "shutoff"
    await bench.vm.undefine()
    with pytest.raises(DomainNotFound):
        await bench.vm.info()


async def test_operations_that_do_not_fit_the_state_are_refused(bench: Bench) -> None:
    await bench.daemon.define(bench.xml)
    for refused in (bench.vm.destroy, bench.vm.suspend, bench.vm.resume, bench.vm.shutdown):
        with pytest.raises(OperationInvalid, match="domain is not running"):
            await refused()
    await bench.vm.start()
    with pytest.raises(OperationInvalid, match="domain is already running"):
        await bench.vm.start()


async def test_suspending_and_resuming(bench: Bench) -> None:
    await bench.daemon.create(bench.xml)
    await bench.vm.suspend()
    assert await bench.state() == "paused"
    await bench.vm.resume()
    assert await bench.state() == "running"
    assert bench.daemon.said == ["started booted", "suspended paused", "resumed unpaused"]


async def test_saving_to_a_file_and_restoring(bench: Bench, short_tmp: Path) -> None:
    await bench.daemon.define(bench.xml)
    await bench.vm.start()
    await bench.vm.take("s1")
    await bench.vm.save(f"{short_tmp}/saved")
    assert await bench.state() == "shutoff"
    restored = (await bench.daemon.restore(f"{short_tmp}/saved")).domain
    assert (restored.state, restored.reason, restored.current_snapshot) == ("running", "restored", "s1")
    with pytest.raises(OperationInvalid, match="domain 'contract' is already active"):
        await bench.daemon.restore(f"{short_tmp}/saved")
    assert bench.daemon.said[-2:] == ["stopped saved", "started restored"]


async def test_a_managed_save_is_resumed_by_the_next_start(bench: Bench) -> None:
    await bench.daemon.define(bench.xml)
    await bench.vm.start()
    await bench.vm.managed_save()
    assert (await bench.vm.info()).domain.managed_save
    with pytest.raises(OperationInvalid, match="Refusing to undefine while domain managed save image exists"):
        await bench.vm.undefine()
    started = (await bench.vm.start()).domain
    assert (started.state, started.reason, started.managed_save) == ("running", "restored", False)
    await bench.vm.managed_save()
    await bench.vm.remove_managed_save()
    assert (await bench.vm.start()).domain.reason == "booted"


async def test_a_hierarchy_grows_under_the_current_snapshot(bench: Bench) -> None:
    await bench.daemon.create(bench.xml)
    for name in ("s1", "s2"):
        await bench.vm.take(name)
    await bench.vm.snapshot("s1").revert()
    await bench.vm.take("s3")
    assert await bench.parents() == {"s1": None, "s2": "s1", "s3": "s1"}
    assert (await bench.vm.snapshot("s3").parent()).snapshot.name == "s1"
    assert (await bench.vm.current_snapshot()).snapshot.name == "s3"
    # that the guest pauses while its memory is saved is told by drivers that announce such steps
    said = [word for word in bench.daemon.said[1:] if not word.startswith(("suspended", "resumed"))]
    assert said == [
        "snapshot.created s1",
        "snapshot.current-changed s1",
        "snapshot.created s2",
        "snapshot.current-changed s2",
        "snapshot.reverted s1",
        "snapshot.current-changed s1",
        "stopped from-snapshot",
        "started from-snapshot",
        "snapshot.created s3",
        "snapshot.current-changed s3",
    ]


async def test_a_snapshot_remembers_the_state_of_the_domain(bench: Bench) -> None:
    await bench.daemon.define(bench.xml)
    assert (await bench.vm.take("off")).snapshot.state == "shutoff"
    await bench.vm.start(paused=True)
    assert (await bench.vm.take("paused")).snapshot.state == "paused"
    await bench.vm.resume()
    assert (await bench.vm.take("running")).snapshot.state == "running"
    await bench.vm.snapshot("paused").revert()
    assert await bench.state() == "paused"
    await bench.vm.snapshot("off").revert()
    assert await bench.state() == "shutoff"
    await bench.vm.snapshot("running").revert()
    assert await bench.state() == "running"


async def test_a_name_that_is_taken_is_refused(bench: Bench) -> None:
    await bench.daemon.create(bench.xml)
    await bench.vm.take("s1")
    before = await bench.generation()
    with pytest.raises(SnapshotExists, match="domain moment s1 already exists"):
        await bench.vm.take("s1")
    assert await bench.generation() == before


async def test_flags_that_exclude_each_other_are_refused(bench: Bench) -> None:
    await bench.daemon.create(bench.xml)
    for flags in (["current"], ["redefine", "no-metadata"], ["redefine", "halt"]):
        with pytest.raises(InvalidFlags):
            await bench.vm.take("s1", flags=flags)  # type: ignore[arg-type] # mypy widens the words to str
    assert await bench.generation() == 0


async def test_a_lost_hierarchy_is_redefined_and_reverted_to(bench: Bench) -> None:
    await bench.daemon.create(bench.xml)
    for name in ("s1", "s2"):
        await bench.vm.take(name)
    documents = {name: (await bench.vm.snapshot(name).xml(secure=True)).xml for name in ("s1", "s2")}
    await bench.vm.destroy()
    await bench.daemon.create(bench.xml)
    with pytest.raises(InvalidArgument, match="parent s1 for moment s2 not found"):
        await bench.vm.redefine(documents["s2"])
    await bench.vm.redefine(documents["s1"], current=True)
    await bench.vm.redefine(documents["s2"])
    assert await bench.parents() == {"s1": None, "s2": "s1"}
    assert (await bench.vm.current_snapshot()).snapshot.name == "s1"
    assert {name: (await bench.vm.snapshot(name).xml(secure=True)).xml for name in documents} == documents
    await bench.vm.snapshot("s2").revert()
    assert await bench.state() == "running"


async def test_deleting(bench: Bench) -> None:
    await bench.daemon.create(bench.xml)
    for name in ("s1", "s2", "s3", "s4"):
        await bench.vm.take(name)
    assert (await bench.vm.snapshot("s3").delete(children_only=True)).deleted == ["s4"]
    assert (await bench.vm.snapshot("s2").delete()).deleted == ["s2"]
    assert await bench.parents() == {"s1": None, "s3": "s1"}
    assert (await bench.vm.snapshot("s1").delete(children=True)).deleted == ["s3", "s1"]
    with pytest.raises(SnapshotNotFound):
        await bench.vm.current_snapshot()
    await bench.vm.take("s1")  # the name is free again, in the data too


async def test_without_metadata_nothing_is_remembered(bench: Bench) -> None:
    await bench.daemon.create(bench.xml)
    await bench.vm.take("s1", flags=["no-metadata"])
    assert await bench.parents() == {}


async def test_a_halted_domain_goes_on_when_it_is_reverted(bench: Bench) -> None:
    await bench.daemon.define(bench.xml)
    await bench.vm.start()
    await bench.vm.take("s1", flags=["halt"])
    assert await bench.state() == "shutoff"
    await bench.vm.snapshot("s1").revert()
    assert await bench.state() == "running"


async def test_the_end_of_a_transient_domain_discards_its_hierarchy(bench: Bench) -> None:
    await bench.daemon.create(bench.xml)
    await bench.vm.take("s1")
    await bench.vm.destroy()
    assert bench.daemon.said[-2:] == ["stopped destroyed", "snapshot.discarded None"]
    await bench.daemon.create(bench.xml)
    assert await bench.parents() == {}


@pytest.mark.parametrize("scheme", ["test", "qemu"])
async def test_everything_is_there_after_the_daemons_restart(short_tmp: Path, scheme: str) -> None:
    async with local_daemon(short_tmp / "d", scheme, end_guests=False) as daemon:
        bench = Bench(daemon=daemon, xml=domain_xml(scheme, short_tmp))
        await daemon.define(bench.xml)
        await bench.vm.start()
        for name in ("s1", "s2"):
            await bench.vm.take(name)
        await bench.vm.suspend()
        documents = [(await bench.vm.snapshot(name).xml(secure=True)).xml for name in ("s1", "s2")]
        before = (await bench.vm.info()).domain
    async with local_daemon(short_tmp / "d", scheme) as daemon:
        bench = Bench(daemon=daemon, xml=bench.xml)
        assert (await bench.vm.info()).domain == before
        assert [(await bench.vm.snapshot(name).xml(secure=True)).xml for name in ("s1", "s2")] == documents
        await bench.vm.snapshot("s1").revert()
        assert await bench.state() == "running"
