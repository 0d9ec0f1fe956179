from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import msgspec
import pytest

from virtsnapd.drivers.simulated.faults import Fault

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.support.daemon import Running
    from tests.support.rpc import Rpc

UUID: Final = "6695eb01-f6a4-8304-79aa-97f2502e193f"
C: Final = "VIR_DOMAIN_SNAPSHOT_CREATE_"
EMPTY: Final = "<domainsnapshot/>"
TRANSIENT: Final = """<domain type='test'><name>brief</name><uuid>11111111-2222-3333-4444-555555555555</uuid>
<memory>1024</memory><os><type>hvm</type></os></domain>"""


def record(name: str, *, state: str = "running", parent: str | None = None, domain: str, inner: str = "") -> str:
    """Return a document that can be redefined."""
    above = f"<parent><name>{parent}</name></parent>" if parent else ""
    return (
        f"<domainsnapshot><name>{name}</name><state>{state}</state><creationTime>1000</creationTime>"
        f"{above}{inner}{domain}</domainsnapshot>"
    )


@pytest.fixture
async def definition(rpc: Rpc) -> str:
    xml: str = (await rpc.call("domain.xml", domain="test", flags=["inactive", "secure"]))["xml"]
    return xml


@pytest.fixture
async def transient(rpc: Rpc) -> AsyncIterator[str]:
    await rpc.call("domain.create", xml=TRANSIENT)
    yield "brief"


async def document(rpc: Rpc, name: str, domain: str = "test") -> str:
    xml: str = (await rpc.call("snapshot.xml", domain=domain, snapshot=name, flags=["secure"]))["xml"]
    return xml


async def redefine(rpc: Rpc, xml: str, *flags: str, domain: str = "test") -> Any:
    return await rpc.call("snapshot.create", domain=domain, xml=xml, flags=["redefine", *flags])


async def grow(rpc: Rpc) -> None:
    """Make the tree s1 - (s2 - s3, s4), of which s4 is current."""
    for name in ("s1", "s2", "s3"):
        await rpc.take(name)
    await rpc.call("snapshot.revert", domain="test", snapshot="s1")
    await rpc.take("s4")


# --- flags, in the order in which libvirt looks at them ---


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["current"], f"Flag '{C}REDEFINE' is required by flag '{C}CURRENT'"),
        (["current", "no-metadata"], f"Flag '{C}REDEFINE' is required by flag '{C}CURRENT'"),
        (["redefine", "no-metadata"], f"Flags '{C}REDEFINE' and '{C}NO_METADATA' are mutually exclusive"),
        (["redefine", "halt"], f"Flags '{C}REDEFINE' and '{C}HALT' are mutually exclusive"),
        (
            ["redefine", "halt", "no-metadata", "current"],
            f"Flags '{C}REDEFINE' and '{C}NO_METADATA' are mutually exclusive",
        ),
        (["quiesce"], f"Flag '{C}DISK_ONLY' is required by flag '{C}QUIESCE'"),
        (["live", "redefine"], f"Flags '{C}LIVE' and '{C}REDEFINE' are mutually exclusive"),
    ],
)
async def test_contradicting_flags_are_refused_before_the_document_is_looked_at(
    running: Running, rpc: Rpc, flags: list[str], message: str
) -> None:
    with running.nothing_changes():
        error = await rpc.refusal("snapshot.create", domain="test", xml="<nonsense", flags=flags)
    assert (error.code, str(error)) == (8, message)


@pytest.mark.parametrize("flags", [["current"], ["redefine", "halt"]])
async def test_contradicting_flags_are_refused_before_the_domain_is_looked_up(rpc: Rpc, flags: list[str]) -> None:
    assert (await rpc.refusal("snapshot.create", domain="nobody", xml=EMPTY, flags=flags)).code == 8


async def test_contradicting_flags_of_revert_and_delete_are_refused(running: Running, rpc: Rpc) -> None:
    await grow(rpc)
    with running.nothing_changes():
        revert = await rpc.refusal(
            "snapshot.revert", domain="test", snapshot="s1", flags=["running", "paused"]
        )
        delete = await rpc.refusal(
            "snapshot.delete", domain="test", snapshot="s1", flags=["children", "children-only"]
        )
    prefix = "VIR_DOMAIN_SNAPSHOT_"
    assert str(revert) == f"Flags '{prefix}REVERT_RUNNING' and '{prefix}REVERT_PAUSED' are mutually exclusive"
    assert str(delete) == f"Flags '{prefix}DELETE_CHILDREN' and '{prefix}DELETE_CHILDREN_ONLY' are mutually exclusive"
    assert (revert.code, delete.code) == (8, 8)


