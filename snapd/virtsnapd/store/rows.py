"""The plain values that go into the store and come out of it."""

from __future__ import annotations

from typing import Literal, TypeAlias

import msgspec

from virtsnap_protocol.methods.domain import DomainState
from virtsnap_protocol.methods.event import Event
from virtsnapd.models.snapshot import Snapshot

Verb: TypeAlias = Literal["take", "revert", "discard", "resume"]
"""What can be under way on a snapshot."""
SaveVerb: TypeAlias = Literal["save", "restore"]
"""What can be under way on a saved state; `restore`: the guest is recorded and is still to be let run."""


class DefinitionRow(msgspec.Struct, frozen=True, kw_only=True):
    """A domain's XML at one moment, with what listings show of it."""

    xml: str
    os_type: str
    vcpus: int
    max_memory: int
    """Bytes."""
    memory: int
    """Bytes."""


class DomainRow(msgspec.Struct, frozen=True, kw_only=True):
    """One domain; identified by driver and UUID."""

    driver: str
    uuid: str
    name: str
    definition: str | None
    """Digest of the persistent definition; None for a transient domain."""
    live: str | None
    """Digest of the definition that it runs with; None when inactive."""
    id: int | None
    state: DomainState
    reason: str
    runtime: bytes | None
    """What the driver needs to find the running guest again; opaque here."""
    attention: str | None
    managed_save: bool = False
    """Whether the next start resumes from a saved state, which the driver keeps."""


class HierarchyRow(msgspec.Struct, frozen=True, kw_only=True):
    """The head of one domain's hierarchy."""

    key: int
    driver: str
    uuid: str
    current: str | None
    generation: int


class OperationRow(msgspec.Struct, frozen=True, kw_only=True):
    """An operation on a domain that has begun and is not known to have ended: at most one per domain."""

    driver: str
    uuid: str
    verb: Verb
    snapshot: Snapshot
    final: DomainState
    """The domain's state once it is done."""
    started: int
    """Seconds since the epoch."""


class SaveTarget(msgspec.Struct, frozen=True, kw_only=True):
    """A file with a saved state, as the note of what is done to it keeps it."""

    path: str
    """Where the whole state belongs."""
    temporary: str
    """Where it is written."""
    identity: str
    """What its header says it is."""
    managed: bool


class SaveOperationRow(msgspec.Struct, frozen=True, kw_only=True):
    """An operation on a saved state that has begun and is not known to have ended; likewise one per domain."""

    driver: str
    uuid: str
    verb: SaveVerb
    target: SaveTarget
    final: DomainState
    """Of `save`: the state that a guest goes back to when nothing comes of it."""
    started: int
    """Seconds since the epoch."""


Operation: TypeAlias = OperationRow | SaveOperationRow
"""At most one per domain, of either kind."""


class Loaded(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that the daemon keeps in memory, as read when it starts."""

    epoch: str
    seq: int
    """Position of the last event ever written."""
    definitions: dict[str, DefinitionRow]
    """By digest."""
    domains: list[DomainRow]
    hierarchies: list[tuple[HierarchyRow, list[Snapshot]]]
    operations: list[Operation]
    events: list[Event]
    """The last ones, oldest first."""
