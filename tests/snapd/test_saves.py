from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

import pytest

from tests.support.daemon import Gate, operations
from tests.support.saves import (
    MEMORY,
    condition,
    content,
    exists,
    files,
    fill,
    info,
    lifecycle,
    managed_file,
    memory,
    saved_as,
    write,
    write_protect,
)
from tests.support.snapshots import UUID
from virtsnap_protocol.errors import Error, OperationFailed
from virtsnapd.drivers.simulated.faults import Fault

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.daemon import Running
    from tests.support.rpc import Rpc
    from virtsnapd.domain import Domain


OTHER_UUID = "7795eb01-f6a4-8304-79aa-97f2502e193f"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "saved"


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


async def test_a_saved_domain_is_off_and_goes_on_when_it_is_restored(
    running: Running, rpc: Rpc, path: Path
) -> None:
    fill(running)
    await rpc.call("event.subscribe")
    await rpc.call("save.create", domain="test", path=str(path))
    assert await condition(rpc) == ("shutoff", "saved", False)
    assert mode(path) == 0o600
    assert files(path.parent) == ["saved"]
    running.driver.contents(running.domain()).memory = 0
    restored = await rpc.call("save.restore", path=str(path))
    assert restored["domain"] == await info(rpc)
    assert await condition(rpc) == ("running", "restored", False)
    assert memory(running) == MEMORY
    assert await lifecycle(rpc) == [("stopped", "saved"), ("started", "restored")]
    assert exists(path)


async def test_a_restored_domain_has_a_new_id_and_its_event_names_it(rpc: Rpc, path: Path) -> None:
    await rpc.call("save.create", domain="test", path=str(path))
    await rpc.call("event.subscribe")
    assert (await rpc.call("save.restore", path=str(path)))["domain"]["id"] == 2
    assert [event["id"] for event in await rpc.events()] == [2]


async def test_a_transient_domain_goes_with_its_guest_and_comes_back(
    running: Running, rpc: Rpc, transient: str, path: Path
) -> None:
    fill(running, transient)
    await rpc.call("save.create", domain=transient, path=str(path))
    assert (await rpc.refusal("domain.info", domain=transient)).kind == "no-domain"
    restored = (await rpc.call("save.restore", path=str(path)))["domain"]
    assert (restored["name"], restored["persistent"], restored["state"]) == (transient, False, "running")
    assert memory(running, transient) == MEMORY
    assert list((running.config.state_dir / "test").glob("*")) == []


async def test_a_domain_that_is_not_defined_any_more_comes_back_transient(rpc: Rpc, path: Path) -> None:
    await rpc.call("save.create", domain="test", path=str(path))
    await rpc.call("domain.undefine", domain="test")
    assert not (await rpc.call("save.restore", path=str(path)))["domain"]["persistent"]


async def test_a_restored_domain_runs_with_the_definition_that_was_saved(
    rpc: Rpc, path: Path, definition: str
) -> None:
    await rpc.call("save.create", domain="test", path=str(path))
    changed = definition.replace("<vcpu placement='static'>2</vcpu>", "<vcpu placement='static'>1</vcpu>")
    assert changed != definition
    await rpc.call("domain.define", xml=changed)
    assert (await rpc.call("save.restore", path=str(path)))["domain"]["vcpus"] == 2
    await rpc.call("domain.destroy", domain="test")
    assert (await info(rpc))["vcpus"] == 1


@pytest.mark.parametrize(
    ("paused", "saving", "restoring", "state"),
    [
        (False, [], [], "running"),
        (True, [], [], "paused"),
        (True, ["running"], [], "running"),
        (False, ["paused"], [], "paused"),
        (True, [], ["running"], "running"),
        (False, [], ["paused"], "paused"),
        (False, ["paused"], ["running"], "running"),
    ],
)
async def test_flags_say_whether_it_goes_on_running(
    rpc: Rpc, path: Path, *, paused: bool, saving: list[str], restoring: list[str], state: str
) -> None:
    if paused:
        await rpc.call("domain.suspend", domain="test")
    await rpc.call("save.create", domain="test", path=str(path), flags=saving)
    await rpc.call("event.subscribe")
    await rpc.call("save.restore", path=str(path), flags=restoring)
    assert (await info(rpc))["state"] == state
    suspended = [("suspended", "restored")] if state == "paused" else []
    assert await lifecycle(rpc) == [("started", "restored"), *suspended]


