"""What is decided when a domain is defined, so that it always starts as the same machine.

libvirt fills in the same things at the same time (qemuDomainDefPostParse, qemuDomainAssignAddresses): the
versioned machine type, buses and drive addresses of disks, controllers and devices that a guest has without
asking, MAC and PCI addresses. What a definition already says is left alone, which makes pinning idempotent.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Final

from virtsnap_protocol.errors import ConfigUnsupported
from virtsnapd.drivers.qemu import characters, seats
from virtsnapd.drivers.qemu.addresses import PciAddress, PciSlots, describe, pci_address
from virtsnapd.drivers.qemu.arguments import DEVICES, check_honoured
from virtsnapd.drivers.qemu.command import is_q35, machine_of
from virtsnapd.drivers.qemu.controllers import kind_and_index

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from virtsnapd.models.document import Element
    from virtsnapd.models.domain import DomainDefinition

DEFAULT_CPU: Final = "qemu64"
"""The processor that the PC machines have when nothing is said; libvirt writes it into the definition."""

_PCI_ORDER: Final = {
    tag: position
    for position, tag in enumerate(
        # qemuDomainAssignDevicePCISlots hands slots out in this order
        (
            "video",
            "interface",
            "sound",
            "controller",
            "disk",
            "memballoon",
            "rng",
            "watchdog",
            "input",
            "panic",
        )
    )
}
_DEFAULT_MODELS: Final = {("usb", False): "piix3-uhci", ("usb", True): "qemu-xhci"}


def pin(
    definition: DomainDefinition,
    machines: Mapping[str, str],
    default_machine: str,
    new_mac: Callable[[], str],
    *,
    emulator: str | None = None,
) -> DomainDefinition:
    """Return the definition with everything decided that it leaves open.

    `machines` maps aliases (``pc``, ``q35``) to versioned names, `default_machine` is either; `emulator` is
    recorded when the definition names none.

    Raises:
        XmlError: addresses that are wrong or taken twice; both devices are named.
        ConfigUnsupported: something cannot be honoured, or a disk placed.
        InternalError: no address is left.

    """
    check_honoured(definition)
    root = copy.deepcopy(definition.element)
    devices = _child(root, "devices")
    _pin_machine(root, machines, default_machine)
    _pin_vcpu(root)
    _pin_cpu(root)
    _pin_boot(root)
    _pin_emulator(devices, emulator)
    _pin_consoles(devices)
    _pin_disks(devices)
    _pin_interfaces(devices, new_mac)
    _pin_serial_ports(devices)
    for device in devices.iterfind("input"):
        device.set("bus", device.get("bus", "usb" if device.get("type") == "tablet" else "ps2"))
    _add_implicit_devices(devices, q35=is_q35(root))
    seats.assign(devices)
    _pin_pci(devices, q35=is_q35(root))
    pinned = definition.with_element(root)
    return definition if pinned == definition else pinned


def _child(
    parent: Element, tag: str, attributes: Mapping[str, str] | None = None, at: int | None = None
) -> Element:
    """Return the child of this name, made when it is missing."""
    found = parent.find(tag)
    return _added(parent, tag, attributes, at) if found is None else found


def _added(
    parent: Element, tag: str, attributes: Mapping[str, str] | None = None, at: int | None = None
) -> Element:
    child = parent.makeelement(tag, dict(attributes or {}))
    parent.insert(len(parent) if at is None else at, child)
    return child


def _pin_machine(root: Element, machines: Mapping[str, str], default_machine: str) -> None:
    os_type = root.find("os/type")
    if os_type is None:
        return
    machine = machine_of(root) or default_machine
    os_type.set("arch", os_type.get("arch", "x86_64"))
    os_type.set("machine", machines.get(machine, machine))


def _pin_vcpu(root: Element) -> None:
    if root.find("vcpu") is None:
        before = root.find("os")
        vcpu = _added(
            root, "vcpu", {"placement": "static"}, at=None if before is None else root.index(before)
        )
        vcpu.text = "1"


def _pin_cpu(root: Element) -> None:
    cpu = root.find("cpu")
    if cpu is None:
        before = root.find("features")
        before = root.find("os") if before is None else before
        cpu = _added(root, "cpu", at=None if before is None else root.index(before) + 1)
    if cpu.get("mode") is None and cpu.find("model") is None:
        for key, value in (("mode", "custom"), ("match", "exact"), ("check", "none")):
            cpu.set(key, value)
        _added(cpu, "model", {"fallback": "forbid"}, at=0).text = DEFAULT_CPU
    elif cpu.get("mode") is None:
        cpu.set("mode", "custom")


def _pin_boot(root: Element) -> None:
    """Write libvirt's default: when nothing says otherwise, the first hard disk boots."""
    os_element = root.find("os")
    told = ("os/boot", "os/kernel", "devices/*/boot")
    if os_element is not None and all(root.find(path) is None for path in told):
        _added(os_element, "boot", {"dev": "hd"})


