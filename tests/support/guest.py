"""The tick guest of the tests and the demo: its disks, its serial line, and a real QEMU that runs it."""

from __future__ import annotations

import base64
import json
import os
import re
import shutil
import signal
import subprocess
import tempfile
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import trio

from virtsnapd.drivers.qemu.commands import Commands
from virtsnapd.drivers.qemu.connecting import open_monitor
from virtsnapd.drivers.qemu.process import GuestProcess, spawn

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Sequence

    from virtsnapd.drivers.qemu.monitor import Monitor

BOOT_SECTOR: Final = Path(__file__).parents[1] / "data" / "tick.base64"
DISK_SIZE: Final = 1024 * 1024
PATIENCE: Final = 60.0
"""Seconds for anything that the guest is asked; it answers in milliseconds when the host is idle."""


def make_disk(path: Path, *, boot: bool) -> Path:
    """Write a qcow2 disk of 1 MiB, with the tick guest in its boot sector or empty; blocks for some 20 ms."""
    command = ["qemu-img", "create", "-q", "-f", "qcow2", "--", f"file:{path}", str(DISK_SIZE)]
    if not boot:
        subprocess.run(command, check=True)
        return path
    raw = path.with_name(path.name + ".raw")
    raw.write_bytes(base64.b64decode(BOOT_SECTOR.read_bytes()).ljust(DISK_SIZE, b"\0"))
    try:
        subprocess.run(
            ["qemu-img", "convert", "-q", "-f", "raw", "-O", "qcow2", f"file:{raw}", f"file:{path}"],
            check=True,
        )
    finally:
        raw.unlink()
    return path


