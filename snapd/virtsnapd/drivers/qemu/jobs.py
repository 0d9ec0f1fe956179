"""QEMU's background jobs, none of which is ever lost: started, awaited through events, read, dismissed."""

from __future__ import annotations

import contextlib
import math
from typing import TYPE_CHECKING, Any, Final

import msgspec
import trio

from virtsnapd.drivers.qemu.monitor import CommandFailed, Monitor, MonitorClosed, MonitorError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from virtsnapd.drivers.qemu.qmp import Event

PROGRESS_INTERVAL: Final = 0.5
"""Seconds between two looks at a job whose caller wants progress: QEMU has no event for it."""


class JobFailed(MonitorError):
    """The job ran and failed; it has been dismissed."""

    def __init__(self, command: str, job_id: str, desc: str) -> None:
        super().__init__(f"QEMU job '{command}' failed: {desc}")
        self.command: Final = command
        self.job_id: Final = job_id
        self.desc: Final = desc


class JobInfo(msgspec.Struct, frozen=True, kw_only=True, rename="kebab"):
    """A job as query-jobs tells it."""

    id: str
    type: str
    status: str
    current_progress: int
    total_progress: int
    error: str | None = None
    """QEMU's words; absent while it runs and when it succeeded."""


async def run_job(
    monitor: Monitor,
    command: str,
    job_id: str,
    arguments: Mapping[str, object],
    on_progress: Callable[[int, int], None] | None = None,
    *,
    cancellable: bool = False,
) -> None:
    """Start the job `command`, wait until QEMU has concluded it, and dismiss it.

    The job id must never have been used before: a late event of its former bearer would be taken for ours.
    `on_progress` is called with (current, total) now and then. When the caller is cancelled, this goes on to
    the end and then returns or raises as if it were not, since a job's result exists only until it is
    dismissed. `cancellable` jobs are told job-cancel first; for snapshot jobs that is no use, since QEMU reads no
    command while it writes a snapshot. Only the end of the monitor ends the wait earlier: close it, or cancel
    the nursery that it lives in, to leave a QEMU that hangs.

    Raises:
        CommandFailed: the job did not start.
        JobFailed: it ran and failed, with QEMU's words.
        MonitorClosed: the connection ended; when `sent`, whether the job took effect is unknown.
    """
    await trio.lowlevel.checkpoint_if_cancelled()
    job: JobInfo | MonitorError | None = None
    finished = trio.Event()
    async with trio.open_nursery() as nursery:
        if cancellable:
            nursery.start_soon(_cancel_with_caller, monitor, job_id, finished)
        with trio.CancelScope(shield=True):
            try:
                job = await _finish(monitor, command, {"job-id": job_id, **arguments}, on_progress)
            except MonitorError as error:
                job = error  # raised below: a nursery would wrap it
            finally:
                finished.set()
    if isinstance(job, MonitorError):
        raise job
    if job is not None and job.error is not None:
        raise JobFailed(command, job_id, job.error)


async def query_jobs(monitor: Monitor) -> list[JobInfo]:
    """Return the jobs that QEMU knows, the concluded ones that nobody has dismissed included."""
    return msgspec.convert(await monitor.execute("query-jobs"), list[JobInfo])


async def _finish(
    monitor: Monitor,
    command: str,
    arguments: Mapping[str, object],
    on_progress: Callable[[int, int], None] | None,
) -> JobInfo:
    job_id = str(arguments["job-id"])
    with monitor.events() as events:
        await monitor.execute(command, arguments)
        try:
            while not await _concluded(job_id, events, PROGRESS_INTERVAL if on_progress else math.inf):
                if on_progress:
                    seen = await _find(monitor, job_id)
                    on_progress(seen.current_progress, seen.total_progress)
            job = await _find(monitor, job_id)
            with contextlib.suppress(CommandFailed):  # somebody else was faster
                await monitor.execute("job-dismiss", {"id": job_id})
        except (MonitorClosed, trio.EndOfChannel):
            # The job had been started: whatever closed the connection leaves its fate open.
            raise MonitorClosed(monitor.reason, sent=True) from None
        return job


async def _concluded(job_id: str, events: trio.MemoryReceiveChannel[Event], seconds: float) -> bool:
    """Wait so long for the job's end; tell whether it came."""
    with trio.move_on_after(seconds):
        while True:
            event = await events.receive()
            if event.name == "JOB_STATUS_CHANGE" and _is_end(event.data, job_id):
                return True
    return False


def _is_end(data: Mapping[str, Any], job_id: str) -> bool:
    # `null` follows a dismissal: by somebody else, or by QEMU for jobs that dismiss themselves
    return data.get("id") == job_id and data.get("status") in {"concluded", "null"}


async def _find(monitor: Monitor, job_id: str) -> JobInfo:
    for job in await query_jobs(monitor):
        if job.id == job_id:
            return job
    msg = "query-jobs"
    raise CommandFailed(
        msg, "GenericError", f"job {job_id} was dismissed by somebody else: its result is unknown"
    )


async def _cancel_with_caller(monitor: Monitor, job_id: str, finished: trio.Event) -> None:
    try:
        await finished.wait()
    finally:
        if not finished.is_set():
            with trio.CancelScope(shield=True), contextlib.suppress(MonitorError):
                await monitor.execute("job-cancel", {"id": job_id})
