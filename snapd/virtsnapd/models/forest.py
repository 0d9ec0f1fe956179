"""The snapshots of one domain, their parent links and the current marker, always free of cycles.

A change is computed first (`Forest.insertion`, `Forest.removal`), made durable by whoever keeps the forest,
and then applied: what is in memory never runs ahead of the store.
"""

from __future__ import annotations

import hashlib
from bisect import bisect_left, insort
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import msgspec

from virtsnap_protocol.errors import InvalidArgument, SnapshotExists, SnapshotNotFound
from virtsnapd.models.snapshot import Snapshot
from virtsnapd.models.snapshot_disk import SnapshotDisk

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator


@dataclass(frozen=True, kw_only=True)
class Change:
    """What one operation does to a forest; all of it or nothing."""

    put: tuple[Snapshot, ...] = ()
    """Records to add, or to replace by name."""
    remove: tuple[str, ...] = ()
    """Names to forget, children before their parents."""
    current: str | None = None
    """The new current snapshot, meaningful when `moves_current`."""
    moves_current: bool = False


class Forest:
    """A hierarchy in memory. Children are listed newest-linked first, as libvirt's moment list has them."""

    def __init__(self, snapshots: Iterable[Snapshot] = (), current: str | None = None) -> None:
        """Load records in any order, in linear time.

        Raises: ValueError for two records of one name, a missing parent, a cycle, or an unknown current name.
        """
        self._snapshots: dict[str, Snapshot] = {}
        self._children: dict[str | None, dict[str, None]] = {None: {}}
        self._moved_data: dict[str, set[str]] = {}
        """The names of the records by the name of their data, of those records that say it."""
        self._canonical: dict[str, bytes] = {}
        self._sorted: list[str] | None = None
        self._current: str | None = None
        loaded = tuple(snapshots)
        if len({snapshot.name for snapshot in loaded}) != len(loaded):
            message = "two snapshots have one name"
            raise ValueError(message)
        self.apply(Change(put=loaded, current=current, moves_current=True))

    def __len__(self) -> int:
        """Return the number of snapshots."""
        return len(self._snapshots)

    def __contains__(self, name: object) -> bool:
        """Return whether there is a snapshot of this name."""
        return name in self._snapshots

    def __iter__(self) -> Iterator[Snapshot]:
        """Yield every snapshot, parents before their children."""
        return self._walk(None)

    @property
    def current(self) -> str | None:
        """The name of the current snapshot."""
        return self._current

    def get(self, name: str) -> Snapshot:
        """Return one snapshot.

        Raises: SnapshotNotFound.
        """
        try:
            return self._snapshots[name]
        except KeyError:
            detail = f"no domain snapshot with matching name '{name}'"
            raise SnapshotNotFound(detail, snapshot=name) from None

    def find(self, name: str) -> Snapshot | None:
        """Return one snapshot, or None."""
        return self._snapshots.get(name)

    def parent(self, name: str) -> Snapshot | None:
        """Return the parent of a snapshot; None for a root.

        Raises: SnapshotNotFound.
        """
        parent = self.get(name).parent
        return None if parent is None else self._snapshots[parent]

    def roots(self) -> list[Snapshot]:
        """Return the snapshots without a parent, newest first."""
        return [self._snapshots[name] for name in reversed(self._children[None])]

    def children(self, name: str) -> list[Snapshot]:
        """Return the direct children, newest first.

        Raises: SnapshotNotFound.
        """
        self.get(name)
        return [self._snapshots[child] for child in reversed(self._children[name])]

    def child_count(self, name: str) -> int:
        """Return the number of direct children.

        Raises: SnapshotNotFound.
        """
        self.get(name)
        return len(self._children[name])

    def descendants(self, name: str) -> list[Snapshot]:
        """Return everything below a snapshot, parents before their children.

        Raises: SnapshotNotFound.
        """
        self.get(name)
        return list(self._walk(name))

    def is_ancestor(self, ancestor: str, name: str) -> bool:
        """Return whether `ancestor` is a strict ancestor of `name`.

        Raises: SnapshotNotFound for `name`.
        """
        at = self.get(name).parent
        while at is not None and at != ancestor:
            at = self._snapshots[at].parent
        return at is not None

    def data_users(self, tag: str) -> set[str]:
        """Return the names of the snapshots whose data has the name `tag`: several once one was cloned."""
        users = set(self._moved_data.get(tag, ()))
        namesake = self._snapshots.get(tag)
        if namesake is not None and namesake.tag == tag:
            users.add(tag)
        return users

    def shares_data(self, snapshot: Snapshot) -> bool:
        """Return whether a record other than this one needs the same data."""
        return bool(self.data_users(snapshot.tag) - {snapshot.name})

    def check_untaken(self, name: str) -> None:
        """Refuse the name of a snapshot that exists (virDomainMomentAssignDef).

        Raises: SnapshotExists.
        """
        if name in self._snapshots:
            raise SnapshotExists(f"domain moment {name} already exists", snapshot=name)

    def check_parent(self, name: str, parent: str | None, *, former: str | None = None) -> None:
        """Refuse a parent that is not there or would close a cycle (virDomainSnapshotCheckCycles).

        `former` is the name that a snapshot which is being renamed has until now.

        Raises: InvalidArgument.
        """
        if parent is None:
            return
        if parent in {name, former}:
            raise InvalidArgument(f"cannot set moment {name} as its own parent", snapshot=name)
        if parent not in self._snapshots:
            raise InvalidArgument(f"parent {parent} for moment {name} not found", snapshot=name)
        old = self._snapshots.get(former or name)
        if old is None or old.parent == parent:
            return  # nothing is below a new one, and an old link closes no cycle: spare the walk to the root
        at = self._snapshots[parent]
        while at.parent is not None:
            if at.parent == old.name:
                raise InvalidArgument(f"parent {at.name} would create cycle to {name}", snapshot=name)
            at = self._snapshots[at.parent]

    def insertion(self, snapshot: Snapshot, *, current: bool) -> Change:
        """Return the change that adds a snapshot, or replaces the one of its name and keeps its children.

        Raises: InvalidArgument for an impossible parent.
        """
        self.check_parent(snapshot.name, snapshot.parent)
        return Change(put=(snapshot,), current=snapshot.name if current else None, moves_current=current)

    def renaming(self, former: str, snapshot: Snapshot, *, current: bool) -> Change:
        """Return the change that puts a snapshot in the place of the one called `former`.

        What is below `former` comes to be below it, and where `former` was current, it is.

        Raises:
            SnapshotNotFound: There is no `former`.
            SnapshotExists: The new name is taken.
            InvalidArgument: The parent is impossible.
        """
        self.get(former)
        self.check_untaken(snapshot.name)
        self.check_parent(snapshot.name, snapshot.parent, former=former)
        below = (
            msgspec.structs.replace(self._snapshots[child], parent=snapshot.name)
            for child in self._children[former]
        )
        moves = current or self._current == former
        return Change(
            put=(snapshot, *below),
            remove=(former,),
            current=snapshot.name if moves else None,
            moves_current=moves,
        )

    def removal(self, name: str, *, children: bool = False, children_only: bool = False) -> Change:
        """Return the change that deletes a snapshot, alone or with all below, or only what is below it.

        The children of a snapshot deleted alone move to its parent. Current moves to the nearest survivor
        above.

        Raises: SnapshotNotFound.
        """
        victim = self.get(name)
        if not children and not children_only:
            put = tuple(
                msgspec.structs.replace(self._snapshots[child], parent=victim.parent)
                for child in self._children[name]
            )
            moves = self._current == name
            return Change(
                put=put, remove=(name,), current=victim.parent if moves else None, moves_current=moves
            )
        gone = [snapshot.name for snapshot in self._walk(name)]
        if not children_only:
            gone.insert(0, name)
        heir = name if children_only else victim.parent
        moves = self._current in gone
        return Change(remove=tuple(reversed(gone)), current=heir if moves else None, moves_current=moves)

    def apply(self, change: Change) -> None:
        """Make a change; it costs what the change is large, plus the depth where links of parents move.

        Raises: ValueError, with nothing changed, for a change that would break the forest.
        """
        self._check(change)
        for snapshot in change.put:
            old = self._snapshots.get(snapshot.name)
            self._snapshots[snapshot.name] = snapshot
            self._canonical.pop(snapshot.name, None)
            self._follow_data(old, snapshot)
            self._children.setdefault(snapshot.name, {})
            if old is not None:  # linked anew, and so first among its siblings (virDomainSnapshotReplaceDef)
                del self._children[old.parent][old.name]
            self._children.setdefault(snapshot.parent, {})[snapshot.name] = None
            if old is None and self._sorted is not None:
                insort(self._sorted, snapshot.name)
        for name in change.remove:
            gone = self._snapshots.pop(name)
            self._children[gone.parent].pop(name)
            self._canonical.pop(name, None)
            self._follow_data(gone, None)
            if self._sorted is not None:
                del self._sorted[bisect_left(self._sorted, name)]
        for name in change.remove:
            del self._children[name]
        if change.moves_current:
            self._current = change.current

    def digest(self) -> str:
        """Return the hierarchy's digest; equal digests mean equal hierarchies, however they were made.

        It is SHA-256, in hexadecimal, over one line for the current name as JSON (``null`` for none) and, in
        the order of the names' code points, one line per snapshot: SHA-256 in hexadecimal of the record as
        JSON with sorted keys and without members that have their default.
        """
        if self._sorted is None:
            self._sorted = sorted(self._snapshots)
        total = hashlib.sha256(msgspec.json.encode(self._current))
        canonical = self._canonical
        for name in self._sorted:
            line = canonical.get(name)
            if line is None:
                line = canonical[name] = _canonical_line(self._snapshots[name])
            total.update(line)
        return total.hexdigest()

    def _walk(self, name: str | None) -> Iterator[Snapshot]:
        """Yield everything below `name`, depth first, newest sibling first."""
        pending = list(self._children[name])
        while pending:
            snapshot = self._snapshots[pending.pop()]
            yield snapshot
            pending.extend(self._children[snapshot.name])

    def _follow_data(self, old: Snapshot | None, new: Snapshot | None) -> None:
        if old is not None and old.data_name is not None:
            users = self._moved_data[old.data_name]
            users.discard(old.name)
            if not users:
                del self._moved_data[old.data_name]
        if new is not None and new.data_name is not None:
            self._moved_data.setdefault(new.data_name, set()).add(new.name)

    def _check(self, change: Change) -> None:
        put = {snapshot.name: snapshot for snapshot in change.put}
        gone = set(change.remove)
        for name in gone:
            if name not in self._snapshots or name in put:
                message = f"snapshot {name} cannot be removed by this change"
                raise ValueError(message)
            for child in self._children[name]:
                if child not in gone and (child not in put or put[child].parent == name):
                    message = f"snapshot {child} would lose its parent {name}"
                    raise ValueError(message)
        for snapshot in put.values():
            parent = snapshot.parent
            if parent is not None and (
                parent in gone or (parent not in put and parent not in self._snapshots)
            ):
                message = f"parent {parent} of snapshot {snapshot.name} does not exist"
                raise ValueError(message)
        current = change.current if change.moves_current else self._current
        if current is not None and (
            current in gone or (current not in put and current not in self._snapshots)
        ):
            message = f"current snapshot {current} does not exist"
            raise ValueError(message)
        self._check_cycles(put)

    def _check_cycles(self, put: dict[str, Snapshot]) -> None:
        """Walk up from every record with a new link; one without children cannot be part of a cycle."""
        parents = {snapshot.parent for snapshot in put.values()}
        safe: set[str | None] = {None}
        for snapshot in put.values():
            old = self._snapshots.get(snapshot.name)
            if (old is not None and old.parent == snapshot.parent) or not (
                snapshot.name in parents or self._children.get(snapshot.name)
            ):
                continue
            path: set[str | None] = set()
            at: str | None = snapshot.name
            while at not in safe:
                if at in path:
                    message = f"the parents of snapshot {at} form a cycle"
                    raise ValueError(message)
                path.add(at)
                at = (put.get(at) or self._snapshots[at]).parent if at is not None else None
            safe |= path


def _canonical_line(snapshot: Snapshot) -> bytes:
    record = msgspec.json.encode(_without_defaults(snapshot), order="sorted")
    return b"\n" + hashlib.sha256(record).hexdigest().encode()


def _without_defaults(struct: Snapshot | SnapshotDisk) -> dict[str, object]:
    """Return the members that differ from their default; `omit_defaults` asks for identity, not for equality."""
    members: dict[str, object] = {}
    for name, default in _DEFAULTS[type(struct)]:
        value = getattr(struct, name)
        if value != default:
            members[name] = [_without_defaults(disk) for disk in value] if isinstance(value, tuple) else value
    return members


_DEFAULTS: Final = {
    kind: tuple((field.name, field.default) for field in msgspec.structs.fields(kind))
    for kind in (Snapshot, SnapshotDisk)
}
