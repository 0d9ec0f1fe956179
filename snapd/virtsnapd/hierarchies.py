"""The snapshot hierarchy of each domain: the forest in memory, and its changes on their way through the store."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

from virtsnapd.models.forest import Change, Forest
from virtsnapd.store import HierarchyRow, Transaction

if TYPE_CHECKING:
    from collections.abc import Iterable

    from virtsnapd.models.snapshot import Snapshot


class Hierarchy:
    """All snapshots of one domain, with the current marker and the generation.

    Changes are *recorded* in a transaction: the forest in memory follows when the transaction is durable. The
    caller holds the domain's lock from planning a change until then.
    """

    def __init__(self, head: HierarchyRow, snapshots: Iterable[Snapshot] = ()) -> None:
        self._head = head
        self.forest = Forest(snapshots, head.current)
        self.generation = head.generation

    @property
    def key(self) -> int:
        """What identifies it in the store."""
        return self._head.key

    @cached_property
    def digest(self) -> str:
        """SHA-256 over the canonical hierarchy, in hexadecimal; computed when first asked for after a change."""
        return self.forest.digest()

    def record(self, transaction: Transaction, change: Change) -> int:
        """Make `change` part of the transaction; return the generation that it leads to."""
        current = change.current if change.moves_current else self.forest.current
        generation = self.generation + 1
        head = self._head
        transaction.put_hierarchy(
            HierarchyRow(
                key=head.key, driver=head.driver, uuid=head.uuid, current=current, generation=generation
            )
        )
        transaction.put_snapshots(head.key, change.put)
        transaction.delete_snapshots(head.key, change.remove)
        transaction.on_durable(lambda: self._apply(change, generation))
        return generation

    def forget(self, transaction: Transaction) -> None:
        """Make the end of the whole hierarchy part of the transaction."""
        transaction.delete_hierarchy(self.key)
        transaction.on_durable(self._clear)

    def _apply(self, change: Change, generation: int) -> None:
        self.forest.apply(change)
        self.generation = generation
        self.__dict__.pop("digest", None)

    def _clear(self) -> None:
        self.forest = Forest()
        self.generation += 1
        self.__dict__.pop("digest", None)
