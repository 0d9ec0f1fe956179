"""Events: subscribing from now or from a position on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from virtsnap_protocol.errors import InvalidArgument
from virtsnap_protocol.method import Empty
from virtsnap_protocol.methods import event
from virtsnapd.routing import handles

if TYPE_CHECKING:
    from virtsnapd.context import Context


@handles(event.SUBSCRIBE)
def subscribe(context: Context, params: event.SubscribeParams) -> event.SubscribeResult:
    """Begin a subscription; what was missed follows the answer at once, in order, before anything new."""
    hub = context.services.events
    subscription, missed = hub.subscribe(context.notify, params.since, params.filter)
    context.subscriptions[subscription.number] = subscription

    def deliver_missed() -> None:
        for one in missed:
            subscription.offer(one)

    context.later(deliver_missed)
    return event.SubscribeResult(subscription=subscription.number, position=params.since or hub.position)


@handles(event.UNSUBSCRIBE)
def unsubscribe(context: Context, params: event.UnsubscribeParams) -> Empty:
    """End a subscription."""
    subscription = context.subscriptions.pop(params.subscription, None)
    if subscription is None:
        raise InvalidArgument(f"this connection has no subscription {params.subscription}")
    context.services.events.unsubscribe(subscription)
    return Empty()


ROUTES: Final = (subscribe, unsubscribe)
