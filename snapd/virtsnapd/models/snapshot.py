"""A snapshot's record: what is remembered of it, read from and written as a <domainsnapshot> document."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TYPE_CHECKING, Final, NamedTuple, TypeAlias, get_args

import msgspec
from lxml import etree

from virtsnap_protocol.errors import ConfigUnsupported, InternalError, XmlDetail, XmlError
from virtsnap_protocol.methods.snapshot import Location, SnapshotState
from virtsnapd.models.disk import SnapshotMode, read_mode
from virtsnapd.models.document import (
    Element,
    escape,
    escape_attribute,
    format_fragment,
    indented,
    parse_document,
)
from virtsnapd.models.domain import DomainDefinition
from virtsnapd.models.grammar import check_grammar
from virtsnapd.models.snapshot_disk import SnapshotDisk, format_snapshot_disk, parse_snapshot_disk

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = [
    "OFFLINE_STATES",
    "ParsedSnapshot",
    "Snapshot",
    "SnapshotDisk",
    "check_snapshot_name",
    "format_snapshot",
    "parse_snapshot",
]

OFFLINE_STATES: Final[frozenset[SnapshotState | None]] = frozenset({"shutoff", "disk-snapshot"})
"""The states that hold no memory."""
MAX_NAME: Final = 255
"""Characters that a name may have: the protocol could not address a longer one."""
_STATES: Final[dict[str, SnapshotState]] = {state: state for state in get_args(SnapshotState)}
_NO_UUID: Final = "00000000-0000-0000-0000-000000000000"
_MAX_REMEMBERED: Final = 64 * 1024
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_INTEGER = re.compile(r"\s*[+-]?[0-9]{1,18}")
_NAMESPACE: Final = "urn:virtsnap:snapshot:1"
"""Of what libvirt's format has no element for; libvirt ignores it."""
_DATA: Final = f"{{{_NAMESPACE}}}data"
_Parts: TypeAlias = dict[str, Element]


