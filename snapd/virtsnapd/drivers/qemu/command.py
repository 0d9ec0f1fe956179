"""The command line of one guest while it is put together, and the ways to write QEMU's options safely."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from virtsnapd.drivers.qemu.elements import Rule
    from virtsnapd.models.document import Element

Value = str | int | bool | None | Mapping[str, object]
Properties = Mapping[str, Value]

Q35: Final = "pc-q35"
"""What the versioned names of PCI Express machines begin with."""


def escaped(value: str) -> str:
    """Double the commas of a value, as QEMU's `key=value,key=value` syntax wants it (qemu(1), "Options")."""
    return value.replace(",", ",,")


def option_text(first: str, **properties: str | int | None) -> str:
    """Return `first,key=value,...` with the values escaped; properties that are None are left out."""
    pairs = (f"{k.replace('_', '-')}={escaped(str(v))}" for k, v in properties.items() if v is not None)
    return ",".join([first, *pairs])


def json_text(properties: Properties) -> str:
    """Return compact JSON for an option that takes it."""
    return json.dumps(properties, separators=(",", ":"))


def present(properties: Properties) -> dict[str, Value]:
    """Return the properties that are not None."""
    return {key: value for key, value in properties.items() if value is not None}


class Command:
    """Collects the arguments of one guest; the parts of the definition add theirs in a fixed order."""

    def __init__(
        self, root: Element, *, accel: str, socket_dir: str | None, boot_order: Mapping[Element, int]
    ) -> None:
        self.root = root
        self.accel = accel
        self.socket_dir = socket_dir
        self.machine: list[str] = []
        """Properties of the machine, `key=value`, which several parts of a definition contribute to."""
        self.arguments: list[str] = []
        self._boot_order = boot_order
        self._counts: Counter[str] = Counter()

    @property
    def is_q35(self) -> bool:
        """Whether the machine has PCI Express at its root."""
        return is_q35(self.root)

    def add(self, *arguments: str) -> None:
        """Append arguments as they are."""
        self.arguments.extend(arguments)

    def device(self, driver: str, **properties: Value) -> None:
        """Append a `-device` in JSON, without the properties that are None."""
        self.add("-device", json_text({"driver": driver, **present(properties)}))

    def alias(self, element: Element, prefix: str) -> str:
        """Return the id of the device: the user's own alias (`ua-...`), else `prefix` and a running number."""
        number = self.next_id(prefix)
        return own_alias(element) or number

    def next_id(self, prefix: str) -> str:
        """Return `prefix` with the next number, from 0."""
        number = self._counts[prefix]
        self._counts[prefix] += 1
        return f"{prefix}{number}"

    def boot_index(self, element: Element) -> int | None:
        """Return the position of the device in the boot order, from 1."""
        return self._boot_order.get(element)

    def pci(self, element: Element) -> dict[str, Value]:
        """Return the properties that put a device at its pinned PCI address."""
        address = element.find("address[@type='pci']")
        if address is None:
            return {}
        bus, slot, function = (int(address.get(key, "0"), 0) for key in ("bus", "slot", "function"))
        properties: dict[str, Value] = {
            "bus": ("pcie.0" if self.is_q35 else "pci.0") if bus == 0 else f"pci.{bus}",
            "addr": f"{slot:#x}.{function:#x}" if function else f"{slot:#x}",
        }
        if address.get("multifunction") == "on":
            properties["multifunction"] = True
        return properties

    def usb(self, element: Element) -> dict[str, Value]:
        """Return the properties that plug a device into its pinned USB port."""
        address = element.find("address[@type='usb']")
        if address is None:
            return {"bus": "usb.0"}
        return {"bus": f"{usb_name(address.get('bus', '0'))}.0", "port": address.get("port")}


def is_q35(root: Element) -> bool:
    """Tell whether the machine of a definition has PCI Express at its root."""
    return (root.findtext("os/type") is not None) and machine_of(root).startswith((Q35, "q35"))


def machine_of(root: Element) -> str:
    """Return the machine type that a definition names; empty when it names none."""
    os_type = root.find("os/type")
    return "" if os_type is None else str(os_type.get("machine", ""))


def usb_name(index: str) -> str:
    """Return the id of the USB controller of this index, as libvirt spells it."""
    return "usb" if index == "0" else f"usb{index}"


def model_type(element: Element, default: str) -> str:
    """Return the type in the `<model>` of a device."""
    model = element.find("model")
    return default if model is None else str(model.get("type", default))


def own_alias(element: Element) -> str | None:
    """Return the alias that the user chose; libvirt honours only those that begin with `ua-`."""
    alias = element.find("alias")
    name = "" if alias is None else str(alias.get("name", ""))
    return name if name.startswith("ua-") else None


def never(_element: Element) -> bool:
    """Say no for every element."""
    return False


def no_arguments(_element: Element, _command: Command) -> None:
    """Add nothing: the element has no argument of its own."""


def no_remarks(_element: Element) -> Iterable[tuple[str, str]]:
    """Find nothing to refuse beyond what the rule says."""
    return ()


@dataclass(frozen=True, kw_only=True)
class Part:
    """One kind of element: what of it is honoured, and how; together, so that the two cannot drift."""

    rule: Rule
    build: Callable[[Element, Command], None] = no_arguments
    needs_pci: Callable[[Element], bool] = never
    """Whether the device sits on a PCI bus and so must be given an address."""
    refuse: Callable[[Element], Iterable[tuple[str, str]]] = no_remarks
    """Yield what a rule cannot say, as relative path and message: attributes that exclude each other, say."""
