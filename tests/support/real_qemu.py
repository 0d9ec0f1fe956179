"""Real QEMU processes for tests: started from arguments, asked over a QMP connection of their own, always ended."""

from __future__ import annotations

import json
import os
import select
import socket
import subprocess
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

START_SECONDS = 30


class Probe:
    """Speaks QMP on a connection, one blocking command at a time."""

    def __init__(self, connection: socket.socket) -> None:
        connection.settimeout(START_SECONDS)
        self._connection = connection
        self._unread = b""
        self.greeting = self._message()["QMP"]
        self.execute("qmp_capabilities")

    def _message(self) -> dict[str, Any]:
        while b"\n" not in self._unread:
            received = self._connection.recv(1 << 16)
            assert received, "QEMU closed the connection"
            self._unread += received
        line, _, self._unread = self._unread.partition(b"\n")
        message: dict[str, Any] = json.loads(line)
        return message

    def execute(self, command: str, **arguments: object) -> Any:  # noqa: ANN401 -- QMP answers with anything
        """Return what QEMU answers; an error fails the test with QEMU's words."""
        self._connection.sendall(json.dumps({"execute": command, "arguments": arguments}).encode() + b"\n")
        while True:
            message = self._message()
            if "event" not in message:
                assert "return" in message, message
                return message["return"]


def greets(path: str) -> bool:
    """Tell whether QEMU serves QMP on a socket that it made."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(START_SECONDS)
        connection.connect(path)
        return "version" in Probe(connection).greeting


@contextmanager
def running(argv: Sequence[str], folder: Path) -> Iterator[Probe]:
    """Run QEMU, which calls back on a socket in `folder`; it is killed and reaped at the end."""
    with socket.socket(socket.AF_UNIX) as listener, (folder / "stderr").open("w+") as errors:
        listener.bind(str(folder / "probe.sock"))
        listener.listen(1)
        process = subprocess.Popen(
            [*argv, "-qmp", f"unix:{folder / 'probe.sock'}"],
            stdin=subprocess.DEVNULL,
            stdout=errors,
            stderr=errors,
        )
        pidfd = os.pidfd_open(process.pid)
        try:
            ready, _, _ = select.select([listener.fileno(), pidfd], [], [], START_SECONDS)
            assert ready == [listener.fileno()], (folder / "stderr").read_text() or "QEMU did not call back"
            with listener.accept()[0] as connection:
                try:
                    probe = Probe(connection)
                except ConnectionError as error:
                    raise AssertionError((folder / "stderr").read_text()) from error
                yield probe
        finally:
            os.close(pidfd)
            process.kill()
            process.wait()
            (folder / "probe.sock").unlink()