class Snapshot(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """One record of a hierarchy, as the store keeps it: definitions by their digest, never embedded."""

    name: str
    description: str | None = None
    state: SnapshotState | None = None
    """The domain's state when the snapshot was taken; None while it has yet to be."""
    parent: str | None = None
    creation_time: int = 0
    """Seconds since the epoch."""
    memory: SnapshotMode | None = None
    """``no``, ``internal`` or ``external``; None while it has yet to be decided."""
    memory_file: str | None = None
    disks: tuple[SnapshotDisk, ...] = ()
    revert_disks: tuple[SnapshotDisk, ...] = ()
    """The overlays that a revert made to keep this snapshot's own images as they are."""
    domain: str | None = None
    """The digest of the definition at that time."""
    inactive_domain: str | None = None
    """The digest of the persistent definition, where it differed from the running one."""
    cookie: str | None = None
    """The hypervisor driver's <cookie>, verbatim."""
    data_name: str | None = None
    """The name that the data was saved under, where that is not the record's own: see `tag`."""

    @property
    def tag(self) -> str:
        """The name under which a hypervisor finds the data: it outlives every renaming of the record."""
        return self.data_name or self.name

    @property
    def location(self) -> Location:
        """``external`` when memory or any disk is (virDomainSnapshotDefIsExternal)."""
        if self.memory == "external":
            return "external"
        # lists ask this of every snapshot: a generator would cost more than the disks
        for disk in self.disks:
            if disk.snapshot == "external":
                return "external"
        return "internal"

    @property
    def offline(self) -> bool:
        """Whether the state says that no memory was saved."""
        return self.state in OFFLINE_STATES


class ParsedSnapshot(NamedTuple):
    """A record with the definitions that its document held."""

    snapshot: Snapshot
    domain: DomainDefinition | None = None
    inactive_domain: DomainDefinition | None = None


def check_snapshot_name(name: str) -> None:
    """Refuse names that could not be files of a folder, as qemuSnapshotCreateXML does.

    Raises: XmlDetail.
    """
    if "/" in name:
        raise XmlDetail(f"invalid snapshot name '{name}': name can't contain '/'", snapshot=name)
    if name.startswith("."):
        raise XmlDetail(f"invalid snapshot name '{name}': name can't start with '.'", snapshot=name)


def parse_snapshot(
    text: str,
    *,
    redefine: bool,
    offline: bool,
    validate: bool,
    now: int,
    unique_name: Callable[[str], str],
) -> ParsedSnapshot:
    """Read a <domainsnapshot> document from a stranger; refuse in virDomainSnapshotDefParse's order.

    Without `redefine` it is a request: state, parent, time and definitions are not read, the time is `now`
    (seconds since the epoch), and a missing name is what `unique_name` makes of the time. `offline` says that
    there is no memory to save; with `redefine` the recorded state says so.

    Raises: XmlDetail, XmlError, XmlInvalidSchema, ConfigUnsupported, InternalError, InvalidArgument.
    """
    root = parse_document(text, "domain_snapshot")
    if root.tag != "domainsnapshot":
        raise XmlError(f"expecting root element of 'domainsnapshot', not '{root.tag}'")
    if validate:
        check_grammar(root)
    parts = _parts(root)
    name = _text(parts, "name")
    _check_characters(name)
    state: SnapshotState | None = None
    domain = inactive = None
    if redefine:
        if not name:
            raise XmlError("a redefined snapshot must have a name")
        created, state = _read_time(parts), _read_state(parts)
        offline = state in OFFLINE_STATES
        domain, inactive = _read_domain(parts), _read_inactive_domain(parts)
    else:
        created, name = now, name or unique_name(str(now))
    memory, memory_file = _read_memory(parts, redefine=redefine, offline=offline)
    snapshot = Snapshot(
        name=name,
        description=_text(parts, "description") or None,
        state=state,
        parent=root.findtext("parent/name") or None if redefine and "parent" in parts else None,
        creation_time=created,
        memory=memory,
        memory_file=memory_file,
        disks=_read_disks(parts, "disks", redefine=redefine),
        revert_disks=_read_disks(parts, "revertDisks", redefine=True) if redefine else (),
        domain=domain.digest if domain else None,
        inactive_domain=inactive.digest if inactive else None,
        cookie=None if offline else _read_cookie(parts),
        data_name=_read_data_name(parts) if redefine else None,
    )
    return ParsedSnapshot(snapshot, domain, inactive)


def _check_characters(name: str) -> None:
    if _CONTROL.search(name):
        raise XmlDetail(f"invalid snapshot name {name[:32]!r}: name can't contain control characters")
    if len(name) > MAX_NAME:
        raise XmlDetail(
            f"invalid snapshot name '{name[:32]}...': name can't have more than {MAX_NAME} characters"
        )


def _parts(root: Element) -> _Parts:
    """Return the first child of each name: one walk costs what a single search by path does."""
    parts: _Parts = {}
    for child in root:
        parts.setdefault(child.tag, child)
    return parts


def _text(parts: _Parts, tag: str) -> str:
    element = parts.get(tag)
    return "" if element is None else element.text or ""


def _read_time(parts: _Parts) -> int:
    text = _text(parts, "creationTime")
    if not _INTEGER.fullmatch(text):
        raise InternalError("missing creationTime from existing snapshot")
    return int(text)


def _read_state(parts: _Parts) -> SnapshotState:
    text = _text(parts, "state")
    if not text:
        # without it the memory's default could not be told
        raise XmlError("missing state from existing snapshot")
    if text == "nostate" or text not in _STATES:
        raise ConfigUnsupported(f"Invalid state '{text}' in domain snapshot XML")
    return _STATES[text]


def _read_domain(parts: _Parts) -> DomainDefinition | None:
    """Return the embedded definition; before libvirt 0.9.5 there was only a UUID, which counts as none."""
    element = parts.get("domain")
    if element is None or element.get("type") is None:
        return None
    return _definition(element)


def _read_inactive_domain(parts: _Parts) -> DomainDefinition | None:
    element = parts.get("inactiveDomain")
    return None if element is None else _definition(element)


def _definition(element: Element) -> DomainDefinition:
    """Read an embedded definition; the snapshots of a hierarchy mostly have the same one."""
    text = etree.tostring(element, encoding="unicode", with_tail=False)
    return _remembered(text) if len(text) <= _MAX_REMEMBERED else _read_definition(text)


@lru_cache(maxsize=32)
def _remembered(text: str) -> DomainDefinition:
    return _read_definition(text)


def _read_definition(text: str) -> DomainDefinition:
    root = parse_document(text, "domain_snapshot")
    # a definition without a UUID is not this domain's: redefining refuses it by the UUID that no domain has
    return DomainDefinition.from_element(root, new_uuid=lambda: _NO_UUID)


def _read_memory(parts: _Parts, *, redefine: bool, offline: bool) -> tuple[SnapshotMode | None, str | None]:
    element = parts.get("memory")
    mode = None if element is None else read_mode(element, "memory")
    file = None if element is None else element.get("file")
    if mode == "manual":
        raise XmlError("'manual' memory snapshot mode not supported")
    if mode is None and file is not None:
        mode = "external"
    elif mode is None and redefine:
        mode = "no" if offline else "internal"
    if file is not None and mode != "external":
        raise XmlError(f"memory filename '{file}' requires external snapshot")
    if mode == "external" and file is None:
        raise XmlError("external memory snapshots require a filename")
    if offline and mode not in {None, "no"}:
        raise XmlError("memory state cannot be saved with offline or disk-only snapshot")
    if file is not None and not file.startswith("/"):
        raise XmlError(f"memory snapshot file path ({file}) must be absolute")
    return mode, file


def _read_disks(parts: _Parts, tag: str, *, redefine: bool) -> tuple[SnapshotDisk, ...]:
    """Read the entries of <disks> or <revertDisks>: every child counts, whatever it is called."""
    parent = parts.get(tag)
    return () if parent is None else tuple(parse_snapshot_disk(child, redefine=redefine) for child in parent)


def _read_cookie(parts: _Parts) -> str | None:
    element = parts.get("cookie")
    return None if element is None else format_fragment(element)


def _read_data_name(parts: _Parts) -> str | None:
    element = parts.get(_DATA)
    if element is None:
        return None
    name = element.get("name", "")
    if not name:
        raise XmlError("missing name of the snapshot's data")
    _check_characters(name)
    return name


def format_snapshot(
    snapshot: Snapshot, *, domain: str | None, inactive_domain: str | None, uuid: str | None = None
) -> str:
    """Return the <domainsnapshot> document (virDomainSnapshotDefFormat), byte for byte as libvirt prints it.

    A renamed record ends with the name of its data, in an element that libvirt ignores.

    `domain` and `inactive_domain` are the definitions' formatted texts, with secrets or without; they are
    only moved to the right. Without a definition the domain's `uuid` stands in, as in libvirt's legacy
    records.
    """
    out = ["<domainsnapshot>\n", f"  <name>{escape(snapshot.name)}</name>\n"]
    if snapshot.description:
        out.append(f"  <description>{escape(snapshot.description)}</description>\n")
    if snapshot.state not in {None, "nostate"}:
        out.append(f"  <state>{snapshot.state}</state>\n")
    if snapshot.parent is not None:
        out.append(f"  <parent>\n    <name>{escape(snapshot.parent)}</name>\n  </parent>\n")
    if snapshot.creation_time:
        out.append(f"  <creationTime>{snapshot.creation_time}</creationTime>\n")
    if snapshot.memory is not None:
        file = "" if snapshot.memory_file is None else f" file='{escape_attribute(snapshot.memory_file)}'"
        out.append(f"  <memory snapshot='{snapshot.memory}'{file}/>\n")
    _format_disks(out, "disks", snapshot.disks)
    _format_disks(out, "revertDisks", snapshot.revert_disks)
    if domain is not None:
        out.append(indented(domain))
    elif uuid is not None:
        out.append(f"  <domain>\n    <uuid>{escape(uuid)}</uuid>\n  </domain>\n")
    if inactive_domain is not None:
        body = indented(inactive_domain).removeprefix("  <domain").removesuffix("</domain>\n")
        out.append(f"  <inactiveDomain{body}</inactiveDomain>\n")
    if snapshot.cookie is not None:
        out.append(indented(snapshot.cookie) + "\n")
    if snapshot.data_name is not None:
        name = escape_attribute(snapshot.data_name)
        out.append(f"  <virtsnap:data xmlns:virtsnap='{_NAMESPACE}' name='{name}'/>\n")
    out.append("</domainsnapshot>\n")
    return "".join(out)


def _format_disks(out: list[str], tag: str, disks: tuple[SnapshotDisk, ...]) -> None:
    if disks:
        out.append(f"  <{tag}>\n")
        for disk in disks:
            out.extend(format_snapshot_disk(disk))
        out.append(f"  </{tag}>\n")
