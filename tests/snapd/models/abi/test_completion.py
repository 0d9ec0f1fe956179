"""What libvirt adds to a definition by itself is no difference, whichever side says it."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest

from tests.snapd.models.samples import disk_xml, domain
from virtsnapd.models.abi import differences
from virtsnapd.models.abi.completion import completed
from virtsnapd.models.abi.values import positions

if TYPE_CHECKING:
    from types import FrameType
    from typing import Any

DRIVE = "<address type='drive' controller='{}' bus='{}' target='0' unit='{}'/>"
HOST_DISK = (
    "<hostdev mode='subsystem' type='scsi'><source><adapter name='scsi_host0'/>"
    "<address bus='0' target='0' unit='0'/></source>{}</hostdev>"
)
CONTROLLER = "<controller type='{}' index='{}'/>"


def disk(target: str, bus: str, inner: str = "") -> str:
    return f"<disk type='file'><source file='/{target}'/><target dev='{target}' bus='{bus}'/>{inner}</disk>"


def said_by_both(short: str, whole: str) -> list[str]:
    one, other = domain(disk_xml() + short), domain(disk_xml() + whole)
    return [problem.message for problem in differences(one, other) + differences(other, one)]


# observed with virsh 9.0: what a dump has of a definition that says less
COMPLETIONS = {
    "scsi": (disk("sdp", "scsi"), disk("sdp", "scsi", DRIVE.format(2, 0, 1))),
    "sata": (disk("sdz", "sata"), disk("sdz", "sata", DRIVE.format(4, 0, 1))),
    "ide": (disk("hdf", "ide"), disk("hdf", "ide", DRIVE.format(1, 0, 1))),
    "second ide bus": (disk("hdc", "ide"), disk("hdc", "ide", DRIVE.format(0, 1, 0))),
    "fdc": (disk("fdc", "fdc"), disk("fdc", "fdc", DRIVE.format(1, 0, 0))),
    "27 disks": (disk("sdaa", "sata"), disk("sdaa", "sata", DRIVE.format(4, 0, 2))),
    "controllers": (
        disk("sdh", "scsi") + disk("hda", "ide"),
        disk("sdh", "scsi")
        + disk("hda", "ide")
        + "".join(CONTROLLER.format(*seat) for seat in (("scsi", 0), ("scsi", 1), ("ide", 0))),
    ),
    "index": (
        disk("sda", "scsi") + "<controller type='usb'/>",
        disk("sda", "scsi") + CONTROLLER.format("usb", 0) + CONTROLLER.format("scsi", 0),
    ),
    "host disk": (
        disk("sda", "scsi") + HOST_DISK.format(""),
        disk("sda", "scsi") + HOST_DISK.format(DRIVE.format(0, 0, 1)),
    ),
    "serial of a console": ("<console type='pty'/>", "<serial type='pty'/><console type='pty'/>"),
    "console of a serial": ("<serial type='pty'/>", "<serial type='pty'/><console type='pty'/>"),
    "ports": (
        "<serial type='pty'><target port='3'/></serial><serial type='pty'/><parallel type='pty'/>",
        "<serial type='pty'><target port='3'/></serial><serial><target port='4'/></serial><parallel type='pty'/>",
    ),
    "channel": (
        "<channel type='pty'><target type='virtio'/></channel>",
        "<channel type='pty'><target type='virtio'/></channel><controller type='virtio-serial' index='0'/>",
    ),
    "smartcard": (
        "<smartcard mode='host'/>",
        "<smartcard mode='host'><address type='ccid' controller='0' slot='0'/></smartcard>"
        + CONTROLLER.format("ccid", 0),
    ),
    "video": (
        "<graphics type='vnc'/>",
        "<graphics type='vnc'/><video><model type='cirrus' vram='16384' heads='1'/></video>",
    ),
    "input": (
        "<input type='tablet'/><input type='mouse'/>",
        "<input type='tablet' bus='usb'/><input type='mouse' bus='ps2'/>",
    ),
    "mac": ("<interface/>", "<interface><mac address='52:54:00:00:00:01'/></interface>"),
}


@pytest.mark.parametrize("case", COMPLETIONS)
def test_what_libvirt_adds_is_no_difference(case: str) -> None:
    assert said_by_both(*COMPLETIONS[case]) == []


def test_a_console_that_is_no_serial_port_comes_behind_the_one_that_is() -> None:
    virtio = "<console type='pty'><target type='virtio'/></console>"
    serial = "<serial type='pty'><target type='isa-serial'/></serial>"
    assert said_by_both(serial + virtio, serial + "<console type='pty'/>" + virtio) == []
    assert said_by_both(virtio, "<console type='pty'/>" + virtio) != []


def test_the_definition_itself_is_left_as_it_is() -> None:
    definition = domain(disk("sda", "scsi"))
    before = definition.text
    completed(definition)
    assert definition.with_element(definition.element).text == before


def test_an_address_in_a_document_cannot_make_controllers_without_end() -> None:
    root = completed(domain(disk("sda", "scsi", DRIVE.format(10**9, 0, 0))))
    assert len(root.findall("devices/controller")) == 256


def test_several_lists_of_devices_are_read_as_one() -> None:
    split = disk("sda", "scsi") + "</devices><devices>" + disk("sdb", "scsi")
    assert said_by_both(disk("sda", "scsi") + disk("sdb", "scsi"), split) == []


def steps(devices: str) -> int:
    """Return how many lines are run to complete a definition, each turn of a loop by itself."""
    counted = 0

    def count(frame: FrameType, event: str, argument: Any) -> Any:  # noqa: ANN401 the interpreter's
        nonlocal counted
        counted += 1
        return count

    definition = domain(devices)
    former = sys.gettrace()
    sys.settrace(count)
    try:
        completed(definition)
    finally:
        sys.settrace(former)
    return counted


@pytest.mark.parametrize("device", ["<controller type='usb'/>", "<hostdev type='scsi'/>"])
def test_twice_as_many_devices_are_twice_the_work(device: str) -> None:
    assert steps(device * 600) < 2.2 * steps(device * 300)


def test_a_high_address_is_no_more_work_for_each_device_that_has_it() -> None:
    high, low = (HOST_DISK.format(DRIVE.format(controller, 0, 0)) for controller in (255, 0))
    assert steps(high * 100) < 2 * steps(low * 100)


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("0-2,^1,5", "0,2,5"),
        (" 3, 1 ,2", "1-3"),
        ("5-3", ""),
        ("^1,0-2", "0-2"),
        ("", ""),
        ("16383", "16383"),
        ("0-16384", "0-16384"),
        ("x", "x"),
        (",".join(["0-16383"] * 10_000), "0-16383"),
    ],
)
def test_a_list_of_virtual_cpus_is_read_in_any_order(text: str, meant: str) -> None:
    assert positions(text) == meant
