from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.snapd.models.samples import UUID, disk_xml, domain, domain_xml, dump, read, record, snapshot_xml
from virtsnap_protocol.errors import Error
from virtsnapd.models.domain import DomainDefinition
from virtsnapd.models.forest import Forest
from virtsnapd.models.redefine import prepare_redefine
from virtsnapd.models.snapshot import ParsedSnapshot, SnapshotDisk

LEGACY = f"<domain><uuid>{UUID}</uuid></domain>"
OTHER_UUID = UUID.replace("6", "5")


class Book:
    """A hierarchy with its definitions, as the daemon holds them."""

    def __init__(self, *texts: str) -> None:
        self.definitions: dict[str, DomainDefinition] = {}
        self.forest = Forest()
        for text in texts:
            self.redefine(text)

    def prepare(self, text: str, *, disk_only: bool = False) -> ParsedSnapshot:
        return prepare_redefine(
            read(text),
            forest=self.forest,
            domain_uuid=UUID,
            disk_only=disk_only,
            stored_domain=self.definitions.__getitem__,
        )

    def redefine(self, text: str) -> ParsedSnapshot:
        made = self.prepare(text)
        for definition in made[1:]:
            if isinstance(definition, DomainDefinition):
                self.definitions[definition.digest] = definition
        self.forest.apply(self.forest.insertion(made.snapshot, current=False))
        return made

    def refusal(self, text: str, *, disk_only: bool = False) -> tuple[int, str]:
        with pytest.raises(Error) as refused:
            self.prepare(text, disk_only=disk_only)
        return refused.value.code, str(refused.value)


def child(name: str, parent: str) -> str:
    return snapshot_xml(f"<parent><name>{parent}</name></parent>", name=name)


def test_a_snapshot_cannot_be_its_own_parent() -> None:
    message = "invalid argument: cannot set moment s1 as its own parent"
    assert Book().refusal(child("s1", "s1")) == (8, message)


def test_a_parent_must_be_there() -> None:
    assert Book().refusal(child("s1", "p")) == (8, "invalid argument: parent p for moment s1 not found")


def test_a_cycle_is_refused_with_the_place_where_it_would_close() -> None:
    book = Book(snapshot_xml(name="a"), child("b", "a"), child("c", "b"))
    assert book.refusal(child("a", "c")) == (8, "invalid argument: parent b would create cycle to a")


def test_the_disk_only_flag_needs_the_state() -> None:
    message = "invalid argument: disk-only flag for snapshot s1 requires disk-snapshot state"
    assert Book().refusal(snapshot_xml(), disk_only=True) == (8, message)
    assert Book().prepare(snapshot_xml(state="disk-snapshot"), disk_only=True)
    assert Book().prepare(snapshot_xml(state="disk-snapshot"), disk_only=False)


@pytest.mark.parametrize(
    "embedded", [domain_xml(uuid=OTHER_UUID), domain_xml().replace(f"<uuid>{UUID}</uuid>", "")]
)
def test_the_definition_must_be_of_this_domain(embedded: str) -> None:
    message = f"invalid argument: definition for snapshot s1 must use uuid {UUID}"
    assert Book().refusal(snapshot_xml(embedded=embedded)) == (8, message)


def test_a_new_record_needs_a_definition() -> None:
    assert Book().refusal(snapshot_xml(embedded=LEGACY)) == (1, "internal error: missing domain in snapshot")


def test_an_existing_record_keeps_its_definitions_when_none_is_given() -> None:
    inactive = (
        domain_xml(memory="4096").replace("domain", "inactiveDomain").replace("</domain", "</inactiveDomain")
    )
    book = Book(snapshot_xml(inactive))
    old = book.forest.get("s1")
    made = book.prepare(snapshot_xml("<description>new</description>", embedded=LEGACY))
    assert (made.domain, made.inactive_domain) == (domain(), domain(memory="4096"))
    assert (made.snapshot.domain, made.snapshot.inactive_domain) == (old.domain, old.inactive_domain)
    assert made.snapshot.description == "new"


def test_a_full_document_without_an_inactive_definition_says_that_there_is_none() -> None:
    inactive = domain_xml(memory="4096").replace("domain", "inactiveDomain")
    book = Book(snapshot_xml(inactive))
    assert book.prepare(snapshot_xml()).snapshot.inactive_domain is None


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ("running", "shutoff", "cannot change between online and offline snapshot state"),
        ("running", "crashed", "cannot change between online and offline snapshot state"),
        ("disk-snapshot", "running", "cannot change between online and offline snapshot state"),
        ("shutoff", "disk-snapshot", "cannot change between disk only and full system"),
        ("disk-snapshot", "crashed", "cannot change between disk only and full system"),
    ],
)
def test_what_was_saved_cannot_be_redefined(old: str, new: str, reason: str) -> None:
    book = Book(snapshot_xml(state=old))
    assert book.refusal(snapshot_xml(state=new)) == (8, f"invalid argument: {reason} in snapshot s1")


@pytest.mark.parametrize(
    ("old", "new"), [("running", "paused"), ("shutoff", "crashed"), ("shutdown", "shutoff")]
)
def test_a_state_of_the_same_kind_may_be_redefined(old: str, new: str) -> None:
    assert Book(snapshot_xml(state=old)).prepare(snapshot_xml(state=new)).snapshot.state == new


