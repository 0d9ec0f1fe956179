"""What a handler is given: the daemon's parts, and the caller's side of the conversation."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from virtsnap_protocol.errors import DriverUnavailable, NoSupport
from virtsnap_protocol.methods.connection import DriverInfo

if TYPE_CHECKING:
    from collections.abc import Callable

    from virtsnapd.access import Caller
    from virtsnapd.config import Config
    from virtsnapd.definitions import Definitions
    from virtsnapd.domain import Domain
    from virtsnapd.domains import DomainTable
    from virtsnapd.drivers.api import Driver
    from virtsnapd.events import EventHub, Send, Subscription


@dataclass(kw_only=True, eq=False)
class Hypervisor:
    """One driver with the domains that it keeps here."""

    driver: Driver
    domains: DomainTable
    reason: str | None = None
    """Why it is not available."""

    @property
    def info(self) -> DriverInfo:
        """What callers are told of it."""
        driver = self.driver
        return DriverInfo(
            uri=driver.uri,
            scheme=driver.scheme,
            available=self.reason is None,
            reason=self.reason,
            version=driver.version,
            capabilities=sorted(driver.capabilities()),
        )


@dataclass(kw_only=True)
class Services:
    """The parts of the daemon that handlers work with."""

    config: Config
    definitions: Definitions
    events: EventHub
    hypervisors: dict[str, Hypervisor]
    """By URI; aliases of a URI have entries of their own."""
    default_uri: str
    stopping: bool = False
    """The daemon is on its way out: what is under way ends, nothing new begins."""

    def hypervisor(self, uri: str) -> Hypervisor:
        """Return the available hypervisor of this URI.

        Raises:
            NoSupport: No driver serves the URI (libvirt: virConnectOpen).
            DriverUnavailable: Its driver cannot work on this host.
        """
        found = self.hypervisors.get(uri)
        if found is None:
            known = ", ".join(self.hypervisors)
            raise NoSupport(f"no driver for URI '{uri}'", remedy=f"this daemon serves {known}")
        if found.reason is not None:
            raise DriverUnavailable(f"{uri}: {found.reason}", cause=found.reason)
        return found


@dataclass(kw_only=True)
class Context:
    """One client's calls: who asks, which hypervisor it means, where its notifications go."""

    services: Services
    caller: Caller
    notify: Send
    later: Callable[[Callable[[], None]], None]
    """Run something right after the answer to the call at hand is on its way."""
    uri: str
    subscriptions: dict[int, Subscription] = field(default_factory=dict)

    def hypervisor(self, uri: str | None) -> Hypervisor:
        """Return the hypervisor that a call means."""
        return self.services.hypervisor(uri or self.uri)

    def domain(self, uri: str | None, ref: str | int) -> tuple[Hypervisor, Domain]:
        """Return the domain that a call means, with its hypervisor.

        Raises:
            DomainNotFound: There is none.
        """
        hypervisor = self.hypervisor(uri)
        return hypervisor, hypervisor.domains.find(ref)
