"""Edited records: renamed or cloned, in the forest and in their documents, and the data that stays where it is."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.snapd.models.samples import UUID, domain, domain_xml, dump, read, record, request, snapshot_xml
from virtsnap_protocol.errors import Error, InvalidArgument, InvalidFlags, SnapshotExists, SnapshotNotFound
from virtsnapd.models.forest import Forest
from virtsnapd.models.redefine import prepare_edit, prepare_redefine

if TYPE_CHECKING:
    from virtsnapd.models.domain import DomainDefinition
    from virtsnapd.models.snapshot import ParsedSnapshot, Snapshot

NAMESPACE = "urn:virtsnap:snapshot:1"
LEGACY = f"<domain><uuid>{UUID}</uuid></domain>"


def data(name: str) -> str:
    """Return the element that names the data."""
    return f"<virtsnap:data xmlns:virtsnap='{NAMESPACE}' name='{name}'/>"


def above(parent: str) -> str:
    return f"<parent><name>{parent}</name></parent>"


def forest(*links: str, current: str | None = None, **data_names: str) -> Forest:
    """Return a forest from words such as `b<a` (b below a), and the names of the data of some."""
    pairs = [link.partition("<") for link in links]
    return Forest(
        (record(name, parent or None, data_name=data_names.get(name)) for name, _, parent in pairs), current
    )


def links(found: Forest) -> list[str]:
    return sorted(s.name + (f"<{s.parent}" if s.parent else "") for s in found)


TREE = ("a", "b<a", "c<b", "d<b", "e<a")


# --- the forest ---


@pytest.mark.parametrize(
    ("current", "flag", "expected"),
    [("b", False, "x"), ("b", True, "x"), ("d", False, "d"), ("d", True, "x"), (None, False, None)],
)
def test_what_is_below_follows_a_renamed_snapshot_and_so_does_the_current_marker(
    current: str | None, flag: bool, expected: str | None
) -> None:
    found = forest(*TREE, current=current)
    order = [child.name for child in found.children("b")]
    found.apply(found.renaming("b", record("x", "a"), current=flag))
    assert links(found) == ["a", "c<x", "d<x", "e<a", "x<a"]
    assert [child.name for child in found.children("x")] == order
    assert found.current == expected


def test_a_snapshot_can_move_while_it_is_renamed() -> None:
    found = forest(*TREE)
    found.apply(found.renaming("b", record("x", "e"), current=False))
    assert links(found) == ["a", "c<x", "d<x", "e<a", "x<e"]
    found.apply(found.renaming("x", record("b"), current=False))
    assert links(found) == ["a", "b", "c<b", "d<b", "e<a"]


@pytest.mark.parametrize(
    ("parent", "message"),
    [
        ("x", "cannot set moment x as its own parent"),
        ("b", "cannot set moment x as its own parent"),
        ("c", "parent c would create cycle to x"),
        ("nobody", "parent nobody for moment x not found"),
    ],
)
def test_a_renamed_snapshot_does_not_become_its_own_ancestor(parent: str, message: str) -> None:
    found = forest(*TREE)
    with pytest.raises(InvalidArgument) as refused:
        found.renaming("b", record("x", parent), current=False)
    assert refused.value.detail == message
    assert links(found) == sorted(TREE)


@pytest.mark.parametrize("taken", ["a", "b", "c"])
def test_a_taken_name_is_refused_in_libvirt_s_words(taken: str) -> None:
    with pytest.raises(SnapshotExists) as refused:
        forest(*TREE).renaming("b", record(taken), current=False)
    assert str(refused.value) == f"operation failed: domain moment {taken} already exists"


def test_what_is_not_there_cannot_be_renamed() -> None:
    with pytest.raises(SnapshotNotFound):
        forest(*TREE).renaming("nobody", record("x"), current=False)


def test_the_records_that_need_the_same_data_are_known() -> None:
    found = forest("a", "b", "c<a", b="a", c="old")
    assert found.data_users("a") == {"a", "b"}
    assert found.data_users("b") == set()
    assert found.data_users("old") == {"c"}
    assert [found.shares_data(found.get(name)) for name in "abc"] == [True, True, False]
    found.apply(found.removal("a"))
    assert not found.shares_data(found.get("b"))
    found.apply(found.removal("b"))
    assert found.data_users("a") == set()


def test_the_name_of_the_data_counts_in_the_digest_where_it_differs() -> None:
    plain = forest("a")
    assert plain.digest() == Forest([msgspec.structs.replace(record("a"), data_name=None)]).digest()
    assert plain.digest() != forest("a", a="old").digest()


NAMES = st.sampled_from("abcdef")
EDITS = st.lists(
    st.tuples(
        st.sampled_from(["insert", "rename", "remove", "clone"]),
        NAMES,
        NAMES,
        st.none() | NAMES,
        st.booleans(),
    ),
    max_size=20,
)


@given(EDITS)
def test_any_sequence_of_edits_leaves_a_sound_forest(
    edits: list[tuple[str, str, str, str | None, bool]],
) -> None:
    found = Forest()
    for verb, name, other, parent, current in edits:
        try:
            if verb == "insert":
                change = found.insertion(record(name, parent), current=current)
            elif verb == "rename":
                tag = found.get(name).tag
                renamed = record(other, parent, data_name=None if tag == other else tag)
                change = found.renaming(name, renamed, current=current)
            elif verb == "clone":
                found.check_untaken(other)
                change = found.insertion(
                    record(other, parent, data_name=found.get(name).tag), current=current
                )
            else:
                change = found.removal(name, children=current)
        except Error:
            continue
        found.apply(change)
        again = Forest(found, found.current)  # which refuses cycles, gaps and an unknown current snapshot
        assert again.digest() == found.digest()
        assert links(again) == links(found)
        for tag in "abcdef":
            assert found.data_users(tag) == {s.name for s in found if s.tag == tag}


@given(EDITS.filter(bool))
def test_renaming_there_and_back_changes_nothing(
    edits: list[tuple[str, str, str, str | None, bool]],
) -> None:
    found = forest(*TREE, "f<d", current="c")
    before = found.digest()
    for _, name, _, _, current in edits:
        old = found.get(name)
        there = msgspec.structs.replace(old, name="elsewhere", data_name=old.tag)
        found.apply(found.renaming(name, there, current=False))
        assert found.digest() != before
        assert found.get("elsewhere").tag == name
        found.apply(found.renaming("elsewhere", old, current=current and found.current == "elsewhere"))
    assert found.digest() == before


# --- the document ---


def test_a_document_names_the_data_only_where_it_has_another_name() -> None:
    parsed = read(snapshot_xml(data("old")))
    assert (parsed.snapshot.data_name, parsed.snapshot.tag) == ("old", "old")
    lines = dump(parsed).splitlines()
    assert lines[-2] == f"  <virtsnap:data xmlns:virtsnap='{NAMESPACE}' name='old'/>"
    plain = read(snapshot_xml())
    assert (plain.snapshot.data_name, plain.snapshot.tag) == (None, "s1")
    assert NAMESPACE not in dump(plain)


@pytest.mark.parametrize("name", ["old", "a b", "a&amp;b&lt;&gt;&quot;&apos;", "é"])
def test_a_document_with_the_name_of_the_data_reads_back_the_same_and_follows_the_grammar(name: str) -> None:
    parsed = read(snapshot_xml(data(name)))
    assert read(dump(parsed), validate=True).snapshot == parsed.snapshot


def test_a_request_cannot_say_where_its_data_is() -> None:
    assert request(f"<name>s1</name>{data('old')}").data_name is None


@pytest.mark.parametrize(
    ("element", "code", "message"),
    [
        (f"<v:data xmlns:v='{NAMESPACE}'/>", 27, "XML error: missing name of the snapshot's data"),
        (data(""), 27, "XML error: missing name of the snapshot's data"),
        (data("a&#10;b"), 35, r"invalid snapshot name 'a\nb': name can't contain control characters"),
        (
            data("n" * 256),
            35,
            f"invalid snapshot name '{'n' * 32}...': name can't have more than 255 characters",
        ),
    ],
)
def test_a_name_that_data_cannot_have_is_refused(element: str, code: int, message: str) -> None:
    with pytest.raises(Error) as refused:
        read(snapshot_xml(element))
    assert (refused.value.code, str(refused.value)) == (code, message)


def test_an_element_of_another_namespace_says_nothing_of_the_data() -> None:
    assert read(snapshot_xml("<data name='old'/>")).snapshot.data_name is None


# --- the rules ---


class Book:
    """A hierarchy with its definitions, as the daemon holds them."""

    def __init__(self, *texts: str) -> None:
        self.definitions: dict[str, DomainDefinition] = {}
        self.forest = Forest()
        for text in texts:
            self.redefine(text)

    def redefine(self, text: str) -> Snapshot:
        prepared = prepare_redefine(
            read(text),
            forest=self.forest,
            domain_uuid=UUID,
            disk_only=False,
            stored_domain=self.definitions.__getitem__,
        )
        for definition in (prepared.domain, prepared.inactive_domain):
            if definition is not None:
                self.definitions[definition.digest] = definition
        self.forest.apply(self.forest.insertion(prepared.snapshot, current=False))
        return prepared.snapshot

    def edit(self, name: str, text: str, *, rename: bool = False, clone: bool = False) -> ParsedSnapshot:
        return prepare_edit(
            read(text),
            self.forest.get(name),
            rename=rename,
            clone=clone,
            forest=self.forest,
            domain_uuid=UUID,
            stored_domain=self.definitions.__getitem__,
        )

    def refusal(
        self, name: str, text: str, *, rename: bool = False, clone: bool = False
    ) -> tuple[type[Error], str]:
        with pytest.raises(Error) as refused:
            self.edit(name, text, rename=rename, clone=clone)
        return type(refused.value), str(refused.value)


def child(name: str, parent: str) -> str:
    return snapshot_xml(above(parent), name=name)


@pytest.mark.parametrize("how", ["rename", "clone"])
def test_an_edited_record_of_another_name_keeps_pointing_at_its_data(how: str) -> None:
    book = Book(snapshot_xml(name="a"))
    made = book.edit("a", snapshot_xml(name="b"), rename=how == "rename", clone=how == "clone").snapshot
    assert (made.name, made.data_name) == ("b", "a")


def test_a_record_that_gets_the_name_of_its_data_back_need_not_say_it() -> None:
    book = Book(snapshot_xml(data("a"), name="b"))
    assert book.edit("b", snapshot_xml(name="a"), rename=True).snapshot.data_name is None
    assert book.edit("b", snapshot_xml(data("a"), name="a"), rename=True).snapshot.data_name is None


def test_a_document_that_does_not_name_the_data_keeps_its_name() -> None:
    book = Book(snapshot_xml(data("a"), name="b"))
    assert book.edit("b", snapshot_xml(name="b")).snapshot.data_name == "a"
    assert book.redefine(snapshot_xml(name="b")).data_name == "a"
    assert book.redefine(snapshot_xml(data("c"), name="b")).data_name == "c"
    assert book.redefine(snapshot_xml(data("b"), name="b")).data_name is None


@pytest.mark.parametrize("how", ["rename", "clone", "same"])
def test_what_the_document_leaves_out_is_kept(how: str) -> None:
    inactive = domain_xml(memory="4096").replace("domain", "inactiveDomain")
    book = Book(snapshot_xml(inactive, name="a"))
    text = snapshot_xml("<description>new</description>", name="a" if how == "same" else "b", embedded=LEGACY)
    made = book.edit("a", text, rename=how == "rename", clone=how == "clone")
    assert (made.domain, made.inactive_domain) == (domain(), domain(memory="4096"))
    assert made.snapshot.description == "new"


def test_another_name_must_be_meant() -> None:
    message = "Must use --rename or --clone to change a to b"
    assert Book(snapshot_xml(name="a")).refusal("a", snapshot_xml(name="b")) == (InvalidFlags, message)


def test_another_name_must_be_meant_also_when_it_is_taken() -> None:
    book = Book(snapshot_xml(name="a"), snapshot_xml(name="b"))
    assert book.refusal("a", snapshot_xml(name="b"))[0] is InvalidFlags


@pytest.mark.parametrize("how", ["rename", "clone"])
def test_a_taken_name_is_refused_before_anything_else_of_the_record(how: str) -> None:
    book = Book(snapshot_xml(name="a"), snapshot_xml(name="b"))
    found = book.refusal("a", child("b", "nobody"), rename=how == "rename", clone=how == "clone")
    assert found == (SnapshotExists, "operation failed: domain moment b already exists")


def test_a_clone_can_be_below_what_it_is_a_clone_of_and_a_renamed_record_cannot() -> None:
    book = Book(snapshot_xml(name="a"), child("c", "a"))
    assert book.edit("a", child("b", "a"), clone=True).snapshot.parent == "a"
    assert book.edit("a", child("b", "c"), clone=True).snapshot.parent == "c"
    own = "invalid argument: cannot set moment b as its own parent"
    assert book.refusal("a", child("b", "a"), rename=True) == (InvalidArgument, own)
    cycle = "invalid argument: parent c would create cycle to b"
    assert book.refusal("a", child("b", "c"), rename=True) == (InvalidArgument, cycle)


@pytest.mark.parametrize("how", ["rename", "clone", "same"])
@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            snapshot_xml(state="shutoff"),
            "invalid argument: cannot change between online and offline snapshot state in snapshot s1",
        ),
        (
            snapshot_xml(embedded=domain_xml(uuid=UUID.replace("6", "5"))),
            f"invalid argument: definition for snapshot s1 must use uuid {UUID}",
        ),
        (
            snapshot_xml(embedded=domain_xml(name="other")),
            "unsupported configuration: Target domain name 'other' does not match source 'web'",
        ),
    ],
)
def test_a_record_of_the_same_data_is_held_to_the_same_rules(text: str, message: str, how: str) -> None:
    book = Book(snapshot_xml(name="a"))
    name = "a" if how == "same" else "s1"
    text = text.replace("<name>s1</name>", f"<name>{name}</name>")
    found = book.refusal("a", text, rename=how == "rename", clone=how == "clone")
    assert found[1] == message.replace("s1", name)


def test_a_disk_only_record_stays_one_as_virsh_asks() -> None:
    book = Book(snapshot_xml(name="a", state="disk-snapshot"))
    message = "invalid argument: disk-only flag for snapshot a requires disk-snapshot state"
    assert book.refusal("a", snapshot_xml(name="a")) == (InvalidArgument, message)
