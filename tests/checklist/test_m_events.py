"""Group M: the lifecycle events of libvirt, and what snapshots announce beside them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import pytest

from tests.support.snapshots import document, grow, record, redefine

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from tests.support.rpc import Rpc

SNAPSHOT_EVENTS: Final = (
    "snapshots announce their changes by events of their own; of libvirt's there are none"
)
OVERLAY: Final = "<disks><disk name='vda' snapshot='external'><source file='/overlay'/></disk></disks>"


async def listen(rpc: Rpc) -> None:
    await rpc.call("event.subscribe")


async def told(rpc: Rpc) -> list[tuple[str, str | None]]:
    """Return the events since the last look: of snapshots by kind and name, of domains by what happened."""
    return [
        (event["lifecycle"], event["detail"])
        if event["kind"] == "domain.lifecycle"
        else (event["kind"], event.get("snapshot"))
        for event in await rpc.events()
    ]


async def take_disks(rpc: Rpc) -> None:
    xml = f"<domainsnapshot><name>new</name>{OVERLAY}</domainsnapshot>"
    await rpc.call("snapshot.create", domain="test", xml=xml, flags=["disk-only"])


async def record_new(rpc: Rpc, *flags: str) -> None:
    definition = (await rpc.call("domain.xml", domain="test", flags=["inactive", "secure"]))["xml"]
    await redefine(rpc, record("new", domain=definition), *flags)


async def record_current(rpc: Rpc) -> None:
    await record_new(rpc, "current")


async def mark(rpc: Rpc) -> None:
    await redefine(rpc, await document(rpc, "s2"), "current")


async def delete(rpc: Rpc, name: str, *flags: str) -> None:
    await rpc.call("snapshot.delete", domain="test", snapshot=name, flags=list(flags))


@pytest.mark.checklist(266, ours=SNAPSHOT_EVENTS)
@pytest.mark.parametrize("off", [False, True], ids=["running", "shut off"])
@pytest.mark.parametrize(
    ("change", "events"),
    [
        (
            lambda rpc: rpc.take("new"),
            [("snapshot.created", "new"), ("snapshot.current-changed", "new")],
        ),
        (take_disks, [("snapshot.created", "new"), ("snapshot.current-changed", "new")]),
        (lambda rpc: rpc.take("new", "no-metadata"), []),
        (record_new, [("snapshot.redefined", "new")]),
        (record_current, [("snapshot.redefined", "new"), ("snapshot.current-changed", "new")]),
        (mark, [("snapshot.redefined", "s2"), ("snapshot.current-changed", "s2")]),
        (lambda rpc: delete(rpc, "s2"), [("snapshot.deleted", "s2")]),
        (
            lambda rpc: delete(rpc, "s4", "metadata-only"),
            [("snapshot.deleted", "s4"), ("snapshot.current-changed", "s1")],
        ),
    ],
    ids=[
        "take",
        "take of disks",
        "take without metadata",
        "redefine",
        "redefine as current",
        "make current",
        "delete",
        "delete of metadata",
    ],
)
async def test_what_does_not_touch_the_guest_is_no_event_of_its_life(
    rpc: Rpc, off: bool, change: Callable[[Rpc], Awaitable[object]], events: list[tuple[str, str]]
) -> None:
    await grow(rpc)
    if off:
        await rpc.call("domain.destroy", domain="test")
    await listen(rpc)
    await change(rpc)
    assert await told(rpc) == events


@pytest.mark.checklist(266, ours=SNAPSHOT_EVENTS)
async def test_what_qemu_does_to_images_alone_is_no_event_of_a_guest_s_life(qemu_rpc: Rpc) -> None:
    await listen(qemu_rpc)
    await qemu_rpc.take("s1", domain="tick")
    await qemu_rpc.take("s2", "no-metadata", domain="tick")
    await redefine(qemu_rpc, await document(qemu_rpc, "s1", "tick"), "current", domain="tick")
    await qemu_rpc.call("snapshot.delete", domain="tick", snapshot="s1")
    assert await told(qemu_rpc) == [
        ("snapshot.created", "s1"),
        ("snapshot.current-changed", "s1"),
        ("snapshot.redefined", "s1"),
        ("snapshot.deleted", "s1"),
        ("snapshot.current-changed", None),
    ]


@pytest.mark.checklist(268)
@pytest.mark.parametrize("persistent", [True, False], ids=["persistent", "transient"])
async def test_a_revert_ends_with_defined_where_there_is_a_definition_to_go_back_to(
    qemu_rpc: Rpc, persistent: bool
) -> None:
    await qemu_rpc.take("off", domain="tick")
    await qemu_rpc.call("domain.start", domain="tick")
    if not persistent:
        await qemu_rpc.call("domain.undefine", domain="tick")
    await listen(qemu_rpc)
    await qemu_rpc.call("snapshot.revert", domain="tick", snapshot="off", flags=["paused"])
    found = await told(qemu_rpc)
    await qemu_rpc.call("domain.destroy", domain="tick")
    from_snapshot = [(word, "from-snapshot") for word in ("stopped", "started", "suspended", "defined")]
    assert [event for event in found if event[1] == "from-snapshot"] == from_snapshot[: 3 + persistent]
