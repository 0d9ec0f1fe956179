"""A scripted QMP server on a real Unix socket: what QEMU would do, at the moment that the test says."""

from __future__ import annotations

import json
import os
import socket
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import trio

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path


@dataclass(frozen=True)
class Refusal:
    """An answer that is an error."""

    desc: str
    error_class: str = "GenericError"


class Never:
    """No answer at all."""


Answer = dict[str, Any] | list[Any] | Refusal | Never


@dataclass(kw_only=True)
class FakeQmp:
    """One server; like QEMU it greets one client and lets others wait."""

    path: Path
    greeting: bytes = (
        b'{"QMP": {"version": {"qemu": {"major": 7, "minor": 2, "micro": 22}}, "capabilities": []}}'
    )
    piece: int = 10_000
    """Bytes of the greeting that are sent at a time."""
    hangs_up: bool = False
    """Hang up on whoever connects."""
    scripts: dict[str, Any] = field(default_factory=dict)
    """Answers by command; a callable gets the arguments. What is not here is refused as QEMU refuses it."""
    received: list[dict[str, Any]] = field(default_factory=list)
    """Every command, in order."""
    jobs: dict[str, dict[str, Any]] = field(default_factory=dict)
    _sending: trio.Lock = field(default_factory=trio.Lock)
    _changed: trio.Event = field(default_factory=trio.Event)
    _client: trio.SocketStream | None = None
    _reading: trio.Event = field(default_factory=trio.Event)
    _events_first: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._reading.set()
        self.scripts = {
            "qmp_capabilities": {},
            "query-jobs": lambda _: list(self.jobs.values()),
            "job-dismiss": self._dismiss,
            **self.scripts,
        }

    def commands(self) -> list[str]:
        """Return the names of the commands received."""
        return [command["execute"] for command in self.received]

    async def wait_received(self, name: str) -> dict[str, Any]:
        """Wait until this command has come; return the arguments of its first occurrence."""
        with trio.fail_after(10):
            while True:
                for command in self.received:
                    if command["execute"] == name:
                        return dict(command.get("arguments", {}))
                await self._changed.wait()

    async def send(self, *messages: dict[str, Any] | bytes) -> None:
        """Send messages (or raw bytes) to the client in one piece."""
        assert self._client is not None
        parts = (m if isinstance(m, bytes) else json.dumps(m).encode() + b"\r\n" for m in messages)
        async with self._sending:
            await self._client.send_all(b"".join(parts))

    async def emit(self, event: str, **data: object) -> None:
        """Send an event."""
        await self.send(_event(event, data))

    def start_job(self, job_id: str, job_type: str) -> None:
        """Have a job, as a script may say."""
        progress = {"current-progress": 0, "total-progress": 4}
        self.jobs[job_id] = {"id": job_id, "type": job_type, "status": "running", **progress}

    async def conclude(self, job_id: str, error: str | None = None) -> None:
        """End a job and tell the client."""
        self.jobs[job_id] |= {"status": "concluded"} | ({"error": error} if error else {})
        await self.emit("JOB_STATUS_CHANGE", id=job_id, status="concluded")

    def stop_reading(self) -> None:
        """Leave what comes from now on in the socket, except one piece that may be read already."""
        self._reading = trio.Event()

    def read_on(self) -> None:
        """Read again."""
        self._reading.set()

    def events_first(self, *names: str, value: Answer | None = None) -> Answer:
        """Have these events sent in front of the answer (a script returns this)."""
        self._events_first = list(names)
        return {} if value is None else value

    def vanish(self) -> None:
        """End the conversation as a killed QEMU does."""
        assert self._client is not None
        self._client.socket.shutdown(socket.SHUT_RDWR)
        self._client.socket.close()

    def _dismiss(self, arguments: dict[str, Any]) -> Answer:
        if self.jobs.pop(arguments["id"], None) is None:
            return Refusal("Job not found", "DeviceNotActive")
        return {}

    async def _serve(self, client: trio.SocketStream) -> None:
        self._client = client
        if self.hangs_up:
            return
        greeting = self.greeting + b"\r\n"
        for start in range(0, len(greeting), self.piece):
            await client.send_all(greeting[start : start + self.piece])
            await trio.lowlevel.checkpoint()
        buffer = b""
        try:
            while data := await client.receive_some():
                await self._reading.wait()
                *lines, buffer = (buffer + data).split(b"\n")
                for line in lines:
                    await self._answer(json.loads(line))
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass  # either side has hung up

    async def _answer(self, command: dict[str, Any]) -> None:
        self.received.append(command)
        self._changed.set()
        self._changed = trio.Event()
        name = command["execute"]
        unknown = Refusal(f"The command {name} has not been found", "CommandNotFound")
        answer = self.scripts.get(name, unknown)
        if callable(answer) and not isinstance(answer, type):
            answer = answer(command.get("arguments", {}))
        match answer:
            case Never():
                pass
            case Refusal(desc=desc, error_class=error_class):
                await self.send({"error": {"class": error_class, "desc": desc}, "id": command["id"]})
            case _:
                events = [_event(event, {}) for event in self._events_first]
                self._events_first = []
                await self.send(*events, {"return": answer, "id": command["id"]})


def _event(name: str, data: dict[str, Any]) -> dict[str, Any]:
    stamp = {"seconds": 1_700_000_000, "microseconds": 500_000}
    return {"event": name, "data": data, "timestamp": stamp}


@asynccontextmanager
async def fake_qmp(
    path: Path,
    *,
    scripts: dict[str, Any] | None = None,
    greeting: bytes = FakeQmp.greeting,
    piece: int = FakeQmp.piece,
    hangs_up: bool = False,
) -> AsyncIterator[FakeQmp]:
    """Serve at `path` for the length of the `with`; the options are fields of `FakeQmp`."""
    fake = FakeQmp(path=path, scripts=scripts or {}, greeting=greeting, piece=piece, hangs_up=hangs_up)
    with trio.socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        await listener.bind(os.fspath(path))
        listener.listen(1)
        async with trio.open_nursery() as nursery:

            async def accept() -> None:
                while True:
                    connection, _ = await listener.accept()
                    async with trio.SocketStream(connection) as client:
                        await fake._serve(client)

            nursery.start_soon(accept)
            yield fake
            nursery.cancel_scope.cancel()
