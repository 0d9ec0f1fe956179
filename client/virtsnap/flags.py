"""Flags as words of the protocol, also given as libvirt's integers (enumerations of libvirt-domain.h)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, TypeVar, cast

from virtsnap_protocol.errors import InvalidFlags

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from virtsnap_protocol.method import Method
    from virtsnap_protocol.methods import domain, save, snapshot

W = TypeVar("W", bound=str)

DOMAIN_LIST: Final[Mapping[domain.ListFlag, int]] = {
    "active": 1 << 0,
    "inactive": 1 << 1,
    "persistent": 1 << 2,
    "transient": 1 << 3,
    "managed-save": 1 << 8,
    "no-managed-save": 1 << 9,
    "has-snapshot": 1 << 12,
    "no-snapshot": 1 << 13,
}
DOMAIN_DEFINE: Final[Mapping[domain.DefineFlag, int]] = {"validate": 1 << 0}
DOMAIN_CREATE: Final[Mapping[domain.CreateFlag, int]] = {"paused": 1 << 0, "validate": 1 << 4}
DOMAIN_START: Final[Mapping[domain.StartFlag, int]] = {
    "paused": 1 << 0,
    "bypass-cache": 1 << 2,
    "force-boot": 1 << 3,
}
DOMAIN_UNDEFINE: Final[Mapping[domain.UndefineFlag, int]] = {
    "managed-save": 1 << 0,
    "snapshots-metadata": 1 << 1,
    "nvram": 1 << 2,
    "keep-nvram": 1 << 3,
    "checkpoints-metadata": 1 << 4,
    "tpm": 1 << 5,
    "keep-tpm": 1 << 6,
}
DOMAIN_DISKS: Final[Mapping[domain.DisksFlag, int]] = {"inactive": 1 << 1}
DOMAIN_SAVE: Final[Mapping[save.SaveFlag, int]] = {
    "bypass-cache": 1 << 0,
    "running": 1 << 1,
    "paused": 1 << 2,
}
DOMAIN_XML: Final[Mapping[domain.XmlFlag, int]] = {"secure": 1 << 0, "inactive": 1 << 1}
SNAPSHOT_CREATE: Final[Mapping[snapshot.CreateFlag, int]] = {
    "redefine": 1 << 0,
    "current": 1 << 1,
    "no-metadata": 1 << 2,
    "halt": 1 << 3,
    "disk-only": 1 << 4,
    "reuse-ext": 1 << 5,
    "quiesce": 1 << 6,
    "atomic": 1 << 7,
    "live": 1 << 8,
    "validate": 1 << 9,
}
_SNAPSHOT_FILTERS: Final[Mapping[snapshot.ListFlag, int]] = {
    "metadata": 1 << 1,
    "leaves": 1 << 2,
    "no-leaves": 1 << 3,
    "no-metadata": 1 << 4,
    "inactive": 1 << 5,
    "active": 1 << 6,
    "disk-only": 1 << 7,
    "internal": 1 << 8,
    "external": 1 << 9,
    "topological": 1 << 10,
}
SNAPSHOT_LIST: Final[Mapping[snapshot.ListFlag, int]] = {"roots": 1 << 0, **_SNAPSHOT_FILTERS}
"""Of virDomainListAllSnapshots."""
SNAPSHOT_CHILDREN: Final[Mapping[snapshot.ListFlag, int]] = {"descendants": 1 << 0, **_SNAPSHOT_FILTERS}
"""Of virDomainSnapshotListAllChildren, where the lowest bit means something else."""
SNAPSHOT_XML: Final[Mapping[snapshot.XmlFlag, int]] = {"secure": 1 << 0}
SNAPSHOT_REVERT: Final[Mapping[snapshot.RevertFlag, int]] = {
    "running": 1 << 0,
    "paused": 1 << 1,
    "force": 1 << 2,
    "reset-nvram": 1 << 3,
}
SNAPSHOT_DELETE: Final[Mapping[snapshot.DeleteFlag, int]] = {
    "children": 1 << 0,
    "metadata-only": 1 << 1,
    "children-only": 1 << 2,
}


def chosen(
    method: Method[Any, Any], bits: Mapping[W, int], given: int | Iterable[W], /, **named: bool
) -> list[W]:
    """Return the words for what was given as words, as libvirt's integer, and as keywords, in order of the bits.

    Words that are not among the bits are passed on: the daemon knows what it supports.

    Raises:
        InvalidFlags: The integer has bits that the method does not know (libvirt's virCheckFlags).
    """
    if isinstance(given, int):
        if unknown := given & ~sum(bits.values()):
            raise InvalidFlags(f"unsupported flags (0x{unknown:x}) in method {method.name}")
        words = [word for word, bit in bits.items() if given & bit]
    else:
        words = list(given)
    words += [cast("W", word.replace("_", "-")) for word, wanted in named.items() if wanted]
    return [word for word in bits if word in words] + [word for word in words if word not in bits]
