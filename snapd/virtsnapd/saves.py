"""What is done to saved states: memory through the driver into a file and back, and the order that keeps both sound.

A save is written down before it begins. Its file is written to its end before the guest is ended: until then
nothing has happened that cannot be undone, and from then on it is carried through. A daemon that comes back asks
the guest: one that still exists goes on as it was; of one that does not, the whole file is the truth.

A managed save is the file in the driver's own folder together with the flag in the domain's row. A guest that goes
on from a saved state is recorded before it runs, and with the same stroke the flag is gone: memory is never
resumed twice on disks that have changed since. The caller holds the domain's lock.
"""

from __future__ import annotations

import logging
import shutil
import time
import uuid
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

import trio

from virtsnap_protocol.errors import (
    Error,
    HypervisorError,
    InternalError,
    OperationFailed,
    OperationInvalid,
    OutcomeUnknown,
    StorageError,
    SystemFailure,
)
from virtsnapd import savefile
from virtsnapd.disk_owners import find_disk_owner
from virtsnapd.documents import read_document
from virtsnapd.domain import Transition
from virtsnapd.models.domain import DomainDefinition
from virtsnapd.outcomes import end, give_up, record
from virtsnapd.savefile import SavedState, SaveHeader
from virtsnapd.store import SaveOperationRow, SaveTarget, Transaction

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from virtsnap_protocol.methods.domain import DomainState
    from virtsnapd.context import Hypervisor
    from virtsnapd.domain import Domain
    from virtsnapd.store import SaveVerb

log = logging.getLogger(__name__)

MANAGED: Final = "managed.save"
"""Name of the managed save in the domain's folder, which has the domain's UUID for a name."""

SAVED: Final = Transition(state="shutoff", reason="saved", events=(("stopped", "saved"),))
RESTORED: Final = Transition(state="running", reason="restored", events=(("started", "restored"),))
RESTORED_PAUSED: Final = Transition(
    state="paused", reason="user", events=(("started", "restored"), ("suspended", "restored"))
)
STARTED_PAUSED: Final = Transition(
    state="paused", reason="user", events=(("started", "restored"), ("suspended", "paused"))
)
"""By a start that asks for it, which libvirt tells apart (qemuSaveImageStartVM)."""
RESTORE_FAILED: Final = Transition(state="shutoff", reason="failed", events=(("stopped", "failed"),))
LOST: Final = Transition(state="shutoff", reason="crashed", events=(("stopped", "crashed"),))


# --- save ---


async def save(
    hypervisor: Hypervisor, domain: Domain, path: Path | None, *, running: bool, direct: bool
) -> None:
    """Write the memory of the domain's guest to `path`, or (None) as its managed save, and end the guest.

    `running`: whether it goes on running later, rather than paused. With `direct` the host's page cache is left
    alone. On any failure the guest goes on as it was, no file is left, and one that was there before is still there.

    Raises:
        SystemFailure: The file cannot be written.
        OperationFailed: The file is a disk of a domain, or the guest cannot be saved.
        HypervisorError: The guest cannot be saved, or has ended.
    """
    driver = hypervisor.driver
    await driver.check_save(domain)
    operation = await _begin(hypervisor, domain, path)
    target = operation.target
    header = SaveHeader(
        driver=driver.scheme,
        name=domain.name,
        uuid=domain.uuid,
        definition=domain.definition.text,
        running=running,
        identity=target.identity,
        time=operation.started,
    )
    try:
        await _write(hypervisor, domain, target, header, direct=direct)
        await trio.lowlevel.checkpoint_if_cancelled()
    except OutcomeUnknown:
        _owe_settling(hypervisor, domain, operation)
        raise
    except BaseException:
        with trio.CancelScope(shield=True):
            await _undo_save(hypervisor, domain, operation)
        raise
    with trio.CancelScope(shield=True):
        await _conclude(hypervisor, domain, operation)


async def _begin(hypervisor: Hypervisor, domain: Domain, path: Path | None) -> SaveOperationRow:
    """Write down what is about to be done; the file does not exist yet."""
    identity, managed = uuid.uuid4().hex, path is None
    if path is None:
        temporary = path = managed_path(hypervisor, domain)
        # what a daemon that died may have left there: a domain with a guest has no managed save
        await trio.to_thread.run_sync(_make_room, path, domain.name)
    else:
        path = await trio.to_thread.run_sync(savefile.resolve_target, path, domain.name)
        if owner := await find_disk_owner(hypervisor.domains, path):  # libvirt writes over it
            raise OperationFailed(
                f"saving domain '{domain.name}' to '{path}': "
                f"the file is disk '{owner.target}' of domain '{owner.domain}'",
                domain=domain.name,
                path=str(path),
            )
        temporary = path.with_name(f".virtsnap-{identity}")  # in the same folder: a rename stays atomic
    target = SaveTarget(path=str(path), temporary=str(temporary), identity=identity, managed=managed)
    final: DomainState = "running" if domain.row.state == "running" else "paused"
    operation = _operation(hypervisor, domain, "save", target, final)
    await hypervisor.domains.begin(operation)
    return operation


