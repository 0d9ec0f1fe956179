"""snapshot.edit: a record replaced under its name, renamed, or cloned; metadata only, in one step."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.support.daemon import operations, running_daemon, settings, stored
from tests.support.snapshots import document, grow, record, redefine
from virtsnapd.drivers.simulated.faults import Fault

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.daemon import Running
    from tests.support.rpc import Frame, Rpc
    from virtsnap_protocol.errors import Error

GROWN = {"s1": None, "s2": "s1", "s3": "s2", "s4": "s1"}
"""What `grow` makes; s4 is current."""


async def renamed(rpc: Rpc, name: str, other: str) -> str:
    """Return a snapshot's document under another name."""
    return (await document(rpc, name)).replace(f"<name>{name}</name>", f"<name>{other}</name>", 1)


async def edit(rpc: Rpc, name: str, xml: str, *flags: str) -> Frame:
    return (await rpc.call("snapshot.edit", domain="test", snapshot=name, xml=xml, flags=list(flags)))[
        "snapshot"
    ]


async def refusal(rpc: Rpc, name: str, xml: str, *flags: str) -> Error:
    return await rpc.refusal("snapshot.edit", domain="test", snapshot=name, xml=xml, flags=list(flags))


async def told(rpc: Rpc) -> list[tuple[str, str | None, str | None, str | None]]:
    """Return kind, snapshot, former name and parent of the events since the last look."""
    return [
        (event["kind"], event.get("snapshot"), event.get("former"), event.get("parent"))
        for event in await rpc.events()
    ]


# --- the same name ---


async def test_a_record_edited_under_its_name_keeps_its_place_and_its_children(rpc: Rpc) -> None:
    await grow(rpc)
    await rpc.call("event.subscribe")
    text = (await document(rpc, "s2")).replace(
        "<name>s2</name>", "<name>s2</name><description>x</description>"
    )
    assert (await edit(rpc, "s2", text))["description"] == "x"
    assert (await rpc.tree(), await rpc.current()) == (GROWN, "s4")
    assert await told(rpc) == [("snapshot.redefined", "s2", None, "s1")]


@pytest.mark.parametrize("flags", [["rename"], ["clone"]])
async def test_the_same_name_is_no_other_name_whatever_the_flags(rpc: Rpc, flags: list[str]) -> None:
    await grow(rpc)
    before = await rpc.picture()
    await edit(rpc, "s2", await document(rpc, "s2"), *flags)
    after = await rpc.picture()
    assert after["documents"] == before["documents"]


async def test_an_edited_snapshot_becomes_current_when_asked(rpc: Rpc) -> None:
    await grow(rpc)
    await rpc.call("event.subscribe")
    assert (await edit(rpc, "s2", await document(rpc, "s2"), "current"))["current"]
    assert await rpc.current() == "s2"
    assert [event[:2] for event in await told(rpc)] == [
        ("snapshot.redefined", "s2"),
        ("snapshot.current-changed", "s2"),
    ]


# --- rename ---


async def test_a_renamed_snapshot_keeps_its_children_and_its_parent(rpc: Rpc) -> None:
    await grow(rpc)
    await rpc.call("event.subscribe")
    before = (await rpc.call("snapshot.list", domain="test"))["generation"]
    info = await edit(rpc, "s2", await renamed(rpc, "s2", "x"), "rename")
    assert (info["name"], info["parent"], info["children"], info["current"]) == ("x", "s1", 1, False)
    assert await rpc.tree() == {"s1": None, "x": "s1", "s3": "x", "s4": "s1"}
    assert await rpc.current() == "s4"
    assert (await rpc.call("snapshot.list", domain="test"))["generation"] == before + 1
    assert await told(rpc) == [("snapshot.renamed", "x", "s2", "s1")]
    assert (await rpc.refusal("snapshot.get", domain="test", snapshot="s2")).code == 72


async def test_a_renamed_current_snapshot_stays_current(rpc: Rpc) -> None:
    await grow(rpc)
    await rpc.call("event.subscribe")
    assert (await edit(rpc, "s4", await renamed(rpc, "s4", "x"), "rename"))["current"]
    assert await rpc.current() == "x"
    assert [event[:3] for event in await told(rpc)] == [
        ("snapshot.renamed", "x", "s4"),
        ("snapshot.current-changed", "x", None),
    ]


