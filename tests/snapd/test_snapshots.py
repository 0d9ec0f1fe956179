from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

import pytest

from tests.support.daemon import operations
from tests.support.snapshots import TRANSIENT, document, grow, record, redefine
from virtsnapd.drivers.simulated.faults import Fault

if TYPE_CHECKING:
    from tests.support.daemon import Running
    from tests.support.rpc import Rpc

C: Final = "VIR_DOMAIN_SNAPSHOT_CREATE_"
EMPTY: Final = "<domainsnapshot/>"


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
    ],
)
async def test_contradicting_flags_are_refused_before_the_document_is_looked_at(
    running: Running, rpc: Rpc, flags: list[str], message: str
) -> None:
    with running.nothing_changes():
        error = await rpc.refusal("snapshot.create", domain="test", xml="<nonsense", flags=flags)
    assert (error.code, str(error)) == (8, message)


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
    assert (
        str(delete)
        == f"Flags '{prefix}DELETE_CHILDREN' and '{prefix}DELETE_CHILDREN_ONLY' are mutually exclusive"
    )
    assert (revert.code, delete.code) == (8, 8)


# --- create ---


@pytest.mark.checklist(85, 86)
async def test_the_first_snapshot_is_a_root_and_each_further_one_a_child_of_the_current(rpc: Rpc) -> None:
    await grow(rpc)
    assert await rpc.tree() == {"s1": None, "s2": "s1", "s3": "s2", "s4": "s1"}
    assert await rpc.current() == "s4"


@pytest.mark.parametrize(
    "xml",
    [
        pytest.param(EMPTY, marks=pytest.mark.checklist(23)),
        pytest.param("<domainsnapshot><name></name></domainsnapshot>", marks=pytest.mark.checklist(24)),
    ],
)
async def test_a_snapshot_without_a_name_is_called_after_its_second(rpc: Rpc, xml: str) -> None:
    before = int(time.time())
    made = (await rpc.call("snapshot.create", domain="test", xml=xml))["snapshot"]
    assert made["name"] == str(made["creation_time"])
    assert before <= made["creation_time"] <= time.time()


@pytest.mark.checklist(25, ours="the second gets a name of its own: its second, `-` and a number")
async def test_two_snapshots_without_names_do_not_collide(rpc: Rpc) -> None:
    names = {
        (await rpc.call("snapshot.create", domain="test", xml=EMPTY))["snapshot"]["name"] for _ in range(3)
    }
    assert len(names) == 3


@pytest.mark.checklist(28)
async def test_a_request_s_own_parent_state_time_and_domain_are_not_believed(
    rpc: Rpc, definition: str
) -> None:
    await rpc.take("s1")
    other = definition.replace("<name>test</name>", "<name>other</name>")
    made = await rpc.call(
        "snapshot.create",
        domain="test",
        xml=record("s2", state="shutoff", parent="nobody", domain=other),
    )
    assert made["snapshot"]["parent"] == "s1"
    assert made["snapshot"]["state"] == "running"
    assert made["snapshot"]["creation_time"] > 1000
    assert (await document(rpc, "s2")).count("<name>test</name>") == 1


@pytest.mark.checklist(108)
async def test_a_name_that_is_taken_is_refused(running: Running, rpc: Rpc) -> None:
    await rpc.take("s1")
    with running.nothing_changes():
        error = await rpc.refusal(
            "snapshot.create", domain="test", xml="<domainsnapshot><name>s1</name></domainsnapshot>"
        )
    assert (error.code, error.kind) == (9, "snapshot-exists")
    assert str(error) == "operation failed: domain moment s1 already exists"


async def test_a_snapshot_without_metadata_is_taken_and_forgotten(running: Running, rpc: Rpc) -> None:
    with running.nothing_changes():
        made = await rpc.take("s1", "no-metadata")
    assert made["snapshot"]["has_metadata"] is False
    assert await rpc.tree() == {}
    assert set(running.driver.contents(running.domain()).saved) == {"s1"}


@pytest.mark.checklist(205)
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


async def test_an_unknown_element_is_refused_only_where_validation_is_asked_for(
    running: Running, rpc: Rpc
) -> None:
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


async def test_what_a_failed_take_leaves_in_the_data_goes_before_the_next_change(
    running: Running, rpc: Rpc
) -> None:
    running.driver.faults.inject("take", Fault(error="first"))
    running.driver.faults.inject("discard", Fault(error="second"))
    error = await rpc.refusal("snapshot.create", domain="test", xml=EMPTY)
    assert error.cause == "first"
    assert [verb for verb, _ in operations(running.config.state_dir)] == ["take"]
    await rpc.take("s2")
    assert operations(running.config.state_dir) == []
    assert (await rpc.call("domain.info", domain="test"))["domain"]["needs_attention"] is None


async def test_what_cannot_be_removed_at_all_needs_attention(running: Running, rpc: Rpc) -> None:
    running.driver.faults.inject("take", Fault(error="first"))
    for words in ("second", "third"):
        running.driver.faults.inject("discard", Fault(error=words))
    await rpc.refusal("snapshot.create", domain="test", xml=EMPTY)
    await rpc.take("s2")
    info = (await rpc.call("domain.info", domain="test"))["domain"]
    assert "the take of snapshot" in info["needs_attention"]
    assert "third" in info["needs_attention"]


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


# --- looking at them ---


@pytest.mark.checklist(87, 89)
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
    assert {(found.code, found.kind) for found in (current, unknown, parent)} == {(72, "no-domain-snapshot")}


@pytest.mark.checklist(87)
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


# --- domains with snapshots ---


async def test_an_inactive_domain_with_snapshots_is_not_undefined_by_accident(
    running: Running, rpc: Rpc
) -> None:
    await grow(rpc)
    await rpc.call("domain.destroy", domain="test")
    with running.nothing_changes():
        error = await rpc.refusal("domain.undefine", domain="test")
    assert str(error) == "Requested operation is not valid: cannot delete inactive domain with 4 snapshots"
    assert error.code == 55
    await rpc.call("domain.undefine", domain="test", flags=["snapshots-metadata"])
    assert running.store.load().hierarchies == []


@pytest.mark.checklist(206)
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