# --- create ---


async def test_the_first_snapshot_is_a_root_and_each_further_one_a_child_of_the_current(rpc: Rpc) -> None:
    await grow(rpc)
    assert await rpc.tree() == {"s1": None, "s2": "s1", "s3": "s2", "s4": "s1"}
    assert await rpc.current() == "s4"


async def test_a_snapshot_without_a_name_is_called_after_its_second(rpc: Rpc) -> None:
    made = (await rpc.call("snapshot.create", domain="test", xml=EMPTY))["snapshot"]
    assert made["name"] == str(made["creation_time"])


async def test_two_snapshots_without_names_do_not_collide(rpc: Rpc) -> None:
    names = {(await rpc.call("snapshot.create", domain="test", xml=EMPTY))["snapshot"]["name"] for _ in range(3)}
    assert len(names) == 3


async def test_a_request_s_own_parent_state_and_time_are_not_believed(rpc: Rpc, definition: str) -> None:
    await rpc.take("s1")
    made = await rpc.call(
        "snapshot.create",
        domain="test",
        xml=record("s2", state="shutoff", parent="nobody", domain=definition),
    )
    assert made["snapshot"]["parent"] == "s1"
    assert made["snapshot"]["state"] == "running"
    assert made["snapshot"]["creation_time"] > 1000


async def test_a_name_that_is_taken_is_refused(running: Running, rpc: Rpc) -> None:
    await rpc.take("s1")
    with running.nothing_changes():
        error = await rpc.refusal(
            "snapshot.create", domain="test", xml="<domainsnapshot><name>s1</name></domainsnapshot>"
        )
    assert (error.code, str(error)) == (9, "operation failed: domain moment s1 already exists")


async def test_a_snapshot_without_metadata_is_taken_and_forgotten(running: Running, rpc: Rpc) -> None:
    with running.nothing_changes():
        made = await rpc.take("s1", "no-metadata")
    assert made["snapshot"]["has_metadata"] is False
    assert await rpc.tree() == {}
    assert set(running.driver.contents(running.domain()).saved) == {"s1"}


async def test_halt_ends_the_guest_after_its_snapshot(rpc: Rpc) -> None:
    await rpc.call("event.subscribe", filter={"kinds": ["domain.lifecycle"]})
    made = await rpc.take("s1", "halt")
    assert made["snapshot"]["state"] == "running"
    info = (await rpc.call("domain.info", domain="test"))["domain"]
    assert (info["state"], info["reason"]) == ("shutoff", "from snapshot")
    assert [(e["lifecycle"], e["detail"]) for e in await rpc.events()] == [("stopped", "from-snapshot")]


async def test_a_transient_domain_cannot_be_halted(running: Running, rpc: Rpc, transient: str) -> None:
    with running.nothing_changes(transient):
        error = await rpc.refusal("snapshot.create", domain=transient, xml="<nonsense", flags=["halt"])
    assert str(error) == "Requested operation is not valid: cannot halt after transient domain snapshot"
    assert error.code == 55


@pytest.mark.parametrize(
    ("xml", "code", "words"),
    [
        ("<domain/>", 27, "expecting root element of 'domainsnapshot', not 'domain'"),
        ("<domainsnapshot>", 35, "domain_snapshot"),
        ("<domainsnapshot><memory snapshot='manual'/></domainsnapshot>", 27, "'manual' memory snapshot"),
        ("<domainsnapshot><disks><disk/></disks></domainsnapshot>", 1, "missing name from disk snapshot"),
        ("<domainsnapshot><disks><disk name='vdz'/></disks></domainsnapshot>", 67, "no disk named 'vdz'"),
        (
            "<domainsnapshot><memory snapshot='no'/></domainsnapshot>",
            84,
            "internal snapshot of a running VM must include the memory state",
        ),
    ],
)
async def test_a_bad_request_changes_nothing(
    running: Running, rpc: Rpc, xml: str, code: int, words: str
) -> None:
    with running.nothing_changes():
        error = await rpc.refusal("snapshot.create", domain="test", xml=xml)
    assert error.code == code
    assert words in str(error)
    assert running.driver.contents(running.domain()).saved == {}