async def test_a_renamed_snapshot_becomes_current_when_asked(rpc: Rpc) -> None:
    await grow(rpc)
    await edit(rpc, "s2", await renamed(rpc, "s2", "x"), "rename", "current")
    assert await rpc.current() == "x"


async def test_a_renamed_snapshot_can_get_another_parent(rpc: Rpc) -> None:
    await grow(rpc)
    text = (await renamed(rpc, "s2", "x")).replace(
        "<parent>\n    <name>s1</name>", "<parent>\n    <name>s4</name>"
    )
    await edit(rpc, "s2", text, "rename")
    assert await rpc.tree() == {"s1": None, "x": "s4", "s3": "x", "s4": "s1"}


async def test_a_rename_survives_a_restart(short_tmp: Path) -> None:
    async with running_daemon(settings(short_tmp)) as running, running.client() as rpc:
        await grow(rpc)
        await edit(rpc, "s4", await renamed(rpc, "s4", "x"), "rename")
        before, digest = await rpc.picture(), running.domain().hierarchy.digest
    stored(short_tmp / "s")
    async with running_daemon(settings(short_tmp)) as running, running.client() as rpc:
        assert await rpc.picture() == before
        assert running.domain().hierarchy.digest == digest


# --- clone ---


async def test_a_clone_is_a_second_record_beside_the_first(rpc: Rpc) -> None:
    await grow(rpc)
    await rpc.call("event.subscribe")
    info = await edit(rpc, "s2", await renamed(rpc, "s2", "x"), "clone")
    assert (info["name"], info["parent"], info["children"]) == ("x", "s1", 0)
    assert await rpc.tree() == {**GROWN, "x": "s1"}
    assert await rpc.current() == "s4"
    assert await told(rpc) == [("snapshot.redefined", "x", None, "s1")]
    assert (await document(rpc, "x")).replace("<name>x</name>", "<name>s2</name>").replace(
        "  <virtsnap:data xmlns:virtsnap='urn:virtsnap:snapshot:1' name='s2'/>\n", ""
    ) == await document(rpc, "s2")


# --- the data ---


async def saved(running: Running, number: int, rpc: Rpc, name: str) -> None:
    """Take a snapshot of a guest that has `number` in its memory and on its disks."""
    contents = running.driver.contents(running.domain())
    contents.memory = contents.disks = number
    await rpc.take(name)


async def reverted(running: Running, rpc: Rpc, name: str) -> int:
    """Return the number that a revert brings back."""
    contents = running.driver.contents(running.domain())
    contents.memory = contents.disks = 0
    await rpc.call("snapshot.revert", domain="test", snapshot=name)
    assert contents.memory == contents.disks
    return contents.disks


async def test_a_revert_finds_the_data_of_a_renamed_snapshot(running: Running, rpc: Rpc) -> None:
    await saved(running, 1, rpc, "a")
    await saved(running, 2, rpc, "b")
    await edit(rpc, "a", await renamed(rpc, "a", "x"), "rename")
    await edit(rpc, "x", await renamed(rpc, "x", "y"), "rename")
    assert await reverted(running, rpc, "y") == 1
    assert await reverted(running, rpc, "b") == 2


async def test_a_renamed_snapshot_is_deleted_with_its_data(running: Running, rpc: Rpc) -> None:
    await saved(running, 1, rpc, "a")
    await edit(rpc, "a", await renamed(rpc, "a", "x"), "rename")
    await rpc.call("snapshot.delete", domain="test", snapshot="x")
    assert running.driver.contents(running.domain()).saved == {}


@pytest.mark.parametrize("order", [["a", "x", "y"], ["x", "y", "a"], ["y", "a", "x"]])
async def test_data_goes_with_the_last_record_that_needs_it(
    running: Running, rpc: Rpc, order: list[str]
) -> None:
    await saved(running, 1, rpc, "a")
    for clone in ("x", "y"):
        await edit(rpc, "a", await renamed(rpc, "a", clone), "clone")
    contents = running.driver.contents(running.domain())
    while order:
        assert await reverted(running, rpc, order[-1]) == 1
        await rpc.call("snapshot.delete", domain="test", snapshot=order.pop(0))
        assert list(contents.saved) == (["a"] if order else [])
    assert await rpc.tree() == {}