async def _write(
    hypervisor: Hypervisor, domain: Domain, target: SaveTarget, header: SaveHeader, *, direct: bool
) -> None:
    creating = savefile.create(Path(target.temporary), header, shown=Path(target.path), direct=direct)
    async with creating as file:
        await hypervisor.driver.save(domain, file)
        await file.finish()


def _make_room(managed: Path, domain: str) -> None:
    try:
        managed.parent.mkdir(mode=0o711, parents=True, exist_ok=True)
        managed.unlink(missing_ok=True)
    except OSError as error:
        raise SystemFailure(
            f"saving domain '{domain}' to '{managed}': open failed: {error.strerror}", path=str(managed)
        ) from error


async def _conclude(hypervisor: Hypervisor, domain: Domain, operation: SaveOperationRow) -> None:
    """End the guest, whose memory is in the file now, and record it."""
    try:
        await hypervisor.driver.drop(domain)
    except Error:  # it does not die; the next settling asks again
        _owe_settling(hypervisor, domain, operation)
        raise
    await _publish(hypervisor, domain, operation)


async def _publish(hypervisor: Hypervisor, domain: Domain, operation: SaveOperationRow) -> None:
    """Give the whole file its name and record that the domain is saved; its guest has ended."""
    domains, target = hypervisor.domains, operation.target
    failure: SystemFailure | None = None
    try:
        await trio.to_thread.run_sync(savefile.publish, Path(target.temporary), Path(target.path))
    except OSError as error:
        failure = SystemFailure(
            f"saving domain '{domain.name}' to '{target.path}': rename failed: {error.strerror}",
            domain=domain.name,
            path=target.path,
            remedy=f"the domain is saved all the same: restore it from {target.temporary}",
        )
    transaction = Transaction()
    domains.ended(transaction, domain, SAVED, managed_save=target.managed)
    domains.end(transaction, domain)
    await record(domain, partial(domains.commit, transaction))
    if domain.lock.gone and domains.get(domain.uuid) is None:
        folder = managed_path(hypervisor, domain).parent
        await trio.to_thread.run_sync(partial(shutil.rmtree, folder, ignore_errors=True))
    if failure is not None:
        raise failure


async def _undo_save(hypervisor: Hypervisor, domain: Domain, operation: SaveOperationRow) -> None:
    try:
        await _take_back(hypervisor, domain, operation)
    except Error as error:
        log.error("%s: the save to %s is not undone yet: %s", domain.name, operation.target.path, error)  # noqa: TRY400 - the first error is raised
        _owe_settling(hypervisor, domain, operation)


async def _take_back(hypervisor: Hypervisor, domain: Domain, operation: SaveOperationRow) -> None:
    """Remove the file and let the guest, if it still exists, be what it was."""
    domains = hypervisor.domains
    await trio.to_thread.run_sync(partial(_remove, Path(operation.target.temporary)))
    await hypervisor.driver.unsave(domain, running=operation.final == "running")
    transaction = Transaction()
    if operation.final == "running" and domain.row.state == "paused":  # as a daemon that came back found it
        domains.resumed(transaction, domain, "save canceled", detail="unpaused")
    domains.end(transaction, domain)
    await record(domain, partial(domains.commit, transaction))


# --- restore ---


@asynccontextmanager
async def opened(
    hypervisor: Hypervisor, path: Path, *, direct: bool
) -> AsyncIterator[tuple[SavedState, DomainDefinition]]:
    """Open a file and read what domain is in it.

    Raises:
        SystemFailure, InternalError, OperationFailed: It holds none, or none for this driver.
        ConfigUnsupported: The definition says something that cannot be honoured.
    """
    async with savefile.open_saved(path, direct=direct) as saved:
        header, driver = saved.header, hypervisor.driver
        if header.driver != driver.scheme:
            raise OperationFailed(
                f"'{path}' holds a saved domain of the driver {header.driver}, not of {driver.scheme}",
                path=str(path),
            )
        definition = await read_document(
            header.definition, lambda: driver.prepare(DomainDefinition.parse(header.definition))
        )
        if (definition.name, definition.uuid) != (header.name, header.uuid):
            raise InternalError(f"damaged metadata in '{path}': it names two domains", path=str(path))
        yield saved, definition


