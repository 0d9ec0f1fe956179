"""Saved states of real guests: memory and disks go on, also when the daemon is killed on the way."""

from __future__ import annotations

import os
import resource
import signal
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import pytest
import trio

import virtsnap
from tests.support.crashing_daemon import Moment, crashing_call, crashing_command
from tests.support.daemon import operations
from tests.support.guest import Serial, make_disk, socket_folder
from tests.support.qemu_host import Host, TickDomain, wait_until
from tests.support.saves import content, exists, files, write
from virtsnap_protocol.errors import ConnectionLost, SystemFailure
from virtsnapd.saves import MANAGED

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from virtsnap import Connection

SECONDS: Final = 60.0


@dataclass(frozen=True, kw_only=True)
class Bench:
    """A host, a guest for it, and where it is saved to."""

    host: Host
    tick: TickDomain

    @property
    def path(self) -> Path:
        return self.host.folder / "saves" / "saved"

    @property
    def managed(self) -> Path:
        return self.host.state / "qemu" / self.tick.uuid / MANAGED

    def serial(self) -> Path:
        assert self.tick.serial is not None
        return self.tick.serial


@pytest.fixture
def bench() -> Iterator[Bench]:
    with socket_folder() as folder:
        host = Host(folder / "h")
        (host.folder / "saves").mkdir()
        disk = make_disk(folder / "disk.qcow2", boot=True)
        try:
            yield Bench(host=host, tick=TickDomain(disks=[disk], serial=folder / "serial"))
        finally:
            host.close()


async def run_and_write(bench: Bench, connection: Connection) -> int:
    """Start the guest, let it put its counter on its disk, and return what that was."""
    await connection.define(bench.tick.xml)
    await connection.domain("tick").start()
    async with Serial.open(bench.serial()) as serial:
        await serial.wait_counter(2)
        return await serial.command("w")


async def assert_goes_on(bench: Bench, written: int) -> None:
    """Fail unless the guest counts on from where it was and finds its disk as it left it."""
    async with Serial.open(bench.serial()) as serial:
        assert await serial.counter() >= written
        assert await serial.command("r") == written


async def test_saved_and_restored_memory_and_disk_go_on(bench: Bench) -> None:
    bench.host.start()
    async with virtsnap.open_connection(socket=bench.host.socket) as connection:
        written = await run_and_write(bench, connection)
        vm = connection.domain("tick")
        await vm.take("s1")
        await vm.save(str(bench.path))
        assert ((await vm.info()).domain.reason, bench.host.guests()) == ("saved", [])
        await trio.to_thread.run_sync(bench.host.stop)
        await trio.to_thread.run_sync(bench.host.start)
    async with virtsnap.open_connection(socket=bench.host.socket) as connection:
        assert (await connection.restore(str(bench.path))).domain.reason == "restored"
        await assert_goes_on(bench, written)
        vm = connection.domain("tick")
        await vm.managed_save()
        assert (await vm.info()).domain.managed_save
        await vm.start()
        await assert_goes_on(bench, written)
        assert not exists(bench.managed)
        assert [snapshot.name for snapshot in (await vm.snapshots()).snapshots] == ["s1"]


async def test_a_disk_that_fills_up_while_saving_costs_nothing(bench: Bench) -> None:
    bench.host.start()
    write(bench.path, "former")
    async with virtsnap.open_connection(socket=bench.host.socket) as connection:
        written = await run_and_write(bench, connection)
        vm = connection.domain("tick")
        limits = (400_000, resource.RLIM_INFINITY)  # of a file; the guest's memory takes 600,000 bytes
        former = resource.prlimit(bench.host.pid, resource.RLIMIT_FSIZE, limits)
        for managed in (False, True):
            with pytest.raises(
                SystemFailure, match=r"saving domain 'tick' to '.*': write failed: File too large"
            ):
                await (vm.managed_save() if managed else vm.save(str(bench.path)))
            assert (await vm.info()).domain.state == "running"
        assert (files(bench.path.parent), content(bench.path)) == (["saved"], "former")
        assert not exists(bench.managed)
        resource.prlimit(bench.host.pid, resource.RLIMIT_FSIZE, former)
        await assert_goes_on(bench, written)
        await vm.save(str(bench.path))


async def test_a_guest_whose_daemon_was_killed_while_saving_runs_on(bench: Bench) -> None:
    """QEMU is not even listening when the daemon dies."""
    bench.host.start()
    async with virtsnap.open_connection(socket=bench.host.socket) as connection:
        written = await run_and_write(bench, connection)
        (pid,) = bench.host.guests()
        os.kill(pid, signal.SIGSTOP)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(save_until_lost, connection, bench)
            await wait_until("the file", lambda: files(bench.path.parent) != [])
            bench.host.kill()
    os.kill(pid, signal.SIGCONT)
    assert "1 unfinished operations" in bench.host.check()
    bench.host.start()
    async with virtsnap.open_connection(socket=bench.host.socket) as connection:
        await assert_goes_on(bench, written)
        domain = (await connection.domain("tick").info()).domain
        assert (domain.state, domain.needs_attention) == ("running", None)
    assert files(bench.path.parent) == []


async def save_until_lost(connection: Connection, bench: Bench) -> None:
    with pytest.raises(ConnectionLost):
        await connection.domain("tick").save(str(bench.path))


