"""The story that virtsnap exists for, told by real guests: `make demo`.

A snapshot of a transient domain is taken on host A and its metadata saved to files. The domain stops, and the
metadata is gone. A new domain of the same name gets the snapshots redefined and is reverted to one of them: the
guest goes on with its old memory and its old disk. Then the same on host B, which shares the disk's folder.

Exit status 0 says that the guest itself has proved it, by its counter in memory and by what its disk holds.
"""

from __future__ import annotations

import os
import shlex
import signal
import sys
import time
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Final

import trio

from tests.support.guest import Serial, make_disk, socket_folder
from tests.support.qemu_host import Host, TickDomain, running_host

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

NAME: Final = "tick"
UUID: Final = "7469636b-0000-4000-8000-000000000001"
SECONDS: Final = 60
WIDTH: Final = 78
INTRODUCTION: Final = """
Two daemons play two hosts, A and B, that share the folder of a guest's
disk. The guest counts in its memory, says so on its serial line about five
times a second, and writes its counter to its disk or reads it when told to.
"""


class NotProven(Exception):
    """The guest, or the command, says something else than it should."""


class Stage:
    """Where the story is shown: standard output, in 80 columns, bold only on a terminal."""

    def __init__(self) -> None:
        self._bold, self._plain = ("\033[1m", "\033[0m") if sys.stdout.isatty() else ("", "")

    def chapter(self, title: str) -> None:
        """Begin a part of the story."""
        self._say(f"\n{self._bold}== {title} {self._plain}".ljust(WIDTH + len(self._bold + self._plain), "="))

    def command(self, host: str, words: str) -> None:
        """Show a command as its user types it."""
        self._say(f"{self._bold}{host}$ {words}{self._plain}")

    def output(self, text: str) -> None:
        """Show what a command printed."""
        for line in text.rstrip().splitlines():
            self._say(f"   {line}".rstrip())

    def evidence(self, said: str, meaning: str) -> None:
        """Show what the guest said on its serial line, and what that means."""
        self._say(f"   [serial] {said:<14} {meaning}")

    def verdict(self, text: str) -> None:
        """Show a conclusion."""
        self._say(f"{self._bold}{text}{self._plain}")

    @staticmethod
    def _say(line: str) -> None:
        sys.stdout.write(line + "\n")
        sys.stdout.flush()


class Shell:
    """Types commands on one host."""

    def __init__(self, name: str, host: Host, folder: Path, stage: Stage) -> None:
        self.name = name
        self._folder = folder
        self._stage = stage
        self._environment = {**os.environ, "VIRTSNAP_SOCKET": str(host.socket)}
        self._environment.pop("VIRTSNAP_URI", None)
        self.milliseconds: dict[str, list[float]] = {}

    async def run(self, words: str, *, to: str | None = None, fails: bool = False) -> str:
        """Run `virtsnap WORDS`, with its output in the file `to`; return what it printed.

        Raises:
            NotProven: It failed, or (`fails`) did not.
        """
        self._stage.command(self.name, f"virtsnap {words}" + (f" > {to}" if to else ""))
        began = time.monotonic()
        done = await trio.run_process(
            [sys.executable, "-m", "virtsnap.cli", *shlex.split(words)],
            cwd=self._folder,
            env=self._environment,
            capture_stdout=True,
            capture_stderr=True,
            check=False,
        )
        self.milliseconds.setdefault(words.split(maxsplit=1)[0], []).append(1000 * (time.monotonic() - began))
        output = done.stdout.decode()
        if to is None:
            self._stage.output(output)
        else:
            await (trio.Path(self._folder) / to).write_text(output)
        self._stage.output(done.stderr.decode())
        if (done.returncode != 0) != fails:
            raise NotProven(f"`virtsnap {words}` ended with status {done.returncode}")
        return output