async def test_an_unknown_element_is_refused_only_where_validation_is_asked_for(running: Running, rpc: Rpc) -> None:
    xml = "<domainsnapshot><name>s1</name><nonsense/></domainsnapshot>"
    with running.nothing_changes():
        error = await rpc.refusal("snapshot.create", domain="test", xml=xml, flags=["validate"])
    assert error.code == 92
    assert (await rpc.call("snapshot.create", domain="test", xml=xml))["snapshot"]["name"] == "s1"


async def test_the_driver_s_failure_leaves_nothing_of_the_snapshot(running: Running, rpc: Rpc) -> None:
    running.driver.faults.inject("take", Fault(error="no space on the disk"))
    with running.nothing_changes():
        error = await rpc.refusal("snapshot.create", domain="test", xml=EMPTY)
    assert (error.code, error.cause) == (1, "no space on the disk")
    await rpc.take("s1")
    assert await rpc.tree() == {"s1": None}


async def test_what_a_failed_take_leaves_in_the_data_needs_attention(running: Running, rpc: Rpc) -> None:
    running.driver.faults.inject("take", Fault(error="first"))
    running.driver.faults.inject("discard", Fault(error="second"))
    error = await rpc.refusal("snapshot.create", domain="test", xml=EMPTY)
    assert error.cause == "first"
    info = (await rpc.call("domain.info", domain="test"))["domain"]
    assert "the take of snapshot" in info["needs_attention"]
    assert "second" in info["needs_attention"]


async def test_a_disk_that_is_full_refuses_a_snapshot_and_loses_nothing(running: Running, rpc: Rpc) -> None:
    await rpc.take("s1")
    connection = running.store._connection
    (pages,) = connection.execute("PRAGMA page_count").fetchone()
    connection.execute(f"PRAGMA max_page_count = {pages}")
    xml = f"<domainsnapshot><name>s2</name><description>{'x' * 1_000_000}</description></domainsnapshot>"
    with running.nothing_changes():
        error = await rpc.refusal("snapshot.create", domain="test", xml=xml)
    assert error.kind == "storage-error"
    assert "full" in str(error)
    assert set(running.driver.contents(running.domain()).saved) == {"s1"}

    connection.execute("PRAGMA max_page_count = 1000000")
    await rpc.call("snapshot.create", domain="test", xml=xml)
    assert await rpc.tree() == {"s1": None, "s2": "s1"}


# --- redefine ---


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


async def test_redefining_leaves_the_current_marker_alone_unless_it_is_asked_for(rpc: Rpc, definition: str) -> None:
    await redefine(rpc, record("a", domain=definition))
    assert await rpc.current() is None
    await redefine(rpc, record("a", domain=definition), "current")
    assert await rpc.current() == "a"
    await redefine(rpc, record("b", parent="a", domain=definition))
    assert await rpc.current() == "a"


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


@pytest.mark.parametrize(("xml", "code", "words"), BAD_REDEFINES, ids=[words for _, _, words in BAD_REDEFINES])
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


# --- looking at them ---


async def test_questions_without_an_answer_get_libvirt_s_words(running: Running, rpc: Rpc) -> None:
    prefix = "Domain snapshot not found: "
    with running.nothing_changes():
        current = await rpc.refusal("snapshot.current", domain="test")
        unknown = await rpc.refusal("snapshot.get", domain="test", snapshot="S1")
    assert str(current) == prefix + "the domain does not have a current snapshot"
    assert str(unknown) == prefix + "no domain snapshot with matching name 'S1'"
    await rpc.take("s1")
    parent = await rpc.refusal("snapshot.parent", domain="test", snapshot="s1")
    assert str(parent) == prefix + "snapshot 's1' does not have a parent"
    assert {current.code, unknown.code, parent.code} == {72}


async def test_a_snapshot_tells_its_place_in_the_tree(rpc: Rpc) -> None:
    await grow(rpc)
    found = (await rpc.call("snapshot.get", domain="test", snapshot="s1"))["snapshot"]
    assert (found["children"], found["descendants"], found["current"]) == (2, 3, False)
    parent = (await rpc.call("snapshot.parent", domain="test", snapshot="s3"))["snapshot"]
    assert parent["name"] == "s2"
    assert (await rpc.call("snapshot.current", domain="test"))["snapshot"]["name"] == "s4"


