"""Hosts of the tests and the demo: a daemon, in this process or in one of its own, and the tick guest's domain."""

from __future__ import annotations

import inspect
import json
import os
import select
import signal
import socket
import subprocess
import sys
import uuid
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeVar

import trio

from virtsnap.domain import Domain, HostVerbs
from virtsnap_protocol.errors import Error
from virtsnap_protocol.method import Method, Params, Result
from virtsnap_protocol.methods.event import Event, EventNotice
from virtsnapd.access import Caller
from virtsnapd.config import Config, DaemonSettings, DriverSettings, QemuSettings
from virtsnapd.context import Context
from virtsnapd.daemon import open_services
from virtsnapd.handlers import HANDLERS

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Sequence

    from virtsnapd.context import Hypervisor, Services

P = TypeVar("P", bound=Params)
R = TypeVar("R", bound=Result)

START_SECONDS: Final = 30.0
STOP_SECONDS: Final = 30.0
DOMAIN_XML: Final = """\
<domain type='qemu'>
  <name>{name}</name>
  <uuid>{uuid}</uuid>
  <memory unit='MiB'>{memory}</memory>
  <os><type arch='x86_64' machine='{machine}'>hvm</type></os>
  <features><acpi/></features>
  <devices>
{disks}{serial}  </devices>
</domain>
"""
DISK_XML: Final = """\
    <disk type='file' device='disk'>
      <driver name='qemu' type='{format}'/>
      <source file='{path}'/>
      <target dev='{target}' bus='ide'/>
    </disk>
"""
SERIAL_XML: Final = "    <serial type='unix'><source mode='bind' path='{path}'/></serial>\n"


@dataclass(frozen=True, kw_only=True)
class TickDomain:
    """The definition of a domain that runs the tick guest."""

    disks: Sequence[Path]
    name: str = "tick"
    uuid: str = field(default_factory=lambda: str(uuid.uuid4()))
    machine: str = "pc"
    memory: int = 16
    """MiB."""
    serial: Path | None = None
    """Where its serial line is to be had."""
    format: str = "qcow2"

    @property
    def xml(self) -> str:
        """The domain in libvirt's XML."""
        disks = "".join(
            DISK_XML.format(format=self.format, path=path, target=f"hd{letter}")
            for letter, path in zip("abcd", self.disks, strict=False)
        )
        serial = "" if self.serial is None else SERIAL_XML.format(path=self.serial)
        return DOMAIN_XML.format(
            name=self.name,
            uuid=self.uuid,
            memory=self.memory,
            machine=self.machine,
            disks=disks,
            serial=serial,
        )


