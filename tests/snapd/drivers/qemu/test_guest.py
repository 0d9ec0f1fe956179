"""One guest: started, found again by its socket, waited for, ended."""

from __future__ import annotations

import os
import signal
import uuid
from typing import TYPE_CHECKING

import pytest
import trio

from tests.support.guest import guest_argv, make_disk
from tests.support.qemu_host import kill_and_wait
from virtsnap_protocol.errors import HypervisorError
from virtsnapd.drivers.qemu import images
from virtsnapd.drivers.qemu.guest import Guest, GuestFolder, find_guest, start_guest, wait_jobs_concluded

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

OURS = str(uuid.uuid4())


def argv(folder: GuestFolder, disk: Path) -> list[str]:
    monitors = [word for path in folder.monitors for word in ("-qmp", f"unix:{path},server=on,wait=off")]
    base = guest_argv(folder.path, [disk], paused=True)
    return [*base, *monitors, "-uuid", OURS]


@pytest.fixture
def folder(short_tmp: Path) -> GuestFolder:
    return GuestFolder(path=short_tmp / "g")


@pytest.fixture
def disk(short_tmp: Path) -> Path:
    return make_disk(short_tmp / "disk.qcow2", boot=True)


@pytest.fixture
async def guest(folder: GuestFolder, disk: Path, nursery: trio.Nursery) -> AsyncIterator[Guest]:
    started = await start_guest(nursery, OURS, folder, argv(folder, disk))
    yield started
    await started.aclose()
    if started.process.exit_status is None:
        kill_and_wait(started.process.pid)


async def test_a_started_guest_answers(guest: Guest) -> None:
    assert await guest.commands.query_uuid() == OURS
    assert await guest.alive()


async def test_a_start_that_fails_quotes_qemu_and_leaves_no_process(
    folder: GuestFolder, nursery: trio.Nursery
) -> None:
    with pytest.raises(HypervisorError, match="process exited while connecting to monitor") as caught:
        await start_guest(nursery, OURS, folder, ["qemu-system-x86_64", "-no-such-option"])
    assert "invalid option" in (caught.value.cause or "")


async def test_a_guest_is_found_by_its_socket(
    guest: Guest, folder: GuestFolder, nursery: trio.Nursery
) -> None:
    await guest.monitor.aclose()
    found = await find_guest(nursery, OURS, folder)
    assert found is not None
    assert found.process.identity == guest.process.identity
    assert found.runtime == guest.runtime
    await found.aclose()


async def test_a_guest_is_found_by_its_second_socket_when_somebody_has_the_first(
    guest: Guest, folder: GuestFolder, nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("virtsnapd.drivers.qemu.connecting.RUNNING_DEADLINE", 0.2)
    found = await find_guest(nursery, OURS, folder)
    assert found is not None
    assert found.monitor.path == folder.monitors[1]
    assert found.process.identity == guest.process.identity
    await found.aclose()


async def test_a_guest_of_another_domain_is_not_taken(
    guest: Guest, folder: GuestFolder, nursery: trio.Nursery
) -> None:
    await guest.monitor.aclose()
    assert await find_guest(nursery, str(uuid.uuid4()), folder) is None


async def test_where_nobody_listens_nobody_is_found(
    guest: Guest, folder: GuestFolder, nursery: trio.Nursery
) -> None:
    guest.process.kill()
    await guest.process.wait_ended()
    assert all(path.exists() for path in folder.monitors)
    assert await find_guest(nursery, OURS, folder) is None


async def test_a_guest_whose_process_was_killed_is_not_alive(guest: Guest) -> None:
    guest.process.kill()
    await guest.monitor.closed.wait()
    assert not await guest.alive()


async def test_a_guest_that_only_lost_its_monitor_is_alive(
    guest: Guest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("virtsnapd.drivers.qemu.guest.END_SECONDS", 0.05)
    await guest.monitor.aclose()
    assert await guest.alive()


async def test_ending_lets_qemu_close_its_images(guest: Guest, folder: GuestFolder) -> None:
    await guest.end()
    assert guest.process.exit_status == 0
    assert not any(path.exists() for path in folder.monitors)


async def test_a_guest_that_does_not_end_is_killed(guest: Guest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("virtsnapd.drivers.qemu.guest.END_SECONDS", 0.05)
    os.kill(guest.process.pid, signal.SIGSTOP)
    await guest.end()
    assert guest.process.exit_status == -signal.SIGKILL


async def test_ending_is_not_cut_short_by_a_cancelled_caller(guest: Guest) -> None:
    with trio.CancelScope() as scope:
        scope.cancel()
        await guest.end()
    assert guest.process.exit_status == 0


async def test_a_job_of_a_former_daemon_is_waited_for_and_dismissed(guest: Guest, disk: Path) -> None:
    arguments = {"job-id": "former", "tag": "s1", "vmstate": "disk0", "devices": ["disk0"]}
    await guest.monitor.execute("snapshot-save", arguments)
    await wait_jobs_concluded(guest)
    assert await guest.commands.query_jobs() == []
    (entry,) = (await images.info(disk, format="qcow2")).snapshots
    assert entry.name == "s1"


async def test_closing_a_guest_leaves_it_running(
    guest: Guest, folder: GuestFolder, nursery: trio.Nursery
) -> None:
    pid = guest.process.pid
    await guest.aclose()
    found = await find_guest(nursery, OURS, folder)
    assert found is not None
    assert found.process.pid == pid
    await found.end()
