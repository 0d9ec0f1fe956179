"""Events: what changed, in the order it was made durable."""

from __future__ import annotations

from typing import Annotated, Final, Literal

import msgspec

from virtsnap_protocol.method import DomainName, Empty, Method, Params, Result

EventKind = Literal[
    "domain.lifecycle",
    "snapshot.created",
    "snapshot.redefined",
    "snapshot.renamed",
    "snapshot.current-changed",
    "snapshot.reverted",
    "snapshot.deleted",
    "snapshot.discarded",
]
"""`snapshot.discarded`: the whole hierarchy went with its domain (a transient one ended, or undefine)."""

Lifecycle = Literal[
    "defined", "undefined", "started", "suspended", "resumed", "stopped", "shutdown", "pmsuspended", "crashed"
]
"""virDomainEventType, in the order of its numbers (0 to 8)."""

UINT63_MAX = 2**63 - 1


class Position(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A place in the stream of events."""

    epoch: str
    """Changes when the daemon's store was replaced: positions of different epochs do not compare."""
    seq: Annotated[int, msgspec.Meta(ge=0, le=UINT63_MAX)]


class Event(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One change. It was written in the same transaction as the change that it announces."""

    epoch: str
    seq: int
    time: int
    """Seconds since the epoch."""
    kind: EventKind
    uri: str
    domain: str
    uuid: str
    id: int | None = None
    lifecycle: Lifecycle | None = None
    """Only of kind domain.lifecycle."""
    detail: str | None = None
    """The lifecycle event's detail in libvirt's spelling, for instance ``booted`` or ``from-snapshot``."""
    snapshot: str | None = None
    former: str | None = None
    """The name that a renamed snapshot had before."""
    parent: str | None = None
    generation: int | None = None
    """The hierarchy's generation after the change; only of snapshot events."""


class Filter(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """Which events to get; an absent member does not narrow."""

    kinds: list[EventKind] | None = None
    domain: DomainName | None = None
    """A name or a UUID."""
    uri: str | None = None


class SubscribeParams(Params, frozen=True, kw_only=True):
    """Where to begin and what to get."""

    since: Position | None = None
    """Deliver everything after this position first; without it only what comes."""
    filter: Filter | None = None


class SubscribeResult(Result, frozen=True, kw_only=True):
    """The subscription, and the position of the last event at its begin."""

    subscription: int
    position: Position


class UnsubscribeParams(Params, frozen=True, kw_only=True):
    """Which subscription to end."""

    subscription: int


class EventNotice(Params, frozen=True, kw_only=True, forbid_unknown_fields=False):
    """The parameters of the notification ``event``."""

    subscription: int
    event: Event


class LostNotice(Params, frozen=True, kw_only=True, forbid_unknown_fields=False):
    """The parameters of the notification ``event.lost``: this reader was too slow."""

    subscription: int
    since: Position
    """The last position delivered: subscribe again with it."""


SUBSCRIBE: Final = Method(
    "event.subscribe",
    SubscribeParams,
    SubscribeResult,
    reads=True,
    summary="Deliver events from now or from a position on.",
)
UNSUBSCRIBE: Final = Method(
    "event.unsubscribe", UnsubscribeParams, Empty, reads=True, summary="End a subscription."
)

EVENT: Final = "event"
"""Notification with `EventNotice`."""
EVENT_LOST: Final = "event.lost"
"""Notification with `LostNotice`."""