class Guest:
    """The guest's own words."""

    def __init__(self, serial: Serial, stage: Stage) -> None:
        self._serial = serial
        self._stage = stage

    async def write(self) -> int:
        """Let it write its counter to its disk; return that."""
        value = await self._serial.command("w", SECONDS)
        self._stage.evidence(f"w{value:08x}", f"the guest wrote its counter, {value}, to its disk")
        return value

    async def disk(self) -> int:
        """Return what its disk holds."""
        value = await self._serial.command("r", SECONDS)
        self._stage.evidence(f"r{value:08x}", f"its disk holds {value}")
        return value

    async def zero(self) -> None:
        """Let it set its counter to zero, so that only a revert can bring the old value back."""
        value = await self._serial.command("z", SECONDS)
        self._stage.evidence(f"z{value:08x}", "the counter in its memory is set to 0")

    async def reach(self, least: int) -> int:
        """Wait until its counter, which is in its memory, has a value."""
        value = await self._serial.wait_counter(least, SECONDS)
        self._stage.evidence(f"C{value:08x}", f"the counter in its memory is at {value}")
        return value

    async def next_counter(self) -> int:
        """Return the counter from a line that comes after all that was said so far."""
        await self._serial.forget()
        return await self.reach(0)


class Story:
    """What is told, step by step."""

    def __init__(self, folder: Path, host_a: Host, host_b: Host, stage: Stage) -> None:
        self._stage = stage
        self._serial = folder / "serial"
        self.a = Shell("A", host_a, folder, stage)
        self.b = Shell("B", host_b, folder, stage)
        self.proofs: list[str] = []
        self._written: dict[str, int] = {}
        """What the guest's disk held when a snapshot was taken."""
        self._resumed: dict[str, int] = {}
        """What its counter had reached when it went on after that."""

    async def tell(self) -> None:
        """Tell all of it."""
        self._stage.output(INTRODUCTION)
        last = await self._take_on_a()
        await self._lose_on_a()
        await self._come_back(self.a, last)
        last = await self._change_disk_and_stop(self.a)
        await self._come_back(self.b, last)
        await self.b.run(f"destroy {NAME}")

    async def _take_on_a(self) -> int:
        self._stage.chapter("Host A: a transient domain, three snapshots with memory")
        await self.a.run("create tick.xml")
        async with Serial.open(self._serial, SECONDS) as serial:
            guest = Guest(serial, self._stage)
            await guest.reach(3)
            await self._take(guest, "base", '"as installed"')
            await guest.reach(self._resumed["base"] + 2)
            await self._take(guest, "upgrade", '"after the upgrade"')
            await guest.zero()
            await self._revert(guest, self.a, "base")
            await guest.reach(self._resumed["upgrade"] + 2)
            await self._take(guest, "hotfix", '"a fix instead"')
            await self.a.run(f"snapshot-list {NAME} --tree")
            self._stage.chapter("Host A: the metadata is saved, the guest goes on, and stops")
            for name in self._written:
                await self.a.run(f"snapshot-dumpxml {NAME} {name} --security-info", to=f"{name}.xml")
            await guest.reach(max(self._resumed.values()) + 3)
            return await guest.write()

    async def _take(self, guest: Guest, name: str, description: str) -> None:
        self._written[name] = await guest.write()
        await self.a.run(f"snapshot-create-as {NAME} {name} {description}")
        self._resumed[name] = await guest.next_counter()

    async def _lose_on_a(self) -> None:
        await self.a.run(f"destroy {NAME}")
        await self.a.run("list --all")
        await self.a.run(f"snapshot-list {NAME}", fails=True)

    async def _change_disk_and_stop(self, shell: Shell) -> int:
        async with Serial.open(self._serial, SECONDS) as serial:
            guest = Guest(serial, self._stage)
            await guest.reach(max(self._resumed.values()) + 3)
            last = await guest.write()
        await shell.run(f"destroy {NAME}")
        return last

    async def _come_back(self, shell: Shell, last: int) -> None:
        self._stage.chapter(f"Host {shell.name}: a new transient domain of the same name")
        await shell.run("create tick.xml")
        async with Serial.open(self._serial, SECONDS) as serial:
            guest = Guest(serial, self._stage)
            if await guest.disk() != last:
                raise NotProven("the disk is not as the former guest left it")
            if (await shell.run(f"snapshot-list {NAME} --name")).strip():
                raise NotProven("the new domain has the old one's snapshots already")
            for name in self._written:
                current = " --current" if name == "upgrade" else ""
                await shell.run(f"snapshot-create {NAME} {name}.xml --redefine{current}")
            await shell.run(f"snapshot-list {NAME} --tree")
            await shell.run(f"snapshot-current {NAME} --name")
            await guest.zero()
            await self._revert(guest, shell, "upgrade")
        counter, disk = self._resumed["upgrade"], self._written["upgrade"]
        self.proofs.append(
            f"host {shell.name}: memory goes on at {counter} (was at 0), disk is back to {disk} (was {last})"
        )

    async def _revert(self, guest: Guest, shell: Shell, name: str) -> None:
        """Go back, and hold the guest to what it had in its memory and on its disk."""
        await shell.run(f"snapshot-revert {NAME} {name}")
        counter = await guest.next_counter()
        first, latest = self._written[name] + 1, self._resumed[name] + 1
        if not first <= counter <= latest:
            raise NotProven(f"the counter is at {counter}, not at {first} to {latest}")
        if await guest.disk() != self._written[name]:
            raise NotProven(f"the disk does not hold {self._written[name]}, as when '{name}' was taken")


