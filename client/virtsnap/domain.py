"""Domains as seen from a program: what can be done to one, and to the host that has them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from virtsnap import flags as words
from virtsnap.document import DiskSpec, MemorySpec, snapshot_document
from virtsnap.handle import BlockingHandle, Handle, verb
from virtsnap.snapshot import BlockingSnapshot, Snapshot
from virtsnap_protocol.method import NoParams
from virtsnap_protocol.methods import connection, domain, snapshot
from virtsnap_protocol.methods import save as saving

if TYPE_CHECKING:
    from collections.abc import Iterable

    from virtsnap.handle import BlockingCaller, Caller


class HostVerbs:
    """What can be asked of a connection itself."""

    @verb(connection.HELLO)
    def hello(self) -> NoParams:
        """Tell versions, limits, drivers and who the daemon takes the caller for."""
        return NoParams()

    @verb(connection.PING)
    def ping(self) -> NoParams:
        """Answer at once, ahead of any work."""
        return NoParams()

    @verb(domain.LIST)
    def domains(self, *, flags: int | Iterable[domain.ListFlag] = ()) -> domain.ListParams:
        """List domains: active ones by id, then inactive ones by name."""
        return domain.ListParams(flags=words.chosen(domain.LIST, words.DOMAIN_LIST, flags))

    @verb(domain.DEFINE)
    def define(
        self, xml: str, *, validate: bool = False, flags: int | Iterable[domain.DefineFlag] = ()
    ) -> domain.DefineParams:
        """Define a persistent domain, or change its definition."""
        given = words.chosen(domain.DEFINE, words.DOMAIN_DEFINE, flags, validate=validate)
        return domain.DefineParams(xml=xml, flags=given)

    @verb(connection.CAPABILITIES)
    def capabilities(self) -> connection.CapabilitiesParams:
        """Describe the host and the guests that the hypervisor can run."""
        return connection.CapabilitiesParams()

    @verb(saving.RESTORE)
    def restore(self, path: str, *, flags: int | Iterable[saving.SaveFlag] = ()) -> saving.RestoreParams:
        """Let a domain go on from a file that `save` wrote."""
        return saving.RestoreParams(path=path, flags=words.chosen(saving.RESTORE, words.DOMAIN_SAVE, flags))

    @verb(domain.CREATE)
    def create(
        self,
        xml: str,
        *,
        paused: bool = False,
        validate: bool = False,
        flags: int | Iterable[domain.CreateFlag] = (),
    ) -> domain.CreateParams:
        """Run a transient domain from its definition."""
        given = words.chosen(domain.CREATE, words.DOMAIN_CREATE, flags, paused=paused, validate=validate)
        return domain.CreateParams(xml=xml, flags=given)


class DomainVerbs:
    """What can be done to a domain."""

    name: str | int
    """A name, a UUID, or the id of a running domain."""

    @verb(domain.INFO)
    def info(self) -> domain.DomainParams:
        """Describe the domain: state, sizes, snapshots."""
        return domain.DomainParams(domain=self.name)

    @verb(domain.XML)
    def xml(
        self, *, secure: bool = False, inactive: bool = False, flags: int | Iterable[domain.XmlFlag] = ()
    ) -> domain.XmlParams:
        """Return the definition: the running one, or with `inactive` that of the next start."""
        given = words.chosen(domain.XML, words.DOMAIN_XML, flags, secure=secure, inactive=inactive)
        return domain.XmlParams(domain=self.name, flags=given)

    @verb(domain.DISKS)
    def disks(self, *, flags: int | Iterable[domain.DisksFlag] = ()) -> domain.DisksParams:
        """List the disks and their images."""
        return domain.DisksParams(
            domain=self.name, flags=words.chosen(domain.DISKS, words.DOMAIN_DISKS, flags)
        )

    @verb(domain.RENAME)
    def rename(self, name: str) -> domain.RenameParams:
        """Give the inactive domain another name."""
        return domain.RenameParams(domain=self.name, name=name)

    @verb(saving.CREATE)
    def save(self, path: str, *, flags: int | Iterable[saving.SaveFlag] = ()) -> saving.CreateParams:
        """Write the memory to a file and end the guest."""
        given = words.chosen(saving.CREATE, words.DOMAIN_SAVE, flags)
        return saving.CreateParams(domain=self.name, path=path, flags=given)

    @verb(saving.MANAGE)
    def managed_save(self, *, flags: int | Iterable[saving.SaveFlag] = ()) -> saving.ManageParams:
        """Save the domain so that its next start goes on from there."""
        return saving.ManageParams(
            domain=self.name, flags=words.chosen(saving.MANAGE, words.DOMAIN_SAVE, flags)
        )

    @verb(saving.DISCARD)
    def remove_managed_save(self) -> domain.DomainParams:
        """Remove the managed save, so that the next start boots."""
        return domain.DomainParams(domain=self.name)

    @verb(domain.START)
    def start(
        self, *, paused: bool = False, flags: int | Iterable[domain.StartFlag] = ()
    ) -> domain.StartParams:
        """Start the domain."""
        given = words.chosen(domain.START, words.DOMAIN_START, flags, paused=paused)
        return domain.StartParams(domain=self.name, flags=given)

    @verb(domain.DESTROY)
    def destroy(self) -> domain.DomainParams:
        """Stop the domain at once, as by its plug."""
        return domain.DomainParams(domain=self.name)

    @verb(domain.SHUTDOWN)
    def shutdown(self) -> domain.DomainParams:
        """Ask the guest to shut down; does not wait for it."""
        return domain.DomainParams(domain=self.name)

    @verb(domain.SUSPEND)
    def suspend(self) -> domain.DomainParams:
        """Pause the virtual CPUs."""
        return domain.DomainParams(domain=self.name)

    @verb(domain.RESUME)
    def resume(self) -> domain.DomainParams:
        """Let the virtual CPUs run on."""
        return domain.DomainParams(domain=self.name)

    @verb(domain.UNDEFINE)
    def undefine(
        self, *, snapshots_metadata: bool = False, flags: int | Iterable[domain.UndefineFlag] = ()
    ) -> domain.UndefineParams:
        """Forget the definition; an active domain becomes transient."""
        given = words.chosen(
            domain.UNDEFINE, words.DOMAIN_UNDEFINE, flags, snapshots_metadata=snapshots_metadata
        )
        return domain.UndefineParams(domain=self.name, flags=given)

    @verb(snapshot.CREATE)
    def take(
        self,
        name: str | None = None,
        description: str | None = None,
        *,
        memory: MemorySpec | None = None,
        disks: Iterable[DiskSpec] = (),
        flags: int | Iterable[snapshot.CreateFlag] = (),
    ) -> snapshot.CreateParams:
        """Take a snapshot; what is not said is for the daemon to choose."""
        xml = snapshot_document(name, description, memory=memory, disks=disks)
        given = words.chosen(snapshot.CREATE, words.SNAPSHOT_CREATE, flags)
        return snapshot.CreateParams(domain=self.name, xml=xml, flags=given)

    @verb(snapshot.CREATE)
    def create_snapshot(
        self, xml: str = "<domainsnapshot/>", *, flags: int | Iterable[snapshot.CreateFlag] = ()
    ) -> snapshot.CreateParams:
        """Take the snapshot that a document asks for, or do with it what the flags say."""
        given = words.chosen(snapshot.CREATE, words.SNAPSHOT_CREATE, flags)
        return snapshot.CreateParams(domain=self.name, xml=xml, flags=given)

    @verb(snapshot.CREATE)
    def redefine(
        self,
        xml: str,
        *,
        current: bool = False,
        validate: bool = False,
        flags: int | Iterable[snapshot.CreateFlag] = (),
    ) -> snapshot.CreateParams:
        """Record the metadata of a snapshot that exists, from its full document; touches no data."""
        given = words.chosen(
            snapshot.CREATE, words.SNAPSHOT_CREATE, flags, redefine=True, current=current, validate=validate
        )
        return snapshot.CreateParams(domain=self.name, xml=xml, flags=given)

    @verb(snapshot.LIST)
    def snapshots(
        self,
        *,
        of: str | None = None,
        descendants: bool = False,
        skip: int = 0,
        limit: int | None = None,
        flags: int | Iterable[snapshot.ListFlag] = (),
    ) -> snapshot.ListParams:
        """List the domain's snapshots, or the children (`descendants`: all below) of the one given by `of`."""
        bits = words.SNAPSHOT_LIST if of is None else words.SNAPSHOT_CHILDREN
        given = words.chosen(snapshot.LIST, bits, flags, descendants=descendants)
        return snapshot.ListParams(domain=self.name, of=of, flags=given, skip=skip, limit=limit)

    @verb(snapshot.COUNT)
    def count_snapshots(
        self,
        *,
        of: str | None = None,
        descendants: bool = False,
        flags: int | Iterable[snapshot.ListFlag] = (),
    ) -> snapshot.CountParams:
        """Count what `snapshots` would list."""
        bits = words.SNAPSHOT_LIST if of is None else words.SNAPSHOT_CHILDREN
        given = words.chosen(snapshot.COUNT, bits, flags, descendants=descendants)
        return snapshot.CountParams(domain=self.name, of=of, flags=given)

    @verb(snapshot.CURRENT)
    def current_snapshot(self) -> snapshot.DomainParams:
        """Describe the domain's current snapshot."""
        return snapshot.DomainParams(domain=self.name)


class Domain(DomainVerbs, Handle):
    """One domain behind a trio connection."""

    def __init__(self, connection: Caller, name: str | int) -> None:
        super().__init__(connection)
        self.name = name

    def snapshot(self, name: str) -> Snapshot:
        """Return a handle of one of its snapshots."""
        return Snapshot(self, self.name, name)


class BlockingDomain(DomainVerbs, BlockingHandle):
    """One domain behind a blocking connection."""

    def __init__(self, connection: BlockingCaller, name: str | int) -> None:
        super().__init__(connection)
        self.name = name

    def snapshot(self, name: str) -> BlockingSnapshot:
        """Return a handle of one of its snapshots."""
        return BlockingSnapshot(self, self.name, name)
