"""Fits a snapshot's disks to the domain's: one entry per disk, in the domain's order."""

from __future__ import annotations

import os
import stat as file_modes
from collections.abc import Callable
from typing import TYPE_CHECKING, Literal

import msgspec

from virtsnap_protocol.errors import ConfigUnsupported
from virtsnapd.models.snapshot_disk import SnapshotDisk

if TYPE_CHECKING:
    from virtsnapd.models.disk import Disk, SnapshotMode
    from virtsnapd.models.domain import DomainDefinition
    from virtsnapd.models.snapshot import Snapshot

Stat = Callable[[str], os.stat_result]


def align_disks(
    snapshot: Snapshot,
    domain: DomainDefinition,
    *,
    default: Literal["internal", "external"],
    uniform: bool = True,
    force_default: bool = False,
    stat: Stat | None,
) -> Snapshot:
    """Return the snapshot with an entry for every disk of `domain`, each with its mode decided.

    The rules and their order are those of virDomainSnapshotAlignDisks. `uniform` refuses modes that an
    internal snapshot could not combine; `force_default` ignores what the domain's disks ask for themselves.
    External entries without a file get a generated name; `stat` then has to find the disk's own file regular
    (None: the images are elsewhere, do not look).

    Raises: ConfigUnsupported.
    """
    if len(snapshot.disks) > len(domain.disks):
        raise ConfigUnsupported("too many disk snapshot requests for domain")
    if not domain.disks:
        return snapshot
    require_match = uniform and default == "internal"
    requests: dict[str, SnapshotDisk] = {}
    for request in snapshot.disks:
        disk = _match(domain, request.name)
        if disk.target in requests:
            raise ConfigUnsupported(f"disk '{request.name}' specified twice")
        requests[disk.target] = _decided(request, disk, default, require_match=require_match)
    aligned: list[SnapshotDisk] = []
    for disk in domain.disks:
        entry = requests.get(disk.target) or _unmentioned(disk, default, force_default=force_default)
        aligned.append(entry)
    return msgspec.structs.replace(snapshot, disks=_named(aligned, domain, snapshot.name, stat))


def _match(domain: DomainDefinition, name: str) -> Disk:
    """Return the disk with this target, or, for an absolute path, the only one with this source."""
    by_path = name.startswith("/")
    found = [disk for disk in domain.disks if name == (disk.source if by_path else disk.target)]
    if len(found) != 1:
        raise ConfigUnsupported(f"no disk named '{name}'")
    return found[0]


def _decided(
    request: SnapshotDisk, disk: Disk, default: SnapshotMode, *, require_match: bool
) -> SnapshotDisk:
    mode = request.snapshot
    if mode is None:
        own = disk.snapshot
        mode = own if own is not None and (not require_match or own == "no") else default
    elif require_match and mode not in {default, _fallback(disk, default)}:
        raise ConfigUnsupported(f"disk '{request.name}' must use snapshot mode '{default}'")
    if request.source is not None and mode != "external":
        raise ConfigUnsupported(
            f"file '{request.source}' for disk '{request.name}' requires use of external snapshot mode"
        )
    return msgspec.structs.replace(request, name=disk.target, snapshot=mode)


def _fallback(disk: Disk, default: SnapshotMode) -> SnapshotMode:
    """Return what an internal snapshot may leave out: what it would record of a disk that nobody mentions.

    libvirt compares `no` with the disk's attribute only, and so cannot redefine its own records of empty floppy
    drives and of disks that ask for `manual`.
    """
    mode = _unmentioned(disk, default, force_default=False).snapshot
    return mode if mode in {"no", "manual"} else default


def _unmentioned(disk: Disk, default: SnapshotMode, *, force_default: bool) -> SnapshotDisk:
    if disk.empty:
        mode: SnapshotMode = "no"
    elif disk.snapshot is not None and not force_default:
        mode = disk.snapshot
    else:
        mode = default
    return SnapshotDisk(name=disk.target, snapshot=mode)


def _named(
    entries: list[SnapshotDisk], domain: DomainDefinition, name: str, stat: Stat | None
) -> tuple[SnapshotDisk, ...]:
    """Give external entries without a file their names (virDomainSnapshotDefAssignExternalNames)."""
    owners: dict[str, str] = {}
    named: list[SnapshotDisk] = []
    for entry, disk in zip(entries, domain.disks, strict=True):
        if entry.snapshot == "external" and entry.source is None:
            source = _generated(entry, disk, name, stat)
            if source in owners:
                raise ConfigUnsupported(
                    f"cannot generate external snapshot name for disk '{disk.target}': "
                    f"collision with disk '{owners[source]}'"
                )
            entry = entry.with_source(source)  # noqa: PLW2901 - the same entry, with its name
        if entry.source is not None:
            owners.setdefault(entry.source, entry.name)
        named.append(entry)
    return tuple(named)


def _generated(entry: SnapshotDisk, disk: Disk, name: str, stat: Stat | None) -> str:
    cannot = f"cannot generate external snapshot name for disk '{disk.target}'"
    if entry.type != "file":
        raise ConfigUnsupported(f"{cannot} on a '{entry.type}' device")
    if disk.source is None:
        raise ConfigUnsupported(f"{cannot} without source")
    if stat is not None and not _is_regular(disk.source, stat):
        raise ConfigUnsupported(
            f"source for disk '{disk.target}' is not a regular file; "
            "refusing to generate external snapshot name"
        )
    folder, slash, last = disk.source.rpartition("/")
    stem = last.rpartition(".")[0] if "." in last else last
    return f"{folder}{slash}{stem}.{name}"


def _is_regular(path: str, stat: Stat) -> bool:
    try:
        return file_modes.S_ISREG(stat(path).st_mode)
    except OSError:
        return False
