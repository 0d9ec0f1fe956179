from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
import trio
from trio.testing import wait_all_tasks_blocked
from typing_extensions import override

from tests.support.daemon import Gate, Running, running_daemon, settings
from tests.support.rpc import Rpc, connected, until
from virtsnap.connection import open_connection
from virtsnap_protocol.errors import ConnectionLost, InternalFault, TooBusy
from virtsnapd.config import LimitSettings
from virtsnapd.drivers.simulated.faults import Fault, Faults, Step

if TYPE_CHECKING:
    from pathlib import Path

PING = b'{"jsonrpc":"2.0","id":%d,"method":"connection.ping"}\n'
SNAPSHOT = "<domainsnapshot><name>%s</name></domainsnapshot>"


class Defect(Faults):
    """A hypervisor whose driver is wrong."""

    @override
    async def reach(self, step: Step) -> None:
        raise ZeroDivisionError("the secret detail")


async def snapshots_taken(running: Running, *names: str) -> None:
    """Wait until the domain has these snapshots and nobody holds it."""
    domain = running.domain()
    await until(lambda: [s.name for s in domain.hierarchy.forest] == [*names] and domain.lock.holder is None)


async def test_a_change_is_carried_through_though_its_caller_vanishes(running: Running) -> None:
    gate = Gate(running, "take")
    async with running.client() as rpc:
        await rpc.begin("snapshot.create", domain="test", xml=SNAPSHOT % "s1")
        await gate.entered.wait()
    gate.opened.set()
    await snapshots_taken(running, "s1")


async def test_a_client_that_has_said_all_still_gets_its_answers(running: Running) -> None:
    gate = Gate(running, "take")
    async with running.client() as rpc:
        identity = await rpc.begin("snapshot.create", domain="test", xml=SNAPSHOT % "s1")
        await rpc.stream.send_eof()
        await gate.entered.wait()
        gate.opened.set()
        assert (await rpc.result(identity))["snapshot"]["name"] == "s1"
        assert await rpc.frame() is None


async def test_a_last_line_needs_no_newline(rpc: Rpc) -> None:
    await rpc.send(b'{"jsonrpc":"2.0","id":7,"method":"connection.ping"}')
    await rpc.stream.send_eof()
    assert await rpc.frame() == {"jsonrpc": "2.0", "id": 7, "result": {}}
    assert await rpc.frame() is None


async def test_half_a_last_line_is_answered_with_an_error(rpc: Rpc) -> None:
    await rpc.send(b'{"jsonrpc":"2.0","id":7,"meth')
    await rpc.stream.send_eof()
    assert (await rpc.frame())["error"]["code"] == -32700


async def test_a_ping_is_answered_while_a_long_call_runs(running: Running, rpc: Rpc) -> None:
    gate = Gate(running, "take")
    long = await rpc.begin("snapshot.create", domain="test", xml=SNAPSHOT % "s1")
    await gate.entered.wait()
    assert await rpc.call("connection.ping") == {}
    gate.opened.set()
    assert (await rpc.result(long))["snapshot"]["name"] == "s1"


async def test_reading_a_domain_does_not_wait_for_the_operation_that_holds_it(
    running: Running, rpc: Rpc
) -> None:
    gate = Gate(running, "take")
    await rpc.begin("snapshot.create", domain="test", xml=SNAPSHOT % "s1")
    await gate.entered.wait()
    assert await rpc.tree() == {}
    assert (await rpc.call("domain.info", domain="test"))["domain"]["state"] == "running"
    gate.opened.set()


async def test_a_stuck_guest_keeps_nobody_else_from_changing_another(running: Running, rpc: Rpc) -> None:
    other = "<domain type='test'><name>other</name><memory>1024</memory><os><type>hvm</type></os></domain>"
    await rpc.call("domain.create", xml=other)
    gate = Gate(running, "revert")
    await rpc.take("s1")
    stuck = await rpc.begin("snapshot.revert", domain="test", snapshot="s1")
    await gate.entered.wait()
    await rpc.take("s1", domain="other")
    gate.opened.set()
    await rpc.result(stuck)


async def test_a_busy_domain_names_its_holder_over_the_wire(running: Running, rpc: Rpc) -> None:
    gate = Gate(running, "take")
    await rpc.begin("snapshot.create", domain="test", xml=SNAPSHOT % "s1")
    await gate.entered.wait()
    error = await rpc.refusal("domain.suspend", domain="test")
    assert (error.code, error.kind, error.retryable) == (68, "domain-busy", True)
    assert error.details["job"] == "snapshot.create"
    assert error.details["holder"] == f"uid {os.getuid()}, process {os.getpid()}"
    gate.opened.set()


