"""Internal snapshots of real guests: taken, reverted to and deleted, and everything that gets in their way."""

from __future__ import annotations

import os
import signal
import subprocess
from contextlib import contextmanager
from typing import TYPE_CHECKING, Literal

import pytest
import trio

from tests.support.guest import Serial, make_disk
from tests.support.qemu_host import LocalDaemon, TickDomain, qemu_pids, wait_until
from tests.support.root import as_root
from virtsnap_protocol.errors import (
    ConfigUnsupported,
    Error,
    HypervisorError,
    OperationFailed,
    OperationInvalid,
    OperationUnsupported,
    SystemFailure,
)
from virtsnapd.drivers.qemu import images
from virtsnapd.drivers.qemu.driver import QemuDriver

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from virtsnap.domain import Domain


async def tags(path: Path) -> list[str]:
    return [entry.name for entry in (await images.info(path, format="qcow2")).snapshots]


async def known(vm: Domain) -> dict[str, str | None]:
    """Return the parents of the recorded snapshots by their names."""
    return {snapshot.name: snapshot.parent for snapshot in (await vm.snapshots()).snapshots}


async def state_of(vm: Domain) -> str:
    return (await vm.info()).domain.state


def pid_of(daemon: LocalDaemon) -> int:
    (pid,) = qemu_pids(daemon.services.config.state_dir)
    return pid


async def running(daemon: LocalDaemon, tick: TickDomain) -> Domain:
    await daemon.create(tick.xml)
    return daemon.domain(tick.name)


async def started(daemon: LocalDaemon, tick: TickDomain) -> Domain:
    await daemon.define(tick.xml)
    vm = daemon.domain(tick.name)
    await vm.start()
    return vm


async def shut_off(daemon: LocalDaemon, tick: TickDomain) -> Domain:
    await daemon.define(tick.xml)
    return daemon.domain(tick.name)


# --- take ---


async def test_a_running_guest_is_saved_with_its_memory_and_runs_on(
    daemon: LocalDaemon, tick: TickDomain
) -> None:
    vm = await running(daemon, tick)
    taken = (await vm.take("s1")).snapshot
    assert (taken.state, taken.location, taken.current, taken.parent) == ("running", "internal", True, None)
    (entry,) = (await images.info(tick.disks[0], format="qcow2")).snapshots
    assert entry.name == "s1"
    assert entry.vm_state_size > 0
    assert await state_of(vm) == "running"
    assert tick.serial is not None
    async with Serial.open(tick.serial) as serial:
        await serial.counter()
    assert "snapshot.created s1" in daemon.said


async def test_a_paused_guest_stays_paused(daemon: LocalDaemon, tick: TickDomain) -> None:
    vm = await running(daemon, tick)
    await vm.suspend()
    assert (await vm.take("s1")).snapshot.state == "paused"
    assert await state_of(vm) == "paused"
    assert not await runs(daemon, vm)


async def runs(daemon: LocalDaemon, vm: Domain) -> bool:
    """Ask QEMU itself whether the virtual CPUs run."""
    info = (await vm.info()).domain
    driver = daemon.hypervisor.driver
    assert isinstance(driver, QemuDriver)
    guest = driver._guests.get(daemon.hypervisor.domains.find(info.uuid))
    running: bool = (await guest.commands.query_status()).running
    return running


async def test_a_shut_off_domain_is_saved_without_memory(daemon: LocalDaemon, tick: TickDomain) -> None:
    vm = await shut_off(daemon, tick)
    assert (await vm.take("s1")).snapshot.state == "shutoff"
    (entry,) = (await images.info(tick.disks[0], format="qcow2")).snapshots
    assert (entry.name, entry.vm_state_size) == ("s1", 0)


