"""Inboxes: the part of event streams that does no I/O."""

from __future__ import annotations

import msgspec

from tests.support.samples import lifecycle_event
from virtsnap.events import Inbox, LostEvents, Subscriptions
from virtsnap_protocol.messages import Notice
from virtsnap_protocol.methods import event

BEGIN = event.Position(epoch="e", seq=0)


def notice(subscription: int, seq: int) -> Notice:
    params = event.EventNotice(subscription=subscription, event=lifecycle_event(seq))
    return Notice(event.EVENT, msgspec.Raw(msgspec.json.encode(params)))


def drain(inbox: Inbox) -> list[event.Event | LostEvents]:
    taken = []
    while (item := inbox.take()) is not None:
        taken.append(item)
    return taken


def test_a_full_inbox_keeps_what_it_has_and_tells_from_where_events_were_lost() -> None:
    inbox = Inbox(BEGIN, limit=2)
    for seq in (1, 2, 3, 4):
        inbox.put(lifecycle_event(seq))
    lost = LostEvents(since=event.Position(epoch="e", seq=2))
    assert drain(inbox) == [lifecycle_event(1), lifecycle_event(2), lost]
    assert inbox.ended


def test_notices_go_to_their_own_subscription() -> None:
    subscriptions = Subscriptions()
    for _ in range(2):
        subscriptions.expect()
    one, two = subscriptions.claim(1, BEGIN), subscriptions.claim(2, BEGIN)
    subscriptions.accept(notice(2, 5))
    assert (drain(one), drain(two)) == ([], [lifecycle_event(5)])


def test_notices_that_come_before_their_inbox_are_kept() -> None:
    subscriptions = Subscriptions()
    subscriptions.expect()
    subscriptions.accept(notice(1, 5))
    assert drain(subscriptions.claim(1, BEGIN)) == [lifecycle_event(5)]


def test_notices_for_a_subscription_that_ended_are_dropped() -> None:
    subscriptions = Subscriptions()
    subscriptions.expect()
    inbox = subscriptions.claim(1, BEGIN)
    subscriptions.release(1)
    subscriptions.accept(notice(1, 5))
    assert not inbox


def test_notices_that_nobody_expects_are_not_kept() -> None:
    subscriptions = Subscriptions()
    subscriptions.accept(notice(1, 5))
    subscriptions.expect()
    assert not subscriptions.claim(1, BEGIN)


def test_what_a_given_up_subscription_might_have_wanted_is_dropped() -> None:
    subscriptions = Subscriptions()
    subscriptions.expect()
    subscriptions.accept(notice(1, 5))
    subscriptions.give_up()
    subscriptions.expect()
    assert not subscriptions.claim(1, BEGIN)


def test_notices_of_a_newer_daemon_are_dropped() -> None:
    subscriptions = Subscriptions()
    subscriptions.expect()
    subscriptions.accept(Notice("$/newer", msgspec.Raw(b"{}")))
    subscriptions.accept(Notice(event.EVENT, msgspec.Raw(b'{"subscription": 1, "event": 5}')))
    assert not subscriptions.claim(1, BEGIN)
