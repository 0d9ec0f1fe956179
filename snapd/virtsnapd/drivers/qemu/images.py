"""Disk images through qemu-img: what is in one, and the internal snapshots of disks that no QEMU holds open.

Three traps shape this file. qcow2 looks a tag up among the *ids* first when it applies a snapshot (online
and offline), so we apply by the id of the entry of that name. qemu-img lets two snapshots have one name, so
we look first. And qemu-img reads `:`, `,` and a leading `-` in a file name as syntax, so images are named as
JSON objects.
"""

from __future__ import annotations

import errno
import json
import logging
import os
import stat
from typing import TYPE_CHECKING, Any, Final

import msgspec
import trio

from virtsnap_protocol.errors import HypervisorError, OperationFailed, SystemFailure

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Iterable, Sequence
    from pathlib import Path

_LOG: Final = logging.getLogger(__name__)

QEMU_IMG: Final = "qemu-img"
SNAPSHOT_FORMAT: Final = "qcow2"
"""The only format that holds internal snapshots."""


class ImageSnapshot(msgspec.Struct, frozen=True, kw_only=True, rename="kebab"):
    """One entry of an image's snapshot table (QMP: SnapshotInfo)."""

    id: str
    name: str
    vm_state_size: int
    """Bytes of memory state; 0 is a snapshot of the disk alone."""
    date_sec: int = 0


class ImageInfo(msgspec.Struct, frozen=True, kw_only=True, rename="kebab"):
    """What qemu-img says of an image; sizes in bytes."""

    format: str
    virtual_size: int
    snapshots: list[ImageSnapshot] = []
    backing_filename: str | None = None
    """As written in the image: a relative name is relative to the image."""
    backing_filename_format: str | None = None
    full_backing_filename: str | None = None
    """The name by which QEMU would open it; absent when it equals `backing_filename`."""
    format_specific: dict[str, Any] = {}

    @property
    def corrupt(self) -> bool:
        """Tell whether qcow2 has marked itself as damaged: QEMU opens it for reading only."""
        data = self.format_specific.get("data")
        return isinstance(data, dict) and data.get("corrupt") is True


_INFO: Final = msgspec.json.Decoder(ImageInfo)


def find_snapshot(snapshots: Iterable[ImageSnapshot], tag: str) -> ImageSnapshot | None:
    """Return the entry of this name: the first when there are several, as QEMU does (bdrv_snapshot_find)."""
    return next((entry for entry in snapshots if entry.name == tag), None)


def find_tag_conflict(snapshots: Iterable[ImageSnapshot], tag: str) -> ImageSnapshot | None:
    """Return an entry of another name whose *id* equals the tag, or None.

    While there is one, `snapshot-load` of the tag checks the entry of that name and then loads the entry of
    that id (qcow2_snapshot_goto searches ids first): the caller must refuse.
    """
    return next((entry for entry in snapshots if entry.id == tag and entry.name != tag), None)


async def info(path: Path, *, format: str | None = None) -> ImageInfo:  # noqa: A002 (libvirt's and QEMU's word)
    """Return what is in the image, also while a QEMU holds it open.

    Give the `format` whenever it is known: probing believes what a guest wrote to a raw disk.

    Raises:
        SystemFailure: the file is missing or not accessible.
        HypervisorError: qemu-img cannot read it; its words are in `cause`.
    """
    filename = await _filename(path, format)
    output = await _run(f"cannot read image '{path}'", "info", "-U", "--output=json", filename)
    try:
        return _INFO.decode(output)
    except msgspec.MsgspecError as error:
        msg = f"unexpected output of {QEMU_IMG} info for '{path}'"
        raise HypervisorError(msg, cause=str(error)) from error


async def create_snapshot(path: Path, tag: str) -> None:
    """Take a snapshot of the disk, which no QEMU may hold open.

    Raises:
        OperationFailed: the image has a snapshot of this name.
        SystemFailure: the file is missing or not accessible.
        HypervisorError: qemu-img failed; its words are in `cause`.
    """
    if find_snapshot((await info(path, format=SNAPSHOT_FORMAT)).snapshots, tag) is not None:
        msg = f"image '{path}' already has a snapshot named '{tag}'"
        raise OperationFailed(msg, path=str(path))
    await _snapshot(path, "-c", tag)


