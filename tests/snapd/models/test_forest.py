from __future__ import annotations

import hashlib
import time
from typing import TYPE_CHECKING

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from tests.snapd.models.samples import record
from virtsnap_protocol.errors import Error, InvalidArgument, SnapshotNotFound
from virtsnapd.models.forest import Change, Forest
from virtsnapd.models.snapshot import Snapshot, SnapshotDisk

if TYPE_CHECKING:
    from collections.abc import Iterable


def forest(*links: str, current: str | None = None) -> Forest:
    """Return a forest from words such as `a` (a root) and `b<a` (b below a)."""
    pairs = [link.partition("<") for link in links]
    return Forest((record(name, parent or None) for name, _, parent in pairs), current)


def names(snapshots: Iterable[Snapshot]) -> list[str]:
    return [snapshot.name for snapshot in snapshots]


def links(found: Forest) -> set[str]:
    return {snapshot.name + (f"<{snapshot.parent}" if snapshot.parent else "") for snapshot in found}


TREE = ("a", "b<a", "c<b", "d<b", "e<a", "f")


def test_an_empty_forest_has_nothing() -> None:
    empty = Forest()
    assert (len(empty), list(empty), empty.current, empty.roots()) == (0, [], None, [])


def test_records_are_loaded_in_any_order() -> None:
    assert links(forest(*reversed(TREE), current="d")) == set(TREE)


@pytest.mark.parametrize(
    ("words", "current"),
    [
        (["a<x"], None),
        (["a<b", "b<a"], None),
        (["a<a"], None),
        (["a", "a"], None),
        (["a"], "x"),
        (["a", "b<c", "c<b"], None),
    ],
)
def test_broken_hierarchies_are_not_loaded(words: list[str], current: str | None) -> None:
    with pytest.raises(ValueError, match=r"snapshot|parent"):
        forest(*words, current=current)


def test_a_missing_snapshot_is_reported_as_by_libvirt() -> None:
    with pytest.raises(SnapshotNotFound) as refused:
        forest("a").get("A")
    assert str(refused.value) == "Domain snapshot not found: no domain snapshot with matching name 'A'"


@pytest.mark.parametrize("method", ["get", "parent", "children", "child_count", "descendants", "removal"])
def test_every_question_about_a_missing_snapshot_is_refused(method: str) -> None:
    with pytest.raises(SnapshotNotFound):
        getattr(forest("a"), method)("x")


def test_questions_about_relations_are_answered() -> None:
    found = forest(*TREE)
    assert "a" in found
    assert "x" not in found
    assert names(found.roots()) == ["f", "a"]
    assert names(found.children("a")) == ["e", "b"]
    assert found.child_count("b") == 2
    assert (found.parent("c"), found.parent("a")) == (found.get("b"), None)
    assert found.is_ancestor("a", "d")
    assert not found.is_ancestor("d", "a")
    assert not found.is_ancestor("a", "a")


def test_parents_come_before_children_and_newer_siblings_first() -> None:
    found = forest(*TREE)
    assert names(found) == ["f", "a", "e", "b", "d", "c"]
    assert names(found.descendants("a")) == ["e", "b", "d", "c"]


def test_an_insertion_becomes_current_only_when_asked() -> None:
    found = forest("a", current="a")
    found.apply(found.insertion(record("b", "a"), current=False))
    assert found.current == "a"
    found.apply(found.insertion(record("c", "a"), current=True))
    assert found.current == "c"


def test_nothing_changes_before_a_change_is_applied() -> None:
    found = forest("a")
    found.insertion(record("b", "a"), current=True)
    found.removal("a")
    assert (links(found), found.current) == ({"a"}, None)


def test_a_replaced_record_keeps_its_children_and_comes_first_among_its_siblings() -> None:
    found = forest("a", "b<a", "c<a", "d<b")
    found.apply(found.insertion(record("b", "a", description="new"), current=False))
    assert names(found.children("a")) == ["b", "c"]
    assert names(found.children("b")) == ["d"]
    assert found.get("b").description == "new"


def test_a_record_that_moves_takes_its_children_along() -> None:
    found = forest(*TREE)
    found.apply(found.insertion(record("b", "f"), current=False))
    assert names(found.descendants("f")) == ["b", "d", "c"]
    assert names(found.children("a")) == ["e"]


@pytest.mark.parametrize(
    ("parent", "message"),
    [
        ("b", "cannot set moment b as its own parent"),
        ("x", "parent x for moment b not found"),
        ("c", "parent c would create cycle to b"),
    ],
)
def test_an_impossible_parent_is_refused(parent: str, message: str) -> None:
    found = forest(*TREE)
    with pytest.raises(InvalidArgument) as refused:
        found.insertion(record("b", parent), current=True)
    assert refused.value.detail == message
    assert links(found) == set(TREE)


