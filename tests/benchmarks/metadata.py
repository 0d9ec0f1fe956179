"""Snapshots' metadata: redefining it durably, formatting it, forgetting it."""

from __future__ import annotations

import statistics
import threading
import time
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from tests.benchmarks.results import Row
from virtsnap.blocking import connect

if TYPE_CHECKING:
    from tests.benchmarks.daemons import Libvirt, Ours

CLIENTS: Final = 16
ONE_AT_A_TIME_GOAL: Final = 1.0
TOGETHER_GOAL: Final = 3.0

_DOMAIN: Final = """<domain type='qemu'>
  <name>{name}</name>
  <uuid>{uuid}</uuid>
  <memory unit='MiB'>1024</memory>
  <vcpu>2</vcpu>
  <os><type arch='x86_64' machine='pc'>hvm</type><boot dev='hd'/></os>
  <features><acpi/><apic/></features>
  <clock offset='utc'/>
  <devices>
    <emulator>/usr/bin/qemu-system-x86_64</emulator>
    <disk type='file' device='disk'>
      <driver name='qemu' type='qcow2'/>
      <source file='/nonexistent/{name}.qcow2'/>
      <target dev='vda' bus='virtio'/>
    </disk>
    <interface type='user'><model type='virtio'/></interface>
    <serial type='null'/>
    <memballoon model='virtio'/>
  </devices>
</domain>
"""
_SNAPSHOT: Final = """<domainsnapshot>
  <name>{name}</name>
  <description>before the update</description>
  <state>shutoff</state>{parent}
  <creationTime>1700000000</creationTime>
  <memory snapshot='no'/>
  <disks>
    <disk name='vda' snapshot='internal'/>
  </disks>
{domain}</domainsnapshot>
"""
Work = list[tuple[str, list[str]]]
"""For each client: its domain, and the documents that it redefines there one after the other."""


@dataclass(frozen=True, kw_only=True)
class Definitions:
    """Domains that both daemons keep, each daemon in its own words."""

    ours: dict[str, str]
    theirs: dict[str, str]


def definition(name: str) -> str:
    return _DOMAIN.format(name=name, uuid=uuid.uuid5(uuid.NAMESPACE_DNS, name))


def chain(domain_xml: str, prefix: str, count: int) -> list[str]:
    """Return documents of snapshots that follow one another."""
    documents = []
    for number in range(count):
        above = f"\n  <parent>\n    <name>{prefix}{number - 1}</name>\n  </parent>" if number else ""
        documents.append(_SNAPSHOT.format(name=f"{prefix}{number}", parent=above, domain=domain_xml))
    return documents


def define(ours: Ours, peer: Libvirt) -> Definitions:
    """Define the domains that the measurements need, on both sides."""
    names = ["alone", "shared", "listed", "long", *(f"domain{number}" for number in range(CLIENTS))]
    texts = [definition(name) for name in names]
    with connect(socket=ours.socket) as client:
        mine = {}
        for name, text in zip(names, texts, strict=True):
            client.define(text)
            mine[name] = client.domain(name).xml(secure=True, inactive=True).xml
    theirs = peer.ask("define", uri=peer.qemu_uri, xmls=texts)
    return Definitions(ours=mine, theirs=dict(zip(names, theirs, strict=True)))


def redefine(ours: Ours, work: Work) -> float:
    """Let each client redefine its documents, all clients at once; return the seconds it took."""
    failures: list[BaseException] = []
    ready = threading.Barrier(len(work) + 1)

    def run(domain: str, documents: list[str]) -> None:
        try:
            with connect(socket=ours.socket, timeout=60) as client:
                guest = client.domain(domain)
                ready.wait(20)
                for document in documents:
                    guest.redefine(document)
        except BaseException as error:  # noqa: BLE001 - reported by the thread that waits
            failures.append(error)
            ready.abort()

    workers = [threading.Thread(target=run, args=one) for one in work]
    for worker in workers:
        worker.start()
    ready.wait(20)
    begin = time.perf_counter()
    for worker in workers:
        worker.join()
    if failures:
        raise failures[0]
    return time.perf_counter() - begin


def measure_redefine(ours: Ours, peer: Libvirt, known: Definitions, *, count: int) -> list[Row]:
    """Compare durable redefining: by one client, by 16 on 16 domains, by 16 on one domain."""
    share = count // CLIENTS
    rounds = 3

    def work(xmls: dict[str, str], kind: str, turn: int) -> Work:
        if kind == "one":
            return [("alone", chain(xmls["alone"], f"{turn}-", count))]
        domains = [f"domain{c}" if kind == "many" else "shared" for c in range(CLIENTS)]
        return [(d, chain(xmls[d], f"{turn}-{c}-", share)) for c, d in enumerate(domains)]

    rows: list[Row] = []
    for kind, title, goal in (
        ("one", "redefine, one client", ONE_AT_A_TIME_GOAL),
        ("many", "redefine, 16 clients on 16 domains", TOGETHER_GOAL),
        ("shared", "redefine, 16 clients on one domain", TOGETHER_GOAL),
    ):
        mine, theirs = [], []
        for turn in range(rounds):
            mine.append(redefine(ours, work(known.ours, kind, turn)))
            theirs.append(peer.ask("redefine", uri=peer.qemu_uri, clients=work(known.theirs, kind, turn)))
        total = count if kind == "one" else share * CLIENTS
        rate = total / statistics.median(mine)
        alone = f"; {rate / (rows[0].theirs or 1):.1f} x its rate with one client" if rows else ""
        rows.append(
            Row(
                what=title,
                unit="snapshots/s",
                ours=rate,
                theirs=total / statistics.median(theirs),
                goal=goal,
                note=f"both durable; libvirtd: qemu:///session{alone}",
            )
        )
    return rows


def measure_reading(ours: Ours, peer: Libvirt, known: Definitions, *, count: int) -> list[Row]:
    """Compare what is done with a hierarchy of `count` snapshots: dump them, forget them from the leaf up."""
    memory = -ours.memory(), -peer.memory()
    redefine(ours, [("listed", chain(known.ours["listed"], "s", count))])
    peer.ask("redefine", uri=peer.qemu_uri, clients=[("listed", chain(known.theirs["listed"], "s", count))])
    memory = memory[0] + ours.memory(), memory[1] + peer.memory()
    at = {"uri": peer.qemu_uri, "domain": "listed"}
    names = [f"s{number}" for number in reversed(range(count))]
    with connect(socket=ours.socket) as client:
        guest = client.domain("listed")
        dumps = []
        for _ in range(3):
            begin = time.perf_counter()
            for one in guest.snapshots().snapshots:
                guest.snapshot(one.name).xml()
            dumps.append(time.perf_counter() - begin)
        begin = time.perf_counter()
        for name in names:
            guest.snapshot(name).delete(metadata_only=True)
        forgetting = time.perf_counter() - begin
    their_dumps = [peer.ask("dump_snapshots", **at) for _ in range(3)]
    their_forgetting = peer.ask("delete_snapshots", **at, names=names)
    return [
        Row(
            what=f"format {count:,}, one call each",
            unit="snapshots/s",
            ours=count / statistics.median(dumps),
            theirs=count / statistics.median(their_dumps),
        ),
        Row(
            what=f"forget {count:,}, one call each",
            unit="snapshots/s",
            ours=count / forgetting,
            theirs=count / their_forgetting,
            note="ours is durable; libvirtd unlinks without a flush",
        ),
        Row(
            what=f"memory that {count:,} more took",
            unit="MiB",
            ours=memory[0] / 2**20,
            theirs=memory[1] / 2**20,
        ),
    ]
