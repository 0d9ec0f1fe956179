"""The qemu driver under a daemon's services: the life of domains, and what happens to it."""

from __future__ import annotations

import os
import re
import signal
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import trio

from tests.support.guest import Serial, make_disk
from tests.support.qemu_host import (
    START_SECONDS,
    LocalDaemon,
    TickDomain,
    kill_and_wait,
    local_daemon,
    qemu_pids,
    wait_until,
)
from virtsnap_protocol.errors import (
    ConfigUnsupported,
    DomainExists,
    DomainNotFound,
    DriverUnavailable,
    HypervisorError,
    OperationFailed,
    OperationInvalid,
    StorageError,
    SystemFailure,
)

if TYPE_CHECKING:
    from pathlib import Path

    from virtsnap.domain import Domain
    from virtsnap_protocol.methods.domain import DomainState


async def state_of(vm: Domain) -> tuple[DomainState, str]:
    domain = (await vm.info()).domain
    return domain.state, domain.reason


def pids(daemon: LocalDaemon) -> list[int]:
    return qemu_pids(daemon.services.config.state_dir)


async def names(daemon: LocalDaemon) -> list[str]:
    return [domain.name for domain in (await daemon.domains()).domains]


# --- transient and persistent domains ---


async def test_a_transient_domain_exists_while_it_runs(daemon: LocalDaemon, tick: TickDomain) -> None:
    created = (await daemon.create(tick.xml)).domain
    assert (created.state, created.reason, created.persistent) == ("running", "booted", False)
    assert created.id is not None
    assert await names(daemon) == ["tick"]
    assert len(pids(daemon)) == 1
    await daemon.domain("tick").destroy()
    assert await names(daemon) == []
    assert pids(daemon) == []
    assert daemon.said == ["started booted", "stopped destroyed"]


async def test_a_defined_domain_outlives_its_guest(daemon: LocalDaemon, tick: TickDomain) -> None:
    vm = daemon.domain("tick")
    assert (await daemon.define(tick.xml)).domain.state == "shutoff"
    assert (await vm.start()).domain.state == "running"
    await vm.destroy()
    assert await state_of(vm) == ("shutoff", "destroyed")
    await vm.undefine()
    assert await names(daemon) == []


async def test_a_running_domain_that_is_undefined_becomes_transient(
    daemon: LocalDaemon, tick: TickDomain
) -> None:
    vm = daemon.domain("tick")
    await daemon.define(tick.xml)
    await vm.start()
    await vm.undefine()
    assert not (await vm.info()).domain.persistent
    await vm.destroy()
    assert await names(daemon) == []


async def test_a_second_domain_of_the_name_is_refused(daemon: LocalDaemon, tick: TickDomain) -> None:
    await daemon.create(tick.xml)
    other = TickDomain(disks=tick.disks)
    with pytest.raises(DomainExists, match=f"domain 'tick' already exists with uuid {tick.uuid}"):
        await daemon.create(other.xml)
    with pytest.raises(OperationInvalid, match="domain 'tick' is already active"):
        await daemon.create(tick.xml)
    assert len(pids(daemon)) == 1


async def test_suspend_stops_the_guest_and_resume_lets_it_go_on(
    daemon: LocalDaemon, tick: TickDomain
) -> None:
    assert tick.serial is not None
    await daemon.create(tick.xml)
    vm = daemon.domain("tick")
    async with Serial.open(tick.serial) as serial:
        await serial.wait_counter(1)
        await vm.suspend()
        assert await state_of(vm) == ("paused", "user")
        await serial.forget()
        with pytest.raises(trio.TooSlowError):
            await serial.counter(seconds=0.5)
        await vm.resume()
        await serial.counter()
    assert await state_of(vm) == ("running", "unpaused")


async def test_a_domain_can_be_started_paused(daemon: LocalDaemon, tick: TickDomain) -> None:
    assert tick.serial is not None
    created = (await daemon.create(tick.xml, paused=True)).domain
    assert (created.state, created.reason) == ("paused", "user")
    async with Serial.open(tick.serial) as serial:
        await daemon.domain("tick").resume()
        await serial.wait_for("BOOT")