async def test_all_disks_are_saved(daemon: LocalDaemon, tick: TickDomain, short_tmp: Path) -> None:
    both = [*tick.disks, make_disk(short_tmp / "second.qcow2", boot=False)]
    vm = await running(daemon, TickDomain(disks=both))
    await vm.take("s1")
    assert [await tags(path) for path in both] == [["s1"], ["s1"]]
    await vm.snapshot("s1").delete()
    assert [await tags(path) for path in both] == [[], []]


async def test_each_snapshot_is_the_child_of_the_current_one(daemon: LocalDaemon, tick: TickDomain) -> None:
    vm = await running(daemon, tick)
    for name in ("s1", "s2"):
        await vm.take(name)
    await vm.snapshot("s1").revert()
    await vm.take("s3")
    assert await known(vm) == {"s1": None, "s2": "s1", "s3": "s1"}
    assert (await vm.current_snapshot()).snapshot.name == "s3"


async def test_halt_ends_the_guest_after_the_snapshot(daemon: LocalDaemon, tick: TickDomain) -> None:
    vm = await started(daemon, tick)
    await vm.take("s1", flags=["halt"])
    domain = (await vm.info()).domain
    assert (domain.state, domain.reason) == ("shutoff", "from snapshot")
    assert daemon.said[-1] == "stopped from-snapshot"
    await vm.snapshot("s1").revert()
    assert await state_of(vm) == "running"


async def test_halt_of_a_transient_domain_is_refused(daemon: LocalDaemon, tick: TickDomain) -> None:
    vm = await running(daemon, tick)
    with pytest.raises(OperationInvalid, match="cannot halt after transient domain snapshot"):
        await vm.take("s1", flags=["halt"])
    assert await tags(tick.disks[0]) == []
    assert await state_of(vm) == "running"


async def test_without_metadata_only_the_image_knows(daemon: LocalDaemon, tick: TickDomain) -> None:
    vm = await running(daemon, tick)
    taken = (await vm.take("s1", flags=["no-metadata"])).snapshot
    assert not taken.has_metadata
    assert await known(vm) == {}
    assert await tags(tick.disks[0]) == ["s1"]


# --- refusals before anything is touched ---


async def test_a_raw_disk_is_refused_in_libvirts_words_and_not_touched(
    daemon: LocalDaemon, short_tmp: Path
) -> None:
    disk = short_tmp / "raw"
    disk.write_bytes(bytes(1024 * 1024))
    for create in (running, shut_off):
        vm = await create(daemon, TickDomain(name=create.__name__, disks=[disk], format="raw"))
        text = "internal snapshot for disk hda unsupported for storage type raw"
        with pytest.raises(ConfigUnsupported, match=text):
            await vm.take("s1")
        assert await known(vm) == {}
        if create is running:
            assert await state_of(vm) == "running"
            await vm.destroy()
    assert disk.read_bytes() == bytes(1024 * 1024)


async def test_one_raw_disk_keeps_the_others_from_being_touched(
    daemon: LocalDaemon, tick: TickDomain, short_tmp: Path
) -> None:
    (short_tmp / "raw").write_bytes(bytes(1024 * 1024))
    disk = f"<disk type='file'><driver name='qemu' type='raw'/><source file='{short_tmp}/raw'/>"
    text = tick.xml.replace("<serial", f"{disk}<target dev='hdc' bus='ide'/></disk><serial")
    await daemon.create(text)
    vm = daemon.domain("tick")
    with pytest.raises(ConfigUnsupported) as caught:
        await vm.take("s1")
    assert [problem.path for problem in caught.value.problems] == ["/domain/devices/disk[target/@dev='hdc']"]
    assert await tags(tick.disks[0]) == []


async def test_a_name_that_the_image_has_is_refused_and_the_snapshot_stays(
    daemon: LocalDaemon, tick: TickDomain
) -> None:
    await images.create_snapshot(tick.disks[0], "theirs")
    text = "image of disk 'hda' already has an internal snapshot 'theirs'"
    for create in (running, shut_off):
        vm = await create(daemon, TickDomain(name=create.__name__, disks=tick.disks))
        with pytest.raises(OperationFailed, match=text):
            await vm.take("theirs")
        assert await known(vm) == {}
        if create is running:
            await vm.destroy()
    assert await tags(tick.disks[0]) == ["theirs"]