def after_removal(
    name: str, *, current: str | None = None, children: bool = False, children_only: bool = False
) -> tuple[set[str], str | None, tuple[str, ...]]:
    found = forest(*TREE, current=current)
    change = found.removal(name, children=children, children_only=children_only)
    found.apply(change)
    return links(found), found.current, change.remove


def test_the_children_of_a_deleted_snapshot_move_to_its_parent() -> None:
    assert after_removal("b") == ({"a", "c<a", "d<a", "e<a", "f"}, None, ("b",))


def test_the_children_of_a_deleted_root_become_roots() -> None:
    assert after_removal("a")[0] == {"b", "c<b", "d<b", "e", "f"}


def test_deleting_the_current_snapshot_makes_its_parent_current() -> None:
    assert after_removal("b", current="b")[1] == "a"
    assert after_removal("a", current="a")[1] is None


def test_deleting_another_snapshot_leaves_current_alone() -> None:
    assert after_removal("b", current="d")[1] == "d"
    assert after_removal("b", current="f", children=True)[1] == "f"


def test_a_subtree_is_deleted_children_first() -> None:
    left, current, removed = after_removal("b", current="c", children=True)
    assert (left, current) == ({"a", "e<a", "f"}, "a")
    assert set(removed) == {"b", "c", "d"}
    assert removed[-1] == "b"


def test_only_what_is_below_can_be_deleted() -> None:
    left, current, removed = after_removal("a", current="d", children_only=True)
    assert (left, current) == ({"a", "f"}, "a")
    assert removed.index("d") < removed.index("b")
    assert after_removal("a", current="a", children_only=True)[1] == "a"


def test_a_subtree_whose_siblings_have_children_is_deleted_whole() -> None:
    found = forest("s", "a<s", "b<s", "b1<b", "a1<a", current="b1")
    found.apply(found.removal("s", children_only=True))
    assert (links(found), found.current) == ({"s"}, "s")


@pytest.mark.parametrize(
    "change",
    [
        Change(remove=("a",)),
        Change(remove=("x",)),
        Change(put=(record("z", "x"),)),
        Change(put=(record("a", "b"),)),
        Change(put=(record("y", "z"), record("z", "y"))),
        Change(current="x", moves_current=True),
        Change(remove=("f",)),
        Change(put=(record("c", "f"),), remove=("f",), moves_current=True),
    ],
    ids=["orphans", "unknown", "dangling", "cycle", "new-cycle", "no-current", "current-goes", "parent-goes"],
)
def test_a_change_that_would_break_the_forest_is_refused_whole(change: Change) -> None:
    found = forest(*TREE, current="f")
    digest = found.digest()
    with pytest.raises(ValueError, match=r"snapshot|parent"):
        found.apply(change)
    assert (links(found), found.current, found.digest()) == (set(TREE), "f", digest)


def test_one_change_can_turn_a_hierarchy_upside_down() -> None:
    found = forest("a", "b<a", "c<b", current="c")
    found.apply(
        Change(put=(record("a", "b"), record("b", "c"), record("c")), current="a", moves_current=True)
    )
    assert (links(found), found.current) == ({"c", "b<c", "a<b"}, "a")


def test_a_whole_hierarchy_can_be_replaced_at_once() -> None:
    found = forest(*TREE, current="f")
    found.apply(
        Change(put=(record("y", "x"), record("x")), remove=tuple("abcdef"), current="y", moves_current=True)
    )
    assert (links(found), found.current) == ({"x", "y<x"}, "y")


def test_the_digest_is_the_same_however_a_hierarchy_came_about() -> None:
    one, two = forest(*TREE, current="d"), forest(*reversed(TREE), "z<f")
    two.digest()
    two.apply(two.removal("z"))
    two.apply(Change(current="d", moves_current=True))
    assert one.digest() == two.digest() == forest(*TREE, current="d").digest()


def test_the_digest_does_not_depend_on_where_a_record_was_read() -> None:
    made = record("a", disks=(SnapshotDisk(name="vda", snapshot="internal"),))
    stored = msgspec.msgpack.decode(msgspec.msgpack.encode(made, order="sorted"), type=Snapshot)
    given = msgspec.json.decode(b'{"name":"vda","type":"file","snapshot":"internal"}', type=SnapshotDisk)
    read = msgspec.structs.replace(made, disks=(given,))
    assert Forest([made]).digest() == Forest([stored]).digest() == Forest([read]).digest()


def test_the_digest_of_a_known_hierarchy_never_changes() -> None:
    disks = (SnapshotDisk(name="vda", snapshot="external", source="/o"),)
    found = Forest([record("a"), record("b", "a", description="é", disks=disks)], "b")
    lines = [
        '"b"',
        hashlib.sha256(
            b'{"creation_time":1000,"memory":"internal","name":"a","state":"running"}'
        ).hexdigest(),
        hashlib.sha256(
            '{"creation_time":1000,"description":"é",'
            '"disks":[{"name":"vda","snapshot":"external","source":"/o"}],'
            '"memory":"internal","name":"b","parent":"a","state":"running"}'.encode()
        ).hexdigest(),
    ]
    assert found.digest() == hashlib.sha256("\n".join(lines).encode()).hexdigest()