async def test_a_daemon_that_is_stopped_finishes_the_save_first(bench: Bench) -> None:
    bench.host.start()
    async with virtsnap.open_connection(socket=bench.host.socket) as connection:
        written = await run_and_write(bench, connection)
        (pid,) = bench.host.guests()
        os.kill(pid, signal.SIGSTOP)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(connection.domain("tick").save, str(bench.path))
            await wait_until("the file", lambda: files(bench.path.parent) != [])
            os.kill(bench.host.pid, signal.SIGTERM)
            os.kill(pid, signal.SIGCONT)
    bench.host.wait_killed()
    assert bench.host.guests() == []
    bench.host.start()
    async with virtsnap.open_connection(socket=bench.host.socket) as connection:
        await connection.restore(str(bench.path))
        await assert_goes_on(bench, written)


SAVING: Final[dict[str, tuple[str, Moment, bool]]] = {
    # where the daemon dies, and whether the domain is saved then
    "with the first bytes of memory": ("virtsnapd.savefile:SaveFile.write", "before", False),
    "with all of the memory": ("virtsnapd.savefile:SaveFile._finish", "before", False),
    "with a whole file": ("virtsnapd.savefile:SaveFile._finish", "after", False),
    "when the guest has ended": ("virtsnapd.savefile:publish", "before", True),
    "when the file has its name": ("virtsnapd.savefile:publish", "after", True),
}
RECORDING: Final[dict[str, tuple[int, Moment, bool]]] = {
    "before it is noted": (1, "before", False),
    "after it is noted": (1, "after", False),
    "before it is recorded": (2, "before", True),
    "after it is recorded": (2, "after", True),
}


@pytest.mark.parametrize("managed", [False, True])
@pytest.mark.parametrize("moment", [*SAVING, *RECORDING])
async def test_a_daemon_that_is_killed_leaves_the_guest_running_or_the_domain_saved(
    bench: Bench, moment: str, *, managed: bool
) -> None:
    if moment in SAVING:
        function, when, saved = SAVING[moment]
        command = crashing_call(function, when)
    else:
        number, when, saved = RECORDING[moment]
        command = crashing_command(number, when)
    bench.host.start()
    async with virtsnap.open_connection(socket=bench.host.socket) as connection:
        written = await run_and_write(bench, connection)
    bench.host.stop()
    await die(bench, command, managed=managed)
    bench.host.start()
    assert operations(bench.host.state) == []
    async with virtsnap.open_connection(socket=bench.host.socket) as connection:
        vm = connection.domain("tick")
        domain = (await vm.info()).domain
        assert domain.needs_attention is None
        assert domain.managed_save == exists(bench.managed) == (saved and managed)
        assert files(bench.path.parent) == (["saved"] if saved and not managed else [])
        if not saved:
            assert (domain.state, len(bench.host.guests())) == ("running", 1)
            await assert_goes_on(bench, written)
            await vm.take("s1")
            await vm.save(str(bench.path))
        assert ((await vm.info()).domain.reason, bench.host.guests()) == ("saved", [])
        _ = await vm.start() if saved and managed else await connection.restore(str(bench.path))
        await assert_goes_on(bench, written)


async def die(bench: Bench, command: list[str], *, managed: bool) -> None:
    doomed = Host(bench.host.folder, command=command)
    doomed.start()
    try:
        async with virtsnap.open_connection(socket=doomed.socket) as connection:
            vm = connection.domain("tick")
            with pytest.raises(ConnectionLost):
                await (vm.managed_save() if managed else vm.save(str(bench.path)))
    finally:
        doomed.stop()


RESTORING: Final[dict[str, tuple[list[str], bool]]] = {
    # the daemon that dies, and whether the domain has come back then
    "while the memory is loaded": (crashing_call("virtsnapd.savefile:SavedState.read", "before"), False),
    "when the memory is loaded": (crashing_command(1, "before"), False),
    "when the guest is recorded": (crashing_command(1, "after"), True),
    "when the guest runs": (crashing_command(2, "before"), True),
    "at the end": (crashing_command(2, "after"), True),
}


@pytest.mark.parametrize("managed", [False, True])
@pytest.mark.parametrize("moment", RESTORING)
async def test_a_daemon_that_is_killed_while_restoring_leaves_the_state_to_go_on_from_or_a_guest(
    bench: Bench, moment: str, *, managed: bool
) -> None:
    command, restored = RESTORING[moment]
    bench.host.start()
    async with virtsnap.open_connection(socket=bench.host.socket) as connection:
        written = await run_and_write(bench, connection)
        vm = connection.domain("tick")
        await (vm.managed_save() if managed else vm.save(str(bench.path)))
    bench.host.stop()
    doomed = Host(bench.host.folder, command=command)
    doomed.start()
    try:
        async with virtsnap.open_connection(socket=doomed.socket) as connection:
            with pytest.raises(ConnectionLost):
                await (connection.domain("tick").start() if managed else connection.restore(str(bench.path)))
    finally:
        doomed.stop()
    bench.host.start()
    assert operations(bench.host.state) == []
    async with virtsnap.open_connection(socket=bench.host.socket) as connection:
        vm = connection.domain("tick")
        domain = (await vm.info()).domain
        assert (domain.state, len(bench.host.guests())) == (("running", 1) if restored else ("shutoff", 0))
        assert domain.needs_attention is None
        assert domain.managed_save == exists(bench.managed) == (managed and not restored)
        if not restored:
            _ = await vm.start() if managed else await connection.restore(str(bench.path))
        await assert_goes_on(bench, written)
    assert files(bench.path.parent) == ([] if managed else ["saved"])