async def test_a_listing_is_filtered_as_in_libvirt(rpc: Rpc) -> None:
    await grow(rpc)

    async def names(*flags: str, **more: str) -> set[str]:
        listing = await rpc.call("snapshot.list", domain="test", flags=list(flags), **more)
        return {found["name"] for found in listing["snapshots"]}

    assert await names("roots") == {"s1"}
    assert await names("leaves") == {"s3", "s4"}
    assert await names("leaves", "no-leaves") == {"s1", "s2", "s3", "s4"}
    assert await names(of="s1") == {"s2", "s4"}
    assert await names("descendants", of="s1") == {"s2", "s3", "s4"}


# --- revert: the lifecycle events and states of the test driver's table ---

STOPPED, STARTED, SUSPENDED = (
    ("stopped", "from-snapshot"),
    ("started", "from-snapshot"),
    ("suspended", "from-snapshot"),
)


async def bring(rpc: Rpc, state: str) -> None:
    """Bring the domain, which runs, into this state."""
    if state == "paused":
        await rpc.call("domain.suspend", domain="test")
    elif state == "shutoff":
        await rpc.call("domain.destroy", domain="test")


@pytest.mark.parametrize(
    ("before", "saved", "flags", "events", "after"),
    [
        ("shutoff", "running", [], [STARTED], "running"),
        ("running", "running", [], [STOPPED, STARTED], "running"),
        ("running", "running", ["paused"], [STOPPED, STARTED, SUSPENDED], "paused"),
        ("paused", "running", [], [STOPPED, STARTED], "running"),
        ("running", "paused", [], [STOPPED, STARTED, SUSPENDED], "paused"),
        ("running", "paused", ["running"], [STOPPED, STARTED], "running"),
        ("paused", "paused", ["running"], [STOPPED, STARTED], "running"),
        ("running", "shutoff", [], [STOPPED], "shutoff"),
        ("shutoff", "shutoff", [], [], "shutoff"),
        ("shutoff", "shutoff", ["running"], [STARTED], "running"),
        ("shutoff", "shutoff", ["paused"], [STARTED, SUSPENDED], "paused"),
        ("running", "shutoff", ["paused"], [STOPPED, STARTED, SUSPENDED], "paused"),
        ("running", "shutoff", ["running", "force"], [STOPPED, STARTED], "running"),
    ],
)
async def test_a_revert_ends_in_the_right_state_and_tells_of_it(
    rpc: Rpc, before: str, saved: str, flags: list[str], events: list[tuple[str, str]], after: str
) -> None:
    await bring(rpc, saved)
    await rpc.take("s1")
    info = (await rpc.call("domain.info", domain="test"))["domain"]
    assert info["state"] == saved
    if before != saved:
        if saved == "shutoff":
            await rpc.call("domain.start", domain="test")
        elif saved == "paused":
            await rpc.call("domain.resume", domain="test")
        await bring(rpc, before)

    await rpc.call("event.subscribe", filter={"kinds": ["domain.lifecycle"]})
    await rpc.call("snapshot.revert", domain="test", snapshot="s1", flags=flags)
    info = (await rpc.call("domain.info", domain="test"))["domain"]
    assert [(event["lifecycle"], event["detail"]) for event in await rpc.events()] == events
    assert (info["state"], info["reason"]) == (after, "from snapshot")
    assert (info["id"] is None) == (after == "shutoff")


async def test_a_revert_brings_memory_and_disks_back_and_moves_the_current_marker(
    running: Running, rpc: Rpc
) -> None:
    contents = running.driver.contents(running.domain())
    contents.memory, contents.disks = 1, 10
    await rpc.take("s1")
    contents.memory, contents.disks = 2, 20
    await rpc.take("s2")
    contents.memory, contents.disks = 3, 30
    await rpc.call("snapshot.revert", domain="test", snapshot="s1")
    assert (contents.memory, contents.disks) == (1, 10)
    assert await rpc.current() == "s1"
    await rpc.call("snapshot.revert", domain="test", snapshot="s2")
    assert (contents.memory, contents.disks) == (2, 20)


