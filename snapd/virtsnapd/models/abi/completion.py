"""What libvirt itself adds to any definition before it compares two, whatever the hypervisor.

virDomainDefPostParse: addresses of drives and smartcards, numbers of ports, the serial port of the first console,
the video card of a display, controllers that devices sit on. What a hypervisor adds beyond that is its driver's.
"""

from __future__ import annotations

import copy
import re
from itertools import count
from typing import TYPE_CHECKING, Final

from lxml import etree

from virtsnapd.models.abi.values import number_or_text

if TYPE_CHECKING:
    from collections.abc import Iterator

    from virtsnapd.models.disk import Disk
    from virtsnapd.models.document import Element
    from virtsnapd.models.domain import DomainDefinition

_SLOTS: Final = {"scsi": (1, 7), "ide": (2, 2), "fdc": (1, 2), "sata": (1, 6)}
"""Buses of a controller and units of a bus, by the bus of disks (virDomainDiskDefAssignAddress)."""
_NAME = re.compile(r"(?:fd|hd|sd|vd|xvd|ubd)([a-z]{1,4})[0-9]*")
_SEATED: Final = ("scsi", "fdc", "ide", "sata", "virtio-serial", "ccid")
"""Controllers that devices sit on, in the order in which virDomainDefAddImplicitControllers adds them."""
_SPARSE: Final = frozenset({"virtio-serial", "ccid"})
"""Of these only the one that an address names is added, not those below it."""
_MAX_INDEX: Final = 255
"""More controllers than any bus has; keeps an address in a document from costing memory."""


def completed(definition: DomainDefinition) -> Element:
    """Return a copy of the <domain> with all of it; what the document says is left as it is."""
    root = copy.deepcopy(definition.element)
    devices = _one_devices(root)
    if definition.os_type == "hvm":
        _join_console_and_serial(devices)
    _number_ports(devices)
    for disk, facts in zip(devices.iterfind("disk"), definition.disks, strict=True):
        _place_disk(disk, facts)
    _place_host_disks(devices)
    _place_smartcards(devices)
    for device in devices.iterfind("input"):
        if device.get("bus") is None:
            device.set("bus", _input_bus(device))
    if devices.find("graphics") is not None and devices.find("video") is None:
        etree.SubElement(devices, "video")
    _add_controllers(devices)
    return root


def _one_devices(root: Element) -> Element:
    """Return the <devices> of a definition; of several, which libvirt reads as one, the first gets what they hold."""
    found = root.findall("devices")
    devices = found[0] if found else etree.SubElement(root, "devices")
    for other in found[1:]:
        devices.extend(list(other))
        root.remove(other)
    return devices


def _join_console_and_serial(devices: Element) -> None:
    """Give the first console and the first serial port each other (virDomainDefAddConsoleCompat): one device."""
    console, serial = devices.find("console"), devices.find("serial")
    if console is not None and serial is None and _target_type(console) in {None, "serial"}:
        etree.SubElement(devices, "serial", {"type": console.get("type", "pty")})
    elif serial is None or _target_type(serial) not in {None, "isa-serial", "spapr-vio-serial"}:
        return
    elif console is None:
        etree.SubElement(devices, "console")
    elif _target_type(console) not in {None, "serial"}:
        devices.insert(devices.index(console), etree.Element("console"))


def _target_type(device: Element) -> str | None:
    target = device.find("target")
    return None if target is None else target.get("type")


def _number_ports(devices: Element) -> None:
    """Number the ports that have no number: each one more than the highest before it."""
    for tag in ("serial", "parallel"):
        highest = -1
        for device in devices.iterfind(tag):
            target = device.find("target")
            if target is None:
                target = etree.SubElement(device, "target")
            port = number_or_text(target.get("port", str(highest + 1)))
            target.set("port", str(port))
            highest = max(highest, port) if isinstance(port, int) else highest


def _place_disk(disk: Element, facts: Disk) -> None:
    """Write the bus, and on buses of drives the address that follows from the name (virDomainDiskDefAssignAddress)."""
    target = disk.find("target")
    if target is not None:
        target.set("bus", facts.bus)
    match, slots = _NAME.fullmatch(facts.target), _SLOTS.get(facts.bus)
    if match is not None and slots is not None and disk.find("address") is None:
        buses, units = slots
        place, unit = divmod(_ordinal(match[1]), units)
        controller, bus = divmod(place, buses)
        _set_drive(disk, controller, bus, unit)


def _ordinal(letters: str) -> int:
    """Return the number that the letters of a disk's name count: a is 0, z is 25, aa is 26."""
    value = 0
    for letter in letters:
        value = value * 26 + ord(letter) - ord("a") + 1
    return value - 1


