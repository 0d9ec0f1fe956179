"""The composition: store, drivers, listeners and sessions; how they come up, and how they go down."""

from __future__ import annotations

import grp
import itertools
import logging
import os
import pwd
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Final

import trio

from virtsnap_protocol.errors import ConfigUnsupported, Error, Problem, TooBusy
from virtsnap_protocol.messages import encode_error
from virtsnap_protocol.methods import METHODS
from virtsnapd import saves, snapshots
from virtsnapd.context import Hypervisor, Services
from virtsnapd.definitions import Definitions
from virtsnapd.dispatch import Dispatcher
from virtsnapd.domains import DomainTable
from virtsnapd.drivers import DRIVERS, URIS
from virtsnapd.drivers.api import DriverContext, Unavailable
from virtsnapd.events import EventHub
from virtsnapd.handlers import HANDLERS
from virtsnapd.listener import adopt_listener, close_listener, open_unix_listener, serve
from virtsnapd.session import Session
from virtsnapd.store import Loaded, OperationRow, Store

if TYPE_CHECKING:
    import socket
    from collections.abc import AsyncIterator

    from virtsnapd.config import Config
    from virtsnapd.domain import Domain
    from virtsnapd.stream import UnixStream

log = logging.getLogger(__name__)

STORE_NAME: Final = "store.sqlite"
READ_ONLY_BY_NAME: Final = {"rw": False, "virtsnapd.socket": False, "ro": True, "virtsnapd-ro.socket": True}
"""FileDescriptorName= of our socket units, and the name that systemd gives when it is missing."""


@asynccontextmanager
async def open_services(config: Config) -> AsyncIterator[Services]:
    """Open the store and the drivers, and settle what a former daemon left unfinished.

    Raises:
        StorageError: The store cannot be used; nothing was changed.
    """
    kept = config.limits.events_kept
    store = await trio.to_thread.run_sync(lambda: Store.open(config.state_dir / STORE_NAME, events_kept=kept))
    async with AsyncExitStack() as stack:
        stack.push_async_callback(store.aclose)
        loaded = await trio.to_thread.run_sync(store.load)
        hub = EventHub(loaded, kept=kept)
        store.start(hub.publish)
        definitions = Definitions(dict(loaded.definitions))
        hypervisors: dict[str, Hypervisor] = {}
        keys = itertools.count(max((head.key for head, _ in loaded.hierarchies), default=0) + 1)
        for scheme in config.drivers.enabled:
            hypervisor = await _open_hypervisor(scheme, config, store, definitions, keys, loaded, stack)
            hypervisors |= dict.fromkeys(URIS[scheme], hypervisor)
        services = Services(
            config=config,
            definitions=definitions,
            events=hub,
            hypervisors=hypervisors,
            default_uri=_default_uri(config, hypervisors),
        )
        yield services


def require_usable(config: Config) -> None:
    """Refuse a configuration that this host cannot follow.

    Raises:
        ConfigUnsupported: Every setting in the way, in `problems`.
    """
    problems = [
        Problem("drivers.enabled", f"there is no driver {scheme!r}, only {', '.join(DRIVERS)}")
        for scheme in config.drivers.enabled
        if scheme not in DRIVERS
    ]
    if config.daemon.group and config.daemon.group not in {group.gr_name for group in grp.getgrall()}:
        problems.append(Problem("daemon.group", f"there is no group {config.daemon.group!r}"))
    if config.qemu.user and config.qemu.user not in {user.pw_name for user in pwd.getpwall()}:
        problems.append(Problem("qemu.user", f"there is no user {config.qemu.user!r}"))
    if problems:
        text = "; ".join(f"{problem.path}: {problem.message}" for problem in problems)
        raise ConfigUnsupported(text, problems=problems)


async def _open_hypervisor(
    scheme: str,
    config: Config,
    store: Store,
    definitions: Definitions,
    keys: itertools.count[int],
    loaded: Loaded,
    stack: AsyncExitStack,
) -> Hypervisor:
    uri = URIS[scheme][0 if os.getuid() == 0 else -1]
    domains = DomainTable(scheme, uri, store, definitions, keys)
    domains.load(loaded)
    context = DriverContext(
        domains=domains,
        config=config,
        state_dir=config.state_dir / scheme,
    )
    hypervisor = Hypervisor(driver=DRIVERS[scheme](uri, context), domains=domains)
    unsettled = _owe_settling(hypervisor)
    try:
        await stack.enter_async_context(hypervisor.driver.running())
    except Unavailable as reason:
        hypervisor.reason = str(reason)
        log.warning("driver %s is not available: %s", scheme, reason)
        return hypervisor
    for domain in unsettled:
        try:
            async with domain.lock.wait("recovery"):
                pass
        except Error as error:  # a full disk, say: it stays owed, and reading goes on
            log.error("%s: %s", domain.name, error)  # noqa: TRY400 - no defect
    await saves.sweep(hypervisor)
    log.info("driver %s: %s, %d domains", scheme, hypervisor.driver.version or "ready", len(domains))
    return hypervisor


