from __future__ import annotations

import time
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lxml import etree

from virtsnap_protocol.errors import XmlDetail
from virtsnapd.models.document import (
    MAX_DOCUMENT,
    MAX_TAGS,
    Element,
    escape,
    escape_attribute,
    format_document,
    indented,
    parse_document,
)

MALFORMED = {
    "<a>": "(w):1: Premature end of data in tag a line 1\n<a>\n---^",
    "<a>\n   &b;</a>": "(w):2: Entity 'b' not defined\n   &b;</a>\n------^",
    "": "(w):1: Document is empty\n\n^",
    "<a/><b/>": "(w):1: Extra content at the end of the document\n<a/><b/>\n----^",
}


@pytest.mark.parametrize("text", MALFORMED)
def test_a_malformed_document_is_refused_with_its_line_and_a_caret(text: str) -> None:
    with pytest.raises(XmlDetail) as refused:
        parse_document(text, "w")
    assert str(refused.value) == MALFORMED[text]


@pytest.mark.parametrize(
    "text",
    [
        "<a>\0</a>",
        "<a>\x01</a>",
        "<a>&#1;</a>",
        "<a>\ud800</a>",
        "<a/>" + "\x7f\0",
        "<a>" * 300 + "</a>" * 300,
        "<a>" + "<b/>" * MAX_TAGS + "</a>",
        "<a>" + "x" * MAX_DOCUMENT + "</a>",
    ],
    ids=["nul", "control", "reference", "surrogate", "trailing", "deep", "wide", "long"],
)
def test_a_harmful_document_is_refused(text: str) -> None:
    with pytest.raises(XmlDetail):
        parse_document(text, "w")


LAUGHS = (
    "<!DOCTYPE l [<!ENTITY a 'ha'>"
    + "".join(f"<!ENTITY {chr(98 + n)} '{f'&{chr(97 + n)};' * 10}'>" for n in range(12))
    + "]><l b='&m;'>&m;</l>"
)


@pytest.mark.parametrize(
    "text",
    [
        LAUGHS,
        "\ufeff" + LAUGHS,
        "<?xml version='1.0'?>\n<!-- <a> --> \n" + LAUGHS,
        "<!DOCTYPE a [<!ENTITY b SYSTEM 'file:///etc/passwd'>]><a>&b;</a>",
        "<!DOCTYPE a SYSTEM 'http://example.org/a.dtd'><a/>",
    ],
    ids=["laughs", "byte-order-mark", "after-comment", "external-entity", "external-dtd"],
)
def test_a_document_type_definition_is_refused_before_anything_is_expanded(text: str) -> None:
    tracemalloc.start()
    began = time.process_time()
    with pytest.raises(XmlDetail, match="a DTD is not allowed"):
        parse_document(text, "w")
    took, (_, peak) = time.process_time() - began, tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert took < 0.5
    assert peak < 1024 * 1024


def test_many_comments_before_the_root_cost_linear_time() -> None:
    began = time.process_time()
    with pytest.raises(XmlDetail):
        parse_document("<!--a-->" * 200_000, "w")
    assert time.process_time() - began < 5


def test_only_a_window_of_a_long_line_is_shown() -> None:
    with pytest.raises(XmlDetail) as refused:
        parse_document("<a " + "b" * 100_000, "w")
    assert len(str(refused.value)) < 1000


def test_the_declared_encoding_of_a_text_is_not_believed() -> None:
    assert parse_document("<?xml version='1.0' encoding='UTF-16'?><a>é</a>", "w").text == "é"


def test_comments_and_processing_instructions_are_dropped() -> None:
    assert format_document(parse_document("<a><!-- x --><b/><?y z?></a>", "w")) == "<a>\n  <b/>\n</a>\n"