async def test_a_name_that_qemu_would_take_for_another_id_is_refused(
    daemon: LocalDaemon, tick: TickDomain
) -> None:
    vm = await running(daemon, tick)
    await vm.take("first")
    with pytest.raises(OperationUnsupported, match="has a snapshot with the id 1"):
        await vm.take("1")
    assert await tags(tick.disks[0]) == ["first"]
    assert await known(vm) == {"first": None}


async def test_going_back_to_a_name_that_qemu_would_take_for_another_id_is_refused(
    daemon: LocalDaemon, tick: TickDomain
) -> None:
    vm = await running(daemon, tick)
    await vm.take("2")  # its id is 1
    await vm.take("other")  # its id is 2
    with pytest.raises(OperationUnsupported, match="has a snapshot with the id 2"):
        await vm.snapshot("2").revert()
    assert await state_of(vm) == "running"


async def test_a_shut_off_domain_with_a_missing_image_is_refused(
    daemon: LocalDaemon, tick: TickDomain
) -> None:
    vm = await shut_off(daemon, tick)
    tick.disks[0].unlink()
    with pytest.raises(SystemFailure, match="Cannot access storage file"):
        await vm.take("s1")
    assert await known(vm) == {}
    assert (await vm.info()).domain.generation == 0


# --- revert ---

RevertFlag = Literal["running", "paused"]


@pytest.mark.checklist(267, 268)
@pytest.mark.parametrize(
    ("taken", "flags", "final"),
    [
        ("running", [], "running"),
        ("running", ["paused"], "paused"),
        ("paused", [], "paused"),
        ("paused", ["running"], "running"),
        ("shutoff", [], "shutoff"),
        ("shutoff", ["running"], "running"),
        ("shutoff", ["paused"], "paused"),
    ],
)
@pytest.mark.parametrize("before", ["running", "paused", "shutoff"])
async def test_a_revert_ends_in_the_state_of_the_snapshot_unless_told_otherwise(
    daemon: LocalDaemon, tick: TickDomain, taken: str, flags: list[RevertFlag], final: str, before: str
) -> None:
    vm = await shut_off(daemon, tick)
    await enter(vm, taken)
    assert (await vm.take("s1")).snapshot.state == taken
    await enter(vm, before)
    seen = len(daemon.said)
    await vm.snapshot("s1").revert(flags=flags)
    assert await state_of(vm) == final
    if final != "shutoff":
        assert await runs(daemon, vm) == (final == "running")
    events = [word for word in daemon.said[seen:] if not word.startswith("snapshot")]
    expected = [] if before == "shutoff" else ["stopped from-snapshot"]
    boots = taken == "shutoff"
    expected += ["resumed unpaused"] if final == "running" and boots else []
    expected += [] if final == "shutoff" else ["started from-snapshot"]
    expected += ["resumed from-snapshot"] if final == "running" and not boots else []
    expected += ["suspended from-snapshot"] if final == "paused" else []
    expected += ["defined from-snapshot"]
    assert events == expected


async def enter(vm: Domain, state: str) -> None:
    now = await state_of(vm)
    if state == "shutoff":
        if now != "shutoff":
            await vm.destroy()
        return
    if now == "shutoff":
        await vm.start()
        now = "running"
    if now != state:
        await (vm.suspend() if state == "paused" else vm.resume())


async def test_an_inactive_snapshot_needs_a_word_from_a_transient_domain(
    daemon: LocalDaemon, tick: TickDomain
) -> None:
    vm = await shut_off(daemon, tick)
    await vm.take("off")
    await vm.start()
    await vm.undefine()
    with pytest.raises(OperationInvalid, match="transient domain needs to request run or pause"):
        await vm.snapshot("off").revert()
    assert await state_of(vm) == "running"
    await vm.snapshot("off").revert(running=True)
    assert await state_of(vm) == "running"


