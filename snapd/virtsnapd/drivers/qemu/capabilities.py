"""What this host has, and which guests its QEMU can run: the facts of the <capabilities> document.

The host is read from files of the kernel, below a root that tests choose. Everything here blocks.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Final

from virtsnap_protocol.errors import InternalError
from virtsnapd.drivers.qemu.settings import MACHINES
from virtsnapd.models.capabilities import Cell, GuestFacts, HostCpu, HostFacts, MachineType
from virtsnapd.models.domain import canonical_uuid

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from virtsnapd.drivers.qemu.commands import Machine

_VENDORS: Final = {"GenuineIntel": "Intel", "AuthenticAMD": "AMD", "HygonGenuine": "Hygon"}
"""libvirt's names of the makers of processors."""
_MEMORY = re.compile(r"MemTotal:\s*([0-9]+) kB")
_VENDOR = re.compile(r"^vendor_id\s*:\s*(\S+)", re.MULTILINE)


def read_host(root: Path = Path("/")) -> HostFacts:
    """Return what the kernel says of the host; what it does not say is left out."""
    devices = root / "sys/devices/system"
    nodes = sorted(_numbered(devices / "node", "node"))
    cells = [_read_cell(devices, number, node) for number, node in nodes]
    if not cells:  # a kernel without NUMA: all there is is one cell
        cells = [_cell(devices, 0, _text(root / "proc/meminfo"), root / "sys/kernel/mm", _online(devices))]
    maker = _VENDOR.search(_text(root / "proc/cpuinfo"))
    return HostFacts(
        uuid=_read_uuid(root),
        arch=os.uname().machine,
        vendor=_VENDORS.get(maker[1]) if maker else None,
        iommu=any(_numbered(root / "sys/kernel/iommu_groups", "")),
        cells=cells,
    )


def guest_facts(emulator: str, machines: Sequence[Machine], *, kvm: bool) -> list[GuestFacts]:
    """Return what guests there can be; a machine type that the driver would refuse is not among it."""
    found = [
        MachineType(
            name=machine.name, alias=machine.alias, max_cpus=machine.cpu_max, deprecated=machine.deprecated
        )
        for machine in sorted(machines, key=_newest_first)
        if MACHINES.allow(machine.name)
    ]
    types = ["qemu", *(["kvm"] if kvm else [])]
    return [GuestFacts(arch="x86_64", wordsize=64, emulator=emulator, machines=found, domain_types=types)]


def may_use_kvm(device: Path = Path("/dev/kvm")) -> bool:
    """Tell whether this process can open the device; QEMU opens it before it gives up its privileges."""
    try:
        os.close(os.open(device, os.O_RDWR | os.O_CLOEXEC))
    except OSError:
        return False
    return True


def _newest_first(machine: Machine) -> tuple[bool, str, list[int]]:
    """Order machine types: the default one, then by family, versions from the newest."""
    family, _, version = machine.name.rpartition("-")
    return not machine.is_default, family, [-int(part) for part in re.findall(r"[0-9]+", version)]


def _read_uuid(root: Path) -> str | None:
    try:
        return canonical_uuid(_text(root / "sys/class/dmi/id/product_uuid"))
    except InternalError:
        return None  # only root may read it, and not every board has one


def _read_cell(devices: Path, number: int, node: Path) -> Cell:
    cpus = [cpu for cpu, _ in _numbered(node, "cpu") if cpu in set(_online(devices))]
    return _cell(devices, number, _text(node / "meminfo"), node, sorted(cpus))


def _cell(devices: Path, number: int, meminfo: str, pages: Path, cpus: Sequence[int]) -> Cell:
    match = _MEMORY.search(meminfo)
    memory = int(match[1]) if match else 0
    huge = [
        (int(found[1]), int(_text(path / "nr_hugepages") or 0))
        for path in sorted(pages.glob("hugepages/hugepages-*kB"))
        if (found := re.fullmatch(r"hugepages-([0-9]+)kB", path.name))
    ]
    small = os.sysconf("SC_PAGE_SIZE") // 1024
    rest = memory - sum(size * count for size, count in huge)
    return Cell(
        id=number,
        memory=memory,
        pages=[(small, rest // small), *sorted(huge)],
        cpus=[_read_cpu(devices, cpu) for cpu in cpus],
    )


def _read_cpu(devices: Path, number: int) -> HostCpu:
    topology = devices / f"cpu/cpu{number}/topology"

    def fact(name: str, default: int) -> int:
        text = _text(topology / name)
        return int(text) if text.isdigit() else default  # the kernel writes -1 for what it does not know

    return HostCpu(
        id=number,
        socket=fact("physical_package_id", 0),
        die=fact("die_id", 0),
        core=fact("core_id", number),
        siblings=_text(topology / "thread_siblings_list") or str(number),
    )


def _online(devices: Path) -> list[int]:
    """Return the processors in use, from a list such as ``0-3,8``."""
    ranges = (part.partition("-") for part in _text(devices / "cpu/online").split(",") if part)
    return [cpu for first, _, last in ranges for cpu in range(int(first), int(last or first) + 1)]


def _numbered(folder: Path, prefix: str) -> Iterator[tuple[int, Path]]:
    """Yield the number and the path of everything in `folder` that is called by `prefix` and a number."""
    if folder.is_dir():
        for path in folder.iterdir():
            if (number := path.name.removeprefix(prefix)).isdigit() and path.name.startswith(prefix):
                yield int(number), path


def _text(path: Path) -> str:
    """Return what a file of the kernel says, "" for one that is missing or secret."""
    try:
        return path.read_text(errors="replace").strip()
    except OSError:
        return ""
