"""The hub of events: the last ones held for those who come back, and subscriptions that never make anybody wait."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from virtsnap_protocol.errors import ResyncRequired
from virtsnap_protocol.methods.event import (
    EVENT,
    EVENT_LOST,
    Event,
    EventNotice,
    Filter,
    LostNotice,
    Position,
)

if TYPE_CHECKING:
    from virtsnap_protocol.method import Params
    from virtsnapd.store import Loaded

Send = Callable[[str, "Params"], bool]
"""Hand a notification to a client without waiting; False when its buffer is full."""


class Subscription:
    """One client's wish for events."""

    def __init__(self, number: int, send: Send, filter_: Filter | None, delivered: Position) -> None:
        self.number = number
        self.lost = False
        """The client was too slow; nothing more is delivered, and it is told so once there is room."""
        self._send = send
        self._filter = filter_ or Filter()
        self._delivered = delivered

    def offer(self, event: Event) -> None:
        """Deliver an event, or remember that the client was too slow for it."""
        if self.lost:
            return
        if self._wants(event) and not self._send(EVENT, EventNotice(subscription=self.number, event=event)):
            self.lost = True
        else:
            self._delivered = Position(epoch=event.epoch, seq=event.seq)

    def confess(self) -> bool:
        """Tell a client that lost events since when; return whether there was room for that."""
        return self._send(EVENT_LOST, LostNotice(subscription=self.number, since=self._delivered))

    def _wants(self, event: Event) -> bool:
        wanted = self._filter
        return (
            (wanted.kinds is None or event.kind in wanted.kinds)
            and (
                wanted.domain is None or wanted.domain == event.domain or wanted.domain.lower() == event.uuid
            )
            and (wanted.uri is None or wanted.uri == event.uri)
        )


class EventHub:
    """Holds the last events and hands each new one to every subscription, in order of position."""

    def __init__(self, loaded: Loaded, *, kept: int) -> None:
        self._epoch = loaded.epoch
        self._seq = loaded.seq
        self._recent = deque(loaded.events, maxlen=kept)
        self._subscriptions: set[Subscription] = set()
        self._numbers = 0

    @property
    def position(self) -> Position:
        """The position of the last event."""
        return Position(epoch=self._epoch, seq=self._seq)

    def publish(self, events: Sequence[Event]) -> None:
        """Hand out events that have just become durable."""
        for event in events:
            self._seq = event.seq
            self._recent.append(event)
            for subscription in self._subscriptions:
                subscription.offer(event)

    def subscribe(
        self, send: Send, since: Position | None, filter_: Filter | None
    ) -> tuple[Subscription, list[Event]]:
        """Begin a subscription; return it and what it missed since the given position.

        The caller offers the missed events, in order, right after it has told the client the subscription's number.

        Raises:
            ResyncRequired: The events after that position are not held.
        """
        missed = self._missed(since) if since is not None else []
        self._numbers += 1
        subscription = Subscription(self._numbers, send, filter_, since or self.position)
        self._subscriptions.add(subscription)
        return subscription, missed

    def unsubscribe(self, subscription: Subscription) -> None:
        """End a subscription. Idempotent."""
        self._subscriptions.discard(subscription)

    def _missed(self, since: Position) -> list[Event]:
        oldest = self._recent[0].seq if self._recent else self._seq + 1
        if since.epoch != self._epoch or not oldest <= since.seq + 1 <= self._seq + 1:
            # one after the last event comes from a store that was put back to an older copy
            raise ResyncRequired(
                f"the events after position {since.seq} are not held",
                details={"epoch": self._epoch, "oldest": oldest, "seq": self._seq},
                remedy="list the objects again and subscribe with the position that the list carries",
            )
        return [event for event in self._recent if event.seq > since.seq]
