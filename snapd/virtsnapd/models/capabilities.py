"""The <capabilities> document: what a host has and which guests can run on it (virCapabilitiesFormatXML)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from lxml import etree

from virtsnapd.models.document import format_document

if TYPE_CHECKING:
    from collections.abc import Sequence

    from virtsnapd.models.document import Element


@dataclass(frozen=True, kw_only=True)
class HostCpu:
    """One logical processor and where it sits."""

    id: int
    socket: int
    die: int
    core: int
    siblings: str
    """The processors of the same core, as the kernel lists them: ``0,4`` or ``0-1``."""


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One NUMA node."""

    id: int
    memory: int
    """KiB."""
    pages: Sequence[tuple[int, int]]
    """The size of a page in KiB, and how many of these pages there are, smallest first."""
    cpus: Sequence[HostCpu]


@dataclass(frozen=True, kw_only=True)
class HostFacts:
    """A host; what is not known is None."""

    uuid: str | None
    arch: str
    vendor: str | None
    iommu: bool
    cells: Sequence[Cell]


@dataclass(frozen=True, kw_only=True)
class MachineType:
    """A machine type, and the alias that means it."""

    name: str
    alias: str | None = None
    max_cpus: int | None = None
    deprecated: bool = False


@dataclass(frozen=True, kw_only=True)
class GuestFacts:
    """One architecture of guests and what runs it."""

    arch: str
    wordsize: int
    """Bits."""
    emulator: str
    machines: Sequence[MachineType]
    domain_types: Sequence[str]


def format_capabilities(host: HostFacts, guests: Sequence[GuestFacts]) -> str:
    """Return the document."""
    root = etree.Element("capabilities")
    _add_host(root, host)
    for guest in guests:
        _add_guest(root, guest)
    return format_document(root)


def _add_host(root: Element, host: HostFacts) -> None:
    element = etree.SubElement(root, "host")
    if host.uuid is not None:
        _add_text(element, "uuid", host.uuid)
    _add_cpu(element, host)
    etree.SubElement(element, "iommu", support="yes" if host.iommu else "no")
    cells = etree.SubElement(etree.SubElement(element, "topology"), "cells", num=str(len(host.cells)))
    for cell in host.cells:
        _add_cell(cells, cell)


def _add_cpu(parent: Element, host: HostFacts) -> None:
    element = etree.SubElement(parent, "cpu")
    _add_text(element, "arch", host.arch)
    if host.vendor is not None:
        _add_text(element, "vendor", host.vendor)
    cpus = [cpu for cell in host.cells for cpu in cell.cpus]
    sockets = {cpu.socket for cpu in cpus}
    dies = {(cpu.socket, cpu.die) for cpu in cpus}
    cores = {(cpu.socket, cpu.die, cpu.core) for cpu in cpus}
    if cores and len(cpus) % len(cores) == len(cores) % len(dies) == len(dies) % len(sockets) == 0:
        # libvirt's <topology> can say nothing of a host whose sockets differ
        etree.SubElement(
            element,
            "topology",
            sockets=str(len(sockets)),
            dies=str(len(dies) // len(sockets)),
            cores=str(len(cores) // len(dies)),
            threads=str(len(cpus) // len(cores)),
        )
    for size in sorted({size for cell in host.cells for size, _ in cell.pages}):
        etree.SubElement(element, "pages", unit="KiB", size=str(size))


def _add_cell(parent: Element, cell: Cell) -> None:
    element = etree.SubElement(parent, "cell", id=str(cell.id))
    _add_text(element, "memory", str(cell.memory), unit="KiB")
    for size, count in cell.pages:
        _add_text(element, "pages", str(count), unit="KiB", size=str(size))
    cpus = etree.SubElement(element, "cpus", num=str(len(cell.cpus)))
    for cpu in cell.cpus:
        etree.SubElement(
            cpus,
            "cpu",
            id=str(cpu.id),
            socket_id=str(cpu.socket),
            die_id=str(cpu.die),
            core_id=str(cpu.core),
            siblings=cpu.siblings,
        )


def _add_guest(root: Element, guest: GuestFacts) -> None:
    element = etree.SubElement(root, "guest")
    _add_text(element, "os_type", "hvm")
    arch = etree.SubElement(element, "arch", name=guest.arch)
    _add_text(arch, "wordsize", str(guest.wordsize))
    _add_text(arch, "emulator", guest.emulator)
    for machine in guest.machines:
        if machine.alias is None:
            _add_machine(arch, machine, machine.name)
        else:
            _add_machine(arch, machine, machine.alias, canonical=machine.name)
    for machine in guest.machines:
        if machine.alias is not None:  # at the end, so that a reader of the texts alone finds every type
            _add_machine(arch, machine, machine.name)
    for domain_type in guest.domain_types:
        etree.SubElement(arch, "domain", type=domain_type)
    features = etree.SubElement(element, "features")
    etree.SubElement(features, "acpi", default="on", toggle="no")
    etree.SubElement(features, "apic", default="on", toggle="no")
    etree.SubElement(features, "cpuselection")
    etree.SubElement(features, "deviceboot")
    etree.SubElement(features, "disksnapshot", default="off", toggle="no")


def _add_machine(parent: Element, machine: MachineType, text: str, *, canonical: str | None = None) -> None:
    attributes = {} if canonical is None else {"canonical": canonical}
    if machine.max_cpus is not None:
        attributes["maxCpus"] = str(machine.max_cpus)
    if machine.deprecated:
        attributes["deprecated"] = "yes"
    _add_text(parent, "machine", text, **attributes)


def _add_text(parent: Element, tag: str, text: str, **attributes: str) -> None:
    etree.SubElement(parent, tag, attributes).text = text
