"""Group C: what is recorded when a snapshot's document is accepted, and what only the qemu driver asks for."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

import pytest

from tests.checklist.refusals import Refusal, argument_refused, internal_error, refusal
from tests.support.snapshots import UUID, document, grow, record, redefine

if TYPE_CHECKING:
    from tests.support.daemon import Running
    from tests.support.rpc import Rpc

OTHER_UUID: Final = "11111111-2222-3333-4444-555555555555"
UUID_ONLY: Final = f"<domain><uuid>{UUID}</uuid></domain>"


@pytest.mark.checklist(63)
@pytest.mark.parametrize("domain", [UUID_ONLY, ""], ids=["UUID only", "no domain"])
async def test_a_record_that_is_replaced_keeps_its_definition_where_the_new_one_has_none(
    rpc: Rpc, definition: str, domain: str
) -> None:
    await redefine(rpc, record("a", domain=definition))
    before = await document(rpc, "a")
    await redefine(rpc, record("a", domain=domain, inner="<description>new</description>"))
    after = await document(rpc, "a")
    assert after == before.replace("</name>\n", "</name>\n  <description>new</description>\n", 1)


@pytest.mark.checklist(67)
async def test_parents_are_recorded_before_their_children(
    running: Running, rpc: Rpc, definition: str
) -> None:
    parent, child = (
        record("a", domain=definition),
        record("b", parent="a", domain=definition),
    )
    with running.nothing_changes():
        found = await refusal(rpc, "snapshot.create", domain="test", xml=child, flags=["redefine"])
    assert found == argument_refused("parent a for moment b not found")
    await redefine(rpc, parent)
    await redefine(rpc, child)
    assert await rpc.tree() == {"a": None, "b": "a"}


@pytest.mark.checklist(69)
async def test_the_current_marker_moves_to_exactly_the_one_that_is_recorded_with_it(rpc: Rpc) -> None:
    await grow(rpc)
    await redefine(rpc, await document(rpc, "s2"), "current")
    listing = await rpc.call("snapshot.list", domain="test")
    assert [found["name"] for found in listing["snapshots"] if found["current"]] == ["s2"]
    assert await rpc.current() == "s2"


@pytest.mark.checklist(72)
@pytest.mark.parametrize(("before", "after"), [("running", "paused"), ("paused", "running")])
async def test_running_and_paused_may_be_swapped(rpc: Rpc, definition: str, before: str, after: str) -> None:
    await redefine(rpc, record("a", state=before, domain=definition))
    assert (await redefine(rpc, record("a", state=after, domain=definition)))["snapshot"]["state"] == after


@pytest.mark.checklist(74)
async def test_a_new_record_may_have_a_definition_under_another_name(rpc: Rpc, definition: str) -> None:
    renamed = definition.replace("<name>test</name>", "<name>else</name>")
    await redefine(rpc, record("new", domain=renamed))
    assert "<name>else</name>" in await document(rpc, "new")


@pytest.mark.checklist(75)
async def test_description_parent_and_time_may_change_and_the_children_stay(rpc: Rpc) -> None:
    await grow(rpc)
    xml = (await document(rpc, "s2")).replace("<name>s1</name>", "<name>s4</name>")
    xml = re.sub(r"<creationTime>\d+<", "<creationTime>77<", xml)
    await redefine(rpc, xml.replace("<state>", "<description>moved</description><state>"))
    found = (await rpc.call("snapshot.get", domain="test", snapshot="s2"))["snapshot"]
    assert (found["description"], found["parent"], found["creation_time"]) == ("moved", "s4", 77)
    assert await rpc.tree() == {"s1": None, "s4": "s1", "s2": "s4", "s3": "s2"}


@pytest.mark.checklist(78)
@pytest.mark.parametrize("flags", [[], ["disk-only"]], ids=["without the flag", "with it"])
async def test_a_record_of_disks_alone_needs_no_flag(rpc: Rpc, definition: str, flags: list[str]) -> None:
    disks = "<disks><disk name='vda' snapshot='external'><source file='/overlay'/></disk></disks>"
    xml = record("a", state="disk-snapshot", inner=disks, domain=definition)
    found = (await redefine(rpc, xml, *flags))["snapshot"]
    assert (found["state"], found["location"]) == ("disk-snapshot", "external")
    assert "<memory snapshot='no'/>" in await document(rpc, "a")


async def recorded_disks(rpc: Rpc, name: str) -> list[str]:
    """Return the lines of a dump's <disks>, without indentation."""
    xml = (await document(rpc, name)).partition("<disks>")[2].partition("</disks>")[0]
    return [line.strip() for line in xml.strip().splitlines()]


@pytest.mark.checklist(79)
async def test_disks_that_are_not_mentioned_are_those_of_the_definition(rpc: Rpc, definition: str) -> None:
    await redefine(rpc, record("a", domain=definition))
    assert await recorded_disks(rpc, "a") == ["<disk name='vda' snapshot='internal'/>"]


@pytest.mark.checklist(
    79, ours="names of overlays are completed without looking for the images, which may be elsewhere"
)
async def test_overlays_that_are_not_mentioned_get_the_name_that_a_create_gives_them(
    rpc: Rpc, definition: str
) -> None:
    await redefine(rpc, record("a", state="disk-snapshot", domain=definition))
    assert await recorded_disks(rpc, "a") == [
        "<disk name='vda' snapshot='external' type='file'>",
        "<source file='/guest/diskimage1.a'/>",
        "</disk>",
    ]


