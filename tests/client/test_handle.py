"""Verbs: written once, for both kinds of connection, with types that a checker infers."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable
from typing import TYPE_CHECKING, Any, assert_type

import pytest

from virtsnap import BlockingDomain, BlockingSnapshot, Domain, Snapshot
from virtsnap.domain import DomainVerbs
from virtsnap.snapshot import SnapshotVerbs
from virtsnap_protocol.method import Params, Result
from virtsnap_protocol.methods import METHODS, domain, snapshot

if TYPE_CHECKING:
    from virtsnap_protocol.method import Method, P, R


class Recorder:
    """Notes what is called."""

    def __init__(self) -> None:
        self.called: list[tuple[str, Params, float | None]] = []

    def call(self, method: Method[P, R], params: P, *, deadline: float | None = None) -> R:
        self.called.append((method.name, params, deadline))
        return Result()  # type: ignore[return-value]  # no test here looks into it


class AsyncRecorder:
    """Notes what is called, and has to be awaited."""

    def __init__(self) -> None:
        self.inner = Recorder()

    async def call(self, method: Method[P, R], params: P, *, deadline: float | None = None) -> R:
        return self.inner.call(method, params, deadline=deadline)


def test_a_verb_calls_its_method_with_what_it_built() -> None:
    recorder = Recorder()
    BlockingDomain(recorder, "vm").start(paused=True)
    assert recorder.called == [("domain.start", domain.StartParams(domain="vm", flags=["paused"]), None)]


async def test_the_same_verb_is_awaited_on_the_other_kind() -> None:
    recorder = AsyncRecorder()
    await Domain(recorder, "vm").start(paused=True)
    assert recorder.inner.called == [
        ("domain.start", domain.StartParams(domain="vm", flags=["paused"]), None)
    ]


def test_a_handle_with_a_deadline_leaves_the_first_one_as_it_was() -> None:
    recorder = Recorder()
    vm = BlockingDomain(recorder, "vm")
    vm.within(5).snapshot("s").info()
    vm.info()
    assert [deadline for _, _, deadline in recorder.called] == [5, None]


async def test_a_handle_with_a_deadline_hands_it_on_in_trio_too() -> None:
    recorder = AsyncRecorder()
    await Domain(recorder, "vm").within(5).snapshot("s").info()
    assert recorder.inner.called[0][2] == 5


def test_a_misspelled_argument_is_an_error_where_it_is_written() -> None:
    with pytest.raises(TypeError, match="pausd"):
        BlockingDomain(Recorder(), "vm").start(pausd=True)  # type: ignore[call-arg]  # the misspelling


def test_a_type_checker_knows_what_a_blocking_verb_returns() -> None:
    vm = BlockingDomain(Recorder(), "vm")
    assert_type(vm.start(), domain.InfoResult)
    assert_type(vm.take("s"), snapshot.InfoResult)
    assert_type(BlockingSnapshot(Recorder(), "vm", "s").delete(children=True), snapshot.DeleteResult)


async def test_a_type_checker_knows_what_an_asynchronous_verb_returns() -> None:
    vm = Domain(AsyncRecorder(), "vm")
    started = vm.start()
    assert_type(started, Awaitable[domain.InfoResult])
    assert_type(await vm.take("s"), snapshot.InfoResult)
    assert_type(await Snapshot(AsyncRecorder(), "vm", "s").xml(secure=True), snapshot.XmlResult)
    await started


def test_redefining_sends_the_flags() -> None:
    recorder = Recorder()
    BlockingDomain(recorder, "vm").redefine("<domainsnapshot/>", current=True)
    expected = snapshot.CreateParams(domain="vm", xml="<domainsnapshot/>", flags=["redefine", "current"])
    assert recorder.called == [("snapshot.create", expected, None)]


def test_children_are_listed_with_the_flag_that_shares_its_bit_with_roots() -> None:
    recorder = Recorder()
    vm = BlockingDomain(recorder, "vm")
    vm.snapshots(flags=1)
    vm.snapshots(of="s", flags=1)
    assert [params.flags for _, params, _ in recorder.called] == [["roots"], ["descendants"]]  # type: ignore[attr-defined]  # both are listings


VERBS = [
    (verbs, name)
    for verbs in (DomainVerbs, SnapshotVerbs)
    for name, value in vars(verbs).items()
    if hasattr(value, "method")
]


@pytest.mark.parametrize(("verbs", "name"), VERBS)
def test_every_verb_is_documented_and_calls_a_known_method(verbs: type, name: str) -> None:
    verb: Any = inspect.getattr_static(verbs, name)
    assert verb.__doc__
    assert verb.method in METHODS
    assert getattr(verbs, name) is verb
