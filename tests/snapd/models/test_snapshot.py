from __future__ import annotations

import shutil
import subprocess
from typing import TYPE_CHECKING, get_args

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.snapd.models.samples import (
    UUID,
    disk_xml,
    domain,
    domain_xml,
    dump,
    read,
    record,
    request,
    snapshot_xml,
)
from tests.support import golden
from virtsnap_protocol.errors import Error
from virtsnap_protocol.methods.snapshot import SnapshotState
from virtsnapd.models.document import format_fragment, parse_document
from virtsnapd.models.domain import DomainDefinition
from virtsnapd.models.snapshot import (
    OFFLINE_STATES,
    ParsedSnapshot,
    Snapshot,
    SnapshotDisk,
    check_snapshot_name,
    format_snapshot,
    parse_snapshot,
)

if TYPE_CHECKING:
    from pathlib import Path

    from virtsnapd.models.disk import SnapshotMode


def refusal(text: str, *, redefine: bool, offline: bool = False) -> tuple[int, str]:
    with pytest.raises(Error) as refused:
        read(text, redefine=redefine, offline=offline)
    return refused.value.code, str(refused.value)


# --- plain requests


def test_an_empty_request_gets_the_time_as_its_name() -> None:
    assert request() == Snapshot(name="1234", creation_time=1234)
    assert request("<name></name>").name == "1234"


def test_a_generated_name_is_made_unique_and_a_given_one_is_not_touched() -> None:
    def names(text: str) -> str:
        parsed = parse_snapshot(
            text, redefine=False, offline=False, validate=False, now=7, unique_name=lambda name: name + "-2"
        )
        return parsed.snapshot.name

    assert names("<domainsnapshot/>") == "7-2"
    assert names("<domainsnapshot><name>x</name></domainsnapshot>") == "x"


def test_a_request_says_nothing_of_what_the_daemon_knows() -> None:
    text = snapshot_xml("<parent><name>p</name></parent><revertDisks><disk name='vda'/></revertDisks>")
    assert read(text, redefine=False) == ParsedSnapshot(Snapshot(name="s1", creation_time=1234))


def test_a_description_is_kept_and_an_empty_one_dropped() -> None:
    assert request("<description> a &lt;b&gt;\n c </description>").description == " a <b>\n c "
    assert request("<description/>").description is None


def test_a_memory_file_alone_means_external_memory() -> None:
    made = request("<memory file='/m'/>")
    assert (made.memory, made.memory_file) == ("external", "/m")


def test_the_mode_of_memory_is_left_open_when_not_requested() -> None:
    assert request().memory is None


@pytest.mark.parametrize(
    ("inner", "code", "message"),
    [
        (
            "<memory snapshot='default'/>",
            27,
            "XML error: Invalid value for attribute 'snapshot' in element 'memory': 'default'.",
        ),
        ("<memory snapshot='manual'/>", 27, "XML error: 'manual' memory snapshot mode not supported"),
        (
            "<memory snapshot='internal' file='/a'/>",
            27,
            "XML error: memory filename '/a' requires external snapshot",
        ),
        ("<memory snapshot='external'/>", 27, "XML error: external memory snapshots require a filename"),
        ("<memory file='a'/>", 27, "XML error: memory snapshot file path (a) must be absolute"),
        (
            f"<name>{'x' * 256}</name>",
            35,
            f"invalid snapshot name '{'x' * 32}...': name can't have more than 255 characters",
        ),
    ],
)
def test_a_wrong_request_is_refused_in_the_words_of_libvirt(inner: str, code: int, message: str) -> None:
    assert refusal(f"<domainsnapshot>{inner}</domainsnapshot>", redefine=False) == (code, message)


def test_memory_cannot_be_saved_of_a_domain_that_is_off() -> None:
    text = "<domainsnapshot><memory snapshot='internal'/></domainsnapshot>"
    message = "XML error: memory state cannot be saved with offline or disk-only snapshot"
    assert refusal(text, redefine=False, offline=True) == (27, message)
    assert read(text, redefine=False).snapshot.memory == "internal"


