"""The guests that run: taken up from a former daemon, watched, reported, ended."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

import msgspec
import trio

from virtsnap_protocol.errors import Error, OperationFailed
from virtsnapd.domain import Domain, Transition
from virtsnapd.drivers.qemu import process, saving
from virtsnapd.drivers.qemu.guest import (
    END_SECONDS,
    Guest,
    GuestFolder,
    find_guest,
    require_ended,
    wait_guest,
    wait_jobs_concluded,
)
from virtsnapd.drivers.qemu.monitor import MonitorError
from virtsnapd.drivers.qemu.process import GuestIdentity, GuestProcess
from virtsnapd.store import OperationRow

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from virtsnapd.drivers.api import DriverContext
    from virtsnapd.drivers.qemu.qmp import Event
    from virtsnapd.models.snapshot import Snapshot

log = logging.getLogger(__name__)

POWERED_OFF: Final = Transition(state="shutoff", reason="shutdown", events=(("stopped", "shutdown"),))
CRASHED: Final = Transition(state="shutoff", reason="crashed", events=(("stopped", "crashed"),))
IO_ERROR: Final = Transition(state="paused", reason="I/O error", events=(("suspended", "ioerror"),))
FOUND_PAUSED: Final = Transition(state="paused", reason="unknown", events=(("suspended", "paused"),))
FOUND_RUNNING: Final = Transition(state="running", reason="unknown", events=(("resumed", "unpaused"),))


class Guests:
    """All guests of the driver. The caller of what changes one holds the domain's lock."""

    def __init__(
        self,
        context: DriverContext,
        nursery: trio.Nursery,
        discard: Callable[[Domain, Snapshot], Awaitable[None]],
    ) -> None:
        self.nursery: Final = nursery
        self._domains = context.domains
        self._state_dir = context.state_dir
        self._discard = discard
        self._by_uuid: dict[str, Guest] = {}

    def folder(self, uuid: str) -> GuestFolder:
        """Return where the sockets and the log of a domain's guest are."""
        return GuestFolder(path=self._state_dir / uuid)

    def find(self, domain: Domain) -> Guest | None:
        """Return the domain's guest, if there is one that answers."""
        return self._by_uuid.get(domain.uuid)

    def get(self, domain: Domain) -> Guest:
        """Return the domain's guest.

        Raises:
            OperationFailed: There is none that answers.
        """
        guest = self._by_uuid.get(domain.uuid)
        if guest is None:
            raise OperationFailed(
                "the domain's QEMU does not answer",
                domain=domain.name,
                remedy="destroy it and start it again",
            )
        return guest

    async def abandon(self) -> None:
        """Fail everything that waits for a guest."""
        for guest in self._by_uuid.values():
            await guest.abandon()

    async def aclose(self) -> None:
        """Let go of all guests; they go on."""
        for guest in self._by_uuid.values():
            await guest.aclose()
        self._by_uuid.clear()

    async def find_all_again(self) -> None:
        """Take up all guests of a former daemon, at once: one that does not answer must not delay the others."""
        failures: list[Error] = []

        async def find(domain: Domain) -> None:
            try:
                await self._find_again(domain)
            except Error as error:  # raised below: a nursery would wrap it
                failures.append(error)

        async with trio.open_nursery() as finding:
            for domain in self._domains:
                finding.start_soon(find, domain)
        if failures:
            raise failures[0]
        await self._end_orphans()

    async def _find_again(self, domain: Domain) -> None:
        """Take up the guest that a former daemon started, or record that it is gone."""
        if not domain.active or domain.row.state == "crashed":
            return  # the latter has lost its guest in a revert, which its attention tells
        guest = await find_guest(self.nursery, domain.uuid, self.folder(domain.uuid))
        if guest is not None:
            self.adopt(guest)
            await self._record_found_state(domain, guest)
        elif (hung := hung_process(domain)) is not None:
            log.error("%s: its QEMU runs and does not answer", domain.name)
            self.nursery.start_soon(self._find_late, domain, hung)
            text = "its QEMU runs but does not answer on its monitor; destroy it if it does not recover"
            await self._domains.need_attention(domain, text)
        else:
            await self._record_lost(domain)

    async def _find_late(self, domain: Domain, hung: GuestProcess) -> None:
        """Take up a guest that did not answer once it does: QEMU is deaf while it writes a snapshot."""
        runtime = domain.row.runtime
        try:
            guest = await wait_guest(self.nursery, domain.uuid, self.folder(domain.uuid), hung)
        finally:
            await hung.aclose()
        try:
            async with domain.lock.wait("a guest that had not answered"):
                known = self._domains.get(domain.uuid) is domain and domain.row.runtime == runtime
                if guest is not None and known:
                    self.adopt(guest)
                    await self._domains.need_attention(domain, None)
                    await self._record_found_state(domain, guest)
                elif guest is not None:
                    await guest.aclose()
                elif known:
                    await self._domains.stopped(domain, CRASHED)
        except Error as error:
            log.error("%s: what became of it cannot be recorded: %s", domain.name, error)  # noqa: TRY400
            if guest is not None and self.find(domain) is not guest:
                await guest.aclose()

    async def _record_lost(self, domain: Domain) -> None:
        """Record that the guest ended while no daemon ran."""
        log.warning("%s: its guest ended while no daemon ran", domain.name)
        domains = self._domains
        operation = domains.interrupted.get(domain.uuid)
        if operation is not None and operation.verb in {"revert", "save"}:
            return  # that had ended it, and will be completed
        if isinstance(operation, OperationRow) and not domain.persistent:
            # the note about the snapshot that was being made or deleted goes with the domain: heed it now
            try:
                if not domain.hierarchy.forest.shares_data(operation.snapshot):
                    await self._discard(domain, operation.snapshot)
            except Error as error:
                text = "%s: the rest of snapshot %s stays in its images: %s"
                log.error(text, domain.name, operation.snapshot.name, error)  # noqa: TRY400 - as it says
        await domains.stopped(domain, CRASHED)

    async def _record_found_state(self, domain: Domain, guest: Guest) -> None:
        try:
            await wait_jobs_concluded(guest)
            await saving.wait_given_up(guest)
            status = (await guest.commands.query_status()).status
        except MonitorError:
            return  # it is just ending: its watcher records that
        try:
            await self._record_state(domain, guest, status)
        except Error as error:
            log.error("%s: that it is %s cannot be recorded: %s", domain.name, status, error)  # noqa: TRY400

    async def _record_state(self, domain: Domain, guest: Guest, status: str) -> None:
        if status == "shutdown":
            await self.end(guest, domain, POWERED_OFF)
        elif status == "running" and domain.row.state != "running":
            await self._domains.changed(domain, FOUND_RUNNING)
        elif status != "running" and domain.row.state == "running":
            await self._domains.changed(domain, IO_ERROR if status == "io-error" else FOUND_PAUSED)

    async def _end_orphans(self) -> None:
        """End guests that were started and not recorded: a daemon died within these milliseconds."""
        root = self._state_dir
        names = await trio.to_thread.run_sync(
            lambda: [p.name for p in root.iterdir()] if root.is_dir() else []
        )
        for uuid in set(names) - self._by_uuid.keys():
            domain = self._domains.get(uuid)
            if domain is not None and domain.active:
                continue
            orphan = await find_guest(self.nursery, uuid, self.folder(uuid))
            if orphan is not None:
                log.warning("ending an unrecorded guest with UUID %s", uuid)
                await orphan.end()

    def adopt(self, guest: Guest) -> None:
        """Take up a guest: from now on its own doings are reported."""
        self._by_uuid[guest.uuid] = guest
        self.nursery.start_soon(self._watch, guest)

    async def _watch(self, guest: Guest) -> None:
        """Report what the guest does by itself, and its end."""
        ending = await self._wait_ending(guest)
        domain = self._domains.get(guest.uuid)
        if domain is None or ending is None:
            return
        try:
            async with domain.lock.wait("the guest's own end"):
                if self._by_uuid.get(guest.uuid) is guest:
                    level = logging.INFO if ending is POWERED_OFF else logging.WARNING
                    log.log(level, "%s: its guest ended by itself: %s", domain.name, ending.reason)
                    await self.end(guest, domain, ending)
        except Error as error:  # a full disk: the domain stays listed, and destroy records the end
            log.error("%s: its end cannot be recorded: %s", domain.name, error)  # noqa: TRY400

    async def _wait_ending(self, guest: Guest) -> Transition | None:
        """Return how the guest ended; None when the daemon ends first."""
        with guest.monitor.events() as events:
            async for event in events:
                if event.name == "SHUTDOWN":
                    return POWERED_OFF
                if event.name == "GUEST_PANICKED":
                    return CRASHED
                await self._report(guest, event)
        if guest.abandoned:
            return None
        await guest.wait_ended()
        return CRASHED

    async def _report(self, guest: Guest, event: Event) -> None:
        if event.name != "BLOCK_IO_ERROR" or event.data.get("action") != "stop":
            return
        domain = self._domains.get(guest.uuid)
        if domain is not None and domain.row.state == "running":
            log.error("%s: paused by an input/output error of disk %s", domain.name, event.data.get("device"))
            try:
                async with domain.lock.wait("the guest's own pause"):
                    if self._by_uuid.get(guest.uuid) is guest:
                        await self._record_found_state(domain, guest)
            except Error as error:  # an earlier outcome cannot be recorded: neither can this one
                log.error("%s: its pause cannot be recorded: %s", domain.name, error)  # noqa: TRY400

    async def end(self, guest: Guest, domain: Domain, transition: Transition) -> None:
        """End a guest and report it."""
        await self.drop(guest)
        await self._domains.stopped(domain, transition)
        if domain.lock.gone:
            await trio.to_thread.run_sync(self.folder(guest.uuid).remove)

    async def drop(self, guest: Guest) -> None:
        """End a guest without reporting it."""
        self._by_uuid.pop(guest.uuid, None)
        await guest.end()


async def end_hung(hung: GuestProcess) -> None:
    """End a guest that does not answer, and let go of it.

    Raises:
        OperationFailed: It does not die: see `require_ended`.
    """
    with trio.CancelScope(shield=True):
        try:
            hung.kill()
            with trio.move_on_after(END_SECONDS):
                await hung.wait_ended()
            require_ended(hung)
        finally:
            await hung.aclose()


def hung_process(domain: Domain) -> GuestProcess | None:
    """Return the process of a guest that is not among the adopted ones, if it still runs."""
    if domain.row.runtime is None:
        return None
    return process.adopt(msgspec.msgpack.decode(domain.row.runtime, type=GuestIdentity))
