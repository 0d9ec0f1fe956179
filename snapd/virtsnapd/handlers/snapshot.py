"""Snapshots: check the flags in libvirt's order, parse, lock, ask, answer."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Final

import msgspec

from virtsnap_protocol.errors import (
    Error,
    OperationInvalid,
    OperationUnsupported,
    SnapshotExists,
    SnapshotNotFound,
)
from virtsnap_protocol.method import Empty
from virtsnap_protocol.methods import snapshot as methods
from virtsnapd import snapshots
from virtsnapd.access import require_secrets
from virtsnapd.documents import read_document
from virtsnapd.flags import exclude, require_supported, require_with
from virtsnapd.models import listing
from virtsnapd.models.alignment import align_disks
from virtsnapd.models.redefine import prepare_edit, prepare_redefine
from virtsnapd.models.snapshot import ParsedSnapshot, Snapshot, format_snapshot, parse_snapshot
from virtsnapd.routing import handles

if TYPE_CHECKING:
    from collections.abc import Collection

    from virtsnap_protocol.methods.domain import DomainState
    from virtsnapd.context import Context, Hypervisor
    from virtsnapd.domain import Domain

CREATE_PREFIX: Final = "VIR_DOMAIN_SNAPSHOT_CREATE_"
REVERT_PREFIX: Final = "VIR_DOMAIN_SNAPSHOT_REVERT_"
DELETE_PREFIX: Final = "VIR_DOMAIN_SNAPSHOT_DELETE_"
"""libvirt's messages about flags name its constants; scripts look for them."""
ABOUT_DATA: Final[frozenset[methods.CreateFlag]] = frozenset({"disk-only", "reuse-ext"})
"""With `redefine` these ask nothing of a driver (qemuSnapshotRedefine): virsh repeats them from the document."""


def describe(domain: Domain, snapshot: Snapshot, *, descendants: int | None = None) -> methods.SnapshotInfo:
    """Return what callers are told of a snapshot."""
    forest = domain.hierarchy.forest
    known = snapshot.name in forest
    return methods.SnapshotInfo(
        name=snapshot.name,
        parent=snapshot.parent,
        creation_time=snapshot.creation_time,
        state=snapshot.state or "nostate",
        location=snapshot.location,
        current=forest.current == snapshot.name,
        has_metadata=known,
        children=forest.child_count(snapshot.name) if known else 0,
        descendants=descendants,
        description=snapshot.description,
    )


@handles(methods.LIST)
def list_snapshots(context: Context, params: methods.ListParams) -> methods.ListResult:
    """List snapshots, parents before their children."""
    _, domain = context.domain(params.uri, params.domain)
    found = listing.select(domain.hierarchy.forest, params.flags, params.of)
    end = None if params.limit is None else params.skip + params.limit
    return methods.ListResult(
        snapshots=[describe(domain, snapshot) for snapshot in found[params.skip : end]],
        total=len(found),
        generation=domain.hierarchy.generation,
        position=context.services.events.position,
    )


@handles(methods.COUNT)
def count(context: Context, params: methods.CountParams) -> methods.CountResult:
    """Count snapshots."""
    _, domain = context.domain(params.uri, params.domain)
    found = listing.count(domain.hierarchy.forest, params.flags, params.of)
    return methods.CountResult(count=found, generation=domain.hierarchy.generation)


@handles(methods.GET)
def get(context: Context, params: methods.SnapshotParams) -> methods.InfoResult:
    """Describe one snapshot, and count what is below it: the one answer that costs what the hierarchy is large."""
    _, domain = context.domain(params.uri, params.domain)
    snapshot = _find(domain, params.snapshot)
    below = len(domain.hierarchy.forest.descendants(snapshot.name))
    return methods.InfoResult(snapshot=describe(domain, snapshot, descendants=below))


@handles(methods.XML)
def xml(context: Context, params: methods.XmlParams) -> methods.XmlResult:
    """Return a snapshot's document."""
    require_secrets(context.caller, methods.XML.name, params.flags)
    _, domain = context.domain(params.uri, params.domain)
    snapshot = _find(domain, params.snapshot)
    secure = "secure" in params.flags

    def text(digest: str | None) -> str | None:
        return None if digest is None else domain.definitions.text(digest, secure=secure)

    document = format_snapshot(
        snapshot,
        domain=text(snapshot.domain),
        inactive_domain=text(snapshot.inactive_domain),
        uuid=domain.uuid,
    )
    return methods.XmlResult(xml=document)


@handles(methods.CURRENT)
def current(context: Context, params: methods.DomainParams) -> methods.InfoResult:
    """Describe the current snapshot."""
    _, domain = context.domain(params.uri, params.domain)
    name = domain.hierarchy.forest.current
    if name is None:
        raise SnapshotNotFound("the domain does not have a current snapshot", domain=domain.name)
    return methods.InfoResult(snapshot=describe(domain, _find(domain, name)))


