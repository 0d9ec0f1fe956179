"""A daemon per test, and its clients: the raw one for what is on the wire, the library for libvirt's integers."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING, Final, NamedTuple

import pytest
import trio

from tests.snapd.conftest import definition, rpc, running, transient
from tests.support.daemon import Running, running_daemon, settings
from tests.support.guest import make_disk
from tests.support.qemu_host import TickDomain
from tests.support.snapshots import TRANSIENT
from virtsnap.cli.__main__ import main
from virtsnap.connection import open_connection

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tests.support.rpc import Rpc
    from virtsnap.domain import Domain

BRIEF: Final = TRANSIENT.replace(
    "</os>",
    "</os><devices><disk type='file' device='disk'><source file='/guest/brief'/><target dev='vda'/></disk></devices>",
)

__all__ = ["definition", "rpc", "running", "transient"]


@pytest.fixture
async def vm(running: Running) -> AsyncIterator[Domain]:
    """Return the default domain as the client library has it: its flags may be given as libvirt's integers."""
    async with open_connection(socket=running.config.socket) as connection:
        yield connection.domain("test")


@pytest.fixture
async def brief(rpc: Rpc) -> str:
    """Run a transient domain with one disk, `vda`; return its name."""
    await rpc.call("domain.create", xml=BRIEF)
    return "brief"


@pytest.fixture
async def qemu(short_tmp: Path) -> AsyncIterator[Running]:
    """Run a daemon with the qemu driver alone, and define the domain `tick`, which is not started."""
    disks = [make_disk(short_tmp / f"{name}.qcow2", boot=False) for name in ("a", "b")]
    async with running_daemon(settings(short_tmp, drivers=("qemu",))) as running, running.client() as client:
        await client.call("domain.define", xml=TickDomain(disks=disks).xml)
        yield running


@pytest.fixture
async def qemu_rpc(qemu: Running) -> AsyncIterator[Rpc]:
    """Connect a raw client to the daemon with the qemu driver."""
    async with qemu.client() as client:
        yield client


class Said(NamedTuple):
    """What the command printed, and how it ended."""

    out: str
    err: str
    status: int


class CommandLine:
    """The command, in a thread beside the daemon."""

    def __init__(self, capture: pytest.CaptureFixture[str]) -> None:
        self._capture = capture

    async def __call__(self, *argv: str) -> Said:
        status = await trio.to_thread.run_sync(main, list(argv))
        printed = self._capture.readouterr()
        return Said(printed.out, printed.err, status)

    async def alone(self, *argv: str) -> Said:
        """Run it in a process of its own: around an editor it sees to signals, which threads have none of."""
        done = await trio.run_process(
            [sys.executable, "-m", "virtsnap.cli", *argv],
            stdin=subprocess.DEVNULL,
            capture_stdout=True,
            capture_stderr=True,
            check=False,
        )
        return Said(done.stdout.decode(), done.stderr.decode(), done.returncode)


@pytest.fixture
def virtsnap(
    running: Running, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> CommandLine:
    """Return the command, which the environment points to the daemon."""
    monkeypatch.setenv("VIRTSNAP_SOCKET", str(running.config.socket))
    monkeypatch.delenv("VIRTSNAP_URI", raising=False)
    return CommandLine(capsys)
