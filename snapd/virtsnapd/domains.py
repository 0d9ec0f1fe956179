"""The domains that the daemon keeps for drivers whose hypervisor has no database of its own.

A driver reports what became of a guest (`started`, `changed`, `stopped`); the table makes it durable, announces it
and then changes what callers see, in this order. The caller of every changing method holds the domain's lock.
"""

from __future__ import annotations

import itertools
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING

import msgspec

from virtsnap_protocol.errors import DomainExists, DomainNotFound, OperationInvalid, StoreUnusable
from virtsnapd.domain import Domain, Transition
from virtsnapd.hierarchies import Hierarchy
from virtsnapd.locks import DomainLock
from virtsnapd.store import DomainRow, HierarchyRow, Loaded, Operation, Store, Transaction

if TYPE_CHECKING:
    from collections.abc import Iterator

    from virtsnap_protocol.methods.event import EventKind
    from virtsnapd.definitions import Definitions
    from virtsnapd.models.domain import DomainDefinition
    from virtsnapd.models.forest import Change


class DomainTable:
    """All domains of one driver."""

    def __init__(
        self, scheme: str, uri: str, store: Store, definitions: Definitions, keys: Iterator[int]
    ) -> None:
        self.scheme = scheme
        self.uri = uri
        self.definitions = definitions
        self._store = store
        self._keys = keys
        self._by_uuid: dict[str, Domain] = {}
        self._by_name: dict[str, Domain] = {}
        self._by_id: dict[int, Domain] = {}
        self._ids = itertools.count(1)
        self._claimed: set[str] = set()
        """Names and UUIDs of domains that are being made."""
        self.interrupted: dict[str, Operation] = {}
        """Operations that a former daemon began, by the domain's UUID; taken out as they are settled."""

    def load(self, loaded: Loaded) -> None:
        """Take over what the store holds of this driver's domains.

        Raises:
            StoreUnusable: The snapshots of a domain make no forest.
        """
        heads = {head.uuid: (head, found) for head, found in loaded.hierarchies if head.driver == self.scheme}
        for row in loaded.domains:
            if row.driver == self.scheme:
                head, snapshots = heads.get(row.uuid) or (self._new_head(row.uuid), [])
                try:
                    hierarchy = Hierarchy(head, snapshots)
                except ValueError as error:
                    raise StoreUnusable(
                        f"snapshots of domain '{row.name}': {error}", domain=row.name
                    ) from error
                self._insert(self._domain(row, hierarchy))
        self._ids = itertools.count(max(self._by_id, default=0) + 1)
        self.interrupted = {o.uuid: o for o in loaded.operations if o.driver == self.scheme}

    def __iter__(self) -> Iterator[Domain]:
        """Yield the domains there are now."""
        return iter(list(self._by_uuid.values()))

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self._by_uuid)

    def find(self, ref: str | int) -> Domain:
        """Return the domain with this UUID or name, or, given a number, the active one with this id.

        Raises:
            DomainNotFound: There is none.
        """
        if isinstance(ref, int):
            domain, by = self._by_id.get(ref), "id"
        else:
            domain, by = self._by_uuid.get(ref.lower()) or self._by_name.get(ref), "name"
        if domain is None:
            raise DomainNotFound(f"no domain with matching {by} '{ref}'", domain=str(ref))
        return domain

    def get(self, uuid: str) -> Domain | None:
        """Return the domain with this UUID, if there is one."""
        return self._by_uuid.get(uuid)

    @contextmanager
    def claim(self, definition: DomainDefinition) -> Iterator[Domain]:
        """Reserve the definition's name and UUID while it is being made real.

        Yields the domain that the definition is of: one that exists, or, when both are free, a new one that
        nobody else can find before it is recorded. Either way the caller takes its lock.

        Raises:
            DomainExists: Another domain has the name or the UUID (virDomainObjListAdd), or is just getting it.
        """
        by_uuid, by_name = self._by_uuid.get(definition.uuid), self._by_name.get(definition.name)
        if by_uuid is not None:
            self.check_claim(by_uuid, definition)
            yield by_uuid
            return
        if by_name is not None:
            raise DomainExists(
                f"domain '{by_name.name}' already exists with uuid {by_name.uuid}", domain=by_name.name
            )
        wanted = {definition.name, definition.uuid}
        if wanted & self._claimed:
            raise DomainExists(f"domain '{definition.name}' is just being made", domain=definition.name)
        self._claimed |= wanted
        try:
            yield self._new(definition)
        finally:
            self._claimed -= wanted

    def check_claim(self, domain: Domain, definition: DomainDefinition) -> None:
        """Refuse a claimed domain that was given another name while its turn was awaited; it is locked now.

        Raises:
            DomainExists: As when the claim came after the rename.
        """
        if domain.name != definition.name:
            raise DomainExists(
                f"domain '{domain.name}' is already defined with uuid {domain.uuid}", domain=domain.name
            )

    async def define(self, domain: Domain, definition: DomainDefinition) -> None:
        """Keep a persistent definition of a claimed domain, instead of its former one if it has one."""
        transaction = Transaction()
        digest = self.definitions.keep(transaction, definition)
        transaction.event(domain.lifecycle("defined", "updated" if domain.persistent else "added"))
        self._write(transaction, domain, _replaced(domain.row, definition=digest))
        await self._store.commit(transaction)

    async def undefine(self, domain: Domain) -> None:
        """Forget the persistent definition; an inactive domain goes with its hierarchy's metadata."""
        transaction = Transaction()
        if domain.active:
            self._write(transaction, domain, _replaced(domain.row, definition=None))
        else:
            self._remove(transaction, domain)
        transaction.event(domain.lifecycle("undefined", "removed"))
        await self._store.commit(transaction)

    async def rename(self, domain: Domain, name: str) -> None:
        """Give an inactive domain another name (virDomainObjListRename); both its events carry the right one.

        The old name is free, and the new one is found, from the moment that the change is durable.

        Raises:
            OperationInvalid: It is the name that it has, or another domain's.
            XmlDetail, XmlError: It cannot be a domain's name.
        """
        if name == domain.name:
            raise OperationInvalid("Can't rename domain to itself", domain=domain.name)
        if name in self._by_name or name in self._claimed:
            raise OperationInvalid(f"domain with name '{name}' already exists", domain=domain.name)
        definition = self.definitions.parsed(domain.persistent_digest).renamed(name)
        transaction = Transaction()
        row = _replaced(domain.row, name=name, definition=self.definitions.keep(transaction, definition))
        transaction.event(domain.lifecycle("undefined", "renamed"))
        transaction.event(domain.lifecycle("defined", "renamed", row=row))
        self._write(transaction, domain, row)
        transaction.on_durable(partial(self._release_name, domain, domain.name))
        self._claimed.add(name)
        try:
            await self._store.commit(transaction)
        finally:
            self._claimed.discard(name)

    def _release_name(self, domain: Domain, former: str) -> None:
        del self._by_name[former]
        domain.lock.domain = domain.name

    async def starting(self, domain: Domain, definition: DomainDefinition, runtime: bytes) -> None:
        """Record, before any virtual CPU runs, that a guest exists: a daemon that dies now will find it again.

        The guest is paused and nobody is told yet. A managed save goes: its memory would not fit the disks any more.
        """
        transaction = Transaction()
        row = _replaced(
            domain.row,
            live=self.definitions.keep(transaction, definition),
            id=next(self._ids),
            state="paused",
            reason="starting up",
            runtime=runtime,
            attention=None,
            managed_save=False,
        )
        self._write(transaction, domain, row)
        await self._store.commit(transaction)

    async def changed(self, domain: Domain, transition: Transition, *, attention: str | None = None) -> None:
        """Record a new state of a domain whose guest goes on to exist, and what somebody must look after."""
        transaction = Transaction()
        row = _replaced(
            domain.row,
            state=transition.state,
            reason=transition.reason,
            attention=attention or domain.row.attention,
        )
        self._write(transaction, domain, row)
        self._announce(transaction, domain, transition)
        await self._store.commit(transaction)

    async def need_attention(self, domain: Domain, what: str | None) -> None:
        """Record that somebody must look after the domain, and why; or (None) not any more."""
        transaction = Transaction()
        self.attention(transaction, domain, what)
        await self._store.commit(transaction)

    async def stopped(self, domain: Domain, transition: Transition) -> None:
        """Record that the guest is gone. A transient domain goes with it, and so does its hierarchy's metadata.

        Does nothing for a domain whose end is recorded already.
        """
        if domain.lock.gone or not domain.active:
            return
        transaction = Transaction()
        self.ended(transaction, domain, transition)
        await self._store.commit(transaction)

    def ended(
        self, transaction: Transaction, domain: Domain, transition: Transition, *, managed_save: bool = False
    ) -> None:
        """Make the end of a guest part of the transaction, and whether the next start resumes from its memory."""
        self._announce(transaction, domain, transition)
        if domain.persistent:
            row = _replaced(
                domain.row,
                live=None,
                id=None,
                state=transition.state,
                reason=transition.reason,
                runtime=None,
                attention=None,
                managed_save=managed_save,
            )
            self._write(transaction, domain, row)
        else:
            self._remove(transaction, domain)

    def reverted(
        self,
        transaction: Transaction,
        domain: Domain,
        transition: Transition,
        *,
        persistent: str | None,
        live: str | None,
        runtime: bytes | None,
        managed_save: bool = False,
    ) -> None:
        """Make it part of the transaction that a domain went back to a saved state: definitions (digests), guest.

        `managed_save` tells whether it still has a managed save, which its next start would resume from.
        """
        # a new id also where the same process goes on: whoever hears that a guest has started looks for a new one
        number = next(self._ids) if runtime is not None else None
        row = _replaced(
            domain.row,
            definition=persistent,
            live=live,
            id=number,
            state=transition.state,
            reason=transition.reason,
            runtime=runtime,
            attention=None,
            managed_save=managed_save,
        )
        for event, detail in transition.events:
            transaction.event(domain.lifecycle(event, detail, row=domain.row if event == "stopped" else row))
        self._write(transaction, domain, row)

    async def record(self, domain: Domain, change: Change, *events: tuple[EventKind, str | None]) -> None:
        """Record a change of the hierarchy, announced by these kinds of events about these snapshots."""
        transaction = Transaction()
        self.note(transaction, domain, change, *events)
        await self._store.commit(transaction)

    def note(
        self,
        transaction: Transaction,
        domain: Domain,
        change: Change,
        *events: tuple[EventKind, str | None],
        former: str | None = None,
    ) -> None:
        """Make a change of the hierarchy and its events part of a larger transaction.

        `former` is the name that a renamed snapshot had.
        """
        generation = domain.hierarchy.record(transaction, change)
        parents = {snapshot.name: snapshot.parent for snapshot in change.put}
        for kind, name in events:
            event = domain.event(
                kind,
                snapshot=name,
                former=former if kind == "snapshot.renamed" else None,
                parent=parents.get(name) if name else None,
                generation=generation,
            )
            transaction.event(event)

    async def discard_managed_save(self, domain: Domain) -> None:
        """Record that the next start boots."""
        transaction = Transaction()
        self._write(transaction, domain, _replaced(domain.row, managed_save=False))
        await self._store.commit(transaction)

    async def begin(self, operation: Operation) -> None:
        """Write down what is about to be done to the domain's data."""
        transaction = Transaction()
        self.note_operation(transaction, operation)
        await self._store.commit(transaction)

    def note_operation(self, transaction: Transaction, operation: Operation) -> None:
        """Make a note of what is still to be done part of the transaction."""
        transaction.put_operation(operation)

    def resumed(
        self, transaction: Transaction, domain: Domain, reason: str, *, detail: str = "from-snapshot"
    ) -> None:
        """Make it part of the transaction that a paused guest runs."""
        transaction.event(domain.lifecycle("resumed", detail))
        self._write(transaction, domain, _replaced(domain.row, state="running", reason=reason))

    def end(self, transaction: Transaction, domain: Domain) -> None:
        """Make the end of the operation that `begin` wrote down part of the transaction."""
        transaction.delete_operation(self.scheme, domain.uuid)
        transaction.on_durable(partial(self.interrupted.pop, domain.uuid, None))

    def attention(self, transaction: Transaction, domain: Domain, what: str | None) -> None:
        """Make a note that somebody must look after the domain, or its removal, part of the transaction."""
        self._write(transaction, domain, _replaced(domain.row, attention=what))

    async def commit(self, transaction: Transaction) -> None:
        """Make a transaction that was put together from the parts above durable."""
        await self._store.commit(transaction)

    # --- parts ---

    def _new(self, definition: DomainDefinition) -> Domain:
        row = DomainRow(
            driver=self.scheme,
            uuid=definition.uuid,
            name=definition.name,
            definition=None,
            live=None,
            id=None,
            state="shutoff",
            reason="unknown",
            runtime=None,
            attention=None,
        )
        return self._domain(row, Hierarchy(self._new_head(row.uuid)))

    def _domain(self, row: DomainRow, hierarchy: Hierarchy) -> Domain:
        return Domain(
            row=row,
            uri=self.uri,
            hierarchy=hierarchy,
            definitions=self.definitions,
            lock=DomainLock(row.name),
        )

    def _new_head(self, uuid: str) -> HierarchyRow:
        return HierarchyRow(key=next(self._keys), driver=self.scheme, uuid=uuid, current=None, generation=0)

    def _announce(self, transaction: Transaction, domain: Domain, transition: Transition) -> None:
        for event, detail in transition.events:
            transaction.event(domain.lifecycle(event, detail))

    def _write(self, transaction: Transaction, domain: Domain, row: DomainRow) -> None:
        if domain.lock.gone:
            raise DomainNotFound(f"no domain with matching name '{domain.name}'", domain=domain.name)
        transaction.put_domain(row)

        def apply() -> None:
            self._by_id.pop(domain.row.id or 0, None)
            domain.row = row
            self._insert(domain)

        transaction.on_durable(apply)

    def _remove(self, transaction: Transaction, domain: Domain) -> None:
        if len(domain.hierarchy.forest):
            generation = domain.hierarchy.generation + 1
            transaction.event(domain.event("snapshot.discarded", generation=generation))
        domain.hierarchy.forget(transaction)
        transaction.delete_domain(self.scheme, domain.uuid)
        transaction.delete_operation(self.scheme, domain.uuid)

        def apply() -> None:
            domain.lock.gone = True
            self._by_uuid.pop(domain.uuid, None)
            self._by_name.pop(domain.name, None)
            self._by_id.pop(domain.row.id or 0, None)

        transaction.on_durable(apply)

    def _insert(self, domain: Domain) -> None:
        self._by_uuid[domain.uuid] = domain
        self._by_name[domain.name] = domain
        if domain.row.id is not None:
            self._by_id[domain.row.id] = domain


def _replaced(row: DomainRow, **changes: object) -> DomainRow:
    return msgspec.structs.replace(row, **changes)
