"""What becomes of saves and restores that a daemon, or a connection, left without a known outcome."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest
from typing_extensions import override

from tests.support.daemon import operations, running_daemon, settings
from tests.support.saves import (
    MEMORY,
    condition,
    content,
    files,
    info,
    lifecycle,
    managed_file,
    memory,
    saved_as,
    write,
)
from tests.support.snapshots import TRANSIENT
from virtsnap_protocol.errors import HypervisorError, OperationFailed, OutcomeUnknown
from virtsnapd import savefile, saves
from virtsnapd.drivers.simulated.driver import SimulatedDriver
from virtsnapd.savefile import PARTIAL
from virtsnapd.store import SaveOperationRow, SaveTarget, SaveVerb, Transaction

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tests.support.daemon import Running
    from tests.support.rpc import Rpc
    from virtsnap_protocol.methods.domain import DomainState
    from virtsnapd.domain import Domain


class Lost(SimulatedDriver):
    """A hypervisor whose guests end with the daemon."""

    @override
    async def has_guest(self, domain: Domain) -> bool:
        return False


class Watchful(Lost):
    """One that notices that its guests have ended before anything is settled."""

    @override
    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        async with super().running():
            for domain in self.context.domains:
                async with domain.lock.wait("the guest's own end"):
                    await self.context.domains.stopped(domain, saves.LOST)
            yield


class Undying(SimulatedDriver):
    """One whose guests neither answer nor die: in the kernel's hands, as with a dead network disk."""

    dying = False

    @override
    async def check_save(self, domain: Domain) -> None:
        raise OperationFailed("the domain's QEMU does not answer")

    @override
    async def drop(self, domain: Domain) -> None:
        if not self.dying:
            raise OperationFailed("Failed to terminate process 7")


async def leave(
    running: Running,
    verb: SaveVerb,
    path: Path,
    *,
    managed: bool = False,
    final: DomainState = "running",
    temporary: Path | None = None,
    name: str = "test",
) -> None:
    """Write down what a daemon writes down before it does something, and nothing of its end."""
    target = SaveTarget(path=str(path), temporary=str(temporary or path), identity="i1", managed=managed)
    domain, transaction = running.domain(name), Transaction()
    transaction.put_operation(
        SaveOperationRow(driver="test", uuid=domain.uuid, verb=verb, target=target, final=final, started=1)
    )
    await running.store.commit(transaction)


async def leave_whole(running: Running, verb: SaveVerb, folder: Path, *, managed: bool) -> tuple[Path, Path]:
    """Leave a file that is written to its end, and the note; return where it belongs and where it is."""
    path = managed_file(running) if managed else folder / "saved"
    temporary = path if managed else folder / "temporary"
    path.parent.mkdir(parents=True, exist_ok=True)
    await saved_as(running, temporary)
    await leave(running, verb, path, managed=managed, temporary=temporary)
    return path, temporary


@asynccontextmanager
async def second_life(folder: Path) -> AsyncIterator[tuple[Running, Rpc]]:
    async with running_daemon(settings(folder)) as running, running.client() as rpc:
        assert operations(folder / "s") == []
        yield running, rpc


@pytest.mark.parametrize("managed", [False, True])
@pytest.mark.parametrize("written", ["nothing", "a part", "all"])
async def test_a_save_that_was_begun_is_undone_where_the_guest_is_still_there(
    short_tmp: Path, written: str, *, managed: bool
) -> None:
    async with running_daemon(settings(short_tmp)) as running:
        path = managed_file(running) if managed else short_tmp / "saved"
        temporary = path if managed else short_tmp / "temporary"
        path.parent.mkdir(parents=True, exist_ok=True)
        if not managed:
            write(path, "former")
        await leave(running, "save", path, managed=managed, temporary=temporary)
        if written != "nothing":
            await saved_as(running, temporary)
        if written == "a part":
            temporary.write_bytes(PARTIAL)
    async with second_life(short_tmp) as (_, rpc):
        assert (await condition(rpc))[::2] == ("running", False)
        assert (await info(rpc))["needs_attention"] is None
        assert not temporary.exists()
        assert managed or content(path) == "former"