async def test_a_request_can_be_cancelled(running: Running, rpc: Rpc) -> None:
    gate = Gate(running, "take")
    with running.nothing_changes():
        taking = await rpc.begin("snapshot.create", domain="test", xml=SNAPSHOT % "s1")
        await gate.entered.wait()
        await rpc.send(b'{"jsonrpc":"2.0","method":"$/cancelRequest","params":{"id":%d}}\n' % taking)
        answer = await rpc.answer(taking)
        assert answer["error"]["code"] == -32800
        await snapshots_taken(running)
    assert running.domain().row.attention is None


async def test_cancelling_a_request_that_is_answered_already_does_nothing(rpc: Rpc) -> None:
    await rpc.take("s1")
    await rpc.send(b'{"jsonrpc":"2.0","method":"$/cancelRequest","params":{"id":1}}\n')
    assert await rpc.tree() == {"s1": None}


async def test_answers_of_a_batch_travel_together(rpc: Rpc) -> None:
    texts = [
        '{"jsonrpc":"2.0","id":"a","method":"connection.ping"}',
        '{"jsonrpc":"2.0","method":"connection.ping"}',
        '{"jsonrpc":"2.0","id":"b","method":"snapshot.create","params":{"domain":"test","xml":"<domainsnapshot/>"}}',
        '{"jsonrpc":"2.0","id":"c","method":"no.such"}',
        "1",
    ]
    frame = await rpc.line(f"[{','.join(texts)}]")
    answered = {answer["id"]: answer.get("error", {}).get("code") for answer in frame}
    assert answered == {"a": None, "b": None, "c": -32601, None: -32600}


async def test_a_notification_is_carried_out_and_not_answered(running: Running, rpc: Rpc) -> None:
    params = msgspec.json.encode({"domain": "test", "xml": SNAPSHOT % "s1"}).decode()
    await rpc.send(f'{{"jsonrpc":"2.0","method":"snapshot.create","params":{params}}}\n'.encode())
    await snapshots_taken(running, "s1")
    assert await rpc.line('{"jsonrpc":"2.0","id":9,"method":"connection.ping"}') == {
        "jsonrpc": "2.0",
        "id": 9,
        "result": {},
    }


async def test_calls_answer_out_of_order(running: Running, rpc: Rpc) -> None:
    gate = Gate(running, "take")
    slow = await rpc.begin("snapshot.create", domain="test", xml=SNAPSHOT % "s1")
    await gate.entered.wait()
    fast = await rpc.begin("connection.ping")
    first = await rpc.frame()
    gate.opened.set()
    second = await rpc.frame()
    assert [first["id"], second["id"]] == [fast, slow]


async def test_a_defect_is_answered_with_a_reference_and_the_daemon_lives(
    running: Running, rpc: Rpc, caplog: pytest.LogCaptureFixture
) -> None:
    running.driver.faults = Defect()
    with running.nothing_changes():
        error = await rpc.refusal("domain.destroy", domain="test")
    assert isinstance(error, InternalFault)
    assert "secret" not in str(error)
    assert str(error.details["reference"]) in caplog.text
    assert "the secret detail" in caplog.text
    assert await rpc.call("connection.ping") == {}


@pytest.mark.checklist(276, ours="the length of a message is configured, 64 MiB at first")
async def test_a_line_that_is_too_long_is_answered_and_ends_the_conversation(short_tmp: Path) -> None:
    config = settings(short_tmp, limits=LimitSettings(frame_bytes=4096))
    async with running_daemon(config) as running, running.client() as rpc, running.client() as other:
        await rpc.send(PING % 1 + b"x" * 5000)
        assert (await rpc.frame())["id"] == 1
        assert (await rpc.frame())["error"]["code"] == -32001
        assert await rpc.frame() is None
        assert await other.call("connection.ping") == {}


@pytest.mark.checklist(279, ours="one request too many is told to try again later")
async def test_more_requests_than_allowed_are_told_to_try_again(short_tmp: Path) -> None:
    config = settings(short_tmp, limits=LimitSettings(requests_in_flight=1))
    async with running_daemon(config) as running, running.client() as rpc:
        gate = Gate(running, "take")
        waiting = await rpc.begin("snapshot.create", domain="test", xml=SNAPSHOT % "a")
        await gate.entered.wait()
        error = await rpc.refusal("snapshot.create", domain="test", xml=SNAPSHOT % "b")
        assert isinstance(error, TooBusy)
        assert error.retryable
        assert await rpc.call("connection.ping") == {}
        gate.opened.set()
        await rpc.result(waiting)
        await rpc.take("c")


@pytest.mark.checklist(278, ours="one client too many is told to try again later")
async def test_clients_that_only_look_take_no_place_of_those_that_change(short_tmp: Path) -> None:
    config = settings(short_tmp, limits=LimitSettings(clients=1))
    async with (
        running_daemon(config) as running,
        running.client(read_only=True) as reader,
        running.client() as rpc,
    ):
        await rpc.take("s1")
        async with running.client() as late:
            refusal = await late.frame()
            assert refusal["error"]["data"]["retryable"] is True
            assert await late.frame() is None
        assert await reader.call("connection.ping") == {}


