"""Controllers: the buses that other devices sit on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from virtsnapd.drivers.qemu.addresses import ALIAS, PCI_ADDRESS
from virtsnapd.drivers.qemu.command import Command, Part, usb_name
from virtsnapd.drivers.qemu.elements import NUMBER, ON_OFF, Rule, attributes_of, matching, one_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from virtsnapd.models.document import Element

USB_DRIVERS: Final = {
    "piix3-uhci": "piix3-usb-uhci",
    "piix4-uhci": "piix4-usb-uhci",
    "ehci": "usb-ehci",
    "ich9-ehci1": "ich9-usb-ehci1",
    "ich9-uhci1": "ich9-usb-uhci1",
    "ich9-uhci2": "ich9-usb-uhci2",
    "ich9-uhci3": "ich9-usb-uhci3",
    "pci-ohci": "pci-ohci",
    "nec-xhci": "nec-usb-xhci",
    "qemu-xhci": "qemu-xhci",
}
_SCSI_DRIVERS: Final = {"lsilogic": "lsi", "virtio-scsi": "virtio-scsi-pci"}
_PCI_ROOTS: Final = ("pci-root", "pcie-root")
_PCI_DRIVERS: Final = {
    "pci-bridge": "pci-bridge",
    "pcie-root-port": "pcie-root-port",
    "pcie-to-pci-bridge": "pcie-pci-bridge",
    "dmi-to-pci-bridge": "i82801b11-bridge",
}
_MODELS: Final[dict[str, tuple[str, ...]]] = {
    "usb": (*USB_DRIVERS, "none"),
    "ide": (),
    "fdc": (),
    "sata": (),
    "scsi": (*_SCSI_DRIVERS, "auto"),
    "virtio-serial": (),
    "pci": (*_PCI_ROOTS, *_PCI_DRIVERS),
}

_RULE: Final = Rule(
    at_most=None,
    required=("type",),
    attributes={
        "type": one_of(*_MODELS),
        "index": matching(r"0|[1-9][0-9]{0,2}", "a number below 1000"),
        "model": one_of(*(model for models in _MODELS.values() for model in models)),
        "ports": NUMBER,
    },
    children={
        "model": Rule(attributes={"name": one_of(*_PCI_DRIVERS.values())}),
        "target": Rule(
            attributes={"chassisNr": NUMBER, "chassis": NUMBER, "port": NUMBER, "hotplug": ON_OFF}
        ),
        "master": Rule(attributes={"startport": NUMBER}),
        "alias": ALIAS,
        "address": PCI_ADDRESS,
    },
)


def kind_and_index(element: Element) -> tuple[str, str]:
    """Return the type and the index of a controller."""
    return str(element.get("type", "")), str(element.get("index", "0"))


def is_chipset(element: Element, *, q35: bool) -> bool:
    """Tell whether the machine brings this controller along, so that no `-device` may create it."""
    kind, index = kind_and_index(element)
    if kind == "pci":
        return element.get("model") in _PCI_ROOTS
    return kind == "ide" or (kind == "fdc" and not q35) or (kind == "sata" and q35 and index == "0")


def _needs_pci(element: Element) -> bool:
    kind, _ = kind_and_index(element)
    if kind == "pci":
        return element.get("model") not in _PCI_ROOTS
    return kind != "fdc" and element.get("model") != "none"


def _build(element: Element, command: Command) -> None:
    kind, index = kind_and_index(element)
    if is_chipset(element, q35=command.is_q35):
        return
    place = command.pci(element)
    model = str(element.get("model"))
    if kind == "usb" and model != "none":
        _build_usb(element, command)
    elif kind == "fdc":
        command.device("isa-fdc", id="fdc0")
    elif kind == "sata":
        command.device("ahci", id=f"sata{index}", **place)
    elif kind == "scsi":
        command.device(_SCSI_DRIVERS[model], id=f"scsi{index}", **place)
    elif kind == "virtio-serial":
        ports = element.get("ports")
        max_ports = None if ports is None else int(ports, 0)
        command.device("virtio-serial-pci", id=f"virtio-serial{index}", max_ports=max_ports, **place)
    elif kind == "pci":
        _build_bridge(element, command)


def _build_usb(element: Element, command: Command) -> None:
    """Append a USB controller; companions of an EHCI share its bus and have no id, as in libvirt."""
    driver = USB_DRIVERS[str(element.get("model"))]
    name = usb_name(kind_and_index(element)[1])
    ports = element.get("ports")
    place = command.pci(element)
    master = element.find("master")
    if master is not None:
        first_port = int(master.get("startport", "0"), 0)
        command.device(driver, masterbus=f"{name}.0", firstport=first_port, **place)
    elif "xhci" in driver and ports is not None:
        command.device(driver, id=name, p2=int(ports, 0), p3=int(ports, 0), **place)
    else:
        command.device(driver, id=name, **place)


def _build_bridge(element: Element, command: Command) -> None:
    index = kind_and_index(element)[1]
    model = str(element.get("model"))
    target = element.find("target")
    numbers = {} if target is None else attributes_of(target)
    place = command.pci(element)
    if model == "pci-bridge":
        chassis_nr = int(numbers.get("chassisNr", index), 0)
        command.device(_PCI_DRIVERS[model], chassis_nr=chassis_nr, id=f"pci.{index}", **place)
    elif model == "pcie-root-port":
        hotplug = None if "hotplug" not in numbers else numbers["hotplug"] == "on"
        port, chassis = int(numbers.get("port", index), 0), int(numbers.get("chassis", index), 0)
        command.device(
            _PCI_DRIVERS[model], port=port, chassis=chassis, id=f"pci.{index}", hotplug=hotplug, **place
        )
    else:
        command.device(_PCI_DRIVERS[model], id=f"pci.{index}", **place)


def _refuse(element: Element) -> Iterator[tuple[str, str]]:
    kind, index = kind_and_index(element)
    model = element.get("model")
    if model is not None and kind in _MODELS and model not in _MODELS[kind]:
        yield "/@model", f"model '{model}' of a {kind} controller is not supported"
    if kind in {"ide", "fdc"} and index != "0":
        yield "/@index", f"more than one {kind} controller is not supported"
    wanted = _PCI_DRIVERS.get(str(model))
    model_element = element.find("model")
    if model_element is not None and model_element.get("name") not in {None, wanted}:
        yield "/model/@name", f"a {model} made by '{model_element.get('name')}' is not supported"
    if element.get("ports") is not None and not (kind == "virtio-serial" or "xhci" in str(model)):
        yield "/@ports", f"attribute 'ports' is not supported for this {kind} controller"


PART: Final = Part(rule=_RULE, build=_build, needs_pci=_needs_pci, refuse=_refuse)
