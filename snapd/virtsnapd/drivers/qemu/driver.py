"""The qemu driver: our verbs in terms of guests, images and QMP."""

from __future__ import annotations

import logging
import secrets
import shutil
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, ClassVar, Final

import msgspec
import trio
from typing_extensions import override

from virtsnap_protocol.errors import (
    Error,
    HypervisorError,
    InternalError,
    OperationFailed,
    OperationUnsupported,
)
from virtsnapd.domains import Domain, Transition
from virtsnapd.drivers.api import Driver, DriverContext, Unavailable
from virtsnapd.drivers.qemu import images, internal, process
from virtsnapd.drivers.qemu.arguments import check_honoured, command_line
from virtsnapd.drivers.qemu.commands import translated
from virtsnapd.drivers.qemu.guest import (
    Guest,
    GuestFolder,
    find_guest,
    start_guest,
    wait_guest,
    wait_jobs_concluded,
)
from virtsnapd.drivers.qemu.monitor import MonitorError
from virtsnapd.drivers.qemu.pinning import pin
from virtsnapd.drivers.qemu.probe import probe
from virtsnapd.drivers.qemu.process import GuestIdentity, GuestProcess
from virtsnapd.models.snapshot import check_snapshot_name
from virtsnapd.store import Transaction

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from virtsnap_protocol.methods.snapshot import CreateFlag, RevertFlag
    from virtsnapd.drivers.qemu.qmp import Event
    from virtsnapd.models.domain import DomainDefinition
    from virtsnapd.models.snapshot import Snapshot

log = logging.getLogger(__name__)

DEFAULT_MACHINE: Final = "pc"
"""What libvirt takes for x86 guests that name none."""
ACCELERATORS: Final = {"qemu": "tcg", "kvm": "kvm"}
"""By the type of the domain, as in libvirt."""

POWERED_OFF: Final = Transition(state="shutoff", reason="shutdown", events=(("stopped", "shutdown"),))
CRASHED: Final = Transition(state="shutoff", reason="crashed", events=(("stopped", "crashed"),))
FAILED: Final = Transition(state="shutoff", reason="failed", events=(("stopped", "failed"),))
IO_ERROR: Final = Transition(state="paused", reason="I/O error", events=(("suspended", "ioerror"),))
FOUND_PAUSED: Final = Transition(state="paused", reason="unknown", events=(("suspended", "paused"),))
FOUND_RUNNING: Final = Transition(state="running", reason="unknown", events=(("resumed", "unpaused"),))
REVERT_FAILED: Final = Transition(state="paused", reason="unknown", events=(("suspended", "api-error"),))