@handles(methods.PARENT)
def parent(context: Context, params: methods.SnapshotParams) -> methods.InfoResult:
    """Describe a snapshot's parent."""
    _, domain = context.domain(params.uri, params.domain)
    snapshot = _find(domain, params.snapshot)
    if snapshot.parent is None:
        raise SnapshotNotFound(
            f"snapshot '{snapshot.name}' does not have a parent", domain=domain.name, snapshot=snapshot.name
        )
    return methods.InfoResult(snapshot=describe(domain, _find(domain, snapshot.parent)))


@handles(methods.CREATE)
async def create(context: Context, params: methods.CreateParams) -> methods.InfoResult:
    """Take a snapshot, or record the metadata of one that exists."""
    flags = params.flags
    # virDomainSnapshotCreateXML, then the driver's mask, then qemuSnapshotCreateXML: scripts see the first refusal
    hypervisor, domain = context.domain(params.uri, params.domain)
    require_with(flags, "current", "redefine", CREATE_PREFIX)
    exclude(flags, "redefine", "no-metadata", CREATE_PREFIX)
    exclude(flags, "redefine", "halt", CREATE_PREFIX)
    supported = hypervisor.driver.create_flags
    if "redefine" in flags:
        supported |= ABOUT_DATA
    require_supported(flags, supported, methods.CREATE.name)
    long = "redefine" not in flags
    async with domain.lock.hold(methods.CREATE.name, who=str(context.caller), long=long):
        if "halt" in flags and not domain.persistent:
            raise OperationInvalid("cannot halt after transient domain snapshot", domain=domain.name)
        parsed = await read_document(params.xml, lambda: _parse(domain, params))
        if "redefine" in flags:
            snapshot = await _redefine(hypervisor, domain, parsed, flags)
        else:
            snapshot = await _take(hypervisor, domain, parsed.snapshot, flags)
        return methods.InfoResult(snapshot=describe(domain, snapshot))


def _parse(domain: Domain, params: methods.CreateParams) -> ParsedSnapshot:
    flags = params.flags
    return parse_snapshot(
        params.xml,
        redefine="redefine" in flags,
        offline="disk-only" in flags or not domain.active,
        validate="validate" in flags,
        now=int(time.time()),
        unique_name=lambda name: _unique(name, domain),
    )


def _unique(name: str, domain: Domain) -> str:
    """Return `name`, made unique: libvirt lets two unnamed snapshots of one second collide."""
    forest, number, unique = domain.hierarchy.forest, 1, name
    while unique in forest or forest.data_users(unique):
        number += 1
        unique = f"{name}-{number}"
    return unique


async def _redefine(
    hypervisor: Hypervisor, domain: Domain, parsed: ParsedSnapshot, flags: Collection[methods.CreateFlag]
) -> Snapshot:
    _check_record(hypervisor, parsed.snapshot)
    prepared = await read_document(
        "" if parsed.domain is None else parsed.domain.text,
        lambda: prepare_redefine(
            parsed,
            forest=domain.hierarchy.forest,
            domain_uuid=domain.uuid,
            disk_only="disk-only" in flags,
            stored_domain=domain.definitions.parsed,
            complete=hypervisor.driver.prepare,
        ),
        beside=_stored_text(domain, domain.hierarchy.forest.find(parsed.snapshot.name)),
    )
    await snapshots.redefine(hypervisor, domain, prepared, current="current" in flags)
    return prepared.snapshot


def _stored_text(domain: Domain, snapshot: Snapshot | None) -> str:
    """Return the definition that a new document of the snapshot will be compared with."""
    if snapshot is None or snapshot.domain is None:
        return ""
    return domain.definitions.facts(snapshot.domain).xml


async def _take(
    hypervisor: Hypervisor, domain: Domain, requested: Snapshot, flags: Collection[methods.CreateFlag]
) -> Snapshot:
    metadata = "no-metadata" not in flags
    if metadata:
        hypervisor.driver.check_snapshot_name(requested.name)
    hypervisor.driver.check_request(requested)
    snapshot = _completed(domain, requested, flags)
    if snapshot.name in domain.hierarchy.forest:
        raise SnapshotExists(
            f"domain moment {snapshot.name} already exists", domain=domain.name, snapshot=snapshot.name
        )
    await snapshots.take(hypervisor, domain, snapshot, metadata=metadata, halt="halt" in flags)
    return snapshot


def _completed(domain: Domain, requested: Snapshot, flags: Collection[methods.CreateFlag]) -> Snapshot:
    """Return the request with everything decided that libvirt decides (qemuSnapshotCreateXML, steps 10 to 15)."""
    row, active = domain.row, domain.active
    disk_only = "disk-only" in flags
    external = (
        disk_only
        or requested.memory == "external"
        or (not active and any(disk.snapshot == "external" for disk in requested.disks))
    )
    state: methods.SnapshotState = row.state
    memory = requested.memory
    if external and disk_only:
        state, memory = ("disk-snapshot" if active else "shutoff"), "no"
    elif not external:
        if active and memory == "no":
            raise OperationUnsupported("internal snapshot of a running VM must include the memory state")
        memory = "internal" if active else "no"
    live = row.live or row.definition
    snapshot = msgspec.structs.replace(
        requested,
        state=state,
        memory=memory,
        parent=domain.hierarchy.forest.current,
        domain=live,
        inactive_domain=row.definition if row.definition != live else None,
    )
    location: methods.Location = "external" if external else "internal"
    return align_disks(snapshot, domain.definition, default=location, stat=os.stat)


