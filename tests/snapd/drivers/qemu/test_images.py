"""qemu-img on real images: what is in them, and snapshots that no QEMU takes."""

from __future__ import annotations

import os
import subprocess
from typing import TYPE_CHECKING

import pytest
import trio

from tests.support.guest import Serial, make_disk, running_guest
from virtsnap_protocol.errors import HypervisorError, OperationFailed, SystemFailure
from virtsnapd.drivers.qemu import images
from virtsnapd.drivers.qemu.images import ImageSnapshot, find_snapshot, find_tag_conflict
from virtsnapd.drivers.qemu.jobs import JobFailed

if TYPE_CHECKING:
    from pathlib import Path

OFFSET = 0x8000


def write(disk: Path, value: int) -> None:
    qemu_io(disk, f"write -q -P {value} {OFFSET} 512").check_returncode()


def holds(disk: Path, value: int) -> bool:
    return qemu_io(disk, f"read -P {value} {OFFSET} 512").returncode == 0


def qemu_io(disk: Path, command: str) -> subprocess.CompletedProcess[bytes]:
    options = f"driver=qcow2,file.driver=file,file.filename={str(disk).replace(',', ',,')}"
    return subprocess.run(
        ["qemu-io", "--image-opts", options, "-c", command], check=False, capture_output=True
    )


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    return make_disk(tmp_path / "disk.qcow2", boot=False)


def qemu_img(*arguments: str | Path) -> None:
    subprocess.run(["qemu-img", *arguments], check=True)


def listed(folder: Path) -> list[str]:
    return [entry.name for entry in folder.iterdir()]


async def names(disk: Path) -> list[str]:
    return [entry.name for entry in (await images.info(disk, format="qcow2")).snapshots]


async def test_an_image_tells_its_format_size_and_snapshots(disk: Path) -> None:
    await images.create_snapshot(disk, "first")
    found = await images.info(disk, format="qcow2")
    assert (found.format, found.virtual_size, found.corrupt) == ("qcow2", 1024 * 1024, False)
    (entry,) = found.snapshots
    assert (entry.id, entry.name, entry.vm_state_size) == ("1", "first", 0)
    assert entry.date_sec > 1_700_000_000


async def test_an_image_tells_its_backing_file(disk: Path) -> None:
    overlay = disk.with_name("overlay.qcow2")
    qemu_img("create", "-q", "-f", "qcow2", "-b", disk.name, "-F", "qcow2", overlay)
    found = await images.info(overlay, format="qcow2")
    assert (found.backing_filename, found.backing_filename_format) == (disk.name, "qcow2")
    assert found.full_backing_filename == str(disk)


async def test_without_a_format_it_is_probed(disk: Path) -> None:
    raw = disk.with_name("raw")
    raw.write_bytes(bytes(4096))
    assert (await images.info(disk)).format == "qcow2"
    assert (await images.info(raw)).format == "raw"


async def test_a_raw_disk_with_the_header_of_a_qcow2_stays_raw_when_the_format_is_given(disk: Path) -> None:
    assert (await images.info(disk, format="raw")).format == "raw"


async def test_a_missing_image_is_reported_in_libvirts_words(tmp_path: Path) -> None:
    path = tmp_path / "gone.qcow2"
    for failing in (
        images.info(path),
        images.create_snapshot(path, "s"),
        images.apply_snapshot(path, "s"),
        images.delete_snapshot(path, "s"),
    ):
        with pytest.raises(SystemFailure) as caught:
            await failing
        assert str(caught.value) == f"Cannot access storage file '{path}': No such file or directory"
        assert caught.value.code == 38


async def test_a_disk_that_cannot_hold_snapshots_is_refused_with_qemus_words(tmp_path: Path) -> None:
    raw = tmp_path / "raw"
    raw.write_bytes(bytes(4096))
    with pytest.raises(HypervisorError) as caught:
        await images.create_snapshot(raw, "s")
    assert "not in qcow2 format" in (caught.value.cause or "")
    assert raw.read_bytes() == bytes(4096)