async def test_a_guest_goes_back_to_a_definition_that_has_changed_since(
    daemon: LocalDaemon, tick: TickDomain
) -> None:
    vm = await started(daemon, tick)
    await vm.take("s1")
    await vm.destroy()
    larger = (await vm.xml(secure=True)).xml.replace(">16<", ">32<").replace(">16384<", ">32768<")
    await daemon.define(larger)
    await vm.start()
    memory = (await vm.info()).domain.memory
    assert memory == 32 * 1024 * 1024
    await vm.snapshot("s1").revert()
    domain = (await vm.info()).domain
    assert (domain.memory, domain.state) == (16 * 1024 * 1024, "running")


async def test_a_redefined_snapshot_without_data_is_refused_and_the_guest_runs_on(
    daemon: LocalDaemon, tick: TickDomain
) -> None:
    vm = await running(daemon, tick)
    await vm.take("s1")
    document = (await vm.snapshot("s1").xml(secure=True)).xml
    await vm.snapshot("s1").delete()
    await vm.redefine(document, current=True)
    text = "image of disk 'hda' does not have internal snapshot 's1'"
    with pytest.raises(OperationFailed, match=text):
        await vm.snapshot("s1").revert()
    assert await state_of(vm) == "running"
    assert await runs(daemon, vm)


async def test_a_redefined_snapshot_without_its_memory_is_refused_and_the_guest_runs_on(
    daemon: LocalDaemon, tick: TickDomain
) -> None:
    vm = await started(daemon, tick)
    await vm.take("s1")
    document = (await vm.snapshot("s1").xml(secure=True)).xml
    await vm.snapshot("s1").delete()
    await vm.destroy()
    await images.create_snapshot(tick.disks[0], "s1")
    await vm.start()
    await vm.redefine(document)
    with pytest.raises(OperationFailed, match="missing vmstate section in internal snapshot 's1'"):
        await vm.snapshot("s1").revert()
    assert await runs(daemon, vm)


async def test_memory_that_does_not_fit_leaves_the_guest_paused_and_says_so(
    daemon: LocalDaemon, tick: TickDomain
) -> None:
    vm = await running(daemon, tick)
    await vm.take("s1")
    document = (await vm.snapshot("s1").xml(secure=True)).xml
    await vm.destroy()
    await daemon.create(tick.xml.replace(">16<", ">32<"))
    await vm.redefine(document.replace(">16<", ">32<").replace(">16384<", ">32768<"))
    with pytest.raises(HypervisorError) as caught:
        await vm.snapshot("s1").revert()
    assert "left paused" in (caught.value.remedy or "")
    domain = (await vm.info()).domain
    assert (domain.state, domain.current_snapshot) == ("paused", None)
    assert "the revert to snapshot 's1' failed" in (domain.needs_attention or "")
    await vm.destroy()


@pytest.mark.checklist(269)
async def test_a_cold_revert_that_fails_says_that_the_domain_is_off(
    daemon: LocalDaemon, tick: TickDomain
) -> None:
    vm = await started(daemon, tick)
    await vm.take("s1")
    document = (await vm.snapshot("s1").xml(secure=True)).xml
    await vm.snapshot("s1").delete(metadata_only=True)
    await vm.redefine(document.replace(">16<", ">32<").replace(">16384<", ">32768<"))
    seen = len(daemon.said)
    with pytest.raises(HypervisorError) as caught:
        await vm.snapshot("s1").revert()
    assert "shut off" in (caught.value.remedy or "")
    domain = (await vm.info()).domain
    assert (domain.state, domain.reason, domain.current_snapshot) == ("shutoff", "failed", None)
    assert [event for event in daemon.said[seen:] if event.startswith("st")] == ["stopped from-snapshot"]
    assert qemu_pids(daemon.services.config.state_dir) == []
    await vm.start()