def test_another_root_element_is_refused() -> None:
    message = "XML error: expecting root element of 'domainsnapshot', not 'x'"
    assert refusal("<x/>", redefine=False) == (27, message)


def test_a_malformed_document_is_refused_by_its_kind() -> None:
    assert refusal("<domainsnapshot>", redefine=False)[1].startswith("(domain_snapshot):1: Premature end")


def test_unknown_elements_are_ignored() -> None:
    assert request("<zork/><active>1</active>") == request()


# --- records


@pytest.mark.parametrize(
    ("text", "code", "message"),
    [
        (snapshot_xml(name=""), 27, "XML error: a redefined snapshot must have a name"),
        (
            snapshot_xml().replace("<creationTime>1000</creationTime>", ""),
            1,
            "internal error: missing creationTime from existing snapshot",
        ),
        (
            snapshot_xml().replace("1000", "x"),
            1,
            "internal error: missing creationTime from existing snapshot",
        ),
        (
            snapshot_xml().replace("<state>running</state>", ""),
            27,
            "XML error: missing state from existing snapshot",
        ),
        (
            snapshot_xml(state="zz"),
            67,
            "unsupported configuration: Invalid state 'zz' in domain snapshot XML",
        ),
        (
            snapshot_xml(state="nostate"),
            67,
            "unsupported configuration: Invalid state 'nostate' in domain snapshot XML",
        ),
        (snapshot_xml("<inactiveDomain/>"), 35, "missing name information"),
        (
            snapshot_xml("<memory snapshot='internal'/>", state="shutoff"),
            27,
            "XML error: memory state cannot be saved with offline or disk-only snapshot",
        ),
    ],
    ids=["name", "no-time", "time", "no-state", "state", "nostate", "inactive", "offline-memory"],
)
def test_a_wrong_record_is_refused_in_the_words_of_libvirt(text: str, code: int, message: str) -> None:
    assert refusal(text, redefine=True) == (code, message)


def test_the_name_is_asked_for_before_the_time_and_the_time_before_the_state() -> None:
    assert (
        refusal("<domainsnapshot/>", redefine=True)[1] == "XML error: a redefined snapshot must have a name"
    )
    text = "<domainsnapshot><name>s</name></domainsnapshot>"
    assert refusal(text, redefine=True)[1] == "internal error: missing creationTime from existing snapshot"


def test_a_record_is_read_whole() -> None:
    text = snapshot_xml(
        "<parent><name>p</name></parent><description>d</description><memory snapshot='external' file='/m'/>"
        "<disks><disk name='vda' snapshot='external' type='file'><driver type='qcow2'/><source file='/o'/></disk>"
        "</disks>"
        "<revertDisks><disk name='vda' snapshot='external'><source file='/r'/></disk></revertDisks>"
        + domain_xml(memory="4096").replace("domain", "inactiveDomain")
        + "<cookie><x a='1'/></cookie>",
        time=-5,
    )
    parsed = read(text)
    assert parsed.domain == domain()
    assert parsed.inactive_domain == domain(memory="4096")
    assert parsed.snapshot == Snapshot(
        name="s1",
        description="d",
        state="running",
        parent="p",
        creation_time=-5,
        memory="external",
        memory_file="/m",
        disks=(SnapshotDisk(name="vda", snapshot="external", source="/o", format="qcow2"),),
        revert_disks=(SnapshotDisk(name="vda", snapshot="external", source="/r"),),
        domain=domain().digest,
        inactive_domain=domain(memory="4096").digest,
        cookie="<cookie>\n  <x a='1'/>\n</cookie>",
    )


