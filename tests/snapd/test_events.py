from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
import pytest
import trio

from tests.support.daemon import running_daemon, settings
from virtsnap.connection import open_connection
from virtsnap.events import LostEvents
from virtsnap_protocol.errors import ResyncRequired
from virtsnap_protocol.methods.event import Event, EventNotice, Filter, LostNotice, Position
from virtsnapd.config import LimitSettings
from virtsnapd.events import EventHub
from virtsnapd.store import Loaded

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.daemon import Running
    from tests.support.rpc import Rpc
    from virtsnap_protocol.method import Params


MADE = Event(
    epoch="e", seq=0, time=1, kind="snapshot.created", uri="test:///default", domain="web", uuid="u1"
)


def event(seq: int, **changes: object) -> Event:
    return msgspec.structs.replace(MADE, seq=seq, **changes)


def hub(*events: Event, seq: int | None = None, kept: int = 4) -> EventHub:
    last = seq if seq is not None else events[-1].seq if events else 0
    loaded = Loaded(
        epoch="e", seq=last, definitions={}, domains=[], hierarchies=[], operations=[], events=[*events]
    )
    return EventHub(loaded, kept=kept)


class Reader:
    """A client with room for so many notifications."""

    def __init__(self, room: int = 1000) -> None:
        self.room = room
        self.received: list[Params] = []

    def send(self, _method: str, params: Params) -> bool:
        if self.room <= 0:
            return False
        self.room -= 1
        self.received.append(params)
        return True

    @property
    def positions(self) -> list[int]:
        return [notice.event.seq for notice in self.received if isinstance(notice, EventNotice)]


# --- the hub alone ---


def test_events_reach_a_subscriber_in_order() -> None:
    found, reader = hub(), Reader()
    found.subscribe(reader.send, None, None)
    found.publish([event(1), event(2)])
    found.publish([event(3)])
    assert reader.positions == [1, 2, 3]
    assert found.position == Position(epoch="e", seq=3)


def test_nothing_comes_after_the_end_of_a_subscription() -> None:
    found, reader = hub(), Reader()
    subscription, _ = found.subscribe(reader.send, None, None)
    found.publish([event(1)])
    found.unsubscribe(subscription)
    found.unsubscribe(subscription)
    found.publish([event(2)])
    assert reader.positions == [1]


def test_what_was_missed_since_a_position_is_handed_out() -> None:
    found = hub(event(5), event(6), event(7))
    _, missed = found.subscribe(Reader().send, Position(epoch="e", seq=5), None)
    assert [one.seq for one in missed] == [6, 7]


def test_the_position_before_the_oldest_event_can_still_be_asked_for() -> None:
    found = hub(event(5), event(6))
    _, missed = found.subscribe(Reader().send, Position(epoch="e", seq=4), None)
    assert [one.seq for one in missed] == [5, 6]


def test_a_position_whose_successors_are_no_longer_held_asks_for_a_resync() -> None:
    found = hub(event(5), event(6))
    with pytest.raises(ResyncRequired) as caught:
        found.subscribe(Reader().send, Position(epoch="e", seq=3), None)
    assert caught.value.details == {"epoch": "e", "oldest": 5, "seq": 6}


def test_events_that_the_hub_let_go_ask_for_a_resync() -> None:
    found = hub(kept=2)
    found.publish([event(seq) for seq in range(1, 6)])
    with pytest.raises(ResyncRequired):
        found.subscribe(Reader().send, Position(epoch="e", seq=2), None)
    assert len(found.subscribe(Reader().send, Position(epoch="e", seq=3), None)[1]) == 2


def test_a_position_of_another_store_asks_for_a_resync() -> None:
    with pytest.raises(ResyncRequired):
        hub(event(5)).subscribe(Reader().send, Position(epoch="another", seq=5), None)


def test_a_position_that_the_store_has_not_reached_asks_for_a_resync() -> None:
    with pytest.raises(ResyncRequired):
        hub(event(5)).subscribe(Reader().send, Position(epoch="e", seq=6), None)


@pytest.mark.parametrize(
    ("filter_", "positions"),
    [
        (None, [1, 2, 3, 4]),
        (Filter(), [1, 2, 3, 4]),
        (Filter(kinds=["snapshot.deleted"]), [2]),
        (Filter(domain="db"), [3]),
        (Filter(domain="u2"), [3]),
        (Filter(uri="qemu:///system"), [4]),
        (Filter(kinds=["snapshot.created"], domain="web", uri="test:///default"), [1]),
        (Filter(kinds=[]), []),
    ],
)
def test_a_filter_narrows(filter_: Filter | None, positions: list[int]) -> None:
    found, reader = hub(), Reader()
    found.subscribe(reader.send, None, filter_)
    found.publish(
        [
            event(1),
            event(2, kind="snapshot.deleted"),
            event(3, domain="db", uuid="u2"),
            event(4, uri="qemu:///system"),
        ]
    )
    assert reader.positions == positions


def test_a_slow_reader_is_told_from_where_on_it_lost_events_and_others_lose_none() -> None:
    found, slow, fast = hub(), Reader(room=2), Reader()
    subscription, _ = found.subscribe(slow.send, None, Filter(kinds=["snapshot.created"]))
    found.subscribe(fast.send, None, None)
    found.publish([event(1), event(2), event(3, kind="snapshot.deleted"), event(4), event(5)])
    assert subscription.lost
    assert not subscription.confess()
    slow.room = 1000
    found.publish([event(6)])
    assert subscription.confess()
    assert slow.positions == [1, 2]
    # what it did not want counts as delivered
    assert slow.received[-1] == LostNotice(subscription=subscription.number, since=Position(epoch="e", seq=3))
    assert fast.positions == [1, 2, 3, 4, 5, 6]


