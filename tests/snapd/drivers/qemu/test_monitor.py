"""The monitor connection: the core on a scripted peer and on a real QEMU, the rare moments on the scripted one."""

from __future__ import annotations

import os
import signal
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest
import trio
import trio.testing

from tests.support.fake_qmp import FakeQmp, Never, Refusal, fake_qmp
from tests.support.guest import running_guest
from virtsnapd.drivers.qemu.connecting import connect_monitor, open_monitor
from virtsnapd.drivers.qemu.monitor import CommandFailed, Monitor, MonitorClosed

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path


@dataclass(frozen=True)
class Peer:
    """A QMP server, scripted or real, that can be frozen and killed."""

    monitor: Monitor
    freeze: Callable[[], None]
    kill: Callable[[], object]


@asynccontextmanager
async def scripted(folder: Path, **scripts: object) -> AsyncIterator[tuple[FakeQmp, Monitor]]:
    named = {name.replace("_", "-"): answer for name, answer in scripts.items()}
    async with fake_qmp(folder / "qmp", scripts=named) as fake, open_monitor(folder / "qmp") as monitor:
        yield fake, monitor


@asynccontextmanager
async def scripted_peer(folder: Path) -> AsyncIterator[Peer]:
    status = {"status": "prelaunch", "running": False}
    missing_fd = Refusal("No file descriptor supplied via SCM_RIGHTS")
    async with scripted(folder, query_status=status, query_name={}, cont={}, getfd=missing_fd) as (
        fake,
        monitor,
    ):
        fake.scripts["cont"] = lambda _: fake.events_first("RESUME")
        yield Peer(monitor, fake.stop_reading, fake.vanish)


@asynccontextmanager
async def real_peer(folder: Path) -> AsyncIterator[Peer]:
    del folder  # it has its own
    async with running_guest(paused=True) as guest:
        yield Peer(guest.monitor, lambda: os.kill(guest.process.pid, signal.SIGSTOP), guest.process.kill)


@pytest.fixture(params=[scripted_peer, real_peer])
async def peer(request: pytest.FixtureRequest, short_tmp: Path) -> AsyncIterator[Peer]:
    async with request.param(short_tmp) as made:
        yield made


# ---- the core, on both


async def test_a_command_returns_its_value(peer: Peer) -> None:
    assert (await peer.monitor.execute("query-status"))["status"] == "prelaunch"


async def test_the_greeting_tells_the_version(peer: Peer) -> None:
    assert peer.monitor.greeting.version.qemu.major == 7


async def test_an_unknown_command_fails_with_its_class_and_words(peer: Peer) -> None:
    with pytest.raises(CommandFailed) as caught:
        await peer.monitor.execute("no-such")
    assert caught.value.error_class == "CommandNotFound"
    assert str(caught.value) == (
        "unable to execute QEMU command 'no-such': The command no-such has not been found"
    )


async def test_a_failed_command_leaves_the_connection_usable(peer: Peer) -> None:
    with pytest.raises(CommandFailed):
        await peer.monitor.execute("no-such")
    assert await peer.monitor.execute("query-name") == {}


async def test_commands_of_many_tasks_get_their_own_answers(peer: Peer) -> None:
    async def ask(command: str, key: str) -> None:
        for _ in range(20):
            assert key in (await peer.monitor.execute(command)) or not key

    async with trio.open_nursery() as nursery:
        for _ in range(5):
            nursery.start_soon(ask, "query-status", "running")
            nursery.start_soon(ask, "query-name", "")


async def test_every_subscriber_gets_an_event(peer: Peer) -> None:
    with peer.monitor.events() as first, peer.monitor.events() as second:
        await peer.monitor.execute("cont")
        for channel in (first, second):
            event = await channel.receive()
            assert event.name == "RESUME"
            assert event.seconds > 1_600_000_000


async def test_a_subscriber_that_left_costs_nothing(peer: Peer) -> None:
    with peer.monitor.events():
        pass
    await peer.monitor.execute("cont")
    assert not peer.monitor.closed.is_set()


async def test_the_peers_death_fails_every_waiting_caller_at_once(peer: Peer) -> None:
    failures: list[MonitorClosed] = []

    async def ask() -> None:
        try:
            await peer.monitor.execute("query-status")
        except MonitorClosed as closed:
            failures.append(closed)

    peer.freeze()
    with trio.fail_after(10):
        async with trio.open_nursery() as nursery:
            for _ in range(3):
                nursery.start_soon(ask)
            await trio.testing.wait_all_tasks_blocked()
            peer.kill()
    assert [(failure.sent, "End of file from qemu monitor" in str(failure)) for failure in failures] == [
        (True, True)
    ] * 3


async def test_the_peers_death_ends_subscriptions_and_refuses_what_comes_later(peer: Peer) -> None:
    with peer.monitor.events() as events:
        peer.kill()
        with trio.fail_after(10):
            assert [event async for event in events if event.name != "SHUTDOWN"] == []
    await peer.monitor.closed.wait()
    with pytest.raises(MonitorClosed) as caught:
        await peer.monitor.execute("query-status")
    assert not caught.value.sent
    with peer.monitor.events() as late, pytest.raises(trio.EndOfChannel):
        await late.receive()


async def test_closing_fails_waiting_callers_and_leaves_the_peer_alone(peer: Peer) -> None:
    peer.freeze()
    async with trio.open_nursery() as nursery:

        async def ask() -> None:
            with pytest.raises(MonitorClosed, match="the monitor was closed"):
                await peer.monitor.execute("query-status")

        nursery.start_soon(ask)
        await trio.testing.wait_all_tasks_blocked()
        await peer.monitor.aclose()
        await peer.monitor.aclose()
    assert peer.monitor.closed.is_set()


