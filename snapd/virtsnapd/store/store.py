"""The store itself: opening, loading, and one writer thread that commits many changes with one flush.

Theory of operation. Every change goes through one queue to one thread. The thread takes what has gathered while
the previous flush was under way and commits them together (where a bad one is among them, each in a savepoint of
its own, so that it harms no other): sixteen clients that wait for durability wait for one fsync, not for sixteen.
Readers never come here; they read the model in memory, which changes only when a change is durable.
"""

from __future__ import annotations

import contextlib
import queue
import sqlite3
import threading
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, get_args

import msgspec
import trio

from virtsnap_protocol.errors import Error, StorageError, StoreUnusable
from virtsnap_protocol.methods.event import Event
from virtsnapd.models.snapshot import Snapshot
from virtsnapd.store import schema
from virtsnapd.store.rows import (
    DefinitionRow,
    DomainRow,
    HierarchyRow,
    Loaded,
    Operation,
    OperationRow,
    SaveOperationRow,
    SaveTarget,
    SaveVerb,
)
from virtsnapd.store.transaction import Transaction, encode_event

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

RESTORE: Final = "the file was left as it is; put back a copy, or move it away to begin with an empty store"
BATCH_MAX: Final = 256
"""Changes in one commit: bounds how long the first of them waits for the last."""
UNWRITABLE: Final = (sqlite3.Error, msgspec.MsgspecError, OverflowError, UnicodeError)
"""How writing a change fails: the database refuses, or the change has a value that cannot be written at all."""
PRUNE_EVERY: Final = 256
"""Events between two removals of those that no subscriber can ask for any more; arbitrary."""

_decode_snapshot: Final = msgspec.msgpack.Decoder(Snapshot).decode
_decode_target: Final = msgspec.msgpack.Decoder(SaveTarget).decode
_decode_event: Final = msgspec.msgpack.Decoder(Event).decode


@dataclass
class _Request:
    transaction: Transaction
    task: trio.lowlevel.Task
    """Who waits until it is durable."""
    events: list[Event] = field(default_factory=list)
    error: Error | None = None