@pytest.mark.checklist(81)
@pytest.mark.parametrize("time", [1, 1234567890, 2**40, -1])
async def test_the_time_of_a_record_is_kept_to_the_second(rpc: Rpc, definition: str, time: int) -> None:
    made = await redefine(rpc, record("a", domain=definition).replace(">1000<", f">{time}<"))
    assert made["snapshot"]["creation_time"] == time
    assert f"<creationTime>{time}</creationTime>" in await document(rpc, "a")


FIXED: Final = "a domain with an empty floppy is redefined from its own dump: the quirk is fixed"
FLOPPY: Final = "<disk type='file' device='floppy'><target dev='fda'/></disk>"


@pytest.mark.checklist(83, ours=FIXED)
async def test_an_empty_floppy_does_not_keep_a_record_from_coming_back(rpc: Rpc, definition: str) -> None:
    xml = definition.replace("</disk>", "</disk>" + FLOPPY).replace("<name>test<", "<name>drive<")
    await rpc.call("domain.define", xml=xml.replace(UUID, OTHER_UUID))
    await rpc.take("a", domain="drive")
    before = await document(rpc, "a", "drive")
    assert "<disk name='fda' snapshot='no'/>" in before
    await rpc.call("snapshot.delete", domain="drive", snapshot="a", flags=["metadata-only"])
    await redefine(rpc, before, domain="drive")
    assert await document(rpc, "a", "drive") == before


@pytest.mark.checklist(84)
async def test_what_the_daemon_prints_follows_the_grammar(rpc: Rpc, definition: str) -> None:
    await grow(rpc)
    await redefine(rpc, record("off", state="shutoff", domain=definition))
    await redefine(rpc, record("disks", state="disk-snapshot", domain=definition))
    documents = {name: await document(rpc, name) for name in await rpc.tree()}
    for xml in documents.values():
        await redefine(rpc, xml, "validate")
    assert {name: await document(rpc, name) for name in documents} == documents


# --- what only the qemu driver asks for ---


@pytest.mark.checklist(60)
@pytest.mark.parametrize(
    ("state", "refused"),
    [
        ("blocked", internal_error("Invalid domain state blocked")),
        (
            "pmsuspended",
            Refusal(
                84,
                "operation-unsupported",
                "Operation not supported: qemu doesn't support taking snapshots of PMSUSPENDED guests",
            ),
        ),
    ],
)
async def test_qemu_has_no_guests_in_some_states(
    qemu: Running, qemu_rpc: Rpc, state: str, refused: Refusal
) -> None:
    # neither the parent nor the definition is looked at before the state
    xml = record("a", state=state, parent="nobody", domain="")
    with qemu.nothing_changes("tick"):
        assert (
            await refusal(qemu_rpc, "snapshot.create", domain="tick", xml=xml, flags=["redefine"]) == refused
        )


async def tick_definition(rpc: Rpc) -> str:
    xml: str = (await rpc.call("domain.xml", domain="tick", flags=["inactive", "secure"]))["xml"]
    return xml


@pytest.mark.checklist(77)
async def test_qemu_refuses_the_flag_for_disks_alone_of_another_state(qemu: Running, qemu_rpc: Rpc) -> None:
    xml = record("a", domain=await tick_definition(qemu_rpc))
    with qemu.nothing_changes("tick"):
        found = await refusal(
            qemu_rpc, "snapshot.create", domain="tick", xml=xml, flags=["redefine", "disk-only"]
        )
    assert found == argument_refused("disk-only flag for snapshot a requires disk-snapshot state")
    await redefine(
        qemu_rpc, xml.replace(">running<", ">disk-snapshot<"), "disk-only", "current", domain="tick"
    )
    assert await qemu_rpc.current("tick") == "a"


@pytest.mark.checklist(82)
async def test_qemu_gets_its_records_back_from_their_dumps(qemu: Running, qemu_rpc: Rpc) -> None:
    for name in ("s1", "s2"):
        await qemu_rpc.take(name, domain="tick")
    documents = {name: await document(qemu_rpc, name, "tick") for name in ("s1", "s2")}
    before = qemu.domain("tick").hierarchy.digest
    await qemu_rpc.call("snapshot.delete", domain="tick", snapshot="s1", flags=["children", "metadata-only"])
    assert await qemu_rpc.tree("tick") == {}
    await redefine(qemu_rpc, documents["s1"], domain="tick")
    await redefine(qemu_rpc, documents["s2"], "current", domain="tick")
    assert {name: await document(qemu_rpc, name, "tick") for name in documents} == documents
    assert qemu.domain("tick").hierarchy.digest == before
    await qemu_rpc.call("snapshot.revert", domain="tick", snapshot="s1")


@pytest.mark.checklist(83, ours=FIXED)
async def test_qemu_gets_the_record_of_a_domain_with_an_empty_floppy_back(qemu_rpc: Rpc) -> None:
    xml = await tick_definition(qemu_rpc)
    await qemu_rpc.call("domain.define", xml=xml.replace("</disk>", f"</disk>{FLOPPY}", 1))
    await qemu_rpc.take("a", domain="tick")
    before = await document(qemu_rpc, "a", "tick")
    assert "<disk name='fda' snapshot='no'/>" in before
    await qemu_rpc.call("snapshot.delete", domain="tick", snapshot="a", flags=["metadata-only"])
    await redefine(qemu_rpc, before, domain="tick")
    assert await document(qemu_rpc, "a", "tick") == before


@pytest.mark.checklist(84)
async def test_what_qemu_s_records_look_like_follows_the_grammar(qemu_rpc: Rpc) -> None:
    await qemu_rpc.take("a", domain="tick")
    before = await document(qemu_rpc, "a", "tick")
    await redefine(qemu_rpc, before, "validate", domain="tick")
    assert await document(qemu_rpc, "a", "tick") == before
