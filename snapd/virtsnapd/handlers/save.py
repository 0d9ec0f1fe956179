"""Saved states: check the flags, find the domain, lock, ask, answer."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

from virtsnap_protocol.errors import OperationInvalid
from virtsnap_protocol.method import Empty
from virtsnap_protocol.methods import save as methods
from virtsnap_protocol.methods.domain import DomainParams, InfoResult
from virtsnapd import saves
from virtsnapd.domain import require_active
from virtsnapd.flags import exclude
from virtsnapd.handlers.domain import describe
from virtsnapd.routing import handles

if TYPE_CHECKING:
    from collections.abc import Collection

    from virtsnapd.context import Context, Hypervisor
    from virtsnapd.domain import Domain

PREFIX: Final = "VIR_DOMAIN_SAVE_"


@handles(methods.CREATE)
async def create(context: Context, params: methods.CreateParams) -> Empty:
    """Write a domain's memory to a file and end its guest."""
    _check(params.flags)
    hypervisor, domain = context.domain(params.uri, params.domain)
    async with domain.lock.hold(methods.CREATE.name, who=str(context.caller), long=True):
        require_active(domain)
        await _save(hypervisor, domain, Path(params.path), params.flags)
    return Empty()


@handles(methods.RESTORE)
async def restore(context: Context, params: methods.RestoreParams) -> InfoResult:
    """Let a domain go on from a file."""
    _check(params.flags)
    hypervisor, flags = context.hypervisor(params.uri), params.flags
    direct = "bypass-cache" in flags
    async with saves.opened(hypervisor, Path(params.path), direct=direct) as (saved, definition):
        with hypervisor.domains.claim(definition) as domain:
            async with domain.lock.hold(methods.RESTORE.name, who=str(context.caller), long=True):
                hypervisor.domains.check_claim(domain, definition)
                if domain.active:
                    raise OperationInvalid(f"domain '{domain.name}' is already active", domain=domain.name)
                await saves.restore(hypervisor, domain, saved, definition, running=_wanted(flags))
    return InfoResult(domain=describe(domain))


@handles(methods.MANAGE)
async def manage(context: Context, params: methods.ManageParams) -> Empty:
    """Save a domain so that its next start goes on from there."""
    _check(params.flags)
    hypervisor, domain = context.domain(params.uri, params.domain)
    async with domain.lock.hold(methods.MANAGE.name, who=str(context.caller), long=True):
        require_active(domain)
        if not domain.persistent:
            raise OperationInvalid("cannot do managed save for transient domain", domain=domain.name)
        await _save(hypervisor, domain, None, params.flags)
    return Empty()


@handles(methods.DISCARD)
async def discard(context: Context, params: DomainParams) -> Empty:
    """Remove a domain's managed save."""
    hypervisor, domain = context.domain(params.uri, params.domain)
    async with domain.lock.hold(methods.DISCARD.name, who=str(context.caller), long=False):
        await saves.discard(hypervisor, domain)
    return Empty()


async def _save(
    hypervisor: Hypervisor, domain: Domain, path: Path | None, flags: Collection[methods.SaveFlag]
) -> None:
    wanted = _wanted(flags)
    running = domain.row.state == "running" if wanted is None else wanted
    await saves.save(hypervisor, domain, path, running=running, direct="bypass-cache" in flags)


def _check(flags: Collection[methods.SaveFlag]) -> None:
    exclude(flags, "running", "paused", PREFIX)


def _wanted(flags: Collection[methods.SaveFlag]) -> bool | None:
    """Return whether the domain shall run after it was restored; None: as it was when it was saved."""
    return True if "running" in flags else False if "paused" in flags else None


ROUTES: Final = (create, restore, manage, discard)