@pytest.mark.parametrize(
    ("state", "memory"),
    [("running", "internal"), ("crashed", "internal"), ("shutoff", "no"), ("disk-snapshot", "no")],
)
def test_the_memory_of_a_record_follows_from_its_state(state: str, memory: str) -> None:
    assert read(snapshot_xml(state=state)).snapshot.memory == memory


def test_a_domain_that_is_only_a_uuid_counts_as_none() -> None:
    parsed = read(snapshot_xml(embedded=f"<domain><uuid>{UUID}</uuid></domain>"))
    assert (parsed.domain, parsed.snapshot.domain) == (None, None)


def test_an_empty_parent_means_a_root() -> None:
    assert read(snapshot_xml("<parent><name></name></parent>")).snapshot.parent is None


def test_an_offline_record_has_no_cookie() -> None:
    assert read(snapshot_xml("<cookie/>", state="shutoff")).snapshot.cookie is None


def test_a_record_is_external_when_memory_or_any_disk_is() -> None:
    external = SnapshotDisk(name="vdb", snapshot="external")
    assert record("s").location == "internal"
    assert record("s", memory="external", memory_file="/m").location == "external"
    assert record("s", disks=(SnapshotDisk(name="vda", snapshot="no"), external)).location == "external"


@pytest.mark.parametrize(
    ("name", "reason"), [("a/b", "name can't contain '/'"), (".a", "name can't start with '.'")]
)
def test_a_name_that_cannot_be_a_file_can_be_refused(name: str, reason: str) -> None:
    with pytest.raises(Error) as refused:
        check_snapshot_name(name)
    assert (refused.value.code, str(refused.value)) == (35, f"invalid snapshot name '{name}': {reason}")


# --- dumps


@pytest.mark.checklist(53)
def test_a_dump_has_the_order_and_the_indentation_of_libvirt() -> None:
    parsed = read(
        snapshot_xml(
            "<cookie/><inactiveDomain type='test'><name>web</name><os><type>hvm</type></os>"
            f"<uuid>{UUID}</uuid><memory>1</memory></inactiveDomain>"
            "<revertDisks><disk name='vda'/></revertDisks><disks><disk name='vda' snapshot='no'/></disks>"
            "<parent><name>p</name></parent><description>d</description>"
        )
    )
    lines = dump(parsed).splitlines()
    assert [line for line in lines if line.startswith("  <") and not line.startswith("  </")] == [
        "  <name>s1</name>",
        "  <description>d</description>",
        "  <state>running</state>",
        "  <parent>",
        "  <creationTime>1000</creationTime>",
        "  <memory snapshot='internal'/>",
        "  <disks>",
        "  <revertDisks>",
        "  <domain type='test'>",
        "  <inactiveDomain type='test'>",
        "  <cookie/>",
    ]


def test_a_dump_without_a_definition_has_the_uuid() -> None:
    assert format_snapshot(Snapshot(name="s"), domain=None, inactive_domain=None, uuid=UUID) == (
        f"<domainsnapshot>\n  <name>s</name>\n  <domain>\n    <uuid>{UUID}</uuid>\n  </domain>\n</domainsnapshot>\n"
    )


def test_text_of_several_lines_within_the_domain_is_not_moved() -> None:
    definition = domain(extra="<description>one\n  two\n<![CDATA[</x>\n<y>]]></description>")
    parsed = read(dump(ParsedSnapshot(record("s", domain=definition.digest), definition)))
    assert parsed.domain == definition


def test_special_characters_are_escaped() -> None:
    made = record(
        "a<&'\">", description="</description>\r\n", memory="external", memory_file="/m'\n", disks=()
    )
    assert read(dump(ParsedSnapshot(made))).snapshot == made


@pytest.mark.parametrize("case", golden.cases("snapshot"))
def test_a_snapshot_is_dumped_like_the_sample(case: str) -> None:
    assert golden.dumped_snapshot(golden.given("snapshot", case)) == golden.expected("snapshot", case)


