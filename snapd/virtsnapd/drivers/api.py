"""What a hypervisor driver is: the primitives it supplies, and what it is given.

Rules that do not depend on a hypervisor (flags and their exclusions, redefine, the forest, current, listing,
metadata-only deletion) live above the drivers, once. The caller of every method that changes something holds the
domain's lock; a driver never takes it, except that a guest which ends by itself is reported under
``domain.lock.wait``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any, ClassVar, Final, TypeVar

from virtsnap_protocol.errors import NoSupport

if TYPE_CHECKING:
    from pathlib import Path

    from virtsnap_protocol.methods.domain import UndefineFlag
    from virtsnap_protocol.methods.snapshot import CreateFlag, RevertFlag
    from virtsnapd.config import Config
    from virtsnapd.domain import Domain, Transition
    from virtsnapd.domains import DomainTable
    from virtsnapd.models.domain import DomainDefinition
    from virtsnapd.models.snapshot import Snapshot
    from virtsnapd.savefile import SavedState, SaveFile


class Capability(StrEnum):
    """What a driver may be able to do; computed from the methods it overrides."""

    SHUTDOWN = "domain-shutdown"
    SUSPEND = "domain-suspend"
    SAVE = "domain-save"
    TAKE = "snapshot-take"
    REVERT = "snapshot-revert"
    DISCARD = "snapshot-delete"
    REDEFINE = "snapshot-redefine"
    NO_METADATA = "snapshot-no-metadata"


F = TypeVar("F", bound=Callable[..., Any])

_OPTIONAL: Final[dict[str, Capability]] = {}
"""Which capability overriding a method of `Driver` gives, by the method's name."""


def optional(capability: Capability) -> Callable[[F], F]:
    """Mark a method of `Driver` that a driver may leave out; overriding it gives the capability."""

    def mark(method: F) -> F:
        _OPTIONAL[method.__name__] = capability
        return method

    return mark


@dataclass(frozen=True, kw_only=True)
class DriverContext:
    """What a driver is given when it is opened."""

    domains: DomainTable
    config: Config
    state_dir: Path
    """The driver's own folder; sockets of guests are in it, so its path is short."""


class Unavailable(Exception):
    """Raised by `Driver.running`: this hypervisor cannot be used here; the argument says why."""


