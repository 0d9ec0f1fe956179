"""The conversation itself: who is there, what can they do, which hypervisor is meant."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Final

import msgspec

from virtsnap_protocol.export import openrpc_document
from virtsnap_protocol.method import Empty, NoParams
from virtsnap_protocol.methods import connection
from virtsnapd import VERSION
from virtsnapd.routing import handles

if TYPE_CHECKING:
    from virtsnapd.context import Context

EMPTY: Final = Empty()


@handles(connection.HELLO)
def hello(context: Context, _params: NoParams) -> connection.HelloResult:
    """Tell versions, limits, drivers and who the daemon takes the caller for."""
    services, caller = context.services, context.caller
    limits = services.config.limits
    unique = {id(found): found for found in services.hypervisors.values()}
    return connection.HelloResult(
        name="virtsnapd",
        version=VERSION,
        protocol=connection.PROTOCOL,
        drivers=[found.info for found in unique.values()],
        limits=connection.Limits(
            frame_bytes=limits.frame_bytes,
            requests_in_flight=limits.requests_in_flight,
            clients=limits.clients,
        ),
        you=connection.Identity(uid=caller.uid, gid=caller.gid, pid=caller.pid, read_only=caller.read_only),
        uri=context.uri,
    )


@handles(connection.PING)
def ping(_context: Context, _params: NoParams) -> Empty:
    """Answer at once."""
    return EMPTY


@handles(connection.OPEN)
def open_uri(context: Context, params: connection.OpenParams) -> connection.OpenResult:
    """Set the URI that further calls on this connection mean."""
    info = context.services.hypervisor(params.uri).info
    context.uri = params.uri
    return connection.OpenResult(driver=info)


@handles(connection.CAPABILITIES)
def capabilities(context: Context, params: connection.CapabilitiesParams) -> connection.CapabilitiesResult:
    """Describe the host and the guests that a hypervisor can run."""
    driver = context.hypervisor(params.uri).driver
    return connection.CapabilitiesResult(xml=driver.capabilities_xml())


@handles(connection.DISCOVER)
def discover(_context: Context, _params: NoParams) -> connection.DiscoverResult:
    """Return the OpenRPC document."""
    return _discovery()


@lru_cache(maxsize=1)
def _discovery() -> connection.DiscoverResult:
    document = openrpc_document()
    encoded = {
        name: msgspec.Raw(msgspec.json.encode(document[name])) for name in ("info", "methods", "components")
    }
    return connection.DiscoverResult(openrpc=document["openrpc"], **encoded)


ROUTES: Final = (hello, ping, open_uri, capabilities, discover)
