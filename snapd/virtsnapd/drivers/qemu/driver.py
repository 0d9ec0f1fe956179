"""The qemu driver: our verbs in terms of guests, images and QMP."""

from __future__ import annotations

import logging
import secrets
import shutil
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, ClassVar, Final, get_args

import trio
from typing_extensions import override

from virtsnap_protocol.errors import (
    Error,
    HypervisorError,
    InternalError,
    OperationFailed,
    OperationUnsupported,
    OutcomeUnknown,
)
from virtsnap_protocol.methods.domain import UndefineFlag
from virtsnapd.domain import Domain, Transition
from virtsnapd.drivers.api import Driver, DriverContext, Unavailable
from virtsnapd.drivers.qemu import images, internal, saving
from virtsnapd.drivers.qemu.arguments import check_honoured, command_line
from virtsnapd.drivers.qemu.commands import translated
from virtsnapd.drivers.qemu.guest import (
    Guest,
    start_guest,
)
from virtsnapd.drivers.qemu.guests import Guests, end_hung, hung_process
from virtsnapd.drivers.qemu.pinning import pin
from virtsnapd.drivers.qemu.probe import probe
from virtsnapd.models.snapshot import check_snapshot_name

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from virtsnap_protocol.methods.snapshot import CreateFlag, RevertFlag
    from virtsnapd.models.domain import DomainDefinition
    from virtsnapd.models.snapshot import Snapshot
    from virtsnapd.savefile import SavedState, SaveFile

log = logging.getLogger(__name__)

NO_GUEST: Final = "00000000-0000-0000-0000-000000000000"
"""The UUID that a QEMU without a machine says it has: one that a killed daemon left is found and ended by it."""
DEFAULT_MACHINE: Final = "pc"
"""What libvirt takes for x86 guests that name none."""
ACCELERATORS: Final = {"qemu": "tcg", "kvm": "kvm"}
"""By the type of the domain, as in libvirt."""

LOST_GUEST: Final = Transition(state="shutoff", reason="failed", events=(("stopped", "from-snapshot"),))
"""What libvirt's qemu driver tells of a revert that ends the guest and then cannot start it again."""
LOST_IN_REVERT: Final = Transition(state="crashed", reason="unknown", events=(("crashed", "unknown"),))
REVERT_FAILED: Final = Transition(state="paused", reason="unknown", events=(("suspended", "api-error"),))


