"""The command `virtsnapd` as a process of its own."""

from __future__ import annotations

import os
import re
import signal
import socket
import sqlite3
import subprocess
import sys
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import pytest
import trio

from tests.support import leaks
from tests.support.daemon import stored
from tests.support.qemu_host import Host
from tests.support.rpc import connected, until
from virtsnapd import VERSION
from virtsnapd.store import Store

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

DAEMON: Final = (sys.executable, "-m", "virtsnapd")
PATIENCE: Final = 30.0


def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*DAEMON, *map(str, arguments)], capture_output=True, text=True, check=False, timeout=PATIENCE
    )


def folders(folder: Path) -> list[str]:
    return ["--runtime-dir", str(folder / "r"), "--state-dir", str(folder / "s")]


@pytest.fixture
def host(short_tmp: Path) -> Iterator[Host]:
    host = Host(short_tmp, drivers=("test",))
    yield host
    host.close()


@dataclass
class ServiceManager:
    """What a daemon tells systemd."""

    ear: socket.socket
    path: Path

    def hear(self) -> str:
        return self.ear.recv(4096).decode()


@pytest.fixture
def service_manager(short_tmp: Path) -> Iterator[ServiceManager]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ear:
        ear.settimeout(PATIENCE)
        ear.bind(str(short_tmp / "n"))
        yield ServiceManager(ear, short_tmp / "n")


