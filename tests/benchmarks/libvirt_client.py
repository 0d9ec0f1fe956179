"""The libvirt side of the benchmarks: runs under the system's Python, which alone has libvirt's binding.

One JSON object per line comes in (``{"do": name, ...arguments}``) and one goes out: ``{"value": ...}`` or
``{"error": text}``. Standard library and libvirt only; the interpreter is Debian's.
"""

from __future__ import annotations

import importlib
import json
import multiprocessing
import sys
import threading
import time
import traceback
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

libvirt: Any = importlib.import_module("libvirt")  # by name: the type checker's interpreter does not have it

REDEFINE = 1
METADATA_ONLY = 2

connections: dict[str, Any] = {}


def connection(uri: str) -> Any:  # noqa: ANN401 - libvirt's binding has no types
    """Return the one connection to a URI, opened when it is first needed."""
    if uri not in connections:
        connections[uri] = libvirt.open(uri)
    return connections[uri]


def small_calls(uri: str, domain: str) -> dict[str, Callable[[], object]]:
    host = connection(uri)
    guest = host.lookupByName(domain)
    return {"ping": host.getLibVersion, "info": guest.info, "current": guest.snapshotCurrent}


def version(uri: str) -> int:
    return int(connection(uri).getLibVersion())


def take_snapshot(uri: str, domain: str, xml: str) -> None:
    connection(uri).lookupByName(domain).snapshotCreateXML(xml, 0)


def latency(uri: str, domain: str, call: str, count: int) -> list[float]:
    """Return the seconds that each of `count` calls took, after a tenth as many that nobody measures."""
    function = small_calls(uri, domain)[call]
    for _ in range(count // 10):
        function()
    times = []
    for _ in range(count):
        begin = time.perf_counter()
        function()
        times.append(time.perf_counter() - begin)
    return times


def _calls_until(uri: str, call: str, domain: str, begin: float, end: float) -> int:
    host = libvirt.open(uri)
    guest = host.lookupByName(domain)
    function = {"ping": host.getLibVersion, "info": guest.info}[call]
    while time.monotonic() < begin:
        function()
    done = 0
    while time.monotonic() < end:
        function()
        done += 1
    host.close()
    return done


def _count_into(counts: Any, *arguments: Any) -> None:  # noqa: ANN401 - a queue of either kind
    counts.put(_calls_until(*arguments))


def throughput(
    uri: str, domain: str, call: str, connections: int, seconds: float, *, processes: bool
) -> float:
    """Return calls a second over so many connections, each with a thread or a process of its own."""
    context: Any = multiprocessing.get_context("fork")
    counts = context.SimpleQueue()
    begin = time.monotonic() + 0.2
    arguments = (counts, uri, call, domain, begin, begin + seconds)
    kind = context.Process if processes else threading.Thread
    workers = [kind(target=_count_into, args=arguments) for _ in range(connections)]
    for worker in workers:
        worker.start()
    total = sum(int(counts.get()) for _ in workers)
    for worker in workers:
        worker.join()
    return total / seconds


def define(uri: str, xmls: list[str]) -> list[str]:
    """Define persistent domains; return each one's XML as the daemon now prints it."""
    host = connection(uri)
    return [str(host.defineXML(xml).XMLDesc(2)) for xml in xmls]


def redefine(uri: str, clients: list[tuple[str, list[str]]]) -> float:
    """Let each client redefine its documents on its domain, all clients at once; return the seconds it took."""
    failures: list[str] = []
    ready = threading.Barrier(len(clients) + 1)

    def run(domain: str, documents: list[str]) -> None:
        try:
            host = libvirt.open(uri)
            guest = host.lookupByName(domain)
            ready.wait(20)
            for document in documents:
                guest.snapshotCreateXML(document, REDEFINE)
            host.close()
        except (libvirt.libvirtError, threading.BrokenBarrierError) as error:
            failures.append(str(error))
            ready.abort()

    workers = [threading.Thread(target=run, args=client) for client in clients]
    for worker in workers:
        worker.start()
    ready.wait(20)
    begin = time.perf_counter()
    for worker in workers:
        worker.join()
    if failures:
        raise RuntimeError(failures[0])
    return time.perf_counter() - begin


def list_snapshots(uri: str, domain: str, repeat: int, flags: int) -> list[float]:
    guest = connection(uri).lookupByName(domain)
    times = []
    for _ in range(repeat):
        begin = time.perf_counter()
        guest.listAllSnapshots(flags)
        times.append(time.perf_counter() - begin)
    return times


def dump_snapshots(uri: str, domain: str) -> float:
    """Return the seconds for listing all snapshots and asking for the document of each."""
    guest = connection(uri).lookupByName(domain)
    begin = time.perf_counter()
    for snapshot in guest.listAllSnapshots(0):
        snapshot.getXMLDesc(0)
    return time.perf_counter() - begin


def delete_snapshots(uri: str, domain: str, names: list[str]) -> float:
    """Return the seconds for forgetting the named snapshots, one call each."""
    guest = connection(uri).lookupByName(domain)
    begin = time.perf_counter()
    for name in names:
        guest.snapshotLookupByName(name).delete(METADATA_ONLY)
    return time.perf_counter() - begin


def close() -> None:
    """Close every connection, so that the daemon can be stopped."""
    while connections:
        connections.popitem()[1].close()


ACTIONS: dict[str, Callable[..., object]] = {
    function.__name__: function
    for function in (
        version, take_snapshot, latency, throughput, define, redefine,
        list_snapshots, dump_snapshots, delete_snapshots, close,
    )
}  # fmt: skip


def main() -> None:
    libvirt.registerErrorHandler(lambda *_: None, None)  # failures are reported by the answer, not on stderr
    for line in sys.stdin:
        order = json.loads(line)
        try:
            answer = {"value": ACTIONS[order.pop("do")](**order)}
        except Exception:  # noqa: BLE001 - whatever it is, the other side is to hear of it
            answer = {"error": traceback.format_exc(limit=4)}
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