@pytest.mark.parametrize(
    ("embedded", "reason"),
    [
        (domain_xml(memory="1"), "Target domain max memory 1 does not match source 2048"),
        (domain_xml(name="wob"), "Target domain name 'wob' does not match source 'web'"),
    ],
)
def test_an_existing_record_keeps_its_machine(embedded: str, reason: str) -> None:
    book = Book(snapshot_xml())
    assert book.refusal(snapshot_xml(embedded=embedded)) == (67, f"unsupported configuration: {reason}")


def test_a_new_record_may_name_the_domain_otherwise() -> None:
    assert Book().prepare(snapshot_xml(embedded=domain_xml(name="wob"))).snapshot.name == "s1"


def test_the_checks_come_in_the_order_of_libvirt() -> None:
    book = Book(snapshot_xml())
    wrong = domain_xml(disk_xml("vdb"), uuid=OTHER_UUID, memory="1")
    text = snapshot_xml("<parent><name>p</name></parent>", state="shutoff", embedded=wrong)
    found = [book.refusal(text, disk_only=True)[1]]
    text = text.replace("<parent><name>p</name></parent>", "")
    found += [book.refusal(text, disk_only=True)[1], book.refusal(text)[1]]
    text = text.replace(OTHER_UUID, UUID)
    found += [book.refusal(text)[1], book.refusal(text.replace("shutoff", "paused"))[1]]
    assert [message.partition(": ")[2].split()[:2] for message in found] == [
        ["parent", "p"],
        ["disk-only", "flag"],
        ["definition", "for"],
        ["cannot", "change"],
        ["Target", "domain"],
    ]


def test_disks_are_filled_in_from_the_definition() -> None:
    made = Book().prepare(snapshot_xml(embedded=domain_xml(disk_xml("vda"), disk_xml("vdb")))).snapshot
    assert made.disks == (
        SnapshotDisk(name="vda", snapshot="internal"),
        SnapshotDisk(name="vdb", snapshot="internal"),
    )


@pytest.mark.parametrize(
    "text",
    [
        snapshot_xml(state="disk-snapshot"),
        snapshot_xml("<memory file='/m'/>"),
    ],
    ids=["state", "memory"],
)
def test_the_disks_of_an_external_record_are_external_wherever_their_files_are(text: str) -> None:
    assert Book().prepare(text).snapshot.disks == (
        SnapshotDisk(name="vda", snapshot="external", source="/images/a.s1"),
    )


def test_one_external_disk_makes_the_record_external() -> None:
    inner = (
        "<disks><disk name='vda' snapshot='external'><source file='/o'/></disk>"
        "<disk name='vdb' snapshot='no'/></disks>"
    )
    made = Book().prepare(snapshot_xml(inner, embedded=domain_xml(disk_xml("vda"), disk_xml("vdb")))).snapshot
    assert [disk.snapshot for disk in made.disks] == ["external", "no"]


def test_disks_and_texts_of_an_existing_record_may_change() -> None:
    book = Book(snapshot_xml(), snapshot_xml(name="p"))
    made = book.redefine(
        snapshot_xml("<description>d</description><parent><name>p</name></parent><memory file='/m'/>", time=7)
    ).snapshot
    assert (made.description, made.parent, made.creation_time, made.location) == ("d", "p", 7, "external")


def test_redefining_moves_a_snapshot_with_all_below_it() -> None:
    book = Book(snapshot_xml(name="a"), snapshot_xml(name="b"), child("c", "a"), child("d", "c"))
    book.redefine(child("c", "b"))
    assert [found.name for found in book.forest.descendants("b")] == ["c", "d"]
    assert book.forest.child_count("a") == 0


def test_a_refused_document_changes_nothing() -> None:
    book = Book(snapshot_xml(name="a"), child("b", "a"))
    digest = book.forest.digest()
    book.refusal(child("a", "b"))
    assert book.forest.digest() == digest


floppies = st.sampled_from(
    [[], [disk_xml("fda", None, "device='floppy'")], [disk_xml("sda", None, "device='cdrom'")]]
)
modes = st.sampled_from(["", " snapshot='external'", " snapshot='manual'", " snapshot='no'"])
states = st.sampled_from(["running", "paused", "shutoff", "crashed", "disk-snapshot"])


@given(floppies, modes, states, st.booleans())
def test_redefining_a_dump_changes_nothing(drives: list[str], mode: str, state: str, external: bool) -> None:
    file = "<memory file='/m'/>" if external and state in {"running", "paused"} else ""
    text = snapshot_xml(file, state=state, embedded=domain_xml(disk_xml("vda", "/a", mode), *drives))
    book = Book(snapshot_xml(name="root"))
    first = book.redefine(text)
    digest = book.forest.digest()
    assert book.redefine(dump(first)) == first
    assert book.forest.digest() == digest
    assert Book(dump(first)).forest.get("s1") == first.snapshot


def test_an_empty_floppy_does_not_keep_a_dump_from_being_redefined() -> None:
    text = snapshot_xml(embedded=domain_xml(disk_xml(), disk_xml("fda", None, "device='floppy'")))
    first = Book().redefine(text)
    assert Book().redefine(dump(first)) == first


def test_the_fallback_for_alignment_is_the_stored_definition() -> None:
    book = Book(snapshot_xml(embedded=domain_xml(disk_xml("vda"), disk_xml("vdb"))))
    made = book.prepare(snapshot_xml("<disks><disk name='vdb'/></disks>", embedded=LEGACY))
    assert [disk.name for disk in made.snapshot.disks] == ["vda", "vdb"]


def test_a_legacy_record_can_be_given_its_definition() -> None:
    book = Book()
    book.forest.apply(book.forest.insertion(record("s1"), current=False))
    assert book.redefine(snapshot_xml()).snapshot.domain == domain().digest
