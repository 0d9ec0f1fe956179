"""The two daemons under comparison as processes of our own, in folders of our own, ended by their ids."""

from __future__ import annotations

import json
import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

REPOSITORY: Final = Path(__file__).parents[2]
PATIENCE: Final = 60.0
"""Seconds for a daemon to come up; libvirtd asks every QEMU what it can do when its cache is empty."""
SYSTEM_PYTHON: Final = "/usr/bin/python3"
"""The interpreter that Debian's python3-libvirt is for."""


class OursFailed(Exception):
    """virtsnapd did not start."""


class PeerFailed(Exception):
    """libvirtd, or its client, did not do what it was asked."""


@dataclass(kw_only=True)
class Ours:
    """A running virtsnapd."""

    process: subprocess.Popen[bytes]
    socket: Path
    ready_after: float
    """Seconds from the start of the process to READY=1."""

    def memory(self) -> int:
        """Return the bytes of RAM that it has now (VmRSS)."""
        return resident(self.process.pid)


def resident(pid: int) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    raise PeerFailed(f"process {pid} has no memory")


@contextmanager
def virtsnapd(folder: Path, drivers: tuple[str, ...]) -> Iterator[Ours]:
    """Run our daemon on the state in `folder`, which may hold some already."""
    folder.mkdir(exist_ok=True)
    config, notify = folder / "virtsnapd.toml", folder / "notify"
    config.write_text(f'[daemon]\nlog_level = "warning"\n[drivers]\nenabled = {json.dumps(drivers)}\n')
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as readiness:
        readiness.bind(str(notify))
        readiness.settimeout(0.5)
        folders = ("--runtime-dir", str(folder / "run"), "--state-dir", str(folder / "state"))
        options = ("--config", str(config), *folders)
        begin = time.perf_counter()
        process = subprocess.Popen(
            [sys.executable, "-m", "virtsnapd", *options],
            env=os.environ | {"NOTIFY_SOCKET": str(notify)},
            cwd=REPOSITORY,
        )
        try:
            _wait_ready(readiness, process)
            ready_after = time.perf_counter() - begin
            yield Ours(process=process, socket=folder / "run/virtsnapd.sock", ready_after=ready_after)
        finally:
            end(process)
            notify.unlink()


def _wait_ready(readiness: socket.socket, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + PATIENCE
    while process.poll() is None and time.monotonic() < deadline:
        with suppress(TimeoutError):
            if b"READY=1" in readiness.recv(4096):
                return
    raise OursFailed(f"virtsnapd did not become ready (exit status {process.poll()})")


def end(process: subprocess.Popen[Any]) -> None:
    """Stop a process that we started; by force when it does not listen."""
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


@dataclass(kw_only=True)
class Libvirt:
    """A running private libvirtd, and the process that makes calls to it."""

    folder: Path
    process: subprocess.Popen[bytes] | None = None
    client: subprocess.Popen[str] | None = None

    @property
    def test_uri(self) -> str:
        """The test driver: in memory, nothing is durable."""
        return f"test+unix:///default?socket={self.socket}"

    @property
    def qemu_uri(self) -> str:
        """The QEMU driver, whose snapshots are files."""
        return f"qemu+unix:///session?socket={self.socket}"

    @property
    def socket(self) -> Path:
        return self.folder / "run/libvirt-sock"

    def ask(self, do: str, **arguments: object) -> Any:  # noqa: ANN401 - what JSON may hold
        """Have the client do something and return its answer.

        Raises: PeerFailed.
        """
        client = self.client
        assert client is not None
        assert client.stdin is not None
        assert client.stdout is not None
        try:
            client.stdin.write(json.dumps({"do": do, **arguments}) + "\n")
            client.stdin.flush()
            answer = json.loads(client.stdout.readline() or '{"error": "the client has ended"}')
        except BrokenPipeError as error:
            raise PeerFailed("libvirt's client has ended") from error
        if "error" in answer:
            raise PeerFailed(f"{do}: {answer['error']}")
        return answer["value"]

    def memory(self) -> int:
        assert self.process is not None
        return resident(self.process.pid)

    def start(self) -> None:
        """Start libvirtd; in root's hands as an ordinary user, so that it touches nothing of the system's.

        Raises: PeerFailed.
        """
        environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(self.folder),
            "XDG_CONFIG_HOME": str(self.folder / "config"),
            "XDG_CACHE_HOME": str(self.folder / "cache"),
            "XDG_RUNTIME_DIR": str(self.folder / "session"),
        }
        command = ["libvirtd", "-f", str(self.folder / "libvirtd.conf"), "-p", str(self.folder / "pid")]
        with (self.folder / "stderr").open("ab") as stderr:
            if os.getuid() == 0:
                nobody = pwd.getpwnam("nobody")
                identity = {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}
                self.process = subprocess.Popen(command, env=environment, stderr=stderr, **identity)  # type: ignore[call-overload] # the three keywords are of three types
            else:
                self.process = subprocess.Popen(command, env=environment, stderr=stderr)
        assert self.process is not None
        deadline = time.monotonic() + PATIENCE
        while not self._answers():
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise PeerFailed(f"libvirtd did not start: {(self.folder / 'log').read_text()[-500:]}")
            time.sleep(0.01)

    def stop(self) -> None:
        if self.client is not None:
            with suppress(PeerFailed):
                self.ask("close")
        if self.process is not None:
            end(self.process)
            self.process = None

    def _answers(self) -> bool:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            return probe.connect_ex(str(self.socket)) == 0


@contextmanager
def libvirtd(folder: Path) -> Iterator[Libvirt]:
    """Run a private libvirtd: its own sockets, state and cache; no TCP, no TLS.

    Raises: PeerFailed.
    """
    if shutil.which("libvirtd") is None:
        raise PeerFailed("libvirtd is not installed: apt-get install libvirt-daemon-system")
    (folder / "run").mkdir(parents=True)
    (folder / "libvirtd.conf").write_text(
        f'listen_tls = 0\nlisten_tcp = 0\nunix_sock_dir = "{folder}/run"\nauth_unix_rw = "none"\n'
        f'max_clients = 200\nlog_outputs = "4:file:{folder}/log"\n'
    )
    if os.getuid() == 0:
        nobody = pwd.getpwnam("nobody")
        for path in (folder, folder / "run"):
            os.chown(path, nobody.pw_uid, nobody.pw_gid)
    peer = Libvirt(folder=folder)
    peer.client = subprocess.Popen(
        [SYSTEM_PYTHON, str(Path(__file__).with_name("libvirt_client.py"))],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        peer.start()
        peer.ask("version", uri=peer.test_uri)
        yield peer
    finally:
        peer.stop()
        assert peer.client.stdin is not None
        assert peer.client.stdout is not None
        peer.client.stdin.close()
        peer.client.stdout.close()
        end(peer.client)