async def apply_snapshot(path: Path, tag: str) -> None:
    """Set the disk, which no QEMU may hold open, back to the snapshot of this *name*.

    Raises:
        OperationFailed: the image has no snapshot of this name.
        SystemFailure: the file is missing or not accessible.
        HypervisorError: qemu-img failed; its words are in `cause`.
    """
    await _snapshot(path, "-a", (await _require(path, tag)).id)


async def delete_snapshot(path: Path, tag: str) -> bool:
    """Delete the first snapshot of this name; return False when there is none (QMP's succeeds then, too).

    Raises:
        SystemFailure: the file is missing or not accessible.
        HypervisorError: qemu-img failed; its words are in `cause`.
    """
    if find_snapshot((await info(path, format=SNAPSHOT_FORMAT)).snapshots, tag) is None:
        return False
    await _snapshot(path, "-d", tag)  # by name alone: bdrv_snapshot_find does not look at ids
    return True


async def create_snapshots(paths: Sequence[Path], tag: str) -> None:
    """Take a snapshot of every disk, or of none, also when one fails or the caller is cancelled.

    Raises:
        OperationFailed, SystemFailure, HypervisorError: as `create_snapshot`.
    """
    taken: list[Path] = []
    complete = False
    try:
        for path in paths:
            await create_snapshot(path, tag)
            taken.append(path)
        complete = True
    finally:
        if not complete:
            with trio.CancelScope(shield=True):
                await _take_back(taken, tag)


async def apply_snapshots(paths: Sequence[Path], tag: str) -> None:
    """Set every disk back to the snapshot of this name; nothing is touched unless every disk has it.

    Raises:
        OperationFailed: a disk has no snapshot of this name; no disk was touched.
        SystemFailure, HypervisorError: as `apply_snapshot`; `details.applied` counts the disks done.
    """
    entries = [(path, (await _require(path, tag)).id) for path in paths]
    for applied, (path, entry) in enumerate(entries):
        try:
            await _snapshot(path, "-a", entry)
        except HypervisorError as error:
            error.details["applied"] = applied
            raise


async def _take_back(paths: list[Path], tag: str) -> None:
    for path in reversed(paths):
        try:
            await delete_snapshot(path, tag)
        except (HypervisorError, SystemFailure) as error:
            _LOG.warning("snapshot %r stays in %s after a failure: %s", tag, path, error)


async def _require(path: Path, tag: str) -> ImageSnapshot:
    entry = find_snapshot((await info(path, format=SNAPSHOT_FORMAT)).snapshots, tag)
    if entry is None:
        msg = f"image '{path}' has no snapshot named '{tag}'"
        raise OperationFailed(msg, path=str(path))
    return entry


async def _snapshot(path: Path, action: str, snapshot: str) -> None:
    """Run one change to the end, also when the caller is cancelled: its outcome must be known."""
    filename = await _filename(path, SNAPSHOT_FORMAT)
    with trio.CancelScope(shield=True):
        await _run(f"cannot change the snapshots of '{path}'", "snapshot", action, snapshot, filename)


async def _filename(path: Path, driver: str | None) -> str:
    """Return how to name the image on qemu-img's command line, whatever characters its path holds."""
    try:
        mode = (await trio.Path(path).stat()).st_mode
    except OSError as error:
        # libvirt's words (virStorageSourceReportBrokenChain)
        reason = os.strerror(error.errno or errno.EIO)
        msg = f"Cannot access storage file '{path}': {reason}"
        raise SystemFailure(msg, path=str(path)) from error
    protocol = "host_device" if stat.S_ISBLK(mode) else "file"
    image: dict[str, object] = {"file": {"driver": protocol, "filename": str(path)}}
    if driver is not None:
        image["driver"] = driver
    return "json:" + json.dumps(image)


async def _run(failure: str, *arguments: str) -> bytes:
    """Return what qemu-img prints; `failure` begins the error's message when it fails."""
    command = [QEMU_IMG, *arguments]
    try:
        done = await trio.run_process(command, capture_stdout=True, capture_stderr=True, check=False)
    except OSError as error:
        msg = f"cannot execute binary {QEMU_IMG}: {error.strerror}"
        raise SystemFailure(msg, path=QEMU_IMG) from error
    if done.returncode == 0:
        return done.stdout
    cause = done.stderr.decode(errors="replace").strip().removeprefix(f"{QEMU_IMG}: ")
    reason = cause or _status(done)
    msg = f"{failure}: {reason}"
    raise HypervisorError(msg, cause=reason)


def _status(done: subprocess.CompletedProcess[bytes]) -> str:
    return f"{QEMU_IMG} ended with status {done.returncode}"
