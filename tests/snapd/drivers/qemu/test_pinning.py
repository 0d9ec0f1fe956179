"""Pinning: what is decided at define, that it stays decided, and that a real QEMU does what was decided."""

from __future__ import annotations

import re
import shutil
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support import qemu_golden
from tests.support.qemu_golden import MACHINES, defined, numbered_macs
from tests.support.real_qemu import running
from virtsnap_protocol.errors import ConfigUnsupported, InternalError, XmlError
from virtsnapd.drivers.qemu.addresses import PciAddress, pci_address
from virtsnapd.drivers.qemu.arguments import command_line
from virtsnapd.drivers.qemu.pinning import pin
from virtsnapd.models.domain import DomainDefinition

if TYPE_CHECKING:
    from pathlib import Path

QEMU = shutil.which("qemu-system-x86_64") or "qemu-system-x86_64"
NIC = "<interface type='user'><model type='virtio'/>{}</interface>"


def domain(devices: str = "", machine: str = "machine='pc'") -> str:
    return (
        "<domain type='qemu'><name>guest</name><uuid>6d3f2f0e-0000-4000-8000-00000000000f</uuid>"
        f"<memory>16384</memory><os><type {machine}>hvm</type></os><devices>{devices}</devices></domain>"
    )


def at(slot: int, function: int = 0, bus: int = 0) -> str:
    return f"<address type='pci' domain='0x0000' bus='{bus:#x}' slot='{slot:#x}' function='{function}'/>"


def empty_disk(target: str, extra: str = "") -> str:
    return f"<disk type='file' device='disk'><source file='/x'/><target dev='{target}'/>{extra}</disk>"


@pytest.mark.parametrize(
    ("given_machine", "pinned"),
    [
        ("machine='pc'", "pc-i440fx-7.2"),
        ("machine='q35'", "pc-q35-7.2"),
        ("", "pc-i440fx-7.2"),
        ("machine='pc-i440fx-6.0'", "pc-i440fx-6.0"),
    ],
)
def test_a_machine_alias_becomes_the_versioned_name(given_machine: str, pinned: str) -> None:
    assert defined(domain(machine=given_machine)).machine == pinned


@pytest.mark.parametrize("case", qemu_golden.CASES)
def test_pinning_a_pinned_definition_changes_nothing(case: str) -> None:
    pinned = defined(qemu_golden.given(case))
    assert pin(pinned, {"pc": "pc-i440fx-9.9", "q35": "pc-q35-9.9"}, "q35", lambda: "never") is pinned


@pytest.mark.parametrize("case", qemu_golden.CASES)
def test_a_pinned_definition_survives_its_own_text(case: str) -> None:
    pinned = defined(qemu_golden.given(case))
    assert defined(pinned.text) == pinned


SERIAL = "<serial type='null'/>"
SERIAL_PORTS = 4
"""A PC has no more, and a fifth is refused."""
DEVICES = st.sampled_from(
    [
        NIC.format(""),
        "<rng model='virtio'><backend model='builtin'/></rng>",
        "<controller type='virtio-serial'/>",
        "<controller type='scsi' model='virtio-scsi'/>",
        "<controller type='usb' model='qemu-xhci'/>",
        "<channel type='unix'><target type='virtio' name='a'/></channel>",
        SERIAL,
        NIC.format(at(9)),
        NIC.format(at(3, 1)),
    ]
)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(DEVICES, max_size=12).filter(lambda devices: devices.count(SERIAL) <= SERIAL_PORTS),
    st.sampled_from(sorted(MACHINES)),
)
def test_no_two_devices_ever_share_a_pci_address(devices: list[str], machine: str) -> None:
    try:
        pinned = defined(domain("".join(devices), f"machine='{machine}'"))
    except XmlError as error:
        assert "double use" in str(error)  # noqa: PT017 -- only what was given twice may be refused
        return
    places = [place for e in pinned.element.iterfind("devices/*") if (place := pci_address(e)) is not None]
    assert len(places) == len(set(places))
    assert pin(pinned, MACHINES, "pc", numbered_macs()) is pinned


def test_libvirt_would_have_chosen_the_same_addresses() -> None:
    """The slots are those that libvirt 9.0 gave to this very domain."""
    pinned = defined(
        domain(
            "<disk type='file'><source file='/a'/><target dev='hda' bus='ide'/></disk>"
            "<disk type='file'><source file='/b'/><target dev='vda'/></disk>"
            "<disk type='file'><source file='/c'/><target dev='sda' bus='scsi'/></disk>"
            "<channel type='unix'><target type='virtio' name='org.qemu.guest_agent.0'/></channel>"
            "<graphics type='vnc' autoport='yes'/><watchdog model='i6300esb'/>"
            "<rng model='virtio'><backend model='random'>/dev/urandom</backend></rng>"
        )
    )
    found = {}
    for element in pinned.element.iterfind("devices/*"):
        place = pci_address(element)
        if place is not None:
            found[f"{element.tag} {element.get('type', '')}".strip()] = place
    assert found == {
        "controller usb": PciAddress(0, 1, 2),
        "controller ide": PciAddress(0, 1, 1),
        "controller scsi": PciAddress(0, 3),
        "controller virtio-serial": PciAddress(0, 4),
        "disk file": PciAddress(0, 5),
        "memballoon": PciAddress(0, 6),
        "rng": PciAddress(0, 7),
        "watchdog": PciAddress(0, 8),
        "video": PciAddress(0, 2),
    }


