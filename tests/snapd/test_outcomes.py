"""Every change has one outcome, which is recorded: whatever fails, is cancelled or comes in between."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.daemon import Gate, operations, running_daemon, settings
from tests.support.snapshots import TRANSIENT
from virtsnap_protocol.errors import Error
from virtsnapd.drivers.simulated.driver import SimulatedDriver
from virtsnapd.drivers.simulated.faults import Fault

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from tests.support.daemon import Running
    from tests.support.rpc import Rpc
    from virtsnapd.domain import Domain


async def failure(rpc: Rpc, identity: int) -> Error:
    """Return the error that a call ends with."""
    with pytest.raises(Error) as caught:
        await rpc.result(identity)
    return caught.value


def write_protect(running: Running, *, on: bool) -> None:
    """Let the store refuse every change, as a full disk does, or no more."""
    running.store._connection.execute(f"PRAGMA query_only = {int(on)}")


async def test_a_domain_that_is_being_made_cannot_be_changed_before_it_is_recorded(
    running: Running, rpc: Rpc, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = Gate(running, "resume")
    creating = await rpc.begin("domain.create", xml=TRANSIENT)
    await gate.entered.wait()
    async with running.client() as other:
        assert (await other.refusal("domain.suspend", domain="brief")).kind == "domain-busy"
        assert (await other.refusal("domain.define", xml=TRANSIENT)).kind == "domain-busy"
        gate.opened.set()
        await rpc.result(creating)
        await other.call("domain.destroy", domain="brief")
        assert (await other.refusal("domain.info", domain="brief")).kind == "no-domain"


async def test_a_domain_that_is_destroyed_while_it_starts_does_not_come_back(
    running: Running, rpc: Rpc, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = Gate(running, "resume")
    running.driver.faults.inject("resume", Fault(error="it does not run"))
    creating = await rpc.begin("domain.create", xml=TRANSIENT)
    await gate.entered.wait()
    async with running.client() as other:
        destroying = await other.begin("domain.destroy", domain="brief")
        await other.call("connection.ping")
        gate.opened.set()
        assert (await failure(rpc, creating)).cause == "it does not run"
        await other.answer(destroying)
        assert (await other.refusal("domain.info", domain="brief")).kind == "no-domain"
    await rpc.call("domain.create", xml=TRANSIENT)


async def test_destroying_overrules_an_operation_that_is_stuck(
    running: Running, rpc: Rpc, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = Gate(running, "take")

    async def interrupt(_domain: Domain) -> None:
        gate.opened.set()  # a real guest that is killed fails what is asked of it

    monkeypatch.setattr(running.driver, "interrupt", interrupt)
    taking = await rpc.begin("snapshot.create", domain="test", xml="<domainsnapshot/>")
    await gate.entered.wait()
    async with running.client() as other:
        assert (await other.refusal("domain.suspend", domain="test")).kind == "domain-busy"
        await other.call("domain.destroy", domain="test")
        assert (await other.call("domain.info", domain="test"))["domain"]["state"] == "shutoff"
    await rpc.answer(taking)


async def test_a_revert_that_cannot_be_recorded_is_owed_and_recorded_later(
    running: Running, rpc: Rpc, monkeypatch: pytest.MonkeyPatch
) -> None:
    await rpc.take("s1")
    await rpc.take("s2")
    gate = Gate(running, "revert")
    reverting = await rpc.begin("snapshot.revert", domain="test", snapshot="s1")
    await gate.entered.wait()
    write_protect(running, on=True)
    gate.opened.set()
    error = await failure(rpc, reverting)
    assert error.kind == "storage-error"
    assert error.remedy is not None
    assert "it is done" in error.remedy
    assert (await rpc.refusal("domain.suspend", domain="test")).kind == "storage-error"
    write_protect(running, on=False)
    await rpc.call("domain.suspend", domain="test")
    assert (await rpc.call("snapshot.current", domain="test"))["snapshot"]["name"] == "s1"
    assert operations(running.config.state_dir) == []


async def test_a_guest_that_runs_after_a_revert_is_not_reverted_again_at_the_next_start(
    short_tmp: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running_daemon(settings(short_tmp)) as running, running.client() as rpc:
        await rpc.take("s1")
        gate = Gate(running, "resume")
        reverting = await rpc.begin("snapshot.revert", domain="test", snapshot="s1")
        await gate.entered.wait()
        assert operations(short_tmp / "s") == [("resume", "s1")]
        write_protect(running, on=True)
        gate.opened.set()
        await failure(rpc, reverting)

    async def revert(*_arguments: object, **_named: object) -> bytes | None:
        raise AssertionError("the guest has gone on since")

    monkeypatch.setattr(SimulatedDriver, "revert", revert)
    async with running_daemon(settings(short_tmp)) as running, running.client() as rpc:
        info = (await rpc.call("domain.info", domain="test"))["domain"]
        assert (info["state"], info["current_snapshot"], info["needs_attention"]) == ("running", "s1", None)
    assert operations(short_tmp / "s") == []


async def test_a_pause_that_cannot_be_recorded_is_taken_back(running: Running, rpc: Rpc) -> None:
    resumed: list[str] = []

    async def resume(domain: Domain) -> None:
        resumed.append(domain.name)

    running.driver.resume = resume  # type: ignore[method-assign]
    write_protect(running, on=True)
    assert (await rpc.refusal("domain.suspend", domain="test")).kind == "storage-error"
    write_protect(running, on=False)
    assert resumed == ["test"]
    assert (await rpc.call("domain.info", domain="test"))["domain"]["state"] == "running"


async def test_a_cancelled_pause_is_carried_through_and_recorded(
    running: Running, rpc: Rpc, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = Gate(running, "suspend")
    suspending = await rpc.begin("domain.suspend", domain="test")
    await gate.entered.wait()
    await rpc.send(b'{"jsonrpc":"2.0","method":"$/cancelRequest","params":{"id":%d}}\n' % suspending)
    await rpc.call("connection.ping")
    gate.opened.set()
    await rpc.answer(suspending)
    assert (await rpc.call("domain.info", domain="test"))["domain"]["state"] == "paused"


async def test_a_halt_saves_the_moment_at_which_the_guest_stops(
    running: Running, rpc: Rpc, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []
    for step in ("suspend", "take", "resume"):
        real = getattr(running.driver, step)

        async def noted(
            *arguments: object, step: str = step, real: Callable[..., Awaitable[object]] = real
        ) -> None:
            calls.append(step)
            await real(*arguments)

        monkeypatch.setattr(running.driver, step, noted)
    await rpc.call("snapshot.create", domain="test", xml="<domainsnapshot/>", flags=["halt"])
    assert calls == ["suspend", "take"]
    assert (await rpc.call("domain.info", domain="test"))["domain"]["state"] == "shutoff"


async def test_a_guest_that_was_stopped_for_a_halt_that_failed_runs_on(
    running: Running, rpc: Rpc, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = Gate(running, "resume")
    gate.opened.set()
    running.driver.faults.inject("take", Fault(error="no room"))
    await rpc.refusal("snapshot.create", domain="test", xml="<domainsnapshot/>", flags=["halt"])
    assert gate.entered.is_set()
    assert (await rpc.call("domain.info", domain="test"))["domain"]["state"] == "running"