class QemuDriver(Driver):
    """Guests under QEMU, which outlive the daemon and are found again by it."""

    scheme = "qemu"
    title = "QEMU"
    create_flags: ClassVar[frozenset[CreateFlag]] = frozenset(
        {"redefine", "current", "no-metadata", "halt", "atomic", "validate"}
    )
    revert_flags: ClassVar[frozenset[RevertFlag]] = frozenset({"running", "paused", "force"})
    undefine_flags: ClassVar[frozenset[UndefineFlag]] = frozenset(get_args(UndefineFlag))

    def __init__(self, uri: str, context: DriverContext) -> None:
        super().__init__(uri, context)
        self._running: Guests | None = None
        self._machines: Mapping[str, str] = {}
        self._emulator = ""
        self._capabilities = ""

    # --- open ---

    @override
    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        settings = self.context.config.qemu
        self._emulator = _found(settings.emulator, "qemu-system-x86")
        _found(settings.qemu_img, "qemu-utils")
        failure: Exception | None = None
        async with trio.open_nursery() as nursery:
            guests = self._running = Guests(self.context, nursery, self.discard)
            try:
                found = await probe(self._emulator, guests.folder(NO_GUEST))
                self.version, self._machines = found.version, found.machines
                self._capabilities = found.capabilities
                await guests.find_all_again()
                yield
            except Exception as error:  # noqa: BLE001 - raised below as it is: the nursery would wrap it
                failure = error
            finally:
                nursery.cancel_scope.cancel()
                await guests.aclose()
        if failure is not None:
            raise failure

    @override
    async def abandon(self) -> None:
        await self._guests.abandon()

    @property
    def _guests(self) -> Guests:
        assert self._running is not None, "the driver is not open"  # noqa: S101 - a defect of the caller
        return self._running

    @override
    async def interrupt(self, domain: Domain) -> None:
        guest = self._guests.find(domain)
        if guest is not None:
            guest.process.kill()

    @override
    def capabilities_xml(self) -> str:
        return self._capabilities

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
        self._guests.adopt(guest)

    async def _spawn(self, definition: DomainDefinition, *, incoming: str | None = None) -> Guest:
        folder = self._guests.folder(definition.uuid)
        argv = command_line(
            definition,
            emulator=self._emulator,  # not the document's: whoever may define a domain names no program to run
            accel=ACCELERATORS[definition.type],
            monitor_sockets=[str(path) for path in folder.monitors],
            paused=True,
            run_as=self.context.config.qemu.user or None,
            socket_dir=str(folder.path),
            incoming=incoming,
        )
        with translated(domain=definition.name):
            return await start_guest(self._guests.nursery, definition.uuid, folder, argv)

    @override
    async def destroy(self, domain: Domain, transition: Transition) -> None:
        guest = self._guests.find(domain)
        if guest is not None:
            await self._guests.end(guest, domain, transition)
            return
        hung = hung_process(domain)
        with trio.CancelScope(shield=True):
            if hung is not None:
                await end_hung(hung)
            await self.context.domains.stopped(domain, transition)

    @override
    async def shutdown(self, domain: Domain) -> None:
        with translated(domain=domain.name):
            await self._guests.get(domain).commands.system_powerdown()

    @override
    async def suspend(self, domain: Domain) -> None:
        with translated(domain=domain.name):
            await self._guests.get(domain).commands.stop()

    @override
    async def resume(self, domain: Domain) -> None:
        with translated(domain=domain.name):
            await self._guests.get(domain).commands.cont()

    @override
    async def has_guest(self, domain: Domain) -> bool:
        guest = self._guests.find(domain)
        if guest is not None:
            return await guest.alive()
        hung = hung_process(domain)
        if hung is not None:
            await hung.aclose()
        return hung is not None

    @override
    async def drop(self, domain: Domain) -> None:
        guest = self._guests.find(domain)
        if guest is not None:
            await self._guests.drop(guest)
        elif (hung := hung_process(domain)) is not None:
            await end_hung(hung)

    # --- saved states ---

    @override
    async def check_save(self, domain: Domain) -> None:
        self._guests.get(domain)

    @override
    async def save(self, domain: Domain, file: SaveFile) -> None:
        guest = self._guests.get(domain)
        async with guest.asked(domain.name):
            await saving.save(guest, file)

    @override
    async def unsave(self, domain: Domain, *, running: bool) -> None:
        if await self.has_guest(domain):
            with translated(domain=domain.name):
                await saving.unsave(self._guests.get(domain), running=running)

    @override
    async def restore(self, domain: Domain, definition: DomainDefinition, saved: SavedState) -> bytes:
        await internal.check_images(definition)
        guest = await self._spawn(definition, incoming="defer")
        try:
            with translated(domain=domain.name):
                await saving.restore(guest, saved)
        except BaseException:
            await guest.end()
            raise
        self._guests.adopt(guest)
        return guest.runtime

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
            await images.create_snapshots(internal.paths(disks), snapshot.tag)
            return
        guest = self._guests.get(domain)
        async with guest.asked(domain.name, snapshot.name):
            await guest.commands.snapshot_save(
                snapshot.tag, internal.vmstate_node(definition), internal.nodes(disks)
            )

    @override
    async def check_revert(self, domain: Domain, snapshot: Snapshot) -> None:
        if snapshot.location == "external":
            raise OperationUnsupported("external snapshots are not supported by the qemu driver yet")
        definition = domain.definitions.parsed(snapshot.domain or domain.digest)
        check_honoured(definition, accel=ACCELERATORS.get(definition.type))
        await internal.check_images(definition)
        await internal.check_present(snapshot, definition)

    @override
    async def revert(
        self, domain: Domain, snapshot: Snapshot, definition: DomainDefinition, *, active: bool
    ) -> bytes | None:
        guest = self._guests.find(domain)
        memory = snapshot.memory == "internal" and active
        if guest is not None and memory and domain.definition == definition and await guest.alive():
            await self._load_in_place(guest, domain, snapshot, definition)
            return guest.runtime
        if guest is not None:
            await self._guests.drop(guest)
        try:
            return await self._revert_cold(snapshot, definition, active=active, memory=memory)
        except Error as error:
            if domain.active:
                await self._record_loss(domain, error)
            raise

    async def _record_loss(self, domain: Domain, error: Error) -> None:
        """Record that a revert has cost the guest. A transient domain stays, since its hierarchy would go with it."""
        domains = self.context.domains
        if domain.persistent:
            error.remedy = (
                "the domain was stopped for the revert and is shut off now; its disks may be reverted"
            )
            await domains.stopped(domain, LOST_GUEST)
            return
        error.remedy = (
            "the guest was ended for the revert: revert again, or save the snapshots' XML and destroy it"
        )
        what = f"it has no guest any more: {error}; {error.remedy}"
        await domains.changed(domain, LOST_IN_REVERT, attention=what)

    async def _load_in_place(
        self, guest: Guest, domain: Domain, snapshot: Snapshot, definition: DomainDefinition
    ) -> None:
        """Load into the QEMU that runs: its definition is the snapshot's, so that nothing else changes.

        QEMU loads memory into the state that it is in now, hence the stop.
        """
        disks = internal.covered(snapshot, definition)
        try:
            async with guest.asked(domain.name, snapshot.name):
                await guest.commands.stop()
                await guest.commands.snapshot_load(
                    snapshot.tag, internal.vmstate_node(definition), internal.nodes(disks)
                )
        except (HypervisorError, OperationFailed) as error:
            if isinstance(error, OutcomeUnknown) or not await guest.alive():
                raise
            # A load that fails in the device state has reverted the disks already: running on would be a lie.
            error.remedy = (
                "the guest is left paused and its disks may be reverted; revert again, or destroy it"
            )
            what = f"the revert to snapshot '{snapshot.name}' failed: {error}; {error.remedy}"
            await self.context.domains.changed(domain, REVERT_FAILED, attention=what)
            raise

    async def _revert_cold(
        self, snapshot: Snapshot, definition: DomainDefinition, *, active: bool, memory: bool
    ) -> bytes | None:
        """Revert while no QEMU has the images: start one for a snapshot with memory, else set the disks back."""
        disks = internal.covered(snapshot, definition)
        if not memory:
            await images.apply_snapshots(internal.paths(disks), snapshot.tag)
        if not active:
            return None
        guest = await self._spawn(definition)
        try:
            if memory:
                with translated(snapshot=snapshot.name):
                    await guest.commands.snapshot_load(
                        snapshot.tag, internal.vmstate_node(definition), internal.nodes(disks)
                    )
        except BaseException:
            await guest.end()
            raise
        self._guests.adopt(guest)
        return guest.runtime

    @override
    async def discard(self, domain: Domain, snapshot: Snapshot) -> None:
        definition = domain.definitions.parsed(snapshot.domain or domain.digest)
        disks = internal.covered(snapshot, definition)
        guest = self._guests.find(domain)
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
        async with guest.asked(domain.name, snapshot.name):
            await guest.commands.snapshot_delete(snapshot.tag, internal.nodes(disks))


def _found(program: str, package: str) -> str:
    path = shutil.which(program)
    if path is None:
        raise Unavailable(f"{program} is not installed (Debian: apt install {package})")
    return path


def _new_mac() -> str:
    """Return a random address under the prefix that QEMU and libvirt use."""
    return "52:54:00:" + ":".join(f"{byte:02x}" for byte in secrets.token_bytes(3))
