"""What every device may have: its place on a bus, its ACPI index, and how it speaks virtio.

virDomainDeviceInfoCheckABIStability and virDomainVirtioOptionsCheckABIStability. Of USB ports, of the SCSI target
and the like libvirt compares no more than the type of the address; a guest sees those too, so they are compared.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from virtsnap_protocol.errors import Problem
from virtsnapd.models.abi.rule import Field, Rule
from virtsnapd.models.abi.values import number, number_or_text

if TYPE_CHECKING:
    from collections.abc import Iterator

    from virtsnapd.models.document import Element


_OPEN: Final = {"usb": "port", "spapr-vio": "reg", "ccw": "devno"}
"""The attribute without which an address names no place: the hypervisor finds one."""


def _is_open(address: Element) -> bool:
    missing = _OPEN.get(address.get("type", ""))
    return missing is not None and address.get(missing) is None


def _place(kind: str, attributes: str, words: str, form: str | None = None) -> Rule:
    """Return the rule of `attributes` of the addresses of one type; of different types another rule speaks.

    `form` is the format of their numbers: colons between them when not given.
    """
    names = attributes.split()
    layout = form or ":".join("{}" for _ in names)

    def read(element: Element) -> str | None:
        address = next(element.iterchildren("address"), None)
        if address is None or address.get("type") != kind or _is_open(address):
            return None
        values = [number_or_text(address.get(name, "0")) for name in names]
        if all(isinstance(value, int) for value in values):
            return layout.format(*values)
        return ":".join(map(str, values))

    path = f"address/@{names[0]}" if len(names) == 1 else "address"
    return Field(path=path, read=read, both=True, words=words)


def _address(kind: str, attributes: str, name: str | None = None) -> Rule:
    words = f"Target device {name or kind} address {{new}} does not match source {{old}}"
    return _place(kind, attributes, words)


ADDRESS: Final[tuple[Rule, ...]] = (
    Field(
        path="address/@type",
        words="Target device address type {new} does not match source {old}",
        absent="none",
    ),
    _place(
        "pci",
        "domain bus slot function",
        # the missing space is libvirt's
        "Target device PCI address {new}does not match source {old}",
        "{:04x}:{:02x}:{:02x}.{}",
    ),
    _address("drive", "controller bus unit"),
    _place("drive", "target", "Target device drive target {new} does not match source {old}"),
    _address("virtio-serial", "controller bus port", "virtio serial"),
    _address("ccid", "controller slot"),
    _address("isa", "iobase irq"),
    _place("dimm", "slot", "Target device dimm slot {new} does not match source {old}"),
    _place("dimm", "base", "Target device dimm base address '{new}' does not match source '{old}'", "{:x}"),
    _address("usb", "bus port"),
    _address("spapr-vio", "reg"),
    _address("ccw", "cssid ssid devno"),
    Field(
        path="acpi/@index",
        form=number,
        absent="0",
        words="Target ACPI index '{new}' does not match source '{old}'",
    ),
)


def switch(path: str, words: str) -> Rule:
    """Return the rule of an attribute that is ``on``, ``off`` or left to the hypervisor."""
    return Field(path=path, words=words, absent="default")


_OPTIONS: Final = ("iommu", "ats", "packed", "page_per_vq")


class _Virtio:
    """How a device speaks virtio; without a <driver> at all libvirt has one sentence for everything in it."""

    options = tuple(
        switch(f"@{name}", f"Target device {name} option '{{new}}' does not match source '{{old}}'")
        for name in _OPTIONS
    )

    def differences(
        self, old: Element | None, new: Element | None, at: str, number: int = 0
    ) -> Iterator[Problem]:
        """Yield the options that differ."""
        was, now = (None if element is None else element.find("driver") for element in (old, new))
        if was is not None and now is not None:
            for option in self.options:
                yield from option.differences(was, now, f"{at}/driver", number)
        elif (mine := _said(was)) != (theirs := _said(now)):
            message = "Target device virtio options don't match the source"
            yield Problem(path=f"{at}/driver", message=message, old=mine, new=theirs)


def _said(driver: Element | None) -> str | None:
    given = [] if driver is None else [f"{name}={driver.get(name)}" for name in _OPTIONS if driver.get(name)]
    return " ".join(given) or None


VIRTIO: Final[Rule] = _Virtio()
