"""Group C: which documents cannot be recorded as snapshots, and which of several faults is told."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import pytest

from tests.checklist.refusals import (
    Refusal,
    Rungs,
    argument_refused,
    config_refused,
    internal_error,
    ladder,
    refusal,
    xml_refused,
)
from tests.support.snapshots import UUID, grow, record, redefine

if TYPE_CHECKING:
    from tests.support.daemon import Running
    from tests.support.rpc import Rpc

OTHER_UUID: Final = "11111111-2222-3333-4444-555555555555"
UUID_ONLY: Final = f"<domain><uuid>{UUID}</uuid></domain>"
INVALID_STATE: Final = "Invalid state '{}' in domain snapshot XML"


def made(
    name: str | None = "new", *, time: str | None = "1000", state: str | None = "running", rest: str = "{}"
) -> str:
    """Return a document with these parts; `{}` in it stands for the domain's definition."""
    parts = (("name", name), ("creationTime", time), ("state", state))
    body = "".join(f"<{tag}>{text}</{tag}>" for tag, text in parts if text is not None)
    return f"<domainsnapshot>{body}{rest}</domainsnapshot>"


def below(parent: str) -> str:
    return f"<parent><name>{parent}</name></parent>{{}}"


async def grow_all(rpc: Rpc, definition: str) -> None:
    """Make the tree s1 - (s2 - s3, s4), all running, and the root `off`, which is shut off."""
    await grow(rpc)
    await redefine(rpc, record("off", state="shutoff", domain=definition))


def proves(number: int, *case: object, name: str) -> object:
    return pytest.param(*case, marks=pytest.mark.checklist(number), id=name)


MISSING_TIME: Final = internal_error("missing creationTime from existing snapshot")


@pytest.mark.parametrize(
    ("xml", "refused"),
    [
        proves(56, made(None), xml_refused("a redefined snapshot must have a name"), name="no name"),
        proves(56, made(""), xml_refused("a redefined snapshot must have a name"), name="empty name"),
        proves(57, made(time=None), MISSING_TIME, name="no time"),
        proves(57, made(time=""), MISSING_TIME, name="empty time"),
        proves(57, made(time="now"), MISSING_TIME, name="a word for a time"),
        proves(57, made(time="1.5"), MISSING_TIME, name="a fraction for a time"),
        proves(58, made(state=None), xml_refused("missing state from existing snapshot"), name="no state"),
        proves(59, made(state="nostate"), config_refused(INVALID_STATE.format("nostate")), name="nostate"),
        proves(
            59, made(state="Running"), config_refused(INVALID_STATE.format("Running")), name="no such state"
        ),
        proves(
            61,
            made(rest="{other}"),
            argument_refused(f"definition for snapshot new must use uuid {UUID}"),
            name="another UUID",
        ),
        proves(62, made(rest=UUID_ONLY), internal_error("missing domain in snapshot"), name="UUID only"),
        proves(62, made(rest=""), internal_error("missing domain in snapshot"), name="no domain"),
        proves(
            64,
            made(rest=below("new")),
            argument_refused("cannot set moment new as its own parent"),
            name="own parent",
        ),
        proves(
            64,
            made("s2", rest=below("s2")),
            argument_refused("cannot set moment s2 as its own parent"),
            name="self",
        ),
        proves(
            65,
            made(rest=below("nobody")),
            argument_refused("parent nobody for moment new not found"),
            name="no such parent",
        ),
        proves(
            66,
            made("s1", rest=below("s3")),
            argument_refused("parent s2 would create cycle to s1"),
            name="long cycle",
        ),
        proves(
            66,
            made("s1", rest=below("s4")),
            argument_refused("parent s4 would create cycle to s1"),
            name="short cycle",
        ),
        proves(
            70,
            made("s1", state="shutoff"),
            argument_refused("cannot change between online and offline snapshot state in snapshot s1"),
            name="running to shutoff",
        ),
        proves(
            70,
            made("off", state="paused"),
            argument_refused("cannot change between online and offline snapshot state in snapshot off"),
            name="shutoff to paused",
        ),
        proves(
            70,
            made("s1", state="crashed"),
            argument_refused("cannot change between online and offline snapshot state in snapshot s1"),
            name="running to crashed",
        ),
        proves(
            71,
            made("off", state="disk-snapshot"),
            argument_refused("cannot change between disk only and full system in snapshot off"),
            name="shutoff to disk-snapshot",
        ),
        proves(
            73,
            made("s1", rest="{smaller}"),
            config_refused("Target domain max memory 4194304 does not match source 8388608"),
            name="another memory size",
        ),
        proves(
            74,
            made("s1", rest="{renamed}"),
            config_refused("Target domain name 'else' does not match source 'test'"),
            name="another name",
        ),
        proves(
            80,
            made(state="shutoff", rest="<memory snapshot='internal'/>{}"),
            xml_refused("memory state cannot be saved with offline or disk-only snapshot"),
            name="memory while shut off",
        ),
        proves(
            80,
            made(state="disk-snapshot", rest="<memory snapshot='external' file='/m'/>{}"),
            xml_refused("memory state cannot be saved with offline or disk-only snapshot"),
            name="memory of disks only",
        ),
    ],
)
@pytest.mark.parametrize("flags", [["redefine"], ["redefine", "current"]], ids=" ".join)
async def test_a_record_that_cannot_be_is_refused(
    running: Running, rpc: Rpc, definition: str, xml: str, refused: Refusal, flags: list[str]
) -> None:
    await grow_all(rpc, definition)
    with running.nothing_changes():
        found = await refusal(rpc, "snapshot.create", domain="test", xml=filled(xml, definition), flags=flags)
    assert found == refused