async def test_a_guest_that_was_found_paused_by_an_undone_save_runs_on(short_tmp: Path) -> None:
    async with running_daemon(settings(short_tmp)) as running, running.client() as rpc:
        await rpc.call("domain.suspend", domain="test")
        await leave(running, "save", short_tmp / "saved", final="running")
        position = running.services.events.position
    async with second_life(short_tmp) as (_, rpc):
        assert await condition(rpc) == ("running", "save canceled", False)
        await rpc.call("event.subscribe", since={"epoch": position.epoch, "seq": position.seq})
        assert await lifecycle(rpc) == [("resumed", "unpaused")]


@pytest.mark.parametrize("managed", [False, True])
@pytest.mark.parametrize("renamed", [False, True])
async def test_a_save_that_was_written_to_its_end_is_carried_through_where_the_guest_has_ended(
    short_tmp: Path, monkeypatch: pytest.MonkeyPatch, *, managed: bool, renamed: bool
) -> None:
    async with running_daemon(settings(short_tmp)) as running:
        path = managed_file(running) if managed else short_tmp / "saved"
        temporary = path if managed else short_tmp / "temporary"
        path.parent.mkdir(parents=True, exist_ok=True)
        await saved_as(running, path if renamed else temporary)
        await leave(running, "save", path, managed=managed, temporary=temporary)
        position = running.services.events.position
    monkeypatch.setattr("virtsnapd.daemon.DRIVERS", {"test": Lost})
    async with second_life(short_tmp) as (running, rpc):
        assert await condition(rpc) == ("shutoff", "saved", managed)
        await rpc.call("event.subscribe", since={"epoch": position.epoch, "seq": position.seq})
        assert await lifecycle(rpc) == [("stopped", "saved")]
        if managed:
            await rpc.call("domain.start", domain="test")
        else:
            await rpc.call("save.restore", path=str(path))
        assert memory(running) == MEMORY


