from __future__ import annotations

import os
import socket
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from virtsnapd import systemd

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def handed_over(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """Two descriptors in a row, which stand for those from 3 on, and inheritable as systemd leaves them."""
    first = os.open("/dev/null", os.O_RDONLY)
    second = os.dup2(first, first + 1)
    monkeypatch.setattr(systemd, "LISTEN_FDS_START", first)
    os.set_inheritable(first, True)
    yield [first, second]
    for fd in (first, second):
        os.close(fd)


def environment(names: str | None = "rw:ro", count: str = "2", pid: str = "42") -> dict[str, str]:
    given = {"LISTEN_PID": pid, "LISTEN_FDS": count, "PATH": "/bin"}
    return given if names is None else given | {"LISTEN_FDNAMES": names}


def test_descriptors_are_known_by_their_names(handed_over: list[int]) -> None:
    assert systemd.listen_fds(environment(), 42) == {"rw": handed_over[0], "ro": handed_over[1]}


def test_descriptors_are_not_inherited_by_guests(handed_over: list[int]) -> None:
    systemd.listen_fds(environment(), 42)
    assert [os.get_inheritable(fd) for fd in handed_over] == [False, False]


@pytest.mark.parametrize("pid", ["42", "43", "none"])
@pytest.mark.usefixtures("handed_over")
def test_the_variables_are_removed_whoever_they_were_for(pid: str) -> None:
    environ = environment(pid=pid)
    systemd.listen_fds(environ, 42)
    assert environ == {"PATH": "/bin"}


def test_nothing_is_handed_over_without_the_variables() -> None:
    assert systemd.listen_fds({}, 42) == {}


@pytest.mark.usefixtures("handed_over")
def test_descriptors_for_another_process_are_not_taken() -> None:
    assert systemd.listen_fds(environment(pid="43"), 42) == {}


@pytest.mark.parametrize(
    ("names", "second"), [(None, "fd{}"), ("rw", "fd{}"), ("rw:rw", "fd{}"), ("rw:x", "x")]
)
def test_a_descriptor_without_a_name_of_its_own_is_called_by_its_number(
    handed_over: list[int], names: str | None, second: str
) -> None:
    taken = systemd.listen_fds(environment(names), 42)
    assert taken[second.format(handed_over[1])] == handed_over[1]


def test_nonsense_is_ignored_and_logged(caplog: pytest.LogCaptureFixture) -> None:
    assert systemd.listen_fds(environment(count="many"), 42) == {}
    assert "LISTEN_FDS=many" in caplog.text


def test_a_promised_descriptor_that_is_not_open_is_ignored_and_logged(
    handed_over: list[int], caplog: pytest.LogCaptureFixture
) -> None:
    os.close(handed_over[1])
    try:
        assert systemd.listen_fds(environment(), 42) == {"rw": handed_over[0]}
    finally:
        os.dup2(handed_over[0], handed_over[1])
    assert "Bad file descriptor" in caplog.text


def test_a_real_activation_hands_over_a_listening_socket(short_tmp: Path) -> None:
    path = short_tmp / "s"
    program = (
        "import os, socket; from virtsnapd import systemd, listener;"
        "fds = systemd.listen_fds(os.environ, os.getpid());"
        "sock = listener.adopt_listener(fds['rw']);"
        "sock.settimeout(10); client = sock.accept()[0]; client.send(b'hello')"
    )
    activate = ["systemd-socket-activate", "--fdname=rw", f"--listen={path}", "-E", "PYTHONPATH"]
    environ = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen(
        [*activate, sys.executable, "-c", program], env=environ, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr is not None
        assert "Listening on" in process.stderr.readline()
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(30)
            client.connect(str(path))
            assert client.recv(5) == b"hello"
        process.stderr.read()
    assert process.returncode == 0


@pytest.mark.parametrize("kind", ["path", "abstract"])
def test_the_service_manager_is_notified(short_tmp: Path, kind: str) -> None:
    address = str(short_tmp / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind("\0" + address if kind == "abstract" else address)
        assert systemd.notify("READY=1", {"NOTIFY_SOCKET": "@" + address if kind == "abstract" else address})
        assert manager.recv(100) == b"READY=1"


def test_without_a_service_manager_nothing_is_sent() -> None:
    assert not systemd.notify("READY=1", {})


@pytest.mark.parametrize("address", ["vsock:2:1234", "/nonexistent/socket"])
def test_a_notification_that_cannot_be_sent_is_logged(address: str, caplog: pytest.LogCaptureFixture) -> None:
    assert not systemd.notify("READY=1", {"NOTIFY_SOCKET": address})
    assert address in caplog.text


def test_a_service_manager_that_does_not_read_does_not_block(
    short_tmp: Path, caplog: pytest.LogCaptureFixture
) -> None:
    address = str(short_tmp / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(address)
        while systemd.notify("STATUS=" + "x" * 1000, {"NOTIFY_SOCKET": address}):
            pass
    assert "temporarily unavailable" in caplog.text
