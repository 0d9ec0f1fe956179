"""``make benchmarks``: all measurements in one run, printed beside libvirtd's and their targets."""

from __future__ import annotations

import argparse
import json
import os
import platform
import sqlite3
import subprocess
import sys
import tempfile
import time
import traceback
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from tests.benchmarks import calls, listing, metadata, starting
from tests.benchmarks.daemons import Libvirt, Ours, OursFailed, PeerFailed, libvirtd, virtsnapd
from tests.benchmarks.results import Row, format_table
from virtsnap_protocol.methods import METHODS

if TYPE_CHECKING:
    from collections.abc import Callable

NOT_YET = (
    "import a hierarchy of 1,000",
    "export a hierarchy of 1,000",
    "import of 10,000 with a ping beside it",
)
"""Targets of work that no method does yet; `hierarchy.import` ends this list."""


def main() -> int:
    """Run the benchmarks; return 1 when a peer or a measurement failed, whatever the figures."""
    options = _parser().parse_args()
    facts = machine()
    sys.stdout.write("".join(f"{name}: {value}\n" for name, value in facts.items()) + "\n")
    sections: dict[str, list[Row]] = {}
    failures: list[str] = []
    begin = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="vb-") as temporary:
        folder = Path(temporary)
        folder.chmod(0o711)  # libvirtd may run as another user
        try:
            with libvirtd(folder / "l") as peer, virtsnapd(folder / "o", ("test", "qemu")) as ours:
                _compare(ours, peer, sections, failures, quick=options.quick)
        except (OursFailed, PeerFailed, OSError) as error:
            failures.append(str(error))
        sizes = (1_000, 10_000) if options.quick else (1_000, 10_000, 100_000)
        repeat = 1 if options.quick else 3
        _section(
            "Start and memory", lambda: starting.measure(folder, sizes, repeat=repeat), sections, failures
        )
    _conclude(sections, failures, time.monotonic() - begin)
    if options.json:
        raw = {title: [asdict(row) | {"met": row.met} for row in rows] for title, rows in sections.items()}
        options.json.write_text(
            json.dumps({"machine": facts, "sections": raw, "failures": failures}, indent=1)
        )
    return 1 if failures else 0


def _compare(
    ours: Ours, peer: Libvirt, sections: dict[str, list[Row]], failures: list[str], *, quick: bool
) -> None:
    count, rounds = (200, 3) if quick else (300, 15)  # many short turns: both meet the same weather
    _section(
        "Small calls, one client, one at a time",
        lambda: calls.measure_latency(ours, peer, rounds=rounds, count=count),
        sections,
        failures,
    )
    _section(
        "Small calls a second",
        lambda: calls.measure_throughput(
            ours, peer, windows=20 if quick else 100, seconds=0.2 if quick else 0.5
        ),
        sections,
        failures,
    )
    try:
        known = metadata.define(ours, peer)
    except Exception:  # noqa: BLE001 - reported, and the rest goes on
        failures.append(traceback.format_exc(limit=-3))
        return
    many = 160 if quick else 800
    _section(
        "Redefining, durable",
        lambda: metadata.measure_redefine(ours, peer, known, count=many),
        sections,
        failures,
    )
    _section(
        "A hierarchy",
        lambda: metadata.measure_reading(ours, peer, known, count=200 if quick else 1000),
        sections,
        failures,
    )
    _section(
        "A long hierarchy",
        lambda: listing.measure(ours, peer, known, count=1000 if quick else 10_000),
        sections,
        failures,
    )


def _section(
    title: str, measure: Callable[[], list[Row]], sections: dict[str, list[Row]], failures: list[str]
) -> None:
    """Measure and print one part; its failure is reported and does not end the run."""
    try:
        sections[title] = measure()
    except Exception:  # noqa: BLE001 - whatever it is: printed, and the exit status says so
        failures.append(f"{title}: {traceback.format_exc(limit=-3)}")
        sys.stdout.write(f"{title}: FAILED\n\n")
    else:
        sys.stdout.write(format_table(title, sections[title]) + "\n")
    sys.stdout.flush()


def _conclude(sections: dict[str, list[Row]], failures: list[str], seconds: float) -> None:
    judged = [row for rows in sections.values() for row in rows if row.met is not None]
    missed = [row for row in judged if not row.met]
    sys.stdout.write(f"{len(judged) - len(missed)} of {len(judged)} targets met, in {seconds:.0f} s.\n")
    sys.stdout.write("".join(f"  not met: {row.what} ({row.target})\n" for row in missed))
    if not any(method.name == "hierarchy.import" for method in METHODS):
        sys.stdout.write("".join(f"  no method yet: {what}\n" for what in NOT_YET))
    for failure in failures:
        sys.stderr.write(f"FAILED: {failure}\n")


def machine() -> dict[str, str]:
    """Return what the figures depend on."""
    model = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        ),
        platform.machine(),
    )
    libraries = ", ".join(f"{name} {version(name)}" for name in ("trio", "msgspec", "lxml"))
    return {
        "machine": f"{os.cpu_count()} x {model}, Linux {platform.release()}",
        "load": " ".join(f"{load:.2f}" for load in os.getloadavg()),
        "virtsnapd": f"Python {platform.python_version()}, {libraries}, SQLite {sqlite3.sqlite_version}",
        "libvirtd": _first_line("libvirtd", "--version")
        + ", driven from "
        + _first_line("/usr/bin/python3", "-V"),
        "folder": tempfile.gettempdir(),
    }


def _first_line(*command: str) -> str:
    try:
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()
    except OSError:
        return f"{command[0]} is missing"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    parser.add_argument("--json", metavar="FILE", type=Path, help="write the figures there")
    parser.add_argument("--quick", action="store_true", help="fewer repetitions: to see that it works")
    return parser


if __name__ == "__main__":
    sys.exit(main())