def _pin_emulator(devices: Element, emulator: str | None) -> None:
    if emulator is not None:
        found = _child(devices, "emulator", at=0)
        found.text = (found.text or "").strip() or emulator


def _pin_consoles(devices: Element) -> None:
    """Give the first console its serial port: one device, two names (virDomainDefAddConsoleCompat)."""
    console = devices.find("console")
    if console is None or not characters.mirrors_serial(console) or devices.find("serial") is not None:
        return
    serial = copy.deepcopy(console)
    serial.tag = "serial"
    target = serial.find("target")
    if target is not None:
        target.set("type", "isa-serial")
    devices.insert(devices.index(console), serial)


def _pin_disks(devices: Element) -> None:
    for disk in devices.iterfind("disk"):
        disk.set("type", disk.get("type", "file"))
        disk.set("device", disk.get("device", "disk"))
        driver = _child(disk, "driver", at=0)
        driver.set("name", driver.get("name", "qemu"))
        driver.set("type", driver.get("type", "raw"))
        target = disk.find("target")
        if target is not None and target.get("bus") is None:
            target.set("bus", seats.default_bus(str(target.get("dev"))))
        if disk.get("device") == "cdrom":
            _child(disk, "readonly")


def _pin_interfaces(devices: Element, new_mac: Callable[[], str]) -> None:
    taken = {str(mac.get("address")).lower() for mac in devices.iterfind("interface/mac")}
    for interface in devices.iterfind("interface"):
        mac = _child(interface, "mac", at=0)
        if mac.get("address") is None:
            address = new_mac()
            while address in taken:
                address = new_mac()
            taken.add(address)
            mac.set("address", address)
        model = _child(interface, "model")
        model.set("type", model.get("type", "rtl8139"))


def _pin_serial_ports(devices: Element) -> None:
    """Number the serial ports; the first four are COM1 to COM4."""
    targets = [_child(serial, "target", {"type": "isa-serial"}) for serial in devices.iterfind("serial")]
    taken = {target.get("port") for target in targets}
    for target in targets:
        if target.get("port") is None:
            number = next(n for n in map(str, range(len(targets))) if n not in taken)
            taken.add(number)
            target.set("port", number)


def _add_implicit_devices(devices: Element, *, q35: bool) -> None:
    """Add what libvirt gives to every guest of these machines."""
    _child(devices, "memballoon", {"model": "virtio"})
    if devices.find("graphics") is not None and devices.find("video") is None:
        _added(
            _added(devices, "video"),
            "model",
            {"type": "cirrus", "vram": "16384", "heads": "1", "primary": "yes"},
        )
    wanted = {("usb", 0), ("pci", 0)} | ({("sata", 0)} if q35 else set())
    wanted |= set(seats.needed_controllers(devices))
    present: dict[str, set[int]] = {}
    for controller in devices.iterfind("controller"):
        kind, _ = kind_and_index(controller)
        taken = present.setdefault(kind, set())
        if controller.get("index") is None:
            controller.set("index", str(next(n for n in range(len(devices)) if n not in taken)))
        taken.add(int(kind_and_index(controller)[1]))
        _pin_model(controller, q35=q35)
    for kind, index in sorted(wanted):
        if index not in present.get(kind, ()):
            _pin_model(_added_controller(devices, {"type": kind, "index": str(index)}), q35=q35)


