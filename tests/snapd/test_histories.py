"""Any sequence of calls on a running daemon: whatever is asked, the hierarchy stays one, and answers agree."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, get_args

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.daemon import Running, digests, running_daemon
from tests.support.daemon import settings as configuration
from tests.support.snapshots import UUID, document, redefine
from virtsnap_protocol.methods.snapshot import DeleteFlag, EditFlag, ListFlag, RevertFlag, SnapshotState
from virtsnapd.models.forest import Forest

if TYPE_CHECKING:
    from tests.support.rpc import Rpc

Call = tuple[str, dict[str, Any]]
NAMES: Final = st.sampled_from(["a", "b", "c", "d", "é &<", "a b"])
LIST_FLAGS: Final = st.lists(st.sampled_from(get_args(ListFlag)), unique=True, max_size=4)
DOMAIN: Final = (
    f"<domain type='test'><name>test</name><uuid>{UUID}</uuid><memory>1024</memory>"
    "<os><type>hvm</type></os></domain>"
)
Look = Callable[["Rpc", Running], Awaitable[None]]


def flags(words: object, most: int) -> st.SearchStrategy[list[str]]:
    return st.lists(st.sampled_from(get_args(words)), unique=True, max_size=most)


def escaped(name: str) -> str:
    return name.replace("&", "&amp;").replace("<", "&lt;")


@st.composite
def takes(draw: st.DrawFn) -> Call:
    name = draw(st.just("") | NAMES.map(lambda name: f"<name>{escaped(name)}</name>"))
    wanted = draw(
        st.lists(st.sampled_from(["halt", "no-metadata", "atomic", "disk-only"]), unique=True, max_size=2)
    )
    memory = draw(st.sampled_from(["", "", "", "<memory snapshot='external' file='/m'/>"]))
    return "snapshot.create", {"xml": f"<domainsnapshot>{name}{memory}</domainsnapshot>", "flags": wanted}


@st.composite
def redefinitions(draw: st.DrawFn) -> Call:
    name, parent = draw(NAMES), draw(st.none() | NAMES)
    state = draw(st.sampled_from(get_args(SnapshotState)))
    above = "" if parent is None else f"<parent><name>{escaped(parent)}</name></parent>"
    xml = (
        f"<domainsnapshot><name>{escaped(name)}</name><state>{state}</state><creationTime>7</creationTime>"
        f"{above}{draw(st.sampled_from(['', DOMAIN, DOMAIN]))}</domainsnapshot>"
    )
    wanted = ["redefine", *draw(st.sampled_from([[], [], ["current"], ["halt"], ["validate"]]))]
    return "snapshot.create", {"xml": xml, "flags": wanted}


@st.composite
def edits(draw: st.DrawFn) -> Call:
    _, document = draw(redefinitions())
    wanted = draw(flags(EditFlag, 2))
    return "snapshot.edit", {"snapshot": draw(NAMES), "xml": document["xml"], "flags": wanted}


CALLS: Final[st.SearchStrategy[Call]] = st.one_of(
    takes(),
    redefinitions(),
    edits(),
    st.builds(
        lambda name, wanted: ("snapshot.revert", {"snapshot": name, "flags": wanted}),
        NAMES,
        flags(RevertFlag, 1),
    ),
    st.builds(
        lambda name, wanted: ("snapshot.delete", {"snapshot": name, "flags": wanted}),
        NAMES,
        flags(DeleteFlag, 2),
    ),
    st.sampled_from(["domain.destroy", "domain.start", "domain.suspend", "domain.resume"]).map(
        lambda verb: (verb, {})
    ),
)


async def made(rpc: Rpc, running: Running, call: Call) -> None:
    """Make a call; one that is refused has changed nothing."""
    method, params = call
    before = digests(running.config.state_dir)
    frame = await rpc.answer(await rpc.begin(method, domain="test", **params))
    if "error" in frame:
        assert frame["error"]["code"] > 0, f"{method} {params}: {frame['error']}"
        assert digests(running.config.state_dir) == before


async def looked_at(rpc: Rpc, running: Running) -> None:
    """Check that the hierarchy is one: no gap, no cycle, one current at most, as stored as in memory."""
    listing = (await rpc.call("snapshot.list", domain="test"))["snapshots"]
    seen: set[str | None] = {None}
    for found in listing:
        assert found["parent"] in seen, "a child before its parent: a gap or a cycle"
        seen.add(found["name"])
    assert len(seen) == len(listing) + 1
    assert sum(found["current"] for found in listing) <= 1
    in_memory = running.domain().hierarchy.digest
    assert digests(running.config.state_dir).get(UUID, Forest().digest()) == in_memory


async def on_a_fresh_daemon(history: list[Call], look: Look) -> None:
    folder = Path(tempfile.mkdtemp(prefix="vs-", dir="/tmp"))
    try:
        async with running_daemon(configuration(folder)) as running, running.client() as rpc:
            for call in history:
                await made(rpc, running, call)
            await look(rpc, running)
    finally:
        shutil.rmtree(folder)


histories = st.lists(CALLS, min_size=1, max_size=12)


@pytest.mark.checklist(88)
@settings(max_examples=200)
@given(histories)
def test_whatever_is_asked_the_hierarchy_is_one(history: list[Call]) -> None:
    trio.run(on_a_fresh_daemon, history, looked_at)


@settings(max_examples=150)
@given(histories)
def test_redefining_every_dump_changes_nothing(history: list[Call]) -> None:
    async def look(rpc: Rpc, running: Running) -> None:
        before = running.domain().hierarchy.digest
        pictured = await rpc.picture()
        for name in await rpc.tree():
            await redefine(rpc, await document(rpc, name))
        assert running.domain().hierarchy.digest == before
        again = await rpc.picture()
        assert again["documents"] == pictured["documents"]

    trio.run(on_a_fresh_daemon, history, look)


@pytest.mark.checklist(99)
@pytest.mark.checklist(100, ours="a page has as many as `limit` says, and `total` tells how many there are")
@settings(max_examples=150)
@given(histories, st.lists(st.tuples(LIST_FLAGS, st.none() | NAMES), max_size=8), st.integers(1, 3))
def test_counts_and_pages_agree_with_lists(
    history: list[Call], questions: list[tuple[list[str], str | None]], limit: int
) -> None:
    async def look(rpc: Rpc, _running: Running) -> None:
        names = set(await rpc.tree())
        for wanted, of in questions:
            asked = {"domain": "test", "flags": wanted} | ({} if of is None else {"of": of})
            if of is not None and of not in names:
                assert (await rpc.refusal("snapshot.count", **asked)).kind == "no-domain-snapshot"
                assert (await rpc.refusal("snapshot.list", **asked)).kind == "no-domain-snapshot"
                continue
            whole = await rpc.call("snapshot.list", **asked)
            assert (await rpc.call("snapshot.count", **asked))["count"] == len(whole["snapshots"])
            pages = []
            for skip in range(0, len(names) + 1, limit):
                page = await rpc.call("snapshot.list", **asked, skip=skip, limit=limit)
                assert page["total"] == len(whole["snapshots"])
                pages += page["snapshots"]
            assert pages == whole["snapshots"]

    trio.run(on_a_fresh_daemon, history, look)