async def test_a_descriptor_that_is_missing_is_refused(peer: Peer) -> None:
    with pytest.raises(CommandFailed, match="SCM_RIGHTS"):
        await peer.monitor.execute("getfd", {"fdname": "x"})


# ---- descriptors, on the real one


async def test_a_descriptor_travels_with_its_command(tmp_path: Path) -> None:
    async with running_guest(paused=True) as guest:
        with (tmp_path / "file").open("w") as file:
            await guest.monitor.execute("getfd", {"fdname": "x"}, fds=[file.fileno()])
        held = [os.readlink(entry) for entry in os.scandir(f"/proc/{guest.process.pid}/fd")]  # noqa: PTH115 (not all are paths)
        assert str(tmp_path / "file") in held


# ---- the rare moments, scripted


async def test_a_cancelled_caller_s_late_answer_is_dropped(short_tmp: Path) -> None:
    async with scripted(short_tmp, slow=Never(), query_name={}) as (fake, monitor):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(monitor.execute, "slow")
            await fake.wait_received("slow")
            nursery.cancel_scope.cancel()
        await fake.send({"return": {"late": True}, "id": fake.received[-1]["id"]})
        assert await monitor.execute("query-name") == {}


async def test_a_command_cancelled_before_its_turn_is_never_sent(short_tmp: Path) -> None:
    async with scripted(short_tmp, large={}, query_name={}, stop={}) as (fake, monitor):
        fake.stop_reading()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(monitor.execute, "large", {"text": "x" * 4_000_000})
            await trio.testing.wait_all_tasks_blocked()
            async with trio.open_nursery() as cancelled:
                cancelled.start_soon(monitor.execute, "stop")
                await trio.testing.wait_all_tasks_blocked()
                cancelled.cancel_scope.cancel()
            fake.read_on()
        assert await monitor.execute("query-name") == {}
        assert fake.commands() == ["qmp_capabilities", "large", "query-name"]


async def test_a_command_cancelled_half_way_onto_the_wire_still_arrives_whole(short_tmp: Path) -> None:
    async with scripted(short_tmp, large={}, query_name={}) as (fake, monitor):
        fake.stop_reading()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(monitor.execute, "large", {"text": "x" * 4_000_000})
            await trio.testing.wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()
        fake.read_on()
        assert await monitor.execute("query-name") == {}
        assert fake.received[1]["arguments"] == {"text": "x" * 4_000_000}


async def test_a_command_that_was_still_waiting_for_its_turn_is_known_not_to_be_sent(short_tmp: Path) -> None:
    async with scripted(short_tmp) as (fake, monitor):
        sent: dict[str, bool] = {}

        async def ask(command: str, **arguments: str) -> None:
            try:
                await monitor.execute(command, arguments)
            except MonitorClosed as closed:
                sent[command] = closed.sent

        fake.stop_reading()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(lambda: ask("large", text="x" * 4_000_000))
            await trio.testing.wait_all_tasks_blocked()
            nursery.start_soon(ask, "stop")
            await trio.testing.wait_all_tasks_blocked()
            fake.vanish()
    assert sent == {"large": True, "stop": False}


async def test_descriptors_of_a_command_that_was_never_sent_are_closed(short_tmp: Path) -> None:
    async with scripted(short_tmp) as (fake, monitor):
        before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208 (names are all that is needed)
        fake.stop_reading()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(monitor.execute, "large", {"text": "x" * 4_000_000})
            await trio.testing.wait_all_tasks_blocked()
            nursery.start_soon(monitor.execute, "getfd", {"fdname": "x"}, [0, 1, 2])
            await trio.testing.wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()
        await monitor.aclose()
        assert len(os.listdir("/proc/self/fd")) < before  # noqa: PTH208 (as above)


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"garbage\r\n", "not a QMP message"),
        (
            b'{"error": {"class": "GenericError", "desc": "bad JSON"}}\r\n',
            "could not read a command: bad JSON",
        ),
        (FakeQmp.greeting + b"\r\n", "greets twice"),
    ],
)
async def test_a_peer_that_breaks_the_protocol_ends_the_connection(
    short_tmp: Path, line: bytes, reason: str
) -> None:
    async with scripted(short_tmp, slow=Never()) as (fake, monitor), trio.open_nursery() as nursery:

        async def ask() -> None:
            with pytest.raises(MonitorClosed, match=reason):
                await monitor.execute("slow")

        nursery.start_soon(ask)
        await fake.wait_received("slow")
        await fake.send(line)


async def test_events_in_one_piece_with_an_answer_are_delivered_too(short_tmp: Path) -> None:
    async with scripted(short_tmp) as (fake, monitor):
        fake.scripts["query-name"] = lambda _: fake.events_first("STOP", "RESUME")
        with monitor.events() as events:
            assert await monitor.execute("query-name") == {}
            assert [(await events.receive()).name for _ in range(2)] == ["STOP", "RESUME"]


async def test_cancelling_the_nursery_that_a_monitor_lives_in_closes_it(short_tmp: Path) -> None:
    async with fake_qmp(short_tmp / "qmp"):
        async with trio.open_nursery() as nursery:
            monitor = await connect_monitor(nursery, short_tmp / "qmp")
            nursery.cancel_scope.cancel()
        assert monitor.closed.is_set()
