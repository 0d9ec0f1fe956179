"""What ``--xpath`` prints; the expectations are virsh's output for the same document and expression."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import pytest

from tests.support.fake_daemon import refusing
from virtsnap.cli.command import CommandFailed
from virtsnap.cli.xpath import Picked, domain_title
from virtsnap_protocol.errors import DomainNotFound
from virtsnap_protocol.methods import domain, snapshot

if TYPE_CHECKING:
    from tests.client.cli.conftest import Cli
    from tests.support.fake_daemon import FakeDaemon

XML: Final = """\
<domain type='test' xmlns:q='urn:q'>
  <name>é dd</name>
  <title>tïtle &lt;&amp;</title>
  <metadata>
    <a:x xmlns:a="urn:a" a:k='"q&amp;"' b='1'>mixed <a:y/> text</a:x>
  </metadata>
  <devices>
    <disk device='disk'>
      <target dev='vda'/>
    </disk>
    <disk device='cdrom'/>
  </devices>
</domain>
"""


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("//name", ["<name>é dd</name>"]),
        ("//disk", ['<disk device="disk">\n  <target dev="vda"/>\n</disk>', '<disk device="cdrom"/>']),
        ("//target | //title", ["<title>tïtle &lt;&amp;</title>", '<target dev="vda"/>']),
        ("//disk/@device", [' device="disk"', ' device="cdrom"']),
        ("//metadata/*/@*", [' a:k="&quot;q&amp;&quot;"', ' b="1"']),
        ("//title/text()", ["tïtle &lt;&amp;"]),
        ("//metadata/*/text()", ["mixed ", " text"]),
        ("//*[local-name() = 'y']", ['<a:y xmlns:a="urn:a"/>']),
        ("//nothing", []),
        ("//namespace::*", []),
    ],
)
def test_each_node_is_printed_by_itself(expression: str, expected: list[str]) -> None:
    assert Picked(XML, expression).texts() == expected


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        (
            "//disk",
            '<nodes>\n  <disk device="disk">\n    <target dev="vda"/>\n  </disk>\n  <disk device="cdrom"/>\n</nodes>',
        ),
        ("//@device", '<nodes device="cdrom"/>'),
        ("//name | //title/text()", "<nodes><name>é dd</name>tïtle &lt;&amp;</nodes>"),
        ("//metadata/*/text()", "<nodes>mixed  text</nodes>"),
        ("//nothing", "<nodes/>"),
    ],
)
def test_wrapped_nodes_have_one_root(expression: str, expected: str) -> None:
    assert Picked(XML, expression).wrapped() == expected


def test_the_whole_document_is_printed_with_its_declaration() -> None:
    [text] = Picked("<a>\n <b x='1'/>\n</a>", "/").texts()
    assert text == '<?xml version="1.0" encoding="UTF-8"?>\n<a>\n  <b x="1"/>\n</a>\n'
    assert Picked("<a/>", "/").wrapped() == "<nodes>\n  <a/>\n</nodes>"


@pytest.mark.parametrize(
    ("expression", "message"),
    [
        ("string(/)", "internal error: Incorrect xpath 'string(/)'"),
        ("count(//disk)", "internal error: Incorrect xpath 'count(//disk)'"),
        ("1 = 1", "internal error: Incorrect xpath '1 = 1'"),
        ("///[", "XPath error : Invalid expression: ///["),
        ("//a:x", "XPath error : Undefined namespace prefix: //a:x"),
        ("$x", "XPath error : Undefined variable: $x"),
        ("f(1)", "XPath error : Unregistered function: f(1)"),
    ],
)
def test_what_picks_no_nodes_is_refused(expression: str, message: str) -> None:
    with pytest.raises(CommandFailed) as caught:
        Picked(XML, expression)
    assert caught.value.lines == (message,)


def test_an_expression_of_characters_that_xml_has_not_is_refused() -> None:
    with pytest.raises(CommandFailed, match="XPath error"):
        Picked(XML, "\udcff")


def test_entities_stand_for_nothing_from_outside() -> None:
    xml = '<!DOCTYPE a [<!ENTITY e SYSTEM "file:///etc/hostname">]><a>&e;</a>'
    assert Picked(xml, "//a").texts() == ["<a>&e;</a>"]


def test_a_title_is_the_text_of_its_element() -> None:
    assert domain_title(XML) == "tïtle <&"
    assert domain_title("<domain/>") == ""


def test_a_document_is_printed_as_it_is_without_an_expression(cli: Cli, daemon: FakeDaemon) -> None:
    daemon.answers["domain.xml"] = lambda _: domain.XmlResult(xml="<a >\n</a>\n")
    assert cli("dumpxml", "vm", "--wrap") == (0, "<a >\n</a>\n\n", "")


def test_matches_stand_on_lines_of_their_own(cli: Cli, daemon: FakeDaemon) -> None:
    daemon.answers["snapshot.xml"] = lambda _: snapshot.XmlResult(xml="<a><b/><b>1</b></a>")
    assert cli("snapshot-dumpxml", "vm", "s1", "--xpath", "//b") == (0, "<b/>\n<b>1</b>\n\n", "")
    wrapped = "<nodes>\n  <b/>\n  <b>1</b>\n</nodes>\n\n"
    assert cli("snapshot-dumpxml", "vm", "s1", "--xpath", "//b", "--wrap") == (0, wrapped, "")
    assert cli("snapshot-dumpxml", "vm", "s1", "--xpath", "//c") == (0, "\n", "")
    assert cli("snapshot-dumpxml", "vm", "s1", "--xpath", "1")[::2] == (
        1,
        "error: internal error: Incorrect xpath '1'\n",
    )


def test_matches_are_a_list_in_json(cli: Cli, daemon: FakeDaemon) -> None:
    daemon.answers["domain.xml"] = lambda _: domain.XmlResult(xml="<a><b/><b>1</b></a>")
    assert cli.json("dumpxml", "vm", "--xpath", "//b") == {"nodes": ["<b/>", "<b>1</b>"]}
    assert cli.json("dumpxml", "vm", "--xpath", "//c", "--wrap") == {"xml": "<nodes/>"}


def test_the_domain_is_looked_for_before_the_expression_is_read(cli: Cli, daemon: FakeDaemon) -> None:
    daemon.answers["domain.xml"] = refusing(DomainNotFound("no domain with matching name 'x'"))
    assert cli("dumpxml", "x", "--xpath", "///[")[2] == "error: failed to get domain 'x'\n"
