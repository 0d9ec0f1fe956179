"""Domains: virtual machines, persistent or transient."""

from __future__ import annotations

from typing import Annotated, Final, Literal

import msgspec

from virtsnap_protocol.method import FLAGS_MAX, DomainRef, Empty, Method, Params, Result, Uri, Xml
from virtsnap_protocol.methods.event import Position

DomainState = Literal[
    "nostate", "running", "blocked", "paused", "shutdown", "shutoff", "crashed", "pmsuspended"
]
"""virDomainState, in libvirt's spelling and order (0 to 7)."""

ListFlag = Literal[
    "active",
    "inactive",
    "persistent",
    "transient",
    "managed-save",
    "no-managed-save",
    "has-snapshot",
    "no-snapshot",
]
DefineFlag = Literal["validate"]
CreateFlag = Literal["paused", "validate"]
StartFlag = Literal["paused", "bypass-cache", "force-boot"]
"""`force-boot` discards a managed save instead of resuming from it."""
UndefineFlag = Literal[
    "managed-save", "snapshots-metadata", "nvram", "keep-nvram", "checkpoints-metadata", "tpm", "keep-tpm"
]
"""virDomainUndefineFlagsValues, in the order of their bits."""
XmlFlag = Literal["secure", "inactive"]
DisksFlag = Literal["inactive"]


class DomainInfo(msgspec.Struct, frozen=True, kw_only=True):
    """What one line of a listing and `dominfo` need."""

    name: str
    uuid: str
    id: int | None
    """Only of an active domain."""
    state: DomainState
    reason: str
    """virDomainState's reason in libvirt's spelling, for instance ``booted`` or ``from snapshot``."""
    persistent: bool
    os_type: str
    vcpus: int
    max_memory: int
    """Bytes."""
    memory: int
    """Bytes."""
    managed_save: bool
    """Whether the next start resumes from a saved state."""
    snapshots: int
    """How many snapshots the daemon keeps metadata of."""
    current_snapshot: str | None
    generation: int
    """Raised by one with every change of the snapshot hierarchy."""
    needs_attention: str | None
    """Set when an operation was interrupted and could not be completed or undone: what to do next."""


class DiskInfo(msgspec.Struct, frozen=True, kw_only=True):
    """One disk of a domain, as `domblklist` shows it."""

    target: str
    """As the guest sees it: ``vda``."""
    source: str | None
    """A path, a device or an image's name; None for an empty drive."""
    type: str
    """The kind of storage: ``file``, ``block``, ``network``, ..."""
    device: str
    """``disk``, ``cdrom``, ``floppy`` or ``lun``."""


class DomainParams(Params, frozen=True, kw_only=True):
    """Names one domain."""

    domain: DomainRef
    uri: Uri | None = None


class ListParams(Params, frozen=True, kw_only=True):
    """Which domains to list; flags of one group (active/inactive, ...) widen, groups narrow."""

    uri: Uri | None = None
    flags: Annotated[list[ListFlag], FLAGS_MAX] = msgspec.field(default_factory=list)


class ListResult(Result, frozen=True, kw_only=True):
    """Domains: active ones by id, then inactive ones by name."""

    domains: list[DomainInfo]
    position: Position
    """Of the last event that the list shows the effect of: subscribe with it to miss nothing."""


class InfoResult(Result, frozen=True, kw_only=True):
    """One domain."""

    domain: DomainInfo


class XmlParams(Params, frozen=True, kw_only=True):
    """Which of a domain's definitions to show."""

    domain: DomainRef
    uri: Uri | None = None
    flags: Annotated[list[XmlFlag], FLAGS_MAX] = msgspec.field(default_factory=list)


class XmlResult(Result, frozen=True, kw_only=True):
    """A document."""

    xml: str


class DefineParams(Params, frozen=True, kw_only=True):
    """A domain definition in libvirt's XML."""

    xml: Xml
    uri: Uri | None = None
    flags: Annotated[list[DefineFlag], FLAGS_MAX] = msgspec.field(default_factory=list)


class CreateParams(Params, frozen=True, kw_only=True):
    """A domain definition in libvirt's XML, to be run at once without being kept."""

    xml: Xml
    uri: Uri | None = None
    flags: Annotated[list[CreateFlag], FLAGS_MAX] = msgspec.field(default_factory=list)


class StartParams(Params, frozen=True, kw_only=True):
    """How to start a domain."""

    domain: DomainRef
    uri: Uri | None = None
    flags: Annotated[list[StartFlag], FLAGS_MAX] = msgspec.field(default_factory=list)


class UndefineParams(Params, frozen=True, kw_only=True):
    """What may go along with the definition."""

    domain: DomainRef
    uri: Uri | None = None
    flags: Annotated[list[UndefineFlag], FLAGS_MAX] = msgspec.field(default_factory=list)


class RenameParams(Params, frozen=True, kw_only=True):
    """A domain's new name."""

    domain: DomainRef
    name: Annotated[str, msgspec.Meta(max_length=1024)]
    uri: Uri | None = None


class DisksParams(Params, frozen=True, kw_only=True):
    """Whose disks to list: those of the running definition, or with `inactive` of the persistent one."""

    domain: DomainRef
    uri: Uri | None = None
    flags: Annotated[list[DisksFlag], FLAGS_MAX] = msgspec.field(default_factory=list)


class DisksResult(Result, frozen=True, kw_only=True):
    """Disks, in the definition's order."""

    disks: list[DiskInfo]


LIST: Final = Method("domain.list", ListParams, ListResult, reads=True, summary="List domains.")
INFO: Final = Method(
    "domain.info",
    DomainParams,
    InfoResult,
    reads=True,
    summary="Describe one domain: state, sizes, snapshots.",
)
XML: Final = Method(
    "domain.xml", XmlParams, XmlResult, reads=True, summary="Return a domain's definition in libvirt's XML."
)
DISKS: Final = Method(
    "domain.disks", DisksParams, DisksResult, reads=True, summary="List a domain's disks and their images."
)
DEFINE: Final = Method(
    "domain.define", DefineParams, InfoResult, summary="Define a persistent domain, or change its definition."
)
UNDEFINE: Final = Method(
    "domain.undefine",
    UndefineParams,
    Empty,
    summary="Forget a domain's definition; an active domain becomes transient.",
)
RENAME: Final = Method(
    "domain.rename", RenameParams, InfoResult, summary="Give an inactive domain another name."
)
CREATE: Final = Method(
    "domain.create", CreateParams, InfoResult, summary="Run a transient domain from its definition."
)
START: Final = Method("domain.start", StartParams, InfoResult, summary="Start a defined domain.")
DESTROY: Final = Method(
    "domain.destroy", DomainParams, Empty, summary="Stop a domain at once, as by its plug."
)
SHUTDOWN: Final = Method(
    "domain.shutdown", DomainParams, Empty, summary="Ask the guest to shut down; does not wait for it."
)
SUSPEND: Final = Method("domain.suspend", DomainParams, Empty, summary="Pause the virtual CPUs.")
RESUME: Final = Method("domain.resume", DomainParams, Empty, summary="Let the virtual CPUs run on.")
