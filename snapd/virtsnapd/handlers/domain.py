"""Domains: parse, lock, ask the driver, answer."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Final

import trio

from virtsnap_protocol.errors import Error, InvalidArgument, OperationInvalid
from virtsnap_protocol.method import Empty
from virtsnap_protocol.methods import domain as methods
from virtsnapd import saves
from virtsnapd.access import require_secrets
from virtsnapd.documents import read_document
from virtsnapd.domain import Domain, Transition, require_active, require_inactive
from virtsnapd.flags import require_supported
from virtsnapd.models.domain import DomainDefinition
from virtsnapd.routing import handles

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection

    from virtsnapd.context import Context, Hypervisor

BOOTED: Final = Transition(state="running", reason="booted", events=(("started", "booted"),))
STARTED_PAUSED: Final = Transition(
    state="paused", reason="user", events=(("started", "booted"), ("suspended", "paused"))
)
START_FAILED: Final = Transition(state="shutoff", reason="failed", events=(("stopped", "failed"),))
DESTROYED: Final = Transition(state="shutoff", reason="destroyed", events=(("stopped", "destroyed"),))
SUSPENDED: Final = Transition(state="paused", reason="user", events=(("suspended", "paused"),))
RESUMED: Final = Transition(state="running", reason="unpaused", events=(("resumed", "unpaused"),))


def describe(domain: Domain) -> methods.DomainInfo:
    """Return what callers are told of a domain."""
    facts, hierarchy = domain.definitions.facts(domain.digest), domain.hierarchy
    return methods.DomainInfo(
        name=domain.name,
        uuid=domain.uuid,
        id=domain.row.id,
        state=domain.row.state,
        reason=domain.row.reason,
        persistent=domain.persistent,
        os_type=facts.os_type,
        vcpus=facts.vcpus,
        max_memory=facts.max_memory,
        memory=facts.memory,
        managed_save=domain.row.managed_save,
        snapshots=len(hierarchy.forest),
        current_snapshot=hierarchy.forest.current,
        generation=hierarchy.generation,
        needs_attention=domain.row.attention,
    )


@handles(methods.LIST)
def list_domains(context: Context, params: methods.ListParams) -> methods.ListResult:
    """List domains: active ones by id, then inactive ones by name."""
    wanted = [d for d in context.hypervisor(params.uri).domains if _selected(d, set(params.flags))]
    active = sorted((d for d in wanted if d.active), key=lambda d: d.row.id or 0)
    inactive = sorted((d for d in wanted if not d.active), key=lambda d: d.name)
    return methods.ListResult(
        domains=[describe(domain) for domain in active + inactive], position=context.services.events.position
    )


def _selected(domain: Domain, flags: Collection[methods.ListFlag]) -> bool:
    facts: tuple[tuple[methods.ListFlag, methods.ListFlag, bool], ...] = (
        ("active", "inactive", domain.active),
        ("persistent", "transient", domain.persistent),
        ("managed-save", "no-managed-save", domain.row.managed_save),
        ("has-snapshot", "no-snapshot", len(domain.hierarchy.forest) > 0),
    )
    # a group of which neither word was given does not filter
    return all((yes if fact else no) in flags or not {yes, no} & set(flags) for yes, no, fact in facts)


@handles(methods.INFO)
def info(context: Context, params: methods.DomainParams) -> methods.InfoResult:
    """Describe one domain."""
    _, domain = context.domain(params.uri, params.domain)
    return methods.InfoResult(domain=describe(domain))


@handles(methods.XML)
def xml(context: Context, params: methods.XmlParams) -> methods.XmlResult:
    """Return a domain's definition."""
    require_secrets(context.caller, methods.XML.name, params.flags)
    _, domain = context.domain(params.uri, params.domain)
    return methods.XmlResult(
        xml=domain.xml(inactive="inactive" in params.flags, secure="secure" in params.flags)
    )


@handles(methods.DISKS)
def disks(context: Context, params: methods.DisksParams) -> methods.DisksResult:
    """List a domain's disks and their images."""
    _, domain = context.domain(params.uri, params.domain)
    digest = domain.persistent_digest if "inactive" in params.flags else domain.digest
    found = domain.definitions.parsed(digest).disks
    return methods.DisksResult(
        disks=[
            methods.DiskInfo(target=d.target, source=d.source, type=d.type, device=d.device) for d in found
        ]
    )


