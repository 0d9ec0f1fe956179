"""A long hierarchy: listing ten thousand snapshots, whole and filtered, by call and by command."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Final

from tests.benchmarks.metadata import Definitions, chain, redefine
from tests.benchmarks.results import Row
from virtsnap.blocking import connect

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.benchmarks.daemons import Libvirt, Ours

DOMAIN: Final = "long"
REPEAT: Final = 5
LEAVES: Final = 1 << 2
"""VIR_DOMAIN_SNAPSHOT_LIST_LEAVES"""


def measure(ours: Ours, peer: Libvirt, known: Definitions, *, count: int) -> list[Row]:
    """Compare listings of a domain with `count` snapshots."""
    redefine(ours, [(DOMAIN, chain(known.ours[DOMAIN], "s", count))])
    peer.ask("redefine", uri=peer.qemu_uri, clients=[(DOMAIN, chain(known.theirs[DOMAIN], "s", count))])
    our_command = [sys.executable, "-m", "virtsnap.cli", "--socket", str(ours.socket), "-c", "qemu:///system"]
    their_command = ["virsh", "-c", peer.qemu_uri]
    rows = []
    for what, flags, found in ((f"list {count:,}", 0, count), (f"list {count:,}, leaves only", LEAVES, 1)):
        theirs = peer.ask("list_snapshots", uri=peer.qemu_uri, domain=DOMAIN, repeat=REPEAT, flags=flags)
        rows.append(
            Row(
                what=f"{what}, one call",
                unit="ms",
                ours=statistics.median(_listings(ours, flags, found)) * 1000,
                theirs=statistics.median(theirs) * 1000,
                note="libvirtd's answer has the names only",
            )
        )
    for what, options in (("the table", ()), ("--tree", ("--tree",)), ("--name", ("--name",))):
        rows.append(
            Row(
                what=f"snapshot-list of {count:,}, {what}",
                unit="s",
                ours=_command([*our_command, "snapshot-list", DOMAIN, *options], count),
                theirs=_command([*their_command, "snapshot-list", DOMAIN, *options], count),
                note="the whole command, beside virsh's",
            )
        )
    return rows


def _listings(ours: Ours, flags: int, found: int) -> list[float]:
    times = []
    with connect(socket=ours.socket) as client:
        guest = client.domain(DOMAIN)
        for _ in range(REPEAT):
            begin = time.perf_counter()
            listed = guest.snapshots(flags=flags).snapshots
            times.append(time.perf_counter() - begin)
            if len(listed) != found:
                raise RuntimeError(f"{len(listed)} snapshots are listed instead of {found}")
    return times


def _command(command: Sequence[str], count: int) -> float:
    """Return the seconds of one run of a command that prints a line per snapshot at least."""
    begin = time.perf_counter()
    done = subprocess.run(command, capture_output=True, check=True, timeout=300)
    seconds = time.perf_counter() - begin
    lines = done.stdout.count(b"\n")
    if lines < count:
        raise RuntimeError(f"{' '.join(command)} printed {lines} lines")
    return seconds
