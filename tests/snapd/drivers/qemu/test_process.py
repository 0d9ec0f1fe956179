"""The guest's process: detached, recognised again, watched, reaped."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import pytest
import trio

from tests.support.guest import guest_argv, killed_in_the_end
from virtsnap_protocol.errors import HypervisorError, SystemFailure
from virtsnapd.drivers.qemu.connecting import open_monitor
from virtsnapd.drivers.qemu.process import (
    GuestIdentity,
    GuestProcess,
    adopt,
    read_boot_id,
    read_start_time,
    spawn,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

ROOT = Path(__file__).parents[4]

PARENT = """
import sys, pathlib, msgspec, trio
from virtsnapd.drivers.qemu.process import spawn
async def main():
    process = await spawn(sys.argv[2:], log_path=pathlib.Path(sys.argv[1]))
    print(msgspec.json.encode(process.identity).decode(), flush=True)
    sys.stdin.read()
trio.run(main)
"""
"""A daemon in small: it starts a guest, tells its identity, and goes on until its standard input ends."""


@asynccontextmanager
async def running(
    folder: Path, *argv: str, environment: dict[str, str] | None = None, pass_fds: Sequence[int] = ()
) -> AsyncIterator[GuestProcess]:
    process = await spawn(argv, log_path=folder / "log", environment=environment, pass_fds=pass_fds)
    async with killed_in_the_end(process):
        yield process


def shell(script: str) -> tuple[str, ...]:
    return ("/bin/sh", "-c", script)


async def ended_log(
    folder: Path, script: str, *, environment: dict[str, str] | None = None, pass_fds: Sequence[int] = ()
) -> str:
    async with running(folder, *shell(script), environment=environment, pass_fds=pass_fds) as process:
        await process.wait_ended()
        return await process.log_tail()


async def test_the_exit_status_of_a_child_is_known(tmp_path: Path) -> None:
    async with running(tmp_path, *shell("exit 3")) as process:
        assert await process.wait_ended() == 3
        assert process.ended()


async def test_a_killed_child_has_the_signals_number_as_status(tmp_path: Path) -> None:
    async with running(tmp_path, "sleep", "60") as process:
        assert not process.ended()
        process.kill()
        assert await process.wait_ended() == -signal.SIGKILL


async def test_terminate_is_the_gentle_signal(tmp_path: Path) -> None:
    async with running(tmp_path, "sleep", "60") as process:
        process.terminate()
        assert await process.wait_ended() == -signal.SIGTERM


async def test_an_ended_child_is_reaped(tmp_path: Path) -> None:
    async with running(tmp_path, "true") as process:
        await process.wait_ended()
        with pytest.raises(ProcessLookupError):
            os.kill(process.pid, 0)


async def test_closing_reaps_a_dead_child_and_leaves_a_living_one_alone(tmp_path: Path) -> None:
    async with running(tmp_path, "sleep", "60") as process:
        again = adopt(process.identity)
        assert again is not None
        await again.aclose()
        await again.aclose()
        assert not process.ended()


async def test_signals_to_a_dead_process_do_nothing(tmp_path: Path) -> None:
    async with running(tmp_path, "true") as process:
        await process.wait_ended()
        process.kill()
        process.terminate()


async def test_many_tasks_may_wait_for_the_end(tmp_path: Path) -> None:
    statuses = []

    async def wait(process: GuestProcess) -> None:
        statuses.append(await process.wait_ended())

    async with running(tmp_path, "sleep", "60") as process, trio.open_nursery() as nursery:
        for _ in range(3):
            nursery.start_soon(wait, process)
        await trio.testing.wait_all_tasks_blocked()
        process.kill()
    assert statuses == [-signal.SIGKILL] * 3


async def test_a_guest_has_its_own_session_and_no_terminal(tmp_path: Path) -> None:
    async with running(tmp_path, "sleep", "60") as process:
        assert os.getsid(process.pid) == process.pid
        assert os.readlink(f"/proc/{process.pid}/fd/0") == "/dev/null"  # noqa: PTH115 (what an open file is)


async def test_a_guest_inherits_no_descriptor_that_is_not_given_to_it(tmp_path: Path) -> None:
    with (tmp_path / "secret").open("w") as secret, (tmp_path / "given").open("w") as given:
        os.set_inheritable(secret.fileno(), True)
        log = await ended_log(tmp_path, "ls -l /proc/$$/fd", pass_fds=[given.fileno()])
    assert "given" in log
    assert "secret" not in log


async def test_the_environment_is_replaced_when_one_is_given(tmp_path: Path) -> None:
    log = await ended_log(tmp_path, "echo [$VIRTSNAP_X]", environment={"VIRTSNAP_X": "7"})
    assert log == "[7]"


async def test_both_outputs_are_appended_to_the_log_which_is_private(tmp_path: Path) -> None:
    await ended_log(tmp_path, "echo one")
    await ended_log(tmp_path, "echo two >&2")
    assert (tmp_path / "log").read_text() == "one\ntwo\n"
    assert (tmp_path / "log").stat().st_mode & 0o777 == 0o600


async def test_the_tail_is_the_end_of_what_this_start_wrote(tmp_path: Path) -> None:
    assert await ended_log(tmp_path, "echo old") == "old"
    async with running(tmp_path, *shell("echo new words")) as process:
        await process.wait_ended()
        assert await process.log_tail() == "new words"
        assert await process.log_tail(7) == "words"


async def test_a_missing_program_is_reported_by_name(tmp_path: Path) -> None:
    with pytest.raises(SystemFailure) as caught:
        await spawn(["/nonexistent/qemu"], log_path=tmp_path / "log")
    assert str(caught.value) == "cannot execute binary /nonexistent/qemu: No such file or directory"


async def test_a_log_that_cannot_be_opened_is_reported_before_anything_starts(tmp_path: Path) -> None:
    with pytest.raises(SystemFailure, match=r"failed to open log file '.*/no/log': No such file"):
        await spawn(shell(f"touch {tmp_path}/started"), log_path=tmp_path / "no" / "log")
    assert not (tmp_path / "started").exists()


@pytest.mark.parametrize("end", ["exit", "kill"])
async def test_a_guest_outlives_the_daemon_that_started_it_and_is_adopted(tmp_path: Path, end: str) -> None:
    identity = await trio.to_thread.run_sync(identity_from_a_daemon_that_ended, tmp_path, end)
    process = adopt(identity, log_path=tmp_path / "log")
    assert process is not None
    async with killed_in_the_end(process):
        assert not process.ended()
        process.kill()
        with trio.fail_after(10):
            assert await process.wait_ended() is None  # nobody tells its status to a stranger
        assert adopt(identity) is None


def identity_from_a_daemon_that_ended(folder: Path, by: str) -> GuestIdentity:
    paths = os.pathsep.join([*(str(Path(entry).resolve()) for entry in sys.path if entry), str(ROOT)])
    with subprocess.Popen(
        [sys.executable, "-c", PARENT, str(folder / "log"), "sleep", "60"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": paths},
        start_new_session=True,
    ) as daemon:
        assert daemon.stdout is not None
        line = daemon.stdout.readline()
        if by == "kill":
            os.killpg(daemon.pid, signal.SIGKILL)
    return msgspec.json.decode(line, type=GuestIdentity)


def test_a_zombie_that_nobody_reaped_is_not_adopted() -> None:
    with subprocess.Popen(["sleep", "60"]) as child:
        identity = GuestIdentity(pid=child.pid, start_time=read_start_time(child.pid), boot_id=read_boot_id())
        child.kill()
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        assert Path(f"/proc/{child.pid}/stat").exists()
        assert adopt(identity) is None


async def test_another_process_of_the_same_pid_is_not_adopted(tmp_path: Path) -> None:
    async with running(tmp_path, "sleep", "60") as process:
        other = msgspec.structs.replace(process.identity, start_time=process.identity.start_time - 1)
        assert adopt(other) is None


async def test_a_process_of_another_boot_is_not_adopted(tmp_path: Path) -> None:
    async with running(tmp_path, "sleep", "60") as process:
        assert adopt(msgspec.structs.replace(process.identity, boot_id="another")) is None


async def test_a_pid_that_nobody_has_is_not_adopted(tmp_path: Path) -> None:
    async with running(tmp_path, "true") as process:
        await process.wait_ended()
        assert adopt(process.identity) is None


async def test_a_program_with_brackets_in_its_name_has_a_start_time(tmp_path: Path) -> None:
    odd = tmp_path / "a) R (b"
    odd.symlink_to("/bin/sleep")
    async with running(tmp_path, str(odd), "60") as process, running(tmp_path, "sleep", "60") as plain:
        assert 0 <= plain.identity.start_time - process.identity.start_time < 1000


async def test_a_qemu_that_does_not_start_is_reported_with_its_own_words(short_tmp: Path) -> None:
    (short_tmp / "log").write_text("an older start: failed\n")
    argv = [*guest_argv(short_tmp, []), "-device", "no-such-thing"]
    async with running(short_tmp, *argv) as process:
        with pytest.raises(HypervisorError) as caught:
            async with open_monitor(short_tmp / "qmp", process=process):
                pytest.fail("there is no monitor")
    message = str(caught.value)
    assert message.startswith("internal error: process exited while connecting to monitor: ")
    assert "'no-such-thing' is not a valid device model name" in message
    assert "an older start" not in message
    assert caught.value.cause
    assert caught.value.cause in message
    assert caught.value.details == {"exit_status": 1}


async def test_a_program_that_ends_without_a_word_is_reported_with_its_status(short_tmp: Path) -> None:
    async with running(short_tmp, *shell("exit 4")) as process:
        with pytest.raises(HypervisorError, match="exit status 4"):
            async with open_monitor(short_tmp / "qmp", process=process):
                pytest.fail("there is no monitor")


async def test_an_adopted_qemu_is_still_the_peer_of_its_monitor(short_tmp: Path) -> None:
    async with running(short_tmp, *guest_argv(short_tmp, [])) as process:
        async with open_monitor(short_tmp / "qmp", process=process):
            pass
        again = adopt(process.identity)
        assert again is not None
        async with aclosing(again), open_monitor(short_tmp / "qmp", process=again) as monitor:
            assert monitor.peer_pid == again.pid
