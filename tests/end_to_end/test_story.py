"""What the project exists for, on real guests: a transient domain's snapshot outlives the domain, and the host."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

import virtsnap
from tests.support.guest import Serial, make_disk, socket_folder
from tests.support.qemu_host import Host, TickDomain, running_host
from virtsnap_protocol.errors import DomainNotFound

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with socket_folder() as path:
        yield path


@pytest.fixture(scope="module")
def first(folder: Path) -> Iterator[Host]:
    with running_host(folder / "a") as host:
        yield host


@pytest.fixture(scope="module")
def second(folder: Path) -> Iterator[Host]:
    with running_host(folder / "b") as host:
        yield host


@pytest.fixture
def tick(short_tmp: Path, first: Host, second: Host) -> Iterator[TickDomain]:
    """A domain with two disks, which both hosts can reach; its guests are gone afterwards."""
    disks = [make_disk(short_tmp / f"{number}.qcow2", boot=number == 0) for number in range(2)]
    domain = TickDomain(disks=disks, serial=short_tmp / "serial")
    yield domain
    for host in (first, second):
        with virtsnap.connect(socket=host.socket) as connection:
            for found in connection.domains().domains:
                handle = connection.domain(found.uuid)
                if found.id is not None:
                    handle.destroy()
                if found.persistent:
                    handle.undefine(snapshots_metadata=True)


@dataclass(frozen=True, kw_only=True)
class Saved:
    """A snapshot's document, and what going back to it must bring back."""

    document: str
    counters: range
    """The first value that the guest's counter may show then."""
    disks: tuple[int, int]


async def write(serial: Serial) -> tuple[int, int]:
    """Let the guest write its counter to both disks; return what they hold now."""
    return await serial.command("w"), await serial.command("W")


async def read(serial: Serial) -> tuple[int, int]:
    return await serial.command("r"), await serial.command("R")


async def take_and_lose(host: Host, tick: TickDomain, *, paused: bool = False) -> Saved:
    """Take a snapshot of a transient guest that then goes on, changes its disks, and stops."""
    assert tick.serial is not None
    async with virtsnap.open_connection(socket=host.socket) as connection:
        await connection.create(tick.xml)
        vm = connection.domain(tick.name)
        async with Serial.open(tick.serial) as serial:
            await serial.wait_counter(4)
            written = await write(serial)
            if paused:
                await vm.suspend()
            taken = (await vm.take("saved")).snapshot
            assert taken.state == ("paused" if paused else "running")
            if paused:
                await vm.resume()
            await serial.forget()
            counters = range(written[1] + 1, await serial.counter() + 1)
            await serial.wait_counter(written[0] + 2)
            assert min(await write(serial)) > max(written)
        document = (await vm.snapshot("saved").xml(secure=True)).xml
        await vm.destroy()
        with pytest.raises(DomainNotFound):
            await vm.snapshots()
    return Saved(document=document, counters=counters, disks=written)


async def prove(host: Host, tick: TickDomain, saved: Saved, *, paused: bool = False) -> None:
    """Make a new transient domain of the name, redefine and revert: the guest goes on where it was saved."""
    assert tick.serial is not None
    async with virtsnap.open_connection(socket=host.socket) as connection:
        await connection.create(tick.xml)
        vm = connection.domain(tick.name)
        async with Serial.open(tick.serial) as serial:
            assert min(await read(serial)) > max(saved.disks)
            assert (await vm.snapshots()).snapshots == []
            redefined = (await vm.redefine(saved.document, current=True)).snapshot
            assert (redefined.name, redefined.current, redefined.parent) == ("saved", True, None)
            await vm.snapshot("saved").revert()
            if paused:
                assert (await vm.info()).domain.state == "paused"
                await vm.resume()
            assert await serial.wait_counter(saved.counters.start) in saved.counters
            assert await read(serial) == saved.disks
            assert (await vm.info()).domain.state == "running"
        await vm.destroy()


async def test_a_lost_snapshot_is_redefined_and_reverted_to_on_the_same_host_and_on_another(
    tick: TickDomain, first: Host, second: Host
) -> None:
    saved = await take_and_lose(first, tick)
    await prove(first, tick, saved)
    await change_disks(first, tick)
    await prove(second, tick, saved)


async def test_a_paused_guest_comes_back_paused_and_goes_on_where_it_was(
    tick: TickDomain, first: Host, second: Host
) -> None:
    saved = await take_and_lose(first, tick, paused=True)
    await prove(second, tick, saved, paused=True)


async def change_disks(host: Host, tick: TickDomain) -> None:
    """Let a guest that knows of no snapshot write later values to the disks."""
    assert tick.serial is not None
    async with virtsnap.open_connection(socket=host.socket) as connection:
        await connection.create(tick.xml)
        async with Serial.open(tick.serial) as serial:
            await serial.wait_counter(max(await read(serial)) + 1)
            await write(serial)
        await connection.domain(tick.name).destroy()


async def test_a_shut_off_domain_gets_its_disks_back_on_another_host(
    tick: TickDomain, first: Host, second: Host
) -> None:
    assert tick.serial is not None
    await change_disks(first, tick)
    async with virtsnap.open_connection(socket=first.socket) as connection:
        await connection.define(tick.xml)
        vm = connection.domain(tick.name)
        assert (await vm.take("offline")).snapshot.state == "shutoff"
        document = (await vm.snapshot("offline").xml(secure=True)).xml
        definition = (await vm.xml(secure=True)).xml
        await vm.undefine(snapshots_metadata=True)
    await change_disks(first, tick)
    async with virtsnap.open_connection(socket=second.socket) as connection:
        await connection.define(definition)
        vm = connection.domain(tick.name)
        await vm.redefine(document, current=True)
        await vm.snapshot("offline").revert(running=True)
        async with Serial.open(tick.serial) as serial:
            assert max(await read(serial)) == 1
            await serial.wait_counter(2)
            await write(serial)
        await vm.snapshot("offline").revert()
        assert (await vm.info()).domain.state == "shutoff"
        await vm.start()
        async with Serial.open(tick.serial) as serial:
            assert max(await read(serial)) == 1
