from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest
import trio

from virtsnapd.drivers.qemu.capabilities import guest_facts, may_use_kvm, read_host
from virtsnapd.drivers.qemu.commands import Machine
from virtsnapd.models.document import parse_document

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.qemu_host import LocalDaemon

UUID = "6695eb01-f6a4-8304-79aa-97f2502e193f"
SYSTEM = "sys/devices/system"


def write(root: Path, **files: str) -> Path:
    """Write files below `root` whose paths are written with two underscores for each slash."""
    for name, text in files.items():
        path = root / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n")
    return root


def host(root: Path) -> Path:
    """Make a host of two cells, each with one core of two threads; the last thread is off line."""
    for number in range(4):
        folder = root / SYSTEM / f"cpu/cpu{number}/topology"
        first = number // 2 * 2
        write(
            folder,
            physical_package_id=str(number // 2),
            die_id="-1",
            core_id="0",
            thread_siblings_list=f"{first}-{first + 1}",
        )
        (root / SYSTEM / f"node/node{number // 2}/cpu{number}").mkdir(parents=True)
    for node in ("node0", "node1"):
        folder = root / SYSTEM / "node" / node
        write(folder, meminfo=f"Node {node[-1]} MemTotal:       8192 kB")
        write(folder / "hugepages/hugepages-2048kB", nr_hugepages="1")
    write(root / SYSTEM, cpu__online="0-1,2", node__has_cpu="0-1")
    write(root / "proc", cpuinfo="processor : 0\nvendor_id\t: GenuineIntel\nmodel : 1")
    write(root / "sys/class/dmi/id", product_uuid=UUID.upper())
    (root / "sys/kernel/iommu_groups/0").mkdir(parents=True)
    return root


def test_a_host_is_read_from_what_the_kernel_says(tmp_path: Path) -> None:
    found = read_host(host(tmp_path))
    assert (found.uuid, found.vendor, found.iommu) == (UUID, "Intel", True)
    assert found.arch == os.uname().machine
    small = os.sysconf("SC_PAGE_SIZE") // 1024
    assert [(cell.id, cell.memory, list(cell.pages)) for cell in found.cells] == [
        (number, 8192, [(small, 6144 // small), (2048, 1)]) for number in (0, 1)
    ]
    cpus = [[(cpu.id, cpu.socket, cpu.die, cpu.core, cpu.siblings) for cpu in c.cpus] for c in found.cells]
    assert cpus == [[(0, 0, 0, 0, "0-1"), (1, 0, 0, 0, "0-1")], [(2, 1, 0, 0, "2-3")]]


def test_a_host_that_says_little_is_described_by_little(tmp_path: Path) -> None:
    write(tmp_path, proc__meminfo="MemTotal:  4096 kB", sys__devices__system__cpu__online="0-1")
    write(tmp_path / "sys/class/dmi/id", product_uuid="Not Settable")
    found = read_host(tmp_path)
    assert (found.uuid, found.vendor, found.iommu) == (None, None, False)
    (cell,) = found.cells
    assert (cell.id, cell.memory) == (0, 4096)
    assert [(cpu.id, cpu.socket, cpu.core, cpu.siblings) for cpu in cell.cpus] == [
        (0, 0, 0, "0"),
        (1, 0, 1, "1"),
    ]


def test_this_host_has_the_processors_that_it_runs_on() -> None:
    cpus = {cpu.id for cell in read_host().cells for cpu in cell.cpus}
    assert os.sched_getaffinity(0) <= cpus


def test_only_machine_types_that_the_driver_takes_are_offered_the_default_first_and_new_before_old() -> None:
    machines = [
        Machine(name="isapc"),
        Machine(name="pc-q35-7.2", alias="q35"),
        Machine(name="pc-i440fx-2.9"),
        Machine(name="pc-i440fx-2.12"),
        Machine(name="microvm"),
        Machine(name="pc-i440fx-7.2", alias="pc", is_default=True, cpu_max=255),
    ]
    (guest,) = guest_facts("/qemu", machines, kvm=False)
    assert [machine.name for machine in guest.machines] == [
        "pc-i440fx-7.2",
        "pc-i440fx-2.12",
        "pc-i440fx-2.9",
        "pc-q35-7.2",
    ]
    assert (guest.arch, guest.emulator, guest.domain_types) == ("x86_64", "/qemu", ["qemu"])
    assert guest_facts("/qemu", machines, kvm=True)[0].domain_types == ["qemu", "kvm"]


def test_kvm_is_usable_when_its_device_can_be_opened(tmp_path: Path) -> None:
    assert not may_use_kvm(tmp_path / "missing")
    assert may_use_kvm(write(tmp_path, kvm="") / "kvm")


async def test_the_driver_tells_what_its_emulator_can_do(daemon: LocalDaemon) -> None:
    text = (await daemon.capabilities()).xml
    root = parse_document(text, "capabilities")
    assert [root.findtext(f"guest/arch/{tag}") for tag in ("wordsize", "emulator")] == [
        "64",
        daemon.hypervisor.driver._emulator,  # type: ignore[attr-defined] # of the qemu driver
    ]
    machines = {found.text: found.get("canonical") for found in root.iterfind("guest/arch/machine")}
    assert machines[str(machines["pc"])] is None
    asked = await trio.run_process(["qemu-system-x86_64", "-machine", "help"], capture_stdout=True)
    known = asked.stdout.decode()
    assert all(str(name) in known for name in machines)


@pytest.mark.parametrize("alias", ["pc", "q35"])
async def test_a_machine_type_that_is_offered_can_be_defined(daemon: LocalDaemon, alias: str) -> None:
    root = parse_document((await daemon.capabilities()).xml, "capabilities")
    machine = root.find(f"guest/arch/machine[.='{alias}']")
    assert machine is not None
    xml = (
        "<domain type='qemu'><name>vm</name><memory>16384</memory>"
        f"<os><type arch='x86_64' machine='{machine.get('canonical')}'>hvm</type></os></domain>"
    )
    assert (await daemon.define(xml)).domain.name == "vm"