async def test_the_cache_can_be_bypassed_both_ways(running: Running, rpc: Rpc, path: Path) -> None:
    fill(running)
    try:
        await rpc.call("save.create", domain="test", path=str(path), flags=["bypass-cache"])
    except Error as error:  # a file system in memory
        assert str(error) == "operation failed: bypass cache unsupported by this system"  # noqa: PT017
        return
    await rpc.call("save.restore", path=str(path), flags=["bypass-cache"])
    assert memory(running) == MEMORY


async def test_a_former_file_is_replaced_and_a_link_to_it_followed(rpc: Rpc, path: Path) -> None:
    write(path, "former")
    link = path.with_name("link")
    link.symlink_to(path)
    await rpc.call("save.create", domain="test", path=str(link))
    assert link.is_symlink()
    await rpc.call("save.restore", path=str(path))
    assert files(path.parent) == ["link", "saved"]


@pytest.mark.checklist(192)
async def test_snapshots_do_not_stand_in_the_way_and_stay(rpc: Rpc, path: Path) -> None:
    await rpc.take("s1")
    await rpc.take("s2")
    await rpc.call("save.create", domain="test", path=str(path))
    assert await rpc.tree() == {"s1": None, "s2": "s1"}
    await rpc.call("save.restore", path=str(path))
    await rpc.call("save.manage", domain="test")
    await rpc.call("domain.start", domain="test")
    assert (await rpc.tree(), await rpc.current()) == ({"s1": None, "s2": "s1"}, "s2")


# --- refusals of saving ---


async def test_flags_are_checked_before_anything_else(running: Running, rpc: Rpc, path: Path) -> None:
    flags = ["running", "paused"]
    text = "Flags 'VIR_DOMAIN_SAVE_RUNNING' and 'VIR_DOMAIN_SAVE_PAUSED' are mutually exclusive"
    with running.nothing_changes():
        for error in (
            await rpc.refusal("save.create", domain="nobody", path=str(path), flags=flags),
            await rpc.refusal("save.restore", path=str(path), flags=flags),
            await rpc.refusal("save.manage", domain="nobody", flags=flags),
        ):
            assert (error.kind, str(error)) == ("invalid-flags", text)


async def test_a_domain_that_is_not_there_cannot_be_saved(rpc: Rpc, path: Path) -> None:
    for method, more in (("create", {"path": str(path)}), ("manage", {}), ("discard", {})):
        assert (await rpc.refusal(f"save.{method}", domain="nobody", **more)).kind == "no-domain"


async def test_a_domain_that_is_off_cannot_be_saved(running: Running, rpc: Rpc, path: Path) -> None:
    await rpc.call("domain.destroy", domain="test")
    with running.nothing_changes():
        for error in (
            await rpc.refusal("save.create", domain="test", path=str(path)),
            await rpc.refusal("save.manage", domain="test"),
        ):
            assert str(error) == "Requested operation is not valid: domain is not running"
    assert not exists(path)


async def test_a_path_must_be_absolute(running: Running, rpc: Rpc) -> None:
    with running.nothing_changes():
        for path in ("saved", "", "./saved"):
            error = await rpc.refusal("save.create", domain="test", path=path)
            assert (error.kind, error.problems[0].path) == ("invalid-params", "$.path")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("nowhere/saved", "open failed: No such file or directory"),
        ("folder", "open failed: Is a directory"),
        ("pipe", "open failed: Invalid argument"),
        ("file/saved", "open failed: Not a directory"),
        ("a\0b", "open failed: Invalid argument"),
        ("x" * 300, "open failed: File name too long"),
    ],
)
async def test_a_file_that_cannot_be_made_is_refused(
    running: Running, rpc: Rpc, tmp_path: Path, name: str, words: str
) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").touch()
    os.mkfifo(tmp_path / "pipe")
    before = files(tmp_path)
    with running.nothing_changes():
        error = await rpc.refusal("save.create", domain="test", path=f"{tmp_path}/{name}")
    assert str(error) == f"saving domain 'test' to '{tmp_path}/{name}': {words}"
    assert (error.kind, error.path) == ("system-error", f"{tmp_path}/{name}")
    assert files(tmp_path) == before


