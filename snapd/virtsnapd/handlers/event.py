"""Events: subscribing from now or from a position on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from virtsnap_protocol.errors import InvalidArgument, TooBusy
from virtsnap_protocol.method import Empty
from virtsnap_protocol.methods import event
from virtsnapd.routing import handles

if TYPE_CHECKING:
    from virtsnapd.context import Context


SUBSCRIPTIONS_MAX: Final = 64
"""Of one connection: each is looked at for every event."""


@handles(event.SUBSCRIBE)
def subscribe(context: Context, params: event.SubscribeParams) -> event.SubscribeResult:
    """Begin a subscription; what was missed follows the answer at once, in order, before anything new."""
    if len(context.subscriptions) >= SUBSCRIPTIONS_MAX:
        raise TooBusy(
            f"this connection has {SUBSCRIPTIONS_MAX} subscriptions", remedy="end some, or filter less"
        )
    wanted = params.filter
    if wanted is not None and wanted.uri is not None:  # events carry one URI, whatever alias was asked for
        canonical = context.services.hypervisor(wanted.uri).driver.uri
        wanted = msgspec.structs.replace(wanted, uri=canonical)
    hub = context.services.events
    subscription, missed = hub.subscribe(context.notify, params.since, wanted)
    context.subscriptions[subscription.number] = subscription

    def deliver_missed() -> None:
        for one in missed:
            subscription.offer(one)

    context.later(deliver_missed)
    return event.SubscribeResult(subscription=subscription.number, position=hub.position)


@handles(event.UNSUBSCRIBE)
def unsubscribe(context: Context, params: event.UnsubscribeParams) -> Empty:
    """End a subscription."""
    subscription = context.subscriptions.pop(params.subscription, None)
    if subscription is None:
        raise InvalidArgument(f"this connection has no subscription {params.subscription}")
    context.services.events.unsubscribe(subscription)
    return Empty()


ROUTES: Final = (subscribe, unsubscribe)
