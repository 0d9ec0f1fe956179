"""The API, one noun per file. This table is the only place that lists the nouns."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from virtsnap_protocol.methods import connection, domain, event, save, snapshot

if TYPE_CHECKING:
    from virtsnap_protocol.method import Method, Params

METHODS: Final[tuple[Method[Any, Any], ...]] = (
    connection.HELLO,
    connection.PING,
    connection.OPEN,
    connection.CAPABILITIES,
    connection.DISCOVER,
    domain.LIST,
    domain.INFO,
    domain.XML,
    domain.DISKS,
    domain.DEFINE,
    domain.UNDEFINE,
    domain.RENAME,
    domain.CREATE,
    domain.START,
    domain.DESTROY,
    domain.SHUTDOWN,
    domain.SUSPEND,
    domain.RESUME,
    save.CREATE,
    save.RESTORE,
    save.MANAGE,
    save.DISCARD,
    snapshot.CREATE,
    snapshot.LIST,
    snapshot.COUNT,
    snapshot.GET,
    snapshot.XML,
    snapshot.CURRENT,
    snapshot.PARENT,
    snapshot.REVERT,
    snapshot.DELETE,
    snapshot.EDIT,
    event.SUBSCRIBE,
    event.UNSUBSCRIBE,
)

NOTIFICATIONS: Final[dict[str, type[Params]]] = {
    event.EVENT: event.EventNotice,
    event.EVENT_LOST: event.LostNotice,
}
"""What the daemon sends without being asked, by name."""

__all__ = ["METHODS", "NOTIFICATIONS", "connection", "domain", "event", "save", "snapshot"]
