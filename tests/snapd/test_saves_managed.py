from __future__ import annotations

from typing import TYPE_CHECKING, Final

import pytest

from tests.support.daemon import operations, running_daemon, settings
from tests.support.saves import MEMORY, condition, fill, lifecycle, managed_file, memory, saved_as
from tests.support.snapshots import UUID
from virtsnap_protocol.errors import OperationFailed
from virtsnapd.drivers.simulated.driver import SimulatedDriver
from virtsnapd.drivers.simulated.faults import Fault
from virtsnapd.savefile import PARTIAL

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.daemon import Running
    from tests.support.rpc import Rpc
    from virtsnapd.domain import Domain

RISKY: Final = (
    "revert requires force: snapshot without memory state, removal of existing managed saved state strongly "
    "recommended to avoid corruption"
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "saved"


async def test_a_managed_save_is_what_the_next_start_goes_on_from(running: Running, rpc: Rpc) -> None:
    fill(running)
    await rpc.call("event.subscribe")
    await rpc.call("save.manage", domain="test")
    assert await condition(rpc) == ("shutoff", "saved", True)
    assert managed_file(running).exists()
    assert (await rpc.call("domain.start", domain="test"))["domain"]["reason"] == "restored"
    assert (await condition(rpc), memory(running)) == (("running", "restored", False), MEMORY)
    assert not managed_file(running).exists()
    assert await lifecycle(rpc) == [("stopped", "saved"), ("started", "restored")]
    assert operations(running.config.state_dir) == []


async def test_a_managed_save_is_listed(rpc: Rpc) -> None:
    await rpc.call("save.manage", domain="test")
    for flag, names in (("managed-save", ["test"]), ("no-managed-save", [])):
        found = (await rpc.call("domain.list", flags=[flag]))["domains"]
        assert [domain["name"] for domain in found] == names


@pytest.mark.parametrize(("saving", "paused"), [("paused", False), ("running", True)])
async def test_a_managed_save_can_be_resumed_paused(rpc: Rpc, saving: str, *, paused: bool) -> None:
    await rpc.call("save.manage", domain="test", flags=[saving])
    await rpc.call("event.subscribe")
    await rpc.call("domain.start", domain="test", flags=["paused"] if paused else [])
    assert (await condition(rpc))[::2] == ("paused", False)
    assert await lifecycle(rpc) == [
        ("started", "restored"),
        ("suspended", "paused" if paused else "restored"),
    ]
    await rpc.call("domain.resume", domain="test")


@pytest.mark.parametrize("direct", [[], ["bypass-cache"]])
async def test_a_managed_save_outlives_the_daemon(short_tmp: Path, direct: list[str]) -> None:
    async with running_daemon(settings(short_tmp)) as running, running.client() as rpc:
        fill(running)
        await rpc.call("save.manage", domain="test")
    async with running_daemon(settings(short_tmp)) as running, running.client() as rpc:
        assert await condition(rpc) == ("shutoff", "saved", True)
        await rpc.call("domain.start", domain="test", flags=direct)
        assert memory(running) == MEMORY


async def test_a_forced_boot_discards_the_managed_save(running: Running, rpc: Rpc) -> None:
    fill(running)
    await rpc.call("save.manage", domain="test")
    await rpc.call("domain.start", domain="test", flags=["force-boot"])
    assert (await condition(rpc), memory(running)) == (("running", "booted", False), 0)
    assert not managed_file(running).exists()


async def test_a_forced_boot_that_fails_at_once_keeps_the_managed_save(running: Running, rpc: Rpc) -> None:
    await rpc.call("save.manage", domain="test")
    running.driver.faults.inject("start", Fault(error="no"))
    with running.nothing_changes():
        await rpc.refusal("domain.start", domain="test", flags=["force-boot"])
    assert managed_file(running).exists()


async def test_running_another_definition_discards_the_managed_save(
    running: Running, rpc: Rpc, definition: str
) -> None:
    await rpc.call("save.manage", domain="test")
    await rpc.call("domain.create", xml=definition)
    assert await condition(rpc) == ("running", "booted", False)
    assert not managed_file(running).exists()


async def test_restoring_another_state_discards_the_managed_save(
    running: Running, rpc: Rpc, path: Path
) -> None:
    await rpc.call("save.create", domain="test", path=str(path))
    await rpc.call("domain.start", domain="test")
    await rpc.call("save.manage", domain="test")
    await rpc.call("save.restore", path=str(path))
    assert await condition(rpc) == ("running", "restored", False)
    assert not managed_file(running).exists()


async def test_a_discarded_managed_save_is_gone_and_the_next_start_boots(running: Running, rpc: Rpc) -> None:
    await rpc.call("save.manage", domain="test")
    await rpc.call("save.discard", domain="test")
    assert await condition(rpc) == ("shutoff", "saved", False)
    assert not managed_file(running).exists()
    await rpc.call("domain.start", domain="test")
    assert (await condition(rpc))[1] == "booted"


async def test_discarding_nothing_does_nothing(running: Running, rpc: Rpc) -> None:
    with running.nothing_changes():
        await rpc.call("save.discard", domain="test")


async def test_defining_the_domain_anew_keeps_its_managed_save(
    running: Running, rpc: Rpc, definition: str
) -> None:
    fill(running)
    await rpc.call("save.manage", domain="test")
    await rpc.call("domain.define", xml=definition)
    await rpc.call("domain.start", domain="test")
    assert memory(running) == MEMORY


@pytest.mark.parametrize("damage", ["missing", "torn", "foreign", "another domain's", "not loadable"])
async def test_a_managed_save_that_cannot_be_restored_is_kept(
    running: Running, rpc: Rpc, damage: str
) -> None:
    await rpc.call("save.manage", domain="test")
    file = managed_file(running)
    match damage:
        case "missing":
            file.unlink()
        case "torn":
            file.write_bytes(PARTIAL + file.read_bytes()[16:])
        case "foreign":
            file.write_text("something else, and long enough")
        case "another domain's":
            file.unlink()
            other = "99999999-2222-3333-4444-555555555555"
            text = running.domain().definition.text.replace(UUID, other)
            await saved_as(running, file, uuid=other, definition=text)
        case _:
            running.driver.faults.inject("restore", Fault(error="no"))
    there = file.exists()
    with running.nothing_changes():
        error = await rpc.refusal("domain.start", domain="test")
    assert "virtsnap start --force-boot test" in (error.remedy or "")
    assert "virtsnap managedsave-remove test" in (error.remedy or "")
    assert await condition(rpc) == ("shutoff", "saved", True)
    assert file.exists() == there
    await rpc.call("domain.start", domain="test", flags=["force-boot"])
    assert not file.exists()


async def test_a_managed_save_is_kept_when_its_guest_never_ran(running: Running, rpc: Rpc) -> None:
    fill(running)
    await rpc.call("save.manage", domain="test")
    running.driver.faults.inject("resume", Fault(error="no"))
    error = await rpc.refusal("domain.start", domain="test")
    assert (error.cause, "is kept" in (error.remedy or "")) == ("no", True)
    assert await condition(rpc) == ("shutoff", "failed", True)
    await rpc.call("domain.start", domain="test")
    assert memory(running) == MEMORY


async def test_a_managed_save_leaves_no_file_behind_a_guest_that_may_have_run(
    running: Running, rpc: Rpc, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def gone(_domain: Domain) -> None:
        raise OperationFailed("domain is no longer running")

    await rpc.call("save.manage", domain="test")
    monkeypatch.setattr(running.driver, "resume", gone)
    assert (await rpc.refusal("domain.start", domain="test")).kind == "operation-failed"
    assert not (await condition(rpc))[2]
    assert not managed_file(running).exists()


# --- what a managed save stands in the way of ---


@pytest.mark.checklist(184, ours="the metadata survives: everything is checked before anything is done")
@pytest.mark.checklist(207)
async def test_a_domain_with_a_managed_save_is_not_undefined_by_mistake(running: Running, rpc: Rpc) -> None:
    await rpc.take("s1")
    await rpc.call("save.manage", domain="test")
    refused = "Requested operation is not valid: Refusing to undefine while domain managed save image exists"
    with running.nothing_changes():
        for flags in ([], ["snapshots-metadata"]):
            assert str(await rpc.refusal("domain.undefine", domain="test", flags=flags)) == refused
        error = await rpc.refusal("domain.undefine", domain="test", flags=["managed-save"])
        assert str(error) == (
            "Requested operation is not valid: cannot delete inactive domain with 1 snapshots"
        )
    file = managed_file(running)
    assert file.exists()
    await rpc.call("domain.undefine", domain="test", flags=["managed-save", "snapshots-metadata"])
    assert (await rpc.call("domain.list"))["domains"] == []
    assert not file.exists()


async def test_the_simulated_driver_renames_a_domain_with_its_managed_save(
    running: Running, rpc: Rpc
) -> None:
    fill(running)
    await rpc.call("save.manage", domain="test")
    await rpc.call("domain.rename", domain="test", name="other")
    assert (await condition(rpc, "other"))[2]
    await rpc.call("domain.start", domain="other")
    assert await condition(rpc, "other") == ("running", "restored", False)
    assert memory(running, "other") == MEMORY
    assert "<name>other</name>" in (await rpc.call("domain.xml", domain="other"))["xml"]


async def test_the_simulated_driver_reverts_as_libvirt_s_does(running: Running, rpc: Rpc) -> None:
    await rpc.call("domain.destroy", domain="test")
    await rpc.take("off")
    await rpc.call("domain.start", domain="test")
    await rpc.take("running")
    await rpc.call("save.manage", domain="test")
    await rpc.call("snapshot.revert", domain="test", snapshot="off")
    assert (await condition(rpc))[2]
    await rpc.call("snapshot.revert", domain="test", snapshot="running")
    assert not (await condition(rpc))[2]
    assert not managed_file(running).exists()


@pytest.fixture
def heedful(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the simulated driver heed managed saves, as the qemu driver does."""
    monkeypatch.setattr(SimulatedDriver, "heeds_managed_save", True)


@pytest.mark.usefixtures("heedful")
@pytest.mark.checklist(148, ours="with force the managed save goes: its memory would not fit the disks")
async def test_a_revert_without_memory_needs_force_and_then_discards_the_managed_save(
    running: Running, rpc: Rpc
) -> None:
    await rpc.call("domain.destroy", domain="test")
    await rpc.take("off")
    await rpc.call("domain.start", domain="test")
    await rpc.call("save.manage", domain="test")
    with running.nothing_changes():
        for flags in ([], ["running"], ["paused"]):
            error = await rpc.refusal("snapshot.revert", domain="test", snapshot="off", flags=flags)
            assert (error.code, str(error)) == (
                77,
                RISKY,
            )
    await rpc.call("snapshot.revert", domain="test", snapshot="off", flags=["force"])
    assert not (await condition(rpc))[2]
    assert not managed_file(running).exists()


@pytest.mark.usefixtures("heedful")
@pytest.mark.checklist(149, ours="and the managed save goes with it")
async def test_a_revert_to_memory_discards_the_managed_save_without_force(running: Running, rpc: Rpc) -> None:
    await rpc.take("s1")
    await rpc.call("save.manage", domain="test")
    await rpc.call("snapshot.revert", domain="test", snapshot="s1")
    assert await condition(rpc) == ("running", "from snapshot", False)
    assert not managed_file(running).exists()


@pytest.mark.usefixtures("heedful")
async def test_a_managed_save_is_not_resumed_on_disks_that_a_failed_revert_may_have_changed(
    running: Running, rpc: Rpc
) -> None:
    await rpc.take("s1")
    await rpc.call("save.manage", domain="test")
    running.driver.faults.inject("revert", Fault(error="no"))
    error = await rpc.refusal("snapshot.revert", domain="test", snapshot="s1")
    assert "which its managed save would not fit" in (error.remedy or "")
    with running.nothing_changes():
        refused = await rpc.refusal("domain.start", domain="test")
    assert refused.code == 55
    assert "may not fit the domain any more: the revert to snapshot 's1' failed" in refused.detail
    assert "--force-boot" in (refused.remedy or "")
    await rpc.call("domain.start", domain="test", flags=["force-boot"])
    assert await condition(rpc) == ("running", "booted", False)


@pytest.mark.usefixtures("heedful")
@pytest.mark.checklist(189)
async def test_a_domain_with_a_managed_save_is_not_renamed(running: Running, rpc: Rpc) -> None:
    await rpc.call("save.manage", domain="test")
    with running.nothing_changes():
        error = await rpc.refusal("domain.rename", domain="test", name="other")
    assert (error.code, error.detail) == (55, "domain with a managed saved state can't be renamed")