@contextmanager
def started(
    arguments: Sequence[str | Path],
    *,
    log: Path,
    manager: ServiceManager,
    environ: dict[str, str] | None = None,
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a command whose output goes to `log`; it is gone after the block."""
    with log.open("wb") as out:
        process = subprocess.Popen(
            list(map(str, arguments)),
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            env={**os.environ, **(environ or {}), "NOTIFY_SOCKET": str(manager.path)},
        )
    try:
        yield process
    finally:
        with suppress(ProcessLookupError):
            process.kill()
        process.wait()


# --- what needs no daemon ---


def test_the_version_is_told() -> None:
    done = run("--version")
    assert (done.returncode, done.stdout) == (0, f"virtsnapd {VERSION}\n")


def test_checking_where_nothing_is_stored_makes_no_store(short_tmp: Path) -> None:
    done = run(*folders(short_tmp), "--check")
    assert (done.returncode, done.stdout) == (0, f"{short_tmp}/s/store.sqlite: no store yet\n")
    assert not (short_tmp / "s/store.sqlite").exists()


def test_every_problem_of_the_configuration_is_told_with_its_place(short_tmp: Path) -> None:
    file = short_tmp / "virtsnapd.toml"
    file.write_text("[daemon]\nlog_level = 'loud'\nlogg_level = 1\n[limits]\nclients = 0\n")
    done = run("--config", file, *folders(short_tmp))
    assert done.returncode == 1
    assert sorted(line.removeprefix("virtsnapd: ").split(": ")[0] for line in done.stderr.splitlines()) == [
        f"{file}:daemon.log_level",
        f"{file}:daemon.logg_level",
        f"{file}:limits.clients",
    ]
    assert "did you mean daemon.log_level?" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (short_tmp / "s").exists()


def test_a_driver_that_does_not_exist_is_refused_by_name(short_tmp: Path) -> None:
    file = short_tmp / "virtsnapd.toml"
    file.write_text("[drivers]\nenabled = ['test', 'xen']\n")
    done = run("--config", file, *folders(short_tmp))
    assert done.returncode == 1
    assert "xen" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("version", [1000])
def test_a_store_of_a_newer_version_keeps_the_daemon_from_starting(short_tmp: Path, version: int) -> None:
    path = short_tmp / "s" / "store.sqlite"
    path.parent.mkdir()
    Store.open(path).close()
    connection = sqlite3.connect(path)
    connection.execute(f"PRAGMA user_version = {version}")
    connection.close()
    before = path.read_bytes()
    for more in ([], ["--check"]):
        done = run(*folders(short_tmp), *more)
        assert done.returncode == 1
        assert f"the store has format {version} and this daemon knows formats up to" in done.stderr
        assert "start the version of virtsnapd that wrote it" in done.stderr
        assert "Traceback" not in done.stderr
    assert path.read_bytes() == before


def test_a_damaged_store_keeps_the_daemon_from_starting(short_tmp: Path) -> None:
    path = short_tmp / "s" / "store.sqlite"
    path.parent.mkdir()
    path.write_bytes(b"certainly no database" * 100)
    for more in ([], ["--check"]):
        done = run(*folders(short_tmp), *more)
        assert (done.returncode, "file is not a database" in done.stderr) == (1, True)
        assert "Traceback" not in done.stderr
    assert path.read_bytes() == b"certainly no database" * 100


def test_hierarchies_that_make_no_tree_keep_the_daemon_from_starting(host: Host) -> None:
    host.start()
    take(host, "s1")
    take(host, "s2")
    host.stop()
    connection = sqlite3.connect(host.state / "store.sqlite")
    records = dict(connection.execute("SELECT name, record FROM snapshots").fetchall())
    connection.execute("UPDATE snapshots SET record = ? WHERE name = 's1'", (records["s2"],))
    connection.commit()
    connection.close()
    done = run(*folders(host.folder))
    assert done.returncode == 1
    assert "snapshots of domain 'test'" in done.stderr
    assert "Traceback" not in done.stderr


def take(host: Host, name: str, *, domain: str = "test") -> None:
    """Take a snapshot over a connection of its own."""

    async def client() -> None:
        async with connected(host.socket) as rpc:
            await rpc.take(name, domain=domain)

    trio.run(client)


# --- a daemon that runs ---


def test_a_check_tells_what_is_stored(host: Host) -> None:
    host.start()
    take(host, "s1")
    host.stop()
    assert host.check() == f"{host.state}/store.sqlite: 1 domains, 1 snapshots\n"


def test_one_daemon_at_a_time_uses_a_state_folder(host: Host) -> None:
    host.start()
    other = ["--runtime-dir", str(host.folder / "r2"), "--state-dir", str(host.state)]
    done = run(*other)
    assert done.returncode == 1
    assert f"state folder '{host.state}' is in use by process {host.pid}" in done.stderr
    assert "Traceback" not in done.stderr
    take(host, "s1")


def test_a_check_disturbs_no_running_daemon(host: Host) -> None:
    host.start()
    take(host, "s1")
    done = run("--runtime-dir", host.folder / "r2", "--state-dir", host.state, "--check")
    assert (done.returncode, done.stdout) == (0, f"{host.state}/store.sqlite: 1 domains, 1 snapshots\n")
    take(host, "s2")


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("[drivers]\nenabled = ['tset']", "drivers.enabled: there is no driver 'tset', only test, qemu"),
        ("[daemon]\ngroup = 'nosuchgroup'", "daemon.group: there is no group 'nosuchgroup'"),
        ("[qemu]\nuser = 'nosuchuser'", "qemu.user: there is no user 'nosuchuser'"),
    ],
)
@pytest.mark.parametrize("more", [[], ["--check"]])
def test_a_setting_that_this_host_cannot_follow_is_refused(
    short_tmp: Path, setting: str, words: str, more: list[str]
) -> None:
    (short_tmp / "c.toml").write_text(setting)
    done = run("--config", short_tmp / "c.toml", *folders(short_tmp), *more)
    assert (done.returncode, words in done.stderr) == (1, True)
    assert "Traceback" not in done.stderr


def test_one_daemon_at_a_time_uses_a_socket(host: Host) -> None:
    host.start()
    done = run("--runtime-dir", host.folder / "r", "--state-dir", host.folder / "s2")
    assert done.returncode == 1
    assert f"another virtsnapd is listening on '{host.socket}'" in done.stderr
    assert "Traceback" not in done.stderr
    take(host, "s1")


def test_a_killed_daemon_s_sockets_are_no_hindrance(host: Host) -> None:
    host.start()
    take(host, "s1")
    host.kill()
    assert host.socket.exists()
    host.start()
    take(host, "s2")
    assert host.stop() == 0
    assert not host.socket.exists()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_the_daemon_in_order(host: Host, number: signal.Signals) -> None:
    host.start()
    take(host, "s1")
    os.kill(host.pid, number)
    assert host._end(None) == 0
    assert f"stopping on {number.name}" in host.log.read_text()
    assert not (host.folder / "r/virtsnapd-ro.sock").exists()
    assert len(stored(host.state).hierarchies) == 1


async def test_a_call_under_way_is_finished_and_answered_before_the_end(short_tmp: Path) -> None:
    command = [sys.executable, "-m", "tests.support.crashing_daemon", "--delay", "take", "0.5"]
    host = Host(short_tmp, drivers=("test",), command=command)
    try:
        await trio.to_thread.run_sync(host.start)
        async with connected(host.socket) as rpc, connected(host.socket) as other:
            xml = "<domainsnapshot><name>s1</name></domainsnapshot>"
            taking = await rpc.begin("snapshot.create", domain="test", xml=xml)
            probe = {"domain": "test", "xml": "<nothing/>", "flags": ["redefine"]}
            with trio.fail_after(PATIENCE):
                while (await other.refusal("snapshot.create", **probe)).kind != "domain-busy":
                    pass
            os.kill(host.pid, signal.SIGTERM)
            assert (await rpc.result(taking))["snapshot"]["name"] == "s1"
            assert await rpc.frame() is None
        assert await trio.to_thread.run_sync(lambda: host._end(None)) == 0
    finally:
        host.close()
    ((_, snapshots),) = stored(host.state).hierarchies
    assert [snapshot.name for snapshot in snapshots] == ["s1"]


def test_the_service_manager_is_told_of_start_and_stop(
    short_tmp: Path, service_manager: ServiceManager
) -> None:
    command = [*DAEMON, *folders(short_tmp)]
    with started(command, log=short_tmp / "log", manager=service_manager) as process:
        assert service_manager.hear() == "READY=1"
        process.send_signal(signal.SIGTERM)
        assert service_manager.hear() == "STOPPING=1"
        assert process.wait(PATIENCE) == 0


async def test_a_socket_of_the_service_manager_starts_the_daemon(
    short_tmp: Path, service_manager: ServiceManager
) -> None:
    rw, ro = short_tmp / "rw.sock", short_tmp / "ro.sock"
    mark, _, value = leaks.MARK.partition("=")
    command = [
        "systemd-socket-activate", f"--listen={rw}", f"--listen={ro}", "--fdname=rw:ro",
        f"--setenv={mark}={value}", f"--setenv=NOTIFY_SOCKET={service_manager.path}",
        *DAEMON, *folders(short_tmp),
    ]  # fmt: skip
    log = short_tmp / "log"
    with started(command, log=log, manager=service_manager) as process:
        await until(ro.exists)
        async with connected(rw) as rpc:  # nobody serves it before this client comes
            await rpc.call("snapshot.create", domain="test", uri="test:///default", xml="<domainsnapshot/>")
        assert await trio.to_thread.run_sync(service_manager.hear) == "READY=1"
        async with connected(ro) as rpc:
            assert (await rpc.call("connection.hello"))["you"]["read_only"] is True
            assert (await rpc.refusal("domain.destroy", domain="test")).code == 29
        process.send_signal(signal.SIGTERM)
        assert await trio.to_thread.run_sync(lambda: process.wait(PATIENCE)) == 0
    assert not (short_tmp / "r").exists(), "it opened sockets of its own"
    assert rw.exists(), "the service manager's socket is not the daemon's to remove"


async def test_it_starts_without_qemu_and_says_which_driver_is_missing_and_why(
    short_tmp: Path, service_manager: ServiceManager
) -> None:
    (short_tmp / "empty").mkdir()
    log = short_tmp / "log"
    environ = {"PATH": str(short_tmp / "empty")}
    with started(
        [*DAEMON, *folders(short_tmp)], log=log, manager=service_manager, environ=environ
    ) as process:
        assert await trio.to_thread.run_sync(service_manager.hear) == "READY=1"
        async with connected(short_tmp / "r" / "virtsnapd.sock") as rpc:
            hello = await rpc.call("connection.hello")
            drivers = {driver["scheme"]: driver for driver in hello["drivers"]}
            assert hello["uri"] == "test:///default"
            assert (drivers["test"]["available"], drivers["qemu"]["available"]) == (True, False)
            assert "qemu-system" in drivers["qemu"]["reason"]
            await rpc.take("s1")
            error = await rpc.refusal("domain.list", uri="qemu:///system")
            assert (error.code, error.kind) == (5, "driver-unavailable")
            assert drivers["qemu"]["reason"] in str(error)
        process.send_signal(signal.SIGTERM)
        await trio.to_thread.run_sync(lambda: process.wait(PATIENCE))
    assert re.search(r"driver qemu is not available: .*qemu-system", log.read_text())


def test_what_another_daemon_left_unfinished_is_told_by_the_check(host: Host) -> None:
    host.start()
    take(host, "s1")
    host.stop()
    connection = sqlite3.connect(host.state / "store.sqlite")
    connection.execute(
        "INSERT INTO operations SELECT 'test', 'u', 'take', record, 'running', 1 FROM snapshots"
    )
    connection.commit()
    connection.close()
    assert host.check() == f"{host.state}/store.sqlite: 1 domains, 1 snapshots, 1 unfinished operations\n"