class Store:
    """The daemon's durable memory."""

    def __init__(self, path: Path, connection: sqlite3.Connection, epoch: str, *, events_kept: int) -> None:
        self.path = path
        self.epoch = epoch
        self.publish: Callable[[Sequence[Event]], None] = lambda _events: None
        """Called on the trio thread with the events of each durable change, in the order of their positions."""
        self._connection = connection
        self._events_kept = events_kept
        self._queue: queue.SimpleQueue[_Request | None] = queue.SimpleQueue()
        self._pruned = 0
        """Position up to which events have been looked through for those that nobody can ask for."""
        self._thread: threading.Thread | None = None
        self._token: trio.lowlevel.TrioToken | None = None

    @classmethod
    def open_read_only(cls, path: Path) -> Store:
        """Open the store at `path` to look at it; nothing is migrated or written. Blocks.

        Raises:
            StoreUnusable: Not a store, damaged, or of another version.
        """
        try:
            connection = sqlite3.connect(
                f"{path.absolute().as_uri()}?mode=ro", uri=True, isolation_level=None
            )
            try:
                schema.require_current(connection)
            except BaseException:
                connection.close()
                raise
        except sqlite3.Error as error:
            raise StoreUnusable(f"{path}: {error}", path=str(path), remedy=RESTORE) from error
        return cls(path, connection, "", events_kept=0)

    @classmethod
    def open(cls, path: Path, *, events_kept: int = 8192) -> Store:
        """Open or make the store at `path`. Blocks.

        Raises:
            StoreUnusable: Not a store, damaged, from a newer version, or not accessible; nothing was changed.
        """
        try:
            path.touch(mode=0o600)  # definitions hold secrets; SQLite gives its other files the same mode
            connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
            try:
                schema.refuse_newer(connection)
                connection.execute("PRAGMA journal_mode = WAL")
                connection.execute("PRAGMA synchronous = FULL")
                connection.execute("PRAGMA foreign_keys = ON")
                schema.prepare(connection)
                (epoch,) = connection.execute("SELECT value FROM meta WHERE key = 'epoch'").fetchone()
            except BaseException:
                connection.close()
                raise
        except (sqlite3.Error, OSError) as error:
            raise StoreUnusable(f"{path}: {error}", path=str(path), remedy=RESTORE) from error
        return cls(path, connection, epoch, events_kept=events_kept)

    def load(self) -> Loaded:
        """Read everything that is kept in memory. Blocks; call before `start`.

        Raises:
            StoreUnusable: A record cannot be read.
        """
        try:
            return self._load()
        except (sqlite3.Error, msgspec.MsgspecError) as error:
            raise StoreUnusable(f"{self.path}: {error}", path=str(self.path)) from error

    def _load(self) -> Loaded:
        execute = self._connection.execute
        heads = [
            HierarchyRow(key=k, driver=d, uuid=u, current=c, generation=g)
            for k, d, u, c, g in execute(
                "SELECT key, driver, uuid, current, generation FROM hierarchies ORDER BY key"
            )
        ]
        snapshots: dict[int, list[Snapshot]] = {head.key: [] for head in heads}
        for key, record in execute("SELECT hierarchy, record FROM snapshots"):
            snapshots[key].append(_decode_snapshot(record))
        operations = execute("SELECT driver, uuid, verb, subject, final, started FROM operations").fetchall()
        events = execute(
            "SELECT seq, event FROM events ORDER BY seq DESC LIMIT ?", (self._events_kept,)
        ).fetchall()
        (seq,) = execute("SELECT coalesce(max(seq), 0) FROM sqlite_sequence WHERE name = 'events'").fetchone()
        return Loaded(
            epoch=self.epoch,
            seq=seq,
            definitions={
                digest: DefinitionRow(
                    xml=xml, os_type=os_type, vcpus=vcpus, max_memory=max_memory, memory=memory
                )
                for digest, xml, os_type, vcpus, max_memory, memory in execute("SELECT * FROM definitions")
            },
            domains=[_domain_row(row) for row in execute("SELECT * FROM domains ORDER BY driver, name")],
            hierarchies=[(head, snapshots[head.key]) for head in heads],
            operations=[
                _operation(d, u, v, subject, final=f, started=t) for d, u, v, subject, f, t in operations
            ],
            events=[self._positioned(_decode_event(event), number) for number, event in reversed(events)],
        )

    def check(self) -> list[str]:
        """Return what is wrong with the store, one sentence each; empty when nothing is. Blocks."""
        try:
            found = [row[0] for row in self._connection.execute("PRAGMA integrity_check")]
            problems = [f"damaged: {text}" for text in found if text != "ok"]
            for table, _row, parent, _key in self._connection.execute("PRAGMA foreign_key_check"):
                problems.append(f"a row of {table} refers to a row of {parent} that does not exist")
        except sqlite3.DatabaseError as error:
            return [f"damaged: {error}"]
        return problems

    def start(self, publish: Callable[[Sequence[Event]], None]) -> None:
        """Start the writer thread. Call on the trio thread; `publish` is called there for each durable change."""
        self.publish = publish
        self._token = trio.lowlevel.current_trio_token()
        self._thread = threading.Thread(target=self._write_until_closed, name="store", daemon=True)
        self._thread.start()

    async def commit(self, transaction: Transaction) -> list[Event]:
        """Make a change durable and then visible; return its events with their positions.

        Not cancellable: a caller who is told "cancelled" could not know whether the change was applied, and the
        wait is one flush of the disk.

        Raises:
            StorageError: The disk refused (it may be full); nothing of the change was applied.
        """
        request = _Request(transaction, trio.lowlevel.current_task())
        self._queue.put(request)
        # as a shielded wait for an event would, at a fraction of its cost: most changes are small
        await trio.lowlevel.wait_task_rescheduled(lambda _raise_cancel: trio.lowlevel.Abort.FAILED)
        if request.error is not None:
            raise request.error
        return request.events

    async def aclose(self) -> None:
        """Write what is queued, forget definitions that nothing refers to, and close. Idempotent."""
        thread, self._thread = self._thread, None
        with trio.CancelScope(shield=True):
            if thread is not None:
                self._queue.put(None)
                await trio.to_thread.run_sync(thread.join)
                await trio.to_thread.run_sync(self._forget_definitions)
            await trio.to_thread.run_sync(self.close)

    def close(self) -> None:
        """Close a store whose writer is not running, and change nothing. Blocks; idempotent."""
        self._connection.close()

    def _forget_definitions(self) -> None:
        with contextlib.suppress(sqlite3.Error):  # the disk may be full, and they only take space
            self._connection.execute(
                "DELETE FROM definitions WHERE digest NOT IN ("
                "SELECT definition FROM domains WHERE definition IS NOT NULL "
                "UNION SELECT live FROM domains WHERE live IS NOT NULL "
                "UNION SELECT domain FROM snapshots WHERE domain IS NOT NULL "
                "UNION SELECT inactive_domain FROM snapshots WHERE inactive_domain IS NOT NULL)"
            )

    # --- the writer thread ---

    def _write_until_closed(self) -> None:
        while (first := self._queue.get()) is not None:
            batch = [first]
            closing = False
            while len(batch) < BATCH_MAX and not closing:
                try:
                    request = self._queue.get_nowait()
                except queue.Empty:
                    break
                closing = request is None
                if request is not None:
                    batch.append(request)
            try:
                self._write(batch)
            except Exception as error:  # noqa: BLE001 - whatever it is, those who wait must hear of it
                for request in batch:
                    request.error = request.error or _storage_error(error)
            assert self._token is not None  # noqa: S101 - start() set it before this thread began
            self._token.run_sync_soon(self._deliver, batch)
            if closing:
                return

    def _write(self, batch: list[_Request]) -> None:
        """Commit a batch: in one go, since savepoints cost as much as small changes; if that fails, each apart."""
        try:
            self._write_all(batch, self._write_one)
        except UNWRITABLE:
            self._write_carefully(batch)

    def _write_carefully(self, batch: list[_Request]) -> None:
        try:
            self._write_all(batch, self._write_apart)
        except sqlite3.Error as error:
            if isinstance(error, sqlite3.IntegrityError) and len(batch) > 1:
                # a rule that SQLite checks at COMMIT only: find the change that breaks it
                for request in batch:
                    if request.error is None:
                        self._write_carefully([request])
                return
            for request in batch:
                request.error = request.error or _storage_error(error)

    def _write_all(self, batch: list[_Request], write: Callable[[_Request], None]) -> None:
        execute = self._connection.execute
        try:
            execute("BEGIN IMMEDIATE")
            for request in batch:
                write(request)
            last = max((r.events[-1].seq for r in batch if r.events and r.error is None), default=0)
            if last >= self._pruned + PRUNE_EVERY:
                execute("DELETE FROM events WHERE seq <= ?", (last - self._events_kept,))
                self._pruned = last
            execute("COMMIT")
        except UNWRITABLE:
            if self._connection.in_transaction:
                execute("ROLLBACK")
            raise

    def _write_one(self, request: _Request) -> None:
        connection = self._connection
        request.events.clear()
        for sql, rows in request.transaction.statements:
            connection.executemany(sql, rows)
        for event in request.transaction.events:
            cursor = connection.execute("INSERT INTO events (event) VALUES (?)", (encode_event(event),))
            request.events.append(self._positioned(event, cursor.lastrowid or 0))

    def _write_apart(self, request: _Request) -> None:
        connection = self._connection
        connection.execute("SAVEPOINT change")
        try:
            self._write_one(request)
        except UNWRITABLE as error:
            if not connection.in_transaction:
                raise  # SQLite itself rolled everything back (full disk, input/output error): all have failed
            connection.execute("ROLLBACK TO change")
            request.error = _storage_error(error)
        connection.execute("RELEASE change")

    def _positioned(self, event: Event, seq: int) -> Event:
        return msgspec.structs.replace(event, epoch=self.epoch, seq=seq)

    # --- back on the trio thread ---

    def _deliver(self, batch: list[_Request]) -> None:
        """Make durable changes visible. A defect here ends the daemon: memory would not be what the store is."""
        waiting = deque(request.task for request in batch)
        try:
            for request in batch:
                if request.error is None:
                    for apply in request.transaction.applied:
                        apply()
                    self.publish(request.events)
                trio.lowlevel.reschedule(waiting.popleft())
        finally:
            for task in waiting:  # a daemon that ends must not wait for them
                trio.lowlevel.reschedule(task)


def _domain_row(row: tuple[object, ...]) -> DomainRow:
    return msgspec.convert(dict(zip(DomainRow.__struct_fields__, row, strict=True)), DomainRow, strict=False)


def _operation(driver: str, uuid: str, verb: Any, subject: bytes, **others: Any) -> Operation:  # noqa: ANN401
    """Return a row of operations as SQLite gives it, whose columns have no types."""
    if verb in get_args(SaveVerb):
        target = _decode_target(subject)
        return SaveOperationRow(driver=driver, uuid=uuid, verb=verb, target=target, **others)
    return OperationRow(driver=driver, uuid=uuid, verb=verb, snapshot=_decode_snapshot(subject), **others)


def _storage_error(error: Exception) -> StorageError:
    name: str | None = getattr(error, "sqlite_errorname", None)  # only errors of SQLite itself have one
    return StorageError(str(error), cause=name, remedy="nothing was changed; see the disk's space")
