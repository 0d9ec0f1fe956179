from __future__ import annotations

import pytest

from tests.snapd.models.samples import UUID, read, request, snapshot_xml
from tests.support import golden
from virtsnap_protocol.errors import XmlInvalidSchema
from virtsnapd.models.document import parse_document
from virtsnapd.models.grammar import check_grammar

ALLOWED = [
    "",
    "<name>x</name><description>d</description>",
    "<memory snapshot='no'/>",
    "<memory file='/m'/>",
    "<memory snapshot='external' file='/m'/>",
    "<disks/>",
    "<disks><disk name='vda' snapshot='no'/><disk name='/a/b' snapshot='internal'/></disks>",
    "<disks><disk name='vda'><driver type='qcow2'/><source file='/a'/></disk></disks>",
    "<disks><disk name='vda' type='block' snapshot='external'><source dev='/a'/></disk></disks>",
    "<disks><disk name='vda' type='network'><source protocol='nbd'><host name='h'/></source></disk></disks>",
    f"<domain><uuid>{UUID}</uuid></domain>",
    "<parent><name>p</name></parent><state>crashed</state><creationTime>-5</creationTime>",
    "<cookie><anything a='1'>x</anything></cookie>",
]
REFUSED = [
    "<zork/>",
    "<name>x</name><name>y</name>",
    "<state>pmsuspended</state>",
    "<state>nostate</state>",
    "<creationTime>soon</creationTime>",
    "<memory snapshot='internal' file='/m'/>",
    "<memory snapshot='external'/>",
    "<memory file='m'/>",
    "<memory/>",
    "<disks><disk snapshot='no'/></disks>",
    "<disks><disk name='c:'/></disks>",
    "<disks><zork name='vda'/></disks>",
    "<disks><disk name='vda' snapshot='no'><source file='/a'/></disk></disks>",
    "<disks><disk name='vda' snapshot='internal'><driver type='qcow2'/></disk></disks>",
    "<disks><disk name='vda'><driver type='zork'/></disk></disks>",
    "<parent/>",
    "<inactiveDomain/>",
]


@pytest.mark.parametrize("inner", ALLOWED)
def test_a_document_within_the_grammar_is_allowed(inner: str) -> None:
    check_grammar(parse_document(f"<domainsnapshot>{inner}</domainsnapshot>", "w"))


@pytest.mark.parametrize("inner", REFUSED)
def test_a_document_beyond_the_grammar_is_refused(inner: str) -> None:
    with pytest.raises(XmlInvalidSchema) as refused:
        check_grammar(parse_document(f"<domainsnapshot>{inner}</domainsnapshot>", "w"))
    assert refused.value.code == 92
    assert refused.value.problems


def test_the_message_names_the_grammar_and_what_it_found() -> None:
    with pytest.raises(XmlInvalidSchema) as refused:
        read("<domainsnapshot><zork/></domainsnapshot>", redefine=False, validate=True)
    first, *rest = str(refused.value).splitlines()
    assert first == (
        "XML document failed to validate against schema: Unable to validate doc against domainsnapshot.rng"
    )
    assert any("zork" in line for line in rest)


def test_the_grammar_is_only_asked_when_wanted() -> None:
    assert request("<zork/>") == request()


@pytest.mark.parametrize("case", golden.cases("snapshot"))
def test_every_dump_is_within_the_grammar(case: str) -> None:
    read(golden.expected("snapshot", case), validate=True)


def test_a_redefined_document_is_checked_too() -> None:
    with pytest.raises(XmlInvalidSchema):
        read(snapshot_xml("<zork/>"), validate=True)