@handles(methods.REVERT)
async def revert(context: Context, params: methods.RevertParams) -> Empty:
    """Bring the domain back to the state that a snapshot saved."""
    flags = params.flags
    hypervisor, domain = context.domain(params.uri, params.domain)
    _find(domain, params.snapshot)  # before the flags: a client of libvirt has looked it up
    exclude(flags, "running", "paused", REVERT_PREFIX)
    require_supported(flags, hypervisor.driver.revert_flags, methods.REVERT.name)
    async with domain.lock.hold(methods.REVERT.name, who=str(context.caller), long=True):
        snapshot = _find(domain, params.snapshot)
        final = _final_state(snapshot, flags)
        await snapshots.revert(hypervisor, domain, snapshot, final, force="force" in flags)
    return Empty()


def _final_state(snapshot: Snapshot, flags: Collection[methods.RevertFlag]) -> DomainState:
    if "running" in flags:
        return "running"
    if "paused" in flags or snapshot.state == "paused":
        return "paused"
    return "running" if snapshot.state == "running" else "shutoff"


@handles(methods.DELETE)
async def delete(context: Context, params: methods.DeleteParams) -> methods.DeleteResult:
    """Delete a snapshot, all below it, both, or only what is remembered of them."""
    flags = params.flags
    hypervisor, domain = context.domain(params.uri, params.domain)
    _find(domain, params.snapshot)  # as for revert
    exclude(flags, "children", "children-only", DELETE_PREFIX)
    metadata_only = "metadata-only" in flags
    async with domain.lock.hold(methods.DELETE.name, who=str(context.caller), long=not metadata_only):
        _find(domain, params.snapshot)
        forest = domain.hierarchy.forest
        change = forest.removal(
            params.snapshot, children="children" in flags, children_only="children-only" in flags
        )
        if metadata_only:
            await snapshots.forget(hypervisor, domain, change)
        else:
            # each by itself, leaves first: where one cannot be deleted, all above it are left whole
            for number, name in enumerate(change.remove):
                try:
                    await snapshots.delete(hypervisor, domain, forest.get(name))
                except Error as error:
                    error.details["deleted"] = number
                    raise
    return methods.DeleteResult(deleted=list(change.remove))


@handles(methods.EDIT)
async def edit(context: Context, params: methods.EditParams) -> methods.InfoResult:
    """Replace the metadata of a snapshot: under its name, under another, or (clone) beside it."""
    flags = params.flags
    hypervisor, domain = context.domain(params.uri, params.domain)
    _find(domain, params.snapshot)  # as for revert
    exclude(flags, "rename", "clone", prefix="")  # libvirt has no constants for them
    async with domain.lock.hold(methods.EDIT.name, who=str(context.caller), long=False):
        edited = _find(domain, params.snapshot)
        parsed = await read_document(params.xml, lambda: _parse_record(params))
        _check_record(hypervisor, parsed.snapshot)
        prepared = await read_document(
            params.xml,
            lambda: prepare_edit(
                parsed,
                edited,
                rename="rename" in flags,
                clone="clone" in flags,
                forest=domain.hierarchy.forest,
                domain_uuid=domain.uuid,
                stored_domain=domain.definitions.parsed,
                complete=hypervisor.driver.prepare,
            ),
            beside=_stored_text(domain, edited),
        )
        current = "current" in flags
        if "clone" in flags or prepared.snapshot.name == edited.name:
            await snapshots.redefine(hypervisor, domain, prepared, current=current)
        else:
            await snapshots.rename(hypervisor, domain, edited.name, prepared, current=current)
        return methods.InfoResult(snapshot=describe(domain, prepared.snapshot))


def _parse_record(params: methods.EditParams) -> ParsedSnapshot:
    return parse_snapshot(
        params.xml,
        redefine=True,
        offline=False,
        validate="validate" in params.flags,
        now=0,
        unique_name=str,
    )


def _check_record(hypervisor: Hypervisor, snapshot: Snapshot) -> None:
    """Refuse a record that the driver cannot have: by its name, by its data's name, by its state."""
    hypervisor.driver.check_snapshot_name(snapshot.name)
    hypervisor.driver.check_snapshot_name(snapshot.tag)
    hypervisor.driver.check_redefine_state(snapshot)


def _find(domain: Domain, name: str) -> Snapshot:
    try:
        return domain.hierarchy.forest.get(name)
    except SnapshotNotFound as error:
        error.domain = domain.name
        raise


ROUTES: Final = (list_snapshots, count, get, xml, current, parent, create, revert, delete, edit)