async def test_shutdown_lets_the_guest_power_itself_off(daemon: LocalDaemon, tick: TickDomain) -> None:
    assert tick.serial is not None
    await daemon.define(tick.xml)
    vm = daemon.domain("tick")
    await vm.start()
    async with Serial.open(tick.serial) as serial:
        await serial.wait_counter(1)
        await vm.shutdown()
        await serial.wait_for("OFF")
    await daemon.wait_said("stopped shutdown")
    assert await state_of(vm) == ("shutoff", "shutdown")
    assert pids(daemon) == []


async def test_a_guest_that_panics_has_crashed(daemon: LocalDaemon, tick: TickDomain) -> None:
    panicking = tick.xml.replace("  </devices>", "    <panic model='isa'/>\n  </devices>")
    assert tick.serial is not None
    await daemon.define(panicking)
    vm = daemon.domain("tick")
    await vm.start()
    async with Serial.open(tick.serial) as serial:
        await serial.wait_counter(1)
        await serial.tell("p")
        await daemon.wait_said("stopped crashed")
    assert await state_of(vm) == ("shutoff", "crashed")


async def test_a_qemu_that_is_killed_has_crashed(daemon: LocalDaemon, tick: TickDomain) -> None:
    await daemon.define(tick.xml)
    vm = daemon.domain("tick")
    await vm.start()
    (pid,) = pids(daemon)
    os.kill(pid, signal.SIGKILL)
    await daemon.wait_said("stopped crashed")
    assert await state_of(vm) == ("shutoff", "crashed")
    assert (await vm.start()).domain.state == "running"


async def test_a_guest_whose_end_cannot_be_recorded_takes_nobody_along(
    daemon: LocalDaemon, tick: TickDomain
) -> None:
    await daemon.define(tick.xml)
    vm = daemon.domain("tick")
    await vm.start()
    lock, tried = daemon.hypervisor.domains.find("tick").lock, trio.Event()

    async def full() -> None:
        tried.set()
        raise StorageError("database or disk is full")

    lock.debt = full
    kill_and_wait(*pids(daemon))
    with trio.fail_after(START_SECONDS):
        await tried.wait()
    assert (await vm.info()).domain.state == "running"
    lock.debt = None
    await vm.destroy()
    assert (await vm.info()).domain.state == "shutoff"


async def test_a_transient_domain_goes_with_a_qemu_that_is_killed(
    daemon: LocalDaemon, tick: TickDomain
) -> None:
    await daemon.create(tick.xml)
    await daemon.domain("tick").take("s1")
    (pid,) = pids(daemon)
    os.kill(pid, signal.SIGKILL)
    await daemon.wait_said("stopped crashed")
    assert await names(daemon) == []
    assert "snapshot.discarded None" in daemon.said


# --- the definition ---


async def test_machine_and_addresses_are_pinned_when_a_domain_is_defined(
    daemon: LocalDaemon, tick: TickDomain
) -> None:
    text = tick.xml.replace("bus='ide'", "bus='virtio'").replace("hda", "vda")
    await daemon.define(text)
    vm = daemon.domain("tick")
    defined = (await vm.xml(inactive=True)).xml
    assert re.search(r"machine=['\"]pc-i440fx-[0-9.]+['\"]", defined)
    assert re.search(r"<disk(.|\n)*<address type=['\"]pci['\"](.|\n)*</disk>", defined)
    started = []
    for _ in range(2):
        await vm.start()
        (pid,) = pids(daemon)
        started.append(await trio.Path(f"/proc/{pid}/cmdline").read_bytes())
        assert (await vm.xml(inactive=True)).xml == defined
        await vm.destroy()
    assert started[0] == started[1]


async def test_defining_what_was_dumped_changes_nothing(daemon: LocalDaemon, tick: TickDomain) -> None:
    await daemon.define(tick.xml)
    vm = daemon.domain("tick")
    dumped = (await vm.xml(secure=True)).xml
    await daemon.define(dumped)
    assert (await vm.xml(secure=True)).xml == dumped


