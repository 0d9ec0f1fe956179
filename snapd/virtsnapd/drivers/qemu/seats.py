"""Places on buses other than PCI: drives on controllers, USB ports, ports of virtio-serial controllers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from virtsnap_protocol.errors import ConfigUnsupported, XmlError
from virtsnapd.drivers.qemu.addresses import describe
from virtsnapd.drivers.qemu.characters import uses_virtio_serial

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from virtsnapd.models.document import Element

Seat = tuple[int, ...]

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
    """Give every such device its place; places that are given are kept.

    Raises:
        XmlError: two devices at one place; both are named.
        ConfigUnsupported: no place is left.

    """
    for bus in ("ide", "sata", "scsi", "fdc"):
        disks = [d for d in devices.iterfind("disk") if d.find(f"target[@bus='{bus}']") is not None]
        _assign(
            disks, "drive", ("controller", "bus", "target", "unit"), lambda disk, _taken: _drive_seat(disk)
        )
    ports = _usb_ports(devices)
    _assign(
        _usb_devices(devices),
        "usb",
        ("bus", "port"),
        lambda _device, taken: _free_port(taken, 1, ports, "USB"),
    )
    _assign(
        _virtio_serial_devices(devices),
        "virtio-serial",
        ("controller", "bus", "port"),
        lambda _device, taken: _free_port(taken, 2, _VIRTIO_SERIAL_PORTS - 1, "virtio-serial"),
    )


def _usb_ports(devices: Element) -> int:
    controller = devices.find("controller[@type='usb'][@index='0']")
    model = "" if controller is None else str(controller.get("model"))
    given = None if controller is None else controller.get("ports")
    if given is not None:
        return int(given, 0)
    return 0 if model == "none" else _USB_PORTS.get(model, _XHCI_PORTS)


def _free_port(taken: dict[Seat, str], zeros: int, ports: int, kind: str) -> Seat:
    """Return the lowest free port, from 1, of the first controller of a kind."""
    for port in range(1, ports + 1):
        seat = (*[0] * zeros, port)
        if seat not in taken:
            return seat
    raise ConfigUnsupported(f"no free {kind} port is left")


def _assign(
    elements: list[Element],
    kind: str,
    keys: tuple[str, ...],
    choose: Callable[[Element, dict[Seat, str]], Seat | None],
) -> None:
    taken: dict[Seat, str] = {}
    for element in elements:
        address = element.find(f"address[@type='{kind}']")
        if address is not None and address.get(keys[-1]) is not None:
            _take(taken, _read(address, keys, element), element)
    for element in elements:
        address = element.find("address")
        if address is not None and address.get(keys[-1]) is not None:
            continue
        seat = choose(element, taken)
        if seat is None:
            continue
        _take(taken, seat, element)
        if address is None:
            address = element.makeelement("address", {})
            element.append(address)
        address.set("type", kind)
        for key, value in zip(keys, seat, strict=True):
            address.set(key, str(value))


def _read(address: Element, keys: tuple[str, ...], element: Element) -> Seat:
    try:
        return tuple(int(part, 0) for key in keys for part in address.get(key, "0").split("."))
    except ValueError:
        raise XmlError(f"Cannot parse the address of {describe(element)}") from None


def _take(taken: dict[Seat, str], seat: Seat, element: Element) -> None:
    if seat in taken:
        raise XmlError(f"{taken[seat]} and {describe(element)} have the same address")
    taken[seat] = describe(element)