# --- over the wire ---


async def test_a_caller_has_been_sent_the_event_by_the_time_its_call_returns(rpc: Rpc) -> None:
    number = (await rpc.call("event.subscribe"))["subscription"]
    identity = await rpc.begin(
        "snapshot.create", domain="test", xml="<domainsnapshot><name>s1</name></domainsnapshot>"
    )
    frames = [await rpc.frame() for _ in range(3)]
    kinds = [frame["params"]["event"]["kind"] for frame in frames[:2]]
    assert kinds == ["snapshot.created", "snapshot.current-changed"]
    assert {frame["params"]["subscription"] for frame in frames[:2]} == {number}
    assert frames[2]["id"] == identity


async def test_every_change_of_a_hierarchy_is_announced_with_its_generation(rpc: Rpc) -> None:
    await rpc.take("s1")
    await rpc.call("event.subscribe")
    await rpc.take("s2")
    await rpc.call("snapshot.revert", domain="test", snapshot="s1")
    await rpc.call("snapshot.delete", domain="test", snapshot="s2")
    told = [
        (found["kind"], found.get("snapshot"), found.get("parent"), found["generation"])
        for found in await rpc.events()
        if found["kind"] != "domain.lifecycle"
    ]
    assert told == [
        ("snapshot.created", "s2", "s1", 2),
        ("snapshot.current-changed", "s2", "s1", 2),
        ("snapshot.reverted", "s1", None, 3),
        ("snapshot.current-changed", "s1", None, 3),
        ("snapshot.deleted", "s2", None, 4),
    ]
    assert (await rpc.call("domain.info", domain="test"))["domain"]["generation"] == 4


async def test_a_refused_change_announces_nothing(running: Running, rpc: Rpc) -> None:
    await rpc.call("event.subscribe")
    with running.nothing_changes():
        await rpc.refusal("snapshot.delete", domain="test", snapshot="nobody")
    assert await rpc.events() == []


async def test_a_client_that_comes_back_gets_what_it_missed_before_anything_new(
    running: Running, rpc: Rpc
) -> None:
    position = (await rpc.call("event.subscribe"))["position"]
    await rpc.take("s1")
    async with running.client() as other:
        number = (await other.call("event.subscribe", since=position))["subscription"]
        await rpc.take("s2")
        found = await other.events()
        assert [one["snapshot"] for one in found] == ["s1", "s1", "s2", "s2"]
        assert [one["seq"] for one in found] == list(range(position["seq"] + 1, position["seq"] + 5))
        await other.call("event.unsubscribe", subscription=number)
        await rpc.take("s3")
        assert await other.events() == []
        assert (await other.refusal("event.unsubscribe", subscription=number)).code == 8


@pytest.mark.parametrize(("method", "more"), [("domain.list", {}), ("snapshot.list", {"domain": "test"})])
async def test_a_list_tells_from_where_on_to_follow_what_it_shows(
    running: Running, rpc: Rpc, method: str, more: dict[str, str]
) -> None:
    await rpc.take("s1")
    position = (await rpc.call(method, **more))["position"]
    async with running.client() as other:
        await other.take("s2")
    await rpc.call("event.subscribe", since=position)
    assert [found["snapshot"] for found in await rpc.events()] == ["s2", "s2"]


async def test_positions_hold_across_a_restart_of_the_daemon(short_tmp: Path) -> None:
    async with running_daemon(settings(short_tmp)) as running, running.client() as rpc:
        position = (await rpc.call("event.subscribe"))["position"]
        await rpc.take("s1")
    async with running_daemon(settings(short_tmp)) as running, running.client() as rpc:
        await rpc.call("event.subscribe", since=position)
        await rpc.take("s2")
        assert [found["snapshot"] for found in await rpc.events()] == ["s1", "s1", "s2", "s2"]


async def test_a_position_that_is_too_old_asks_for_a_resync_over_the_wire(short_tmp: Path) -> None:
    config = settings(short_tmp, limits=LimitSettings(events_kept=2))
    async with running_daemon(config) as running, running.client() as rpc:
        position = (await rpc.call("event.subscribe"))["position"]
        await rpc.take("s1")
        await rpc.take("s2")
        error = await rpc.refusal("event.subscribe", since=position)
        assert error.kind == "resync-required"
        assert error.details["oldest"] == position["seq"] + 3


async def test_a_reader_that_is_too_slow_is_told_and_nobody_waits_for_it(short_tmp: Path) -> None:
    config = settings(short_tmp, limits=LimitSettings(outbox_bytes=65536))
    async with running_daemon(config) as running, running.client() as rpc, running.client() as slow:
        position = (await slow.call("event.subscribe"))["position"]
        text = "x" * 200  # names make events large
        subscriptions = running.services.events._subscriptions
        while not any(one.lost for one in subscriptions):
            with trio.fail_after(10):
                await rpc.take(text)
                await rpc.call("snapshot.delete", domain="test", snapshot=text)
        last: dict[str, Any] = position
        while (notice := await slow.notice()).keys() != {"subscription", "since"}:
            last = notice["event"]
        assert notice["since"] == {"epoch": last["epoch"], "seq": last["seq"]}
        await slow.call("event.subscribe", since=notice["since"])
        assert (await slow.notice())["event"]["seq"] == last["seq"] + 1


async def test_the_real_client_reads_events_and_goes_on_after_a_loss(running: Running) -> None:
    async with (
        open_connection(socket=running.config.socket) as connection,
        connection.subscribe() as stream,
    ):
        await connection.domain("test").take("s1")
        found = [await anext(stream), await anext(stream)]
    assert not any(isinstance(one, LostEvents) for one in found)
    assert [one.kind for one in found if isinstance(one, Event)] == [
        "snapshot.created",
        "snapshot.current-changed",
    ]
