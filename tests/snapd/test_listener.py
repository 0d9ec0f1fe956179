from __future__ import annotations

import contextlib
import errno
import os
import resource
import socket
import stat
import subprocess
import sys
import threading
from typing import TYPE_CHECKING

import pytest
import trio

from virtsnap_protocol.errors import ConfigUnsupported, OperationFailed, SystemFailure
from virtsnapd import listener as listening
from virtsnapd.listener import (
    StateLock,
    UnixStream,
    adopt_listener,
    close_listener,
    open_unix_listener,
    serve,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def path(short_tmp: Path) -> Path:
    return short_tmp / "virtsnapd.sock"


@pytest.fixture
def listener(path: Path) -> Iterator[socket.socket]:
    listener = open_unix_listener(path, 0o660)
    yield listener
    listener.close()


def connected(path: Path) -> socket.socket:
    client = socket.socket(socket.AF_UNIX)
    client.settimeout(10)
    client.connect(str(path))
    return client


def reached(listener: socket.socket, client: socket.socket) -> bool:
    """Return whether `client` is among those who wait to be accepted."""
    client.send(b"it is me")
    while True:
        try:
            accepted, _ = listener.accept()
        except BlockingIOError:
            return False
        with accepted:
            if accepted.recv(100) == b"it is me":
                return True


def no_refusal(_stream: UnixStream) -> None:
    pytest.fail("refused a client")


# --- listening -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("umask", [0o000, 0o077])
def test_the_socket_has_its_mode_whatever_the_umask(path: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        listener = open_unix_listener(path, 0o666)
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o666
    listener.close()


def test_the_socket_is_private_until_it_has_its_mode(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []
    monkeypatch.setattr(os, "chown", lambda path, *_: seen.append(stat.S_IMODE(path.stat().st_mode)))
    before = os.umask(0)
    try:
        open_unix_listener(path, 0o666).close()
    finally:
        os.umask(before)
    assert seen == [0o600]


def test_the_socket_belongs_to_the_group(path: Path) -> None:
    if os.getuid() != 0:
        group, gid = "", os.getgid()
    else:
        group, gid = "daemon", 1
    open_unix_listener(path, 0o660, group).close()
    assert path.stat().st_gid == gid


def test_an_unknown_group_is_refused(path: Path) -> None:
    with pytest.raises(ConfigUnsupported, match="there is no group 'no-such-group'"):
        open_unix_listener(path, 0o660, "no-such-group")
    assert not path.exists()


def test_a_path_that_no_client_could_name_is_refused(short_tmp: Path) -> None:
    with pytest.raises(ConfigUnsupported, match="has 108 bytes, at most 107 are possible"):
        open_unix_listener(short_tmp / ("x" * (107 - len(str(short_tmp)))), 0o660)


def test_the_longest_path_works(short_tmp: Path) -> None:
    path = short_tmp / ("x" * (106 - len(str(short_tmp))))
    with open_unix_listener(path, 0o660), connected(path):
        pass


def test_a_missing_folder_is_made_so_that_clients_reach_the_socket(short_tmp: Path) -> None:
    before = os.umask(0o077)
    try:
        open_unix_listener(short_tmp / "a" / "b" / "s", 0o660).close()
    finally:
        os.umask(before)
    assert stat.S_IMODE((short_tmp / "a" / "b").stat().st_mode) == 0o755


def test_a_folder_that_is_there_keeps_its_mode(short_tmp: Path) -> None:
    open_unix_listener(short_tmp / "s", 0o660).close()
    assert stat.S_IMODE(short_tmp.stat().st_mode) == 0o700


def test_a_folder_that_cannot_be_made_is_reported(short_tmp: Path) -> None:
    (short_tmp / "file").touch()
    with pytest.raises(SystemFailure, match=r"cannot listen on '.*file/s': File exists"):
        open_unix_listener(short_tmp / "file" / "s", 0o660)


def test_a_daemon_that_answers_keeps_its_socket(path: Path, listener: socket.socket) -> None:
    with pytest.raises(OperationFailed, match=f"another virtsnapd is listening on '{path}'"):
        open_unix_listener(path, 0o660)
    with connected(path) as client:
        assert reached(listener, client)


def test_a_daemon_too_busy_to_accept_keeps_its_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as busy:
        busy.bind(str(path))
        busy.listen(0)
        with connected(path), pytest.raises(OperationFailed, match="another virtsnapd"):
            open_unix_listener(path, 0o660)


def test_the_socket_of_a_dead_daemon_is_replaced(path: Path) -> None:
    open_unix_listener(path, 0o600).close()
    with open_unix_listener(path, 0o660), connected(path):
        pass


def test_what_is_not_a_socket_is_not_removed(path: Path) -> None:
    path.write_text("precious")
    with pytest.raises(OperationFailed, match="exists and is not a socket"):
        open_unix_listener(path, 0o660)
    assert path.read_text() == "precious"


def test_a_failed_attempt_leaves_no_socket(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "chown", refuse)
    with pytest.raises(SystemFailure, match="Operation not permitted"):
        open_unix_listener(path, 0o660)
    assert not path.exists()


def test_of_daemons_starting_at_once_exactly_one_gets_the_socket(path: Path) -> None:
    open_unix_listener(path, 0o600).close()  # stale, so that each of them wants to replace it
    winners: list[socket.socket] = []
    barrier = threading.Barrier(8)

    def start() -> None:
        barrier.wait()
        with contextlib.suppress(OperationFailed):
            winners.append(open_unix_listener(path, 0o660))

    threads = [threading.Thread(target=start) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(winners) == 1
    with winners[0], connected(path) as client:
        assert reached(winners[0], client)


def test_closing_removes_the_socket(path: Path) -> None:
    close_listener(open_unix_listener(path, 0o660))
    assert not path.exists()


def test_closing_leaves_the_socket_of_a_successor(path: Path, listener: socket.socket) -> None:
    path.unlink()
    with open_unix_listener(path, 0o660):
        close_listener(listener)
        with connected(path):
            pass


def test_closing_after_the_folder_has_gone_is_no_error(short_tmp: Path) -> None:
    listener = open_unix_listener(short_tmp / "d" / "s", 0o660)
    (short_tmp / "d" / "s").unlink()
    (short_tmp / "d").rmdir()
    close_listener(listener)


def test_a_listening_descriptor_is_adopted(path: Path) -> None:
    original = open_unix_listener(path, 0o660)
    os.set_inheritable(original.fileno(), True)
    original.setblocking(True)
    with adopt_listener(original.detach()) as adopted:
        assert (adopted.gettimeout(), adopted.get_inheritable()) == (0.0, False)


def test_a_descriptor_that_is_no_listener_is_refused_and_left_open(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as idle, (tmp_path / "f").open("wb") as file:
        with pytest.raises(ConfigUnsupported, match="not a listening Unix stream socket"):
            adopt_listener(idle.fileno())
        with pytest.raises(ConfigUnsupported, match="is not a socket"):
            adopt_listener(file.fileno())
        assert os.fstat(idle.fileno())
        assert os.fstat(file.fileno())


# --- accepting -------------------------------------------------------------------------------------------------------


async def test_each_client_gets_a_handler_and_is_closed_after_it(path: Path, listener: socket.socket) -> None:
    async def shout(stream: UnixStream) -> None:
        stream.send_nowait((await stream.receive_some(100)).upper())

    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve, listener, shout, nursery, trio.Semaphore(10), no_refusal)
        for _ in range(2):
            async with await trio.open_unix_socket(path) as client:
                await client.send_all(b"hello")
                assert b"".join([bytes(chunk) async for chunk in client]) == b"HELLO"
        nursery.cancel_scope.cancel()


async def test_a_client_is_known_by_the_kernel(path: Path, listener: socket.socket) -> None:
    send, receive = trio.open_memory_channel[listening.PeerCredentials](1)

    async def tell(stream: UnixStream) -> None:
        await send.send(stream.peer)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve, listener, tell, nursery, trio.Semaphore(10), no_refusal)
        async with await trio.open_unix_socket(path):
            peer = await receive.receive()
        nursery.cancel_scope.cancel()
    assert peer == listening.PeerCredentials(pid=os.getpid(), uid=os.getuid(), gid=os.getgid())


@pytest.mark.checklist(278, ours="one client too many is told to try again later")
async def test_one_client_too_many_is_told_and_the_place_is_free_again_later(
    path: Path, listener: socket.socket
) -> None:
    async def echo(stream: UnixStream) -> None:
        while data := await stream.receive_some(100):
            stream.send_nowait(data)

    def refuse(stream: UnixStream) -> None:
        stream.send_nowait(b"full")

    clients = trio.Semaphore(1)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve, listener, echo, nursery, clients, refuse)
        async with await trio.open_unix_socket(path) as first:
            await first.send_all(b"1")
            assert await first.receive_some() == b"1"
            async with await trio.open_unix_socket(path) as second:
                assert b"".join([bytes(chunk) async for chunk in second]) == b"full"
        await clients.acquire()
        clients.release()
        async with await trio.open_unix_socket(path) as third:
            await third.send_all(b"3")
            assert await third.receive_some() == b"3"
        nursery.cancel_scope.cancel()


async def test_a_handler_that_ends_by_an_error_gives_its_place_back(
    path: Path, listener: socket.socket
) -> None:
    async def fail(_stream: UnixStream) -> None:
        raise RuntimeError("defect")

    clients = trio.Semaphore(1)
    with pytest.RaisesGroup(pytest.RaisesExc(RuntimeError, match="defect")):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(serve, listener, fail, nursery, clients, no_refusal)
            async with await trio.open_unix_socket(path) as client:
                await client.receive_some()
    assert clients.value == 1


async def test_accepting_survives_a_want_of_descriptors(
    path: Path,
    listener: socket.socket,
    caplog: pytest.LogCaptureFixture,
    autojump_clock: trio.testing.MockClock,
) -> None:
    async def greet(stream: UnixStream) -> None:
        stream.send_nowait(b"welcome")

    waiting = [connected(path) for _ in range(2)]
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    async with trio.open_nursery() as nursery:
        resource.setrlimit(resource.RLIMIT_NOFILE, (0, hard))
        try:
            nursery.start_soon(serve, listener, greet, nursery, trio.Semaphore(10), no_refusal)
            await trio.sleep(10 * listening.RETRY_SECONDS)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        await trio.sleep(2 * listening.RETRY_SECONDS)
        for client in waiting:
            assert client.recv(100) == b"welcome"
            client.close()
        nursery.cancel_scope.cancel()
    assert caplog.text.count("cannot accept clients for the moment: Too many open files") == 1


async def test_a_broken_listener_is_not_served_on(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as idle:
        idle.setblocking(False)
        idle.bind(str(path))
        async with trio.open_nursery() as nursery:
            with pytest.raises(OSError, match="Invalid argument"):
                await serve(idle, trio.sleep, nursery, trio.Semaphore(1), no_refusal)  # type: ignore[arg-type]  # never called


# --- one daemon per state folder -------------------------------------------------------------------------------------


def test_a_second_daemon_on_the_state_folder_is_refused_with_the_first_ones_pid(tmp_path: Path) -> None:
    with StateLock(tmp_path / "state"):
        message = f"state folder '{tmp_path}/state' is in use by process {os.getpid()}$"
        with pytest.raises(OperationFailed, match=message), StateLock(tmp_path / "state"):
            pass


def test_the_state_folder_is_free_again_after_release(tmp_path: Path) -> None:
    with StateLock(tmp_path):
        pass
    with StateLock(tmp_path):
        pass


def test_the_lock_ends_with_the_process_that_held_it(tmp_path: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from virtsnapd.listener import StateLock;"
        "StateLock(Path(sys.argv[1])).acquire(); print('locked', flush=True); sys.stdin.read()"
    )
    environ = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen(
        [sys.executable, "-c", program, tmp_path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environ
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"locked\n"
        with pytest.raises(OperationFailed, match=f"in use by process {holder.pid}$"):
            StateLock(tmp_path).acquire()
        holder.kill()
    with StateLock(tmp_path):
        pass


def test_a_missing_state_folder_is_made_so_that_guests_reach_their_monitors(tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        with StateLock(tmp_path / "state"):
            pass
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "state").stat().st_mode) == 0o711


def test_releasing_twice_is_harmless(tmp_path: Path) -> None:
    lock = StateLock(tmp_path)
    lock.acquire()
    lock.release()
    lock.release()


def test_a_state_folder_that_cannot_be_made_is_reported(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(SystemFailure, match=r"cannot use the state folder '.*file/state': Not a directory"):
        StateLock(tmp_path / "file" / "state").acquire()
