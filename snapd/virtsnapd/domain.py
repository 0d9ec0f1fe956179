"""One virtual machine as callers see it, and what can become of it."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from virtsnap_protocol.errors import OperationInvalid
from virtsnap_protocol.methods.event import Event, EventKind, Lifecycle

if TYPE_CHECKING:
    from virtsnap_protocol.methods.domain import DomainState
    from virtsnapd.definitions import Definitions
    from virtsnapd.hierarchies import Hierarchy
    from virtsnapd.locks import DomainLock
    from virtsnapd.models.domain import DomainDefinition
    from virtsnapd.store import DomainRow


@dataclass(kw_only=True)
class Domain:
    """One virtual machine as callers see it."""

    row: DomainRow
    uri: str
    hierarchy: Hierarchy
    definitions: Definitions
    lock: DomainLock

    @property
    def name(self) -> str:
        """Its name, unique within the driver."""
        return self.row.name

    @property
    def uuid(self) -> str:
        """Its UUID, canonical and lower-case."""
        return self.row.uuid

    @property
    def persistent(self) -> bool:
        """Whether it is defined, and so outlives its guest."""
        return self.row.definition is not None

    @property
    def active(self) -> bool:
        """Whether a guest exists, running or paused."""
        return self.row.live is not None

    @property
    def definition(self) -> DomainDefinition:
        """What the guest runs with, or would start with."""
        return self.definitions.parsed(self.digest)

    @property
    def digest(self) -> str:
        """The digest of `definition`."""
        return self._one_of(self.row.live, self.row.definition)

    @property
    def persistent_digest(self) -> str:
        """The digest of what the next start uses; of a transient domain of what it runs with."""
        return self._one_of(self.row.definition, self.row.live)

    def named(self, digest: str) -> DomainDefinition:
        """Return a definition that is held, under the domain's present name: it may be from before a rename."""
        definition = self.definitions.parsed(digest)
        return definition if definition.name == self.name else definition.renamed(self.name)

    def _one_of(self, first: str | None, second: str | None) -> str:
        digest = first or second
        assert digest is not None, "a domain that is recorded has a definition"  # noqa: S101 - the store checks it
        return digest

    def xml(self, *, inactive: bool, secure: bool) -> str:
        """Return libvirt's XML of the live definition, or (`inactive`) of the persistent one."""
        if self.active and not inactive:
            return self.definition.format(secure=secure, id=self.row.id)
        return self.definitions.text(self.persistent_digest, secure=secure)

    def event(
        self,
        kind: EventKind,
        *,
        snapshot: str | None = None,
        former: str | None = None,
        parent: str | None = None,
        generation: int | None = None,
    ) -> Event:
        """Return an event about this domain, to be written with the change that it announces."""
        return Event(
            epoch="",
            seq=0,
            time=int(time.time()),
            kind=kind,
            uri=self.uri,
            domain=self.name,
            uuid=self.uuid,
            id=self.row.id,
            snapshot=snapshot,
            former=former,
            parent=parent,
            generation=generation,
        )

    def lifecycle(self, event: Lifecycle, detail: str, *, row: DomainRow | None = None) -> Event:
        """Return libvirt's lifecycle event with its detail's spelling; `row` is what the change leads to."""
        return Event(
            epoch="",
            seq=0,
            time=int(time.time()),
            kind="domain.lifecycle",
            uri=self.uri,
            domain=(row or self.row).name,
            uuid=self.uuid,
            id=(row or self.row).id,
            lifecycle=event,
            detail=detail,
        )


@dataclass(frozen=True, kw_only=True)
class Transition:
    """What became of a guest: the new state, and the lifecycle events that tell of it."""

    state: DomainState
    reason: str
    events: tuple[tuple[Lifecycle, str], ...] = ()


def require_active(domain: Domain) -> None:
    """Refuse an operation that needs a guest.

    Raises:
        OperationInvalid: The domain is not running.
    """
    if not domain.active:
        raise OperationInvalid("domain is not running", domain=domain.name)


def require_inactive(domain: Domain) -> None:
    """Refuse to start what runs already.

    Raises:
        OperationInvalid: The domain is running.
    """
    if domain.active:
        raise OperationInvalid("domain is already running", domain=domain.name)