@pytest.mark.parametrize("name", ["disk", "link", "second-name"])
async def test_a_disk_of_a_domain_is_not_written_over(
    running: Running, rpc: Rpc, tmp_path: Path, name: str
) -> None:
    disk = tmp_path / "disk"
    disk.write_text("data")
    (tmp_path / "link").symlink_to(disk)
    (tmp_path / "second-name").hardlink_to(disk)
    xml = running.domain().definition.text.replace(UUID, OTHER_UUID).replace("<name>test<", "<name>other<")
    await rpc.call("domain.define", xml=xml.replace("/guest/diskimage1", str(disk)))
    found = disk if name == "link" else tmp_path / name
    with running.nothing_changes():
        error = await rpc.refusal("save.create", domain="test", path=str(tmp_path / name))
    assert str(error) == (
        f"operation failed: saving domain 'test' to '{found}': the file is disk 'vda' of domain 'other'"
    )
    assert (error.path, content(disk)) == (str(found), "data")
    assert await condition(rpc) == ("running", "unknown", False)


async def test_a_transient_domain_cannot_have_a_managed_save(
    running: Running, rpc: Rpc, transient: str
) -> None:
    with running.nothing_changes(transient):
        error = await rpc.refusal("save.manage", domain=transient)
    assert str(error) == "Requested operation is not valid: cannot do managed save for transient domain"


@pytest.mark.parametrize("managed", [False, True])
async def test_a_save_that_fails_leaves_the_guest_running_and_no_file(
    running: Running, rpc: Rpc, path: Path, *, managed: bool
) -> None:
    write(path, "former")
    running.driver.faults.inject("save", Fault(error="no"))
    with running.nothing_changes():
        if managed:
            error = await rpc.refusal("save.manage", domain="test")
        else:
            error = await rpc.refusal("save.create", domain="test", path=str(path))
    assert error.cause == "no"
    assert content(path) == "former"
    assert files(path.parent) == ["saved"]
    assert not managed_file(running).exists()


async def test_a_disk_that_fills_up_leaves_the_guest_running_and_no_file(
    running: Running, rpc: Rpc, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_fd: int) -> None:
        raise OSError(28, "No space left on device")

    with running.nothing_changes(), monkeypatch.context() as patched:
        patched.setattr("os.fsync", full)
        error = await rpc.refusal("save.create", domain="test", path=str(path))
    assert str(error) == f"saving domain 'test' to '{path}': write failed: No space left on device"
    assert files(path.parent) == []


async def test_a_cancelled_save_leaves_the_guest_running_and_no_file(
    running: Running, rpc: Rpc, path: Path
) -> None:
    gate = Gate(running, "save")
    with running.nothing_changes():
        saving = await rpc.begin("save.create", domain="test", path=str(path))
        await gate.entered.wait()
        await rpc.send(b'{"jsonrpc":"2.0","method":"$/cancelRequest","params":{"id":%d}}\n' % saving)
        assert (await rpc.answer(saving))["error"]["data"]["kind"] == "cancelled"
    assert files(path.parent) == []


async def test_a_guest_that_cannot_be_brought_back_is_owed_and_needs_attention(
    running: Running, rpc: Rpc, path: Path
) -> None:
    for step in ("save", "resume", "resume"):
        running.driver.faults.inject(step, Fault(error=f"no {step}"))
    assert (await rpc.refusal("save.create", domain="test", path=str(path))).cause == "no save"
    assert operations(running.config.state_dir) == [("save", str(path))]
    await rpc.call("domain.suspend", domain="test")
    attention = (await info(rpc))["needs_attention"]
    assert f"the save ({path}) was interrupted and cannot be settled" in attention
    assert "resume it, or destroy it" in attention
    assert operations(running.config.state_dir) == []


