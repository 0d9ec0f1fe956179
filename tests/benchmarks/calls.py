"""Small calls: how long one takes, and how many of them go through in a second."""

from __future__ import annotations

import json
import socket
import statistics
import time
from typing import TYPE_CHECKING, Final

from tests.benchmarks.results import Row, percentile
from virtsnap.blocking import connect
from virtsnap_protocol.method import NoParams
from virtsnap_protocol.methods import connection

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.benchmarks.daemons import Libvirt, Ours

URI: Final = "test:///default"
DOMAIN: Final = "test"
SNAPSHOT: Final = "<domainsnapshot><name>now</name></domainsnapshot>"
CALLS: Final = {
    "ping": ("connection.ping", "virConnectGetLibVersion", {}),
    "info": ("domain.info", "virDomainGetInfo", {"domain": DOMAIN}),
    "current": ("snapshot.current", "virDomainSnapshotCurrent", {"domain": DOMAIN}),
}
"""By our short word: the method, libvirt's function that does as much, and the parameters."""
SMALL_CALL_GOAL: Final = 0.6
PIPELINE_GOAL: Final = 1.5
WINDOW: Final = 200
"""Requests in one write; two such writes are under way at a time."""


class Wire:
    """A socket and prepared frames: what a client costs that does nothing but ask."""

    def __init__(self, path: Path) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.socket.connect(str(path))

    def ask(self, frame: bytes) -> bytes:
        self.socket.sendall(frame)
        answer = self.socket.recv(65536)
        while not answer.endswith(b"\n"):
            answer += self.socket.recv(65536)
        return answer

    def pipeline(self, frame: bytes, windows: int) -> float:
        """Return the seconds for `windows` times `WINDOW` calls."""
        burst = frame * WINDOW
        begin = time.perf_counter()
        self.socket.sendall(burst)
        answered = 0
        for window in range(1, windows + 1):
            if window < windows:
                self.socket.sendall(burst)
            while answered < window * WINDOW:
                data = self.socket.recv(256 * 1024)
                if not data or b'"error"' in data:
                    raise RuntimeError(f"a pipelined call failed: {data[:200]!r}")
                answered += data.count(b"\n")
        return time.perf_counter() - begin

    def close(self) -> None:
        self.socket.close()


def frame_of(name: str) -> bytes:
    method, _, params = CALLS[name]
    request = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
    return json.dumps(request, separators=(",", ":")).encode() + b"\n"


def _timed(function: Callable[[], object], count: int) -> list[float]:
    for _ in range(count // 10):
        function()
    times = []
    for _ in range(count):
        begin = time.perf_counter()
        function()
        times.append(time.perf_counter() - begin)
    return times


def measure_latency(ours: Ours, peer: Libvirt, *, rounds: int, count: int) -> list[Row]:
    """Compare single calls of one client; rounds take turns, and the median round counts."""
    with connect(URI, socket=ours.socket) as client:
        guest = client.domain(DOMAIN)
        guest.create_snapshot(SNAPSHOT)
        peer.ask("take_snapshot", uri=peer.test_uri, domain=DOMAIN, xml=SNAPSHOT)
        through_client: dict[str, Callable[[], object]] = {
            "ping": lambda: client.call(connection.PING, NoParams()),
            "info": guest.info,
            "current": guest.current_snapshot,
        }
        wire = Wire(ours.socket)
        wire.ask(_open_frame())
        rows = []
        for name, (method, theirs, _) in CALLS.items():
            frame = frame_of(name)
            if b'"error"' in wire.ask(frame):
                raise RuntimeError(f"{method} fails: {wire.ask(frame)!r}")
            figures: dict[str, list[list[float]]] = {"wire": [], "client": [], "libvirt": []}
            for _ in range(rounds):
                figures["wire"].append(_timed(lambda frame=frame: wire.ask(frame), count))  # type: ignore[misc] # mypy cannot infer a lambda with a default
                figures["client"].append(_timed(through_client[name], count))
                figures["libvirt"].append(
                    peer.ask("latency", uri=peer.test_uri, domain=DOMAIN, call=name, count=count)
                )
            rows += _latency_rows(f"{method} / {theirs}", figures)
        wire.close()
    return rows


def _latency_rows(title: str, figures: dict[str, list[list[float]]]) -> list[Row]:
    def of(side: str, percent: float) -> float:
        return statistics.median(percentile(times, percent) for times in figures[side]) * 1e6

    return [
        Row(
            what=f"{title}, {way}, p{percent}",
            unit="us",
            ours=of(side, percent),
            theirs=of("libvirt", percent),
            goal=SMALL_CALL_GOAL if percent == 50 else None,
        )
        for way, side in (("bare socket", "wire"), ("our client", "client"))
        for percent in (50, 99)
    ]


def _open_frame() -> bytes:
    request = {"jsonrpc": "2.0", "id": 0, "method": "connection.open", "params": {"uri": URI}}
    return json.dumps(request).encode() + b"\n"


def measure_throughput(ours: Ours, peer: Libvirt, *, windows: int, seconds: float) -> list[Row]:
    """Compare calls a second: ours in a pipeline on one connection, libvirtd's best over 1 to 16 connections."""
    rows = []
    for name in ("ping", "info"):
        method, function, _ = CALLS[name]
        wire = Wire(ours.socket)
        wire.ask(_open_frame())
        wire.pipeline(frame_of(name), max(windows // 10, 1))
        best_time = statistics.median(wire.pipeline(frame_of(name), windows) for _ in range(5))
        wire.close()
        theirs, how = _best_of_libvirt(peer, name, seconds)
        rows.append(
            Row(
                what=f"{method} pipelined / {function}",
                unit="calls/s",
                ours=windows * WINDOW / best_time,
                theirs=theirs,
                goal=PIPELINE_GOAL,
                note=f"libvirtd's best: {how}",
            )
        )
    return rows


def _best_of_libvirt(peer: Libvirt, call: str, seconds: float) -> tuple[float, str]:
    found: list[tuple[float, str]] = []
    for processes in (True, False):
        for connections in (1, 2, 4, 8, 16):
            rate = peer.ask(
                "throughput",
                uri=peer.test_uri,
                domain=DOMAIN,
                call=call,
                connections=connections,
                seconds=seconds,
                processes=processes,
            )
            found.append((float(rate), f"{connections} {'processes' if processes else 'threads'}"))
    return max(found)
