"""What is done to snapshots: data through the driver, metadata through the hierarchy, and the order that keeps both.

Every operation on data is written down before it begins and struck out in the transaction that records its
outcome. A note ends with a known outcome and only with one: what a daemon that dies, a lost connection or a full
disk leaves open is settled when the daemon starts again, or before the next change of the domain (`DomainLock.debt`).
Settling undoes a take and completes a discard or a revert. The caller holds the domain's lock.
"""

from __future__ import annotations

import logging
import time
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Final

import msgspec
import trio

from virtsnap_protocol.errors import (
    Error,
    OperationFailed,
    OperationInvalid,
    OutcomeUnknown,
    RevertRisky,
    StorageError,
)
from virtsnapd import saves
from virtsnapd.domain import Transition
from virtsnapd.models.forest import Change
from virtsnapd.outcomes import end, give_up, record
from virtsnapd.store import OperationRow, Transaction

if TYPE_CHECKING:
    from virtsnap_protocol.methods.domain import DomainState
    from virtsnap_protocol.methods.event import EventKind, Lifecycle
    from virtsnapd.context import Hypervisor
    from virtsnapd.domain import Domain
    from virtsnapd.models.snapshot import ParsedSnapshot, Snapshot
    from virtsnapd.store import Verb

log = logging.getLogger(__name__)

FROM_SNAPSHOT: Final = "from snapshot"
"""virDomain*Reason FROM_SNAPSHOT, in virsh's spelling."""
HALTED: Final = Transition(state="shutoff", reason=FROM_SNAPSHOT, events=(("stopped", "from-snapshot"),))


async def take(
    hypervisor: Hypervisor, domain: Domain, snapshot: Snapshot, *, metadata: bool, halt: bool = False
) -> None:
    """Save the domain's state as `snapshot` and, with `metadata`, remember it as the current one.

    With `halt` the guest does not run again after the moment that is saved, and is ended. On any failure, also of
    the store, nothing is left of it in the data, the hierarchy is what it was, and a guest that ran runs.

    Raises:
        OperationFailed: A renamed snapshot has its data under this name.
    """
    driver, domains = hypervisor.driver, hypervisor.domains
    if users := domain.hierarchy.forest.data_users(snapshot.tag):
        raise OperationFailed(
            f"snapshot '{min(users)}' has its data under the name '{snapshot.tag}'",
            domain=domain.name,
            snapshot=snapshot.name,
            remedy="choose another name",
        )
    await driver.check_take(domain, snapshot)
    operation = await _begin(hypervisor, domain, "take", snapshot)
    stop = halt and domain.row.state == "running"
    try:
        if stop:
            await driver.suspend(domain)
        await driver.take(domain, snapshot)
        await trio.lowlevel.checkpoint_if_cancelled()  # data cannot be cut short, but taken back
        transaction = Transaction()
        if driver.announces_steps and domain.row.state == "running":
            transaction.event(domain.lifecycle("suspended", "paused"))
            if not halt:
                transaction.event(domain.lifecycle("resumed", "unpaused"))
        if metadata:
            change = domain.hierarchy.forest.insertion(snapshot, current=True)
            created: tuple[EventKind, str | None] = ("snapshot.created", snapshot.name)
            domains.note(transaction, domain, change, *_events(domain, change, created))
        domains.end(transaction, domain)
        await domains.commit(transaction)
    except OutcomeUnknown:
        _owe_settling(hypervisor, domain, operation)
        raise
    except BaseException:
        with trio.CancelScope(shield=True):
            await _undo_take(hypervisor, domain, operation)
            if stop:
                await _run_on(hypervisor, domain)
        raise
    if halt and domain.active:
        with trio.CancelScope(shield=True):
            await driver.destroy(domain, HALTED)


async def _run_on(hypervisor: Hypervisor, domain: Domain) -> None:
    """Let a guest run that was stopped for a snapshot which failed."""
    try:
        await hypervisor.driver.resume(domain)
    except Error as error:
        log.error("%s: cannot let it run again: %s", domain.name, error)  # noqa: TRY400 - the first error is raised


