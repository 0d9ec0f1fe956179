"""The table of honoured elements: whatever it allows can be placed and started, or is refused in words."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.qemu_golden import MACHINES, numbered_macs
from virtsnap_protocol.errors import RequestError
from virtsnapd.drivers.qemu import elements
from virtsnapd.drivers.qemu.arguments import DEVICES, SETTINGS, check_honoured, command_line
from virtsnapd.drivers.qemu.elements import Rule, Values, one_of, violations
from virtsnapd.drivers.qemu.pinning import pin
from virtsnapd.models.document import escape_attribute, parse_document
from virtsnapd.models.domain import DomainDefinition

if TYPE_CHECKING:
    from collections.abc import Iterator

FREE = {
    elements.ANY: st.sampled_from(["x", "10", "yes", "a,b"]),
    elements.PATH: st.sampled_from(["/a", "/b,c"]),
}


def values(allowed: Values) -> st.SearchStrategy[str]:
    """Draw what a table entry allows, and now and then a word that it does not."""
    drawn = (
        FREE[allowed]
        if allowed in FREE
        else st.from_regex(allowed.pattern, fullmatch=True, alphabet=st.characters(codec="ascii"))
    )
    return drawn.filter(str.isprintable)


@st.composite
def documents(draw: st.DrawFn, tag: str, rule: Rule, depth: int = 0) -> str:
    """Draw an element that the rule of the table allows."""
    names = draw(st.sets(st.sampled_from(sorted(rule.attributes)))) if rule.attributes else set()
    attributes = "".join(
        f" {name}='{escape_attribute(draw(values(rule.attributes[name])))}'"
        for name in sorted(names | {"type", *rule.required} & set(rule.attributes))
    )
    text = "" if rule.text is None else escape_attribute(draw(values(rule.text)))
    children = [] if depth > 3 or not rule.children else draw(st.sets(st.sampled_from(sorted(rule.children))))
    inner = "".join(
        draw(documents(child, rule.children[child], depth + 1))
        for child in sorted({*children, *rule.required} & set(rule.children))
    )
    return f"<{tag}{attributes}>{text}{inner}</{tag}>"


SETTING_TAGS = sorted(set(SETTINGS) - {"name", "uuid", "memory", "os"})
DEVICE_LISTS = st.lists(
    st.sampled_from(sorted(DEVICES)).flatmap(lambda tag: documents(tag, DEVICES[tag].rule)), max_size=5
)
SETTING_LISTS = st.lists(
    st.sampled_from(SETTING_TAGS).flatmap(lambda tag: documents(tag, SETTINGS[tag].rule)), max_size=2
)


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(DEVICE_LISTS, SETTING_LISTS, st.sampled_from(sorted(MACHINES)))
def test_what_the_table_allows_is_started_or_refused_in_words(
    devices: list[str], rest: list[str], machine: str
) -> None:
    text = (
        "<domain type='qemu'><name>g</name><uuid>6d3f2f0e-0000-4000-8000-00000000000f</uuid><memory>16384</memory>"
        f"<os><type machine='{machine}'>hvm</type></os>{''.join(rest)}<devices>{''.join(devices)}</devices></domain>"
    )
    try:
        definition = DomainDefinition.parse(text)
        pinned = pin(definition, MACHINES, "pc", numbered_macs())
        check_honoured(pinned)
    except RequestError:
        return
    assert pin(pinned, MACHINES, "pc", numbered_macs()) is pinned
    arguments = command_line(
        pinned, emulator="q", accel="kvm", monitor_sockets=("/m",), paused=True, socket_dir="/run"
    )
    assert all("None" not in argument and "\0" not in argument for argument in arguments)


def problems(text: str, rule: Rule) -> Iterator[str]:
    return (problem.path for problem in violations(parse_document(text, "test"), rule, "/a"))


RULE = Rule(
    attributes={"kind": one_of("x", "y")},
    text=one_of("words"),
    children={"b": Rule(at_most=2), "kept": elements.IGNORED},
)


def test_an_allowed_document_has_no_violations() -> None:
    assert list(problems("<a kind='x'> words <b/><b/><kept any='thing'><deep/></kept></a>", RULE)) == []


def test_what_is_required_and_missing_is_named() -> None:
    rule = Rule(attributes={"kind": one_of("x")}, children={"b": Rule()}, required=("kind", "b"))
    found = [problem.message for problem in violations(parse_document("<a/>", "test"), rule, "/a")]
    assert found == ["attribute 'kind' of <a> is missing", "element 'b' of <a> is missing"]


def test_every_violation_is_found_with_its_path() -> None:
    text = "<a kind='z' other='1'>lies<b no='1'/><b>text</b><b/><c/><c/></a>"
    assert sorted(problems(text, RULE)) == sorted(
        ["/a/@kind", "/a/@other", "/a", "/a/b[1]/@no", "/a/b[2]", "/a/c[1]", "/a/c[2]", "/a/b"]
    )


def test_elements_of_other_namespaces_are_named_with_their_prefix() -> None:
    text = "<a xmlns:q='urn:q' q:x='1'><q:b/></a>"
    assert list(problems(text, RULE)) == ["/a/@{urn:q}x", "/a/q:b"]
