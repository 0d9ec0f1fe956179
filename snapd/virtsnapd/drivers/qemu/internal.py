"""Internal snapshots: inside the qcow2 files, by QEMU's jobs while it runs and by qemu-img while it does not."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Final

import trio

from virtsnap_protocol.errors import (
    ConfigUnsupported,
    OperationFailed,
    OperationUnsupported,
    Problem,
    SystemFailure,
)
from virtsnapd.drivers.qemu import images
from virtsnapd.drivers.qemu.disks import format_node, vmstate_target

if TYPE_CHECKING:
    from collections.abc import Iterator

    from virtsnapd.models.disk import Disk
    from virtsnapd.models.domain import DomainDefinition
    from virtsnapd.models.snapshot import Snapshot

log = logging.getLogger(__name__)

TAG_BYTES: Final = 255
"""QEMU's QEMUSnapshotInfo.name, without its terminator."""


def covered(snapshot: Snapshot, definition: DomainDefinition) -> list[Disk]:
    """Return the disks that the snapshot is in, as the definition of that time has them.

    Raises:
        OperationFailed: The record names a disk that its own definition lacks (qemuSnapshotDiskHasInternal...).
    """
    disks = {disk.target: disk for disk in definition.disks}
    internal = [disk.name for disk in snapshot.disks if disk.snapshot == "internal"]
    missing = [name for name in internal if name not in disks]
    if missing:
        raise OperationFailed(
            f"disk '{missing[0]}' referenced by snapshot '{snapshot.name}' not found in the definition",
            snapshot=snapshot.name,
        )
    return [disks[name] for name in internal]


def paths(disks: list[Disk]) -> list[Path]:
    """Return the image files."""
    return [Path(disk.source or "") for disk in disks]


def nodes(disks: list[Disk]) -> list[str]:
    """Return the names of the format nodes, which QEMU's snapshot jobs want."""
    return [format_node(disk.target) for disk in disks]


def vmstate_node(definition: DomainDefinition) -> str:
    """Return the node whose image keeps the memory.

    Raises:
        ConfigUnsupported: No disk can.
    """
    target = vmstate_target(definition)
    if target is None:
        raise ConfigUnsupported("no writable qcow2 disk can keep the memory of a snapshot")
    return format_node(target)


def check_disks(snapshot: Snapshot, definition: DomainDefinition) -> None:
    """Refuse what internal snapshots cannot do, before anything is touched (qemuSnapshotPrepare).

    QEMU itself would silently leave a writable raw disk out of a snapshot that does not name it.

    Raises:
        ConfigUnsupported: Every disk that stands in the way, in `problems`.
        OperationUnsupported: An external snapshot.
    """
    if snapshot.location == "external":
        raise OperationUnsupported(
            "external snapshots are not supported by the qemu driver yet", snapshot=snapshot.name
        )
    if len(snapshot.name.encode()) > TAG_BYTES:
        raise ConfigUnsupported(f"a snapshot's name can have {TAG_BYTES} bytes inside an image")
    problems = list(_disk_problems(snapshot, definition))
    if problems:
        raise ConfigUnsupported(problems[0].message, snapshot=snapshot.name, problems=problems)
    if not any(disk.snapshot == "internal" for disk in snapshot.disks):
        raise ConfigUnsupported("nothing selected for snapshot", snapshot=snapshot.name)


def _disk_problems(snapshot: Snapshot, definition: DomainDefinition) -> Iterator[Problem]:
    chosen = {disk.name: disk.snapshot for disk in snapshot.disks}
    for disk in definition.disks:
        path = f"/domain/devices/disk[target/@dev='{disk.target}']"
        if chosen.get(disk.target) == "internal":
            if disk.format != "qcow2":
                text = f"internal snapshot for disk {disk.target} unsupported for storage type {disk.format or 'raw'}"
                yield Problem(path, text)
            elif disk.readonly:
                yield Problem(path, f"disk {disk.target} is read-only: it cannot take an internal snapshot")
        elif not disk.empty and not disk.readonly:
            text = "internal and full system snapshots require all disks to be selected for snapshot"
            yield Problem(path, text)


async def check_images(definition: DomainDefinition) -> None:
    """Refuse to start on images that are not there, in libvirt's words (virStorageSourceAccess).

    Raises:
        SystemFailure: Naming the first one that is missing.
    """
    for disk in definition.disks:
        if disk.type in {"file", "block"} and disk.source is not None:
            try:
                await trio.Path(disk.source).stat()
            except OSError as error:
                raise SystemFailure(
                    f"Cannot access storage file '{disk.source}': {error.strerror}",
                    domain=definition.name,
                    path=disk.source,
                ) from error


async def check_untaken(snapshot: Snapshot, disks: list[Disk]) -> None:
    """Refuse a tag that an image uses already, or that QEMU would mistake for an id.

    Raises:
        OperationFailed: An image has a snapshot with this tag that the daemon does not know of.
        OperationUnsupported: See `images.find_tag_conflict`.
        SystemFailure: An image is missing.
    """
    for disk, path in zip(disks, paths(disks), strict=True):
        found = (await images.info(path, format="qcow2")).snapshots
        if images.find_snapshot(found, snapshot.tag) is not None:
            raise OperationFailed(
                f"image of disk '{disk.target}' already has an internal snapshot '{snapshot.tag}'",
                snapshot=snapshot.name,
                path=str(path),
                remedy="choose another name, or redefine that snapshot from its document",
            )
        _refuse_conflict(found, snapshot, disk)


async def check_present(snapshot: Snapshot, definition: DomainDefinition) -> None:
    """Refuse to go back to what is not there, before anything is touched.

    Raises:
        OperationFailed: An image lacks the snapshot, or its memory (qemuSnapshotInternalRevert...).
        OperationUnsupported: See `images.find_tag_conflict`.
        SystemFailure: An image is missing.
    """
    memory_in = vmstate_target(definition) if snapshot.memory == "internal" else None
    disks = covered(snapshot, definition)
    for disk, path in zip(disks, paths(disks), strict=True):
        found = (await images.info(path, format="qcow2")).snapshots
        entry = images.find_snapshot(found, snapshot.tag)
        if entry is None:
            raise OperationFailed(
                f"image of disk '{disk.target}' does not have internal snapshot '{snapshot.tag}'",
                snapshot=snapshot.name,
                path=str(path),
            )
        if disk.target == memory_in and not entry.vm_state_size:
            raise OperationFailed(
                f"missing vmstate section in internal snapshot '{snapshot.tag}' of disk '{disk.target}'",
                snapshot=snapshot.name,
                path=str(path),
            )
        _refuse_conflict(found, snapshot, disk)


def _refuse_conflict(found: list[images.ImageSnapshot], snapshot: Snapshot, disk: Disk) -> None:
    tag = snapshot.tag
    other = images.find_tag_conflict(found, tag)
    if other is not None:
        raise OperationUnsupported(
            f"image of disk '{disk.target}' has a snapshot with the id {tag}, which QEMU would take for this one",
            snapshot=snapshot.name,
            cause=f"snapshot '{other.name}' has that id",
        )


async def discard_offline(snapshot: Snapshot, disks: list[Disk]) -> None:
    """Delete the snapshot from images that no QEMU holds open; what is not there counts as deleted.

    Raises:
        HypervisorError: qemu-img failed.
    """
    for path in paths(disks):
        try:
            await images.delete_snapshot(path, snapshot.tag)
        except SystemFailure as error:
            # The image is gone, and the snapshot with it; libvirt only warns as well.
            log.warning("snapshot %s: %s", snapshot.name, error)
