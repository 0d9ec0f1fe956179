"""A client's session and a daemon's, back to back: every exchange is seen from both ends, without a socket."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from virtsnap_protocol.messages import Call, Cancel, Notice
from virtsnap_protocol.session import ClientSession, Reply, ServerSession

if TYPE_CHECKING:
    import msgspec

    from virtsnap_protocol.errors import Error
    from virtsnap_protocol.method import Method, Params

T = TypeVar("T")


class ConnectionPair:
    """Two sessions whose bytes reach each other at once."""

    def __init__(self, frame_limit: int = 1024 * 1024) -> None:
        self.client = ClientSession(frame_limit)
        self.server = ServerSession(frame_limit)

    def call(self, method: Method[Any, Any], params: Params) -> Call:
        """Send a request; return what the daemon sees of it."""
        identity, data = self.client.call(method, params)
        call = only(Call, self.server.receive_data(data))
        assert call.id == identity
        return call

    def cancel(self, call: Call) -> Cancel:
        """Send the wish to cancel; return what the daemon sees of it."""
        assert isinstance(call.id, int)
        return only(Cancel, self.server.receive_data(self.client.cancel(call.id)))

    def result(self, call: Call, value: msgspec.Struct) -> Reply:
        """Answer a call; return what the client sees of it."""
        return only(Reply, self.client.receive_data(self.server.result(call, value)))

    def error(self, call: Call, error: Error) -> Reply:
        """Refuse a call; return what the client sees of it."""
        return only(Reply, self.client.receive_data(self.server.error(call, error)))

    def notify(self, name: str, params: msgspec.Struct) -> Notice:
        """Send a notification; return what the client sees of it."""
        return only(Notice, self.client.receive_data(self.server.notify(name, params)))


def only(kind: type[T], events: list[Any]) -> T:
    """Return the one event there is, which is of this kind."""
    (event,) = events
    assert isinstance(event, kind), event
    return event