async def test_a_missing_qemu_img_is_reported_by_name(disk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    with pytest.raises(SystemFailure, match="cannot execute binary qemu-img: No such file or directory"):
        await images.info(disk)


async def test_applying_a_snapshot_brings_the_contents_back(disk: Path) -> None:
    write(disk, 1)
    await images.create_snapshot(disk, "s")
    write(disk, 2)
    await images.apply_snapshot(disk, "s")
    assert holds(disk, 1)


@pytest.mark.parametrize(
    "name", ["a,b: c.qcow2", "-x.qcow2", "json:{}.qcow2", 'quo"te\\.qcow2', "ünï.qcow2", "nbd:x.qcow2"]
)
async def test_any_file_name_works(tmp_path: Path, name: str) -> None:
    disk = make_disk(tmp_path / "plain", boot=False).rename(tmp_path / name)
    write(disk, 1)
    await images.create_snapshot(disk, "s")
    write(disk, 2)
    await images.apply_snapshot(disk, "s")
    assert holds(disk, 1)
    assert await images.delete_snapshot(disk, "s")
    assert await names(disk) == []
    assert listed(tmp_path) == [name]


@pytest.mark.parametrize("tag", ["-a", "--help", "a b,c'\"", "ünï", "snapshot.id=1", "x" * 255])
async def test_any_tag_works(disk: Path, tag: str) -> None:
    write(disk, 1)
    await images.create_snapshot(disk, tag)
    write(disk, 2)
    await images.apply_snapshot(disk, tag)
    assert holds(disk, 1)
    assert await images.delete_snapshot(disk, tag)
    assert await names(disk) == []


async def test_qemu_img_itself_takes_a_tag_for_an_id_first(disk: Path) -> None:
    """The fact that our own way of applying exists for."""
    write(disk, 1)
    await images.create_snapshot(disk, "2")  # gets id 1
    write(disk, 2)
    await images.create_snapshot(disk, "1")  # gets id 2
    qemu_img("snapshot", "-a", "1", disk)
    assert holds(disk, 1)


async def test_a_snapshot_named_like_the_id_of_another_is_applied_by_its_name(disk: Path) -> None:
    write(disk, 1)
    await images.create_snapshot(disk, "2")
    write(disk, 2)
    await images.create_snapshot(disk, "1")
    write(disk, 3)
    await images.apply_snapshot(disk, "1")
    assert holds(disk, 2)
    await images.apply_snapshot(disk, "2")
    assert holds(disk, 1)


async def test_a_snapshot_named_like_the_id_of_another_is_deleted_by_its_name(disk: Path) -> None:
    await images.create_snapshot(disk, "2")
    await images.create_snapshot(disk, "1")
    await images.delete_snapshot(disk, "1")
    assert await names(disk) == ["2"]


def entries(**ids: str) -> list[ImageSnapshot]:
    return [ImageSnapshot(id=number, name=name, vm_state_size=0) for name, number in ids.items()]


def test_a_tag_that_is_the_id_of_another_snapshot_is_a_conflict() -> None:
    snapshots = [*entries(x="1", y="2"), ImageSnapshot(id="3", name="1", vm_state_size=0)]
    assert find_tag_conflict(snapshots, "1") == snapshots[0]
    assert find_tag_conflict(snapshots, "x") is None


def test_a_snapshot_whose_name_is_its_own_id_is_no_conflict() -> None:
    assert find_tag_conflict([ImageSnapshot(id="1", name="1", vm_state_size=0)], "1") is None


async def test_qemu_loads_the_snapshot_whose_id_is_the_tag() -> None:
    """The fact that `find_tag_conflict` exists for: told to load "1" it loads the disk of "other"."""
    async with running_guest() as guest, Serial.open(guest.serial) as serial:
        await guest.commands.snapshot_save("other", "disk0", guest.nodes)
        await serial.wait_counter(1)
        written = await serial.command("w")
        await guest.commands.snapshot_save("1", "disk0", guest.nodes)
        conflict = find_tag_conflict((await guest.commands.snapshots_by_node())["disk0"], "1")
        assert conflict is not None
        assert conflict.name == "other"
        assert await serial.command("r") == written > 0
        await guest.commands.snapshot_load("1", "disk0", guest.nodes)
        assert await serial.command("r") == 0


async def test_a_second_snapshot_of_one_name_is_refused(disk: Path) -> None:
    await images.create_snapshot(disk, "s")
    with pytest.raises(OperationFailed, match="already has a snapshot named 's'"):
        await images.create_snapshot(disk, "s")
    assert await names(disk) == ["s"]


async def test_of_two_entries_of_one_name_the_first_counts(disk: Path) -> None:
    write(disk, 1)
    await images.create_snapshot(disk, "s")
    write(disk, 2)
    qemu_img("snapshot", "-c", "s", disk)
    await images.apply_snapshot(disk, "s")
    assert holds(disk, 1)
    first = find_snapshot((await images.info(disk)).snapshots, "s")
    assert first is not None
    assert first.id == "1"


async def test_applying_a_missing_snapshot_is_refused(disk: Path) -> None:
    with pytest.raises(OperationFailed, match="has no snapshot named 's'"):
        await images.apply_snapshot(disk, "s")


async def test_deleting_a_missing_snapshot_says_that_there_was_none(disk: Path) -> None:
    assert not await images.delete_snapshot(disk, "s")


async def test_a_snapshot_of_several_disks_is_on_all_of_them(tmp_path: Path) -> None:
    disks = [make_disk(tmp_path / f"{n}.qcow2", boot=False) for n in range(3)]
    await images.create_snapshots(disks, "s")
    assert [await names(disk) for disk in disks] == [["s"], ["s"], ["s"]]


async def test_a_failure_on_one_disk_leaves_no_snapshot_on_the_others(tmp_path: Path) -> None:
    disks = [make_disk(tmp_path / f"{n}.qcow2", boot=False) for n in range(3)]
    disks[2].write_bytes(b"not an image")
    with pytest.raises(HypervisorError):
        await images.create_snapshots(disks, "s")
    assert [await names(disk) for disk in disks[:2]] == [[], []]


async def test_a_failure_does_not_delete_the_snapshot_that_was_there_before(tmp_path: Path) -> None:
    disks = [make_disk(tmp_path / f"{n}.qcow2", boot=False) for n in range(2)]
    await images.create_snapshot(disks[1], "s")
    with pytest.raises(OperationFailed):
        await images.create_snapshots(disks, "s")
    assert [await names(disk) for disk in disks] == [[], ["s"]]


async def test_a_cancelled_snapshot_of_several_disks_is_on_all_of_them_or_on_none(tmp_path: Path) -> None:
    disks = [make_disk(tmp_path / f"{n}.qcow2", boot=False) for n in range(3)]
    gate = tmp_path / "gate.qcow2"
    os.mkfifo(gate)  # qemu-img waits here for ever: the two before it are taken by then
    async with trio.open_nursery() as nursery:
        nursery.start_soon(images.create_snapshots, [*disks[:2], gate, disks[2]], "s")
        with trio.fail_after(30):
            while await names(disks[1]) == []:
                pass
        nursery.cancel_scope.cancel()
    assert [await names(disk) for disk in disks] == [[], [], []]


async def test_a_revert_of_several_disks_touches_none_when_one_lacks_the_snapshot(tmp_path: Path) -> None:
    disks = [make_disk(tmp_path / f"{n}.qcow2", boot=False) for n in range(2)]
    await images.create_snapshot(disks[0], "s")
    write(disks[0], 5)
    with pytest.raises(OperationFailed):
        await images.apply_snapshots(disks, "s")
    assert holds(disks[0], 5)
    await images.create_snapshot(disks[1], "s")
    await images.apply_snapshots(disks, "s")
    assert holds(disks[0], 0)


async def test_an_image_in_use_can_be_read_and_not_changed() -> None:
    async with running_guest(paused=True) as guest:
        assert (await images.info(guest.disks[0], format="qcow2")).snapshots == []
        with pytest.raises(HypervisorError) as caught:
            await images.create_snapshot(guest.disks[0], "s")
        assert 'Failed to get "write" lock' in (caught.value.cause or "")


async def test_a_snapshot_without_memory_cannot_be_loaded_by_a_running_guest(tmp_path: Path) -> None:
    disk = make_disk(tmp_path / "disk.qcow2", boot=True)
    await images.create_snapshot(disk, "s")
    async with running_guest([disk]) as guest:
        with pytest.raises(JobFailed, match="disk-only snapshot"):
            await guest.commands.snapshot_load("s", "disk0", guest.nodes)