@handles(methods.DEFINE)
async def define(context: Context, params: methods.DefineParams) -> methods.InfoResult:
    """Define a persistent domain, or change its definition."""
    hypervisor = context.hypervisor(params.uri)
    definition = await _prepared(hypervisor, params.xml, validate="validate" in params.flags)
    with hypervisor.domains.claim(definition) as domain:
        async with domain.lock.hold(methods.DEFINE.name, who=str(context.caller), long=False):
            hypervisor.domains.check_claim(domain, definition)
            await hypervisor.domains.define(domain, definition)
    return methods.InfoResult(domain=describe(domain))


@handles(methods.UNDEFINE)
async def undefine(context: Context, params: methods.UndefineParams) -> Empty:
    """Forget a domain's definition."""
    hypervisor, domain = context.domain(params.uri, params.domain)
    require_supported(params.flags, hypervisor.driver.undefine_flags, methods.UNDEFINE.name)
    for kind in ("nvram", "TPM"):  # qemuDomainUndefineFlags
        if {kind.lower(), f"keep-{kind.lower()}"} <= set(params.flags):
            raise OperationInvalid(f"cannot both keep and delete {kind}", domain=domain.name)
    async with domain.lock.hold(methods.UNDEFINE.name, who=str(context.caller), long=False):
        if not domain.persistent:
            raise OperationInvalid("cannot undefine transient domain", domain=domain.name)
        if domain.row.managed_save and "managed-save" not in params.flags:
            raise OperationInvalid(
                "Refusing to undefine while domain managed save image exists", domain=domain.name
            )
        count = len(domain.hierarchy.forest)
        if count and not domain.active and "snapshots-metadata" not in params.flags:
            raise OperationInvalid(
                f"cannot delete inactive domain with {count} snapshots",
                domain=domain.name,
                remedy="give the flag snapshots-metadata to forget their metadata; their data is left alone",
            )
        managed = domain.row.managed_save
        await hypervisor.domains.undefine(domain)
        if managed:
            await saves.tidy(hypervisor, domain)
    return Empty()


@handles(methods.RENAME)
async def rename(context: Context, params: methods.RenameParams) -> methods.InfoResult:
    """Give an inactive domain another name; its snapshots stay with it."""
    hypervisor, domain = context.domain(params.uri, params.domain)
    if not params.name:
        raise InvalidArgument(f"string name in {methods.RENAME.name} must not be empty")
    async with domain.lock.hold(methods.RENAME.name, who=str(context.caller), long=False):
        if domain.active:
            raise OperationInvalid("cannot rename active domain", domain=domain.name)
        if domain.row.managed_save and hypervisor.driver.heeds_managed_save:
            raise OperationInvalid("domain with a managed saved state can't be renamed", domain=domain.name)
        await hypervisor.domains.rename(domain, params.name)
    return methods.InfoResult(domain=describe(domain))


@handles(methods.CREATE)
async def create(context: Context, params: methods.CreateParams) -> methods.InfoResult:
    """Run a transient domain from its definition, or a defined one with this definition until it stops."""
    hypervisor = context.hypervisor(params.uri)
    definition = await _prepared(hypervisor, params.xml, validate="validate" in params.flags)
    paused = "paused" in params.flags
    with hypervisor.domains.claim(definition) as domain:
        async with domain.lock.hold(methods.CREATE.name, who=str(context.caller), long=True):
            hypervisor.domains.check_claim(domain, definition)
            if domain.active:
                raise OperationInvalid(f"domain '{domain.name}' is already active", domain=domain.name)
            await _start(hypervisor, domain, definition, paused=paused)
    return methods.InfoResult(domain=describe(domain))


@handles(methods.START)
async def start(context: Context, params: methods.StartParams) -> methods.InfoResult:
    """Start a defined domain: from its managed save if it has one, else cold."""
    hypervisor, domain = context.domain(params.uri, params.domain)
    paused, direct = "paused" in params.flags, "bypass-cache" in params.flags
    async with domain.lock.hold(methods.START.name, who=str(context.caller), long=True):
        require_inactive(domain)
        if domain.row.managed_save and "force-boot" not in params.flags:
            running = False if paused else None
            await saves.start_managed(hypervisor, domain, running=running, direct=direct)
        else:
            definition = domain.definitions.parsed(domain.persistent_digest)
            await _start(hypervisor, domain, definition, paused=paused)
    return methods.InfoResult(domain=describe(domain))


