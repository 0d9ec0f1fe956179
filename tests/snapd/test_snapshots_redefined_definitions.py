"""Redefining a snapshot under a definition that shows the guest another machine: refused, with all that differs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support import abi
from tests.support.snapshots import document, record, redefine
from virtsnap_protocol.errors import ConfigUnsupported

if TYPE_CHECKING:
    from tests.support.daemon import Running
    from tests.support.rpc import Rpc


@pytest.fixture
async def rich(running: Running, rpc: Rpc) -> str:
    """Define the machine that has one of everything and record a snapshot of it; return its name."""
    await rpc.call("domain.define", xml=abi.MACHINE)
    await redefine(rpc, record("s1", state="shutoff", domain=abi.MACHINE), domain="rich")
    return "rich"


async def test_another_memory_size_is_refused(running: Running, rpc: Rpc, rich: str) -> None:
    changed = abi.with_value("/domain/memory", "3145730")
    with running.nothing_changes(rich):
        error = await rpc.refusal(
            "snapshot.create",
            domain=rich,
            xml=record("s1", state="shutoff", domain=changed),
            flags=["redefine"],
        )
    assert (error.code, str(error)) == (
        67,
        "unsupported configuration: Target domain max memory 1048578 does not match source 1048576",
    )


async def test_another_name_is_refused_for_a_record_and_accepted_for_a_new_one(
    running: Running, rpc: Rpc, rich: str
) -> None:
    changed = abi.with_value("/domain/name", "other")
    with running.nothing_changes(rich):
        error = await rpc.refusal(
            "snapshot.create",
            domain=rich,
            xml=record("s1", state="shutoff", domain=changed),
            flags=["redefine"],
        )
    words = "unsupported configuration: Target domain name 'other' does not match source 'rich'"
    assert (error.code, str(error)) == (67, words)
    await redefine(rpc, record("s2", state="shutoff", domain=changed), domain=rich)
    assert set(await rpc.tree(rich)) == {"s1", "s2"}


async def test_every_difference_is_in_the_error_with_both_values(
    running: Running, rpc: Rpc, rich: str
) -> None:
    changed = (
        abi.MACHINE.replace("slot='0x0c'", "slot='0x0d'")
        .replace("<vendor>Intel</vendor>", "")
        .replace("<hub type='usb'>", "<hub type='usb'/><hub type='usb'>")
    )
    with running.nothing_changes(rich):
        error = await rpc.refusal(
            "snapshot.create",
            domain=rich,
            xml=record("s1", state="shutoff", domain=changed),
            flags=["redefine", "current"],
        )
    assert isinstance(error, ConfigUnsupported)
    assert [(p.path, p.old, p.new) for p in error.problems] == [
        ("/domain/cpu/vendor", "Intel", None),
        ("/domain/devices/hub", "1", "2"),
        ("/domain/devices/vsock/address", "0000:00:0c.0", "0000:00:0d.0"),
    ]
    assert error.detail == error.problems[0].message


async def test_every_kind_of_difference_is_refused_and_changes_nothing(
    running: Running, rpc: Rpc, rich: str
) -> None:
    told = abi.expected()
    some = [change for change in abi.changes() if str(change) in told and change.place != "/domain/uuid"][::9]
    with running.nothing_changes(rich):
        for change in some:
            error = await rpc.refusal(
                "snapshot.create",
                domain=rich,
                xml=record("s1", state="shutoff", domain=change.text),
                flags=["redefine"],
            )
            assert (error.code, error.kind, bool(error.problems)) == (67, "config-unsupported", True), change


async def test_what_the_guest_cannot_see_replaces_what_was_recorded(rpc: Rpc, rich: str) -> None:
    changed = abi.with_value("/domain/devices/disk[1]/source/@file", "/elsewhere/a.qcow2")
    await redefine(rpc, record("s1", state="shutoff", domain=changed), domain=rich)
    assert "/elsewhere/a.qcow2" in await document(rpc, "s1", rich)


async def test_an_edit_is_compared_too(running: Running, rpc: Rpc, rich: str) -> None:
    changed = abi.with_value("/domain/vcpu", "8")
    with running.nothing_changes(rich):
        error = await rpc.refusal(
            "snapshot.edit",
            domain=rich,
            snapshot="s1",
            xml=record("s1", state="shutoff", domain=changed),
        )
    assert str(error) == "unsupported configuration: Target domain vCPU max 8 does not match source 4"