# --- delete and undefine ---


async def test_children_are_deleted_with_their_data(daemon: LocalDaemon, tick: TickDomain) -> None:
    vm = await running(daemon, tick)
    for name in ("s1", "s2", "s3"):
        await vm.take(name)
    await vm.snapshot("s2").delete(children=True)
    assert await known(vm) == {"s1": None}
    assert await tags(tick.disks[0]) == ["s1"]
    assert (await vm.current_snapshot()).snapshot.name == "s1"


async def test_children_of_a_deleted_snapshot_go_to_its_parent(daemon: LocalDaemon, tick: TickDomain) -> None:
    vm = await running(daemon, tick)
    for name in ("s1", "s2", "s3"):
        await vm.take(name)
    await vm.snapshot("s2").delete()
    assert await known(vm) == {"s1": None, "s3": "s1"}
    assert await tags(tick.disks[0]) == ["s1", "s3"]


async def test_offline_snapshots_are_deleted_offline_and_online(
    daemon: LocalDaemon, tick: TickDomain
) -> None:
    vm = await shut_off(daemon, tick)
    for name in ("s1", "s2"):
        await vm.take(name)
    await vm.snapshot("s2").delete()
    assert await tags(tick.disks[0]) == ["s1"]
    await vm.start()
    await vm.snapshot("s1").delete()
    assert await tags(tick.disks[0]) == []


async def test_deleting_metadata_leaves_the_data(daemon: LocalDaemon, tick: TickDomain) -> None:
    vm = await running(daemon, tick)
    await vm.take("s1")
    await vm.snapshot("s1").delete(metadata_only=True)
    assert await known(vm) == {}
    assert await tags(tick.disks[0]) == ["s1"]


async def test_an_inactive_domain_with_snapshots_is_undefined_only_with_their_metadata(
    daemon: LocalDaemon, tick: TickDomain
) -> None:
    vm = await shut_off(daemon, tick)
    await vm.take("s1")
    with pytest.raises(OperationInvalid, match="cannot delete inactive domain with 1 snapshots"):
        await vm.undefine()
    await vm.undefine(snapshots_metadata=True)
    assert await tags(tick.disks[0]) == ["s1"]


# --- faults during a take ---


@contextmanager
def small_filesystem(folder: Path, size: str) -> Iterator[Path]:
    """Mount a file system of this size."""
    folder.mkdir()
    options = f"size={size},uid={os.getuid()}"
    subprocess.run(as_root(["mount", "-t", "tmpfs", "-o", options, "tmpfs", folder]), check=True)
    try:
        yield folder
    finally:
        subprocess.run(as_root(["umount", "--lazy", folder]), check=True)


async def test_a_full_disk_fails_the_snapshot_and_the_guest_runs_on(
    daemon: LocalDaemon, short_tmp: Path
) -> None:
    with small_filesystem(short_tmp / "small", "700k") as folder:
        disk = make_disk(short_tmp / "disk.qcow2", boot=True).rename(short_tmp / "moved")
        small = folder / "disk.qcow2"
        small.write_bytes(disk.read_bytes())
        vm = await running(daemon, TickDomain(disks=[small], serial=short_tmp / "serial"))
        with pytest.raises(HypervisorError, match=r"No space left|Input/output error"):
            await vm.take("s1")
        assert await tags(small) == []
        assert await known(vm) == {}
        assert await runs(daemon, vm)
        assert (await vm.info()).domain.needs_attention is None
        async with Serial.open(short_tmp / "serial") as serial:
            await serial.counter()
        await vm.destroy()


