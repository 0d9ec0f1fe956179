"""domain.rename: another name for the same domain, with all that it has."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.daemon import running_daemon, settings, stored
from tests.support.rpc import until
from tests.support.snapshots import TRANSIENT, UUID, document, redefine

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.daemon import Running
    from tests.support.rpc import Rpc

OTHER = TRANSIENT.replace("brief", "other")


@pytest.fixture
async def off(rpc: Rpc) -> Rpc:
    """Return a client whose default domain is shut off."""
    await rpc.call("domain.destroy", domain="test")
    return rpc


async def rename(rpc: Rpc, old: str, new: str) -> str:
    name: str = (await rpc.call("domain.rename", domain=old, name=new))["domain"]["name"]
    return name


async def definition_of(rpc: Rpc, name: str) -> str:
    xml: str = (await rpc.call("domain.xml", domain=name, flags=["inactive", "secure"]))["xml"]
    return xml


async def names(rpc: Rpc) -> list[str]:
    return [domain["name"] for domain in (await rpc.call("domain.list"))["domains"]]


async def test_a_renamed_domain_is_found_by_its_new_name_only(off: Rpc) -> None:
    assert await rename(off, "test", "x") == "x"
    assert await names(off) == ["x"]
    assert (await off.call("domain.info", domain="x"))["domain"]["uuid"] == UUID
    assert (await off.call("domain.info", domain=UUID))["domain"]["name"] == "x"
    assert (await off.refusal("domain.info", domain="test")).code == 42
    assert "<name>x</name>" in (await off.call("domain.xml", domain="x"))["xml"]


@pytest.mark.checklist(270)
async def test_both_events_of_a_rename_carry_the_right_name(off: Rpc) -> None:
    await off.call("event.subscribe")
    await rename(off, "test", "x")
    assert [
        (event["domain"], event["uuid"], event["lifecycle"], event["detail"]) for event in await off.events()
    ] == [("test", UUID, "undefined", "renamed"), ("x", UUID, "defined", "renamed")]


async def test_the_snapshots_stay_with_a_renamed_domain(running: Running, off: Rpc) -> None:
    for name in ("s1", "s2"):
        await off.take(name)
    hierarchy = running.domain().hierarchy
    digest, generation = hierarchy.digest, hierarchy.generation
    await rename(off, "test", "x")
    hierarchy = running.domain("x").hierarchy
    assert (hierarchy.digest, hierarchy.generation) == (digest, generation)
    assert await off.tree("x") == {"s1": None, "s2": "s1"}
    assert await off.current("x") == "s2"
    assert "<name>test</name>" in await document(off, "s1", "x")


async def test_a_rename_survives_a_restart(short_tmp: Path) -> None:
    async with running_daemon(settings(short_tmp)) as running, running.client() as rpc:
        await rpc.call("domain.destroy", domain="test")
        await rpc.take("s1")
        await rename(rpc, "test", "x")
        before = await rpc.picture()
    assert [row.name for row in stored(short_tmp / "s").domains] == ["x"]
    async with running_daemon(settings(short_tmp)) as running, running.client() as rpc:
        assert await rpc.picture() == before
        assert (await rpc.refusal("domain.info", domain="test")).code == 42


async def test_the_old_name_is_free_at_once_and_can_come_back(off: Rpc) -> None:
    definition = await definition_of(off, "test")
    await rename(off, "test", "x")
    await off.call("domain.define", xml=definition.replace(UUID, UUID.replace("6", "7")))
    assert await names(off) == ["test", "x"]
    await off.call("domain.undefine", domain="test")
    await rename(off, "x", "test")
    assert await names(off) == ["test"]
    assert (await off.call("domain.xml", domain="test", flags=["secure"]))["xml"] == definition


@pytest.mark.parametrize("end", ["running", "shutoff"])
async def test_a_revert_keeps_the_new_name(running: Running, off: Rpc, end: str) -> None:
    await off.take("off")
    await off.call("domain.start", domain="test")
    await off.take("on")
    await off.call("domain.destroy", domain="test")
    await rename(off, "test", "x")
    await off.call("snapshot.revert", domain="x", snapshot="on" if end == "running" else "off")
    assert (await off.call("domain.info", domain="x"))["domain"]["state"] == end
    for flags in ([], ["inactive"]):
        text = (await off.call("domain.xml", domain="x", flags=flags))["xml"]
        assert "<name>x</name>" in text
        assert "<name>test</name>" not in text
    assert await names(off) == ["x"]
    assert running.domain("x").definition.name == "x"


async def test_a_revert_keeps_the_new_name_in_the_definition_for_the_next_start(off: Rpc) -> None:
    definition = await definition_of(off, "test")
    await off.call("domain.start", domain="test")
    await off.call("domain.define", xml=definition.replace("2097152", "1048576"))
    await off.take("both")
    await off.call("domain.destroy", domain="test")
    await rename(off, "test", "x")
    await off.call("snapshot.revert", domain="x", snapshot="both")
    live = (await off.call("domain.xml", domain="x"))["xml"]
    next_start = (await off.call("domain.xml", domain="x", flags=["inactive"]))["xml"]
    assert "<name>x</name>" in live
    assert "2097152" in live
    assert "<name>x</name>" in next_start
    assert "1048576" in next_start


async def test_a_record_of_before_the_rename_is_redefined_under_the_old_name_only(
    running: Running, off: Rpc
) -> None:
    await off.take("s1")
    text = await document(off, "s1")
    await rename(off, "test", "x")
    await redefine(off, text, domain="x")
    other = text.replace("<name>test</name>", "<name>x</name>")
    with running.nothing_changes("x"):
        error = await off.refusal("snapshot.create", domain="x", xml=other, flags=["redefine"])
    assert error.code == 67
    assert str(error).endswith("Target domain name 'x' does not match source 'test'")


@pytest.mark.parametrize(
    ("name", "code", "message"),
    [
        ("", 8, "invalid argument: string name in domain.rename must not be empty"),
        ("test", 55, "Requested operation is not valid: Can't rename domain to itself"),
        ("other", 55, "Requested operation is not valid: domain with name 'other' already exists"),
        ("a/b", 27, "XML error: name a/b cannot contain '/'"),
        ("a\nb", 35, "invalid char in name: a?b"),
        ("..", 27, "XML error: name .. is not possible: it would name a folder"),
        ("n" * 256, 27, f"XML error: name {'n' * 32}... is longer than 255 bytes"),
    ],
)
async def test_a_name_that_cannot_be_had_changes_nothing(
    running: Running, off: Rpc, name: str, code: int, message: str
) -> None:
    await off.call("domain.define", xml=OTHER)
    with running.nothing_changes():
        error = await off.refusal("domain.rename", domain="test", name=name)
    assert (error.code, str(error)) == (code, message)


@pytest.mark.checklist(189)
@pytest.mark.parametrize("name", ["x", "test", "other", "a/b"])
async def test_a_running_domain_is_not_renamed_whatever_the_name(
    running: Running, rpc: Rpc, name: str
) -> None:
    await rpc.call("domain.define", xml=OTHER)
    with running.nothing_changes():
        error = await rpc.refusal("domain.rename", domain="test", name=name)
    assert str(error) == "Requested operation is not valid: cannot rename active domain"


@pytest.mark.checklist(189)
async def test_a_transient_domain_is_not_renamed(running: Running, rpc: Rpc, transient: str) -> None:
    with running.nothing_changes(transient):
        error = await rpc.refusal("domain.rename", domain=transient, name="x")
    assert str(error) == "Requested operation is not valid: cannot rename active domain"


async def test_two_domains_do_not_get_the_same_name(running: Running, off: Rpc) -> None:
    await off.call("domain.define", xml=OTHER)
    begun = [await off.begin("domain.rename", domain=name, name="x") for name in ("test", "other")]
    answers = [await off.answer(identity) for identity in begun]
    (refused,) = [answer["error"] for answer in answers if "error" in answer]
    assert refused["message"] == "Requested operation is not valid: domain with name 'x' already exists"
    assert sorted(await names(off)) in (["other", "x"], ["test", "x"])


async def test_a_definition_that_waited_behind_a_rename_is_refused(running: Running, off: Rpc) -> None:
    definition = await definition_of(off, "test")
    domain = running.domain()
    async with domain.lock.wait("the test"):
        renaming = await off.begin("domain.rename", domain="test", name="x")
        await until(lambda: domain.lock._lock.statistics().tasks_waiting == 1)
        defining = await off.begin("domain.define", xml=definition)
        await until(lambda: domain.lock._lock.statistics().tasks_waiting == 2)
    await off.result(renaming)
    error = (await off.answer(defining))["error"]
    assert error["message"] == f"operation failed: domain 'x' is already defined with uuid {UUID}"
    assert (await off.refusal("domain.create", xml=definition)).kind == "domain-exists"
    assert running.domain("x").definition.name == "x"


async def test_a_rename_that_cannot_be_stored_changes_nothing(running: Running, off: Rpc) -> None:
    running.store._connection.execute("PRAGMA query_only = 1")
    with running.nothing_changes():
        assert (await off.refusal("domain.rename", domain="test", name="x")).kind == "storage-error"
    running.store._connection.execute("PRAGMA query_only = 0")
    assert await names(off) == ["test"]
    assert await rename(off, "test", "x") == "x"


async def test_a_domain_that_is_gone_says_so_under_its_new_name(running: Running, off: Rpc) -> None:
    await rename(off, "test", "x")
    domain = running.domain("x")
    async with domain.lock.wait("the test"):
        undefining = await off.begin("domain.undefine", domain="x")
        await until(lambda: domain.lock._lock.statistics().tasks_waiting == 1)
        late = await off.begin("domain.rename", domain="x", name="y")
        await until(lambda: domain.lock._lock.statistics().tasks_waiting == 2)
    await off.result(undefining)
    error = (await off.answer(late))["error"]
    assert error["message"] == "Domain not found: no domain with matching name 'x'"