async def test_a_revert_brings_the_definition_back(rpc: Rpc, definition: str) -> None:
    await rpc.take("s1")
    await rpc.call("domain.define", xml=definition.replace("8388608", "4194304").replace("2097152", "1048576"))
    assert (await rpc.call("domain.xml", domain="test", flags=["inactive", "secure"]))["xml"] != definition
    await rpc.call("snapshot.revert", domain="test", snapshot="s1")
    assert (await rpc.call("domain.xml", domain="test", flags=["inactive", "secure"]))["xml"] == definition


async def test_a_transient_domain_does_not_revert_to_an_end(running: Running, rpc: Rpc, transient: str) -> None:
    xml = record("off", state="shutoff", domain=TRANSIENT)
    await redefine(rpc, xml, domain=transient)
    with running.nothing_changes(transient):
        error = await rpc.refusal("snapshot.revert", domain=transient, snapshot="off")
    assert error.code == 55
    assert "transient domain needs to request run or pause to revert to inactive snapshot" in str(error)
    await rpc.call("snapshot.revert", domain=transient, snapshot="off", flags=["paused"])
    assert (await rpc.call("domain.info", domain=transient))["domain"]["state"] == "paused"


async def test_a_record_without_a_definition_cannot_be_reverted_to(running: Running, rpc: Rpc) -> None:
    await rpc.take("s1")
    hierarchy = running.domain().hierarchy
    bare = msgspec.structs.replace(hierarchy.forest.get("s1"), domain=None)
    await running.hypervisor.domains.record(running.domain(), hierarchy.forest.insertion(bare, current=True))
    with running.nothing_changes():
        error = await rpc.refusal("snapshot.revert", domain="test", snapshot="s1", flags=["force"])
    assert (error.code, str(error)) == (77, "revert requires force: snapshot 's1' lacks domain 'test' rollback info")


async def test_a_revert_that_the_hypervisor_refuses_leaves_the_hierarchy_as_it_was(
    running: Running, rpc: Rpc
) -> None:
    await grow(rpc)
    running.driver.faults.inject("revert", Fault(error="no such data"))
    with running.nothing_changes():
        error = await rpc.refusal("snapshot.revert", domain="test", snapshot="s2")
    assert error.cause == "no such data"


async def test_an_operation_that_a_defect_ends_is_not_repeated_unasked(
    running: Running, rpc: Rpc, monkeypatch: pytest.MonkeyPatch
) -> None:
    await rpc.take("s1")

    async def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(running.driver, "revert", broken)
    assert (await rpc.refusal("snapshot.revert", domain="test", snapshot="s1")).code == -32603
    assert running.store.load().operations == []
    info = (await rpc.call("domain.info", domain="test"))["domain"]
    assert "the revert of snapshot 's1' was interrupted" in info["needs_attention"]
    monkeypatch.undo()
    await rpc.call("snapshot.revert", domain="test", snapshot="s1")
    assert (await rpc.call("domain.info", domain="test"))["domain"]["needs_attention"] is None


# --- delete ---


@pytest.mark.parametrize("metadata_only", [False, True], ids=["with data", "metadata only"])
@pytest.mark.parametrize(
    ("name", "flags", "deleted", "left", "current"),
    [
        ("s2", [], ["s2"], {"s1": None, "s3": "s1", "s4": "s1"}, "s4"),
        ("s1", [], ["s1"], {"s2": None, "s3": "s2", "s4": None}, "s4"),
        ("s4", [], ["s4"], {"s1": None, "s2": "s1", "s3": "s2"}, "s1"),
        ("s2", ["children"], ["s3", "s2"], {"s1": None, "s4": "s1"}, "s4"),
        ("s1", ["children-only"], ["s2", "s3", "s4"], {"s1": None}, "s1"),
        ("s1", ["children"], ["s1", "s2", "s3", "s4"], {}, None),
    ],
)
async def test_deleting_leaves_the_right_tree(
    running: Running,
    rpc: Rpc,
    name: str,
    flags: list[str],
    deleted: list[str],
    left: dict[str, str | None],
    current: str | None,
    metadata_only: bool,
) -> None:
    await grow(rpc)
    more = ["metadata-only"] if metadata_only else []
    gone = await rpc.call("snapshot.delete", domain="test", snapshot=name, flags=flags + more)
    assert sorted(gone["deleted"]) == sorted(deleted)
    assert await rpc.tree() == left
    assert await rpc.current() == current
    saved = set(running.driver.contents(running.domain()).saved)
    assert saved == ({"s1", "s2", "s3", "s4"} if metadata_only else set(left))