@contextmanager
def undisturbed() -> Iterator[None]:
    """Clean up when the block ends, however it ends, and do not let an impatient Ctrl-C stop that."""
    try:
        yield
    finally:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)


def _run(story: Story) -> None:
    try:
        trio.run(story.tell)
    except BaseExceptionGroup as group:  # a nursery, as that of a subprocess, wraps what interrupts it
        if group.subgroup(KeyboardInterrupt) is not None:
            raise KeyboardInterrupt from None
        raise


def main() -> int:
    """Tell the story; return the exit status."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.default_int_handler)
    stage = Stage()
    try:
        with ExitStack() as stack:
            folder = stack.enter_context(socket_folder())
            hosts = [stack.enter_context(running_host(folder / name)) for name in "ab"]
            domain = TickDomain(
                disks=[make_disk(folder / "tick.qcow2", boot=True)],
                name=NAME,
                uuid=UUID,
                serial=folder / "serial",
            )
            (folder / "tick.xml").write_text(domain.xml)
            story = Story(folder, hosts[0], hosts[1], stage)
            stack.enter_context(undisturbed())
            try:
                _run(story)
            except (NotProven, trio.TooSlowError, EOFError, OSError) as failure:
                _explain(failure, hosts)
                return 1
            _conclude(story, stage)
            return 0
    except KeyboardInterrupt:
        sys.stderr.write("\ninterrupted; everything has been cleaned up\n")
        return 130


def _explain(failure: Exception, hosts: list[Host]) -> None:
    sys.stderr.write(f"\nFAILED: {str(failure) or type(failure).__name__}\n")
    for name, host in zip("AB", hosts, strict=True):
        log = host.log.read_text().splitlines()[-10:]
        sys.stderr.write("\n".join([f"the log of host {name} ends with:", *log, ""]))


def _conclude(story: Story, stage: Stage) -> None:
    stage.chapter("Proved by the guest itself")
    for proof in story.proofs:
        stage.verdict(f"   {proof}")
    figures = []
    for word, label in (
        ("create", "create"),
        ("snapshot-create-as", "take"),
        ("snapshot-create", "redefine"),
        ("snapshot-revert", "revert"),
    ):
        spent = sorted([*story.a.milliseconds.get(word, []), *story.b.milliseconds.get(word, [])])
        figures.append(f"{label} {spent[len(spent) // 2]:.0f}")
    stage.output(f"milliseconds per command: {', '.join(figures)}")


if __name__ == "__main__":
    sys.exit(main())