class QemuDriver(Driver):
    """Guests under QEMU, which outlive the daemon and are found again by it."""

    scheme = "qemu"
    title = "QEMU"
    domain_types = frozenset(ACCELERATORS)
    create_flags: ClassVar[frozenset[CreateFlag]] = frozenset(
        {"redefine", "current", "no-metadata", "halt", "atomic", "validate"}
    )
    revert_flags: ClassVar[frozenset[RevertFlag]] = frozenset({"running", "paused", "force"})

    def __init__(self, uri: str, context: DriverContext) -> None:
        super().__init__(uri, context)
        self._guests: dict[str, Guest] = {}
        self._machines: Mapping[str, str] = {}
        self._emulator = ""
        self._nursery: trio.Nursery | None = None

    # --- open ---

    @override
    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        settings = self.context.config.qemu
        self._emulator = _found(settings.emulator, "qemu-system-x86")
        _found(settings.qemu_img, "qemu-utils")
        failure: Exception | None = None
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            try:
                found = await probe(self._emulator, self._folder("probe"))
                self.version, self._machines = found.version, found.machines
                await self._find_all_again()
                yield
            except Exception as error:  # noqa: BLE001 - raised below as it is: the nursery would wrap it
                failure = error
            finally:
                nursery.cancel_scope.cancel()
                for guest in self._guests.values():
                    await guest.aclose()
                self._guests.clear()
        if failure is not None:
            raise failure

    @override
    async def abandon(self) -> None:
        for guest in self._guests.values():
            await guest.abandon()

    async def _find_all_again(self) -> None:
        """Take up all guests of a former daemon, at once: one that does not answer must not delay the others."""
        failures: list[Error] = []

        async def find(domain: Domain) -> None:
            try:
                await self._find_again(domain)
            except Error as error:  # raised below: a nursery would wrap it
                failures.append(error)

        async with trio.open_nursery() as finding:
            for domain in self.context.domains:
                finding.start_soon(find, domain)
        if failures:
            raise failures[0]
        await self._end_orphans()

    async def _find_again(self, domain: Domain) -> None:
        """Take up the guest that a former daemon started, or record that it is gone."""
        if not domain.active:
            return
        guest = await find_guest(self._tasks, domain.uuid, self._folder(domain.uuid))
        if guest is not None:
            self._adopt(guest)
            await self._record_found_state(domain, guest)
        elif (hung := _hung_process(domain)) is not None:
            log.error("%s: its QEMU runs and does not answer", domain.name)
            self._tasks.start_soon(self._find_late, domain, hung)
            text = "its QEMU runs but does not answer on its monitor; destroy it if it does not recover"
            await self._note_attention(domain, text)
        else:
            await self._record_lost(domain)

    async def _find_late(self, domain: Domain, hung: GuestProcess) -> None:
        """Take up a guest that did not answer once it does: QEMU is deaf while it writes a snapshot."""
        runtime = domain.row.runtime
        try:
            guest = await wait_guest(self._tasks, domain.uuid, self._folder(domain.uuid), hung)
        finally:
            await hung.aclose()
        async with domain.lock.wait("a guest that had not answered"):
            known = self.context.domains.get(domain.uuid) is domain and domain.row.runtime == runtime
            try:
                if guest is not None and known:
                    self._adopt(guest)
                    await self._note_attention(domain, None)
                    await self._record_found_state(domain, guest)
                elif guest is not None:
                    await guest.aclose()
                elif known:
                    await self.context.domains.stopped(domain, CRASHED)
            except Error as error:
                log.error("%s: what became of it cannot be recorded: %s", domain.name, error)  # noqa: TRY400

    async def _note_attention(self, domain: Domain, text: str | None) -> None:
        transaction = Transaction()
        self.context.domains.attention(transaction, domain, text)
        await self.context.domains.commit(transaction)

    async def _record_lost(self, domain: Domain) -> None:
        """Record that the guest ended while no daemon ran."""
        log.warning("%s: its guest ended while no daemon ran", domain.name)
        domains = self.context.domains
        operation = domains.interrupted.get(domain.uuid)
        if operation is not None and operation.verb == "revert":
            return  # the revert had ended it, and will be completed
        if operation is not None and not domain.persistent:
            # the note about the snapshot that was being made or deleted goes with the domain: heed it now
            try:
                await self.discard(domain, operation.snapshot)
            except Error as error:
                text = "%s: the rest of snapshot %s stays in its images: %s"
                log.error(text, domain.name, operation.snapshot.name, error)  # noqa: TRY400 - as it says
        await domains.stopped(domain, CRASHED)

    async def _record_found_state(self, domain: Domain, guest: Guest) -> None:
        try:
            await wait_jobs_concluded(guest)
            status = (await guest.commands.query_status()).status
        except MonitorError:
            return  # it is just ending: its watcher records that
        if status == "shutdown":
            await self._end(guest, domain, POWERED_OFF)
        elif status == "running" and domain.row.state != "running":
            await self.context.domains.changed(domain, FOUND_RUNNING)
        elif status != "running" and domain.row.state == "running":
            await self.context.domains.changed(domain, IO_ERROR if status == "io-error" else FOUND_PAUSED)

    async def _end_orphans(self) -> None:
        """End guests that were started and not recorded: a daemon died within these milliseconds."""
        root = self.context.state_dir
        names = await trio.to_thread.run_sync(
            lambda: [p.name for p in root.iterdir()] if root.is_dir() else []
        )
        for uuid in set(names) - self._guests.keys():
            domain = self.context.domains.get(uuid)
            if domain is not None and domain.active:
                continue
            orphan = await find_guest(self._tasks, uuid, self._folder(uuid))
            if orphan is not None:
                log.warning("ending an unrecorded guest with UUID %s", uuid)
                await orphan.end()

    # --- guests ---

    @property
    def _tasks(self) -> trio.Nursery:
        assert self._nursery is not None, "the driver is not open"  # noqa: S101 - a defect of the caller
        return self._nursery

    def _folder(self, uuid: str) -> GuestFolder:
        return GuestFolder(path=self.context.state_dir / uuid)

    def _guest(self, domain: Domain) -> Guest:
        guest = self._guests.get(domain.uuid)
        if guest is None:
            raise OperationFailed(
                "the domain's QEMU does not answer",
                domain=domain.name,
                remedy="destroy it and start it again",
            )
        return guest

    def _adopt(self, guest: Guest) -> None:
        self._guests[guest.uuid] = guest
        self._tasks.start_soon(self._watch, guest)

    async def _watch(self, guest: Guest) -> None:
        """Report what the guest does by itself, and its end."""
        ending = await self._wait_ending(guest)
        domain = self.context.domains.get(guest.uuid)
        if domain is None or ending is None:
            return
        async with domain.lock.wait("the guest's own end"):
            if self._guests.get(guest.uuid) is guest:
                try:
                    await self._end(guest, domain, ending)
                except Error as error:  # a full disk: the domain stays listed, and destroy records the end
                    log.error("%s: its end cannot be recorded: %s", domain.name, error)  # noqa: TRY400

    async def _wait_ending(self, guest: Guest) -> Transition | None:
        """Return how the guest ended; None when the daemon ends first."""
        with guest.monitor.events() as events:
            async for event in events:
                if event.name == "SHUTDOWN":
                    return POWERED_OFF
                if event.name == "GUEST_PANICKED":
                    return CRASHED
                await self._report(guest, event)
        if guest.abandoned:
            return None
        await guest.wait_ended()
        return CRASHED

    async def _report(self, guest: Guest, event: Event) -> None:
        if event.name != "BLOCK_IO_ERROR" or event.data.get("action") != "stop":
            return
        domain = self.context.domains.get(guest.uuid)
        if domain is not None and domain.row.state == "running":
            log.error("%s: paused by an input/output error of disk %s", domain.name, event.data.get("device"))
            try:
                await self.context.domains.changed(domain, IO_ERROR)
            except Error as error:
                log.error("%s: its pause cannot be recorded: %s", domain.name, error)  # noqa: TRY400

    async def _end(self, guest: Guest, domain: Domain, transition: Transition) -> None:
        await self._drop(guest)
        await self.context.domains.stopped(domain, transition)

    async def _drop(self, guest: Guest) -> None:
        self._guests.pop(guest.uuid, None)
        await guest.end()

    # --- domains ---

    @override
    def prepare(self, definition: DomainDefinition) -> DomainDefinition:
        pinned = pin(definition, self._machines, DEFAULT_MACHINE, _new_mac, emulator=self._emulator)
        check_honoured(pinned)
        return pinned

    @override
    async def start(self, domain: Domain, definition: DomainDefinition) -> None:
        await internal.check_images(definition)
        guest = await self._spawn(definition)
        try:
            await self.context.domains.starting(domain, definition, guest.runtime)
        except BaseException:
            await guest.end()
            raise
        self._adopt(guest)

    async def _spawn(self, definition: DomainDefinition) -> Guest:
        folder = self._folder(definition.uuid)
        argv = command_line(
            definition,
            emulator=self._emulator,  # not the document's: whoever may define a domain names no program to run
            accel=ACCELERATORS[definition.type],
            monitor_sockets=[str(path) for path in folder.monitors],
            paused=True,
            run_as=self.context.config.qemu.user or None,
            socket_dir=str(folder.path),
        )
        return await start_guest(self._tasks, definition.uuid, folder, argv)

    @override
    async def destroy(self, domain: Domain, transition: Transition) -> None:
        guest = self._guests.get(domain.uuid)
        if guest is not None:
            await self._end(guest, domain, transition)
            return
        hung = _hung_process(domain)
        with trio.CancelScope(shield=True):
            if hung is not None:
                hung.kill()
                await hung.wait_ended()
                await hung.aclose()
            await self.context.domains.stopped(domain, transition)

    @override
    async def shutdown(self, domain: Domain) -> None:
        with translated(domain=domain.name):
            await self._guest(domain).commands.system_powerdown()

    @override
    async def suspend(self, domain: Domain) -> None:
        with translated(domain=domain.name):
            await self._guest(domain).commands.stop()

    @override
    async def resume(self, domain: Domain) -> None:
        with translated(domain=domain.name):
            await self._guest(domain).commands.cont()

    # --- snapshots ---

    @override
    def check_snapshot_name(self, name: str) -> None:
        check_snapshot_name(name)

    @override
    def check_redefine_state(self, snapshot: Snapshot) -> None:
        if snapshot.state == "pmsuspended":
            raise OperationUnsupported("qemu doesn't support taking snapshots of PMSUSPENDED guests")
        if snapshot.state in {"nostate", "blocked", None}:
            raise InternalError(f"Invalid domain state {snapshot.state}")

    @override
    async def check_take(self, domain: Domain, snapshot: Snapshot) -> None:
        internal.check_disks(snapshot, domain.definition)
        if domain.active:
            internal.vmstate_node(domain.definition)
        await internal.check_untaken(snapshot, internal.covered(snapshot, domain.definition))

    @override
    async def take(self, domain: Domain, snapshot: Snapshot) -> None:
        definition = domain.definition
        disks = internal.covered(snapshot, definition)
        if not domain.active:
            await images.create_snapshots(internal.paths(disks), snapshot.name)
            return
        with translated(domain=domain.name, snapshot=snapshot.name):
            await self._guest(domain).commands.snapshot_save(
                snapshot.name, internal.vmstate_node(definition), internal.nodes(disks)
            )

    @override
    async def check_revert(self, domain: Domain, snapshot: Snapshot) -> None:
        if snapshot.location == "external":
            raise OperationUnsupported("external snapshots are not supported by the qemu driver yet")
        definition = domain.definitions.parsed(snapshot.domain or "")
        check_honoured(definition, accel=ACCELERATORS.get(definition.type))
        await internal.check_images(definition)
        await internal.check_present(snapshot, definition)

    @override
    async def revert(
        self, domain: Domain, snapshot: Snapshot, definition: DomainDefinition, *, active: bool
    ) -> bytes | None:
        guest = self._guests.get(domain.uuid)
        memory = snapshot.memory == "internal" and active
        if guest is not None and memory and domain.row.live == snapshot.domain and await guest.alive():
            await self._load_in_place(guest, domain, snapshot, definition)
            return guest.runtime
        if guest is not None:
            await self._drop(guest)
        try:
            return await self._revert_cold(snapshot, definition, active=active, memory=memory)
        except Error as error:
            if domain.active:
                error.remedy = (
                    "the domain was stopped for the revert and is shut off now; its disks may be reverted"
                )
                await self.context.domains.stopped(domain, FAILED)
            raise

    async def _load_in_place(
        self, guest: Guest, domain: Domain, snapshot: Snapshot, definition: DomainDefinition
    ) -> None:
        """Load into the QEMU that runs: its definition is the snapshot's, so that nothing else changes.

        QEMU loads memory into the state that it is in now, hence the stop.
        """
        disks = internal.covered(snapshot, definition)
        try:
            with translated(domain=domain.name, snapshot=snapshot.name):
                await guest.commands.stop()
                await guest.commands.snapshot_load(
                    snapshot.name, internal.vmstate_node(definition), internal.nodes(disks)
                )
        except HypervisorError as error:
            # A load that fails in the device state has reverted the disks already: running on would be a lie.
            error.remedy = (
                "the guest is left paused and its disks may be reverted; revert again, or destroy it"
            )
            await self._note_attention(domain, f"the revert to snapshot '{snapshot.name}' failed: {error}")
            await self.context.domains.changed(domain, REVERT_FAILED)
            raise

    async def _revert_cold(
        self, snapshot: Snapshot, definition: DomainDefinition, *, active: bool, memory: bool
    ) -> bytes | None:
        """Revert while no QEMU has the images: start one for a snapshot with memory, else set the disks back."""
        disks = internal.covered(snapshot, definition)
        if not memory:
            await images.apply_snapshots(internal.paths(disks), snapshot.name)
        if not active:
            return None
        guest = await self._spawn(definition)
        try:
            if memory:
                with translated(snapshot=snapshot.name):
                    await guest.commands.snapshot_load(
                        snapshot.name, internal.vmstate_node(definition), internal.nodes(disks)
                    )
        except BaseException:
            await guest.end()
            raise
        self._adopt(guest)
        return guest.runtime

    @override
    async def discard(self, domain: Domain, snapshot: Snapshot) -> None:
        definition = domain.definitions.parsed(
            snapshot.domain or domain.row.live or domain.row.definition or ""
        )
        disks = internal.covered(snapshot, definition)
        guest = self._guests.get(domain.uuid)
        if guest is None or not await guest.alive():
            await internal.discard_offline(snapshot, disks)
            return
        in_use = {disk.target: disk.source for disk in domain.definition.disks}
        for disk in disks:
            if in_use.get(disk.target) != disk.source:
                raise OperationUnsupported(
                    f"disk image '{disk.source}' for internal snapshot '{snapshot.name}' is not the same as disk "
                    "image currently used by VM",
                    snapshot=snapshot.name,
                )
        with translated(domain=domain.name, snapshot=snapshot.name):
            await guest.commands.snapshot_delete(snapshot.name, internal.nodes(disks))


def _found(program: str, package: str) -> str:
    path = shutil.which(program)
    if path is None:
        raise Unavailable(f"{program} is not installed (Debian: apt install {package})")
    return path


def _hung_process(domain: Domain) -> GuestProcess | None:
    """Return the process of a guest that is not among the adopted ones, if it still runs."""
    if domain.row.runtime is None:
        return None
    return process.adopt(msgspec.msgpack.decode(domain.row.runtime, type=GuestIdentity))


def _new_mac() -> str:
    """Return a random address under the prefix that QEMU and libvirt use."""
    return "52:54:00:" + ":".join(f"{byte:02x}" for byte in secrets.token_bytes(3))
