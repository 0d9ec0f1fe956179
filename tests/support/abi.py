"""A machine with one of everything, and every single change of it: what the comparison of definitions is tried with.

``tests/data/abi/differences.txt`` has what the comparison says of each changed value, one line each, for a person to
read; `regenerate` writes it. tests/peers compares the same with what libvirt says.
"""

from __future__ import annotations

import copy
import re
from dataclasses import dataclass
from functools import cache, partial
from typing import TYPE_CHECKING, Final

from lxml import etree
from typing_extensions import override

from tests.support.golden import DATA
from virtsnapd.models.abi import differences
from virtsnapd.models.domain import DomainDefinition

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from virtsnap_protocol.errors import Problem

MACHINE: Final = (DATA / "abi" / "machine.xml").read_text()
EXPECTED: Final = DATA / "abi" / "differences.txt"
UUID: Final = "6695eb01-f6a4-8304-79aa-97f2502e1900"

_OPPOSITES: Final = {"yes": "no", "no": "yes", "on": "off", "off": "on", "enabled": "disabled"}
_OTHERS: Final = {
    "/@unit": "GiB",
    "/domain/@type": "qemu",
    "/domain/name": "other",
    "/domain/uuid": "6695eb01-f6a4-8304-79aa-97f2502e1901",
    "/domain/genid": "e9392370-2917-565e-692b-d057f46512d7",
    "sysinfo/@type": "fwcfg",
    "system/entry": "6695eb01-f6a4-8304-79aa-97f2502e1901",
    "os/type": "xen",
    "type/@arch": "i686",
    "type/@machine": "pc-i440fx-7.2",
    "loader/@type": "rom",
    "boot/@dev": "network",
    "smbios/@mode": "host",
    "hyperv/@mode": "passthrough",
    "dirty-ring/@size": "8192",
    "vendor_id/@value": "Other",
    "passthrough/@mode": "share_pt",
    "ioapic/@driver": "kvm",
    "msrs/@unknown": "fault",
    "cfpc/@value": "broken",
    "sbbc/@value": "broken",
    "ibs/@value": "fixed-ibs",
    "capabilities/@policy": "allow",
    "cpu/@mode": "host-model",
    "cpu/@match": "strict",
    "cpu/@check": "full",
    "cpu/model": "Skylake-Client",
    "cpu/vendor": "AMD",
    "model/@fallback": "forbid",
    "model/@vendor_id": "AuthenticAMD",
    "cache/@mode": "passthrough",
    "maxphysaddr/@mode": "passthrough",
    "feature/@policy": "force",
    "feature/@name": "aes",
    "cell/@cpus": "0",
    "clock/@offset": "utc",
    "clock/@basis": "localtime",
    "timer/@name": "armvtimer",
    "timer/@tickpolicy": "discard",
    "timer/@track": "wall",
    "timer/@mode": "emulate",
    "disk/@type": "volume",
    "disk/@device": "lun",
    "disk/driver/@type": "vdi",
    "disk/driver/@cache": "writeback",
    "disk/driver/@io": "threads",
    "disk/driver/@discard": "ignore",
    "driver/@error_policy": "report",
    "driver/@rerror_policy": "report",
    "disk/target/@dev": "sdz",
    "disk/target/@bus": "usb",
    "geometry/@trans": "none",
    "disk/wwn": "5000c50015ea71ab",
    "disk/vendor": "Maxtor",
    "address/@type": "ccw",
    "controller/@type": "fdc",
    "filesystem/@accessmode": "mapped",
    "filesystem/@model": "virtio-transitional",
    "filesystem/@multidevs": "warn",
    "filesystem/driver/@type": "handle",
    "interface/@type": "user",
    "mac/@address": "52:54:00:11:22:34",
    "interface/model/@type": "e1000",
    "interface/driver/@name": "qemu",
    "driver/@txmode": "timer",
    "link/@state": "down",
    "smartcard/@mode": "host",
    "smartcard/@type": "pty",
    "serial/@type": "file",
    "console/@type": "file",
    "parallel/@type": "file",
    "channel/@type": "udp",
    "serial/target/@type": "pci-serial",
    "target/model/@name": "pci-serial",
    "console/target/@type": "sclp",
    "channel/target/@type": "xen",
    "target/@address": "10.0.2.2",
    "input/@type": "keyboard",
    "input/@bus": "xen",
    "input/@model": "virtio-transitional",
    "tpm/@model": "tpm-crb",
    "tpm/backend/@type": "passthrough",
    "backend/@version": "1.2",
    "sound/@model": "ac97",
    "codec/@type": "duplex",
    "video/model/@type": "virtio",
    "hostdev/@mode": "capabilities",
    "hostdev/@type": "scsi_host",
    "hostdev/@model": "vfio-ccw",
    "hostdev/@sgio": "unfiltered",
    "redirdev/@bus": "pci",
    "redirdev/@type": "pty",
    "usbdev/@product": "0x1235",
    "usbdev/@version": "2.57",
    "hub/@type": "pci",
    "watchdog/@model": "ib700",
    "watchdog/@action": "pause",
    "memballoon/@model": "virtio-transitional",
    "rng/@model": "virtio-transitional",
    "rng/backend/@model": "builtin",
    "panic/@model": "hyperv",
    "shmem/@role": "master",
    "shmem/@name": "other",
    "shmem/model/@type": "ivshmem-plain",
    "memory/@model": "sgx-epc",
    "memory/@access": "private",
    "memory/uuid": "9066901e-c90a-46ad-8b55-c18868cf92af",
    "iommu/@model": "virtio",
    "vsock/@model": "virtio-transitional",
    "on_poweroff": "restart",
    "on_reboot": "destroy",
    "on_crash": "restart",
}
"""Another value of a word, by the end of its path; for numbers and switches another one is made."""