def _added_controller(devices: Element, attributes: Mapping[str, str]) -> Element:
    """Add a controller behind the disks and controllers, where libvirt writes them."""
    before = [position for position, element in enumerate(devices) if element.tag in {"disk", "controller"}]
    return _added(devices, "controller", attributes, at=max(before, default=-1) + 1)


def _pin_model(controller: Element, *, q35: bool) -> None:
    """Write the model that libvirt takes where none is given."""
    kind, index = kind_and_index(controller)
    if controller.get("model") not in {None, "auto"}:
        return
    if kind == "usb":
        controller.set("model", _DEFAULT_MODELS[kind, q35])
    elif kind == "scsi":
        controller.set("model", "lsilogic")
    elif kind == "pci":
        root, bridge = ("pcie-root", "pcie-root-port") if q35 else ("pci-root", "pci-bridge")
        controller.set("model", root if index == "0" else bridge)


def _pin_pci(devices: Element, *, q35: bool) -> None:
    """Give every PCI device its address: first the given ones, then the chipset's, then the rest in order."""
    slots = PciSlots(q35=q35)
    needy = [
        element for element in _devices_in_order(devices) if DEVICES[str(element.tag)].needs_pci(element)
    ]
    for bus in devices.iterfind("controller[@type='pci']"):
        index = int(kind_and_index(bus)[1])
        if index:
            slots.add_bus(index, str(bus.get("model")))
    homeless: list[Element] = []
    for element in needy:
        place = pci_address(element)
        if place is None:
            homeless.append(element)
        else:
            _check_chipset_place(element, place, q35=q35)
            slots.claim(place, describe(element))
    for element in [e for e in homeless if _chipset_place(e, q35=q35)]:
        _settle_chipset(element, slots, q35=q35)
    for element in homeless:
        if pci_address(element) is None:
            _write_address(element, _place_for(element, slots))


def _devices_in_order(devices: Element) -> Iterable[Element]:
    known = [element for element in devices if str(element.tag) in DEVICES]
    return sorted(known, key=lambda element: _PCI_ORDER.get(str(element.tag), len(_PCI_ORDER)))


def _chipset_place(element: Element, *, q35: bool) -> PciAddress | None:
    """Return where the machine has, or libvirt puts, this part of its chipset."""
    if element.tag != "controller" or kind_and_index(element)[1] != "0":
        return None
    kind, model = element.get("type"), element.get("model")
    if q35:
        return PciAddress(0, 0x1F, 2) if kind == "sata" else None
    if kind == "ide":
        return PciAddress(0, 1, 1)
    return PciAddress(0, 1, 2) if kind == "usb" and model == "piix3-uhci" else None


def _check_chipset_place(element: Element, place: PciAddress, *, q35: bool) -> None:
    fixed = _chipset_place(element, q35=q35)
    if fixed is not None and element.get("type") != "usb" and place != fixed:
        kind = str(element.get("type")).upper()
        raise ConfigUnsupported(
            f"Primary {kind} controller must have PCI address {fixed.text}, not {place.text}"
        )


def _settle_chipset(element: Element, slots: PciSlots, *, q35: bool) -> None:
    place = _chipset_place(element, q35=q35)
    if place is not None and (slots.is_free(place) or element.get("type") != "usb"):
        slots.claim(place, describe(element))
        _write_address(element, place)


def _place_for(element: Element, slots: PciSlots) -> PciAddress:
    first_video = PciAddress(0, slots.video_slot)
    if element.tag == "video" and slots.is_free(first_video):
        slots.claim(first_video, describe(element))
        return first_video
    return slots.next_slot(describe(element))


def _write_address(element: Element, place: PciAddress) -> None:
    address = _child(element, "address", {"type": "pci"})
    for key, number, digits in (
        ("domain", 0, 4),
        ("bus", place.bus, 2),
        ("slot", place.slot, 2),
        ("function", place.function, 1),
    ):
        address.set(key, f"0x{number:0{digits}x}")
