"""Jobs: concluded, read and dismissed whatever happens, and what becomes of them when somebody dies."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest
import trio
import trio.testing

from tests.support.fake_qmp import FakeQmp, Never, Refusal, fake_qmp
from tests.support.guest import StallingGuest, running_guest, stalling_guest
from virtsnapd.drivers.qemu import images, jobs
from virtsnapd.drivers.qemu.connecting import open_monitor
from virtsnapd.drivers.qemu.jobs import JobFailed, query_jobs, run_job
from virtsnapd.drivers.qemu.monitor import CommandFailed, MonitorClosed

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from virtsnapd.drivers.qemu.monitor import Monitor


@asynccontextmanager
async def scripted(folder: Path, **scripts: object) -> AsyncIterator[tuple[FakeQmp, Monitor]]:
    async with fake_qmp(folder / "qmp", scripts=scripts) as fake, open_monitor(folder / "qmp") as monitor:
        fake.scripts.setdefault("work", lambda arguments: starts(fake, arguments))
        yield fake, monitor


def starts(fake: FakeQmp, arguments: dict[str, Any]) -> dict[str, Any]:
    fake.start_job(arguments["job-id"], "work")
    return {}


@asynccontextmanager
async def beside(monitor: Monitor) -> AsyncIterator[trio.Nursery]:
    """Open a nursery for jobs, which no failure of the test can leave waiting for their end."""
    async with trio.open_nursery() as nursery:
        try:
            yield nursery
        except BaseException:
            with trio.CancelScope(shield=True):
                await monitor.aclose()
            raise


# ---- on a real QEMU


async def test_a_finished_job_is_dismissed() -> None:
    async with running_guest() as guest:
        await guest.commands.snapshot_save("s", "disk0", guest.nodes)
        assert await query_jobs(guest.monitor) == []


async def test_a_failed_job_has_qemus_words_and_is_dismissed() -> None:
    async with running_guest(paused=True) as guest:
        await guest.commands.snapshot_save("s", "disk0", guest.nodes)
        with pytest.raises(JobFailed) as caught:
            await guest.commands.snapshot_save("s", "disk0", guest.nodes)
        assert caught.value.desc == "Snapshot 's' already exists in one or more devices"
        assert await query_jobs(guest.monitor) == []


async def test_a_job_that_cannot_start_fails_as_a_command() -> None:
    async with running_guest(paused=True) as guest:
        with pytest.raises(CommandFailed):
            await run_job(guest.monitor, "snapshot-save", "job", {"tag": "s"})
        assert await query_jobs(guest.monitor) == []


async def test_many_jobs_at_once_each_get_their_own_result() -> None:
    async with running_guest(paused=True) as guest:
        await guest.commands.snapshot_save("old", "disk0", guest.nodes)
        failed: list[str] = []

        async def save(tag: str) -> None:
            try:
                await guest.commands.snapshot_save(tag, "disk0", guest.nodes)
            except JobFailed:
                failed.append(tag)

        async with beside(guest.monitor) as nursery:
            for tag in ("a", "old", "b"):
                nursery.start_soon(save, tag)
        assert failed == ["old"]
        tags = {entry.name for entry in (await guest.commands.snapshots_by_node())["disk0"]}
        assert tags == {"old", "a", "b"}


async def wait_started(guest: StallingGuest) -> None:
    """Wait until QEMU is in the middle of a save: it has stopped the guest and waits for the disk."""
    with guest.monitor.events() as events:
        async for event in events:
            if event.name == "STOP":
                return


async def test_cancelling_the_caller_does_not_lose_the_job() -> None:
    async with stalling_guest() as guest:
        guest.stall()
        finished = False
        async with beside(guest.monitor) as nursery:

            async def save() -> None:
                nonlocal finished
                await guest.commands.snapshot_save("s", "disk0", guest.nodes)
                finished = True

            nursery.start_soon(save)
            await wait_started(guest)
            nursery.cancel_scope.cancel()
            guest.unstall()
        assert finished
        assert await query_jobs(guest.monitor) == []
        assert [entry.name for entry in (await guest.commands.snapshots_by_node())["disk0"]] == ["s"]
        assert (await guest.commands.query_status()).running


async def test_a_caller_that_is_cancelled_already_starts_no_job() -> None:
    async with running_guest(paused=True) as guest:
        with trio.CancelScope() as scope:
            scope.cancel()
            await guest.commands.snapshot_save("s", "disk0", guest.nodes)
        assert scope.cancelled_caught
        assert (await guest.commands.snapshots_by_node())["disk0"] == []


async def test_a_qemu_killed_in_the_middle_of_a_job_leaves_its_fate_open_and_no_snapshot() -> None:
    async with stalling_guest() as guest:
        guest.stall()
        async with beside(guest.monitor) as nursery:

            async def save() -> None:
                with pytest.raises(MonitorClosed) as caught:
                    await guest.commands.snapshot_save("s", "disk0", guest.nodes)
                assert caught.value.sent

            nursery.start_soon(save)
            await wait_started(guest)
            with trio.fail_after(10):
                guest.process.kill()
                await guest.monitor.closed.wait()
        guest.unstall()
        assert (await images.info(guest.disks[0], format="qcow2")).snapshots == []


async def test_a_job_that_outlived_its_connection_waits_with_its_error() -> None:
    async with running_guest(paused=True) as guest:
        arguments = {"job-id": "left", "tag": "gone", "vmstate": "disk0", "devices": ["disk0"]}
        with guest.monitor.events() as events:
            await guest.monitor.execute("snapshot-load", arguments)
            async for event in events:
                if event.data.get("status") == "concluded":
                    break
        await guest.monitor.aclose()
        async with open_monitor(guest.spare) as again:
            (job,) = await query_jobs(again)
            assert (job.id, job.status) == ("left", "concluded")
            assert job.error == "Snapshot 'gone' does not exist in one or more devices"


# ---- the rare moments, scripted


async def test_a_job_that_concludes_before_its_start_is_answered_is_noticed(short_tmp: Path) -> None:
    async with scripted(short_tmp, work=Never()) as (fake, monitor), beside(monitor) as nursery:
        nursery.start_soon(run_job, monitor, "work", "j", {})
        await fake.wait_received("work")
        fake.start_job("j", "work")
        await fake.conclude("j")
        await fake.send({"return": {}, "id": fake.received[-1]["id"]})
        await fake.wait_received("job-dismiss")


async def test_events_of_other_jobs_and_states_are_not_taken_for_the_end(short_tmp: Path) -> None:
    async with scripted(short_tmp) as (fake, monitor), beside(monitor) as nursery:
        nursery.start_soon(run_job, monitor, "work", "j", {})
        await fake.wait_received("work")
        await fake.emit("JOB_STATUS_CHANGE", id="other", status="concluded")
        await fake.emit("JOB_STATUS_CHANGE", id="j", status="waiting")
        await fake.emit("STOP")
        await trio.testing.wait_all_tasks_blocked(0.02)
        assert "query-jobs" not in fake.commands()
        await fake.conclude("j")


async def test_a_job_s_progress_is_reported(short_tmp: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs, "PROGRESS_INTERVAL", 0.005)
    seen: list[tuple[int, int]] = []
    async with scripted(short_tmp) as (fake, monitor), beside(monitor) as nursery:
        nursery.start_soon(run_job, monitor, "work", "j", {}, lambda *progress: seen.append(progress))
        await fake.wait_received("work")
        for done in (0, 2):
            fake.jobs["j"]["current-progress"] = done
            with trio.fail_after(10):
                while (done, 4) not in seen:
                    await trio.lowlevel.checkpoint()
        await fake.conclude("j")
    assert seen.index((0, 4)) < seen.index((2, 4))


async def test_a_cancellable_job_is_told_and_still_waited_for(short_tmp: Path) -> None:
    async with scripted(short_tmp) as (fake, monitor):
        fake.scripts["job-cancel"] = {}
        async with beside(monitor) as nursery:

            async def work() -> None:
                with pytest.raises(JobFailed, match="Operation canceled"):
                    await run_job(monitor, "work", "j", {}, cancellable=True)

            nursery.start_soon(work)
            await fake.wait_received("work")
            nursery.cancel_scope.cancel()
            with trio.CancelScope(shield=True):
                assert await fake.wait_received("job-cancel") == {"id": "j"}
                await fake.conclude("j", "Operation canceled")
        assert fake.commands()[-1] == "job-dismiss"


async def test_a_job_that_is_not_cancellable_is_not_told(short_tmp: Path) -> None:
    async with scripted(short_tmp) as (fake, monitor):
        async with beside(monitor) as nursery:
            nursery.start_soon(run_job, monitor, "work", "j", {})
            await fake.wait_received("work")
            nursery.cancel_scope.cancel()
            with trio.CancelScope(shield=True):
                await fake.conclude("j")
        assert fake.commands() == ["qmp_capabilities", "work", "query-jobs", "job-dismiss"]


async def test_a_cancellable_job_that_succeeds_is_not_cancelled(short_tmp: Path) -> None:
    async with scripted(short_tmp) as (fake, monitor):
        async with beside(monitor) as nursery:

            async def work() -> None:
                await run_job(monitor, "work", "j", {}, cancellable=True)

            nursery.start_soon(work)
            await fake.wait_received("work")
            await fake.conclude("j")
        assert "job-cancel" not in fake.commands()


async def test_a_job_dismissed_by_somebody_else_is_an_error(short_tmp: Path) -> None:
    async with scripted(short_tmp) as (fake, monitor), beside(monitor) as nursery:

        async def work() -> None:
            with pytest.raises(CommandFailed, match="dismissed by somebody else"):
                await run_job(monitor, "work", "j", {})

        nursery.start_soon(work)
        await fake.wait_received("work")
        fake.jobs.clear()
        await fake.emit("JOB_STATUS_CHANGE", id="j", status="null")


async def test_a_dismissal_that_came_too_late_does_not_matter(short_tmp: Path) -> None:
    gone = Refusal("Job not found", "DeviceNotActive")
    async with (
        scripted(short_tmp, **{"job-dismiss": gone}) as (fake, monitor),
        beside(monitor) as nursery,
    ):
        nursery.start_soon(run_job, monitor, "work", "j", {})
        await fake.wait_received("work")
        await fake.conclude("j")


@pytest.mark.parametrize("moment", ["work", "query-jobs", "job-dismiss"])
async def test_a_connection_lost_after_the_start_leaves_the_job_s_fate_open(
    short_tmp: Path, moment: str
) -> None:
    async with scripted(short_tmp) as (fake, monitor), beside(monitor) as nursery:
        if moment != "work":
            fake.scripts[moment] = Never()

        async def work() -> None:
            with pytest.raises(MonitorClosed) as caught:
                await run_job(monitor, "work", "j", {})
            assert caught.value.sent

        nursery.start_soon(work)
        await fake.wait_received("work")
        if moment != "work":
            await fake.conclude("j")
            await fake.wait_received(moment)
        await trio.testing.wait_all_tasks_blocked()
        fake.vanish()


async def test_a_connection_lost_before_the_start_says_that_nothing_was_sent(short_tmp: Path) -> None:
    async with scripted(short_tmp) as (fake, monitor):
        fake.vanish()
        await monitor.closed.wait()
        with pytest.raises(MonitorClosed) as caught:
            await run_job(monitor, "work", "j", {})
        assert not caught.value.sent
