"""How a monitor connection comes to be, and the ways in which it does not."""

from __future__ import annotations

import os
import socket
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest
import trio
import trio.testing

from tests.support.fake_qmp import Never, Refusal, fake_qmp
from tests.support.guest import guest_argv, killed_in_the_end, running_guest
from virtsnap_protocol.errors import HypervisorError
from virtsnapd.drivers.qemu.connecting import connect_monitor, open_monitor
from virtsnapd.drivers.qemu.monitor import MonitorClosed, MonitorSilent
from virtsnapd.drivers.qemu.process import spawn

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from virtsnapd.drivers.qemu.process import GuestProcess


async def refused(path: Path, reason: str, *, deadline: float | None = None) -> None:
    with pytest.raises(MonitorClosed, match=reason):
        async with open_monitor(path, deadline=deadline):
            pytest.fail("there is nothing to connect to")


async def test_a_socket_that_is_not_there_is_an_error_at_once(tmp_path: Path) -> None:
    await refused(tmp_path / "qmp", "failed to connect to monitor socket .*: No such file or directory")


async def test_the_socket_of_a_dead_qemu_is_an_error_at_once(short_tmp: Path) -> None:
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(short_tmp / "qmp"))
    await refused(short_tmp / "qmp", "Connection refused")


async def test_a_path_too_long_for_a_socket_is_an_error(tmp_path: Path) -> None:
    await refused(tmp_path / ("x" * 120), "path too long")


async def test_a_second_client_of_a_real_qemu_is_told_that_the_socket_is_taken() -> None:
    async with running_guest(paused=True) as guest:
        with pytest.raises(MonitorSilent, match="another client holds it"):
            async with open_monitor(guest.folder / "qmp", deadline=0.2):
                pytest.fail("QEMU has greeted two clients")
        assert (await guest.commands.query_status()).status == "prelaunch"
        async with open_monitor(guest.spare) as second:
            assert second.peer_pid == guest.process.pid


async def test_a_full_backlog_is_no_connection(short_tmp: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener, socket.socket(socket.AF_UNIX) as waiting:
        listener.bind(str(short_tmp / "qmp"))
        listener.listen(0)
        waiting.connect(str(short_tmp / "qmp"))
        await refused(short_tmp / "qmp", "Resource temporarily unavailable")


async def test_a_peer_that_hangs_up_before_its_greeting_is_an_error(short_tmp: Path) -> None:
    async with fake_qmp(short_tmp / "qmp", hangs_up=True):
        await refused(short_tmp / "qmp", "closed before it was ready")


async def test_a_server_of_another_protocol_is_an_error(short_tmp: Path) -> None:
    async with fake_qmp(short_tmp / "qmp", greeting=b'{"return": {}, "id": 1}'):
        await refused(short_tmp / "qmp", "not a QMP server")


async def test_a_refused_negotiation_is_an_error(short_tmp: Path) -> None:
    async with fake_qmp(short_tmp / "qmp", scripts={"qmp_capabilities": Refusal("no")}):
        await refused(short_tmp / "qmp", "capability negotiation failed")


async def test_a_qemu_that_hangs_in_the_negotiation_is_given_up_at_the_deadline(short_tmp: Path) -> None:
    async with fake_qmp(short_tmp / "qmp", scripts={"qmp_capabilities": Never()}):
        await refused(short_tmp / "qmp", "no answer", deadline=0.1)


async def test_a_greeting_in_small_pieces_is_a_greeting(short_tmp: Path) -> None:
    async with fake_qmp(short_tmp / "qmp", piece=7), open_monitor(short_tmp / "qmp") as monitor:
        assert monitor.greeting.version.qemu.minor == 2


async def test_a_starting_qemu_is_waited_for(short_tmp: Path) -> None:
    gate = short_tmp / "gate"
    os.mkfifo(gate)
    slowly = ["/bin/sh", "-c", 'read line < "$0"; exec "$@"', str(gate), *guest_argv(short_tmp, [])]
    async with started(short_tmp, slowly) as process, trio.open_nursery() as nursery:

        async def release() -> None:
            await trio.to_thread.run_sync(gate.write_text, "go\n")

        nursery.start_soon(release)
        monitor = await connect_monitor(nursery, short_tmp / "qmp", process=process)
        assert monitor.peer_pid == process.pid
        await monitor.aclose()


async def test_a_killed_qemus_socket_does_not_confuse_the_next_start(short_tmp: Path) -> None:
    path = short_tmp / "qmp"
    for _ in range(2):
        async with (
            started(short_tmp, guest_argv(short_tmp, [])) as process,
            open_monitor(path, process=process) as monitor,
        ):
            assert monitor.peer_pid == process.pid
        assert path.exists()


async def test_the_death_of_a_starting_qemu_is_noticed_long_before_the_deadline(short_tmp: Path) -> None:
    async with started(short_tmp, ["sleep", "60"]) as process, trio.open_nursery() as nursery:
        nursery.start_soon(kill_when_waited_for, process)
        with trio.fail_after(10), pytest.raises(HypervisorError, match="exit status -9"):
            await connect_monitor(nursery, short_tmp / "qmp", process=process)


@asynccontextmanager
async def started(folder: Path, argv: list[str]) -> AsyncIterator[GuestProcess]:
    async with killed_in_the_end(await spawn(argv, log_path=folder / "log")) as process:
        yield process


async def kill_when_waited_for(process: GuestProcess) -> None:
    await trio.testing.wait_all_tasks_blocked(0.005)
    process.kill()
