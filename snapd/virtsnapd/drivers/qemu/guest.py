"""One running guest: its process, its monitor, and the end of it."""

from __future__ import annotations

import contextlib
import shutil
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import msgspec
import trio

from virtsnap_protocol.errors import OperationFailed, OutcomeUnknown
from virtsnapd.drivers.qemu import process
from virtsnapd.drivers.qemu.commands import Commands, translated
from virtsnapd.drivers.qemu.connecting import connect_monitor
from virtsnapd.drivers.qemu.monitor import Monitor, MonitorClosed, MonitorError
from virtsnapd.drivers.qemu.process import GuestIdentity, GuestProcess

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence
    from pathlib import Path

MONITORS: Final = 2
"""QEMU serves one client per socket: the second lets a person or a later daemon in beside a stuck first."""
END_SECONDS: Final = 15.0
"""How long a QEMU may take to flush and end before it is killed: libvirt's qemuProcessKill waits as long."""
ANSWER_SECONDS: Final = 10.0
"""How long a guest that has greeted may take to say which one it is."""
RETRY_SECONDS: Final = 5.0
"""Between two attempts to reach a guest that did not answer."""
JOB_SECONDS: Final = 30.0
"""How long a job of a former daemon may take to end before we go on without it."""


@dataclass(frozen=True, kw_only=True)
class GuestFolder:
    """Where a guest's sockets and log are; the path must be short (unix(7): 107 bytes)."""

    path: Path

    @property
    def monitors(self) -> list[Path]:
        """The monitor sockets, the daemon's own first."""
        return [self.path / f"monitor{number}.sock" for number in range(MONITORS)]

    @property
    def log(self) -> Path:
        """What QEMU writes to its standard error, appended over all starts."""
        return self.path / "qemu.log"

    def make(self) -> None:
        """Make it. Blocks."""
        for folder in (self.path.parent, self.path):
            folder.mkdir(parents=True, exist_ok=True)
            folder.chmod(0o711)  # whatever the umask: a guest under another account reaches its sockets

    def remove(self) -> None:
        """Remove it with all that is in it. Blocks."""
        shutil.rmtree(self.path, ignore_errors=True)


class Guest:
    """A QEMU that runs a domain, with an open monitor."""

    def __init__(self, uuid: str, process_: GuestProcess, monitor: Monitor) -> None:
        self.uuid = uuid
        self.process = process_
        self.monitor = monitor
        self.commands = Commands(monitor)
        self._closed = False
        self.abandoned = False
        """The daemon stops and does not ask it any more."""

    @property
    def runtime(self) -> bytes:
        """What the store keeps to recognise the process."""
        return msgspec.msgpack.encode(self.process.identity)

    async def alive(self) -> bool:
        """Tell whether it still runs. A closed monitor is followed by the end within moments: wait for it."""
        if self._closed or self.abandoned:
            return self.abandoned
        if self.monitor.closed.is_set():
            with trio.move_on_after(END_SECONDS):
                await self.process.wait_ended()
        return not self._closed and not self.process.ended()

    @asynccontextmanager
    async def asked(self, domain: str, snapshot: str | None = None) -> AsyncIterator[None]:
        """Ask it for something that changes data; errors are the project's.

        Raises:
            OutcomeUnknown: The monitor was lost while QEMU runs: it may or may not have done it.
            OperationFailed: The guest has ended.
            HypervisorError: QEMU refused or failed.
        """
        try:
            with translated(domain=domain, snapshot=snapshot):
                yield
        except OperationFailed as error:
            lost = error.__cause__
            if isinstance(lost, MonitorClosed) and lost.sent and await self.alive():
                raise OutcomeUnknown(
                    "the connection to the domain's QEMU was lost on the way",
                    domain=domain,
                    snapshot=snapshot,
                    cause=error.cause,
                    remedy="what became of it is found out before the next change of the domain",
                ) from error
            raise

    async def wait_ended(self) -> None:
        """Wait for the end of the process; returns at once when we have let go of it."""
        if not self._closed:
            await self.process.wait_ended()

    async def end(self) -> None:
        """End the process, in order if it can, and wait for that."""
        with trio.CancelScope(shield=True):
            self.process.terminate()
            with trio.move_on_after(END_SECONDS):
                await self.process.wait_ended()
            self.process.kill()
            with trio.move_on_after(END_SECONDS):
                await self.process.wait_ended()
            try:
                require_ended(self.process)
            finally:
                await self.aclose()

    async def abandon(self) -> None:
        """Fail what waits for its monitor, and take it for running from now on: nobody can tell."""
        self.abandoned = True
        await self.monitor.aclose()

    async def aclose(self) -> None:
        """Let go of it; a process that runs goes on."""
        self._closed = True
        with trio.CancelScope(shield=True):
            await self.monitor.aclose()
            await self.process.aclose()


