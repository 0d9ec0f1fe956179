"""Events on the client's side: what a stream yields, and the inboxes that notices go to; no I/O here."""

from __future__ import annotations

import logging
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import msgspec

from virtsnap_protocol.methods.event import EVENT, EVENT_LOST, Event, EventNotice, LostNotice, Position

if TYPE_CHECKING:
    from virtsnap_protocol.messages import Notice

_log = logging.getLogger(__name__)

INBOX_LIMIT: Final = 10_000
"""Events that wait for a slow reader of this process before it is told that it lost some."""


@dataclass(frozen=True, kw_only=True)
class LostEvents:
    """The reader was too slow. The stream ends here; subscribe again with `since` to get what was missed."""

    since: Position
    """The last position that was delivered."""


class Inbox:
    """The events of one subscription that nobody has taken yet."""

    def __init__(self, begin: Position, limit: int = INBOX_LIMIT) -> None:
        self._waiting: deque[Event | LostEvents] = deque()
        self._last = begin
        self._limit = limit
        self._ended = False

    def __len__(self) -> int:
        """Return how many wait."""
        return len(self._waiting)

    @property
    def ended(self) -> bool:
        """True when nothing more will come."""
        return self._ended

    def take(self) -> Event | LostEvents | None:
        """Return the next event, or None when there is none."""
        return self._waiting.popleft() if self._waiting else None

    def put(self, event: Event) -> None:
        """Keep an event; when there are too many of them, keep the fact that they were lost instead."""
        if self._ended:
            return
        if len(self._waiting) >= self._limit:
            self.lose(self._last)
            return
        self._waiting.append(event)
        self._last = Position(epoch=event.epoch, seq=event.seq)

    def lose(self, since: Position) -> None:
        """Note that events after this position were lost; it is the last thing in the inbox."""
        if not self._ended:
            self._waiting.append(LostEvents(since=since))
            self._ended = True


class Subscriptions:
    """Sorts notices into inboxes, also those that come before their subscriber has taken its inbox."""

    def __init__(self) -> None:
        self._inboxes: dict[int, Inbox] = {}
        self._early: list[EventNotice | LostNotice] = []
        self._beginning = 0

    def expect(self) -> None:
        """A subscription is being made: keep what cannot be sorted yet, until `claim` or `give_up`."""
        self._beginning += 1

    def claim(self, number: int, begin: Position) -> Inbox:
        """Return the inbox of a subscription that the daemon has just confirmed."""
        inbox = self._inboxes[number] = Inbox(begin)
        for notice in self._early:
            if notice.subscription == number:
                _deliver(inbox, notice)
        self.give_up()
        return inbox

    def give_up(self) -> None:
        """A subscription that was expected has been claimed, or will not come."""
        self._beginning -= 1
        self._early = [n for n in self._early if self._beginning and n.subscription not in self._inboxes]

    def release(self, number: int) -> None:
        """Forget a subscription; notices that still come for it are dropped."""
        self._inboxes.pop(number, None)

    def accept(self, notice: Notice) -> None:
        """Sort one notice; what this version does not know is dropped."""
        try:
            known = _decode(notice)
        except msgspec.MsgspecError as error:
            _log.warning("dropped a notice %s that is not understood: %s", notice.method, error)
            return
        if known is None:
            return
        if (inbox := self._inboxes.get(known.subscription)) is not None:
            _deliver(inbox, known)
        elif self._beginning:
            self._early.append(known)


def _decode(notice: Notice) -> EventNotice | LostNotice | None:
    if notice.method == EVENT:
        return msgspec.json.decode(notice.params, type=EventNotice)
    if notice.method == EVENT_LOST:
        return msgspec.json.decode(notice.params, type=LostNotice)
    return None


def _deliver(inbox: Inbox, notice: EventNotice | LostNotice) -> None:
    if isinstance(notice, EventNotice):
        inbox.put(notice.event)
    else:
        inbox.lose(notice.since)
