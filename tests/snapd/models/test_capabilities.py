from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from virtsnapd.models.capabilities import (
    Cell,
    GuestFacts,
    HostCpu,
    HostFacts,
    MachineType,
    format_capabilities,
)
from virtsnapd.models.document import Element, parse_document

if TYPE_CHECKING:
    from collections.abc import Sequence

GUEST = GuestFacts(
    arch="x86_64",
    wordsize=64,
    emulator="/usr/bin/qemu",
    machines=[
        MachineType(name="pc-7.2", alias="pc", max_cpus=255),
        MachineType(name="pc-1.0", deprecated=True),
    ],
    domain_types=["qemu", "kvm"],
)


def cpu(number: int, socket: int = 0, core: int = 0) -> HostCpu:
    return HostCpu(id=number, socket=socket, die=0, core=core, siblings=str(number))


def document(
    *cpus: HostCpu, guests: Sequence[GuestFacts] = (), uuid: str | None = None, vendor: str | None = None
) -> Element:
    cell = Cell(id=3, memory=4096, pages=[(4, 512), (2048, 1)], cpus=cpus)
    host = HostFacts(uuid=uuid, arch="x86_64", vendor=vendor, iommu=True, cells=[cell])
    return parse_document(format_capabilities(host, guests), "capabilities")


def attributes_of(element: Element) -> dict[str, str]:
    return {str(name): str(value) for name, value in element.attrib.items()}


def text_of(root: Element, path: str) -> list[str | None]:
    return [found.text for found in root.iterfind(path)]


def test_a_host_is_described_as_far_as_it_is_known() -> None:
    root = document(cpu(0), uuid="6695eb01-f6a4-8304-79aa-97f2502e193f", vendor="AMD")
    assert text_of(root, "host/uuid") == ["6695eb01-f6a4-8304-79aa-97f2502e193f"]
    assert (text_of(root, "host/cpu/arch"), text_of(root, "host/cpu/vendor")) == (["x86_64"], ["AMD"])
    assert [found.get("support") for found in root.iterfind("host/iommu")] == ["yes"]
    bare = document(cpu(0))
    assert text_of(bare, "host/uuid") == text_of(bare, "host/cpu/vendor") == []


def test_memory_and_processors_are_told_by_cell() -> None:
    (cell,) = document(cpu(0), cpu(1, core=1)).iterfind("host/topology/cells/cell")
    assert cell.get("id") == "3"
    assert [(page.get("size"), page.text) for page in cell.iterfind("pages")] == [("4", "512"), ("2048", "1")]
    assert text_of(cell, "memory") == ["4096"]
    assert [attributes_of(found) for found in cell.iterfind("cpus/cpu")] == [
        {"id": "0", "socket_id": "0", "die_id": "0", "core_id": "0", "siblings": "0"},
        {"id": "1", "socket_id": "0", "die_id": "0", "core_id": "1", "siblings": "1"},
    ]


@pytest.mark.parametrize(
    ("cpus", "expected"),
    [
        ([cpu(0)], ("1", "1", "1", "1")),
        ([cpu(n, socket=n // 4, core=n // 2) for n in range(8)], ("2", "1", "2", "2")),
        ([cpu(0), cpu(1, core=1), cpu(2, socket=1)], None),
        ([cpu(0), cpu(1), cpu(2, core=1)], None),
        ([], None),
    ],
)
def test_a_topology_is_told_where_all_sockets_are_alike(
    cpus: list[HostCpu], expected: tuple[str, ...] | None
) -> None:
    found = [
        tuple(topology.get(name) for name in ("sockets", "dies", "cores", "threads"))
        for topology in document(*cpus).iterfind("host/cpu/topology")
    ]
    assert found == ([] if expected is None else [expected])


def test_every_machine_type_is_named_and_every_alias_says_what_it_means() -> None:
    machines = list(document(cpu(0), guests=[GUEST]).iterfind("guest/arch/machine"))
    assert [(machine.text, attributes_of(machine)) for machine in machines] == [
        ("pc", {"canonical": "pc-7.2", "maxCpus": "255"}),
        ("pc-1.0", {"deprecated": "yes"}),
        ("pc-7.2", {"maxCpus": "255"}),
    ]


def test_a_guest_names_its_emulator_and_how_it_can_run() -> None:
    (guest,) = document(cpu(0), guests=[GUEST]).iterfind("guest")
    assert text_of(guest, "os_type") == ["hvm"]
    assert (text_of(guest, "arch/wordsize"), text_of(guest, "arch/emulator")) == (["64"], ["/usr/bin/qemu"])
    assert [found.get("type") for found in guest.iterfind("arch/domain")] == ["qemu", "kvm"]
