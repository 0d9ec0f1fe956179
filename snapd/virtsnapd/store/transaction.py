"""One change: everything that becomes durable together, and what happens in memory once it is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, TypeAlias

import msgspec

from virtsnapd.store.rows import OperationRow

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from virtsnap_protocol.methods.event import Event
    from virtsnapd.models.snapshot import Snapshot
    from virtsnapd.store.rows import DefinitionRow, DomainRow, HierarchyRow, Operation

Value: TypeAlias = str | int | bytes | None
Statement: TypeAlias = tuple[str, list[tuple[Value, ...]]]

encode_record: Final = msgspec.msgpack.Encoder().encode
encode_event: Final = msgspec.msgpack.Encoder().encode


class Transaction:
    """Collects writes, events and the changes of memory that follow them.

    Nothing happens before `Store.commit`. Then all of it happens, in this order: the writes are durable, the
    `on_durable` callbacks run, the events are published, the committer goes on; or none of it does.
    """

    def __init__(self) -> None:
        self.statements: list[Statement] = []
        self.events: list[Event] = []
        self.applied: list[Callable[[], object]] = []

    def on_durable(self, apply: Callable[[], object]) -> None:
        """Run `apply` (which must not fail) when the change is durable, before anybody is told."""
        self.applied.append(apply)

    def event(self, event: Event) -> None:
        """Announce the change; epoch and seq are filled in when it is written."""
        self.events.append(event)

    def put_definition(self, digest: str, row: DefinitionRow) -> None:
        """Keep a definition, once per content."""
        values = (digest, row.xml, row.os_type, row.vcpus, row.max_memory, row.memory)
        self._execute("INSERT OR IGNORE INTO definitions VALUES (?, ?, ?, ?, ?, ?)", values)

    def put_domain(self, row: DomainRow) -> None:
        """Write a domain, new or changed."""
        values = (row.driver, row.uuid, row.name, row.definition, row.live, row.id, row.state, row.reason)
        self._execute(
            "INSERT INTO domains VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (driver, uuid) DO UPDATE SET "
            "name = excluded.name, definition = excluded.definition, live = excluded.live, id = excluded.id, "
            "state = excluded.state, reason = excluded.reason, runtime = excluded.runtime, "
            "attention = excluded.attention, managed_save = excluded.managed_save",
            (*values, row.runtime, row.attention, row.managed_save),
        )

    def delete_domain(self, driver: str, uuid: str) -> None:
        """Forget a domain."""
        self._execute("DELETE FROM domains WHERE driver = ? AND uuid = ?", (driver, uuid))

    def put_hierarchy(self, row: HierarchyRow) -> None:
        """Write the head of a hierarchy, new or changed."""
        self._execute(
            "INSERT INTO hierarchies VALUES (?, ?, ?, ?, ?) "
            "ON CONFLICT (key) DO UPDATE SET current = excluded.current, generation = excluded.generation",
            (row.key, row.driver, row.uuid, row.current, row.generation),
        )

    def delete_hierarchy(self, key: int) -> None:
        """Forget a hierarchy with all its snapshots."""
        # the head points at one of its snapshots: let go of it first
        self._execute("UPDATE hierarchies SET current = NULL WHERE key = ?", (key,))
        self._execute("DELETE FROM hierarchies WHERE key = ?", (key,))

    def put_snapshots(self, hierarchy: int, snapshots: Iterable[Snapshot]) -> None:
        """Write snapshots, new or changed."""
        self._execute_many(
            "INSERT INTO snapshots VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (hierarchy, name) DO UPDATE SET "
            "parent = excluded.parent, record = excluded.record, domain = excluded.domain, "
            "inactive_domain = excluded.inactive_domain",
            [(hierarchy, s.name, s.parent, encode_record(s), s.domain, s.inactive_domain) for s in snapshots],
        )

    def delete_snapshots(self, hierarchy: int, names: Iterable[str]) -> None:
        """Forget snapshots."""
        self._execute_many(
            "DELETE FROM snapshots WHERE hierarchy = ? AND name = ?", [(hierarchy, name) for name in names]
        )

    def put_operation(self, row: Operation) -> None:
        """Write down what is about to be done to a domain."""
        subject = row.snapshot if isinstance(row, OperationRow) else row.target
        self._execute(
            "INSERT OR REPLACE INTO operations VALUES (?, ?, ?, ?, ?, ?)",
            (row.driver, row.uuid, row.verb, encode_record(subject), row.final, row.started),
        )

    def delete_operation(self, driver: str, uuid: str) -> None:
        """The operation on this domain has ended."""
        self._execute("DELETE FROM operations WHERE driver = ? AND uuid = ?", (driver, uuid))

    def _execute(self, sql: str, values: tuple[Value, ...]) -> None:
        self.statements.append((sql, [values]))

    def _execute_many(self, sql: str, rows: list[tuple[Value, ...]]) -> None:
        if rows:
            self.statements.append((sql, rows))
