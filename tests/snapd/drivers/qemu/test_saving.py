from __future__ import annotations

import errno
import os
import signal
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest
import trio

from tests.support.fake_qmp import fake_qmp
from tests.support.guest import Serial, make_disk
from tests.support.qemu_host import LocalDaemon, TickDomain, local_daemon, qemu_pids, wait_until
from tests.support.saves import content, exists, files, write
from virtsnap_protocol.errors import (
    Error,
    HypervisorError,
    OperationFailed,
    OperationInvalid,
    OutcomeUnknown,
    SystemFailure,
)
from virtsnapd.drivers.qemu import saving
from virtsnapd.drivers.qemu.connecting import open_monitor
from virtsnapd.drivers.qemu.guest import Guest
from virtsnapd.drivers.qemu.monitor import CommandFailed
from virtsnapd.savefile import ALIGNMENT

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from virtsnap.domain import Domain


async def condition(vm: Domain) -> tuple[str, str, bool]:
    domain = (await vm.info()).domain
    return domain.state, domain.reason, domain.managed_save


def pids(daemon: LocalDaemon) -> list[int]:
    return qemu_pids(daemon.services.config.state_dir)


@pytest.fixture
def path(short_tmp: Path) -> Path:
    folder = short_tmp / "saves"
    folder.mkdir()
    return folder / "saved"


async def run_and_write(daemon: LocalDaemon, tick: TickDomain) -> tuple[Domain, int]:
    """Define and start the guest, let it put its counter on its disk, and return what that was."""
    await daemon.define(tick.xml)
    vm = daemon.domain("tick")
    await vm.start()
    assert tick.serial is not None
    async with Serial.open(tick.serial) as serial:
        await serial.wait_counter(2)
        return vm, await serial.command("w")


async def assert_goes_on(tick: TickDomain, written: int) -> None:
    """Fail unless the guest counts on from where it was and finds its disk as it left it."""
    assert tick.serial is not None
    async with Serial.open(tick.serial) as serial:
        assert await serial.counter() >= written
        assert await serial.command("r") == written


def cut(path: Path, size: int) -> None:
    data = path.read_bytes()
    path.write_bytes(data[:size] + b"\0" * (len(data) - size))


