"""Whose disk a file is: what may be written anew must not be what a guest has its data on."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

import trio

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from virtsnapd.domains import DomainTable


@dataclass(frozen=True, kw_only=True)
class DiskOwner:
    """A disk of a domain."""

    domain: str
    target: str


async def find_disk_owner(domains: DomainTable, path: Path) -> DiskOwner | None:
    """Return the disk of a domain, running or not, that is the file `path`, under whatever name.

    Known are the images that definitions name, not the backing files behind them.
    """
    if not await trio.to_thread.run_sync(os.path.exists, path):
        return None
    owners: dict[str, DiskOwner] = {}
    for domain in domains:
        await trio.lowlevel.checkpoint()  # a definition may have to be parsed
        for digest in filter(None, {domain.row.live, domain.row.definition}):
            for disk in domain.definitions.parsed(digest).disks:
                if disk.source is not None and disk.source.startswith("/"):
                    owners.setdefault(disk.source, DiskOwner(domain=domain.name, target=disk.target))
    return await trio.to_thread.run_sync(_same_file, path, owners)


def _same_file(path: Path, owners: Mapping[str, DiskOwner]) -> DiskOwner | None:
    try:
        wanted = path.stat()
    except OSError:
        return None
    for source, owner in owners.items():
        try:
            found = os.stat(source)  # noqa: PTH116 - of thousands
        except OSError:
            continue
        if os.path.samestat(found, wanted):
            return owner
    return None