class Host:
    """A daemon in a process of its own, with its own folders: as good as another machine.

    Close it: that ends the daemon and, one by one, the QEMUs that it has started.
    """

    def __init__(
        self, folder: Path, *, drivers: Sequence[str] = ("qemu",), command: Sequence[str] = ()
    ) -> None:
        self.folder = folder
        self.state = folder / "s"
        self.socket = folder / "r" / "virtsnapd.sock"
        self.log = folder / "log"
        self._command = [*(command or (sys.executable, "-m", "virtsnapd"))]
        self._process: subprocess.Popen[bytes] | None = None
        folder.mkdir(parents=True, exist_ok=True)
        self._config = folder / "virtsnapd.toml"
        self._config.write_text(f"[drivers]\nenabled = {json.dumps(list(drivers))}\n")

    @property
    def pid(self) -> int:
        """The daemon's process id."""
        assert self._process is not None, "the daemon does not run"
        return self._process.pid

    def start(self) -> None:
        """Start the daemon and wait until it says that it is ready."""
        notify = self.folder / "notify"
        notify.unlink(missing_ok=True)
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ear, self.log.open("ab") as log:
            ear.bind(str(notify))
            self._process = subprocess.Popen(
                self._arguments(),
                stdin=subprocess.DEVNULL,
                stderr=log,
                env={**os.environ, "NOTIFY_SOCKET": str(notify)},
            )
            pidfd = os.pidfd_open(self._process.pid)
            try:
                ready, _, _ = select.select([ear.fileno(), pidfd], [], [], START_SECONDS)
            finally:
                os.close(pidfd)
            if ready != [ear.fileno()]:
                self._end(signal.SIGKILL)
                msg = f"virtsnapd did not start:\n{self.log.read_text()}"
                raise AssertionError(msg)

    def _arguments(self) -> list[str]:
        folders = ["--runtime-dir", str(self.folder / "r"), "--state-dir", str(self.state)]
        return [*self._command, "--config", str(self._config), *folders]

    def stop(self) -> int:
        """Stop the daemon in order (SIGTERM), which leaves its guests alone; return its exit status."""
        return self._end(signal.SIGTERM)

    def kill(self) -> None:
        """Kill the daemon (SIGKILL)."""
        self._end(signal.SIGKILL)

    def wait_killed(self) -> None:
        """Wait until the daemon has ended by itself."""
        self._end(None)

    def _end(self, number: signal.Signals | None) -> int:
        process, self._process = self._process, None
        if process is None:
            return 0
        try:
            if number is not None:
                process.send_signal(number)
            return process.wait(STOP_SECONDS)
        finally:
            process.kill()
            process.wait()

    def check(self) -> str:
        """Return what `virtsnapd --check` says of the store; an unsound one fails the test."""
        done = subprocess.run(
            [*self._arguments(), "--check"],
            capture_output=True,
            text=True,
            check=False,
            timeout=START_SECONDS,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def guests(self) -> list[int]:
        """Return the process ids of the QEMUs that this host's daemon has started, dead ones left out."""
        return qemu_pids(self.state)

    def end_guests(self) -> None:
        """Kill every QEMU of this host and wait for it to be gone."""
        for pid in self.guests():
            kill_and_wait(pid)

    def close(self) -> None:
        """End the daemon and its guests: these first, since it reaps those that it has started itself."""
        try:
            self.end_guests()
            self._end(signal.SIGTERM)
        finally:
            self.end_guests()


@contextmanager
def running_host(folder: Path, *, drivers: Sequence[str] = ("qemu",)) -> Iterator[Host]:
    """Run a host; nothing of it runs afterwards."""
    host = Host(folder, drivers=drivers)
    try:
        host.start()
        yield host
    finally:
        host.close()


def qemu_pids(folder: Path) -> list[int]:
    """Return the QEMUs whose command line has something in this folder in it; dead ones have none."""
    found = []
    for process in Path("/proc").iterdir():
        if process.name.isdigit():
            with suppress(OSError):
                command = (process / "cmdline").read_bytes()
                if b"qemu-system" in command.partition(b"\0")[0] and f"{folder}/".encode() in command:
                    found.append(int(process.name))
    return found


def kill_and_wait(pid: int) -> None:
    """Kill a process, which need not be our child, and wait until it is dead."""
    with suppress(ProcessLookupError):
        pidfd = os.pidfd_open(pid)
        try:
            signal.pidfd_send_signal(pidfd, signal.SIGKILL)
            select.select([pidfd], [], [], STOP_SECONDS)
            with suppress(ChildProcessError):
                os.waitid(os.P_PIDFD, pidfd, os.WEXITED | os.WNOHANG)
        finally:
            os.close(pidfd)


class LocalDaemon(HostVerbs):
    """A daemon's services in this process: calls reach the handlers as from a client, without a socket."""

    def __init__(self, services: Services) -> None:
        self.services = services
        self.events: list[Event] = []
        """Every event since the daemon came up."""
        self._heard = trio.Event()
        self._routes = {route.method.name: route for route in HANDLERS}
        services.events.subscribe(self._hear, None, None)
        caller = Caller(uid=os.getuid(), gid=os.getgid(), pid=os.getpid(), read_only=False)
        self._context = Context(
            services=services,
            caller=caller,
            notify=lambda _method, _params: True,
            later=lambda _act: None,
            uri=services.default_uri,
        )

    @property
    def hypervisor(self) -> Hypervisor:
        """The one driver of this daemon."""
        return self._context.hypervisor(None)

    @property
    def said(self) -> list[str]:
        """The events in words: `started booted`, `snapshot.created s1`."""
        return [f"{e.lifecycle or e.kind} {e.detail or e.snapshot}" for e in self.events]

    async def wait_said(self, words: str) -> None:
        """Wait for an event with these words."""
        with trio.fail_after(START_SECONDS):
            while words not in self.said:
                await self._heard.wait()

    def _hear(self, _method: str, params: Params) -> bool:
        assert isinstance(params, EventNotice)
        self.events.append(params.event)
        self._heard.set()
        self._heard = trio.Event()
        return True

    def domain(self, name: str) -> Domain:
        """Return a handle of a domain, as a client's connection does."""
        return Domain(self, name)

    async def call(self, method: Method[P, R], params: P, *, deadline: float | None = None) -> R:
        """Make a call."""
        with trio.fail_after(START_SECONDS if deadline is None else deadline):
            answer = self._routes[method.name].handler(self._context, params)
            result: R = await answer if inspect.isawaitable(answer) else answer
            return result


@asynccontextmanager
async def local_daemon(
    folder: Path, scheme: str = "qemu", *, end_guests: bool = True, emulator: str = "qemu-system-x86_64"
) -> AsyncIterator[LocalDaemon]:
    """Run a daemon's services with one driver; unless told otherwise its guests are dead afterwards."""
    await trio.Path(folder).mkdir(exist_ok=True)
    settings = Config(
        daemon=DaemonSettings(runtime_dir=str(folder), state_dir=str(folder)),
        drivers=DriverSettings(enabled=(scheme,)),
        qemu=QemuSettings(emulator=emulator),
    )
    try:
        async with open_services(settings) as services:
            yield LocalDaemon(services)
    finally:
        if end_guests:
            for pid in qemu_pids(folder):
                kill_and_wait(pid)


async def wait_until(what: str, condition: object, seconds: float = START_SECONDS) -> None:
    """Ask again and again until an async or plain condition holds; errors of the daemon count as not yet."""
    with trio.move_on_after(seconds):
        while True:
            with suppress(Error):
                answer = condition()  # type: ignore[operator] # callable, of either kind
                if await answer if inspect.isawaitable(answer) else answer:
                    return
            await trio.sleep(0.01)
    raise AssertionError(f"waited {seconds:g} seconds in vain for: {what}")
