"""Group I: the simulated driver, beside libvirt's test driver."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.checklist.refusals import Refusal, invalid_now, raised, refusal
from tests.support.snapshots import UUID, document, redefine

if TYPE_CHECKING:
    from tests.support.daemon import Running
    from tests.support.rpc import Rpc
    from virtsnap.domain import Domain

EVERY_FLAG = "the simulated driver is the reference and honours every flag"
OVERLAY = """<domainsnapshot><name>s1</name>
<disks><disk name='vda' snapshot='external'><source file='/overlay'/></disk></disks></domainsnapshot>"""
MANUAL = Refusal(
    84,
    "operation-unsupported",
    "Operation not supported: 'manual' snapshot mode is not supported by the test driver",
)


@pytest.mark.checklist(194)
async def test_there_is_a_default_domain(rpc: Rpc) -> None:
    (found,) = (await rpc.call("domain.list"))["domains"]
    assert (found["name"], found["uuid"], found["id"], found["state"]) == ("test", UUID, 1, "running")
    assert (found["persistent"], found["snapshots"], found["current_snapshot"]) == (True, 0, None)
    (disk,) = (await rpc.call("domain.disks", domain="test"))["disks"]
    assert disk == {"target": "vda", "source": "/guest/diskimage1", "type": "file", "device": "disk"}


@pytest.mark.checklist(
    195, ours="all clients of a daemon share its one simulated host; there are none read from files"
)
async def test_every_connection_sees_the_same_simulated_host(running: Running, rpc: Rpc) -> None:
    async with running.client() as other:
        await other.call("connection.open", uri="test:///default")
        await other.take("s1")
    assert await rpc.tree() == {"s1": None}
    assert await refusal(rpc, "connection.open", uri="test:///tmp/host.xml") == Refusal(
        3,
        "no-support",
        "this function is not supported by the connection driver: no driver for URI 'test:///tmp/host.xml'",
    )


# --- flags ---


@pytest.mark.checklist(196, ours=EVERY_FLAG)
@pytest.mark.parametrize("bits", [0x10, 0x10 | 0x20], ids=["DISK_ONLY", "DISK_ONLY and REUSE_EXT"])
async def test_disks_alone_can_be_saved(rpc: Rpc, vm: Domain, bits: int) -> None:
    taken = (await vm.create_snapshot(OVERLAY, flags=bits)).snapshot
    assert (taken.state, taken.location, taken.current) == ("disk-snapshot", "external", True)
    assert "<memory snapshot='no'/>" in await document(rpc, "s1")


@pytest.mark.checklist(196, ours=EVERY_FLAG)
async def test_a_snapshot_can_be_taken_without_being_remembered(running: Running, vm: Domain) -> None:
    with running.nothing_changes():
        taken = (await vm.take("s1", flags=0x4)).snapshot
    assert (taken.name, taken.has_metadata) == ("s1", False)


@pytest.mark.checklist(197)
@pytest.mark.parametrize("bits", [0x40, 0x80, 0x100], ids=["QUIESCE", "ATOMIC", "LIVE"])
async def test_flags_about_the_guest_and_its_disks_are_accepted(vm: Domain, bits: int) -> None:
    taken = (await vm.take("s1", flags=bits)).snapshot
    assert (taken.state, taken.location, taken.current) == ("running", "internal", True)


@pytest.mark.checklist(198, ours=EVERY_FLAG)
async def test_metadata_alone_can_be_deleted(running: Running, rpc: Rpc, vm: Domain) -> None:
    await rpc.take("s1")
    saved = await document(rpc, "s1")
    assert (await vm.snapshot("s1").delete(flags=0x2)).deleted == ["s1"]
    assert await rpc.tree() == {}
    await redefine(rpc, saved)
    running.driver.contents(running.domain()).memory = 7
    await vm.snapshot("s1").revert()
    assert running.driver.contents(running.domain()).memory == 0


@pytest.mark.checklist(199, ours=EVERY_FLAG)
@pytest.mark.parametrize("bits", [0x4, 0x8, 0xC], ids=["FORCE", "RESET_NVRAM", "both"])
async def test_a_revert_may_be_forced_and_reset_the_firmware_s_variables(
    rpc: Rpc, vm: Domain, bits: int
) -> None:
    for name in ("s1", "s2"):
        await rpc.take(name)
    await vm.snapshot("s1").revert(flags=bits)
    assert await rpc.current() == "s1"


# --- documents ---


@pytest.mark.checklist(200)
@pytest.mark.parametrize("memory", ["", "<memory file='/m'/>", "<memory snapshot='no'/>"])
@pytest.mark.parametrize("flags", [[], ["disk-only"], ["no-metadata"]], ids=str)
async def test_a_disk_that_the_caller_is_to_copy_is_refused(
    running: Running, rpc: Rpc, memory: str, flags: list[str]
) -> None:
    if memory and "disk-only" in flags:
        memory = ""
    disks = "<disks><disk name='vda' snapshot='manual'/></disks>"
    xml = f"<domainsnapshot><name>s1</name>{memory}{disks}</domainsnapshot>"
    with running.nothing_changes():
        assert await refusal(rpc, "snapshot.create", domain="test", xml=xml, flags=flags) == MANUAL
    assert running.driver.contents(running.domain()).saved == {}


@pytest.mark.checklist(203)
@pytest.mark.parametrize("name", ["a/b", "/a", "../a", ".a", "."])
async def test_any_name_will_do(rpc: Rpc, name: str) -> None:
    await rpc.take(name)
    assert await rpc.tree() == {name: None}
    await rpc.call("snapshot.revert", domain="test", snapshot=name)
    assert (await rpc.call("snapshot.delete", domain="test", snapshot=name))["deleted"] == [name]


# --- domains with snapshots ---


@pytest.mark.checklist(207)
async def test_a_managed_save_keeps_a_domain_before_its_snapshots_do(
    running: Running, rpc: Rpc, vm: Domain
) -> None:
    await rpc.take("s1")
    await vm.managed_save()
    saved = invalid_now("Refusing to undefine while domain managed save image exists")
    with running.nothing_changes():
        assert await raised(lambda: vm.undefine(flags=0x0)) == saved
        assert await raised(lambda: vm.undefine(flags=0x2)) == saved
        assert await raised(lambda: vm.undefine(flags=0x1)) == invalid_now(
            "cannot delete inactive domain with 1 snapshots"
        )
    await vm.undefine(flags=0x3)
    assert (await rpc.call("domain.list"))["domains"] == []
