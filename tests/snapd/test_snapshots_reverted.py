"""Going back to snapshots: the lifecycle events and states of libvirt's test driver."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import pytest

from tests.support.snapshots import TRANSIENT, grow, record, redefine
from virtsnapd.drivers.simulated.faults import Fault

if TYPE_CHECKING:
    from tests.support.daemon import Running
    from tests.support.rpc import Rpc


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


BOOTS = pytest.mark.checklist(
    204, ours="a snapshot of a domain that was off is really booted when RUNNING or PAUSED asks for it"
)


@pytest.mark.checklist(204, 267, 268)
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
        pytest.param("shutoff", "shutoff", ["running"], [STARTED], "running", marks=BOOTS),
        pytest.param("shutoff", "shutoff", ["paused"], [STARTED, SUSPENDED], "paused", marks=BOOTS),
        pytest.param("running", "shutoff", ["paused"], [STOPPED, STARTED, SUSPENDED], "paused", marks=BOOTS),
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
    stays_off = before == after == "shutoff"
    assert (info["state"], info["reason"]) == (after, "destroyed" if stays_off else "from snapshot")
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
    await rpc.call(
        "domain.define", xml=definition.replace("8388608", "4194304").replace("2097152", "1048576")
    )
    assert (await rpc.call("domain.xml", domain="test", flags=["inactive", "secure"]))["xml"] != definition
    await rpc.call("snapshot.revert", domain="test", snapshot="s1")
    assert (await rpc.call("domain.xml", domain="test", flags=["inactive", "secure"]))["xml"] == definition


@pytest.mark.checklist(209)
async def test_a_transient_domain_does_not_revert_to_an_end(
    running: Running, rpc: Rpc, transient: str
) -> None:
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
    assert (error.code, str(error)) == (
        77,
        "revert requires force: snapshot 's1' lacks domain 'test' rollback info",
    )


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