def test_given_addresses_are_kept_and_the_others_go_around_them() -> None:
    pinned = defined(domain(NIC.format(at(3)) + NIC.format("") + empty_disk("vda", at(5))))
    places = [pci_address(e) for e in pinned.element.iterfind("devices/interface")]
    assert places == [PciAddress(0, 3), PciAddress(0, 4)]


def test_a_conflict_names_both_devices() -> None:
    nic = NIC.format("<mac address='52:54:00:aa:bb:cc'/>" + at(7))
    with pytest.raises(XmlError, match=re.escape("0000:00:07.0 by interface '52:54:00:aa:bb:cc'")) as caught:
        defined(domain(empty_disk("vda", at(7)) + nic))
    assert "disk 'vda'" in str(caught.value)


def test_a_device_in_the_place_of_the_chipset_is_refused() -> None:
    with pytest.raises(XmlError, match="the ISA bridge of the chipset"):
        defined(domain(NIC.format(at(1))))


def test_an_address_on_a_bus_that_is_not_there_is_refused() -> None:
    with pytest.raises(XmlError, match="no controller is defined"):
        defined(domain(NIC.format(at(1, bus=4))))


def test_two_disks_on_one_unit_are_refused_by_name() -> None:
    address = "<address type='drive' controller='0' bus='0' target='0' unit='0'/>"
    with pytest.raises(XmlError, match="disk 'hda' and disk 'hdb' have the same address"):
        defined(domain(empty_disk("hda") + empty_disk("hdb", address).replace("/x", "/y")))


def test_a_place_that_is_given_in_part_is_completed() -> None:
    channel = (
        "<channel type='null'><target type='virtio'/><address type='virtio-serial' controller='1'/></channel>"
    )
    pinned = defined(domain(channel + "<input type='mouse' bus='usb'><address type='usb' bus='0'/></input>"))
    assert pinned.element.find("devices/channel/address[@controller='1'][@port='1']") is not None
    assert pinned.element.find("devices/controller[@type='virtio-serial'][@index='1']") is not None
    assert pinned.element.find("devices/input/address[@port='1']") is not None


def test_a_usb_device_without_its_controller_is_refused() -> None:
    with pytest.raises(XmlError, match="usb bus 2, for which no controller is defined"):
        defined(domain("<input type='tablet' bus='usb'><address type='usb' bus='2'/></input>"))


def test_more_devices_than_slots_are_refused() -> None:
    with pytest.raises(InternalError, match="No more available PCI slots"):
        defined(domain(NIC.format("") * 32))


def test_a_disk_without_a_known_bus_is_refused() -> None:
    with pytest.raises(ConfigUnsupported, match="xvda"):
        defined(domain("<disk type='file'><source file='/x'/><target dev='xvda'/></disk>"))


def test_every_card_gets_its_own_mac_address() -> None:
    source = iter(["52:54:00:00:00:01", "52:54:00:00:00:02", "52:54:00:00:00:03"])
    text = domain(NIC.format("<mac address='52:54:00:00:00:01'/>") + NIC.format("") + NIC.format(""))
    pinned = pin(DomainDefinition.parse(text), MACHINES, "pc", lambda: next(source))
    macs = [mac.get("address") for mac in pinned.element.iterfind("devices/interface/mac")]
    assert macs == ["52:54:00:00:00:01", "52:54:00:00:00:02", "52:54:00:00:00:03"]


def test_the_first_console_gets_its_serial_port() -> None:
    pinned = defined(domain("<console type='null'/>"))
    assert pinned.element.find("devices/serial/target[@port='0']") is not None


def test_an_emulator_that_is_named_is_not_replaced() -> None:
    pinned = defined(domain("<emulator>/opt/qemu</emulator>"))
    assert pinned.element.findtext("devices/emulator") == "/opt/qemu"


def hardware(definition: DomainDefinition, folder: Path) -> tuple[str, list[PciAddress]]:
    """Return the device tree of a really started guest, and where its PCI devices are."""
    arguments = command_line(
        definition, emulator=QEMU, accel="tcg", monitor_sockets=(), paused=True, socket_dir=str(folder)
    )
    with running(arguments, folder) as probe:
        tree = probe.execute("human-monitor-command", **{"command-line": "info qtree"})
        pci = probe.execute("query-pci")
    places = [PciAddress(0, device["slot"], device["function"]) for device in pci[0]["devices"]]
    return tree, places


@pytest.mark.parametrize("case", ["pc", "q35"])
def test_a_guest_is_the_same_machine_every_time_it_starts(case: str, short_tmp: Path) -> None:
    image = short_tmp / "image"
    image.write_bytes(bytes(1 << 20))
    devices = (
        f"<disk type='file'><source file='{image}'/><target dev='{'hda' if case == 'pc' else 'sda'}' "
        f"bus='{'ide' if case == 'pc' else 'sata'}'/></disk>"
        f"<disk type='file'><source file='{image}2'/><target dev='vda'/></disk>"
        "<rng model='virtio'><backend model='builtin'/></rng><video><model type='vga'/></video>"
    )
    (short_tmp / "image2").write_bytes(bytes(1 << 20))
    pinned = defined(domain(devices + NIC.format(""), f"machine='{case}'"))
    first, places = hardware(pinned, short_tmp)
    again, _ = hardware(defined(pinned.text), short_tmp)
    assert first == again
    wanted = {place for e in pinned.element.iterfind("devices/*") if (place := pci_address(e)) is not None}
    assert wanted <= set(places)
