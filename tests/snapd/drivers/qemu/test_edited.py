"""Renamed and cloned snapshots, and renamed domains, of real guests: QEMU finds the data that names have left."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.guest import Serial
from tests.support.qemu_host import qemu_pids
from virtsnap_protocol.errors import OperationFailed, OperationUnsupported, XmlDetail
from virtsnapd.drivers.qemu import images

if TYPE_CHECKING:
    from tests.support.qemu_host import LocalDaemon, TickDomain
    from virtsnap.domain import Domain


async def tags(tick: TickDomain) -> list[str]:
    return [entry.name for entry in (await images.info(tick.disks[0], format="qcow2")).snapshots]


async def known(vm: Domain) -> dict[str, str | None]:
    """Return the parents of the recorded snapshots by their names."""
    return {snapshot.name: snapshot.parent for snapshot in (await vm.snapshots()).snapshots}


async def renamed(vm: Domain, name: str, other: str) -> str:
    """Return a snapshot's document under another name."""
    text = (await vm.snapshot(name).xml(secure=True)).xml
    return text.replace(f"<name>{name}</name>", f"<name>{other}</name>", 1)


async def rename(vm: Domain, name: str, other: str) -> None:
    await vm.snapshot(name).edit(await renamed(vm, name, other), rename=True)


async def clone(vm: Domain, name: str, other: str) -> None:
    await vm.snapshot(name).edit(await renamed(vm, name, other), clone=True)


@pytest.fixture
async def vm(daemon: LocalDaemon, tick: TickDomain) -> Domain:
    """Return a defined domain that is shut off."""
    await daemon.define(tick.xml)
    return daemon.domain(tick.name)


@pytest.mark.parametrize("active", [True, False])
async def test_a_renamed_snapshot_is_reverted_to_and_deleted_with_its_tag(
    vm: Domain, tick: TickDomain, active: bool
) -> None:
    if active:
        await vm.start()
    await vm.take("s1")
    await vm.take("child")
    await rename(vm, "s1", "s2")
    assert await known(vm) == {"s2": None, "child": "s2"}
    assert await tags(tick) == ["s1", "child"]
    await vm.snapshot("s2").revert()
    assert (await vm.info()).domain.current_snapshot == "s2"
    await vm.snapshot("s2").delete()
    assert await tags(tick) == ["child"]
    assert await known(vm) == {"child": None}


async def test_a_renamed_snapshot_brings_back_the_memory_of_its_moment(vm: Domain, tick: TickDomain) -> None:
    await vm.start()
    assert tick.serial is not None
    async with Serial.open(tick.serial) as serial:
        written = await serial.command("w")
        await vm.take("s1")
        await rename(vm, "s1", "s2")
        await serial.command("z")
        await vm.snapshot("s2").revert()
        assert await serial.command("r") == written


async def test_data_is_deleted_with_the_last_record_that_needs_it(vm: Domain, tick: TickDomain) -> None:
    await vm.take("s1")
    await clone(vm, "s1", "s2")
    await vm.snapshot("s1").delete()
    assert (await known(vm), await tags(tick)) == ({"s2": None}, ["s1"])
    await vm.snapshot("s2").revert()
    await vm.snapshot("s2").delete()
    assert (await known(vm), await tags(tick)) == ({}, [])


async def test_a_renamed_snapshot_is_redefined_from_its_dump(vm: Domain, tick: TickDomain) -> None:
    await vm.take("s1")
    await rename(vm, "s1", "s2")
    text = (await vm.snapshot("s2").xml(secure=True)).xml
    await vm.snapshot("s2").delete(metadata_only=True)
    await vm.redefine(text, validate=True)
    await vm.snapshot("s2").revert()
    await vm.snapshot("s2").delete()
    assert await tags(tick) == []


async def test_the_tag_of_a_renamed_snapshot_is_not_free(vm: Domain, tick: TickDomain) -> None:
    await vm.take("s1")
    await rename(vm, "s1", "s2")
    with pytest.raises(OperationFailed, match="snapshot 's2' has its data under the name 's1'"):
        await vm.take("s1")
    await vm.take("s2-")  # while a name that no data has is
    await rename(vm, "s2-", "x")
    await rename(vm, "s2", "s2-")
    assert await tags(tick) == ["s1", "s2-"]
    await vm.snapshot("s2-").revert()
    await vm.snapshot("s2-").delete()
    assert (await known(vm), await tags(tick)) == ({"x": None}, ["s2-"])


async def test_a_tag_that_qemu_would_take_for_another_id_is_found_under_any_name(vm: Domain) -> None:
    await vm.take("2")  # its id is 1
    await vm.take("other")  # its id is 2
    await rename(vm, "2", "innocent")
    with pytest.raises(OperationUnsupported, match="has a snapshot with the id 2"):
        await vm.snapshot("innocent").revert()


async def test_a_record_whose_data_is_gone_names_what_the_image_lacks(vm: Domain, tick: TickDomain) -> None:
    await vm.take("s1")
    await rename(vm, "s1", "s2")
    await images.delete_snapshot(tick.disks[0], "s1")
    with pytest.raises(OperationFailed, match="does not have internal snapshot 's1'") as refused:
        await vm.snapshot("s2").revert()
    assert refused.value.snapshot == "s2"


@pytest.mark.parametrize("name", ["a/b", ".a"])
async def test_names_that_the_driver_does_not_take_are_refused_for_records_and_their_data(
    vm: Domain, name: str
) -> None:
    await vm.take("s1")
    before = (await vm.info()).domain
    with pytest.raises(XmlDetail, match="invalid snapshot name"):
        await rename(vm, "s1", name)
    data = f"<virtsnap:data xmlns:virtsnap='urn:virtsnap:snapshot:1' name='{name}'/></domainsnapshot>"
    text = (await vm.snapshot("s1").xml(secure=True)).xml.replace("</domainsnapshot>", data)
    with pytest.raises(XmlDetail, match="invalid snapshot name"):
        await vm.redefine(text)
    assert (await vm.info()).domain == before


# --- domains ---


async def test_a_renamed_domain_goes_back_to_its_snapshots_under_its_new_name(
    daemon: LocalDaemon, vm: Domain, tick: TickDomain
) -> None:
    await vm.take("off")
    await vm.start()
    await vm.take("on")
    await vm.destroy()
    await vm.rename("other")
    vm = daemon.domain("other")
    assert tick.serial is not None
    for name, state in (("on", "running"), ("off", "shutoff"), ("on", "running")):
        await vm.snapshot(name).revert()
        assert (await vm.info()).domain.state == state
        assert "<name>other</name>" in (await vm.xml()).xml
    async with Serial.open(tick.serial) as serial:
        await serial.counter()
    before = qemu_pids(daemon.services.config.state_dir)
    await vm.snapshot("on").revert()  # the guest that runs has the definition that comes back
    assert qemu_pids(daemon.services.config.state_dir) == before
    for name in ("on", "off"):
        await vm.snapshot(name).delete()
    assert await tags(tick) == []
