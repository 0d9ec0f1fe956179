"""A domain's disks: what snapshots need to know of <disk>, and the vocabularies both documents share."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, Literal

import msgspec

from virtsnap_protocol.errors import ConfigUnsupported, XmlDetail, XmlError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from virtsnapd.models.document import Element

SnapshotMode = Literal["no", "internal", "external", "manual"]
"""virDomainSnapshotLocation without `default`, which no document may say."""


def words(text: str) -> frozenset[str]:
    """Return a vocabulary from its words, separated by white space."""
    return frozenset(text.split())


SNAPSHOT_MODES: Final[dict[str, SnapshotMode]] = {
    "no": "no",
    "internal": "internal",
    "external": "external",
    "manual": "manual",
}
STORAGE_TYPES: Final = frozenset(
    {"file", "block", "dir", "network", "volume", "nvme", "vhostuser", "vhostvdpa"}
)
"""virStorageType without `none`."""
STORAGE_FORMATS: Final = words(
    "none raw dir bochs cloop dmg iso vpc vdi fat vhd ploop cow qcow qcow2 qed vmdk"
)
"""virStorageFileFormat."""
NETWORK_PROTOCOLS: Final = words("nbd rbd sheepdog gluster iscsi http https ftp ftps tftp ssh vxhs nfs")
"""virStorageNetProtocol without `none`."""

_DEVICES: Final = frozenset({"disk", "cdrom", "floppy", "lun"})
_BUSES: Final = frozenset({"ide", "fdc", "scsi", "virtio", "xen", "usb", "uml", "sata", "sd", "nvme"})
_BUS_OF_PREFIX: Final = {"fd": "fdc", "hd": "ide", "sd": "scsi", "vd": "virtio", "xvd": "xen", "ubd": "uml"}
_TARGET = re.compile(r"(fd|hd|sd|vd|xvd|ubd)[a-z]+[0-9]*")
_PATH_ATTRIBUTE: Final = {"file": "file", "block": "dev", "dir": "dir", "network": "name", "vhostvdpa": "dev"}


class Disk(msgspec.Struct, frozen=True, kw_only=True):
    """One <disk> of a domain."""

    target: str
    bus: str
    device: str = "disk"
    """``disk``, ``cdrom``, ``floppy`` or ``lun``."""
    type: str = "file"
    """The storage type: ``file``, ``block``, ``network``, ..."""
    source: str | None = None
    """The path, device, or image name; None for an empty drive."""
    format: str | None = None
    """<driver type=...>; None when the document does not say."""
    readonly: bool = False
    shareable: bool = False
    snapshot: SnapshotMode | None = None
    """What the document wants snapshots to do with this disk, or ``no`` for what cannot be written."""

    @property
    def empty(self) -> bool:
        """Whether the drive holds no medium."""
        return self.source is None


def path_attribute(storage_type: str) -> str | None:
    """Return the attribute of <source> that names the image; None where no single one does."""
    return _PATH_ATTRIBUTE.get(storage_type)


def read_source(element: Element | None, storage_type: str) -> str | None:
    """Return what a <source> element names, or None when it is absent or names nothing."""
    if element is None:
        return None
    attribute = _PATH_ATTRIBUTE.get(storage_type)
    if storage_type == "network":
        return element.get("name") or element.get("protocol")
    if attribute is not None:
        return element.get(attribute) or None
    if storage_type == "volume":
        return f"{element.get('pool', '')}/{element.get('volume', '')}"
    return element.get("path") or element.get("type") or None


def invalid_attribute(attribute: str, element: str, value: str) -> XmlError:
    """Return libvirt's refusal of an attribute's value (virXMLPropEnum)."""
    return XmlError(f"Invalid value for attribute '{attribute}' in element '{element}': '{value}'.")


def read_mode(element: Element, name: str) -> SnapshotMode | None:
    """Return the `snapshot` attribute of an element called `name` in errors; None when it is absent.

    Raises: XmlError.
    """
    value = element.get("snapshot")
    if value is None:
        return None
    if value not in SNAPSHOT_MODES:
        raise invalid_attribute("snapshot", name, value)
    return SNAPSHOT_MODES[value]


def parse_disk(element: Element) -> Disk:
    """Read one <disk> of a domain (virDomainDiskDefParseXML), with libvirt's defaults.

    Raises: XmlError, XmlDetail, ConfigUnsupported.
    """
    storage_type = _word(element, "type", "file", STORAGE_TYPES, "disk")
    device = _word(element, "device", "disk", _DEVICES, "disk")
    mode = read_mode(element, "disk")
    source = read_source(element.find("source"), storage_type)
    target = element.find("target")
    name = target.get("dev") if target is not None else None
    if target is None or not name:
        raise XmlDetail("missing target information for device" + (f" {source}" if source else ""))
    if source is None and device not in {"cdrom", "floppy"}:
        raise XmlDetail(f"missing source information for device {name}")
    readonly = device == "cdrom" or element.find("readonly") is not None
    return Disk(
        target=name,
        bus=_bus(element, target, name, device),
        device=device,
        type=storage_type,
        source=source,
        format=_format(element),
        readonly=readonly,
        shareable=element.find("shareable") is not None,
        snapshot=mode or ("no" if readonly or storage_type == "vhostuser" else None),
    )


def parse_disks(elements: Iterable[Element]) -> tuple[Disk, ...]:
    """Read all disks of a domain; two with one target are refused (virDomainDefCheckDuplicateDiskInfo).

    Raises: XmlError, XmlDetail, ConfigUnsupported.
    """
    disks: dict[str, Disk] = {}
    for element in elements:
        disk = parse_disk(element)
        if (other := disks.get(disk.target)) is not None:
            raise XmlError(
                f"target '{disk.target}' duplicated for disk sources "
                f"'{other.source or '(null)'}' and '{disk.source or '(null)'}'"
            )
        disks[disk.target] = disk
    return tuple(disks.values())


def _word(element: Element, attribute: str, default: str, known: frozenset[str], name: str) -> str:
    value = element.get(attribute, default)
    if value not in known:
        raise invalid_attribute(attribute, name, value)
    return value


def _format(element: Element) -> str | None:
    driver = element.find("driver")
    value = driver.get("type") if driver is not None else None
    if value is not None and value not in STORAGE_FORMATS:
        raise ConfigUnsupported(f"unknown driver format value '{value}'")
    return value


def _bus(element: Element, target: Element, name: str, device: str) -> str:
    """Return the bus as given, else as libvirt infers it from the target's prefix."""
    bus = target.get("bus")
    known = _TARGET.fullmatch(name)
    if bus is not None and bus not in _BUSES:
        raise invalid_attribute("bus", "target", bus)
    if known is None and element.find("address") is None:
        raise XmlError(f"Unknown disk name '{name}' and no address specified")
    if bus is not None:
        return bus
    if device == "floppy":
        return "fdc"
    return _BUS_OF_PREFIX[known[1]] if known else "ide"
