"""Saved states: a domain's memory in a file, from which it goes on later (libvirt's virDomainSave family)."""

from __future__ import annotations

from typing import Annotated, Final, Literal

import msgspec

from virtsnap_protocol.method import FLAGS_MAX, DomainRef, Empty, Method, Params, Uri
from virtsnap_protocol.methods.domain import DomainParams, InfoResult

SaveFlag = Literal["bypass-cache", "running", "paused"]
"""virDomainSaveRestoreFlags, in the order of their bits: how to write, and the state to restore to."""

FilePath = Annotated[
    str,
    msgspec.Meta(min_length=1, max_length=4096, pattern="^/", description="An absolute path on the host."),
]


class CreateParams(Params, frozen=True, kw_only=True):
    """Which domain to save, and where."""

    domain: DomainRef
    path: FilePath
    uri: Uri | None = None
    flags: Annotated[list[SaveFlag], FLAGS_MAX] = msgspec.field(default_factory=list)


class RestoreParams(Params, frozen=True, kw_only=True):
    """Which saved state to go on from."""

    path: FilePath
    uri: Uri | None = None
    flags: Annotated[list[SaveFlag], FLAGS_MAX] = msgspec.field(default_factory=list)


class ManageParams(Params, frozen=True, kw_only=True):
    """Which domain to save, to be resumed by its next start."""

    domain: DomainRef
    uri: Uri | None = None
    flags: Annotated[list[SaveFlag], FLAGS_MAX] = msgspec.field(default_factory=list)


CREATE: Final = Method(
    "save.create", CreateParams, Empty, summary="Write a domain's memory to a file and end its guest."
)
RESTORE: Final = Method(
    "save.restore",
    RestoreParams,
    InfoResult,
    summary="Let a domain go on from a file that save.create wrote.",
)
MANAGE: Final = Method(
    "save.manage",
    ManageParams,
    Empty,
    summary="Save a persistent domain so that its next start goes on from there.",
)
DISCARD: Final = Method(
    "save.discard", DomainParams, Empty, summary="Remove a domain's managed save; its next start boots."
)
