"""What is done to snapshots: data through the driver, metadata through the hierarchy, and the order that keeps both.

Every operation on data is written down before it begins and struck out in the transaction that records its
outcome. A daemon that dies in between finds the note when it starts again: `settle` then undoes a take, and
completes a discard or a revert, all of which can be repeated. The caller holds the domain's lock.
"""

from __future__ import annotations

import logging
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final

import trio

from virtsnap_protocol.errors import Error, OperationInvalid, RevertRisky
from virtsnapd.domains import Transition
from virtsnapd.models.forest import Change
from virtsnapd.store import OperationRow, Transaction

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from virtsnap_protocol.methods.domain import DomainState
    from virtsnap_protocol.methods.event import EventKind, Lifecycle
    from virtsnapd.context import Hypervisor
    from virtsnapd.domains import Domain
    from virtsnapd.models.snapshot import ParsedSnapshot, Snapshot
    from virtsnapd.store import Verb

log = logging.getLogger(__name__)

FROM_SNAPSHOT: Final = "from snapshot"
"""virDomain*Reason FROM_SNAPSHOT, in virsh's spelling."""
HALTED: Final = Transition(state="shutoff", reason=FROM_SNAPSHOT, events=(("stopped", "from-snapshot"),))


async def take(hypervisor: Hypervisor, domain: Domain, snapshot: Snapshot, *, metadata: bool) -> None:
    """Save the domain's state as `snapshot` and, with `metadata`, remember it as the current one.

    On any failure, also of the store, nothing is left of it in the data and the hierarchy is what it was.
    """
    driver, domains = hypervisor.driver, hypervisor.domains
    await driver.check_take(domain, snapshot)
    await _begin(hypervisor, domain, "take", snapshot)
    transaction = Transaction()
    try:
        await driver.take(domain, snapshot)
        await trio.lowlevel.checkpoint_if_cancelled()  # data cannot be cut short, but taken back
        if metadata:
            change = domain.hierarchy.forest.insertion(snapshot, current=True)
            domains.note(
                transaction, domain, change, *_events(domain, change, ("snapshot.created", snapshot.name))
            )
        domains.end(transaction, domain)
        await domains.commit(transaction)
    except BaseException:
        with trio.CancelScope(shield=True):
            await _undo_take(hypervisor, domain, snapshot)
        raise


async def redefine(hypervisor: Hypervisor, domain: Domain, parsed: ParsedSnapshot, *, current: bool) -> None:
    """Record the metadata of a snapshot that exists, or replace what is recorded of it; data is not touched."""
    transaction = Transaction()
    domains = hypervisor.domains
    for definition in (parsed.domain, parsed.inactive_domain):
        if definition is not None:
            domains.definitions.keep(transaction, definition)
    change = domain.hierarchy.forest.insertion(parsed.snapshot, current=current)
    announced: tuple[EventKind, str | None] = ("snapshot.redefined", parsed.snapshot.name)
    domains.note(transaction, domain, change, *_events(domain, change, announced))
    await domains.commit(transaction)


async def revert(hypervisor: Hypervisor, domain: Domain, snapshot: Snapshot, final: DomainState) -> None:
    """Bring the domain back to `snapshot`, ending running, paused or shut off.

    Raises:
        OperationInvalid: A transient domain would end (qemuSnapshotRevertValidate).
        RevertRisky: The record holds no definition to go back to; force does not help (qemuSnapshotRevert).
    """
    if final == "shutoff" and not domain.persistent:
        raise OperationInvalid(
            "transient domain needs to request run or pause to revert to inactive snapshot",
            snapshot=snapshot.name,
        )
    if snapshot.domain is None:
        raise RevertRisky(
            f"snapshot '{snapshot.name}' lacks domain '{domain.name}' rollback info", snapshot=snapshot.name
        )
    await hypervisor.driver.check_revert(domain, snapshot)
    with trio.CancelScope(shield=True):  # half a revert is worse than one that nobody waits for
        await _begin(hypervisor, domain, "revert", snapshot, final)
        async with _settling(hypervisor, domain, "revert", snapshot):
            await _complete_revert(hypervisor, domain, snapshot, final)


async def delete(hypervisor: Hypervisor, domain: Domain, snapshot: Snapshot) -> None:
    """Delete one snapshot, data and metadata; its children go to its parent."""
    with trio.CancelScope(shield=True):  # likewise
        await _begin(hypervisor, domain, "discard", snapshot)
        async with _settling(hypervisor, domain, "discard", snapshot):
            await _complete_discard(hypervisor, domain, snapshot)


async def forget(hypervisor: Hypervisor, domain: Domain, change: Change) -> None:
    """Remove metadata only, all of it in one transaction."""
    await hypervisor.domains.record(domain, change, *_events(domain, change))


async def settle(hypervisor: Hypervisor, domain: Domain, operation: OperationRow) -> None:
    """Complete or undo what a former daemon had begun; never fails, but may leave a note on the domain."""
    snapshot = operation.snapshot
    log.warning("%s: settling an interrupted %s of snapshot %s", domain.name, operation.verb, snapshot.name)
    try:
        if operation.verb == "take":
            if snapshot.name not in domain.hierarchy.forest:  # else it was redefined since, and is wanted
                await hypervisor.driver.discard(domain, snapshot)
            await _end(hypervisor, domain)
        elif operation.verb == "discard":
            await _complete_discard(hypervisor, domain, snapshot)
        else:
            await _complete_revert(hypervisor, domain, snapshot, operation.final)
    except Error as error:
        await _give_up(hypervisor, domain, operation.verb, snapshot, error)


