"""Addresses on a guest's buses: which are honoured, and how the free ones are given out for good."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from virtsnap_protocol.errors import InternalError, XmlError
from virtsnapd.drivers.qemu.elements import NUMBER, ON_OFF, ZERO, Rule, matching, one_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from virtsnapd.models.document import Element

_ADDRESSES: Final = {
    "pci": {"domain": ZERO, "bus": NUMBER, "slot": NUMBER, "function": NUMBER, "multifunction": ON_OFF},
    "drive": {"controller": NUMBER, "bus": NUMBER, "target": NUMBER, "unit": NUMBER},
    "usb": {"bus": NUMBER, "port": matching(r"[1-9][0-9]?", "a port number")},
    "virtio-serial": {"controller": NUMBER, "bus": ZERO, "port": NUMBER},
    "isa": {"iobase": NUMBER},
}


def address_rule(*kinds: str) -> Rule:
    """Return the rule of an `<address>` that is of one of `kinds`."""
    attributes = {name: values for kind in kinds for name, values in _ADDRESSES[kind].items()}
    return Rule(attributes={"type": one_of(*kinds), **attributes}, required=("type",))


PCI_ADDRESS: Final = address_rule("pci")
ALIAS: Final = Rule(
    attributes={"name": matching(r"[A-Za-z][A-Za-z0-9._-]{0,120}", "an identifier")}, required=("name",)
)
BOOT: Final = Rule(
    attributes={"order": matching(r"[1-9][0-9]{0,3}", "a positive number")}, required=("order",)
)

SLOTS: Final = 32
FUNCTIONS: Final = 8
_BRIDGES: Final = {"pci-bridge", "pcie-to-pci-bridge", "dmi-to-pci-bridge"}


@dataclass(frozen=True, order=True)
class PciAddress:
    """A place on PCI domain 0."""

    bus: int
    slot: int
    function: int = 0

    @property
    def text(self) -> str:
        """The address as libvirt spells it."""
        return f"0000:{self.bus:02x}:{self.slot:02x}.{self.function:x}"


def pci_address(element: Element) -> PciAddress | None:
    """Return the PCI address that a device was given.

    Raises:
        XmlError: the numbers are no PCI address.

    """
    address = element.find("address[@type='pci']")
    if address is None or address.get("slot") is None:
        return None
    try:
        place = PciAddress(*(int(address.get(key, "0"), 0) for key in ("bus", "slot", "function")))
    except ValueError as error:
        raise XmlError(f"Cannot parse the PCI address of {describe(element)}: {error}") from None
    if not (0 <= place.bus < 256 and 0 <= place.slot < SLOTS and 0 <= place.function < FUNCTIONS):  # noqa: PLR2004 -- a PCI bus number has eight bits
        raise XmlError(f"Invalid PCI address {place.text} of {describe(element)}")
    return place


def describe(element: Element) -> str:
    """Return words that tell a reader which device is meant."""
    for child, attribute in (("target", "dev"), ("mac", "address")):
        found = element.find(child)
        if found is not None and found.get(attribute):
            return f"{element.tag} '{found.get(attribute)}'"
    kind = " ".join(str(element.get(key)) for key in ("type", "index", "model") if element.get(key))
    return f"{element.tag} '{kind}'" if kind else str(element.tag)


class PciSlots:
    """What occupies the PCI buses of one guest."""

    def __init__(self, *, q35: bool) -> None:
        self._owners: dict[PciAddress, str] = {}
        self._buses: dict[int, str] = {0: "pcie-root" if q35 else "pci-root"}
        self.video_slot: Final = 1 if q35 else 2
        """The slot of bus 0 that libvirt keeps for the primary video card, whether or not there is one."""
        for place, owner in _chipset(q35=q35):
            self._owners[place] = owner

    def add_bus(self, index: int, model: str) -> None:
        """Make the bus behind a bridge or port known."""
        self._buses[index] = model

    def claim(self, place: PciAddress, owner: str) -> None:
        """Take a given address.

        Raises:
            XmlError: another device has it (both are named), or no such place exists.

        """
        if place.bus not in self._buses:
            raise XmlError(
                f"PCI address {place.text} of {owner} is on a bus for which no controller is defined"
            )
        if place.slot not in _slots(self._buses[place.bus]):
            message = f"PCI address {place.text} of {owner} has a slot that a {self._buses[place.bus]} does not have"
            raise XmlError(message)
        if place in self._owners:
            raise XmlError(
                f"Attempted double use of PCI address {place.text} by {self._owners[place]} and {owner}"
            )
        self._owners[place] = owner

    def is_free(self, place: PciAddress) -> bool:
        """Tell whether nothing has this very address."""
        return place not in self._owners

    def next_slot(self, owner: str) -> PciAddress:
        """Take the lowest slot that is free in all its functions.

        Raises:
            InternalError: every slot is taken.

        """
        taken = {(0, self.video_slot), *((place.bus, place.slot) for place in self._owners)}
        for bus, model in sorted(self._buses.items()):
            for slot in _slots(model):
                if (bus, slot) not in taken:
                    place = PciAddress(bus, slot)
                    self._owners[place] = owner
                    return place
        raise InternalError(f"No more available PCI slots for {owner}")


def _slots(model: str) -> range:
    if model == "pcie-root-port":
        return range(1)
    # a bridge keeps its slot 0 for itself, and so does the host bridge of a root bus
    return range(1, SLOTS if model in _BRIDGES or model.endswith("root") else 1)


def _chipset(*, q35: bool) -> Iterator[tuple[PciAddress, str]]:
    """Yield what the machine itself puts on bus 0 and libvirt keeps free."""
    if q35:
        yield PciAddress(0, 0x1F, 0), "the ISA bridge of the chipset"
        yield PciAddress(0, 0x1F, 3), "the SMBus of the chipset"
    else:
        yield PciAddress(0, 1, 0), "the ISA bridge of the chipset"
        yield PciAddress(0, 1, 3), "the power management of the chipset"