async def flooding(path: Path, request: bytes, started: trio.Event) -> None:
    """Ask and ask, and never read an answer."""
    async with connected(path) as client:
        with trio.move_on_after(60):
            while True:
                await client.stream.send_all(request * 100)
                started.set()


async def test_a_client_that_never_reads_is_not_read_from_and_costs_bounded_memory(
    short_tmp: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    limit = 65536
    config = settings(short_tmp, limits=LimitSettings(outbox_bytes=limit))
    largest = [0]

    async with running_daemon(config) as running, trio.open_nursery() as nursery:
        from virtsnapd.session import Outbox  # noqa: PLC0415 - watched below

        put = Outbox.put

        def watched(outbox: Outbox, data: bytes) -> None:
            put(outbox, data)
            largest[0] = max(largest[0], len(outbox._buffer))

        monkeypatch.setattr(Outbox, "put", watched)
        request = b'{"jsonrpc":"2.0","id":1,"method":"rpc.discover"}\n'
        started = trio.Event()
        nursery.start_soon(flooding, config.socket, request, started)
        await started.wait()
        async with running.client() as rpc:
            (answer,) = [await rpc.line(request.decode().strip())]
            size = len(msgspec.json.encode(answer))
            while largest[0] <= limit:
                await rpc.call("connection.ping")
            for _ in range(200):
                await rpc.call("connection.ping")
            await rpc.take("s1")
        nursery.cancel_scope.cancel()
    assert size > 20_000  # else the bound below proves little
    assert largest[0] <= limit + 2 * size


async def test_who_the_caller_is_comes_from_the_kernel(rpc: Rpc) -> None:
    hello = await rpc.call("connection.hello")
    assert hello["you"] == {"uid": os.getuid(), "gid": os.getgid(), "pid": os.getpid(), "read_only": False}


async def test_calls_without_a_uri_mean_the_one_that_the_connection_opened(rpc: Rpc) -> None:
    error = await rpc.refusal("connection.open", uri="qemu:///system")
    assert error.kind == "no-support"
    assert (await rpc.call("connection.open", uri="test:///default"))["driver"]["scheme"] == "test"
    assert (await rpc.call("connection.hello"))["uri"] == "test:///default"


async def test_the_subscriptions_of_a_client_end_with_it(running: Running) -> None:
    hub = running.services.events
    async with running.client() as rpc:
        await rpc.call("event.subscribe")
        assert len(hub._subscriptions) == 1
    await until(lambda: not hub._subscriptions)


async def test_stopping_waits_for_a_change_and_answers_it(short_tmp: Path) -> None:
    config = settings(short_tmp)
    async with running_daemon(config) as running, running.client() as rpc:
        gate = Gate(running, "take")
        taking = await rpc.begin("snapshot.create", domain="test", xml=SNAPSHOT % "s1")
        await gate.entered.wait()
        running.daemon.stop()
        await wait_all_tasks_blocked()
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK) as late:
            late.connect(str(config.socket))  # the kernel takes it, nobody serves it
            late.send(PING % 1)
            await rpc.call("connection.ping")
            with pytest.raises(BlockingIOError):
                late.recv(1)
        error = await rpc.refusal("domain.suspend", domain="test")
        assert isinstance(error, TooBusy)
        gate.opened.set()
        assert (await rpc.result(taking))["snapshot"]["name"] == "s1"
        assert await rpc.frame() is None


async def test_stopping_does_not_wait_longer_than_the_grace(short_tmp: Path) -> None:
    config = settings(short_tmp, grace_seconds=0.05)
    async with running_daemon(config) as running, running.client() as rpc:
        running.driver.faults.inject("take", Fault(delay=3600))
        with running.nothing_changes():
            await rpc.begin("snapshot.create", domain="test", xml=SNAPSHOT % "s1")
            await wait_all_tasks_blocked(0.01)
            running.daemon.stop()
            with trio.fail_after(10):
                assert await rpc.frame() is None


async def test_the_real_client_hears_of_an_end_at_once(short_tmp: Path) -> None:
    config = settings(short_tmp, grace_seconds=0.05)
    async with running_daemon(config) as running, open_connection(socket=config.socket) as connection:
        gate = Gate(running, "take")
        errors: list[Any] = []

        async def take() -> None:
            try:
                await connection.domain("test").take("s1")
            except ConnectionLost as error:
                errors.append(error)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(take)
            await gate.entered.wait()
            running.daemon.stop()
        assert [error.maybe_applied for error in errors] == [True]
