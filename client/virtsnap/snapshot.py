"""Snapshots as seen from a program: what can be done to one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from virtsnap import flags as words
from virtsnap.handle import BlockingHandle, Handle, verb
from virtsnap_protocol.methods import snapshot

if TYPE_CHECKING:
    from collections.abc import Iterable

    from virtsnap.handle import BlockingCaller, Caller


class SnapshotVerbs:
    """What can be done to a snapshot."""

    domain: str | int
    name: str

    @verb(snapshot.GET)
    def info(self) -> snapshot.SnapshotParams:
        """Describe the snapshot."""
        return snapshot.SnapshotParams(domain=self.domain, snapshot=self.name)

    @verb(snapshot.XML)
    def xml(
        self, *, secure: bool = False, flags: int | Iterable[snapshot.XmlFlag] = ()
    ) -> snapshot.XmlParams:
        """Return its document; one that is to be redefined later needs `secure`."""
        given = words.chosen(snapshot.XML, words.SNAPSHOT_XML, flags, secure=secure)
        return snapshot.XmlParams(domain=self.domain, snapshot=self.name, flags=given)

    @verb(snapshot.PARENT)
    def parent(self) -> snapshot.SnapshotParams:
        """Describe its parent."""
        return snapshot.SnapshotParams(domain=self.domain, snapshot=self.name)

    @verb(snapshot.REVERT)
    def revert(
        self,
        *,
        running: bool = False,
        paused: bool = False,
        force: bool = False,
        reset_nvram: bool = False,
        flags: int | Iterable[snapshot.RevertFlag] = (),
    ) -> snapshot.RevertParams:
        """Bring the domain back to the state that the snapshot saved."""
        given = words.chosen(
            snapshot.REVERT,
            words.SNAPSHOT_REVERT,
            flags,
            running=running,
            paused=paused,
            force=force,
            reset_nvram=reset_nvram,
        )
        return snapshot.RevertParams(domain=self.domain, snapshot=self.name, flags=given)

    @verb(snapshot.DELETE)
    def delete(
        self,
        *,
        children: bool = False,
        children_only: bool = False,
        metadata_only: bool = False,
        flags: int | Iterable[snapshot.DeleteFlag] = (),
    ) -> snapshot.DeleteParams:
        """Delete the snapshot, or (`metadata_only`) just what the daemon remembers of it."""
        given = words.chosen(
            snapshot.DELETE,
            words.SNAPSHOT_DELETE,
            flags,
            children=children,
            children_only=children_only,
            metadata_only=metadata_only,
        )
        return snapshot.DeleteParams(domain=self.domain, snapshot=self.name, flags=given)

    @verb(snapshot.EDIT)
    def edit(
        self,
        xml: str,
        *,
        rename: bool = False,
        clone: bool = False,
        current: bool = False,
        flags: Iterable[snapshot.EditFlag] = (),
    ) -> snapshot.EditParams:
        """Replace its metadata; another name in the document renames it or makes a clone, as asked."""
        wanted: dict[snapshot.EditFlag, bool] = {"rename": rename, "clone": clone, "current": current}
        named = [word for word, given in wanted.items() if given]
        return snapshot.EditParams(domain=self.domain, snapshot=self.name, xml=xml, flags=[*named, *flags])


class Snapshot(SnapshotVerbs, Handle):
    """One snapshot behind a trio connection."""

    def __init__(self, connection: Caller, domain: str | int, name: str) -> None:
        super().__init__(connection)
        self.domain = domain
        self.name = name


class BlockingSnapshot(SnapshotVerbs, BlockingHandle):
    """One snapshot behind a blocking connection."""

    def __init__(self, connection: BlockingCaller, domain: str | int, name: str) -> None:
        super().__init__(connection)
        self.domain = domain
        self.name = name
