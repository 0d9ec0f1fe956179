"""Group B: the document that a snapshot is asked for with, and the one that describes it afterwards."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

import pytest

from tests.checklist.refusals import Refusal, config_refused, internal_error, refusal, xml_refused
from tests.support.snapshots import document, record, redefine

if TYPE_CHECKING:
    from tests.support.daemon import Running
    from tests.support.rpc import Rpc


def proves(number: int, *case: object, name: str) -> object:
    return pytest.param(*case, marks=pytest.mark.checklist(number), id=name)


def request(inner: str) -> str:
    return f"<domainsnapshot><name>s1</name>{inner}</domainsnapshot>"


def disks(inner: str) -> str:
    return request(f"<disks>{inner}</disks>")


NO_NAME: Final = internal_error("missing name from disk snapshot element")
NO_FILE: Final = xml_refused("external memory snapshots require a filename")
NOT_ABSOLUTE: Final = xml_refused("disk snapshot image path 'a' must be absolute")


@pytest.mark.parametrize(
    ("xml", "refused"),
    [
        proves(
            26,
            "<domain/>",
            xml_refused("expecting root element of 'domainsnapshot', not 'domain'"),
            name="another root",
        ),
        proves(
            26,
            "<DomainSnapshot/>",
            xml_refused("expecting root element of 'domainsnapshot', not 'DomainSnapshot'"),
            name="root in capitals",
        ),
        proves(
            30,
            request("<memory snapshot='manual'/>"),
            xml_refused("'manual' memory snapshot mode not supported"),
            name="manual memory",
        ),
        proves(31, request("<memory snapshot='external'/>"), NO_FILE, name="memory without a file"),
        proves(
            32,
            request("<memory snapshot='internal' file='/a'/>"),
            xml_refused("memory filename '/a' requires external snapshot"),
            name="file of internal memory",
        ),
        proves(
            32,
            request("<memory snapshot='no' file='/a'/>"),
            xml_refused("memory filename '/a' requires external snapshot"),
            name="file of no memory",
        ),
        proves(
            33,
            request("<memory file='a'/>"),
            xml_refused("memory snapshot file path (a) must be absolute"),
            name="relative memory file",
        ),
        proves(36, disks("<disk/>"), NO_NAME, name="disk without a name"),
        proves(36, disks("<anything snapshot='no'/>"), NO_NAME, name="whatever is in disks is a disk"),
        proves(
            37,
            disks("<disk name='vda' snapshot='default'/>"),
            xml_refused("Invalid value for attribute 'snapshot' in element 'disk': 'default'."),
            name="disk mode default",
        ),
        proves(
            38,
            disks("<disk name='vda' type='dir'/>"),
            xml_refused("unsupported disk snapshot type 'dir'"),
            name="folder",
        ),
        proves(
            38,
            disks("<disk name='vda' type='volume'/>"),
            xml_refused("unsupported disk snapshot type 'volume'"),
            name="volume",
        ),
        proves(
            39, disks("<disk name='vda'><source file='a'/></disk>"), NOT_ABSOLUTE, name="relative disk source"
        ),
        proves(
            39,
            disks("<disk name='vda' type='block'><source dev='a'/></disk>"),
            NOT_ABSOLUTE,
            name="relative device",
        ),
        proves(
            40,
            disks("<disk name='vda'><driver type='zork'/></disk>"),
            config_refused("unknown disk snapshot driver 'zork'"),
            name="unknown driver",
        ),
    ],
)
@pytest.mark.parametrize("flags", [[], ["no-metadata"], ["atomic"]], ids=str)
async def test_a_request_that_says_nonsense_is_refused(
    running: Running, rpc: Rpc, xml: str, refused: Refusal, flags: list[str]
) -> None:
    with running.nothing_changes():
        assert await refusal(rpc, "snapshot.create", domain="test", xml=xml, flags=flags) == refused
    assert running.driver.contents(running.domain()).saved == {}


OFFLINE: Final = xml_refused("memory state cannot be saved with offline or disk-only snapshot")


@pytest.mark.parametrize(
    ("memory", "refused"),
    [
        (
            "snapshot='default' file='a'",
            xml_refused("Invalid value for attribute 'snapshot' in element 'memory': 'default'."),
        ),
        ("snapshot='manual' file='a'", xml_refused("'manual' memory snapshot mode not supported")),
        ("snapshot='internal' file='a'", xml_refused("memory filename 'a' requires external snapshot")),
        ("snapshot='external'", NO_FILE),
        ("file='a'", OFFLINE),
        ("snapshot='internal'", OFFLINE),
    ],
)
@pytest.mark.checklist(30, 31, 32, 35)
async def test_of_several_faults_of_memory_the_first_that_libvirt_finds_is_told(
    qemu: Running, qemu_rpc: Rpc, memory: str, refused: Refusal
) -> None:
    xml = request(f"<disks><disk/></disks><memory {memory}/>")  # memory comes first whatever the order
    with qemu.nothing_changes("tick"):
        assert await refusal(qemu_rpc, "snapshot.create", domain="tick", xml=xml) == refused


@pytest.mark.parametrize(
    ("inner", "refused"),
    [
        ("<disk snapshot='default' type='dir'/>", NO_NAME),
        (
            "<disk name='a' snapshot='default' type='zork'/>",
            xml_refused("Invalid value for attribute 'snapshot' in element 'disk': 'default'."),
        ),
        (
            "<disk name='a' type='zork'><driver type='zork'/></disk>",
            xml_refused("Invalid value for attribute 'type' in element 'disk': 'zork'."),
        ),
        (
            "<disk name='a' type='dir'><source file='a'/><driver type='zork'/></disk>",
            xml_refused("unsupported disk snapshot type 'dir'"),
        ),
        (
            "<disk name='a'><source file='a'/><driver type='zork'/></disk>",
            config_refused("unknown disk snapshot driver 'zork'"),
        ),
        ("<disk name='a'><source file='a'/></disk><disk/>", NOT_ABSOLUTE),
        ("<disk name='a'/><disk/><disk name='a' type='dir'/>", NO_NAME),
    ],
)
@pytest.mark.checklist(36, 37, 38, 39, 40)
async def test_of_several_faults_of_disks_the_first_that_libvirt_finds_is_told(
    running: Running, rpc: Rpc, inner: str, refused: Refusal
) -> None:
    with running.nothing_changes():
        assert await refusal(rpc, "snapshot.create", domain="test", xml=disks(inner)) == refused


@pytest.mark.checklist(27)
@pytest.mark.parametrize(
    "inner", ["<nonsense/>", "<Name>s2</Name>", "<memory snapshot='no'><nonsense/></memory>"]
)
@pytest.mark.parametrize("flags", [["validate"], ["validate", "redefine"]], ids=" ".join)
async def test_validation_refuses_what_the_grammar_does_not_have(
    running: Running, rpc: Rpc, inner: str, flags: list[str]
) -> None:
    with running.nothing_changes():
        found = await refusal(rpc, "snapshot.create", domain="test", xml=request(inner), flags=flags)
    assert found[:2] == (92, "xml-invalid-schema")
    assert found.message.startswith(
        "XML document failed to validate against schema: Unable to validate doc against domainsnapshot.rng\n"
    )


@pytest.mark.checklist(27)
async def test_what_the_grammar_does_not_have_is_ignored_without_validation(rpc: Rpc) -> None:
    await rpc.call("snapshot.create", domain="test", xml=request("<nonsense>1</nonsense><x y='z'/>"))
    plain = re.sub(r"<creationTime>\d+<", "<creationTime>0<", await document(rpc, "s1"))
    await rpc.call("snapshot.delete", domain="test", snapshot="s1")
    await rpc.take("s1")
    assert re.sub(r"<creationTime>\d+<", "<creationTime>0<", await document(rpc, "s1")) == plain


@pytest.mark.checklist(29)
@pytest.mark.parametrize(
    ("given", "kept", "printed"),
    [
        ("plain", "plain", "plain"),
        (" a &lt;b&gt; &amp; 'c' &quot;d&quot; ", " a <b> & 'c' \"d\" ", None),
        ("<![CDATA[</description>]]>", "</description>", "&lt;/description&gt;"),
        ("one\n  two\n", "one\n  two\n", "one\n  two\n"),
        ("", None, None),
    ],
    ids=["plain", "special characters", "markup", "lines", "empty"],
)
async def test_a_description_is_kept_as_it_is_and_an_empty_one_is_none(
    rpc: Rpc, given: str, kept: str | None, printed: str | None
) -> None:
    await rpc.call("snapshot.create", domain="test", xml=request(f"<description>{given}</description>"))
    found = (await rpc.call("snapshot.get", domain="test", snapshot="s1"))["snapshot"]
    assert found["description"] == kept
    xml = await document(rpc, "s1")
    assert ("<description>" in xml) == (kept is not None)
    if printed is not None:
        assert f"<description>{printed}</description>" in xml
    await redefine(rpc, xml)
    assert await document(rpc, "s1") == xml


@pytest.mark.checklist(34)
@pytest.mark.parametrize("mode", ["", "snapshot='external'"], ids=["implied", "said"])
async def test_a_memory_file_means_that_memory_is_external(rpc: Rpc, mode: str) -> None:
    source = "<disks><disk name='vda'><source file='/overlay'/></disk></disks>"
    xml = request(f"<memory {mode} file='/memory'/>{source}")
    taken = (await rpc.call("snapshot.create", domain="test", xml=xml))["snapshot"]
    assert (taken["state"], taken["location"]) == ("running", "external")
    assert "  <memory snapshot='external' file='/memory'/>\n" in await document(rpc, "s1")


@pytest.mark.checklist(35)
@pytest.mark.parametrize("memory", ["snapshot='internal'", "file='/memory'"])
async def test_qemu_has_no_memory_to_save_of_a_domain_that_is_off(
    qemu: Running, qemu_rpc: Rpc, memory: str
) -> None:
    xml = request(f"<memory {memory}/>")
    with qemu.nothing_changes("tick"):
        assert await refusal(qemu_rpc, "snapshot.create", domain="tick", xml=xml) == OFFLINE
    await qemu_rpc.call("snapshot.create", domain="tick", xml=request("<memory snapshot='no'/>"))
    assert await qemu_rpc.tree("tick") == {"s1": None}


@pytest.mark.checklist(35)
@pytest.mark.parametrize("memory", ["snapshot='internal'", "file='/memory'"])
async def test_no_memory_is_saved_with_disks_alone(running: Running, rpc: Rpc, memory: str) -> None:
    xml = request(f"<memory {memory}/>")
    with running.nothing_changes():
        assert await refusal(rpc, "snapshot.create", domain="test", xml=xml, flags=["disk-only"]) == OFFLINE


GUARDED: Final = "passwd='secret'"


@pytest.mark.checklist(54)
async def test_secrets_are_shown_only_to_those_who_ask_for_them(rpc: Rpc, definition: str) -> None:
    graphics = f"<graphics type='vnc' port='-1' {GUARDED}/></devices>"
    await rpc.call("domain.define", xml=definition.replace("</devices>", graphics))
    await rpc.take("s1")  # the running definition is without, that of the next start is with
    await rpc.call("domain.destroy", domain="test")
    await rpc.take("s2")
    for name, parts in (("s1", ["inactiveDomain"]), ("s2", ["domain"])):
        secure = await document(rpc, name)
        assert [part for part in ("domain", "inactiveDomain") if GUARDED in inside(secure, part)] == parts
        shown = (await rpc.call("snapshot.xml", domain="test", snapshot=name))["xml"]
        assert shown == secure.replace(f" {GUARDED}", "")


def inside(xml: str, tag: str) -> str:
    """Return what an element of the document's first level holds."""
    return xml.partition(f"\n  <{tag} ")[2].partition(f"\n  </{tag}>")[0]


@pytest.mark.checklist(55)
@pytest.mark.parametrize("active", ["0", "1", "nonsense"])
async def test_the_mark_of_libvirt_s_own_files_is_neither_read_nor_written(
    rpc: Rpc, definition: str, active: str
) -> None:
    mark = f"<active>{active}</active>"
    await redefine(rpc, record("a", domain=definition, inner=mark))
    assert await rpc.current() is None
    await rpc.call("snapshot.create", domain="test", xml=request(mark))
    assert await rpc.current() == "s1"
    for name in ("a", "s1"):
        assert "<active" not in await document(rpc, name)