def require_ended(killed: GuestProcess) -> None:
    """Refuse to go on as if a guest that was killed had ended.

    Raises:
        OperationFailed: It is in the kernel's hands, as with a dead network disk.
    """
    if not killed.ended():
        raise OperationFailed(
            f"Failed to terminate process {killed.pid} with SIGKILL: Device or resource busy"
        )


async def start_guest(nursery: trio.Nursery, uuid: str, folder: GuestFolder, argv: Sequence[str]) -> Guest:
    """Start QEMU and connect to it.

    Raises:
        HypervisorError: It ended before it answered; `cause` is the end of its log. Nothing of it is left.
    """
    await trio.to_thread.run_sync(folder.make)
    qemu = await process.spawn(argv, log_path=folder.log)
    try:
        monitor = await connect_monitor(nursery, folder.monitors[0], process=qemu)
    except BaseException:
        with trio.CancelScope(shield=True):
            qemu.kill()
            await qemu.wait_ended()
            await qemu.aclose()
        raise
    return Guest(uuid, qemu, monitor)


async def find_guest(nursery: trio.Nursery, uuid: str, folder: GuestFolder) -> Guest | None:
    """Return the guest of a former daemon that listens in this folder, or None.

    The process is the one that made the socket (SO_PEERCRED), and must say that it is this domain.
    """
    for path in folder.monitors:
        try:
            monitor = await connect_monitor(nursery, path)
        except MonitorError:
            continue
        found = await _owner(monitor, uuid, folder)
        if found is not None:
            return Guest(uuid, found, monitor)
        await monitor.aclose()
    return None


async def wait_guest(
    nursery: trio.Nursery, uuid: str, folder: GuestFolder, process_: GuestProcess
) -> Guest | None:
    """Wait until a guest that does not answer does, and return it; None when it ends instead."""
    while not process_.ended():
        guest = await find_guest(nursery, uuid, folder)
        if guest is not None:
            return guest
        with trio.move_on_after(RETRY_SECONDS):
            await process_.wait_ended()
    return None


async def _owner(monitor: Monitor, uuid: str, folder: GuestFolder) -> GuestProcess | None:
    pid = monitor.peer_pid
    said = None
    try:
        with trio.move_on_after(ANSWER_SECONDS):
            said = await Commands(monitor).query_uuid()
        if said != uuid:
            return None
        identity = GuestIdentity(
            pid=pid, start_time=process.read_start_time(pid), boot_id=process.read_boot_id()
        )
    except (MonitorError, OSError):
        return None
    return process.adopt(identity, log_path=folder.log)


async def wait_jobs_concluded(guest: Guest) -> None:
    """Wait for jobs that a former daemon started, and dismiss them: their outcome is in the images."""
    with guest.monitor.events() as events, trio.move_on_after(JOB_SECONDS):
        while any(job.status != "concluded" for job in await guest.commands.query_jobs()):
            async for event in events:
                if event.name == "JOB_STATUS_CHANGE":
                    break
            else:
                raise MonitorClosed(guest.monitor.reason)
    with contextlib.suppress(MonitorClosed):
        await guest.commands.dismiss_concluded_jobs()