async def redefine(hypervisor: Hypervisor, domain: Domain, parsed: ParsedSnapshot, *, current: bool) -> None:
    """Record the metadata of a snapshot that exists, or replace what is recorded of it; data is not touched."""
    change = domain.hierarchy.forest.insertion(parsed.snapshot, current=current)
    announced: tuple[EventKind, str | None] = ("snapshot.redefined", parsed.snapshot.name)
    await _record_metadata(hypervisor, domain, parsed, change, _events(domain, change, announced))


async def rename(
    hypervisor: Hypervisor, domain: Domain, former: str, parsed: ParsedSnapshot, *, current: bool
) -> None:
    """Put a record of another name in the place of the one called `former`; data is not touched.

    What is below follows, and the current marker: one change, one transaction.
    """
    change = domain.hierarchy.forest.renaming(former, parsed.snapshot, current=current)
    events: list[tuple[EventKind, str | None]] = [("snapshot.renamed", parsed.snapshot.name)]
    events += _current_event(domain, change)
    await _record_metadata(hypervisor, domain, parsed, change, events, former=former)


async def _record_metadata(
    hypervisor: Hypervisor,
    domain: Domain,
    parsed: ParsedSnapshot,
    change: Change,
    events: list[tuple[EventKind, str | None]],
    *,
    former: str | None = None,
) -> None:
    transaction = Transaction()
    domains = hypervisor.domains
    for definition in (parsed.domain, parsed.inactive_domain):
        if definition is not None:
            domains.definitions.keep(transaction, definition)
    domains.note(transaction, domain, change, *events, former=former)
    await domains.commit(transaction)


