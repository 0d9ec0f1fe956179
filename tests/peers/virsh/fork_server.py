"""A process that has the command imported and forks for every run of it: real processes, a tenth of the time.

A request is a line of JSON on standard input, the answer a line with the exit status on standard output.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

import msgspec
import trio

if TYPE_CHECKING:
    from collections.abc import Iterator

_CRASHED: Final = 70


class Run(msgspec.Struct, frozen=True, kw_only=True):
    """One run of the command: its arguments, environment, working folder, and files for its three streams."""

    argv: list[str]
    environment: dict[str, str]
    folder: str
    stdin: str
    stdout: str
    stderr: str


class ForkServer:
    """The server as seen by its client; one run at a time."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process

    async def run(self, run: Run) -> int:
        """Run the command and return its exit status."""
        requests, answers = self._process.stdin, self._process.stdout
        assert requests is not None
        assert answers is not None
        requests.write(msgspec.json.encode(run) + b"\n")
        requests.flush()
        await trio.lowlevel.wait_readable(answers)
        return int(answers.readline())


@contextmanager
def fork_server() -> Iterator[ForkServer]:
    """Run a server for as long as the block lasts."""
    with subprocess.Popen(
        [sys.executable, "-m", "tests.peers.virsh.fork_server"],
        env={**os.environ, "PYTHONPATH": ":".join(sys.path)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        yield ForkServer(process)


def _serve() -> None:
    import virtsnap.cli.__main__  # noqa: PLC0415 only the server itself needs it

    for line in sys.stdin.buffer:
        run = msgspec.json.decode(line, type=Run)
        child = os.fork()
        if child == 0:
            status = _CRASHED
            try:
                _become(run)
                status = virtsnap.cli.__main__.main(run.argv)
                sys.stdout.flush()
                sys.stderr.flush()
            except BaseException:  # noqa: BLE001 - also an exit: a forked process must not go on with its parent's work
                sys.excepthook(*sys.exc_info())
                sys.stderr.flush()
            finally:
                os._exit(status)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        sys.stdout.write(f"{status}\n")
        sys.stdout.flush()


def _become(run: Run) -> None:
    """Give this process the streams, the folder and the environment of a run."""
    for fd, path, flags in (
        (0, run.stdin, os.O_RDONLY),
        (1, run.stdout, os.O_WRONLY | os.O_CREAT | os.O_TRUNC),
        (2, run.stderr, os.O_WRONLY | os.O_CREAT | os.O_TRUNC),
    ):
        opened = os.open(path, flags, 0o600)
        os.dup2(opened, fd)
        os.close(opened)
    os.chdir(run.folder)
    os.environ.clear()
    os.environ.update(run.environment)
    time.tzset()


if __name__ == "__main__":
    _serve()
