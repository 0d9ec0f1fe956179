"""Whether a record may be (re)created from a document (virDomainSnapshotRedefinePrep), and in which form."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

import msgspec

from virtsnap_protocol.errors import InternalError, InvalidArgument, InvalidFlags
from virtsnapd.models.abi import Completion, replacement
from virtsnapd.models.alignment import align_disks
from virtsnapd.models.domain import DomainDefinition
from virtsnapd.models.snapshot import ParsedSnapshot, Snapshot

if TYPE_CHECKING:
    from virtsnapd.models.forest import Forest

StoredDomain = Callable[[str], DomainDefinition]

_ONLINE: Final = frozenset({"running", "paused"})


def prepare_redefine(
    parsed: ParsedSnapshot,
    *,
    forest: Forest,
    domain_uuid: str,
    disk_only: bool,
    stored_domain: StoredDomain,
    complete: Completion | None = None,
) -> ParsedSnapshot:
    """Check a parsed document against the hierarchy, in libvirt's order; return the record to keep.

    The result has its disks aligned. A document without a full <domain> keeps both definitions of the record
    that it replaces (libvirt forgets the inactive one), and one that does not name its data keeps that name;
    `stored_domain` returns a definition by its digest, and `complete` one with all that its hypervisor decides.

    Raises: InvalidArgument, ConfigUnsupported, InternalError.
    """
    snapshot = parsed.snapshot
    forest.check_parent(snapshot.name, snapshot.parent)
    return _prepared(
        parsed,
        forest.find(snapshot.name),
        domain_uuid=domain_uuid,
        disk_only=disk_only,
        stored_domain=stored_domain,
        complete=complete,
    )


def prepare_edit(
    parsed: ParsedSnapshot,
    edited: Snapshot,
    *,
    rename: bool,
    clone: bool,
    forest: Forest,
    domain_uuid: str,
    stored_domain: StoredDomain,
    complete: Completion | None = None,
) -> ParsedSnapshot:
    """Check a document that is to take the place of the record `edited`, or (`clone`) one beside it.

    Under whatever name, it speaks of the data of `edited`: the rules for redefining that hold, and what the
    document leaves out is kept, as by `prepare_redefine`.

    Raises:
        InvalidFlags: The name differs, and neither `rename` nor `clone` says what that means (virsh's words).
        SnapshotExists: The other name is taken.
        InvalidArgument, ConfigUnsupported, InternalError: As `prepare_redefine`.
    """
    snapshot = parsed.snapshot
    if snapshot.name != edited.name:
        if not (rename or clone):
            raise InvalidFlags(
                f"Must use --rename or --clone to change {edited.name} to {snapshot.name}",
                snapshot=edited.name,
            )
        forest.check_untaken(snapshot.name)
    forest.check_parent(snapshot.name, snapshot.parent, former=None if clone else edited.name)
    return _prepared(
        parsed,
        edited,
        domain_uuid=domain_uuid,
        disk_only=edited.state == "disk-snapshot",  # so virsh asks when it edits one
        stored_domain=stored_domain,
        complete=complete,
    )


def _prepared(
    parsed: ParsedSnapshot,
    other: Snapshot | None,
    *,
    domain_uuid: str,
    disk_only: bool,
    stored_domain: StoredDomain,
    complete: Completion | None,
) -> ParsedSnapshot:
    """Apply the rules that follow the one of the parents; `other` is the record of the same data."""
    snapshot = parsed.snapshot
    if disk_only and snapshot.state != "disk-snapshot":
        raise InvalidArgument(
            f"disk-only flag for snapshot {snapshot.name} requires disk-snapshot state",
            snapshot=snapshot.name,
        )
    if parsed.domain is not None and parsed.domain.uuid != domain_uuid:
        raise InvalidArgument(
            f"definition for snapshot {snapshot.name} must use uuid {domain_uuid}", snapshot=snapshot.name
        )
    domain, inactive = parsed.domain, parsed.inactive_domain
    if other is not None:
        _check_states(other, snapshot)
        stored = None if other.domain is None else stored_domain(other.domain)
        if domain is None:
            domain = stored
            if inactive is None and other.inactive_domain is not None:
                inactive = stored_domain(other.inactive_domain)
        elif stored is not None:
            domain = replacement(stored, domain, complete)
    if domain is None:
        raise InternalError("missing domain in snapshot", snapshot=snapshot.name)
    aligned = _aligned(snapshot, domain, inactive)
    tag = snapshot.data_name or (snapshot.name if other is None else other.tag)
    kept = msgspec.structs.replace(aligned, data_name=None if tag == snapshot.name else tag)
    return ParsedSnapshot(kept, domain, inactive)


def _check_states(other: Snapshot, snapshot: Snapshot) -> None:
    """Refuse a state that says something else of the saved data (virDomainSnapshotRedefineValidate)."""
    if (other.state in _ONLINE) != (snapshot.state in _ONLINE):
        raise InvalidArgument(
            f"cannot change between online and offline snapshot state in snapshot {snapshot.name}",
            snapshot=snapshot.name,
        )
    if (other.state == "disk-snapshot") != (snapshot.state == "disk-snapshot"):
        raise InvalidArgument(
            f"cannot change between disk only and full system in snapshot {snapshot.name}",
            snapshot=snapshot.name,
        )


def _aligned(snapshot: Snapshot, domain: DomainDefinition, inactive: DomainDefinition | None) -> Snapshot:
    external = snapshot.state == "disk-snapshot" or snapshot.location == "external"
    # the images may be on another host: names are generated from the text alone
    aligned = align_disks(snapshot, domain, default="external" if external else "internal", stat=None)
    return msgspec.structs.replace(
        aligned, domain=domain.digest, inactive_domain=None if inactive is None else inactive.digest
    )
