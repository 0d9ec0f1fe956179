"""The grammars: what they allow and refuse, when they are asked, and that what the daemon says is within them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from lxml import etree

from tests.snapd.models.samples import UUID, dump, read, request, snapshot_xml
from tests.support import golden, qemu_golden
from virtsnap_protocol.errors import Error, XmlInvalidSchema
from virtsnapd.models import grammar as grammars
from virtsnapd.models.document import parse_document
from virtsnapd.models.domain import DomainDefinition
from virtsnapd.models.grammar import GRAMMARS, check_grammar, load_grammar
from virtsnapd.models.snapshot import ParsedSnapshot, Snapshot
from virtsnapd.models.snapshot_disk import SnapshotDisk

if TYPE_CHECKING:
    from virtsnapd.models.disk import SnapshotMode
    from virtsnapd.models.document import Element

SCHEMAS: Final = Path(grammars.__file__).parent / "schemas"
STATES: Final = ("running", "blocked", "paused", "shutdown", "shutoff", "crashed", "disk-snapshot")
DISK: Final = "<source file='/a'/><target dev='vda'/>"

ALLOWED_SNAPSHOTS = [
    "",
    "<name>x</name><description>d</description>",
    "<name/>",
    "<memory snapshot='no'/>",
    "<memory snapshot='internal'/>",
    "<memory file='/m'/>",
    "<memory snapshot='external' file='/m'/>",
    "<disks/>",
    "<disks><disk name='vda' snapshot='no'/><disk name='/a/b' snapshot='internal'/></disks>",
    "<disks><disk name='vda' snapshot='manual'/><disk name='vdb'/></disks>",
    "<disks><disk name='vda'><driver type='qcow2'/><source file='/a'/></disk></disks>",
    "<disks><disk name='vda'><source file='/a'><seclabel relabel='no'/></source></disk></disks>",
    "<disks><disk name='vda' type='block' snapshot='external'><source dev='/a'/></disk></disks>",
    "<disks><disk name='vda' type='network'><source protocol='nbd'><host name='h'/></source></disk></disks>",
    "<revertDisks><disk name='vda'><snapshotDeleteInProgress/></disk></revertDisks>",
    f"<domain><uuid>{UUID}</uuid></domain>",
    "<parent><name>p</name></parent><state>crashed</state><creationTime>-5</creationTime>",
    "<cookie/>",
    "<cookie><anything a='1'>x</anything></cookie>",
    "<active>1</active>",
    "<creationTime>1</creationTime><name>n</name>",
]
REFUSED_SNAPSHOTS = [
    "<zork/>",
    "text",
    "<name>x</name><name>y</name>",
    "<name><b/></name>",
    "<state>pmsuspended</state>",
    "<state>nostate</state>",
    "<state/>",
    "<creationTime>soon</creationTime>",
    "<memory snapshot='internal' file='/m'/>",
    "<memory snapshot='no' file='/m'/>",
    "<memory snapshot='external'/>",
    "<memory snapshot='manual'/>",
    "<memory file='m'/>",
    "<memory/>",
    "<disks><disk snapshot='no'/></disks>",
    "<disks><disk name='c:'/></disks>",
    "<disks><disk name='a/b'/></disks>",
    "<disks><zork name='vda'/></disks>",
    "<disks><disk name='vda' snapshot='default'/></disks>",
    "<disks><disk name='vda' snapshot='no'><source file='/a'/></disk></disks>",
    "<disks><disk name='vda' snapshot='no' type='file'/></disks>",
    "<disks><disk name='vda' snapshot='manual'><source file='/a'/></disk></disks>",
    "<disks><disk name='vda' snapshot='internal'><driver type='qcow2'/></disk></disks>",
    "<disks><disk name='vda'><driver type='zork'/></disk></disks>",
    "<disks><disk name='vda'><source file='a'/></disk></disks>",
    "<disks><disk name='vda'><source dev='/a'/></disk></disks>",
    "<disks><disk name='vda' type='dir'/></disks>",
    "<disks><disk name='vda' type='volume'/></disks>",
    "<disks><disk name='vda'><driver/><driver/></disk></disks>",
    "<parent/>",
    "<domain/>",
    "<domain><uuid>zork</uuid></domain>",
    "<domain type='test'><name>n</name><zork/></domain>",
    "<inactiveDomain/>",
    f"<inactiveDomain><uuid>{UUID}</uuid></inactiveDomain>",
    "<cookie>text</cookie>",
    "<active>yes</active>",
]
ALLOWED_DOMAINS = [
    "",
    "<uuid>6695eb01f6a4830479aa97f2502e193f</uuid>",
    "<memory unit='GiB'>1</memory><currentMemory>1</currentMemory>",
    "<metadata><x xmlns='urn:x' y='1'>text<z/></x></metadata>",
    "<x xmlns='urn:of-another-program' a='b'><y/></x>",
    "<seclabel type='none'/>",
    "<devices/>",
    f"<devices><disk>{DISK}</disk></devices>",
    "<devices><disk type='block' device='cdrom'><target dev='hdc'/></disk></devices>",
    "<devices><serial type='unix'/></devices>",
    "<devices><serial/></devices>",
    "<devices><hostdev type='usb'><source/></hostdev></devices>",
]
REFUSED_DOMAINS = [
    "<zork/>",
    "text",
    "<uuid>zork</uuid>",
    "<uuid>6695eb01-f6a4-8304-79aa-97f2502e193</uuid>",
    "<name>twice</name>",
    "<memory>much</memory>",
    "<memory>-1</memory>",
    "<memory unit='zork'>1</memory>",
    "<vcpu>0</vcpu>",
    "<metadata><x/></metadata>",
    "<qemu:zork xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'/>",
    "<on_crash>zork</on_crash>",
    "<seclabel type='none' relabel='yes'/>",
    "<devices><zork/></devices>",
    f"<devices><disk type='zork'>{DISK}</disk></devices>",
    f"<devices><disk device='zork'>{DISK}</disk></devices>",
    f"<devices><disk type='block'>{DISK}</disk></devices>",
    f"<devices><disk snapshot='default'>{DISK}</disk></devices>",
    f"<devices><disk>{DISK}<source file='/b'/></disk></devices>",
    "<devices><disk><source file='/a'/></disk></devices>",
    "<devices><disk><source file='a'/><target dev='vda'/></disk></devices>",
    "<devices><disk><source file='/a'/><target dev='vda' bus='zork'/></disk></devices>",
    "<devices><serial type='zork'/></devices>",
    "<devices><interface type='zork'/></devices>",
    "<devices><interface type='user'><mac address='52:54:00:12:34'/></interface></devices>",
    "<devices><interface type='user'><mac address='52:54:00:12:34:5g'/></interface></devices>",
    *(
        f"<devices><memballoon model='virtio'><address type='pci' {key}='{value}'/></memballoon></devices>"
        for key, value in (
            ("domain", "0x10000"),
            ("bus", "0x100"),
            ("slot", "0x20"),
            ("slot", "32"),
            ("function", "8"),
            ("multifunction", "yes"),
        )
    ),
]


def snapshot(inner: str) -> Element:
    return parse_document(f"<domainsnapshot>{inner}</domainsnapshot>", "w")


def domain(inner: str) -> Element:
    return parse_document(f"<domain type='test'><name>n</name>{inner}</domain>", "w")


@pytest.mark.parametrize("inner", ALLOWED_SNAPSHOTS)
def test_a_snapshot_within_the_grammar_is_allowed(inner: str) -> None:
    check_grammar(snapshot(inner))


@pytest.mark.parametrize("inner", REFUSED_SNAPSHOTS)
def test_a_snapshot_beyond_the_grammar_is_refused(inner: str) -> None:
    with pytest.raises(XmlInvalidSchema) as refused:
        check_grammar(snapshot(inner))
    assert refused.value.code == 92
    assert refused.value.problems


@pytest.mark.parametrize("inner", ALLOWED_DOMAINS)
def test_a_domain_within_the_grammar_is_allowed(inner: str) -> None:
    check_grammar(domain(inner))


@pytest.mark.parametrize("inner", REFUSED_DOMAINS)
def test_a_domain_beyond_the_grammar_is_refused(inner: str) -> None:
    with pytest.raises(XmlInvalidSchema) as refused:
        check_grammar(domain(inner))
    assert refused.value.problems


@pytest.mark.parametrize("name", ["", "a\nb", "a\tb", "a&#13;b"])
def test_a_domain_without_a_printable_name_is_refused(name: str) -> None:
    with pytest.raises(XmlInvalidSchema):
        check_grammar(parse_document(f"<domain type='test'><name>{name}</name></domain>", "w"))


@pytest.mark.parametrize("attributes", ["", "type='zork'", "type='test' zork='1'", "type='test' id='x'"])
def test_the_attributes_of_a_domain_are_checked(attributes: str) -> None:
    with pytest.raises(XmlInvalidSchema):
        check_grammar(parse_document(f"<domain {attributes}><name>n</name></domain>", "w"))


# --- what is asked, and in which order


def test_the_message_names_the_grammar_and_then_every_complaint_with_its_line() -> None:
    with pytest.raises(XmlInvalidSchema) as refused:
        read("<domainsnapshot>\n<zork/>\n<state>off</state></domainsnapshot>", redefine=False, validate=True)
    assert str(refused.value).splitlines() == [
        "XML document failed to validate against schema: Unable to validate doc against domainsnapshot.rng",
        "line 2: element <zork> is not allowed in <domainsnapshot>",
        f"line 3: the text 'off' of <state> is not allowed (allowed: {', '.join(STATES)})",
    ]
    problems = refused.value.problems or []
    assert [problem.path for problem in problems] == ["/domainsnapshot/zork", "/domainsnapshot/state"]
    assert refused.value.path == "/domainsnapshot/zork"


def test_the_message_on_a_domain_names_its_own_grammar() -> None:
    with pytest.raises(XmlInvalidSchema, match=r"^[^\n]*Unable to validate doc against domain\.rng\n"):
        DomainDefinition.parse("<domain/>", validate=True)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("<domain><zork>", r"^\(domain_definition\):1: "),
        ("<zork/>", "expecting root element of 'domain', not 'zork'"),
        ("<domain type='test'><name>a/b</name><zork/></domain>", "element <zork> is not allowed"),
        ("<domain type='test'><name>a/b</name></domain>", "name a/b cannot contain '/'"),
    ],
    ids=["well-formed", "root", "schema", "content"],
)
def test_a_domain_is_checked_in_the_order_of_libvirt(text: str, message: str) -> None:
    with pytest.raises(Error, match=message):
        DomainDefinition.parse(text, validate=True)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("<domainsnapshot><zork>", r"^\(domain_snapshot\):1: "),
        ("<zork/>", "expecting root element of 'domainsnapshot', not 'zork'"),
        ("<domainsnapshot><zork/></domainsnapshot>", "element <zork> is not allowed"),
        ("<domainsnapshot/>", "a redefined snapshot must have a name"),
    ],
    ids=["well-formed", "root", "schema", "content"],
)
def test_a_snapshot_is_checked_in_the_order_of_libvirt(text: str, message: str) -> None:
    with pytest.raises(Error, match=message):
        read(text, validate=True)


def test_the_grammar_is_only_asked_when_wanted() -> None:
    assert request("<zork/>") == request()
    text = "<domain type='test'><name>n</name><zork/><memory>1</memory><os><type>hvm</type></os></domain>"
    assert "<zork/>" in DomainDefinition.parse(text, new_uuid=lambda: UUID).text


def test_a_redefined_document_is_checked_too() -> None:
    with pytest.raises(XmlInvalidSchema):
        read(snapshot_xml("<zork/>"), validate=True)


# --- what the daemon itself says is within its grammars


@pytest.mark.parametrize(("folder", "case"), golden.PAIRS)
def test_both_documents_of_every_pair_are_within_the_grammar(folder: str, case: str) -> None:
    for text in (golden.given(folder, case), golden.expected(folder, case)):
        check_grammar(parse_document(text, "w"))


@pytest.mark.parametrize("path", sorted(golden.DATA.rglob("*.xml")), ids=lambda path: path.name)
def test_every_sample_of_the_tests_is_within_the_grammar(path: Path) -> None:
    check_grammar(parse_document(path.read_text(), "w"))


def test_the_default_domain_is_within_the_grammar() -> None:
    path = SCHEMAS.parent.parent / "drivers/simulated/default.xml"
    check_grammar(parse_document(path.read_text(), "w"))


@pytest.mark.parametrize("case", qemu_golden.CASES)
def test_what_pinning_makes_of_a_domain_is_within_the_grammar(case: str) -> None:
    pinned = qemu_golden.defined(qemu_golden.given(case))
    for text in (pinned.format(), pinned.format(secure=True, id=3)):
        check_grammar(parse_document(text, "w"))


PLAIN: Final = DomainDefinition.parse(golden.expected("domain", "firmware"))
TARGETS: Final = ("vda", "sdb", "hdc")
offline = st.builds(
    Snapshot,
    name=st.just("s"),
    state=st.sampled_from(["shutoff", "disk-snapshot"]),
    creation_time=st.integers(1, 10**10),
    memory=st.just("no"),
)
online = st.builds(
    Snapshot,
    name=st.sampled_from(["s", "a/b", "d\u00e9j\u00e0 vu", "<&>'\""]),
    description=st.none() | st.text(st.characters(exclude_categories=["Cs", "Cc", "Cn"]), min_size=1),
    state=st.sampled_from(["running", "paused", "crashed", "blocked", "shutdown"]),
    parent=st.none() | st.just("p"),
    creation_time=st.integers(-(10**10), 10**10).filter(bool),
    memory=st.sampled_from(["no", "internal"]),
    cookie=st.sampled_from([None, "<cookie/>", "<cookie>\n  <x y='1'/>\n</cookie>"]),
)
in_memory = st.builds(
    Snapshot,
    name=st.just("s"),
    state=st.just("running"),
    creation_time=st.just(1),
    memory=st.just("external"),
    memory_file=st.just("/memory"),
)
kept: st.SearchStrategy[SnapshotMode | None] = st.sampled_from(["no", "internal", "manual"])
overlays = st.builds(
    SnapshotDisk,
    name=st.just("vda"),
    snapshot=st.just("external"),
    type=st.sampled_from(["file", "block"]),
    source=st.none() | st.just("/images/o'1"),
    format=st.sampled_from([None, "raw", "qcow2", "vmdk"]),
    delete_in_progress=st.booleans(),
)


@st.composite
def records(draw: st.DrawFn) -> Snapshot:
    made = draw(offline | online | in_memory)
    disks = [
        SnapshotDisk(name=target, snapshot=draw(kept)) for target in draw(st.sets(st.sampled_from(TARGETS)))
    ]
    changed = draw(st.lists(overlays, max_size=1))
    return msgspec.structs.replace(made, disks=(*disks, *changed), revert_disks=tuple(changed))


@given(records(), st.booleans(), st.booleans())
def test_every_dump_is_within_the_grammar(made: Snapshot, full: bool, changed: bool) -> None:
    definition = PLAIN if full else None
    check_grammar(parse_document(dump(ParsedSnapshot(made, definition, PLAIN if changed else None)), "w"))


# --- the files


@pytest.mark.parametrize("name", GRAMMARS.values())
def test_a_grammar_is_plain_relax_ng_that_other_programs_can_read(name: str) -> None:
    plain = etree.RelaxNG(etree.parse(SCHEMAS / name))
    text = golden.expected("snapshot", "virsh-child")
    whole = etree.fromstring(text)
    root = whole if name == "domainsnapshot.rng" else next(whole.iterfind("domain"))
    assert plain.validate(root)
    root.append(etree.Element("zork"))
    assert not plain.validate(root)


def test_every_file_is_part_of_a_grammar() -> None:
    included: set[str] = set(GRAMMARS.values())
    for path in SCHEMAS.glob("*.rng"):
        included.update(
            str(include.get("href")) for include in etree.parse(path).getroot().iter("{*}include")
        )
    assert included == {path.name for path in SCHEMAS.glob("*.rng")}


@pytest.mark.parametrize("name", GRAMMARS.values())
def test_every_definition_is_used(name: str) -> None:
    root = load_grammar(name)
    used = {ref.get("name") for ref in root.iter("{*}ref")}
    both = {str(ref.get("name")) for other in GRAMMARS.values() for ref in load_grammar(other).iter("{*}ref")}
    assert {str(define.get("name")) for define in root.iter("{*}define")} - used <= both - used
    assert {
        str(define.get("name")) for define in load_grammar("domainsnapshot.rng").iter("{*}define")
    } == both
