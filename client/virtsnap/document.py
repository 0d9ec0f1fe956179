"""Writes <domainsnapshot> documents, in the layout of `virsh snapshot-create-as --print-xml`; reads none."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

# Not xml.sax.saxutils: it imports an HTTP client, and the start of the command would take twice as long.
_ENTITIES: Final = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;", "'": "&apos;", '"': "&quot;"})


@dataclass(frozen=True, kw_only=True)
class MemorySpec:
    """How to save the memory: ``<memory>``."""

    snapshot: str | None = None
    """``no``, ``internal`` or ``external``."""
    file: str | None = None


@dataclass(frozen=True, kw_only=True)
class DiskSpec:
    """How to snapshot one disk: ``<disk>``."""

    name: str
    """A target (``vda``) or the path of the disk's source."""
    snapshot: str | None = None
    """``no``, ``manual``, ``internal`` or ``external``."""
    driver: str | None = None
    """The format of the new file."""
    storage: str | None = None
    """``file`` or ``block``: what the source is."""
    source: str | None = None
    """The new file, or the block device."""


def snapshot_document(
    name: str | None = None,
    description: str | None = None,
    *,
    memory: MemorySpec | None = None,
    disks: Iterable[DiskSpec] = (),
) -> str:
    """Return a document that asks for a snapshot; what is None is left to the daemon."""
    lines = ["<domainsnapshot>"]
    if name is not None:
        lines.append(f"  <name>{_escaped(name)}</name>")
    if description is not None:
        lines.append(f"  <description>{_escaped(description)}</description>")
    if memory is not None:
        lines.append(f"  <memory{_attribute('snapshot', memory.snapshot)}{_attribute('file', memory.file)}/>")
    if disk_lines := [line for disk in disks for line in _disk_lines(disk)]:
        lines += ["  <disks>", *disk_lines, "  </disks>"]
    return "\n".join([*lines, "</domainsnapshot>", ""])


def _disk_lines(disk: DiskSpec) -> list[str]:
    start = (
        f"    <disk{_attribute('name', disk.name)}{_attribute('snapshot', disk.snapshot)}"
        f"{_attribute('type', disk.storage)}"
    )
    inner = []
    if disk.driver is not None:
        inner.append(f"      <driver{_attribute('type', disk.driver)}/>")
    if disk.source is not None:
        inner.append(
            f"      <source{_attribute('dev' if disk.storage == 'block' else 'file', disk.source)}/>"
        )
    return [f"{start}>", *inner, "    </disk>"] if inner else [f"{start}/>"]


def _attribute(name: str, value: str | None) -> str:
    return "" if value is None else f" {name}='{_escaped(value)}'"


def _escaped(text: str) -> str:
    return text.translate(_ENTITIES)