def filled(xml: str, definition: str) -> str:
    """Put the definition, or what has become of it, where the document has a place for it."""
    variants = {
        "{}": definition,
        "{other}": definition.replace(UUID, OTHER_UUID),
        "{smaller}": definition.replace("8388608", "4194304"),
        "{renamed}": definition.replace("<name>test</name>", "<name>else</name>"),
    }
    for place, text in variants.items():
        xml = xml.replace(place, text)
    return xml


# --- the order of the checks ---

RUNGS: Final[Rungs] = {
    "no name": xml_refused("a redefined snapshot must have a name"),
    "no time": MISSING_TIME,
    "no state": xml_refused("missing state from existing snapshot"),
    "no such state": config_refused(INVALID_STATE.format("asleep")),
    "manual memory": xml_refused("'manual' memory snapshot mode not supported"),
    "nameless disk": internal_error("missing name from disk snapshot element"),
    "own parent": argument_refused("cannot set moment off as its own parent"),
    "no such parent": argument_refused("parent nobody for moment off not found"),
    "cycle": argument_refused("parent under would create cycle to off"),
    "disk-only flag": argument_refused("disk-only flag for snapshot off requires disk-snapshot state"),
    "another UUID": argument_refused(f"definition for snapshot off must use uuid {UUID}"),
    "online": argument_refused("cannot change between online and offline snapshot state in snapshot off"),
    "disks only": argument_refused("cannot change between disk only and full system in snapshot off"),
    "another memory size": config_refused("Target domain max memory 4194304 does not match source 8388608"),
    "too many disks": config_refused("too many disk snapshot requests for domain"),
    "no such disk": config_refused("no disk named 'vdz'"),
    "file of internal disk": config_refused(
        "file '/b' for disk 'vda' requires use of external snapshot mode"
    ),
}


def faulty(faults: frozenset[str], definition: str) -> str:
    """Return a document for `off` (shut off, with the child `under`) that has as many of these faults as it can."""
    parents = {"own parent": "off", "no such parent": "nobody", "cycle": "under"}
    parent = next((name for fault, name in parents.items() if fault in faults), None)
    states = {"no such state": "asleep", "online": "running", "disks only": "disk-snapshot"}
    state = next((word for fault, word in states.items() if fault in faults), "shutoff")
    disks = "<disk/>" if "nameless disk" in faults else ""
    if "too many disks" in faults:
        disks += "<disk name='vdx'/><disk name='vdy'/>"
    if "no such disk" in faults:
        disks += "<disk name='vdz'/>"
    elif "file of internal disk" in faults:
        disks += "<disk name='vda' snapshot='internal'><source file='/b'/></disk>"
    if "another UUID" in faults:
        definition = definition.replace(UUID, OTHER_UUID)
    if "another memory size" in faults:
        definition = definition.replace("8388608", "4194304")
    memory = "<memory snapshot='manual'/>" if "manual memory" in faults else ""
    above = f"<parent><name>{parent}</name></parent>" if parent else ""
    return made(
        None if "no name" in faults else "off",
        time=None if "no time" in faults else "1000",
        state=None if "no state" in faults else state,
        rest=f"{above}{memory}<disks>{disks}</disks>{definition}",
    )


@pytest.mark.checklist(77)
@pytest.mark.parametrize(("faults", "refused"), ladder(RUNGS))
async def test_a_record_with_several_faults_is_refused_for_the_first_that_libvirt_finds(
    running: Running, rpc: Rpc, definition: str, faults: frozenset[str], refused: Refusal
) -> None:
    await grow_all(rpc, definition)
    await redefine(rpc, record("under", parent="off", domain=definition))
    flags = ["redefine", *(["disk-only"] if "disk-only flag" in faults else [])]
    with running.nothing_changes():
        found = await refusal(
            rpc, "snapshot.create", domain="test", xml=faulty(faults, definition), flags=flags
        )
    assert found == refused