@asynccontextmanager
async def _settling(
    hypervisor: Hypervisor, domain: Domain, verb: Verb, snapshot: Snapshot
) -> AsyncIterator[None]:
    """Leave no note behind of an operation that a defect ends: the next start would repeat it, days later."""
    try:
        yield
    except Error:
        raise  # its outcome is known and recorded
    except Exception as defect:
        await _give_up(hypervisor, domain, verb, snapshot, defect)
        raise


async def _give_up(
    hypervisor: Hypervisor, domain: Domain, verb: Verb, snapshot: Snapshot, why: Exception
) -> None:
    what = f"{_attention(verb, snapshot)} was interrupted and cannot be settled: {why}"
    log.error("%s: %s", domain.name, what)
    transaction = Transaction()
    advice = "repeat it, or revert to another snapshot"
    hypervisor.domains.attention(transaction, domain, f"{what}; {advice}")
    hypervisor.domains.end(transaction, domain)
    try:
        await hypervisor.domains.commit(transaction)
    except Error as error:
        # The note of the operation stays: the next start of the daemon tries again.
        log.error("%s: %s", domain.name, error)  # noqa: TRY400 - the cause is in the text


def _attention(verb: Verb, snapshot: Snapshot) -> str:
    return f"the {verb} of snapshot '{snapshot.name}'"


async def _begin(
    hypervisor: Hypervisor, domain: Domain, verb: Verb, snapshot: Snapshot, final: DomainState = "nostate"
) -> None:
    operation = OperationRow(
        driver=hypervisor.driver.scheme,
        uuid=domain.uuid,
        verb=verb,
        snapshot=snapshot,
        final=final,
        started=int(time.time()),
    )
    await hypervisor.domains.begin(domain, operation)


async def _undo_take(hypervisor: Hypervisor, domain: Domain, snapshot: Snapshot) -> None:
    try:
        await hypervisor.driver.discard(domain, snapshot)
    except Error as error:
        await _give_up(hypervisor, domain, "take", snapshot, error)
        return
    await _end(hypervisor, domain)


async def _end(hypervisor: Hypervisor, domain: Domain) -> None:
    transaction = Transaction()
    hypervisor.domains.end(transaction, domain)
    await hypervisor.domains.commit(transaction)


async def _complete_discard(hypervisor: Hypervisor, domain: Domain, snapshot: Snapshot) -> None:
    domains = hypervisor.domains
    transaction = Transaction()
    domains.end(transaction, domain)
    try:
        await hypervisor.driver.discard(domain, snapshot)
    except Error:
        await domains.commit(transaction)  # refused: the snapshot is still there, and so is its record
        raise
    if snapshot.name in domain.hierarchy.forest:
        change = domain.hierarchy.forest.removal(snapshot.name)
        domains.note(transaction, domain, change, *_events(domain, change))
    if (domain.row.attention or "").startswith(_attention("discard", snapshot)):
        domains.attention(transaction, domain, None)  # this was the repetition that it asked for
    await domains.commit(transaction)


async def _complete_revert(
    hypervisor: Hypervisor, domain: Domain, snapshot: Snapshot, final: DomainState
) -> None:
    driver, domains = hypervisor.driver, hypervisor.domains
    digest = snapshot.domain or ""
    events = _revert_events(was_active=domain.active, final=final)
    transaction = Transaction()
    domains.end(transaction, domain)
    active = final != "shutoff"
    try:
        runtime = await driver.revert(domain, snapshot, domains.definitions.parsed(digest), active=active)
        if final == "running":
            await driver.resume(domain)
    except Error:
        await domains.commit(transaction)
        raise
    change = Change(current=snapshot.name, moves_current=True)
    reverted: tuple[EventKind, str | None] = ("snapshot.reverted", snapshot.name)
    domains.note(transaction, domain, change, *_events(domain, change, reverted))
    await domains.reverted(
        transaction,
        domain,
        Transition(state=final, reason=FROM_SNAPSHOT, events=events),
        persistent=(snapshot.inactive_domain or digest) if domain.persistent else None,
        live=digest if active else None,
        runtime=runtime,
    )


def _revert_events(*, was_active: bool, final: DomainState) -> tuple[tuple[Lifecycle, str], ...]:
    """Return libvirt's lifecycle events of a revert (reference: libvirt-snapshots, sections 6.2 and 8)."""
    events: list[tuple[Lifecycle, str]] = []
    if was_active:
        events.append(("stopped", "from-snapshot"))
    if final != "shutoff":
        events.append(("started", "from-snapshot"))
    if final == "paused":
        events.append(("suspended", "from-snapshot"))
    return tuple(events)


def _events(
    domain: Domain, change: Change, *announced: tuple[EventKind, str | None]
) -> list[tuple[EventKind, str | None]]:
    events: list[tuple[EventKind, str | None]] = [*announced]
    events += [("snapshot.deleted", name) for name in change.remove]
    if change.moves_current and change.current != domain.hierarchy.forest.current:
        events.append(("snapshot.current-changed", change.current))
    return events