async def test_a_saved_domain_that_cannot_be_recorded_is_recorded_later(
    running: Running, rpc: Rpc, path: Path
) -> None:
    gate = Gate(running, "save")
    saving = await rpc.begin("save.create", domain="test", path=str(path))
    await gate.entered.wait()
    write_protect(running, on=True)
    gate.opened.set()
    with pytest.raises(Error) as caught:
        await rpc.result(saving)
    assert caught.value.kind == "storage-error"
    assert (caught.value.remedy or "").startswith("it is done")
    assert (await rpc.refusal("domain.destroy", domain="test")).kind == "storage-error"
    write_protect(running, on=False)
    await rpc.call("save.restore", path=str(path))
    assert (await condition(rpc))[:2] == ("running", "restored")


async def test_a_file_that_cannot_get_its_name_is_named_and_holds_the_domain(
    running: Running, rpc: Rpc, path: Path
) -> None:
    fill(running)
    gate = Gate(running, "save")
    saving = await rpc.begin("save.create", domain="test", path=str(path))
    await gate.entered.wait()
    (path / "in the way").mkdir(parents=True)
    gate.opened.set()
    with pytest.raises(Error, match="rename failed: Is a directory") as caught:
        await rpc.result(saving)
    assert await condition(rpc) == ("shutoff", "saved", False)
    other = next(name for name in files(path.parent) if name != "saved")
    assert caught.value.remedy == f"the domain is saved all the same: restore it from {path.parent}/{other}"
    await rpc.call("save.restore", path=str(path.parent / other))
    assert memory(running) == MEMORY


async def test_a_guest_that_does_not_end_goes_on(
    running: Running, rpc: Rpc, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def drop(_domain: Domain) -> None:
        raise OperationFailed("Failed to terminate process 1 with SIGKILL: Device or resource busy")

    with monkeypatch.context() as patched:
        patched.setattr(running.driver, "drop", drop)
        error = await rpc.refusal("save.create", domain="test", path=str(path))
    assert error.detail.startswith("Failed to terminate process")
    await rpc.call("domain.suspend", domain="test")
    assert await condition(rpc) == ("paused", "user", False)
    assert files(path.parent) == []
    assert operations(running.config.state_dir) == []


async def test_destroying_overrules_a_save_that_is_stuck(
    running: Running, rpc: Rpc, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = Gate(running, "save")
    gate.inject("save", Fault(error="it was killed"))

    async def interrupt(_domain: Domain) -> None:
        gate.opened.set()  # a real guest that is killed fails what is asked of it

    monkeypatch.setattr(running.driver, "interrupt", interrupt)
    saving = await rpc.begin("save.create", domain="test", path=str(path))
    await gate.entered.wait()
    async with running.client() as other:
        assert (await other.refusal("save.manage", domain="test")).kind == "domain-busy"
        await other.call("domain.destroy", domain="test")
        assert await condition(other) == ("shutoff", "destroyed", False)
    await rpc.answer(saving)
    assert files(path.parent) == []


# --- refusals of restoring ---


async def test_what_is_no_saved_domain_is_refused(running: Running, rpc: Rpc, path: Path) -> None:
    with running.nothing_changes():
        error = await rpc.refusal("save.restore", path=str(path))
        assert str(error) == f"cannot read domain image '{path}': No such file or directory"
        write(path, "root:x:0:0:root:/root:/bin/bash\n")
        error = await rpc.refusal("save.restore", path=str(path))
        assert str(error) == "internal error: mismatched header magic"


async def test_a_domain_that_runs_is_not_restored(running: Running, rpc: Rpc, path: Path) -> None:
    await rpc.call("save.create", domain="test", path=str(path))
    await rpc.call("domain.start", domain="test")
    with running.nothing_changes():
        error = await rpc.refusal("save.restore", path=str(path))
    assert str(error) == "Requested operation is not valid: domain 'test' is already active"


async def test_a_name_or_uuid_that_another_domain_has_is_refused(
    running: Running, rpc: Rpc, path: Path
) -> None:
    text, other = running.domain().definition.text, "99999999-2222-3333-4444-555555555555"
    await saved_as(running, path, uuid=other, definition=text.replace(UUID, other))
    with running.nothing_changes():
        error = await rpc.refusal("save.restore", path=str(path))
    assert (error.kind, str(error)) == (
        "domain-exists",
        f"operation failed: domain 'test' already exists with uuid {UUID}",
    )
    other_path = path.with_name("other")
    renamed = text.replace("<name>test<", "<name>other<")
    await saved_as(running, other_path, name="other", definition=renamed)
    with running.nothing_changes():
        error = await rpc.refusal("save.restore", path=str(other_path))
    assert str(error) == f"operation failed: domain 'test' is already defined with uuid {UUID}"


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"driver": "qemu"}, "'{path}' holds a saved domain of the driver qemu, not of test"),
        ({"name": "other"}, "damaged metadata in '{path}': it names two domains"),
        ({"definition": "<domain"}, ""),
        ({"definition": "<domain type='test'><name>test</name></domain>"}, ""),
    ],
)
async def test_a_header_that_does_not_fit_is_refused(
    running: Running, rpc: Rpc, path: Path, changes: dict[str, str], text: str
) -> None:
    await rpc.call("domain.destroy", domain="test")
    await saved_as(running, path, **changes)
    with running.nothing_changes():
        error = await rpc.refusal("save.restore", path=str(path))
    assert error.detail.endswith(text.format(path=path))
    assert error.kind != "internal-fault"


