"""Snapshots of a domain: libvirt's virDomainSnapshot* calls."""

from __future__ import annotations

from typing import Annotated, Final, Literal

import msgspec

from virtsnap_protocol.method import (
    FLAGS_MAX,
    DomainRef,
    Empty,
    Method,
    Params,
    Result,
    SnapshotName,
    Uri,
    Xml,
)
from virtsnap_protocol.methods.event import Position

SnapshotState = Literal[
    "nostate",
    "running",
    "blocked",
    "paused",
    "shutdown",
    "shutoff",
    "crashed",
    "pmsuspended",
    "disk-snapshot",
]
"""virDomainSnapshotState, in libvirt's spelling and order (0 to 8)."""

Location = Literal["internal", "external"]

CreateFlag = Literal[
    "redefine",
    "current",
    "no-metadata",
    "halt",
    "disk-only",
    "reuse-ext",
    "quiesce",
    "atomic",
    "live",
    "validate",
]
"""virDomainSnapshotCreateFlags, in the order of their bits."""
XmlFlag = Literal["secure"]
ListFlag = Literal[
    "roots",
    "descendants",
    "metadata",
    "leaves",
    "no-leaves",
    "no-metadata",
    "inactive",
    "active",
    "disk-only",
    "internal",
    "external",
    "topological",
]
"""virDomainSnapshotListFlags; `roots` and `descendants` share bit 0x1 in libvirt and are two words here."""
RevertFlag = Literal["running", "paused", "force", "reset-nvram"]
DeleteFlag = Literal["children", "metadata-only", "children-only"]
EditFlag = Literal["rename", "clone", "current", "validate"]
"""What virsh's snapshot-edit offers; libvirt has no call for it."""


class SnapshotInfo(msgspec.Struct, frozen=True, kw_only=True):
    """What one line of a listing and `snapshot-info` need."""

    name: str
    parent: str | None
    creation_time: int
    """Seconds since the epoch."""
    state: SnapshotState
    location: Location
    current: bool
    has_metadata: bool
    children: int
    descendants: int | None
    """Counted by snapshot.get alone."""
    description: str | None


class SnapshotParams(Params, frozen=True, kw_only=True):
    """Names one snapshot of one domain."""

    domain: DomainRef
    snapshot: SnapshotName
    uri: Uri | None = None


class DomainParams(Params, frozen=True, kw_only=True):
    """Names the domain whose snapshots are meant."""

    domain: DomainRef
    uri: Uri | None = None


class CreateParams(Params, frozen=True, kw_only=True):
    """A <domainsnapshot> document and what to do with it."""

    domain: DomainRef
    xml: Xml
    uri: Uri | None = None
    flags: Annotated[list[CreateFlag], FLAGS_MAX] = msgspec.field(default_factory=list)


class ListParams(Params, frozen=True, kw_only=True):
    """Which snapshots to list; flags of one group widen, groups narrow."""

    domain: DomainRef
    of: SnapshotName | None = None
    """List the children of this snapshot (with `descendants`, all below it) instead of the domain's."""
    uri: Uri | None = None
    flags: Annotated[list[ListFlag], FLAGS_MAX] = msgspec.field(default_factory=list)
    skip: Annotated[int, msgspec.Meta(ge=0)] = 0
    """Leave out so many, to continue where a page ended: valid while the generation is that page's."""
    limit: Annotated[int, msgspec.Meta(ge=1)] | None = None
    """List at most so many."""


class CountParams(Params, frozen=True, kw_only=True):
    """Which snapshots to count; as for listing."""

    domain: DomainRef
    of: SnapshotName | None = None
    """Count the children of this snapshot (with `descendants`, all below it) instead of the domain's."""
    uri: Uri | None = None
    flags: Annotated[list[ListFlag], FLAGS_MAX] = msgspec.field(default_factory=list)


class XmlParams(Params, frozen=True, kw_only=True):
    """Which snapshot to show."""

    domain: DomainRef
    snapshot: SnapshotName
    uri: Uri | None = None
    flags: Annotated[list[XmlFlag], FLAGS_MAX] = msgspec.field(default_factory=list)


class RevertParams(Params, frozen=True, kw_only=True):
    """Which snapshot to go back to, and the state to end in."""

    domain: DomainRef
    snapshot: SnapshotName
    uri: Uri | None = None
    flags: Annotated[list[RevertFlag], FLAGS_MAX] = msgspec.field(default_factory=list)


class DeleteParams(Params, frozen=True, kw_only=True):
    """Which snapshot to delete, and how much with it."""

    domain: DomainRef
    snapshot: SnapshotName
    uri: Uri | None = None
    flags: Annotated[list[DeleteFlag], FLAGS_MAX] = msgspec.field(default_factory=list)


class EditParams(Params, frozen=True, kw_only=True):
    """The document that the metadata of a snapshot is to have, and what a changed name in it means."""

    domain: DomainRef
    snapshot: SnapshotName
    xml: Xml
    uri: Uri | None = None
    flags: Annotated[list[EditFlag], FLAGS_MAX] = msgspec.field(default_factory=list)


class InfoResult(Result, frozen=True, kw_only=True):
    """One snapshot."""

    snapshot: SnapshotInfo


class ListResult(Result, frozen=True, kw_only=True):
    """Snapshots, parents before their children."""

    snapshots: list[SnapshotInfo]
    total: int
    """How many there are on all pages."""
    generation: int
    """The hierarchy's generation that the list shows."""
    position: Position
    """Of the last event that the list shows the effect of: subscribe with it to miss nothing."""


class CountResult(Result, frozen=True, kw_only=True):
    """How many snapshots there are."""

    count: int
    generation: int
    """The hierarchy's generation that was counted."""


class XmlResult(Result, frozen=True, kw_only=True):
    """A <domainsnapshot> document."""

    xml: str


class DeleteResult(Result, frozen=True, kw_only=True):
    """The names that are gone, children before their parents."""

    deleted: list[str]


CREATE: Final = Method(
    "snapshot.create",
    CreateParams,
    InfoResult,
    summary="Take a snapshot, or (flag redefine) record the metadata of one that exists.",
)
LIST: Final = Method(
    "snapshot.list", ListParams, ListResult, reads=True, summary="List snapshots of a domain."
)
COUNT: Final = Method(
    "snapshot.count", CountParams, CountResult, reads=True, summary="Count snapshots of a domain."
)
GET: Final = Method("snapshot.get", SnapshotParams, InfoResult, reads=True, summary="Describe one snapshot.")
XML: Final = Method("snapshot.xml", XmlParams, XmlResult, reads=True, summary="Return a snapshot's document.")
CURRENT: Final = Method(
    "snapshot.current",
    DomainParams,
    InfoResult,
    reads=True,
    summary="Describe the domain's current snapshot.",
)
PARENT: Final = Method(
    "snapshot.parent", SnapshotParams, InfoResult, reads=True, summary="Describe a snapshot's parent."
)
REVERT: Final = Method(
    "snapshot.revert",
    RevertParams,
    Empty,
    summary="Bring the domain back to the state that a snapshot saved.",
)
DELETE: Final = Method(
    "snapshot.delete",
    DeleteParams,
    DeleteResult,
    summary="Delete a snapshot, or only what the daemon remembers of it.",
)
EDIT: Final = Method(
    "snapshot.edit",
    EditParams,
    InfoResult,
    summary="Replace the metadata of a snapshot: under its name, under another, or beside it.",
)