@pytest.mark.parametrize(
    "change",
    [
        Change(current="a", moves_current=True),
        Change(current=None, moves_current=True),
        Change(put=(record("f", "a"),)),
        Change(put=(record("f", description="x"),)),
        Change(put=(record("g"),)),
        Change(remove=("e",)),
    ],
    ids=["current", "no-current", "parent", "record", "more", "less"],
)
def test_every_change_of_a_hierarchy_changes_its_digest(change: Change) -> None:
    found = forest(*TREE, current="f")
    before = found.digest()
    found.apply(change)
    assert found.digest() != before


def test_a_deep_hierarchy_needs_neither_recursion_nor_quadratic_time() -> None:
    count = 20_000
    began = time.process_time()
    found = Forest(record(f"s{n}", f"s{n - 1}" if n else None) for n in reversed(range(count)))
    assert len(list(found)) == count
    found.digest()
    found.apply(found.removal("s1", children=True))
    assert time.process_time() - began < 10
    assert len(found) == 1


NAMES = st.sampled_from("abcdefgh")


class ForestMachine(RuleBasedStateMachine):
    """Any sequence of operations, beside a dictionary of parents that is obviously right."""

    def __init__(self) -> None:
        super().__init__()
        self.forest = Forest()
        self.parents: dict[str, str | None] = {}
        self.current: str | None = None

    def below(self, name: str) -> set[str]:
        direct = {child for child, parent in self.parents.items() if parent == name}
        return direct.union(*(self.below(child) for child in direct))

    @rule(name=NAMES, parent=st.none() | NAMES, current=st.booleans())
    def insert(self, name: str, parent: str | None, current: bool) -> None:
        possible = parent is None or (
            parent in self.parents
            and parent != name
            and (name not in self.parents or parent not in self.below(name))
        )
        if not possible:
            with pytest.raises(Error):
                self.forest.insertion(record(name, parent), current=current)
            return
        self.forest.apply(self.forest.insertion(record(name, parent), current=current))
        self.parents[name] = parent
        self.current = name if current else self.current

    @precondition(lambda self: self.parents)
    @rule(data=st.data(), how=st.sampled_from(["alone", "children", "children_only"]))
    def remove(self, data: st.DataObject, how: str) -> None:
        name = data.draw(st.sampled_from(sorted(self.parents)))
        below, above = self.below(name), self.parents[name]
        self.forest.apply(
            self.forest.removal(name, children=how == "children", children_only=how == "children_only")
        )
        gone = {"alone": {name}, "children": below | {name}, "children_only": below}[how]
        if self.current in gone:
            self.current = name if how == "children_only" else above
        self.parents = {
            child: above if parent == name and how == "alone" else parent
            for child, parent in self.parents.items()
            if child not in gone
        }

    @precondition(lambda self: self.parents)
    @rule(data=st.data())
    def move_current(self, data: st.DataObject) -> None:
        self.current = data.draw(st.none() | st.sampled_from(sorted(self.parents)))
        self.forest.apply(Change(current=self.current, moves_current=True))

    @invariant()
    def the_forest_is_what_the_dictionary_says(self) -> None:
        assert {snapshot.name: snapshot.parent for snapshot in self.forest} == self.parents
        assert self.forest.current == self.current
        assert len(self.forest) == len(self.parents)

    @invariant()
    def every_question_has_the_right_answer(self) -> None:
        for name, parent in self.parents.items():
            below = self.below(name)
            direct = {child for child, above in self.parents.items() if above == name}
            assert {found.name for found in self.forest.descendants(name)} == below
            assert {found.name for found in self.forest.children(name)} == direct
            assert self.forest.child_count(name) == len(direct)
            assert parent is None or self.forest.is_ancestor(parent, name)

    @invariant()
    def parents_come_first(self) -> None:
        seen: set[str | None] = {None}
        for snapshot in self.forest:
            assert snapshot.parent in seen
            seen.add(snapshot.name)

    @invariant()
    def loading_the_records_gives_the_same_digest(self) -> None:
        assert Forest(self.forest, self.forest.current).digest() == self.forest.digest()


TestForestMachine = ForestMachine.TestCase


@given(st.lists(st.tuples(NAMES, st.none() | NAMES), unique_by=lambda pair: pair[0]))
def test_what_loads_is_exactly_what_is_free_of_cycles_and_gaps(pairs: list[tuple[str, str | None]]) -> None:
    parents = dict(pairs)

    def sound(name: str | None) -> bool:
        for _ in range(len(parents) + 1):
            if name is None:
                return True
            if name not in parents:
                return False
            name = parents[name]
        return False

    try:
        loaded = Forest(record(name, parent) for name, parent in pairs)
    except ValueError:
        assert not all(sound(name) for name in parents)
    else:
        assert all(sound(name) for name in parents)
        assert {snapshot.name: snapshot.parent for snapshot in loaded} == parents
