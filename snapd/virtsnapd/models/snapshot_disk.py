"""One <disk> of a snapshot's <disks> or <revertDisks>: reading, writing, and pointing it to another image."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from virtsnap_protocol.errors import ConfigUnsupported, InternalError, XmlError
from virtsnapd.models.disk import (
    NETWORK_PROTOCOLS,
    STORAGE_FORMATS,
    STORAGE_TYPES,
    SnapshotMode,
    invalid_attribute,
    path_attribute,
    read_mode,
    read_source,
)
from virtsnapd.models.document import (
    Element,
    escape_attribute,
    format_fragment,
    indented,
    parse_document,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

_UNSUPPORTED_TYPES: Final = frozenset({"volume", "dir"})


class SnapshotDisk(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """What a snapshot says of one disk."""

    name: str
    """The disk's target; before alignment also its source path."""
    snapshot: SnapshotMode | None = None
    """None until alignment decides."""
    type: str = "file"
    """The storage type of `source`."""
    source: str | None = None
    """Of an external snapshot: the image that was, or is to be, written on."""
    format: str | None = None
    """The image's format, as in <driver type=...>."""
    delete_in_progress: bool = False
    """An external delete of this disk was started and has not finished."""
    source_xml: str | None = None
    """<driver> and <source> as given, where they say more than `format` and `source`."""

    def with_source(self, source: str) -> SnapshotDisk:
        """Return this entry naming another image of the same type, with all else that <source> says."""
        source_xml = self.source_xml
        attribute = path_attribute(self.type)
        if source_xml is not None and attribute is not None:
            root = parse_document(f"<disk>{source_xml}</disk>", "domain_snapshot")
            element = root.find("source")
            if element is not None:
                element.set(attribute, source)
            source_xml = _fragments(root)
        return msgspec.structs.replace(self, source=source, source_xml=source_xml)


def parse_snapshot_disk(element: Element, *, redefine: bool) -> SnapshotDisk:
    """Read one entry (virDomainSnapshotDiskDefParseXML), in libvirt's order of refusals.

    Raises: InternalError, XmlError, ConfigUnsupported.
    """
    name = element.get("name")
    if name is None:
        raise InternalError("missing name from disk snapshot element")
    mode = read_mode(element, "disk")
    storage_type = element.get("type", "file")
    if storage_type not in STORAGE_TYPES:
        raise invalid_attribute("type", "disk", storage_type)
    if storage_type in _UNSUPPORTED_TYPES:
        raise XmlError(f"unsupported disk snapshot type '{storage_type}'")
    source_element = element.find("source")
    if storage_type == "network" and source_element is not None:
        _check_protocol(source_element)
    source = read_source(source_element, storage_type)
    driver = element.find("driver")
    image_format = driver.get("type") if driver is not None else None
    if image_format is not None and image_format not in STORAGE_FORMATS - {"none"}:
        raise ConfigUnsupported(f"unknown disk snapshot driver '{image_format}'")
    if source is not None and storage_type in {"file", "block"} and not source.startswith("/"):
        raise XmlError(f"disk snapshot image path '{source}' must be absolute")
    if mode is None and (source is not None or image_format is not None):
        mode = "external"
    return SnapshotDisk(
        name=name,
        snapshot=mode,
        type=storage_type,
        source=source,
        format=image_format,
        delete_in_progress=redefine and element.find("snapshotDeleteInProgress") is not None,
        source_xml=_fragments(element) if _says_more(source_element, driver, storage_type) else None,
    )


def format_snapshot_disk(disk: SnapshotDisk) -> Iterator[str]:
    """Yield the lines of one entry, at the depth where <disks> has them; none for an entry without a name."""
    if not disk.name:
        return
    head = f"    <disk name='{escape_attribute(disk.name)}'"
    if disk.snapshot is not None:
        head += f" snapshot='{disk.snapshot}'"
    if disk.source is not None or disk.format is not None or disk.source_xml is not None:
        head += f" type='{disk.type}'"
    children = list(_children(disk))
    if not children:
        yield head + "/>\n"
        return
    yield head + ">\n"
    yield from children
    yield "    </disk>\n"


def _children(disk: SnapshotDisk) -> Iterator[str]:
    if disk.delete_in_progress:
        yield "      <snapshotDeleteInProgress/>\n"
    if disk.source_xml is not None:
        yield indented(disk.source_xml, 3) + "\n"
        return
    if disk.format is not None:
        yield f"      <driver type='{escape_attribute(disk.format)}'/>\n"
    if disk.source is not None:
        yield f"      <source {path_attribute(disk.type) or 'path'}='{escape_attribute(disk.source)}'/>\n"


def _check_protocol(source: Element) -> None:
    protocol = source.get("protocol")
    if protocol is None:
        raise XmlError("Missing required attribute 'protocol' in element 'source'")
    if protocol not in NETWORK_PROTOCOLS:
        raise invalid_attribute("protocol", "source", protocol)


def _says_more(source: Element | None, driver: Element | None, storage_type: str) -> bool:
    known = {path_attribute(storage_type) or "path"}
    return (source is not None and (len(source) > 0 or not known.issuperset(source.attrib))) or (
        driver is not None and (len(driver) > 0 or not {"type"}.issuperset(driver.attrib))
    )


def _fragments(disk: Element) -> str:
    return "\n".join(
        format_fragment(child) for tag in ("driver", "source") if (child := disk.find(tag)) is not None
    )