def _owe_settling(hypervisor: Hypervisor) -> list[Domain]:
    """Let what a former daemon began be settled before anything else is recorded, also that a guest has ended."""
    unsettled: list[Domain] = []
    for uuid, operation in hypervisor.domains.interrupted.items():
        domain = hypervisor.domains.get(uuid)
        if domain is not None:
            if isinstance(operation, OperationRow):
                domain.lock.debt = partial(snapshots.settle, hypervisor, domain, operation)
            else:
                domain.lock.debt = partial(saves.settle, hypervisor, domain, operation)
            unsettled.append(domain)
    return unsettled


def _default_uri(config: Config, hypervisors: dict[str, Hypervisor]) -> str:
    wanted = config.default_uris(os.getuid())
    usable = [uri for uri in wanted if uri in hypervisors and hypervisors[uri].reason is None]
    return (usable or list(wanted))[0]


def _is_read_only(name: str) -> bool:
    """Tell what a socket that was handed over is for; one of an unknown name must not become read-write."""
    try:
        return READ_ONLY_BY_NAME[name]
    except KeyError:
        known = ", ".join(READ_ONLY_BY_NAME)
        raise ConfigUnsupported(
            f"a socket named '{name}' was handed over, and none of {known}",
            remedy="set FileDescriptorName= in its socket unit",
        ) from None


class Daemon:
    """Serves clients until it is told to stop."""

    def __init__(self, config: Config, services: Services) -> None:
        self._config = config
        self._services = services
        self._dispatcher = Dispatcher(HANDLERS, METHODS)
        clients = config.limits.clients
        # by whether the socket is read-only: nobody who may only read keeps out those who may do more
        self._places = {False: trio.Semaphore(clients), True: trio.Semaphore(max(1, clients // 2))}
        self._stop = trio.Event()

    def stop(self) -> None:
        """Begin to stop: no new clients, a deadline for the calls that are under way. Guests keep running."""
        self._stop.set()

    @asynccontextmanager
    async def listening(self, adopted: dict[str, int]) -> AsyncIterator[list[tuple[socket.socket, bool]]]:
        """Yield the listeners, each with whether it is the read-only one: those handed over, else our own.

        Raises:
            OperationFailed, SystemFailure: Somebody listens there already, or the system refuses.
        """
        if adopted:
            sockets = [(adopt_listener(fd), _is_read_only(name)) for name, fd in adopted.items()]
            try:
                yield sockets
            finally:
                for listener, _ in sockets:
                    listener.close()
            return
        config = self._config
        own: list[tuple[socket.socket, bool]] = []
        try:
            own.append((open_unix_listener(config.socket, 0o660, config.daemon.group), False))
            own.append((open_unix_listener(config.read_only_socket, 0o666), True))
            yield own
        finally:
            for listener, _ in own:
                close_listener(listener)

    async def serve(self, listeners: list[tuple[socket.socket, bool]]) -> None:
        """Serve clients until `stop`; then wait for calls that change something, up to the configured grace."""
        async with trio.open_nursery() as clients:
            async with trio.open_nursery() as work:
                async with trio.open_nursery() as accepting:
                    for listener, read_only in listeners:
                        accepting.start_soon(self._accept, listener, clients, work, read_only)
                    await self._stop.wait()
                    accepting.cancel_scope.cancel()
                self._services.stopping = True  # from here on changes are refused, and `work` only shrinks
                if work.child_tasks:
                    log.info("stopping: %d calls are under way", len(work.child_tasks))
                work.cancel_scope.deadline = trio.current_time() + self._config.daemon.grace_seconds
                clients.start_soon(self._abandon_guests, work.cancel_scope.deadline)
            clients.cancel_scope.cancel()

    async def _abandon_guests(self, deadline: float) -> None:
        """Let no hypervisor that hangs keep the daemon from stopping: what it does is settled at the next start."""
        await trio.sleep_until(deadline)
        for hypervisor in set(self._services.hypervisors.values()):
            await hypervisor.driver.abandon()

    async def _accept(
        self, listener: socket.socket, clients: trio.Nursery, work: trio.Nursery, read_only: object
    ) -> None:
        async def handle(stream: UnixStream) -> None:
            session = Session(stream, self._dispatcher, self._services, work, read_only=bool(read_only))
            try:
                await session.run()
            except Exception:  # a defect in one conversation must not end those of others
                log.exception("defect in the session of process %d", stream.peer.pid)

        await serve(listener, handle, clients, self._places[bool(read_only)], self._refuse)

    def _refuse(self, stream: UnixStream) -> None:
        refusal = TooBusy("as many clients are connected as may be", remedy="try again later")
        stream.send_nowait(encode_error(None, refusal) + b"\n")