async def test_a_subtree_that_shares_its_data_is_deleted_with_it(running: Running, rpc: Rpc) -> None:
    await saved(running, 1, rpc, "a")
    below = (await renamed(rpc, "a", "x")).replace(
        "<creationTime>", "<parent><name>a</name></parent><creationTime>"
    )
    await edit(rpc, "a", below, "clone")
    await rpc.call("snapshot.delete", domain="test", snapshot="a", flags=["children"])
    assert running.driver.contents(running.domain()).saved == {}


@pytest.mark.parametrize("flags", [[], ["no-metadata"]])
async def test_the_data_of_a_renamed_snapshot_is_not_overwritten(
    running: Running, rpc: Rpc, flags: list[str]
) -> None:
    await saved(running, 1, rpc, "a")
    await edit(rpc, "a", await renamed(rpc, "a", "x"), "rename")
    xml = "<domainsnapshot><name>a</name></domainsnapshot>"
    with running.nothing_changes():
        error = await rpc.refusal("snapshot.create", domain="test", xml=xml, flags=flags)
    assert str(error) == "operation failed: snapshot 'x' has its data under the name 'a'"
    assert error.remedy == "choose another name"
    assert await reverted(running, rpc, "x") == 1


async def test_a_generated_name_avoids_the_data_of_renamed_snapshots(
    rpc: Rpc, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("virtsnapd.handlers.snapshot.time.time", lambda: 1234.5)
    await rpc.call("snapshot.create", domain="test", xml="<domainsnapshot/>")
    await edit(rpc, "1234", await renamed(rpc, "1234", "x"), "rename")
    made = await rpc.call("snapshot.create", domain="test", xml="<domainsnapshot/>")
    assert made["snapshot"]["name"] == "1234-2"


async def test_a_renamed_snapshot_can_be_redefined_from_its_dump(running: Running, rpc: Rpc) -> None:
    await saved(running, 1, rpc, "a")
    await edit(rpc, "a", await renamed(rpc, "a", "x"), "rename")
    text, digest = await document(rpc, "x"), running.domain().hierarchy.digest
    await redefine(rpc, text, "validate")
    assert running.domain().hierarchy.digest == digest
    await rpc.call("snapshot.delete", domain="test", snapshot="x", flags=["metadata-only"])
    await redefine(rpc, text, "validate", "current")
    assert running.domain().hierarchy.digest == digest
    assert await reverted(running, rpc, "x") == 1


async def test_what_an_interrupted_delete_left_is_not_taken_from_a_clone(short_tmp: Path) -> None:
    async with running_daemon(settings(short_tmp)) as running, running.client() as rpc:
        await saved(running, 1, rpc, "a")
        await edit(rpc, "a", await renamed(rpc, "a", "x"), "clone")
        record = running.domain().hierarchy.forest.get("a")
        running.store._connection.execute("PRAGMA query_only = 1")
        error = await rpc.refusal("snapshot.delete", domain="test", snapshot="a")
        running.store._connection.execute("PRAGMA query_only = 0")
        assert error.kind == "storage-error"
        assert running.domain().hierarchy.forest.get("a") == record
        assert list(running.driver.contents(running.domain()).saved) == ["a"]
        await rpc.call("snapshot.delete", domain="test", snapshot="a")
        assert list(running.driver.contents(running.domain()).saved) == ["a"]
        assert await reverted(running, rpc, "x") == 1
    assert operations(short_tmp / "s") == []


async def test_a_failed_take_does_not_touch_the_data_of_others(running: Running, rpc: Rpc) -> None:
    await saved(running, 1, rpc, "a")
    await edit(rpc, "a", await renamed(rpc, "a", "x"), "rename")
    running.driver.faults.inject("take", Fault(error="no room"))
    with running.nothing_changes():
        await rpc.refusal(
            "snapshot.create", domain="test", xml="<domainsnapshot><name>b</name></domainsnapshot>"
        )
    assert await reverted(running, rpc, "x") == 1


# --- refusals ---


async def test_another_name_must_be_meant(running: Running, rpc: Rpc) -> None:
    await grow(rpc)
    text = await renamed(rpc, "s2", "x")
    with running.nothing_changes():
        error = await refusal(rpc, "s2", text)
    assert (error.code, str(error)) == (8, "Must use --rename or --clone to change s2 to x")


@pytest.mark.parametrize("flag", ["rename", "clone"])
async def test_a_taken_name_is_refused(running: Running, rpc: Rpc, flag: str) -> None:
    await grow(rpc)
    text = await renamed(rpc, "s2", "s3")
    with running.nothing_changes():
        error = await refusal(rpc, "s2", text, flag)
    assert (error.kind, error.code) == ("snapshot-exists", 9)
    assert str(error) == "operation failed: domain moment s3 already exists"


async def test_rename_and_clone_exclude_each_other(running: Running, rpc: Rpc) -> None:
    await grow(rpc)
    with running.nothing_changes():
        error = await refusal(rpc, "s2", "<nonsense", "clone", "rename")
    assert (error.kind, str(error)) == (
        "invalid-flags",
        "Flags 'rename' and 'clone' are mutually exclusive",
    )


async def test_what_is_to_be_edited_is_looked_up_first(rpc: Rpc) -> None:
    params: dict[str, Any] = {"xml": "<nonsense", "flags": ["rename", "clone"]}
    error = await rpc.refusal("snapshot.edit", domain="nobody", snapshot="x", **params)
    assert error.code == 42
    error = await rpc.refusal("snapshot.edit", domain="test", snapshot="x", **params)
    assert (error.code, error.domain) == (72, "test")


@pytest.mark.parametrize("flags", [[], ["rename"], ["clone"], ["rename", "current"]])
@pytest.mark.parametrize(
    ("old", "new", "code", "message"),
    [
        ("<domainsnapshot>", "<nonsense>", 35, "Opening and ending tag mismatch"),
        ("<name>s2</name>", "", 27, "a redefined snapshot must have a name"),
        ("<state>running", "<state>nowhere", 67, "Invalid state 'nowhere'"),
        ("<parent>\n    <name>s1", "<parent>\n    <name>nobody", 8, "parent nobody for moment"),
        ("<uuid>6", "<uuid>7", 8, "must use uuid"),
    ],
)
async def test_a_document_that_cannot_be_recorded_changes_nothing(
    running: Running, rpc: Rpc, flags: list[str], old: str, new: str, code: int, message: str
) -> None:
    await grow(rpc)
    other = bool(flags)
    text = await renamed(rpc, "s2", "x") if other else await document(rpc, "s2")
    old = old.replace("s2", "x") if other else old
    assert old in text
    with running.nothing_changes():
        error = await refusal(rpc, "s2", text.replace(old, new, 1), *flags)
    assert error.code == code
    assert message in str(error)


@pytest.mark.parametrize("name", ["s2", "x"])
async def test_an_edited_snapshot_does_not_get_below_itself(running: Running, rpc: Rpc, name: str) -> None:
    await grow(rpc)
    text = await renamed(rpc, "s2", name)
    below = text.replace("<parent>\n    <name>s1", "<parent>\n    <name>s3")
    with running.nothing_changes():
        error = await refusal(rpc, "s2", below, "rename")
    assert str(error) == f"invalid argument: parent s3 would create cycle to {name}"


async def test_an_edit_follows_the_grammar_when_asked(running: Running, rpc: Rpc, definition: str) -> None:
    await redefine(rpc, record("a", domain=definition))
    text = (await document(rpc, "a")).replace("</domainsnapshot>", "<more/></domainsnapshot>")
    with running.nothing_changes():
        assert (await refusal(rpc, "a", text, "validate")).code == 92
    await edit(rpc, "a", text)


async def test_a_record_that_cannot_be_stored_is_as_it_was(running: Running, rpc: Rpc) -> None:
    await grow(rpc)
    text = await renamed(rpc, "s2", "x")
    running.store._connection.execute("PRAGMA query_only = 1")
    with running.nothing_changes():
        assert (await refusal(rpc, "s2", text, "rename")).kind == "storage-error"
    running.store._connection.execute("PRAGMA query_only = 0")
    assert await rpc.tree() == GROWN


async def test_a_read_only_connection_edits_nothing(running: Running) -> None:
    async with running.client(read_only=True) as rpc:
        with running.nothing_changes():
            error = await refusal(rpc, "s1", "<domainsnapshot/>")
    assert error.code == 29
