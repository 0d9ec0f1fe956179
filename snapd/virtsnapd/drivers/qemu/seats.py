"""Places on buses other than PCI: drives on controllers, USB ports, ports of virtio-serial controllers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from virtsnap_protocol.errors import ConfigUnsupported, XmlError
from virtsnapd.drivers.qemu.addresses import describe
from virtsnapd.drivers.qemu.characters import uses_virtio_serial

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from virtsnapd.models.document import Element

Seat = tuple[int, ...]

_DRIVE_KEYS: Final = ("controller", "bus", "target", "unit")
_BUSES: Final = {"fd": "fdc", "hd": "ide", "sd": "scsi", "vd": "virtio"}
_LETTERS: Final = 26
_IDE_UNITS: Final = 2
_IDE_DRIVES: Final = 4
_FLOPPIES: Final = 2
_SATA_UNITS: Final = 6
_SCSI_UNITS: Final = 7
_USB_PORTS: Final = {"piix3-uhci": 2, "piix4-uhci": 2, "ehci": 6, "ich9-ehci1": 6, "pci-ohci": 3}
_XHCI_PORTS: Final = 4
_VIRTIO_SERIAL_PORTS: Final = 31


def default_bus(target: str) -> str:
    """Return the bus that libvirt takes from the name of a disk's target.

    Raises:
        ConfigUnsupported: the name says no bus that we know.

    """
    bus = _BUSES.get(target[:2])
    if bus is None:
        raise ConfigUnsupported(f"unable to derive the bus of disk '{target}'")
    return bus


def _number(target: str) -> int:
    """Return the position that the letters of a target mean: vda is 0, vdz 25, vdaa 26 (virDiskNameToIndex)."""
    position = 0
    for letter in target[2:]:
        position = position * _LETTERS + ord(letter) - ord("a") + 1
    return position - 1


def _drive_seat(disk: Element) -> Seat | None:
    """Return controller, bus, target and unit of a drive (virDomainDiskDefAssignAddress)."""
    target = disk.find("target")
    name, bus = ("", "") if target is None else (str(target.get("dev")), str(target.get("bus")))
    number = _number(name)
    if bus == "ide" and number < _IDE_DRIVES:
        return 0, number // _IDE_UNITS, 0, number % _IDE_UNITS
    if bus == "sata":
        return number // _SATA_UNITS, 0, 0, number % _SATA_UNITS
    if bus == "scsi":
        return number // _SCSI_UNITS, 0, 0, number % _SCSI_UNITS
    if bus == "fdc" and number < _FLOPPIES:
        return 0, 0, 0, number
    if bus in {"ide", "fdc"}:
        raise ConfigUnsupported(f"disk '{name}': {bus} has no place number {number}")
    return None


def needed_controllers(devices: Element) -> Iterator[tuple[str, int]]:
    """Yield type and index of every controller that the devices need."""
    for disk in devices.iterfind("disk"):
        target, address = disk.find("target"), disk.find("address[@type='drive']")
        seat = _drive_seat(disk)
        if target is not None and seat is not None:
            given = None if address is None else address.get("controller")
            yield str(target.get("bus")), seat[0] if given is None else int(given, 0)
    for port in _virtio_serial_devices(devices):
        address = port.find("address")
        yield "virtio-serial", 0 if address is None else int(address.get("controller", "0"), 0)


def _virtio_serial_devices(devices: Element) -> list[Element]:
    return [e for e in devices if e.tag in {"channel", "console"} and uses_virtio_serial(e)]


def _usb_devices(devices: Element) -> list[Element]:
    disks = [d for d in devices.iterfind("disk") if d.find("target[@bus='usb']") is not None]
    return [*disks, *devices.iterfind("input[@bus='usb']")]


def assign(devices: Element) -> None:
    """Give every such device its place; what is given of a place is kept.

    Raises:
        XmlError: two devices at one place (both are named), or on a bus that is not there.
        ConfigUnsupported: no place is left.

    """
    for bus in ("ide", "sata", "scsi", "fdc"):
        taken: dict[Seat, str] = {}
        for disk in devices.iterfind("disk"):
            if disk.find(f"target[@bus='{bus}']") is not None:
                _seat_drive(disk, taken)
    _plug(_usb_devices(devices), "usb", ("bus",), _usb_ports(devices))
    serial_ports = {
        int(controller.get("index", "0")): _VIRTIO_SERIAL_PORTS - 1
        for controller in devices.iterfind("controller[@type='virtio-serial']")
    }
    _plug(_virtio_serial_devices(devices), "virtio-serial", ("controller", "bus"), serial_ports)


def _seat_drive(disk: Element, taken: dict[Seat, str]) -> None:
    """Settle a drive: parts of a given address that are missing are 0, as in libvirt."""
    address = disk.find("address")
    seat = _drive_seat(disk) if address is None else _read(address, _DRIVE_KEYS)
    if seat is not None:
        _take(taken, seat, disk)
        _write(disk, "drive", dict(zip(_DRIVE_KEYS, seat, strict=True)))


def _usb_ports(devices: Element) -> dict[int, int]:
    """Return the number of ports of each USB bus."""
    ports: dict[int, int] = {}
    for controller in devices.iterfind("controller[@type='usb']"):
        model, given = str(controller.get("model")), controller.get("ports")
        if model != "none" and controller.find("master") is None:
            count = _USB_PORTS.get(model, _XHCI_PORTS) if given is None else int(given, 0)
            ports[int(controller.get("index", "0"))] = count
    return ports


def _plug(elements: list[Element], kind: str, keys: tuple[str, ...], ports: Mapping[int, int]) -> None:
    """Give every device a port of its bus: first those that ask for one, then the others the lowest free ones."""
    taken: dict[Seat, str] = {}
    waiting: list[tuple[Element, Seat]] = []
    for element in elements:
        address = element.find("address")
        bus = (0,) * len(keys) if address is None else _read(address, keys)
        if bus[0] not in ports:
            raise XmlError(
                f"{describe(element)} is on {kind} bus {bus[0]}, for which no controller is defined"
            )
        if address is None or address.get("port") is None:
            waiting.append((element, bus))
        else:
            _take(taken, (*bus, *_read(address, ("port",))), element)
    for element, bus in waiting:
        free = (port for port in range(1, ports[bus[0]] + 1) if (*bus, port) not in taken)
        port = next(free, None)
        if port is None:
            raise ConfigUnsupported(f"no free {kind} port is left for {describe(element)}")
        _take(taken, (*bus, port), element)
        _write(element, kind, {**dict(zip(keys, bus, strict=True)), "port": port})


def _read(address: Element, keys: tuple[str, ...]) -> Seat:
    return tuple(int(address.get(key, "0"), 0) for key in keys)


def _write(element: Element, kind: str, values: Mapping[str, int]) -> None:
    """Complete an address, without touching what it says already."""
    address = element.find("address")
    if address is None:
        address = element.makeelement("address", {})
        element.append(address)
    for key, value in (("type", kind), *values.items()):
        if address.get(key) is None:
            address.set(key, str(value))


def _take(taken: dict[Seat, str], seat: Seat, element: Element) -> None:
    if seat in taken:
        raise XmlError(f"{taken[seat]} and {describe(element)} have the same address")
    taken[seat] = describe(element)
