"""The typed commands on a real QEMU: what a snapshot brings back, and the facts that the driver relies on."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import trio

from tests.support.fake_qmp import Never, fake_qmp
from tests.support.guest import RunningGuest, Serial, make_disk, running_guest
from virtsnap_protocol.errors import HypervisorError, OperationFailed
from virtsnapd.drivers.qemu import images
from virtsnapd.drivers.qemu.commands import Commands, translated
from virtsnapd.drivers.qemu.connecting import open_monitor
from virtsnapd.drivers.qemu.jobs import JobFailed
from virtsnapd.drivers.qemu.monitor import CommandFailed, MonitorClosed

if TYPE_CHECKING:
    from pathlib import Path


async def save(guest: RunningGuest, tag: str) -> None:
    await guest.commands.snapshot_save(tag, guest.nodes[0], guest.nodes)


async def load(guest: RunningGuest, tag: str) -> None:
    await guest.commands.snapshot_load(tag, guest.nodes[0], guest.nodes)


# ---- what a snapshot brings back


async def test_memory_and_every_disk_come_back() -> None:
    async with running_guest(count=2) as guest, Serial.open(guest.serial) as serial:
        await serial.wait_counter(2)
        before = [await serial.command("w"), await serial.command("W")]
        await save(guest, "s")
        saved_at = await serial.counter()
        await serial.wait_counter(saved_at + 3)
        after = [await serial.command("w"), await serial.command("W")]
        assert min(after) > max(before)
        await load(guest, "s")
        assert [await serial.command("r"), await serial.command("R")] == before
        assert await serial.counter() <= saved_at
        assert (await guest.commands.query_status()).running


async def test_a_snapshot_comes_back_in_a_new_process(tmp_path: Path) -> None:
    disk = make_disk(tmp_path / "disk.qcow2", boot=True)
    async with running_guest([disk]) as guest, Serial.open(guest.serial) as serial:
        await serial.wait_counter(3)
        written = await serial.command("w")
        await save(guest, "s")
        await serial.wait_counter(written + 2)
        await serial.command("w")
    async with running_guest([disk], paused=True) as guest, Serial.open(guest.serial) as serial:
        await load(guest, "s")
        assert (await guest.commands.query_status()).status == "prelaunch"
        await guest.commands.cont()
        assert written < await serial.counter() <= written + 2
        assert await serial.command("r") == written


async def test_a_paused_guest_stays_paused_over_save_and_load() -> None:
    async with running_guest() as guest:
        await guest.commands.stop()
        await save(guest, "s")
        assert (await guest.commands.query_status()).status == "paused"
        await load(guest, "s")
        assert (await guest.commands.query_status()).status == "paused"


async def test_a_running_guest_runs_on_after_a_failed_save() -> None:
    async with running_guest() as guest:
        await save(guest, "s")
        with pytest.raises(JobFailed, match="already exists"):
            await save(guest, "s")
        assert (await guest.commands.query_status()).running


async def test_a_failed_load_stops_a_running_guest_whose_memory_and_disk_are_untouched() -> None:
    async with running_guest() as guest, Serial.open(guest.serial) as serial:
        await serial.wait_counter(2)
        written = await serial.command("w")
        with pytest.raises(JobFailed, match="does not exist"):
            await load(guest, "gone")
        status = await guest.commands.query_status()
        assert (status.status, status.running) == ("restore-vm", False)
        await guest.commands.cont()
        assert await serial.counter() > written
        assert await serial.command("r") == written


async def test_a_snapshot_that_is_on_one_disk_only_is_not_loaded(tmp_path: Path) -> None:
    disks = [make_disk(tmp_path / f"{n}.qcow2", boot=n == 0) for n in range(2)]
    async with running_guest(disks, paused=True) as guest:
        await guest.commands.snapshot_save("s", "disk0", ["disk0"])
        with pytest.raises(JobFailed, match="does not exist in one or more devices"):
            await load(guest, "s")


async def test_memory_may_be_kept_in_a_disk_that_is_saved_only() -> None:
    async with running_guest(count=2, paused=True) as guest:
        with pytest.raises(JobFailed):
            await guest.commands.snapshot_save("s", "disk1", ["disk0"])
        assert (await guest.commands.snapshots_by_node())["disk0"] == []


async def test_the_tables_of_all_disks_are_told_and_only_one_holds_the_memory() -> None:
    async with running_guest(count=2, paused=True) as guest:
        await save(guest, "s")
        tables = await guest.commands.snapshots_by_node()
        assert [entry.name for node in guest.nodes for entry in tables[node]] == ["s", "s"]
        assert tables["disk0"][0].vm_state_size > 100_000
        assert tables["disk1"][0].vm_state_size == 0
        offline = await images.info(guest.disks[0], format="qcow2")
        assert offline.snapshots == tables["disk0"]


async def test_deleting_takes_the_snapshot_from_every_disk_and_a_missing_one_is_fine() -> None:
    async with running_guest(count=2, paused=True) as guest:
        await save(guest, "s")
        await save(guest, "t")
        for _ in range(2):
            await guest.commands.snapshot_delete("s", guest.nodes)
        tables = await guest.commands.snapshots_by_node()
        assert [entry.name for node in guest.nodes for entry in tables[node]] == ["t", "t"]


async def test_a_tag_may_be_any_text() -> None:
    async with running_guest(paused=True) as guest:
        tag = "ünï 'quoted', \"text\" {}"
        await save(guest, tag)
        await load(guest, tag)
        await guest.commands.snapshot_delete(tag, guest.nodes)
        assert (await guest.commands.snapshots_by_node())["disk0"] == []


# ---- the other commands


async def test_a_guest_stops_and_goes_on() -> None:
    async with running_guest() as guest:
        await guest.commands.stop()
        await guest.commands.stop()
        assert (await guest.commands.query_status()).status == "paused"
        await guest.commands.cont()
        assert (await guest.commands.query_status()).running


async def test_quit_ends_the_process_in_order() -> None:
    async with running_guest() as guest:
        await guest.commands.quit()
        with trio.fail_after(10):
            assert await guest.process.wait_ended() == 0
        assert not (guest.folder / "qmp").exists()


async def test_quit_is_content_when_the_end_comes_before_the_answer(short_tmp: Path) -> None:
    async with fake_qmp(short_tmp / "qmp") as fake, open_monitor(short_tmp / "qmp") as monitor:

        def die(_: object) -> Never:
            fake.vanish()
            return Never()

        fake.scripts["quit"] = die
        await Commands(monitor).quit()
        with pytest.raises(MonitorClosed):
            await Commands(monitor).quit()


async def test_the_power_button_lets_the_guest_power_off_and_a_reset_brings_it_back() -> None:
    async with running_guest() as guest, Serial.open(guest.serial) as serial:
        await serial.wait_counter(1)
        with guest.monitor.events() as events:
            await guest.commands.system_powerdown()
            async for event in events:
                if event.name == "SHUTDOWN":
                    break
            assert event.data == {"guest": True, "reason": "guest-shutdown"}
            async for event in events:
                if event.name == "STOP":
                    break
        assert (await guest.commands.query_status()).status == "shutdown"
        await guest.commands.system_reset()
        await guest.commands.cont()
        await serial.wait_for("BOOT")


async def test_the_guest_and_the_machines_are_known() -> None:
    async with running_guest(paused=True) as guest:
        version = await guest.commands.query_version()
        assert version == guest.monitor.greeting.version
        assert await guest.commands.query_uuid() == "00000000-0000-0000-0000-000000000000"
        machines = {machine.alias: machine for machine in await guest.commands.query_machines()}
        assert machines["pc"].name.startswith("pc-i440fx-")
        assert machines["pc"].is_default


async def test_concluded_jobs_of_a_former_connection_are_told_and_dismissed() -> None:
    async with running_guest(paused=True) as guest:
        arguments = {"job-id": "left", "tag": "gone", "vmstate": "disk0", "devices": ["disk0"]}
        with guest.monitor.events() as events:
            await guest.monitor.execute("snapshot-load", arguments)
            async for event in events:
                if event.data.get("status") == "concluded":
                    break
        (job,) = await guest.commands.dismiss_concluded_jobs()
        assert (job.id, job.type) == ("left", "snapshot-load")
        assert "does not exist" in (job.error or "")
        assert await guest.commands.query_jobs() == []


async def test_an_answer_of_another_shape_is_a_failed_command(short_tmp: Path) -> None:
    async with fake_qmp(short_tmp / "qmp") as fake, open_monitor(short_tmp / "qmp") as monitor:
        fake.scripts["query-status"] = {"status": 7}
        with pytest.raises(CommandFailed, match="Expected `str`, got `int`"):
            await Commands(monitor).query_status()


# ---- translation


def test_a_lost_connection_becomes_libvirts_words_with_the_domain() -> None:
    lost = MonitorClosed("End of file from qemu monitor", sent=True)
    with pytest.raises(OperationFailed) as caught, translated(domain="d", snapshot="s"):
        raise lost
    assert str(caught.value) == "operation failed: domain is no longer running"
    assert (caught.value.domain, caught.value.snapshot) == ("d", "s")
    assert caught.value.cause == "End of file from qemu monitor"


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (
            CommandFailed("cont", "GenericError", "no"),
            "internal error: unable to execute QEMU command 'cont': no",
        ),
        (JobFailed("snapshot-load", "j", "no"), "internal error: QEMU job 'snapshot-load' failed: no"),
    ],
)
def test_a_refusal_keeps_qemus_words(error: CommandFailed | JobFailed, message: str) -> None:
    with pytest.raises(HypervisorError) as caught, translated():
        raise error
    assert str(caught.value) == message
    assert caught.value.cause == "no"