async def test_what_cannot_be_honoured_is_refused_by_name_and_nothing_is_kept(
    daemon: LocalDaemon, tick: TickDomain
) -> None:
    text = tick.xml.replace("  </devices>", "    <tpm model='tpm-tis'/>\n  </devices>")
    for attempt in (daemon.define, daemon.create):
        with pytest.raises(ConfigUnsupported, match="tpm"):
            await attempt(text)
    assert await names(daemon) == []


# --- starts that fail ---


async def test_a_missing_image_is_refused_in_libvirts_words(daemon: LocalDaemon, tick: TickDomain) -> None:
    tick.disks[0].unlink()
    text = f"Cannot access storage file '{tick.disks[0]}': No such file or directory"
    with pytest.raises(SystemFailure, match=re.escape(text)):
        await daemon.create(tick.xml)
    await daemon.define(tick.xml)
    vm = daemon.domain("tick")
    with pytest.raises(SystemFailure, match=re.escape(text)):
        await vm.start()
    assert (await vm.info()).domain.state == "shutoff"
    assert pids(daemon) == []


async def test_a_start_that_fails_leaves_nothing(daemon: LocalDaemon, tick: TickDomain) -> None:
    tick.disks[0].write_bytes(b"not an image" * 1000)
    with pytest.raises(HypervisorError, match="process exited while connecting to monitor") as caught:
        await daemon.create(tick.xml)
    assert "not in qcow2 format" in (caught.value.cause or "")
    assert await names(daemon) == []
    assert pids(daemon) == []
    make_disk(tick.disks[0], boot=True)
    await daemon.create(tick.xml)


async def test_a_start_that_is_cancelled_leaves_nothing(daemon: LocalDaemon, tick: TickDomain) -> None:
    async with trio.open_nursery() as nursery:

        async def create() -> None:
            await daemon.create(tick.xml)

        nursery.start_soon(create)
        await wait_until("a QEMU", lambda: pids(daemon))
        nursery.cancel_scope.cancel()
    assert await names(daemon) == []
    assert pids(daemon) == []


# --- the daemon comes and goes ---


async def test_a_broken_emulator_makes_the_driver_unavailable(short_tmp: Path) -> None:
    async with local_daemon(short_tmp / "d", emulator="/bin/false") as daemon:
        with pytest.raises(DriverUnavailable, match="/bin/false does not work"):
            await daemon.domains()


async def test_a_missing_emulator_makes_the_driver_unavailable(short_tmp: Path) -> None:
    async with local_daemon(short_tmp / "d", emulator="qemu-system-none") as daemon:
        with pytest.raises(DriverUnavailable, match=r"qemu-system-none is not installed .*apt install"):
            await daemon.domains()


async def test_an_error_beside_the_open_driver_arrives_as_it_is(short_tmp: Path) -> None:
    with pytest.raises(OperationFailed, match="as it is"):
        async with local_daemon(short_tmp / "d"):
            raise OperationFailed("as it is")


async def test_guests_are_found_again_with_their_state(short_tmp: Path, tick: TickDomain) -> None:
    async with local_daemon(short_tmp / "d", end_guests=False) as daemon:
        await daemon.create(tick.xml)
        await daemon.domain("tick").suspend()
        before = pids(daemon)
    async with local_daemon(short_tmp / "d") as daemon:
        vm = daemon.domain("tick")
        assert pids(daemon) == before
        assert await state_of(vm) == ("paused", "user")
        await vm.resume()
        assert await state_of(vm) == ("running", "unpaused")


async def test_a_guest_that_was_killed_meanwhile_is_recorded_as_crashed(
    short_tmp: Path, tick: TickDomain
) -> None:
    async with local_daemon(short_tmp / "d", end_guests=False) as daemon:
        await daemon.define(tick.xml)
        await daemon.domain("tick").start()
    for pid in qemu_pids(short_tmp / "d"):
        kill_and_wait(pid)
    async with local_daemon(short_tmp / "d") as daemon:
        assert await state_of(daemon.domain("tick")) == ("shutoff", "crashed")