async def restore(
    hypervisor: Hypervisor,
    domain: Domain,
    saved: SavedState,
    definition: DomainDefinition,
    *,
    running: bool | None = None,
    managed: bool = False,
) -> None:
    """Let the domain go on from `saved` under `definition`: as the save says, or `running` (False: paused).

    On any failure the domain stays off, and a new one does not come to be. The guest runs only once it is recorded.

    Raises:
        HypervisorError: The memory cannot be loaded.
    """
    driver, domains = hypervisor.driver, hypervisor.domains
    run = saved.header.running if running is None else running
    runtime = await driver.restore(domain, definition, saved)
    with trio.CancelScope(shield=True):
        identity = saved.header.identity
        target = SaveTarget(
            path=str(saved.path), temporary=str(saved.path), identity=identity, managed=managed
        )
        operation = _operation(hypervisor, domain, "restore", target, "running" if run else "paused")
        transaction = Transaction()
        live = domains.definitions.keep(transaction, definition)
        paused = STARTED_PAUSED if managed and running is False else RESTORED_PAUSED
        transition = RESTORED if run else paused
        persistent = domain.row.definition
        domains.reverted(transaction, domain, transition, persistent=persistent, live=live, runtime=runtime)
        if run:
            domains.note_operation(transaction, operation)
        try:
            await domains.commit(transaction)
        except BaseException:
            await driver.drop(domain)
            raise
        try:
            if run:
                await _let_run(hypervisor, domain, operation)
        finally:
            if domain.lock.debt is None:  # else it may still have to be recorded that the save is true
                await tidy(hypervisor, domain)


async def start_managed(
    hypervisor: Hypervisor, domain: Domain, *, running: bool | None, direct: bool
) -> None:
    """Let the domain go on from its managed save, which then is gone; on failure the domain stays off and keeps it.

    Raises:
        OperationInvalid: Something went wrong since: the memory may not fit the disks any more.
        OperationFailed: The file is not this domain's (qemuDomainObjRestore), or not a whole one.
        SystemFailure, InternalError, HypervisorError: It cannot be read, or its memory cannot be loaded.
    """
    try:
        if domain.row.attention is not None:
            raise OperationInvalid(
                f"the managed save may not fit the domain any more: {domain.row.attention}",
                domain=domain.name,
            )
        path = managed_path(hypervisor, domain)
        async with opened(hypervisor, path, direct=direct) as (saved, definition):
            if saved.header.uuid != domain.uuid:
                raise OperationFailed(
                    f"cannot restore domain '{domain.name}' uuid {domain.uuid} from a file which belongs to "
                    f"domain '{saved.header.name}' uuid {saved.header.uuid}"
                )
            renamed = definition.name != domain.name
            present = definition.renamed(domain.name) if renamed else definition
            await restore(hypervisor, domain, saved, present, running=running, managed=True)
    except Error as error:
        if domain.row.managed_save:
            error.remedy = error.remedy or (
                f"its saved state is kept; `virtsnap start --force-boot {domain.name}` boots it without, "
                f"`virtsnap managedsave-remove {domain.name}` removes it"
            )
        raise


async def _let_run(hypervisor: Hypervisor, domain: Domain, operation: SaveOperationRow) -> None:
    """Let a recorded guest run: the last thing that the note asked for."""
    driver, domains = hypervisor.driver, hypervisor.domains
    transaction = Transaction()
    domains.end(transaction, domain)
    try:
        await driver.resume(domain)
    except HypervisorError:  # it has not run: what is saved is still true
        await driver.drop(domain)
        domains.ended(transaction, domain, RESTORE_FAILED, managed_save=operation.target.managed)
        raise
    finally:
        await record(domain, partial(domains.commit, transaction))


# --- managed saves ---


def managed_path(hypervisor: Hypervisor, domain: Domain) -> Path:
    """Return where the domain's managed save is, if it has one."""
    return hypervisor.driver.context.state_dir / domain.uuid / MANAGED


async def discard(hypervisor: Hypervisor, domain: Domain) -> None:
    """Remove the managed save, if there is one."""
    if domain.row.managed_save:
        await hypervisor.domains.discard_managed_save(domain)
        await tidy(hypervisor, domain)


async def tidy(hypervisor: Hypervisor, domain: Domain) -> None:
    """Remove the file of a managed save that the domain, or the domain itself, is recorded not to have any more."""
    if domain.lock.gone or not domain.row.managed_save:
        with trio.CancelScope(shield=True):
            await trio.to_thread.run_sync(partial(_remove, managed_path(hypervisor, domain)))


