"""Recording snapshots from their documents."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import pytest

from tests.support.snapshots import TRANSIENT, UUID, document, grow, record, redefine
from virtsnapd.drivers.simulated.faults import Fault

if TYPE_CHECKING:
    from tests.support.daemon import Running
    from tests.support.rpc import Rpc


async def test_a_snapshot_comes_back_from_its_own_document(running: Running, rpc: Rpc) -> None:
    await grow(rpc)
    before = running.domain().hierarchy.digest
    documents = {name: await document(rpc, name) for name in await rpc.tree()}
    await rpc.call("snapshot.delete", domain="test", snapshot="s1", flags=["children", "metadata-only"])
    assert await rpc.tree() == {}
    for name, xml in documents.items():
        await redefine(rpc, xml, *(["current"] if name == "s4" else []))
    assert {name: await document(rpc, name) for name in documents} == documents
    assert running.domain().hierarchy.digest == before


@pytest.mark.checklist(68)
async def test_redefining_leaves_the_current_marker_alone_unless_it_is_asked_for(
    rpc: Rpc, definition: str
) -> None:
    await redefine(rpc, record("a", domain=definition))
    assert await rpc.current() is None
    await redefine(rpc, record("a", domain=definition), "current")
    assert await rpc.current() == "a"
    await redefine(rpc, record("b", parent="a", domain=definition))
    assert await rpc.current() == "a"


@pytest.mark.checklist(76)
async def test_a_redefined_snapshot_keeps_its_children(rpc: Rpc, definition: str) -> None:
    await grow(rpc)
    xml = (await document(rpc, "s2")).replace("<parent>\n    <name>s1</name>\n  </parent>", "")
    await redefine(rpc, xml.replace("<name>s2</name>", "<name>s2</name><description>moved</description>"))
    assert await rpc.tree() == {"s1": None, "s2": None, "s3": "s2", "s4": "s1"}
    found = await rpc.call("snapshot.get", domain="test", snapshot="s2")
    assert found["snapshot"]["description"] == "moved"


async def test_redefining_touches_no_data(running: Running, rpc: Rpc, definition: str) -> None:
    running.driver.faults.inject("take", Fault(error="touched"))
    await redefine(rpc, record("a", domain=definition))
    assert running.driver.contents(running.domain()).saved == {}


BAD_REDEFINES: Final = [
    ("<domainsnapshot/>", 27, "a redefined snapshot must have a name"),
    ("<domainsnapshot><name>a</name></domainsnapshot>", 1, "missing creationTime from existing snapshot"),
    (
        "<domainsnapshot><name>a</name><creationTime>1</creationTime></domainsnapshot>",
        27,
        "missing state from existing snapshot",
    ),
    (record("a", state="nostate", domain=""), 67, "Invalid state 'nostate' in domain snapshot XML"),
    (record("a", domain=""), 1, "missing domain in snapshot"),
    (record("a", parent="a", domain="{}"), 8, "cannot set moment a as its own parent"),
    (record("a", parent="z", domain="{}"), 8, "parent z for moment a not found"),
    (record("s1", parent="s3", domain="{}"), 8, "parent s2 would create cycle to s1"),
    (
        record("a", domain=TRANSIENT),
        8,
        f"definition for snapshot a must use uuid {UUID}",
    ),
    (
        record("s1", state="shutoff", domain="{}"),
        8,
        "cannot change between online and offline snapshot state in snapshot s1",
    ),
]


@pytest.mark.parametrize(
    ("xml", "code", "words"), BAD_REDEFINES, ids=[words for _, _, words in BAD_REDEFINES]
)
async def test_a_bad_record_is_refused_and_changes_nothing(
    running: Running, rpc: Rpc, definition: str, xml: str, code: int, words: str
) -> None:
    await grow(rpc)
    with running.nothing_changes():
        error = await rpc.refusal(
            "snapshot.create", domain="test", xml=xml.replace("{}", definition), flags=["redefine", "current"]
        )
    assert (error.code, words in str(error)) == (code, True), error


async def test_a_record_under_another_memory_size_is_refused(running: Running, rpc: Rpc) -> None:
    await rpc.take("s1")
    xml = (await document(rpc, "s1")).replace("8388608", "4194304").replace("2097152", "1048576")
    with running.nothing_changes():
        error = await rpc.refusal("snapshot.create", domain="test", xml=xml, flags=["redefine"])
    assert error.code == 67