async def test_a_qemu_that_dies_during_a_take_leaves_nothing(daemon: LocalDaemon, tick: TickDomain) -> None:
    other = TickDomain(name="other", disks=[make_disk(tick.disks[0].with_name("other.qcow2"), boot=True)])
    vm = await started(daemon, tick)
    pid = pid_of(daemon)
    bystander = await running(daemon, other)
    os.kill(pid, signal.SIGSTOP)
    failures: list[Error] = []

    async def take() -> None:
        try:
            await vm.take("s1")
        except Error as error:
            failures.append(error)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(take)
        await wait_until("the take", lambda: is_busy(daemon, "tick"))
        os.kill(pid, signal.SIGKILL)
    (failure,) = failures
    assert isinstance(failure, OperationFailed)
    assert "domain is no longer running" in str(failure)
    await daemon.wait_said("stopped crashed")
    assert await tags(tick.disks[0]) == []
    assert await known(vm) == {}
    await bystander.take("fine")
    await vm.start()
    await vm.take("s1")


def is_busy(daemon: LocalDaemon, name: str) -> bool:
    holder = daemon.hypervisor.domains.find(name).lock.holder
    return holder is not None and holder.long


@pytest.mark.parametrize("milliseconds", [1, 4, 7, 10, 13])
async def test_a_qemu_that_is_killed_at_any_moment_of_a_take_leaves_image_and_record_of_one_mind(
    daemon: LocalDaemon, tick: TickDomain, milliseconds: int
) -> None:
    vm = await started(daemon, tick)
    await vm.take("s0")
    pid = pid_of(daemon)
    failures: list[Error] = []

    async def take() -> None:
        try:
            await vm.take("s1")
        except Error as error:
            failures.append(error)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(take)
        with trio.move_on_after(milliseconds / 1000):
            await trio.sleep_forever()
        os.kill(pid, signal.SIGKILL)
    await daemon.wait_said("stopped crashed")
    expected = ["s0"] if failures else ["s0", "s1"]
    assert await tags(tick.disks[0]) == expected
    assert list(await known(vm)) == expected
    await vm.snapshot("s0").revert()
    assert await state_of(vm) == "running"


async def test_a_take_whose_caller_gives_up_is_taken_back(daemon: LocalDaemon, tick: TickDomain) -> None:
    vm = await running(daemon, tick)
    pid = pid_of(daemon)
    os.kill(pid, signal.SIGSTOP)

    async def take() -> None:
        await vm.take("s1")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(take)
        await wait_until("the take", lambda: is_busy(daemon, "tick"))
        nursery.cancel_scope.cancel()
        os.kill(pid, signal.SIGCONT)
    assert await tags(tick.disks[0]) == []
    assert await known(vm) == {}
    assert await runs(daemon, vm)
    assert "snapshot.created s1" not in daemon.said


async def test_a_revert_whose_caller_gives_up_is_completed(daemon: LocalDaemon, tick: TickDomain) -> None:
    vm = await started(daemon, tick)
    await vm.take("s1")
    await vm.take("s2")
    await vm.destroy()

    async def revert() -> None:
        await vm.snapshot("s1").revert()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(revert)
        await wait_until("a QEMU", lambda: qemu_pids(daemon.services.config.state_dir))
        nursery.cancel_scope.cancel()
    assert await state_of(vm) == "running"
    assert (await vm.current_snapshot()).snapshot.name == "s1"


async def test_a_stuck_guest_keeps_nobody_else_waiting(daemon: LocalDaemon, tick: TickDomain) -> None:
    stuck = await running(daemon, tick)
    pid = pid_of(daemon)
    other = TickDomain(name="other", disks=[make_disk(tick.disks[0].with_name("other.qcow2"), boot=True)])
    vm = await running(daemon, other)
    os.kill(pid, signal.SIGSTOP)
    taken: list[str] = []

    async def take() -> None:
        taken.append((await stuck.take("s1")).snapshot.name)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(take)
        await wait_until("the take", lambda: is_busy(daemon, "tick"))
        await vm.take("s1")
        await vm.snapshot("s1").revert()
        await vm.snapshot("s1").delete()
        assert (await stuck.info()).domain.state == "running"
        assert taken == []
        os.kill(pid, signal.SIGCONT)
    assert taken == ["s1"]