@handles(methods.DESTROY)
async def destroy(context: Context, params: methods.DomainParams) -> Empty:
    """Stop a domain at once."""
    hypervisor, domain = context.domain(params.uri, params.domain)
    holder = domain.lock.holder
    if domain.active and holder is not None and holder.long:
        # As in libvirt nothing that is under way protects a guest from this: it is the way out when QEMU hangs.
        await hypervisor.driver.interrupt(domain)
        async with domain.lock.wait(methods.DESTROY.name):
            if domain.active and not domain.lock.gone:
                await hypervisor.driver.destroy(domain, DESTROYED)
        return Empty()
    async with domain.lock.hold(methods.DESTROY.name, who=str(context.caller), long=True):
        require_active(domain)
        await hypervisor.driver.destroy(domain, DESTROYED)
    return Empty()


@handles(methods.SHUTDOWN)
async def shutdown(context: Context, params: methods.DomainParams) -> Empty:
    """Ask the guest to shut down."""
    hypervisor, domain = context.domain(params.uri, params.domain)
    async with domain.lock.hold(methods.SHUTDOWN.name, who=str(context.caller), long=True):
        require_active(domain)
        await hypervisor.driver.shutdown(domain)
    return Empty()


@handles(methods.SUSPEND)
async def suspend(context: Context, params: methods.DomainParams) -> Empty:
    """Pause the virtual CPUs."""
    hypervisor, domain = context.domain(params.uri, params.domain)
    async with domain.lock.hold(methods.SUSPEND.name, who=str(context.caller), long=True):
        require_active(domain)
        if domain.row.state != "paused":
            driver = hypervisor.driver
            await _switch(hypervisor, domain, driver.suspend, SUSPENDED, undo=driver.resume)
    return Empty()


@handles(methods.RESUME)
async def resume(context: Context, params: methods.DomainParams) -> Empty:
    """Let the virtual CPUs run on."""
    hypervisor, domain = context.domain(params.uri, params.domain)
    async with domain.lock.hold(methods.RESUME.name, who=str(context.caller), long=True):
        require_active(domain)
        if domain.row.state == "running":
            raise OperationInvalid("domain is already running", domain=domain.name)
        driver = hypervisor.driver
        await _switch(hypervisor, domain, driver.resume, RESUMED, undo=driver.suspend)
    return Empty()


async def _switch(
    hypervisor: Hypervisor,
    domain: Domain,
    act: Callable[[Domain], Awaitable[None]],
    transition: Transition,
    *,
    undo: Callable[[Domain], Awaitable[None]],
) -> None:
    """Pause or unpause the guest and record it: both or neither, whatever is cancelled or fails."""
    with trio.CancelScope(shield=True):
        await act(domain)
        try:
            await hypervisor.domains.changed(domain, transition)
        except Error:
            await undo(domain)
            raise


async def _prepared(hypervisor: Hypervisor, text: str, *, validate: bool) -> DomainDefinition:
    def read() -> DomainDefinition:
        definition = DomainDefinition.parse(text, new_uuid=lambda: str(uuid.uuid4()), validate=validate)
        return hypervisor.driver.prepare(definition)

    return await read_document(text, read)


async def _start(
    hypervisor: Hypervisor, domain: Domain, definition: DomainDefinition, *, paused: bool
) -> None:
    """Start a guest without a managed save; on any failure it is gone again, and a domain that was new with it."""
    managed = domain.row.managed_save
    await hypervisor.driver.start(domain, definition)
    try:
        if not paused:
            await hypervisor.driver.resume(domain)
        await hypervisor.domains.changed(domain, STARTED_PAUSED if paused else BOOTED)
    except BaseException:
        with trio.CancelScope(shield=True):
            await hypervisor.driver.destroy(domain, START_FAILED)
        raise
    finally:
        if managed:
            await saves.tidy(hypervisor, domain)


ROUTES: Final = (
    list_domains, info, xml, disks, define, undefine, rename, create, start, destroy, shutdown, suspend, resume,
)  # fmt: skip