async def test_children_are_deleted_before_their_parents(rpc: Rpc) -> None:
    await grow(rpc)
    gone = (await rpc.call("snapshot.delete", domain="test", snapshot="s1", flags=["children"]))["deleted"]
    assert gone.index("s3") < gone.index("s2") < gone.index("s1")


async def test_a_snapshot_that_cannot_be_deleted_keeps_all_above_it(running: Running, rpc: Rpc) -> None:
    await grow(rpc)
    running.driver.faults.inject("discard", Fault())
    running.driver.faults.inject("discard", Fault(error="in use"))
    error = await rpc.refusal("snapshot.delete", domain="test", snapshot="s1", flags=["children"])
    assert error.cause == "in use"
    tree = await rpc.tree()
    assert len(tree) == 3
    assert {parent for parent in tree.values() if parent} <= set(tree)
    assert running.store.load().operations == []


async def test_deleting_metadata_asks_nothing_of_the_hypervisor(running: Running, rpc: Rpc) -> None:
    await rpc.take("s1")
    running.driver.faults.inject("discard", Fault(error="touched"))
    await rpc.call("snapshot.delete", domain="test", snapshot="s1", flags=["metadata-only"])
    assert await rpc.tree() == {}


async def test_what_is_not_there_cannot_be_deleted_or_reverted_to(running: Running, rpc: Rpc) -> None:
    await grow(rpc)
    with running.nothing_changes():
        for method in ("snapshot.delete", "snapshot.revert"):
            error = await rpc.refusal(method, domain="test", snapshot="nobody")
            assert (error.code, error.domain, error.snapshot) == (72, "test", "nobody")


# --- domains with snapshots ---


async def test_an_inactive_domain_with_snapshots_is_not_undefined_by_accident(running: Running, rpc: Rpc) -> None:
    await grow(rpc)
    await rpc.call("domain.destroy", domain="test")
    with running.nothing_changes():
        error = await rpc.refusal("domain.undefine", domain="test")
    assert str(error) == "Requested operation is not valid: cannot delete inactive domain with 4 snapshots"
    assert error.code == 55
    await rpc.call("domain.undefine", domain="test", flags=["snapshots-metadata"])
    assert running.store.load().hierarchies == []


async def test_an_active_domain_keeps_its_snapshots_until_it_ends(running: Running, rpc: Rpc) -> None:
    await grow(rpc)
    await rpc.call("domain.undefine", domain="test")
    assert len(await rpc.tree()) == 4
    await rpc.call("event.subscribe", filter={"kinds": ["snapshot.discarded"]})
    await rpc.call("domain.destroy", domain="test")
    assert (await rpc.refusal("snapshot.list", domain="test")).code == 42
    assert [event["kind"] for event in await rpc.events()] == ["snapshot.discarded"]
    assert running.store.load().hierarchies == []


async def test_the_hierarchy_of_a_transient_domain_goes_with_it_and_comes_back_by_redefining(
    running: Running, rpc: Rpc, transient: str
) -> None:
    contents = running.driver.contents(running.domain(transient))
    contents.memory = 42
    await rpc.take("s1", domain=transient)
    saved = await document(rpc, "s1", transient)
    await rpc.call("domain.destroy", domain=transient)
    assert running.store.load().hierarchies == []

    await rpc.call("domain.create", xml=TRANSIENT)
    assert await rpc.tree(transient) == {}
    await redefine(rpc, saved, "current", domain=transient)
    await rpc.call("snapshot.revert", domain=transient, snapshot="s1")
    assert running.driver.contents(running.domain(transient)).memory == 42


async def test_stale_snapshots_are_never_given_to_a_new_domain_of_the_name(rpc: Rpc, transient: str) -> None:
    await rpc.take("s1", domain=transient)
    saved = await document(rpc, "s1", transient)
    await rpc.call("domain.destroy", domain=transient)
    await rpc.call("domain.create", xml=TRANSIENT.replace("11111111-", "99999999-"))
    error = await rpc.refusal("snapshot.create", domain=transient, xml=saved, flags=["redefine"])
    assert "must use uuid 99999999" in str(error)
