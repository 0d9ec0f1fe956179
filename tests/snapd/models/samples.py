"""The domain and the snapshots that the tests of the models speak of."""

from __future__ import annotations

import os
import stat
from typing import Final

import msgspec

from virtsnapd.models.domain import DomainDefinition
from virtsnapd.models.snapshot import ParsedSnapshot, Snapshot, format_snapshot, parse_snapshot

UUID: Final = "6695eb01-f6a4-8304-79aa-97f2502e193f"


def disk_xml(
    target: str = "vda", source: str | None = "/images/a.qcow2", attributes: str = "", inner: str = ""
) -> str:
    """Return a <disk> of a domain."""
    path = "" if source is None else f"<source file='{source}'/>"
    return f"<disk type='file' {attributes}>{inner}{path}<target dev='{target}'/></disk>"


def domain_xml(
    *disks: str, name: str = "web", uuid: str = UUID, extra: str = "", memory: str = "2048"
) -> str:
    """Return a <domain> with these disks, or with one."""
    return (
        f"<domain type='test'><name>{name}</name><uuid>{uuid}</uuid><memory unit='KiB'>{memory}</memory>"
        f"<vcpu>2</vcpu><os><type arch='x86_64'>hvm</type></os>{extra}"
        f"<devices>{''.join(disks or [disk_xml()])}</devices></domain>"
    )


def domain(*disks: str, name: str = "web", extra: str = "", memory: str = "2048") -> DomainDefinition:
    """Return a definition with these disks, or with one."""
    return DomainDefinition.parse(domain_xml(*disks, name=name, extra=extra, memory=memory))


def snapshot_xml(
    inner: str = "",
    *,
    name: str = "s1",
    state: str = "running",
    time: int = 1000,
    embedded: str | None = None,
) -> str:
    """Return a <domainsnapshot> that can be redefined."""
    body = domain_xml() if embedded is None else embedded
    return (
        f"<domainsnapshot><name>{name}</name><state>{state}</state><creationTime>{time}</creationTime>"
        f"{inner}{body}</domainsnapshot>"
    )


def read(
    text: str, *, redefine: bool = True, offline: bool = False, validate: bool = False, now: int = 1234
) -> ParsedSnapshot:
    """Parse a snapshot's document; a generated name is taken as it is."""
    return parse_snapshot(
        text, redefine=redefine, offline=offline, validate=validate, now=now, unique_name=lambda name: name
    )


def request(inner: str = "", *, offline: bool = False, validate: bool = False) -> Snapshot:
    """Parse a plain request for a snapshot."""
    text = f"<domainsnapshot>{inner}</domainsnapshot>"
    return read(text, redefine=False, offline=offline, validate=validate).snapshot


def dump(parsed: ParsedSnapshot) -> str:
    """Return the document of a parsed snapshot, with its secrets."""
    inactive = None if parsed.inactive_domain is None else parsed.inactive_domain.text
    text = None if parsed.domain is None else parsed.domain.text
    return format_snapshot(parsed.snapshot, domain=text, inactive_domain=inactive, uuid=UUID)


def record(name: str, parent: str | None = None, **changes: object) -> Snapshot:
    """Return a snapshot's record."""
    made = Snapshot(name=name, parent=parent, state="running", creation_time=1000, memory="internal")
    return msgspec.structs.replace(made, **changes)


def regular(_path: str) -> os.stat_result:
    """Stand in for `os.stat` where every file is regular."""
    return os.stat_result((stat.S_IFREG, 0, 0, 1, 0, 0, 0, 0, 0, 0))


def missing(path: str) -> os.stat_result:
    """Stand in for `os.stat` where there are no files."""
    raise FileNotFoundError(path)