async def sweep(hypervisor: Hypervisor) -> None:
    """Remove the managed saves that their domains do not have any more: a daemon died before it did.

    Those of domains that are not known are left: the store may be another one than theirs.
    """
    folder = hypervisor.driver.context.state_dir
    found = await trio.to_thread.run_sync(lambda: list(folder.glob(f"*/{MANAGED}")))
    for path in found:
        domain = hypervisor.domains.get(path.parent.name)
        if domain is None:
            log.warning("%s is of no domain that is known: restore it as a file, or remove it", path)
        elif not (domain.row.managed_save or domain.lock.debt or domain.lock.holder):
            log.warning("removing %s, which no domain goes on from", path)
            await trio.to_thread.run_sync(partial(_remove, path))


# --- what a former daemon, or a lost connection, left open ---


async def _resume_found(hypervisor: Hypervisor, domain: Domain) -> None:
    """Let the guest of a recorded restore run that a daemon found when it came back.

    It may have run since: where it cannot, it is left as it is, and what it came from is not gone on from again.
    """
    transaction = Transaction()
    await hypervisor.driver.resume(domain)
    if domain.row.state != "running":
        hypervisor.domains.resumed(transaction, domain, RESTORED.reason, detail="unpaused")
    hypervisor.domains.end(transaction, domain)
    await record(domain, partial(hypervisor.domains.commit, transaction))


async def settle(hypervisor: Hypervisor, domain: Domain, operation: SaveOperationRow) -> None:
    """Complete or undo what was begun and has no known outcome; where that fails, leave word on the domain.

    Raises:
        StorageError: The outcome cannot be recorded.
        OperationFailed: The guest does not die, and its memory is in the file: nothing is settled before it does.
    """
    target, exists = operation.target, await hypervisor.driver.has_guest(domain)
    log.warning("%s: settling an interrupted %s (%s)", domain.name, operation.verb, target.path)
    if exists and operation.verb == "save" and await _is_past_undoing(hypervisor, domain, target):
        await hypervisor.driver.drop(domain)
        exists = False
    try:
        if operation.verb == "restore":
            await (_resume_found(hypervisor, domain) if exists else end(hypervisor, domain))
        elif exists:
            await _take_back(hypervisor, domain, operation)
        elif domain.active:
            await _settle_ended(hypervisor, domain, operation)
        else:
            await trio.to_thread.run_sync(partial(_remove, Path(target.temporary)))
            await end(hypervisor, domain)
    except StorageError:
        raise
    except Error as error:
        await _give_up(hypervisor, domain, operation, error)


async def _is_past_undoing(hypervisor: Hypervisor, domain: Domain, target: SaveTarget) -> bool:
    """Tell whether a guest that still exists is all in its file, and does not answer: it was being ended."""
    try:
        await hypervisor.driver.check_save(domain)
    except Error:
        return bool(await _whole(target))
    return False


async def _whole(target: SaveTarget) -> list[Path]:
    """Return where this save is, written to its end."""
    # either name: the daemon may have died between the renaming and the record
    places = (Path(target.temporary), Path(target.path))
    return await trio.to_thread.run_sync(
        lambda: [path for path in places if savefile.is_whole(path, target.identity)]
    )


async def _settle_ended(hypervisor: Hypervisor, domain: Domain, operation: SaveOperationRow) -> None:
    """Record what became of a guest that has ended while it was being saved."""
    domains, target = hypervisor.domains, operation.target
    temporary = Path(target.temporary)
    if whole := await _whole(target):
        if whole[0] != temporary:
            done = SaveTarget(
                path=target.path, temporary=target.path, identity=target.identity, managed=target.managed
            )
            operation = _operation(hypervisor, domain, operation.verb, done, operation.final)
        await _publish(hypervisor, domain, operation)
        return
    await trio.to_thread.run_sync(partial(_remove, temporary))
    transaction = Transaction()
    domains.ended(transaction, domain, LOST)
    domains.end(transaction, domain)
    await record(domain, partial(domains.commit, transaction))


def _owe_settling(hypervisor: Hypervisor, domain: Domain, operation: SaveOperationRow) -> None:
    """Leave the note where it is: it is heeded before the next change of the domain, or at the next start."""
    domain.lock.debt = partial(settle, hypervisor, domain, operation)


async def _give_up(hypervisor: Hypervisor, domain: Domain, operation: SaveOperationRow, why: Error) -> None:
    if not domain.lock.gone:
        what = f"the {operation.verb} ({operation.target.path})"
        advice = "resume it, or destroy it" if domain.active else "start it"
        await give_up(hypervisor, domain, what, why, advice)


def _operation(
    hypervisor: Hypervisor, domain: Domain, verb: SaveVerb, target: SaveTarget, final: DomainState
) -> SaveOperationRow:
    return SaveOperationRow(
        driver=hypervisor.driver.scheme,
        uuid=domain.uuid,
        verb=verb,
        target=target,
        final=final,
        started=int(time.time()),
    )


def _remove(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        log.error("cannot remove %s: %s", path, error.strerror)  # noqa: TRY400 - it only takes space
