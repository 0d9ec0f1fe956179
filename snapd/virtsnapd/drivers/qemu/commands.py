"""The QMP commands that the driver uses, by name and with types."""

from __future__ import annotations

import contextlib
import uuid
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final, TypeVar

import msgspec

from virtsnap_protocol.errors import HypervisorError, OperationFailed
from virtsnapd.drivers.qemu.images import ImageSnapshot
from virtsnapd.drivers.qemu.jobs import JobFailed, JobInfo, query_jobs, run_job
from virtsnapd.drivers.qemu.monitor import CommandFailed, Monitor, MonitorClosed, MonitorError
from virtsnapd.drivers.qemu.qmp import Version

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

T = TypeVar("T")

BANDWIDTH_MAX: Final = 2**63 - 1
"""Bytes per second; QEMU's own default is made for networks."""


class Status(msgspec.Struct, frozen=True):
    """The run state: `running`, `paused`, `prelaunch`, `shutdown`, `io-error`, `restore-vm`, ..."""

    status: str
    running: bool


class Machine(msgspec.Struct, frozen=True, kw_only=True, rename="kebab"):
    """A machine type: an alias such as `pc` means another one with every version of QEMU."""

    name: str
    alias: str | None = None
    is_default: bool = False
    cpu_max: int | None = None
    deprecated: bool = False


class Kvm(msgspec.Struct, frozen=True):
    """What QEMU knows of the host's hardware acceleration."""

    enabled: bool
    present: bool
    """It was built for it."""


class Migration(msgspec.Struct, frozen=True, kw_only=True, rename="kebab"):
    """How far a migration is; one into a file or out of it is one too."""

    status: str | None = None
    """One of `MIGRATION_NONE` before the first one begins, of `MIGRATION_OVER` when it is over."""
    error_desc: str | None = None


MIGRATION_NONE: Final = frozenset({None, "none"})
MIGRATION_OVER: Final = frozenset({"completed", "failed", "cancelled"})


class _Image(msgspec.Struct):
    snapshots: list[ImageSnapshot] = []


class _Node(msgspec.Struct, rename="kebab"):
    image: _Image
    node_name: str = ""


class _Uuid(msgspec.Struct):
    uuid: str = msgspec.field(name="UUID")


