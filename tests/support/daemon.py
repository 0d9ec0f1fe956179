"""A daemon inside the test's own process, and what it has stored."""

from __future__ import annotations

from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import trio
from typing_extensions import override

from tests.support.rpc import connected
from virtsnapd.config import Config, DaemonSettings, DriverSettings, LimitSettings
from virtsnapd.daemon import STORE_NAME, Daemon, open_services
from virtsnapd.drivers.simulated.driver import SimulatedDriver
from virtsnapd.drivers.simulated.faults import Faults, Step
from virtsnapd.models.forest import Forest
from virtsnapd.store import Loaded, OperationRow, Store

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from contextlib import AbstractAsyncContextManager
    from pathlib import Path

    from tests.support.rpc import Rpc
    from virtsnapd.context import Hypervisor, Services
    from virtsnapd.domain import Domain


@dataclass(kw_only=True)
class Running:
    """A daemon that serves its sockets in this process, with one driver: the simulated one unless told otherwise."""

    config: Config
    services: Services
    daemon: Daemon

    @property
    def hypervisor(self) -> Hypervisor:
        """The one hypervisor."""
        return self.services.hypervisors[self.services.default_uri]

    @property
    def driver(self) -> SimulatedDriver:
        """The simulated hypervisor's driver: faults and contents."""
        driver = self.hypervisor.driver
        assert isinstance(driver, SimulatedDriver)
        return driver

    @property
    def store(self) -> Store:
        """The open store."""
        return self.hypervisor.domains._store

    def domain(self, name: str = "test") -> Domain:
        """Return a domain as the daemon sees it."""
        return self.hypervisor.domains.find(name)

    def client(self, *, read_only: bool = False) -> AbstractAsyncContextManager[Rpc]:
        """Connect a raw client."""
        return connected(self.config.read_only_socket if read_only else self.config.socket)

    @contextmanager
    def nothing_changes(self, name: str = "test") -> Iterator[None]:
        """Fail unless the domain's row, hierarchy and stored record are after the block what they were before."""
        before = self._condition(name)
        yield
        assert self._condition(name) == before

    def _condition(self, name: str) -> object:
        domain = self.domain(name)
        hierarchy = domain.hierarchy
        return (
            domain.row,
            hierarchy.digest,
            hierarchy.generation,
            self.services.events.position,
            digests(self.config.state_dir),
            operations(self.config.state_dir),
        )


class Gate(Faults):
    """Holds the simulated hypervisor at one step until it is opened."""

    def __init__(self, running: Running, step: Step) -> None:
        super().__init__()
        self.entered = trio.Event()
        self.opened = trio.Event()
        self._step = step
        running.driver.faults = self

    @override
    async def reach(self, step: Step) -> None:
        if step == self._step:
            self.entered.set()
            await self.opened.wait()
        await super().reach(step)


def settings(
    folder: Path,
    *,
    limits: LimitSettings | None = None,
    grace_seconds: float = 10.0,
    drivers: tuple[str, ...] = ("test",),
) -> Config:
    """Return a configuration whose folders are below `folder`, which has a short path."""
    return Config(
        daemon=DaemonSettings(
            runtime_dir=str(folder / "r"), state_dir=str(folder / "s"), grace_seconds=grace_seconds
        ),
        limits=limits or LimitSettings(),
        drivers=DriverSettings(enabled=drivers),
    )


@asynccontextmanager
async def running_daemon(config: Config) -> AsyncIterator[Running]:
    """Run a daemon for as long as the block lasts, then stop it in order."""
    config.state_dir.mkdir(parents=True, exist_ok=True)
    async with open_services(config) as services:
        daemon = Daemon(config, services)
        async with daemon.listening({}) as listeners, trio.open_nursery() as nursery:
            nursery.start_soon(daemon.serve, listeners)
            yield Running(config=config, services=services, daemon=daemon)
            daemon.stop()


def stored(state_dir: Path) -> Loaded:
    """Return what a daemon has stored; one may be running."""
    store = Store.open(state_dir / STORE_NAME)
    try:
        assert store.check() == []
        return store.load()
    finally:
        store.close()


def digests(state_dir: Path) -> dict[str, str]:
    """Return the digest of every stored hierarchy by its domain's UUID."""
    return {head.uuid: Forest(found, head.current).digest() for head, found in stored(state_dir).hierarchies}


def operations(state_dir: Path) -> list[tuple[str, str]]:
    """Return verb and snapshot (of a save the file) of every operation that is not known to have ended."""
    return [
        (found.verb, found.snapshot.name if isinstance(found, OperationRow) else found.target.path)
        for found in stored(state_dir).operations
    ]