@contextmanager
def full_disk(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    def full(_fd: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patched:
        patched.setattr("os.fsync", full)
        yield


async def test_a_guest_that_was_paused_is_restored_paused(
    daemon: LocalDaemon, tick: TickDomain, path: Path
) -> None:
    vm, written = await run_and_write(daemon, tick)
    await vm.suspend()
    await vm.save(str(path))
    assert pids(daemon) == []
    await daemon.restore(str(path))
    assert (await condition(vm))[0] == "paused"
    assert tick.serial is not None
    async with Serial.open(tick.serial) as serial:
        with pytest.raises(trio.TooSlowError):
            await serial.counter(seconds=0.5)
    await vm.resume()
    await assert_goes_on(tick, written)


async def test_the_host_s_cache_is_bypassed_when_asked(
    daemon: LocalDaemon, tick: TickDomain, path: Path
) -> None:
    vm, written = await run_and_write(daemon, tick)
    try:
        await vm.save(str(path), flags=["bypass-cache"])
    except OperationFailed as error:  # a file system in memory
        assert error.detail == "bypass cache unsupported by this system"  # noqa: PT017 - as it says
        return
    await daemon.restore(str(path), flags=["bypass-cache"])
    await assert_goes_on(tick, written)


async def test_a_transient_domain_leaves_nothing_behind_and_comes_back(
    daemon: LocalDaemon, tick: TickDomain, path: Path
) -> None:
    await daemon.create(tick.xml)
    await daemon.domain("tick").save(str(path))
    assert (await daemon.domains()).domains == []
    assert tick.uuid not in files(daemon.hypervisor.driver.context.state_dir)
    assert not (await daemon.restore(str(path))).domain.persistent
    assert len(pids(daemon)) == 1


async def test_a_restored_guest_can_be_snapshotted_and_saved_again(
    daemon: LocalDaemon, tick: TickDomain, path: Path
) -> None:
    vm, written = await run_and_write(daemon, tick)
    await vm.take("s1")
    await vm.save(str(path))
    await daemon.restore(str(path))
    await vm.take("s2")
    await vm.managed_save()
    await vm.start()
    await vm.take("s3")
    await vm.snapshot("s1").revert()
    assert [s.name for s in (await vm.snapshots()).snapshots] == ["s1", "s2", "s3"]
    await assert_goes_on(tick, written)


@pytest.mark.parametrize("paused", [False, True])
async def test_a_guest_whose_file_does_not_fit_on_the_disk_goes_on(
    daemon: LocalDaemon, tick: TickDomain, path: Path, monkeypatch: pytest.MonkeyPatch, *, paused: bool
) -> None:
    vm, written = await run_and_write(daemon, tick)
    if paused:
        await vm.suspend()
    write(path, "former")
    before = await condition(vm)
    with full_disk(monkeypatch), pytest.raises(SystemFailure, match="No space left on device"):
        await vm.save(str(path))
    assert await condition(vm) == before
    assert (files(path.parent), content(path)) == (["saved"], "former")
    await vm.take("s1")  # QEMU has its images back
    await vm.save(str(path))
    await daemon.restore(str(path), flags=["running"])
    await assert_goes_on(tick, written)


async def test_a_paused_guest_is_still_paused_after_a_save_that_failed(
    daemon: LocalDaemon, tick: TickDomain, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    vm, _ = await run_and_write(daemon, tick)
    await vm.suspend()
    with full_disk(monkeypatch), pytest.raises(SystemFailure):
        await vm.managed_save()
    assert tick.serial is not None
    async with Serial.open(tick.serial) as serial:
        with pytest.raises(trio.TooSlowError):
            await serial.counter(seconds=0.5)
    assert await condition(vm) == ("paused", "user", False)


async def test_a_file_that_fails_on_the_way_ends_the_save_and_not_the_guest(
    daemon: LocalDaemon, tick: TickDomain, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    vm, written = await run_and_write(daemon, tick)
    pieces = 0

    async def write_piece(_file: object, data: bytes) -> None:
        nonlocal pieces
        pieces += 1
        raise SystemFailure("write failed")

    with monkeypatch.context() as patched:
        patched.setattr("virtsnapd.savefile.SaveFile.write", write_piece)
        with pytest.raises(SystemFailure, match="write failed"):
            await vm.save(str(path))
    assert pieces == 1
    await assert_goes_on(tick, written)
    await vm.save(str(path))


async def test_a_guest_that_dies_while_it_is_saved_has_crashed(
    daemon: LocalDaemon, tick: TickDomain, path: Path
) -> None:
    vm, _ = await run_and_write(daemon, tick)
    (pid,) = pids(daemon)
    os.kill(pid, signal.SIGSTOP)
    errors: list[Error] = []

    async def save() -> None:
        with pytest.raises(Error) as caught:
            await vm.save(str(path))
        errors.append(caught.value)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(save)
        await wait_until("the file", lambda: files(path.parent) != [])
        os.kill(pid, signal.SIGKILL)
    await daemon.wait_said("stopped crashed")
    assert [str(error) for error in errors] == ["operation failed: domain is no longer running"]
    assert await condition(vm) == ("shutoff", "crashed", False)
    assert files(path.parent) == []


async def test_destroying_overrules_the_save_of_a_guest_that_hangs(
    daemon: LocalDaemon, tick: TickDomain, path: Path
) -> None:
    vm, _ = await run_and_write(daemon, tick)
    (pid,) = pids(daemon)
    os.kill(pid, signal.SIGSTOP)

    async def save() -> None:
        with pytest.raises(OperationFailed):
            await vm.save(str(path))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(save)
        await wait_until("the file", lambda: files(path.parent) != [])
        await vm.destroy()
    assert (await condition(vm))[0] == "shutoff"
    assert files(path.parent) == []
    assert pids(daemon) == []


async def test_a_save_that_is_cancelled_lets_the_guest_go_on(
    daemon: LocalDaemon, tick: TickDomain, path: Path
) -> None:
    vm, written = await run_and_write(daemon, tick)
    (pid,) = pids(daemon)
    os.kill(pid, signal.SIGSTOP)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(vm.save, str(path))
        await wait_until("the file", lambda: files(path.parent) != [])
        nursery.cancel_scope.cancel()
        os.kill(pid, signal.SIGCONT)
    assert (await condition(vm))[0] == "running"
    assert files(path.parent) == []
    await assert_goes_on(tick, written)


async def test_a_daemon_that_gives_up_on_a_guest_that_hangs_leaves_the_save_to_the_next_one(
    short_tmp: Path, tick: TickDomain, path: Path
) -> None:
    async with local_daemon(short_tmp / "d", end_guests=False) as daemon:
        vm, written = await run_and_write(daemon, tick)
        (pid,) = pids(daemon)
        os.kill(pid, signal.SIGSTOP)

        async def save() -> None:
            with pytest.raises(OutcomeUnknown):
                await vm.save(str(path))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(save)
            await wait_until("the file", lambda: files(path.parent) != [])
            await daemon.hypervisor.driver.abandon()
    os.kill(pid, signal.SIGCONT)
    async with local_daemon(short_tmp / "d") as daemon:
        assert (await condition(daemon.domain("tick")))[0] == "running"
        assert files(path.parent) == []
        await assert_goes_on(tick, written)


async def test_a_guest_that_would_not_die_after_it_was_saved_is_saved(
    daemon: LocalDaemon, tick: TickDomain, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    vm, written = await run_and_write(daemon, tick)

    async def stay(guest: Guest) -> None:
        os.kill(guest.process.pid, signal.SIGSTOP)
        await guest.aclose()
        raise OperationFailed("Failed to terminate process")

    with monkeypatch.context() as patched:
        patched.setattr(Guest, "end", stay)
        with pytest.raises(OperationFailed, match="Failed to terminate"):
            await vm.save(str(path))
    await daemon.wait_said("stopped saved")
    assert pids(daemon) == []
    await daemon.restore(str(path))
    await assert_goes_on(tick, written)


class Memory:
    """A saved state that is at its end."""

    async def read(self) -> bytes:
        return b""


@pytest.mark.parametrize("end", ["completed", "failed"])
async def test_loading_is_not_over_before_it_has_begun(short_tmp: Path, end: str) -> None:
    """For a moment after the command QEMU knows of no migration at all."""
    states = [{}, {"status": "setup"}, {"status": "active"}, {"status": end, "error-desc": "torn"}]

    def query_migrate(_arguments: object) -> object:
        return qmp.events_first("MIGRATION", value=states.pop(0))

    scripts = {
        "migrate-set-capabilities": {},
        "migrate-set-parameters": {},
        "getfd": {},
        "migrate-incoming": {},
        "query-migrate": query_migrate,
        "query-status": {"status": "paused", "running": False},
    }
    async with (
        fake_qmp(short_tmp / "qmp", scripts=scripts) as qmp,
        open_monitor(short_tmp / "qmp") as monitor,
    ):
        guest = Guest("uuid", None, monitor)  # type: ignore[arg-type] # no process: it does not end
        loading = saving.restore(guest, Memory())  # type: ignore[arg-type] # likewise no file
        if end == "completed":
            await loading
        else:
            with pytest.raises(CommandFailed, match="torn"):
                await loading
    assert states == []


async def test_memory_that_qemu_cannot_load_is_refused_with_its_words(
    daemon: LocalDaemon, tick: TickDomain, path: Path
) -> None:
    vm, _ = await run_and_write(daemon, tick)
    await vm.save(str(path))
    cut(path, 2 * ALIGNMENT + 1000)
    with pytest.raises(
        HypervisorError, match=r"QEMU unexpectedly closed the monitor: .*qemu-system"
    ) as caught:
        await daemon.restore(str(path))
    assert caught.value.cause
    assert await condition(vm) == ("shutoff", "saved", False)
    assert pids(daemon) == []
    await vm.start()


async def test_a_managed_save_that_qemu_cannot_load_is_kept(daemon: LocalDaemon, tick: TickDomain) -> None:
    vm, _ = await run_and_write(daemon, tick)
    await vm.managed_save()
    file = daemon.hypervisor.driver.context.state_dir / tick.uuid / "managed.save"
    cut(file, 2 * ALIGNMENT + 1000)
    with pytest.raises(HypervisorError) as caught:
        await vm.start()
    assert "virtsnap start --force-boot tick" in (caught.value.remedy or "")
    assert await condition(vm) == ("shutoff", "saved", True)
    assert exists(file)
    assert pids(daemon) == []
    await vm.start(flags=["force-boot"])
    assert await condition(vm) == ("running", "booted", False)
    assert not exists(file)


async def test_a_guest_is_not_restored_on_images_that_another_one_has(
    daemon: LocalDaemon, tick: TickDomain, path: Path
) -> None:
    vm, written = await run_and_write(daemon, tick)
    await vm.save(str(path))
    other = TickDomain(disks=tick.disks, name="other")
    await daemon.create(other.xml)
    with pytest.raises(HypervisorError, match="lock"):  # of QEMU, when it is to run
        await daemon.restore(str(path))
    assert await condition(vm) == ("shutoff", "failed", False)
    assert len(pids(daemon)) == 1
    await daemon.domain("other").destroy()
    await daemon.restore(str(path))
    await assert_goes_on(tick, written)


async def test_a_guest_is_not_restored_without_its_images(
    daemon: LocalDaemon, tick: TickDomain, path: Path
) -> None:
    vm, _ = await run_and_write(daemon, tick)
    await vm.save(str(path))
    tick.disks[0].rename(path.with_name("away"))
    with pytest.raises(SystemFailure, match="Cannot access storage file"):
        await daemon.restore(str(path))
    assert await condition(vm) == ("shutoff", "saved", False)


async def test_a_domain_with_a_managed_save_is_not_renamed(daemon: LocalDaemon, tick: TickDomain) -> None:
    vm, _ = await run_and_write(daemon, tick)
    await vm.managed_save()
    with pytest.raises(OperationInvalid, match="domain with a managed saved state can't be renamed"):
        await vm.rename("other")


async def test_a_revert_discards_the_managed_save(daemon: LocalDaemon, tick: TickDomain) -> None:
    vm, _ = await run_and_write(daemon, tick)
    await vm.take("s1")
    await vm.managed_save()
    file = daemon.hypervisor.driver.context.state_dir / tick.uuid / "managed.save"
    assert exists(file)
    await vm.snapshot("s1").revert()
    assert await condition(vm) == ("running", "from snapshot", False)
    assert not exists(file)


async def test_undefining_takes_the_managed_save_along(daemon: LocalDaemon, tick: TickDomain) -> None:
    vm, _ = await run_and_write(daemon, tick)
    await vm.managed_save()
    with pytest.raises(OperationInvalid, match="Refusing to undefine while domain managed save image exists"):
        await vm.undefine()
    await vm.undefine(flags=["managed-save"])
    folder = daemon.hypervisor.driver.context.state_dir / tick.uuid
    assert "managed.save" not in files(folder)


async def test_a_disk_of_two_and_every_snapshot_go_on_together(
    daemon: LocalDaemon, short_tmp: Path, path: Path
) -> None:
    disks = [make_disk(short_tmp / f"{n}.qcow2", boot=n == 0) for n in range(2)]
    tick = TickDomain(disks=disks, serial=short_tmp / "serial")
    vm, _ = await run_and_write(daemon, tick)
    assert tick.serial is not None
    async with Serial.open(tick.serial) as serial:
        second = await serial.command("W")
    await vm.save(str(path))
    await daemon.restore(str(path))
    async with Serial.open(tick.serial) as serial:
        assert await serial.command("R") == second
