"""The simulated hypervisor (``test:///default``): deterministic, in memory, every flag, failures on demand."""

from __future__ import annotations

from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING, ClassVar, Final, get_args

import msgspec
from typing_extensions import override

from virtsnap_protocol.errors import HypervisorError, OperationUnsupported
from virtsnap_protocol.methods.snapshot import CreateFlag, RevertFlag
from virtsnapd.domain import Domain, Transition
from virtsnapd.drivers.api import Driver, DriverContext
from virtsnapd.drivers.simulated.faults import Faults
from virtsnapd.models.domain import DomainDefinition

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from virtsnap_protocol.methods.domain import UndefineFlag
    from virtsnapd.models.snapshot import Snapshot
    from virtsnapd.savefile import SavedState, SaveFile

RUNTIME: Final = b"simulated"
"""A simulated guest needs no record to be found again: like a real one it goes on when the daemon restarts."""


@dataclass
class Contents:
    """What a guest has in its memory and on its disks: one number each, which tests can tell apart."""

    memory: int = 0
    disks: int = 0
    saved: dict[str, tuple[int, int]] = field(default_factory=dict)
    """Memory and disks by the snapshot's tag, as an internal snapshot keeps them inside the image."""


class SimulatedDriver(Driver):
    """libvirt's test driver, honouring every flag."""

    scheme = "test"
    title = "simulated"
    announces_steps = False  # as libvirt's test driver, and so is the next one
    heeds_managed_save = False
    create_flags: ClassVar[frozenset[CreateFlag]] = frozenset(get_args(CreateFlag))
    revert_flags: ClassVar[frozenset[RevertFlag]] = frozenset(get_args(RevertFlag))
    undefine_flags: ClassVar[frozenset[UndefineFlag]] = frozenset({"managed-save", "snapshots-metadata"})

    def __init__(self, uri: str, context: DriverContext) -> None:
        super().__init__(uri, context)
        self.version = "0.0.2"  # what libvirt's test driver calls itself
        self.faults = Faults()
        self._contents: dict[str, Contents] = {}

    @override
    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        if not len(self.context.domains):
            await self._make_default_domain()
        yield

    async def _make_default_domain(self) -> None:
        definition = DomainDefinition.parse(_shipped("default.xml"))
        domains = self.context.domains
        with domains.claim(definition) as domain:
            await domains.define(domain, definition)
            await domains.starting(domain, definition, RUNTIME)
            await domains.changed(domain, Transition(state="running", reason="unknown"))

    def contents(self, domain: Domain) -> Contents:
        """Return what the domain's guest holds; tests write it as a guest would."""
        return self._contents.setdefault(domain.uuid, Contents())

    @override
    def capabilities_xml(self) -> str:
        return _shipped("capabilities.xml")

    @override
    def prepare(self, definition: DomainDefinition) -> DomainDefinition:
        return definition

    @override
    async def start(self, domain: Domain, definition: DomainDefinition) -> None:
        await self.faults.reach("start")
        await self.context.domains.starting(domain, definition, RUNTIME)
        self.contents(domain).memory = 0

    @override
    async def destroy(self, domain: Domain, transition: Transition) -> None:
        await self.faults.reach("destroy")
        await self.context.domains.stopped(domain, transition)

    @override
    async def shutdown(self, domain: Domain) -> None:
        await self.faults.reach("shutdown")
        stopped = Transition(state="shutoff", reason="shutdown", events=(("stopped", "shutdown"),))
        await self.context.domains.stopped(domain, stopped)

    @override
    async def suspend(self, domain: Domain) -> None:
        await self.faults.reach("suspend")

    @override
    async def resume(self, domain: Domain) -> None:
        await self.faults.reach("resume")

    @override
    async def check_save(self, domain: Domain) -> None:
        pass

    @override
    async def save(self, domain: Domain, file: SaveFile) -> None:
        await file.write(msgspec.json.encode(self.contents(domain).memory))
        await self.faults.reach("save")

    @override
    async def unsave(self, domain: Domain, *, running: bool) -> None:
        if running:
            await self.faults.reach("resume")

    @override
    async def restore(self, domain: Domain, definition: DomainDefinition, saved: SavedState) -> bytes:
        await self.faults.reach("restore")
        try:
            memory = msgspec.json.decode(await saved.read(), type=int)
        except msgspec.MsgspecError as error:
            raise HypervisorError(f"the memory is damaged: {error}", cause=str(error)) from error
        self.contents(domain).memory = memory
        return RUNTIME

    @override
    def check_request(self, requested: Snapshot) -> None:
        if any(disk.snapshot == "manual" for disk in requested.disks):
            raise OperationUnsupported("'manual' snapshot mode is not supported by the test driver")

    @override
    async def check_take(self, domain: Domain, snapshot: Snapshot) -> None:
        pass

    @override
    async def take(self, domain: Domain, snapshot: Snapshot) -> None:
        await self.faults.reach("take")
        contents = self.contents(domain)
        contents.saved[snapshot.tag] = (contents.memory, contents.disks)

    @override
    async def check_revert(self, domain: Domain, snapshot: Snapshot) -> None:
        pass  # as in libvirt's test driver a redefined snapshot needs no data

    @override
    async def revert(
        self, domain: Domain, snapshot: Snapshot, definition: DomainDefinition, *, active: bool
    ) -> bytes | None:
        await self.faults.reach("revert")
        contents = self.contents(domain)
        memory, contents.disks = contents.saved.get(snapshot.tag, (0, contents.disks))
        contents.memory = memory if active and snapshot.memory != "no" else 0
        return RUNTIME if active else None

    @override
    async def discard(self, domain: Domain, snapshot: Snapshot) -> None:
        await self.faults.reach("discard")
        self.contents(domain).saved.pop(snapshot.tag, None)


@cache
def _shipped(name: str) -> str:
    """Return a document that is the same on every host."""
    return resources.files(__package__).joinpath(name).read_text()