class Driver(ABC):
    """One hypervisor, as the daemon sees it."""

    scheme: ClassVar[str]
    """The first part of its URIs."""
    title: ClassVar[str]
    """Its name for people."""
    create_flags: ClassVar[frozenset[CreateFlag]]
    """Flags of snapshot.create that it honours."""
    revert_flags: ClassVar[frozenset[RevertFlag]]
    """Flags of snapshot.revert that it honours."""
    undefine_flags: ClassVar[frozenset[UndefineFlag]]
    """Flags of domain.undefine that it honours, or that cannot matter to its domains."""

    def __init__(self, uri: str, context: DriverContext) -> None:
        self.uri = uri
        self.context = context
        self.version: str | None = None

    @classmethod
    def capabilities(cls) -> frozenset[Capability]:
        """Return what this driver can do, from what it overrides and the flags it honours."""
        found = {c for name, c in _OPTIONAL.items() if getattr(cls, name) is not getattr(Driver, name)}
        found |= {Capability.REDEFINE} if "redefine" in cls.create_flags else set()
        found |= {Capability.NO_METADATA} if "no-metadata" in cls.create_flags else set()
        return frozenset(found)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Be open: find the guests of a former daemon, watch them, and let them be when the block ends.

        Raises:
            Unavailable: The hypervisor is missing or unusable on this host.
        """
        yield

    async def abandon(self) -> None:  # noqa: B027 - where nothing outlives a call there is nothing to do
        """Fail everything that waits for a guest, at once: the daemon stops and its patience is over.

        Nothing may be reported or recorded for it; guests and the notes of what was begun stay as they are.
        """

    def capabilities_xml(self) -> str:
        """Return libvirt's <capabilities> document: the host, and the guests that can run on it."""
        raise NoSupport("connection.capabilities")

    # --- domains ---

    @abstractmethod
    def prepare(self, definition: DomainDefinition) -> DomainDefinition:
        """Return the definition with everything pinned that a guest must find again (machine type, addresses).

        Raises:
            ConfigUnsupported: `problems` names every element that cannot be honoured; nothing is dropped silently.
        """

    @abstractmethod
    async def start(self, domain: Domain, definition: DomainDefinition) -> None:
        """Start a guest of the domain, paused, with this definition.

        ``domains.starting`` is called before any virtual CPU could run, so that a guest never exists unrecorded.

        Raises:
            HypervisorError: It did not start; nothing of it is left.
        """

    @abstractmethod
    async def destroy(self, domain: Domain, transition: Transition) -> None:
        """End the guest at once and report `transition`."""

    async def interrupt(self, domain: Domain) -> None:  # noqa: B027 - where nothing can hang there is nothing to do
        """End the guest without regard for the operation that holds the domain, so that it fails soon."""

    @optional(Capability.SHUTDOWN)
    async def shutdown(self, domain: Domain) -> None:
        """Ask the guest to end by itself; its end is reported when it comes."""
        raise self._unsupported(Capability.SHUTDOWN)

    @optional(Capability.SUSPEND)
    async def suspend(self, domain: Domain) -> None:
        """Pause the virtual CPUs, without reporting it (the caller does)."""
        raise self._unsupported(Capability.SUSPEND)

    @optional(Capability.SUSPEND)
    async def resume(self, domain: Domain) -> None:
        """Let the virtual CPUs run, without reporting it (the caller does)."""
        raise self._unsupported(Capability.SUSPEND)

    async def has_guest(self, domain: Domain) -> bool:
        """Tell whether the guest that is recorded exists, even if it does not answer."""
        return domain.active

    async def drop(self, domain: Domain) -> None:  # noqa: B027 - where the record is all there is of a guest
        """End the guest at once without reporting it (the caller does); do nothing when there is none.

        Raises:
            OperationFailed: It does not die.
        """

    # --- saved states ---

    heeds_managed_save: ClassVar[bool] = True
    """Whether a managed save stands in the way of a rename and of a revert, as in libvirt's qemu driver."""

    @optional(Capability.SAVE)
    async def check_save(self, domain: Domain) -> None:
        """Refuse to save a guest that cannot be saved, before anything is touched."""
        raise self._unsupported(Capability.SAVE)

    @optional(Capability.SAVE)
    async def save(self, domain: Domain, file: SaveFile) -> None:
        """Stop the guest and write its memory into `file`; the guest then still exists and must not run on.

        Whatever happens, the caller goes on with `drop` or with `unsave`. A cancelled caller does not wait for the
        end of the memory.
        """
        raise self._unsupported(Capability.SAVE)

    @optional(Capability.SAVE)
    async def unsave(self, domain: Domain, *, running: bool) -> None:
        """Let a guest be what it was before a `save` from which nothing comes, running or paused.

        Does nothing to a guest that `save` has not come to, or that has ended meanwhile.
        """
        raise self._unsupported(Capability.SAVE)

    @optional(Capability.SAVE)
    async def restore(self, domain: Domain, definition: DomainDefinition, saved: SavedState) -> bytes:
        """Start a guest with this definition and the memory that `save` wrote, paused.

        Returns its runtime record, and reports nothing: the caller records the guest, or drops it.

        Raises:
            HypervisorError: The memory cannot be loaded; nothing of the guest is left.
        """
        raise self._unsupported(Capability.SAVE)

    # --- snapshots ---

    announces_steps: ClassVar[bool] = True
    """Whether lifecycle events tell of each step: the pause while memory is saved, and a revert's ``resumed`` and
    ``defined``. libvirt's qemu driver does so, its test driver does not."""

    def check_snapshot_name(self, name: str) -> None:  # noqa: B027 - any name will do unless a driver says otherwise
        """Refuse a name that this driver cannot keep a snapshot under.

        Raises:
            XmlDetail: As libvirt's qemu driver does for names with a slash or a leading dot.
        """

    def check_request(self, requested: Snapshot) -> None:  # noqa: B027 - likewise any request
        """Refuse what a request for a snapshot asks for and this driver never does, before anything is decided.

        Raises:
            OperationUnsupported: As libvirt's test driver does for disks that the caller is to copy.
        """

    def check_redefine_state(self, snapshot: Snapshot) -> None:  # noqa: B027 - likewise any state
        """Refuse to record a state that a guest of this driver cannot have.

        Raises:
            InternalError, OperationUnsupported: As libvirt's qemu driver does.
        """

    @optional(Capability.TAKE)
    async def check_take(self, domain: Domain, snapshot: Snapshot) -> None:
        """Refuse a snapshot that cannot be taken, before anything is touched."""
        raise self._unsupported(Capability.TAKE)

    @optional(Capability.TAKE)
    async def take(self, domain: Domain, snapshot: Snapshot) -> None:
        """Save the domain's state as `snapshot`; the guest then goes on as it was.

        All disks and the memory, or nothing: on any failure no trace is left in the data, and a guest that ran
        runs. Not undone by a cancelled caller: a cancellation waits for the end and then removes the snapshot.
        """
        raise self._unsupported(Capability.TAKE)

    @optional(Capability.REVERT)
    async def check_revert(self, domain: Domain, snapshot: Snapshot) -> None:
        """Refuse a revert that cannot succeed (data missing), before anything is touched."""
        raise self._unsupported(Capability.REVERT)

    @optional(Capability.REVERT)
    async def revert(
        self, domain: Domain, snapshot: Snapshot, definition: DomainDefinition, *, active: bool
    ) -> bytes | None:
        """Bring the domain's data back to `snapshot`, under `definition`; repeating it gives the same result.

        With `active` a guest exists afterwards, paused (with the snapshot's memory, or cold where it has none);
        the return value is its runtime record. Without, no guest exists and None is returned. Reports nothing:
        the caller records the whole revert at once.
        """
        raise self._unsupported(Capability.REVERT)

    @optional(Capability.DISCARD)
    async def discard(self, domain: Domain, snapshot: Snapshot) -> None:
        """Remove the snapshot's data; succeeds when there is none any more."""
        raise self._unsupported(Capability.DISCARD)

    def _unsupported(self, capability: Capability) -> NoSupport:
        return NoSupport(f"{capability} (driver {self.scheme})", details={"capability": str(capability)})