@dataclass(frozen=True, kw_only=True)
class Change:
    """One difference between two documents."""

    path: str
    """XPath of the element or attribute."""
    new: str | None
    """None: it is removed."""
    text: str
    """The changed document."""

    @override
    def __str__(self) -> str:
        return f"{self.path} {'removed' if self.new is None else self.new}"

    @property
    def place(self) -> str:
        """The path without positions."""
        return re.sub(r"\[\d+\]", "", self.path)


def _changed(change: Callable[[etree._Element], None], path: str) -> str:
    """Return the machine's document after `change` of the element at `path`."""
    root = copy.deepcopy(_machine())
    change(_only(root, path))
    return etree.tostring(root, encoding="unicode")


def _only(root: etree._Element, path: str) -> etree._Element:
    found = root.getroottree().xpath(path)
    assert isinstance(found, list)
    element = found[0]
    assert isinstance(element, etree._Element)
    return element


@cache
def changes() -> tuple[Change, ...]:
    """Return a change of every attribute and text."""
    return tuple(_changes())


def _changes() -> Iterator[Change]:
    for element, path in _elements():
        for name, old in ((str(key), str(value)) for key, value in element.attrib.items()):
            where = f"{path}/@{name}"
            new = another(where, old)
            yield Change(path=where, new=new, text=with_value(where, new))
        if element.text and not len(element):
            new = another(path, element.text)
            yield Change(path=path, new=new, text=with_value(path, new))


def with_value(path: str, value: str) -> str:
    """Return the machine's document with another value of an attribute, or another text."""
    return with_values({path: value})


def with_values(values: dict[str, str]) -> str:
    """Return the machine's document with several values changed, by their paths."""
    root = copy.deepcopy(_machine())
    for path, value in values.items():
        where, attribute, name = path.partition("/@")
        element = _only(root, where)
        if attribute:
            element.set(name, value)
        else:
            element.text = value
    return etree.tostring(root, encoding="unicode")


def removals() -> Iterator[Change]:
    """Yield the removal of every attribute and element."""
    for element, path in _elements():
        for name in map(str, element.attrib):
            text = _changed(partial(_drop, name=name), path)
            yield Change(path=f"{path}/@{name}", new=None, text=text)
        if path != "/domain":
            yield Change(path=path, new=None, text=_changed(_remove, path))


def _elements() -> Iterator[tuple[etree._Element, str]]:
    tree = _machine().getroottree()
    for element in _machine().iter():
        yield element, tree.getpath(element)


def another(path: str, old: str) -> str:
    """Return a value that can stand where `old` does."""
    bare = re.sub(r"\[\d+\]", "", path)
    found = [(len(end), new) for end, new in _OTHERS.items() if bare.endswith(end) and new != old]
    if found and not (bare.endswith("system/entry") and old != UUID):
        return max(found)[1]
    if old in _OPPOSITES:
        return _OPPOSITES[old]
    match = re.fullmatch(r"(0x)?([0-9a-fA-F]+)", old)
    if match and (match[1] or old.isdigit()):
        return f"0x{int(old, 16) + 1:0{len(match[2])}x}" if match[1] else str(int(old) + 1)
    return old + "x"


@cache
def _machine() -> etree._Element:
    return etree.fromstring(MACHINE, etree.XMLParser(remove_blank_text=True))


def _drop(element: etree._Element, *, name: str) -> None:
    del element.attrib[name]


def _remove(element: etree._Element) -> None:
    parent = element.getparent()
    assert parent is not None
    parent.remove(element)


@cache
def found(change: Change) -> tuple[Problem, ...]:
    """Return what the comparison finds.

    Raises:
        Error: The changed document is no definition.
    """
    return tuple(differences(source(), DomainDefinition.parse(change.text)))


@cache
def source() -> DomainDefinition:
    """Return the machine."""
    return DomainDefinition.parse(MACHINE)


def told() -> dict[str, str]:
    """Return what is found for each changed value: where (if elsewhere), both values, and the sentence."""
    lines = {}
    for change in changes():
        if problems := found(change):
            lines[str(change)] = "; ".join(
                f"{'' if p.path == change.path else p.path + ' '}{p.old} -> {p.new}: {p.message}"
                for p in problems
            )
    return lines


def expected() -> dict[str, str]:
    """Return what the file has."""
    return dict(line.split(" | ", 1) for line in EXPECTED.read_text().splitlines())


def regenerate() -> None:
    """Write the file."""
    EXPECTED.write_text("".join(f"{change} | {problems}\n" for change, problems in told().items()))
