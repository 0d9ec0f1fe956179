from __future__ import annotations

import copy

import pytest

from tests.snapd.models.samples import UUID, disk_xml, domain, domain_xml
from tests.support import golden
from virtsnap_protocol.errors import Error
from virtsnapd.models.domain import DomainDefinition, parse_scaled

REST = "<memory>1024</memory><os><type>hvm</type></os>"


def named(inner: str, attributes: str = "type='test'") -> str:
    return f"<domain {attributes}><name>a</name><uuid>{UUID}</uuid>{inner}</domain>"


# what virsh 9.0 prints for `define` with the test driver, where not said otherwise
REFUSED = {
    "root": ("<x/>", 27, "XML error: expecting root element of 'domain', not 'x'"),
    "no name": (f"<domain type='test'>{REST}</domain>", 35, "missing name information"),
    "empty name": (f"<domain type='test'><name/>{REST}</domain>", 35, "missing name information"),
    "slash": (
        f"<domain type='test'><name>a/b</name>{REST}</domain>",
        27,
        "XML error: name a/b cannot contain '/'",
    ),
    "newline": (f"<domain type='test'><name>a\nb</name>{REST}</domain>", 35, "invalid char in name: a?b"),
    "no type": (named(REST, ""), 1, "internal error: missing domain type attribute"),
    "type": (named(REST, "type='z'"), 67, "unsupported configuration: invalid domain type z"),
    "no os": (named("<memory>1</memory>"), 27, "XML error: an os <type> must be specified"),
    "os": (named("<os><type>z</type></os>"), 67, "unsupported configuration: unknown OS type 'z'"),
    "arch": (
        named("<os><type arch='z'>hvm</type></os>"),
        67,
        "unsupported configuration: Unknown architecture z",
    ),
    "uuid": (named(REST).replace(UUID, "zz"), 1, "internal error: malformed uuid element"),
    "no memory": (
        named("<os><type>hvm</type></os>"),
        27,
        "XML error: Memory size must be specified via <memory> or in the <numa> configuration",
    ),
    "memory": (
        named("<memory>1x</memory><os><type>hvm</type></os>"),
        27,
        "XML error: Invalid value '1x' for element or attribute './memory[1]'",
    ),
    "unit": (
        named("<memory unit='zz'>1</memory><os><type>hvm</type></os>"),
        8,
        "invalid argument: unknown suffix 'zz'",
    ),
    "overflow": (
        named("<memory unit='TiB'>99999999999</memory><os><type>hvm</type></os>"),
        35,
        "numerical overflow: value too large: 99999999999TiB",
    ),
    "vcpu": (named(f"<vcpu>x</vcpu>{REST}"), 27, "XML error: maximum vcpus count must be an integer"),
    "current vcpu": (
        named(f"<vcpu current='5'>2</vcpu>{REST}"),
        67,
        "unsupported configuration: maximum vCPU count must not be less than current vCPU count",
    ),
    "one target": (
        domain_xml(disk_xml("vda", "/a"), disk_xml("vda", "/b")),
        27,
        "XML error: target 'vda' duplicated for disk sources '/a' and '/b'",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_wrong_definition_is_refused_in_the_words_of_libvirt(case: str) -> None:
    text, code, message = REFUSED[case]
    with pytest.raises(Error) as refused:
        DomainDefinition.parse(text)
    assert (refused.value.code, str(refused.value)) == (code, message)


@pytest.mark.parametrize("name", [".", "..", "x" * 256, "é" * 128])
def test_a_name_that_cannot_be_a_file_is_refused(name: str) -> None:
    with pytest.raises(Error, match=r"^XML error: name "):
        DomainDefinition.parse(domain_xml(name=name))


def test_a_definition_without_a_uuid_is_refused_unless_one_can_be_made() -> None:
    text = domain_xml().replace(f"<uuid>{UUID}</uuid>", "")
    with pytest.raises(Error, match="missing uuid"):
        DomainDefinition.parse(text)
    made = DomainDefinition.parse(text, new_uuid=lambda: UUID)
    assert made == domain()


def test_a_given_uuid_is_kept() -> None:
    assert DomainDefinition.parse(domain_xml(), new_uuid=lambda: "unused").uuid == UUID


def test_a_uuid_is_written_as_by_libvirt() -> None:
    text = domain_xml(uuid=" 6695EB01f6a4830479aa97f2502e193f")
    assert DomainDefinition.parse(text) == domain()


def test_the_facts_of_a_definition_are_read() -> None:
    definition = DomainDefinition.parse(
        f"<domain type='qemu' id='7'><name>web</name><uuid>{UUID}</uuid><memory unit='MiB'>2</memory>"
        "<currentMemory unit='MiB'>1</currentMemory><vcpu>3</vcpu>"
        "<os><type arch='x86_64' machine='pc-q35-7.2'>hvm</type></os></domain>"
    )
    assert (definition.name, definition.uuid, definition.type) == ("web", UUID, "qemu")
    assert (definition.os_type, definition.arch, definition.machine) == ("hvm", "x86_64", "pc-q35-7.2")
    assert (definition.max_memory, definition.memory, definition.vcpus) == (2 << 20, 1 << 20, 3)
    assert definition.disks == ()


def test_memory_may_be_that_of_the_numa_cells() -> None:
    text = named(
        "<os><type>hvm</type></os><cpu><numa><cell memory='2' unit='GiB'/><cell memory='1048576'/></numa></cpu>"
    )
    assert DomainDefinition.parse(text).max_memory == 3 << 30


def test_more_current_than_maximum_memory_is_cut_to_the_maximum() -> None:
    definition = DomainDefinition.parse(named(f"<currentMemory>9999</currentMemory>{REST}"))
    assert definition.memory == definition.max_memory == 1024 * 1024


@pytest.mark.parametrize(
    ("number", "unit", "size"),
    [
        ("1", None, 1024),
        ("1", "b", 1),
        ("2", "bytes", 2),
        ("1", "KB", 1000),
        ("1", "k", 1024),
        ("1", "KiB", 1024),
        ("3", "M", 3 << 20),
        ("3", "MB", 3_000_000),
        ("1", "GiB", 1 << 30),
        ("1", "tb", 10**12),
        (" +5", "b", 5),
    ],
)
def test_a_number_is_scaled_by_its_unit_as_in_libvirt(number: str, unit: str | None, size: int) -> None:
    assert parse_scaled(number, unit, "./memory[1]") == size


def test_memory_is_rounded_up_to_whole_kibibytes() -> None:
    definition = DomainDefinition.parse(named("<memory unit='b'>1025</memory><os><type>hvm</type></os>"))
    assert definition.max_memory == 2048


def test_secrets_are_shown_only_when_asked_for() -> None:
    text = domain_xml().replace("</devices>", "<graphics type='vnc' port='-1' passwd='secret'/></devices>")
    definition = DomainDefinition.parse(text)
    assert "passwd='secret'" in definition.format(secure=True)
    assert "<graphics type='vnc' port='-1'/>" in definition.format()


def test_the_digest_covers_the_secrets() -> None:
    one, two = (
        DomainDefinition.parse(domain_xml().replace("</devices>", f"<graphics passwd='{word}'/></devices>"))
        for word in ("one", "two")
    )
    assert one.format() == two.format()
    assert one.digest != two.digest


def test_the_digest_does_not_depend_on_how_the_document_was_written() -> None:
    text = domain_xml()
    spaced = text.replace("><", ">\n\n   <").replace("'", '"').replace("<domain type", "<domain id='5' type")
    assert DomainDefinition.parse(spaced).digest == DomainDefinition.parse(text).digest


def test_the_text_of_a_definition_reads_as_the_same_definition() -> None:
    definition = DomainDefinition.parse(domain_xml(extra="<title>a 'b'\n c</title><x:y xmlns:x='urn:x'/>"))
    assert DomainDefinition.parse(definition.text) == definition


def test_the_id_of_a_running_domain_is_shown_but_not_part_of_it() -> None:
    definition = domain()
    running = definition.format(id=7)
    assert running.startswith("<domain type='test' id='7'>\n")
    assert DomainDefinition.parse(running) == definition


def test_the_type_comes_first_whatever_the_order_was() -> None:
    text = domain_xml().replace("<domain type='test'", "<domain xmlns:q='urn:q' q:a='1' type='test'")
    assert (
        DomainDefinition.parse(text)
        .format(id=7)
        .startswith("<domain type='test' id='7' q:a='1' xmlns:q='urn:q'>")
    )


def test_a_renamed_definition_differs_in_its_name_only() -> None:
    definition = domain()
    renamed = definition.renamed("other")
    assert (renamed.name, definition.name) == ("other", "web")
    assert renamed.renamed("web") == definition


def test_a_definition_cannot_be_renamed_to_a_path() -> None:
    with pytest.raises(Error, match="cannot contain '/'"):
        domain().renamed("a/b")


def test_a_changed_copy_of_the_element_gives_another_definition() -> None:
    definition = domain()
    element = copy.deepcopy(definition.element)
    os_type = element.find("os/type")
    assert os_type is not None
    os_type.set("machine", "pc-i440fx-7.2")
    pinned = definition.with_element(element)
    assert (pinned.machine, definition.machine) == ("pc-i440fx-7.2", None)
    assert pinned.digest != definition.digest


@pytest.mark.parametrize("case", golden.cases("domain"))
def test_a_domain_is_dumped_like_the_sample(case: str) -> None:
    assert golden.dumped_domain(golden.given("domain", case)) == golden.expected("domain", case)