@pytest.mark.parametrize("defined", [True, False])
async def test_memory_that_cannot_be_loaded_leaves_everything_as_it_was(
    running: Running, rpc: Rpc, path: Path, *, defined: bool
) -> None:
    await rpc.call("save.create", domain="test", path=str(path))
    running.driver.faults.inject("restore", Fault(error="torn"))
    if defined:
        with running.nothing_changes():
            assert (await rpc.refusal("save.restore", path=str(path))).cause == "torn"
    else:
        await rpc.call("domain.undefine", domain="test")
        assert (await rpc.refusal("save.restore", path=str(path))).cause == "torn"
        assert (await rpc.call("domain.list"))["domains"] == []
    await rpc.call("save.restore", path=str(path))


async def test_a_restore_that_is_cancelled_leaves_everything_as_it_was(
    running: Running, rpc: Rpc, path: Path
) -> None:
    await rpc.call("save.create", domain="test", path=str(path))
    gate = Gate(running, "restore")
    with running.nothing_changes():
        restoring = await rpc.begin("save.restore", path=str(path))
        await gate.entered.wait()
        await rpc.send(b'{"jsonrpc":"2.0","method":"$/cancelRequest","params":{"id":%d}}\n' % restoring)
        assert (await rpc.answer(restoring))["error"]["data"]["kind"] == "cancelled"
    gate.opened.set()
    await rpc.call("save.restore", path=str(path))


async def test_a_restored_guest_that_does_not_run_is_ended(running: Running, rpc: Rpc, path: Path) -> None:
    await rpc.call("save.create", domain="test", path=str(path))
    running.driver.faults.inject("resume", Fault(error="no"))
    assert (await rpc.refusal("save.restore", path=str(path))).cause == "no"
    assert await condition(rpc) == ("shutoff", "failed", False)


async def test_a_guest_that_cannot_be_recorded_is_ended(running: Running, rpc: Rpc, path: Path) -> None:
    await rpc.call("save.create", domain="test", path=str(path))
    gate = Gate(running, "restore")
    restoring = await rpc.begin("save.restore", path=str(path))
    await gate.entered.wait()
    write_protect(running, on=True)
    with running.nothing_changes():
        gate.opened.set()
        with pytest.raises(Error) as caught:
            await rpc.result(restoring)
    assert caught.value.kind == "storage-error"
    write_protect(running, on=False)
    await rpc.call("save.restore", path=str(path))