class Commands:
    """Typed commands over one monitor; they raise `MonitorError`, which `translated` translates."""

    def __init__(self, monitor: Monitor) -> None:
        self.monitor: Final = monitor

    async def query_status(self) -> Status:
        """Return the run state."""
        return await self._ask("query-status", Status)

    async def stop(self) -> None:
        """Pause the virtual CPUs; harmless when they are paused."""
        await self.monitor.execute("stop")

    async def cont(self) -> None:
        """Let the virtual CPUs run."""
        await self.monitor.execute("cont")

    async def system_powerdown(self) -> None:
        """Press the ACPI power button; what the guest makes of it comes as events."""
        await self.monitor.execute("system_powerdown")

    async def system_reset(self) -> None:
        """Press the reset button; out of `shutdown` this leads to `prelaunch`."""
        await self.monitor.execute("system_reset")

    async def quit(self) -> None:
        """End QEMU in order: disks are flushed and closed, sockets removed."""
        try:
            await self.monitor.execute("quit")
        except MonitorClosed as closed:
            if not closed.sent:
                raise  # else: it was faster than its own answer

    async def query_version(self) -> Version:
        """Return QEMU's version."""
        return await self._ask("query-version", Version)

    async def query_uuid(self) -> str:
        """Return the guest's UUID, which proves that this is the right one."""
        return (await self._ask("query-uuid", _Uuid)).uuid

    async def query_machines(self) -> list[Machine]:
        """Return the machine types of this QEMU."""
        return await self._ask("query-machines", list[Machine])

    async def query_kvm(self) -> Kvm:
        """Return whether this QEMU has and uses KVM."""
        return await self._ask("query-kvm", Kvm)

    async def query_jobs(self) -> list[JobInfo]:
        """Return the jobs that QEMU knows."""
        return await query_jobs(self.monitor)

    async def dismiss_concluded_jobs(self) -> list[JobInfo]:
        """Dismiss the jobs that a former connection left concluded, and return them with their errors."""
        concluded = [job for job in await self.query_jobs() if job.status == "concluded"]
        for job in concluded:
            await self.monitor.execute("job-dismiss", {"id": job.id})
        return concluded

    async def snapshots_by_node(self) -> dict[str, list[ImageSnapshot]]:
        """Return every named block node's snapshot table; backing files that have no node are left out."""
        nodes = await self._ask("query-named-block-nodes", list[_Node], {"flat": True})
        return {node.node_name: node.image.snapshots for node in nodes}

    async def snapshot_save(
        self,
        tag: str,
        vmstate_node: str,
        nodes: Sequence[str],
        on_progress: Callable[[int, int], None] | None = None,
    ) -> None:
        """Save memory and devices into `vmstate_node` and the disks in `nodes`, all the writable ones.

        A running guest is stopped meanwhile and runs again after it, on failure too.
        """
        arguments = {"tag": tag, "vmstate": vmstate_node, "devices": list(nodes)}
        await run_job(self.monitor, "snapshot-save", _job_id("save"), arguments, on_progress)

    async def snapshot_load(
        self,
        tag: str,
        vmstate_node: str,
        nodes: Sequence[str],
        on_progress: Callable[[int, int], None] | None = None,
    ) -> None:
        """Load what `snapshot_save` saved. The guest keeps the run state that it has now, not the snapshot's.

        On failure a running guest stays stopped in `restore-vm`. Ask `images.find_tag_conflict` before.
        """
        arguments = {"tag": tag, "vmstate": vmstate_node, "devices": list(nodes)}
        await run_job(self.monitor, "snapshot-load", _job_id("load"), arguments, on_progress)

    async def snapshot_delete(self, tag: str, nodes: Sequence[str]) -> None:
        """Delete the snapshots of this name in `nodes`; one that is not there counts as deleted."""
        await run_job(
            self.monitor, "snapshot-delete", _job_id("delete"), {"tag": tag, "devices": list(nodes)}
        )

    async def query_migrate(self) -> Migration:
        """Return how far the last migration is."""
        return await self._ask("query-migrate", Migration)

    async def prepare_migration(self) -> None:
        """Have migrations announced, and as fast as the file at their other end."""
        events = {"capability": "events", "state": True}
        await self.monitor.execute("migrate-set-capabilities", {"capabilities": [events]})
        await self.monitor.execute("migrate-set-parameters", {"max-bandwidth": BANDWIDTH_MAX})

    async def migrate(self, fd: int, *, incoming: bool) -> None:
        """Begin to write the guest's memory and devices into a pipe, or (`incoming`) to read them from one.

        QEMU keeps a copy of the descriptor until the migration is over.
        """
        name = f"virtsnap-{uuid.uuid4().hex}"
        await self.monitor.execute("getfd", {"fdname": name}, fds=[fd])
        try:
            await self.monitor.execute("migrate-incoming" if incoming else "migrate", {"uri": f"fd:{name}"})
        except CommandFailed:
            with contextlib.suppress(CommandFailed):  # it may have taken the descriptor before it refused
                await self.monitor.execute("closefd", {"fdname": name})
            raise

    async def _ask(self, command: str, shape: type[T], arguments: dict[str, Any] | None = None) -> T:
        value = await self.monitor.execute(command, arguments)
        try:
            return msgspec.convert(value, shape)
        except msgspec.ValidationError as error:
            raise CommandFailed(command, "UnexpectedAnswer", str(error)) from error


@contextmanager
def translated(*, domain: str | None = None, snapshot: str | None = None) -> Iterator[None]:
    """Turn what talking to QEMU raises into the project's errors, with libvirt's words.

    Raises:
        OperationFailed: the guest's process or its monitor is gone (libvirt: "domain is no longer running").
        HypervisorError: QEMU refused or failed; `cause` holds its own words.
    """
    try:
        yield
    except MonitorClosed as error:
        msg = "domain is no longer running"
        raise OperationFailed(msg, domain=domain, snapshot=snapshot, cause=error.reason) from error
    except (CommandFailed, JobFailed) as error:
        raise HypervisorError(str(error), domain=domain, snapshot=snapshot, cause=error.desc) from error
    except MonitorError as error:
        raise HypervisorError(str(error), domain=domain, snapshot=snapshot) from error


def _job_id(verb: str) -> str:
    """Return an id that no job of any connection ever had."""
    return f"virtsnap-{verb}-{uuid.uuid4().hex}"