def _set_drive(device: Element, controller: int, bus: int, unit: int) -> None:
    place = {"controller": str(controller), "bus": str(bus), "target": "0", "unit": str(unit)}
    etree.SubElement(device, "address", {"type": "drive", **place})


def _place_host_disks(devices: Element) -> None:
    """Give SCSI devices of the host the first units that are free (virDomainHostdevAssignAddress)."""
    on_scsi = [
        *devices.iterfind("disk[target]"),
        *devices.iterfind("hostdev[@type='scsi']"),
    ]
    taken = {_seat(device) for device in on_scsi if _is_on_scsi(device)}
    seats = (divmod(place, _SLOTS["scsi"][1]) for place in count())
    free = (seat for seat in seats if seat not in taken)
    for device in devices.iterfind("hostdev[@type='scsi']"):
        if device.find("address") is None:
            controller, unit = next(free)
            _set_drive(device, controller, 0, unit)


def _is_on_scsi(device: Element) -> bool:
    target = device.find("target")
    return device.tag == "hostdev" or (target is not None and target.get("bus") == "scsi")


def _seat(device: Element) -> tuple[int | str, int | str]:
    address = device.find("address")
    if address is None:
        return "none", "none"
    return number_or_text(address.get("controller", "0")), number_or_text(address.get("unit", "0"))


def _place_smartcards(devices: Element) -> None:
    for slot, card in enumerate(devices.iterfind("smartcard")):
        if card.find("address") is None:
            etree.SubElement(card, "address", {"type": "ccid", "controller": "0", "slot": str(slot)})


def _input_bus(device: Element) -> str:
    """Return the bus that libvirt takes for an input device of a full virtual machine."""
    kind = device.get("type")
    if kind in {"passthrough", "evdev"}:
        return "virtio" if kind == "passthrough" else "none"
    return "usb" if kind == "tablet" or device.find("address[@type='usb']") is not None else "ps2"


def _add_controllers(devices: Element) -> None:
    """Add the controllers that devices sit on and that are missing (virDomainDefAddImplicitControllers)."""
    present: dict[str, set[int | str]] = {}
    open_ones = []
    for controller in devices.iterfind("controller"):
        kind = controller.get("type", "ide")
        controller.set("type", kind)
        if (index := controller.get("index")) is None:
            open_ones.append((controller, kind))
        else:
            present.setdefault(kind, set()).add(number_or_text(index))
    needed = [(_SEATED[rank], place) for rank, place in sorted(set(_needed(devices)))]
    # those of drives come before the open ones are numbered, the others after
    _add_missing(devices, [seat for seat in needed if seat[0] not in _SPARSE], present)
    free: dict[str, Iterator[int]] = {}
    for controller, kind in open_ones:
        taken = present.setdefault(kind, set())
        place = next(free.setdefault(kind, _free(taken)))
        controller.set("index", str(place))
        taken.add(place)
    _add_missing(devices, needed, present)


def _free(taken: set[int | str]) -> Iterator[int]:
    """Yield the numbers that are not taken, each once."""
    return (number for number in count() if number not in taken)


def _add_missing(devices: Element, seats: list[tuple[str, int]], present: dict[str, set[int | str]]) -> None:
    for kind, place in seats:
        taken = present.setdefault(kind, set())
        if place not in taken:
            etree.SubElement(devices, "controller", {"type": kind, "index": str(place)})
            taken.add(place)


def _needed(devices: Element) -> Iterator[tuple[int, int]]:
    """Yield the types (by their place in `_SEATED`) and numbers of the controllers that something sits on."""
    highest: dict[int, int] = {}
    for device in devices:
        kind = _seat_kind(device)
        if kind not in _SEATED:
            continue
        rank = _SEATED.index(kind)
        address = next(device.iterchildren("address"), None)
        index = number_or_text("0" if address is None else address.get("controller", "0"))
        if not isinstance(index, int):
            continue
        if kind not in _SPARSE:
            highest[rank] = max(highest.get(rank, -1), min(index, _MAX_INDEX))
        elif 0 <= index <= _MAX_INDEX:
            yield rank, index
    for rank, last in highest.items():
        yield from ((rank, place) for place in range(last + 1))


def _seat_kind(device: Element) -> str | None:
    """Return the type of the controllers that a device of this kind sits on."""
    if device.tag == "hostdev":
        return device.get("type")
    if device.tag == "smartcard":
        return "ccid"
    target = next(device.iterchildren("target"), None)
    if target is None or device.tag not in {"disk", "channel", "console"}:
        return None
    if device.tag == "disk":
        return target.get("bus")
    return "virtio-serial" if target.get("type") == "virtio" else None