async def test_a_guest_that_powered_itself_off_meanwhile_is_recorded_as_shut_down(
    short_tmp: Path, tick: TickDomain
) -> None:
    assert tick.serial is not None
    async with local_daemon(short_tmp / "d", end_guests=False) as daemon:
        await daemon.define(tick.xml)
        await daemon.domain("tick").start()
    async with Serial.open(tick.serial) as serial:
        await serial.wait_counter(1)
        await serial.tell("q")
        await serial.wait_for("OFF")
    async with local_daemon(short_tmp / "d") as daemon:
        vm = daemon.domain("tick")

        async def is_off() -> bool:
            return await state_of(vm) == ("shutoff", "shutdown")

        await wait_until("the record of its end", is_off)
        assert pids(daemon) == []


async def test_a_guest_that_nobody_recorded_is_ended(short_tmp: Path, tick: TickDomain) -> None:
    async with local_daemon(short_tmp / "d", end_guests=False) as daemon:
        await daemon.create(tick.xml)
    (short_tmp / "d" / "store.sqlite").unlink()
    async with local_daemon(short_tmp / "d") as daemon:
        assert await names(daemon) == []
        assert pids(daemon) == []
        with pytest.raises(DomainNotFound):
            await daemon.domain("tick").info()


async def test_a_guest_that_does_not_answer_delays_nobody_and_can_be_destroyed(
    short_tmp: Path, tick: TickDomain, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("virtsnapd.drivers.qemu.connecting.RUNNING_DEADLINE", 0.2)
    other = TickDomain(name="other", disks=[make_disk(short_tmp / "other.qcow2", boot=True)])
    async with local_daemon(short_tmp / "d", end_guests=False) as daemon:
        await daemon.create(tick.xml)
        (pid,) = pids(daemon)
        await daemon.create(other.xml)
    os.kill(pid, signal.SIGSTOP)
    async with local_daemon(short_tmp / "d") as daemon:
        stuck = daemon.domain("tick")
        assert "does not answer" in ((await stuck.info()).domain.needs_attention or "")
        with pytest.raises(OperationFailed, match="the domain's QEMU does not answer"):
            await stuck.suspend()
        await daemon.domain("other").suspend()
        await stuck.destroy()
        assert await names(daemon) == ["other"]
        assert pid not in pids(daemon)


async def test_a_guest_that_answers_again_is_taken_up_again(
    short_tmp: Path, tick: TickDomain, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("virtsnapd.drivers.qemu.connecting.RUNNING_DEADLINE", 0.2)
    monkeypatch.setattr("virtsnapd.drivers.qemu.guest.RETRY_SECONDS", 0.05)
    async with local_daemon(short_tmp / "d", end_guests=False) as daemon:
        await daemon.create(tick.xml)
        (pid,) = pids(daemon)
    os.kill(pid, signal.SIGSTOP)
    async with local_daemon(short_tmp / "d") as daemon:
        vm = daemon.domain("tick")
        os.kill(pid, signal.SIGCONT)

        async def is_well() -> bool:
            return (await vm.info()).domain.needs_attention is None

        await wait_until("its recovery", is_well)
        await vm.take("s1")


async def test_a_guest_that_never_answers_again_is_recorded_when_it_ends(
    short_tmp: Path, tick: TickDomain, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("virtsnapd.drivers.qemu.connecting.RUNNING_DEADLINE", 0.2)
    async with local_daemon(short_tmp / "d", end_guests=False) as daemon:
        await daemon.define(tick.xml)
        await daemon.domain("tick").start()
        (pid,) = pids(daemon)
    os.kill(pid, signal.SIGSTOP)
    async with local_daemon(short_tmp / "d") as daemon:
        os.kill(pid, signal.SIGKILL)
        await daemon.wait_said("stopped crashed")
        assert await state_of(daemon.domain("tick")) == ("shutoff", "crashed")