def test_a_document_is_indented_and_quoted_as_by_libvirt() -> None:
    text = '<a  b="it\'s" c="&quot;"><d>x &lt; "y"</d><e></e></a>'
    assert format_document(parse_document(text, "w")) == (
        "<a b='it&apos;s' c='&quot;'>\n  <d>x &lt; &quot;y&quot;</d>\n  <e/>\n</a>\n"
    )


def test_metadata_is_quoted_as_by_libxml2() -> None:
    text = "<d><metadata><m:x xmlns:m='urn:m' m:a='1'>\"</m:x></metadata></d>"
    assert format_document(parse_document(text, "w")) == (
        '<d>\n  <metadata>\n    <m:x xmlns:m="urn:m" m:a="1">"</m:x>\n  </metadata>\n</d>\n'
    )


def test_namespaces_are_declared_where_they_were() -> None:
    text = "<d type='x' xmlns:q='urn:q'>\n  <q:c>\n    <q:arg value='1'/>\n  </q:c>\n</d>\n"
    assert format_document(parse_document(text, "w")) == text


def test_a_default_namespace_and_its_end_are_kept() -> None:
    root = parse_document("<a><b xmlns='urn:b'><c xmlns=''/></b></a>", "w")
    again = parse_document(format_document(root), "w")
    assert etree.tostring(again, method="c14n") == etree.tostring(
        parse_document("<a>\n  <b xmlns='urn:b'>\n    <c xmlns=''/>\n  </b>\n</a>", "w"), method="c14n"
    )


def test_mixed_content_is_kept_to_the_letter() -> None:
    text = "<a> x <b/>\n <c>\n  <d/></c> y</a>"
    root = parse_document(format_document(parse_document(text, "w")), "w")
    assert etree.tostring(root) == etree.tostring(parse_document(text, "w"))


words = st.text(st.characters(exclude_categories=["Cs", "Cc"], include_characters="\n\t\r"), max_size=12)
names = st.sampled_from(["a", "b", "metadata", "longer-name"])


def leaf(name: str, text: str, attributes: dict[str, str]) -> Element:
    element = etree.Element(name, attributes)
    element.text = text
    return element


def branch(name: str, children: list[tuple[Element, str]], text: str) -> Element:
    element = etree.Element(name)
    element.text = text
    for child, tail in children:
        child.tail = tail
        element.append(child)
    return element


xml_text = words.filter(lambda text: "\ufffe" not in text and "\uffff" not in text)
leaves = st.builds(leaf, names, xml_text, st.dictionaries(names, xml_text, max_size=2))
trees = st.recursive(
    leaves,
    lambda inner: st.builds(
        branch,
        names,
        st.lists(st.tuples(inner, st.one_of(st.just(""), xml_text)), min_size=1, max_size=3),
        xml_text,
    ),
    max_leaves=8,
)


def content(element: Element, *, mixed: bool = False) -> object:
    """Return all that an element says: white space between the children of unmixed elements says nothing."""
    chunks = [element.text or "", *(child.tail or "" for child in element)]
    mixed = len(element) == 0 or mixed or any(chunk.strip() for chunk in chunks)
    said = chunks if mixed else []
    return (
        element.tag,
        sorted(element.attrib.items()),
        said,
        [content(c, mixed=mixed and bool(len(c))) for c in element],
    )


@given(trees)
def test_nothing_that_a_document_says_is_lost_by_formatting(tree: Element) -> None:
    again = parse_document(format_document(tree), "w")
    assert content(again) == content(tree)
    assert format_document(again) == format_document(tree)


@given(trees)
def test_moving_a_document_to_the_right_changes_nothing_that_it_says(tree: Element) -> None:
    text = format_document(tree)
    assert format_document(parse_document(indented(text, 3), "w")) == text


@given(xml_text)
def test_escaped_text_reads_as_it_was(text: str) -> None:
    root = parse_document(f"<a b='{escape_attribute(text)}'>{escape(text)}</a>", "w")
    assert (root.get("b"), root.text or "") == (text, text)