VIRSH_CASES = [case for case in golden.cases("snapshot") if case.startswith("virsh-")]


@pytest.mark.parametrize("case", VIRSH_CASES)
def test_libvirt_itself_dumps_the_sample_so(case: str, tmp_path: Path) -> None:
    virsh = shutil.which("virsh")
    assert virsh, "virsh is not installed (libvirt-clients)"
    document, parent = tmp_path / "s.xml", tmp_path / "p.xml"
    document.write_text(golden.given("snapshot", case))
    parent.write_text(golden.expected("snapshot", "virsh-root"))
    name = read(document.read_text()).snapshot.name
    commands = "; ".join(
        [
            f"snapshot-create test {parent} --redefine",
            f"snapshot-create test {document} --redefine",
            f"snapshot-dumpxml test {name} --security-info",
        ]
    )
    shown = subprocess.run(
        [virsh, "-q", "-c", "test:///default", commands],
        check=True,
        capture_output=True,
        text=True,
        timeout=30,
    ).stdout
    assert shown[shown.index("<domainsnapshot>") :].rstrip("\n") + "\n" == golden.expected("snapshot", case)


# --- properties

text = st.text(
    st.characters(exclude_categories=["Cs", "Cc", "Cn"], include_characters="\n\t\r"), min_size=1, max_size=20
)
names = st.text(st.characters(exclude_categories=["Cs", "Cc", "Cn"]), min_size=1, max_size=20)
paths = text.map(lambda word: "/" + word)
modes: st.SearchStrategy[SnapshotMode | None] = st.sampled_from(
    [None, "no", "internal", "external", "manual"]
)


@st.composite
def disks(draw: st.DrawFn) -> SnapshotDisk:
    name, marked = draw(text), draw(st.booleans())
    if not draw(st.booleans()):
        return SnapshotDisk(name=name, snapshot=draw(modes), delete_in_progress=marked)
    kind = draw(st.sampled_from(["file", "block", "nvme"]))
    return SnapshotDisk(
        name=name,
        snapshot="external",
        type=kind,
        source=draw(paths),
        format=draw(st.sampled_from([None, "qcow2", "raw"])),
        delete_in_progress=marked,
    )


@st.composite
def records(draw: st.DrawFn) -> Snapshot:
    state = draw(st.sampled_from([state for state in get_args(SnapshotState) if state != "nostate"]))
    memory: SnapshotMode = "no"
    if state not in OFFLINE_STATES:
        memory = draw(st.sampled_from(["no", "internal", "external"]))
    cookie = parse_document("<cookie><x/></cookie>", "w")
    return Snapshot(
        name=draw(names),
        description=draw(st.none() | text),
        state=state,
        parent=draw(st.none() | names),
        creation_time=draw(st.integers(-(10**17), 10**17)),
        memory=memory,
        memory_file=draw(paths) if memory == "external" else None,
        disks=tuple(draw(st.lists(disks(), max_size=3))),
        revert_disks=tuple(draw(st.lists(disks(), max_size=2))),
        cookie=None if state in OFFLINE_STATES else draw(st.sampled_from([None, format_fragment(cookie)])),
    )


Definition = DomainDefinition | None
DEFINITIONS = st.sampled_from([None, domain(), domain(disk_xml("sda"), extra="<title>\n</title>")])


@given(records().filter(lambda made: made.creation_time != 0), DEFINITIONS, DEFINITIONS)
def test_a_dump_reads_as_what_was_dumped(made: Snapshot, now: Definition, later: Definition) -> None:
    digests = [None if definition is None else definition.digest for definition in (now, later)]
    made = msgspec.structs.replace(made, domain=digests[0], inactive_domain=digests[1])
    parsed = ParsedSnapshot(made, now, later)
    assert read(dump(parsed)) == parsed


@given(records())
def test_a_record_survives_the_store(made: Snapshot) -> None:
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(made), type=Snapshot) == made