async def test_a_transient_domain_whose_save_is_carried_through_is_gone(
    short_tmp: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, temporary = short_tmp / "saved", short_tmp / "temporary"
    async with running_daemon(settings(short_tmp)) as running, running.client() as rpc:
        await rpc.call("domain.create", xml=TRANSIENT)
        text = running.domain("brief").definition.text
        await saved_as(running, temporary, name="brief", uuid=running.domain("brief").uuid, definition=text)
        await leave(running, "save", path, temporary=temporary, name="brief")
    monkeypatch.setattr("virtsnapd.daemon.DRIVERS", {"test": Lost})
    async with second_life(short_tmp) as (running, rpc):
        assert [domain["name"] for domain in (await rpc.call("domain.list"))["domains"]] == ["test"]
        await rpc.call("save.restore", path=str(path))
        assert memory(running, "brief") == MEMORY


@pytest.mark.parametrize("managed", [False, True])
async def test_a_guest_that_ended_before_it_was_saved_has_crashed(
    short_tmp: Path, monkeypatch: pytest.MonkeyPatch, *, managed: bool
) -> None:
    async with running_daemon(settings(short_tmp)) as running:
        path = managed_file(running) if managed else short_tmp / "saved"
        temporary = path if managed else short_tmp / "temporary"
        path.parent.mkdir(parents=True, exist_ok=True)
        if not managed:
            await saved_as(running, path, identity="an older one")
        temporary.write_bytes(PARTIAL)
        await leave(running, "save", path, managed=managed, temporary=temporary)
    monkeypatch.setattr("virtsnapd.daemon.DRIVERS", {"test": Lost})
    async with second_life(short_tmp) as (_, rpc):
        assert await condition(rpc) == ("shutoff", "crashed", False)
        assert not temporary.exists()
        assert managed or savefile.is_whole(path, "an older one")


async def test_a_recorded_guest_that_was_not_let_run_is(short_tmp: Path) -> None:
    async with running_daemon(settings(short_tmp)) as running, running.client() as rpc:
        await rpc.call("domain.suspend", domain="test")  # as a daemon finds it that comes back
        await leave(running, "restore", short_tmp / "saved")
    async with second_life(short_tmp) as (_, rpc):
        assert await condition(rpc) == ("running", "restored", False)


async def test_a_managed_save_that_its_domain_has_no_more_is_removed_at_the_next_start(
    short_tmp: Path,
) -> None:
    async with running_daemon(settings(short_tmp)) as running, running.client() as rpc:
        await rpc.call("save.manage", domain="test")
        kept = managed_file(running)
        stray = kept.parent.with_name("99999999-2222-3333-4444-555555555555") / saves.MANAGED
        stray.parent.mkdir()
        stray.write_text("of a domain that was undefined")
    async with second_life(short_tmp) as (running, rpc):
        assert stray.exists()  # the store may be another one than that of its domain
        await rpc.call("domain.start", domain="test")
        kept.write_text("of a save that was resumed")
    async with second_life(short_tmp):
        assert not kept.exists()


async def test_what_cannot_be_settled_leaves_word(short_tmp: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Broken(SimulatedDriver):
        @override
        async def unsave(self, domain: Domain, *, running: bool) -> None:
            raise OutcomeUnknown("it does not answer")

    async with running_daemon(settings(short_tmp)) as running:
        await leave(running, "save", short_tmp / "saved")
    monkeypatch.setattr("virtsnapd.daemon.DRIVERS", {"test": Broken})
    async with second_life(short_tmp) as (_, rpc):
        assert "it does not answer; resume it, or destroy it" in (await info(rpc))["needs_attention"]


async def test_a_lost_connection_leaves_the_save_to_be_settled_before_the_next_change(
    running: Running, rpc: Rpc, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "saved"

    async def lost(*_arguments: object) -> None:
        raise OutcomeUnknown("the connection was lost on the way")

    with monkeypatch.context() as patched:
        patched.setattr(running.driver, "save", lost)
        assert (await rpc.refusal("save.create", domain="test", path=str(path))).kind == "outcome-unknown"
    assert operations(running.config.state_dir) == [("save", str(path))]
    await rpc.call("domain.suspend", domain="test")
    assert operations(running.config.state_dir) == []
    assert files(tmp_path) == []


@pytest.mark.parametrize("managed", [False, True])
async def test_the_memory_of_a_guest_that_does_not_die_is_kept_until_it_does(
    short_tmp: Path, monkeypatch: pytest.MonkeyPatch, *, managed: bool
) -> None:
    async with running_daemon(settings(short_tmp)) as running:
        path, temporary = await leave_whole(running, "save", short_tmp, managed=managed)
    monkeypatch.setattr("virtsnapd.daemon.DRIVERS", {"test": Undying})
    async with running_daemon(settings(short_tmp)) as running, running.client() as rpc:
        with running.nothing_changes():
            assert "Failed to terminate" in str(await rpc.refusal("domain.destroy", domain="test"))
        assert savefile.is_whole(temporary, "i1")
        monkeypatch.setattr(Undying, "dying", True)
        await rpc.refusal("domain.suspend", domain="test")
        assert await condition(rpc) == ("shutoff", "saved", managed)
        assert savefile.is_whole(path, "i1")


async def test_a_guest_that_ended_before_its_save_was_settled_is_saved(
    short_tmp: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running_daemon(settings(short_tmp)) as running:
        await leave_whole(running, "save", short_tmp, managed=True)
    monkeypatch.setattr("virtsnapd.daemon.DRIVERS", {"test": Watchful})
    async with second_life(short_tmp) as (running, rpc):
        assert await condition(rpc) == ("shutoff", "saved", True)
        await rpc.call("domain.start", domain="test")
        assert memory(running) == MEMORY


async def test_a_restored_guest_that_may_have_run_is_not_taken_for_saved(
    short_tmp: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Panicked(SimulatedDriver):
        @override
        async def resume(self, domain: Domain) -> None:
            raise HypervisorError("Resetting the Virtual Machine is required")

    async with running_daemon(settings(short_tmp)) as running:
        path, _ = await leave_whole(running, "restore", short_tmp, managed=True)
    monkeypatch.setattr("virtsnapd.daemon.DRIVERS", {"test": Panicked})
    async with second_life(short_tmp) as (_, rpc):
        assert await condition(rpc) == ("running", "unknown", False)
        assert "resume it, or destroy it" in (await info(rpc))["needs_attention"]
        assert not path.exists()