async def revert(
    hypervisor: Hypervisor,
    domain: Domain,
    snapshot: Snapshot,
    final: DomainState,
    *,
    force: bool = False,
) -> None:
    """Bring the domain back to `snapshot`, ending running, paused or shut off; a managed save goes with it.

    Raises:
        OperationInvalid: A transient domain would end (qemuSnapshotRevertValidate).
        RevertRisky: The record holds no definition to go back to, which force does not help; or without `force` the
            memory of a managed save would be lost for a snapshot without any (qemuSnapshotRevert).
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
    driver = hypervisor.driver
    managed = domain.row.managed_save
    if managed and driver.heeds_managed_save and not force and snapshot.state not in {"running", "paused"}:
        raise RevertRisky(
            "snapshot without memory state, removal of existing managed saved state strongly recommended to avoid "
            "corruption",
            domain=domain.name,
            snapshot=snapshot.name,
        )
    await driver.check_revert(domain, snapshot)
    with trio.CancelScope(shield=True):  # half a revert is worse than one that nobody waits for
        operation = await _begin(hypervisor, domain, "revert", snapshot, final)
        try:
            await _complete(hypervisor, domain, operation)
        except Error as error:
            if managed and domain.row.managed_save and driver.heeds_managed_save:
                error.remedy = "its disks may be reverted, which its managed save would not fit: revert again"
                what = f"the revert to snapshot '{snapshot.name}' failed: {error}; {error.remedy}"
                with suppress(StorageError):  # it is owed then
                    await record(domain, partial(hypervisor.domains.need_attention, domain, what))
            raise
        if managed:
            await saves.tidy(hypervisor, domain)


async def delete(hypervisor: Hypervisor, domain: Domain, snapshot: Snapshot) -> None:
    """Delete one snapshot, data and metadata; its children go to its parent."""
    with trio.CancelScope(shield=True):  # likewise
        operation = await _begin(hypervisor, domain, "discard", snapshot)
        await _complete(hypervisor, domain, operation)


async def forget(hypervisor: Hypervisor, domain: Domain, change: Change) -> None:
    """Remove metadata only, all of it in one transaction."""
    await hypervisor.domains.record(domain, change, *_events(domain, change))


async def settle(hypervisor: Hypervisor, domain: Domain, operation: OperationRow) -> None:
    """Complete or undo what was begun and has no known outcome; where that fails, leave word on the domain.

    Raises:
        StorageError: The outcome cannot be recorded.
    """
    snapshot = operation.snapshot
    log.warning("%s: settling an interrupted %s of snapshot %s", domain.name, operation.verb, snapshot.name)
    try:
        if operation.verb == "take":
            if not domain.hierarchy.forest.data_users(snapshot.tag):  # else a redefine since then wants it
                await hypervisor.driver.discard(domain, snapshot)
            await end(hypervisor, domain)
        elif operation.verb == "resume":
            await _resume(hypervisor, domain)
        else:
            await _complete(hypervisor, domain, operation)
    except StorageError:
        raise
    except Error as error:
        await _give_up(hypervisor, domain, operation, error)


async def _complete(hypervisor: Hypervisor, domain: Domain, operation: OperationRow) -> None:
    """Carry out what `_begin` wrote down. The note ends with a known outcome, and only with one."""
    domains = hypervisor.domains
    try:
        if operation.verb == "revert":
            transaction = await _reverted(hypervisor, domain, operation.snapshot, operation.final)
        else:
            transaction = await _discarded(hypervisor, domain, operation.snapshot)
    except OutcomeUnknown:
        _owe_settling(hypervisor, domain, operation)
        raise
    except Error:
        await end(hypervisor, domain)  # refused, and what that means for the guest is recorded
        raise
    except Exception as defect:
        await _give_up(hypervisor, domain, operation, defect)
        raise
    if operation.verb == "revert" and operation.final == "running":
        # From here on the guest may run, and to revert again would undo what it does: the note says what is left.
        domains.note_operation(transaction, msgspec.structs.replace(operation, verb="resume"))
        await record(domain, partial(_record_and_resume, hypervisor, domain, transaction))
    else:
        domains.end(transaction, domain)
        await record(domain, partial(domains.commit, transaction))


async def _record_and_resume(hypervisor: Hypervisor, domain: Domain, transaction: Transaction) -> None:
    await hypervisor.domains.commit(transaction)
    await _resume(hypervisor, domain)


async def _resume(hypervisor: Hypervisor, domain: Domain) -> None:
    """Let the guest of a recorded revert run: the last thing that the note asked for."""
    transaction = Transaction()
    hypervisor.domains.end(transaction, domain)
    try:
        await hypervisor.driver.resume(domain)
        if domain.row.state != "running":  # a daemon that came back found it paused
            hypervisor.domains.resumed(transaction, domain, FROM_SNAPSHOT)
    finally:
        await record(domain, partial(hypervisor.domains.commit, transaction))


async def _reverted(
    hypervisor: Hypervisor, domain: Domain, snapshot: Snapshot, final: DomainState
) -> Transaction:
    """Revert, leaving the guest paused, and return what there is to record of it.

    The definitions come back under the domain's present name (qemuSnapshotRevert; libvirt's test driver brings the
    former name back).
    """
    driver, domains = hypervisor.driver, hypervisor.domains
    definition = domain.named(snapshot.domain or domain.digest)
    persistent = domain.named(snapshot.inactive_domain) if snapshot.inactive_domain else definition
    active = final != "shutoff"
    events = _revert_events(domain, snapshot, final, steps=driver.announces_steps)
    reason = FROM_SNAPSHOT if active or domain.active else domain.row.reason  # one that was off stays off
    runtime = await driver.revert(domain, snapshot, definition, active=active)
    transaction = Transaction()
    change = Change(current=snapshot.name, moves_current=True)
    reverted: tuple[EventKind, str | None] = ("snapshot.reverted", snapshot.name)
    domains.note(transaction, domain, change, *_events(domain, change, reverted))
    domains.reverted(
        transaction,
        domain,
        Transition(state=final, reason=reason, events=events),
        persistent=domains.definitions.keep(transaction, persistent) if domain.persistent else None,
        live=domains.definitions.keep(transaction, definition) if active else None,
        runtime=runtime,
        # resumed later its memory would meet other disks; libvirt's test driver does not mind (nor its qemu driver)
        managed_save=domain.row.managed_save and not active and not driver.heeds_managed_save,
    )
    return transaction


async def _discarded(hypervisor: Hypervisor, domain: Domain, snapshot: Snapshot) -> Transaction:
    """Delete the data, unless another record needs it, and return what there is to record of it."""
    if not domain.hierarchy.forest.shares_data(snapshot):
        await hypervisor.driver.discard(domain, snapshot)
    transaction = Transaction()
    if snapshot.name in domain.hierarchy.forest:
        change = domain.hierarchy.forest.removal(snapshot.name)
        hypervisor.domains.note(transaction, domain, change, *_events(domain, change))
    if (domain.row.attention or "").startswith(_attention("discard", snapshot)):
        hypervisor.domains.attention(transaction, domain, None)  # this was the repetition that it asked for
    return transaction


async def _undo_take(hypervisor: Hypervisor, domain: Domain, operation: OperationRow) -> None:
    try:
        await hypervisor.driver.discard(domain, operation.snapshot)
        await end(hypervisor, domain)
    except Error as error:
        name = operation.snapshot.name
        log.error("%s: cannot remove the rest of snapshot %s yet: %s", domain.name, name, error)  # noqa: TRY400
        _owe_settling(hypervisor, domain, operation)


def _owe_settling(hypervisor: Hypervisor, domain: Domain, operation: OperationRow) -> None:
    """Leave the note where it is: it is heeded before the next change of the domain, or at the next start."""
    domain.lock.debt = partial(settle, hypervisor, domain, operation)


async def _give_up(hypervisor: Hypervisor, domain: Domain, operation: OperationRow, why: Exception) -> None:
    what = _attention(operation.verb, operation.snapshot)
    await give_up(hypervisor, domain, what, why, advice="repeat it, or revert to another snapshot")


def _attention(verb: Verb, snapshot: Snapshot) -> str:
    return f"the {verb} of snapshot '{snapshot.name}'"


async def _begin(
    hypervisor: Hypervisor, domain: Domain, verb: Verb, snapshot: Snapshot, final: DomainState = "nostate"
) -> OperationRow:
    operation = OperationRow(
        driver=hypervisor.driver.scheme,
        uuid=domain.uuid,
        verb=verb,
        snapshot=snapshot,
        final=final,
        started=int(time.time()),
    )
    await hypervisor.domains.begin(operation)
    return operation


def _revert_events(
    domain: Domain, snapshot: Snapshot, final: DomainState, *, steps: bool
) -> tuple[tuple[Lifecycle, str], ...]:
    """Return libvirt's lifecycle events of a revert (reference: libvirt-snapshots, sections 6.2 and 8)."""
    resumes = steps and final == "running"
    boots = snapshot.memory in {None, "no"}
    events: list[tuple[Lifecycle, str]] = []
    if domain.active:
        events.append(("stopped", "from-snapshot"))
    if resumes and boots:
        # its qemu driver lets a guest that boots run before it says "started"
        events.append(("resumed", "unpaused"))
    if final != "shutoff":
        events.append(("started", "from-snapshot"))
    if resumes and not boots:
        events.append(("resumed", "from-snapshot"))
    if final == "paused":
        events.append(("suspended", "from-snapshot"))
    if steps and domain.persistent:
        events.append(("defined", "from-snapshot"))
    return tuple(events)


def _events(
    domain: Domain, change: Change, *announced: tuple[EventKind, str | None]
) -> list[tuple[EventKind, str | None]]:
    events: list[tuple[EventKind, str | None]] = [*announced]
    events += [("snapshot.deleted", name) for name in change.remove]
    return events + _current_event(domain, change)


def _current_event(domain: Domain, change: Change) -> list[tuple[EventKind, str | None]]:
    moves = change.moves_current and change.current != domain.hierarchy.forest.current
    return [("snapshot.current-changed", change.current)] if moves else []
