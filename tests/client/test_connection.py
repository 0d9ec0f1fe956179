"""The trio connection: many calls at once, cancellation, deadlines, a daemon that goes away, events."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import trio
import trio.testing

import virtsnap
from tests.support.fake_daemon import FakeDaemon, hanging_up, refusing, silent
from tests.support.samples import DOMAIN, lifecycle_event
from virtsnap.connection import connection_on
from virtsnap_protocol.errors import ConnectionLost, DeadlineExceeded, DomainNotFound
from virtsnap_protocol.messages import Call, Cancel
from virtsnap_protocol.methods import event
from virtsnap_protocol.session import ServerSession

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

POSITION = event.Position(epoch="e", seq=0)


@pytest.fixture
async def client(daemon: FakeDaemon) -> AsyncIterator[virtsnap.Connection]:
    async with virtsnap.open_connection(socket=daemon.path) as opened:
        yield opened


async def test_a_call_returns_the_result(client: virtsnap.Connection) -> None:
    assert (await client.domain("vm").info()).domain == DOMAIN


async def test_an_error_of_the_daemon_reaches_the_caller_outside_of_any_group(daemon: FakeDaemon) -> None:
    daemon.answers["domain.info"] = refusing(DomainNotFound("x"))
    with pytest.raises(DomainNotFound):
        async with virtsnap.open_connection() as client:
            await client.domain("x").info()


async def test_calls_of_many_tasks_get_their_own_answers(
    client: virtsnap.Connection, daemon: FakeDaemon
) -> None:
    daemon.answers["domain.info"] = lambda params: refusing(DomainNotFound(params.domain))(params)
    answered: list[tuple[str, str]] = []

    async def ask(name: str) -> None:
        try:
            await client.domain(name).info()
        except DomainNotFound as error:
            answered.append((name, error.detail))

    async with trio.open_nursery() as nursery:
        for number in range(100):
            nursery.start_soon(ask, str(number))
    assert len(answered) == 100
    assert all(name == detail for name, detail in answered)


async def test_a_cancelled_call_is_cancelled_at_the_daemon_too(
    client: virtsnap.Connection, daemon: FakeDaemon
) -> None:
    daemon.answers["domain.start"] = silent
    async with trio.open_nursery() as nursery:
        nursery.start_soon(client.domain("vm").start)
        await trio.to_thread.run_sync(daemon.wait_for, lambda d: "domain.start" in d.names)
        nursery.cancel_scope.cancel()
    await trio.to_thread.run_sync(daemon.wait_for, lambda d: d.cancelled == [1])
    await client.ping()


async def test_a_call_without_an_answer_in_time_may_have_been_applied(
    client: virtsnap.Connection, daemon: FakeDaemon
) -> None:
    daemon.answers["domain.start"] = silent
    with pytest.raises(DeadlineExceeded, match=r"no answer to domain\.start within 0\.01 s") as caught:
        await client.domain("vm").within(0.01).start()
    assert caught.value.maybe_applied


async def test_a_dead_connection_fails_every_waiting_call_at_once(
    client: virtsnap.Connection, daemon: FakeDaemon
) -> None:
    daemon.answers["domain.start"] = daemon.answers["domain.info"] = silent
    failures: dict[str, ConnectionLost] = {}

    async def fail(name: str) -> None:
        try:
            await (client.domain("vm").start() if name == "start" else client.domain("vm").info())
        except ConnectionLost as error:
            failures[name] = error

    with trio.fail_after(5):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(fail, "start")
            nursery.start_soon(fail, "info")
            await trio.to_thread.run_sync(daemon.wait_for, lambda d: len(d.asked) == 2)
            daemon.hang_up()
    assert failures["start"].maybe_applied
    assert not failures["info"].maybe_applied


async def test_a_call_on_a_dead_connection_was_not_applied(
    client: virtsnap.Connection, daemon: FakeDaemon
) -> None:
    daemon.answers["domain.destroy"] = hanging_up
    with pytest.raises(ConnectionLost):
        await client.domain("vm").destroy()
    with pytest.raises(ConnectionLost) as caught:
        await client.domain("vm").destroy()
    assert not caught.value.maybe_applied
    assert not client.alive


async def test_a_call_that_never_left_was_not_applied_and_leaves_no_half_frame() -> None:
    ours, theirs = trio.testing.lockstep_stream_pair()
    async with connection_on(ours) as client, trio.open_nursery() as nursery:
        nursery.start_soon(client.domain("first").start)
        await trio.testing.wait_all_tasks_blocked()  # the writer is stuck in the first frame: nobody reads
        with pytest.raises(DeadlineExceeded) as caught:
            await client.domain("second").within(0.01).start()
        assert not caught.value.maybe_applied
        nursery.cancel_scope.cancel()
        session = ServerSession()
        seen: list[Call | Cancel | bytes] = []
        with trio.CancelScope(shield=True), trio.fail_after(5):
            while len(seen) < 2:
                seen += session.receive_data(await theirs.receive_some(3))
    first, cancel = seen
    assert isinstance(first, Call)
    assert bytes(first.params or b"") == b'{"domain":"first"}'
    assert isinstance(cancel, Cancel)
    assert cancel.id == first.id


async def test_an_answer_that_makes_no_sense_ends_the_conversation(
    client: virtsnap.Connection, daemon: FakeDaemon
) -> None:
    daemon.answers["domain.destroy"] = daemon.babbling
    with pytest.raises(ConnectionLost, match="the conversation is broken"):
        await client.domain("vm").destroy()


async def test_events_are_delivered_in_order(client: virtsnap.Connection, daemon: FakeDaemon) -> None:
    async with client.subscribe() as stream:
        for seq in (1, 2):
            daemon.notify(event.EVENT, event.EventNotice(subscription=7, event=lifecycle_event(seq)))
        assert [await anext(stream), await anext(stream)] == [lifecycle_event(1), lifecycle_event(2)]
    await trio.to_thread.run_sync(daemon.wait_for, lambda d: d.names[-1] == "event.unsubscribe")


async def test_events_sent_together_with_the_subscription_are_kept(
    client: virtsnap.Connection, daemon: FakeDaemon
) -> None:
    def subscribe(_: object) -> event.SubscribeResult:
        daemon.notify(event.EVENT, event.EventNotice(subscription=7, event=lifecycle_event(1)))
        return event.SubscribeResult(subscription=7, position=POSITION)

    daemon.answers["event.subscribe"] = subscribe
    async with client.subscribe(since=POSITION) as stream:
        assert await anext(stream) == lifecycle_event(1)


async def test_a_stream_that_lost_events_says_so_and_ends(
    client: virtsnap.Connection, daemon: FakeDaemon
) -> None:
    async with client.subscribe() as stream:
        daemon.notify(event.EVENT_LOST, event.LostNotice(subscription=7, since=POSITION))
        assert [item async for item in stream] == [virtsnap.LostEvents(since=POSITION)]


async def test_a_stream_fails_when_the_daemon_goes_away(
    client: virtsnap.Connection, daemon: FakeDaemon
) -> None:
    async with client.subscribe() as stream:
        daemon.hang_up()
        with pytest.raises(ConnectionLost, match="the daemon closed the connection"):
            await anext(stream)