@contextmanager
def socket_folder() -> Iterator[Path]:
    """Make a folder whose path is short enough for Unix sockets (107 bytes), and remove it in the end."""
    folder = Path(tempfile.mkdtemp(prefix="vs-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


class Serial:
    """The guest's serial line: what it says arrives in order and is consumed by whoever waits for it."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self._stream = stream
        self._heard = b""

    @classmethod
    @asynccontextmanager
    async def open(cls, path: Path, seconds: float = PATIENCE) -> AsyncIterator[Serial]:
        """Connect, also to a QEMU that is still starting; what the guest said before is lost."""
        with trio.fail_after(seconds):
            stream = await _connect(path)
        async with stream:
            yield cls(stream)

    async def wait_for(self, pattern: str, seconds: float = PATIENCE) -> str:
        """Wait until the guest says something that matches; return the match's last group, else all of it.

        Raises:
            trio.TooSlowError: it did not in time.
            EOFError: the line is gone; the message holds what was said last.
        """
        wanted = re.compile(pattern.encode())
        with trio.fail_after(seconds):
            while (match := wanted.search(self._heard)) is None:
                said = await self._stream.receive_some()
                if not said:
                    msg = f"the serial line ended before {pattern!r}: {self._heard[-80:]!r}"
                    raise EOFError(msg)
                self._heard += said
        self._heard = self._heard[match.end() :]
        return str(match[match.lastindex or 0].decode())

    async def command(self, letter: str, seconds: float = PATIENCE) -> int:
        """Give a command that answers with a number (`w`, `r`, `W`, `R`, `z`) and return that.

        Raises:
            OSError: the guest's disk failed.
        """
        await self.tell(letter)
        answer = await self.wait_for(rf"{letter}([0-9a-f]{{8}}|!)\r\n", seconds)
        if answer == "!":
            msg = f"the guest's disk failed on {letter!r}"
            raise OSError(msg)
        return int(answer, 16)

    async def tell(self, letter: str) -> None:
        """Give a command without waiting for an answer (`p`, `b`, `q`)."""
        await self._stream.send_all(letter.encode())

    async def counter(self, seconds: float = PATIENCE) -> int:
        """Return the counter from the next line that shows it."""
        return int(await self.wait_for(r"C([0-9a-f]{8})\r\n", seconds), 16)

    async def wait_counter(self, at_least: int, seconds: float = PATIENCE) -> int:
        """Wait until the counter has reached a value; return the first one seen that has."""
        with trio.fail_after(seconds):
            while (seen := await self.counter()) < at_least:
                pass
        return seen

    async def forget(self) -> None:
        """Drop everything that the guest has said so far, so that what is heard next is new.

        A paused guest says nothing, but QEMU may still hold bytes: for a running one use `wait_for`.
        """
        self._heard = b""
        with trio.move_on_after(0.05):
            while await self._stream.receive_some():
                pass


async def _connect(path: Path) -> trio.SocketStream:
    while True:
        try:
            return await trio.open_unix_socket(os.fspath(path))
        except OSError:
            await trio.sleep(0.01)


@dataclass(frozen=True, kw_only=True)
class RunningGuest:
    """A real QEMU with the tick guest in it."""

    folder: Path
    process: GuestProcess
    monitor: Monitor
    disks: tuple[Path, ...]

    @property
    def spare(self) -> Path:
        """The QMP socket that nobody uses yet."""
        return self.folder / "qmp2"

    @property
    def serial(self) -> Path:
        """The socket for `Serial`."""
        return self.folder / "serial"

    @property
    def nodes(self) -> tuple[str, ...]:
        """The disks' node names: give them to snapshot commands, the first one as `vmstate_node` too."""
        return tuple(f"disk{number}" for number in range(len(self.disks)))

    @property
    def commands(self) -> Commands:
        """The typed commands over its monitor."""
        return Commands(self.monitor)


def guest_argv(folder: Path, images: Sequence[object], *, paused: bool = False) -> list[str]:
    """Return the command line of a small QEMU whose sockets (`qmp`, `qmp2`, `serial`) are in `folder`.

    An image is the path of a qcow2 file, or the block node below a qcow2 as a dict.
    """
    machine = "-accel tcg -machine pc-i440fx-7.2 -m 16 -nodefaults -no-user-config -display none -no-shutdown"
    argv = ["qemu-system-x86_64", *machine.split(), "-serial", "chardev:serial"]
    argv += ["-chardev", f"socket,id=serial,path={folder}/serial,server=on,wait=off"]
    for name in ("qmp", "qmp2"):
        argv += ["-qmp", f"unix:{folder}/{name},server=on,wait=off"]
    for number, image in enumerate(images):
        file = {"driver": "file", "filename": str(image)} if isinstance(image, Path) else image
        node = {"driver": "qcow2", "node-name": f"disk{number}", "file": file}
        argv += ["-blockdev", json.dumps(node), "-device", f"ide-hd,drive=disk{number},bus=ide.{number}"]
    return [*argv, "-S"] if paused else argv


@asynccontextmanager
async def running_guest(
    disks: Sequence[Path] = (), *, paused: bool = False, count: int = 1
) -> AsyncIterator[RunningGuest]:
    """Run the tick guest on real QEMU; it is dead and gone afterwards.

    It gets these disks, or `count` new ones of which the first boots.
    """
    with socket_folder() as folder:
        made = (make_disk(folder / f"disk{n}.qcow2", boot=n == 0) for n in range(count))
        images = tuple(disks) or tuple(made)
        async with _qemu(folder, guest_argv(folder, images, paused=paused), images) as guest:
            yield guest


@dataclass(frozen=True, kw_only=True)
class StallingGuest(RunningGuest):
    """A guest whose disk can be made to answer nothing: a job that touches it then stays on its way."""

    storage: GuestProcess

    def stall(self) -> None:
        """Let the disk answer nothing from now on."""
        os.kill(self.storage.pid, signal.SIGSTOP)

    def unstall(self) -> None:
        """Let the disk answer again, also to what it was asked meanwhile."""
        os.kill(self.storage.pid, signal.SIGCONT)


@asynccontextmanager
async def stalling_guest() -> AsyncIterator[StallingGuest]:
    """Run the tick guest with its disk behind a qemu-nbd that can be stopped."""
    with socket_folder() as folder:
        disk = make_disk(folder / "disk0.qcow2", boot=True)
        os.truncate(disk, 16 * DISK_SIZE)  # what NBD exports cannot grow
        serve = ["qemu-nbd", "--persistent", "--format=raw", f"--socket={folder}/nbd", str(disk)]
        storage = await spawn(serve, log_path=folder / "storage.log")
        async with killed_in_the_end(storage):
            with trio.fail_after(PATIENCE):
                await (await _connect(folder / "nbd")).aclose()
            node = {"driver": "nbd", "server": {"type": "unix", "path": f"{folder}/nbd"}}
            async with _qemu(folder, guest_argv(folder, [node]), (disk,)) as guest:
                yield StallingGuest(
                    folder=folder,
                    process=guest.process,
                    monitor=guest.monitor,
                    disks=guest.disks,
                    storage=storage,
                )


@asynccontextmanager
async def _qemu(folder: Path, argv: list[str], disks: tuple[Path, ...]) -> AsyncIterator[RunningGuest]:
    process = await spawn(argv, log_path=folder / "log")
    async with (
        killed_in_the_end(process),
        open_monitor(folder / "qmp", process=process) as monitor,
    ):
        yield RunningGuest(folder=folder, process=process, monitor=monitor, disks=disks)


@asynccontextmanager
async def killed_in_the_end(process: GuestProcess) -> AsyncIterator[GuestProcess]:
    """Kill and reap the process when the `with` ends, however it ends."""
    try:
        yield process
    finally:
        with trio.CancelScope(shield=True):
            process.kill()
            await process.wait_ended()
            await process.aclose()
