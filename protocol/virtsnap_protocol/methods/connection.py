"""The conversation itself: who is there, what can they do, which hypervisor is meant."""

from __future__ import annotations

from typing import Final

import msgspec

from virtsnap_protocol.method import Empty, Method, NoParams, Params, Result, Uri

PROTOCOL: Final = 1
"""The version of the protocol: raised when a change breaks old clients."""


class DriverInfo(msgspec.Struct, frozen=True, kw_only=True):
    """One hypervisor driver as this daemon sees it."""

    uri: str
    """The canonical URI that selects it."""
    scheme: str
    available: bool
    reason: str | None
    """Why it is not available."""
    version: str | None
    """The hypervisor's version."""
    capabilities: list[str]
    """Computed from what the driver implements; see docs/drivers.md."""


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """What the daemon answers with an error when exceeded."""

    frame_bytes: int
    requests_in_flight: int
    clients: int


class Identity(msgspec.Struct, frozen=True, kw_only=True):
    """Who the daemon takes the caller for (SO_PEERCRED at accept)."""

    uid: int
    gid: int
    pid: int
    read_only: bool


class HelloResult(Result, frozen=True, kw_only=True):
    """Versions, limits, drivers and the caller's identity."""

    name: str
    version: str
    protocol: int
    """Raised when a change breaks old clients."""
    drivers: list[DriverInfo]
    limits: Limits
    you: Identity
    uri: str
    """The URI that calls without one mean."""


class OpenParams(Params, frozen=True, kw_only=True):
    """Which hypervisor this connection means from now on."""

    uri: Uri


class OpenResult(Result, frozen=True, kw_only=True):
    """The driver that was opened."""

    driver: DriverInfo


class CapabilitiesParams(Params, frozen=True, kw_only=True):
    """Whose capabilities."""

    uri: Uri | None = None


class CapabilitiesResult(Result, frozen=True, kw_only=True):
    """A <capabilities> document."""

    xml: str


class DiscoverResult(Result, frozen=True, kw_only=True):
    """The OpenRPC document."""

    openrpc: str
    info: msgspec.Raw
    methods: msgspec.Raw
    components: msgspec.Raw


HELLO: Final = Method(
    "connection.hello",
    NoParams,
    HelloResult,
    reads=True,
    summary="Tell versions, limits, drivers and who the daemon takes the caller for.",
)
PING: Final = Method(
    "connection.ping", NoParams, Empty, reads=True, summary="Answer at once, ahead of any work."
)
OPEN: Final = Method(
    "connection.open",
    OpenParams,
    OpenResult,
    reads=True,
    summary="Set the URI that further calls on this connection mean when they give none.",
)
CAPABILITIES: Final = Method(
    "connection.capabilities",
    CapabilitiesParams,
    CapabilitiesResult,
    reads=True,
    summary="Describe the host and the guests that a hypervisor can run, in libvirt's XML.",
)
DISCOVER: Final = Method(
    "rpc.discover",
    NoParams,
    DiscoverResult,
    reads=True,
    summary="Return the OpenRPC document of this protocol.",
)
