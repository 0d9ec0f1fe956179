"""What a person reads of a document that does not follow its grammar."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.snapd.models.samples import UUID
from tests.support import golden
from virtsnapd.models.complaints import MAX_LOOKED_AT, Complaint, find_complaints
from virtsnapd.models.document import parse_document
from virtsnapd.models.grammar import GRAMMARS, load_grammar

if TYPE_CHECKING:
    from pathlib import Path


def complaints(text: str) -> list[Complaint]:
    root = parse_document(text, "w")
    return list(find_complaints(root, load_grammar(GRAMMARS[str(root.tag)])))


def of_domain(inner: str) -> list[str]:
    found = complaints(f"<domain type='kvm'><name>n</name>{inner}</domain>")
    return [complaint.message for complaint in found]


def of_devices(inner: str) -> list[str]:
    return of_domain(f"<devices>{inner}</devices>")


SAID = {
    "<zork/>": ["element <zork> is not allowed in <devices>"],
    "<x:zork xmlns:x='urn:x'/>": ["element <x:zork> is not allowed in <devices>"],
    "text": ["the text 'text' of <devices> is not allowed"],
    "<hub type='usb' zork='1'/>": ["attribute 'zork' is not allowed in <hub>"],
    "<hub/>": ["attribute 'type' of <hub> is missing"],
    "<hub type='pci'/>": ["value 'pci' of attribute 'type' of <hub> is not allowed (allowed: usb)"],
    "<disk><source file='/a'/></disk>": ["element <target> of <disk> is missing"],
    "<disk><source file='/a'/><target dev='vda'/><target dev='vdb'/></disk>": [
        "element <target> occurs 2 times in <disk>, once is allowed"
    ],
    "<interface type='user'><mac address='52:54'/></interface>": [
        "value '52:54' of attribute 'address' of <mac> is not allowed"
    ],
    "<hub type='usb' zork='1'><mork/></hub><nork/>": [
        "attribute 'zork' is not allowed in <hub>",
        "element <mork> is not allowed in <hub>",
        "element <nork> is not allowed in <devices>",
    ],
}


@pytest.mark.parametrize("inner", SAID)
def test_everything_wrong_is_said_in_the_documents_words(inner: str) -> None:
    assert of_devices(inner) == SAID[inner]


def test_a_complaint_has_the_line_and_the_path() -> None:
    text = "<domain type='kvm'>\n<name>n</name>\n<devices>\n<hub type='usb'/>\n<hub\ntype='x'/>\n</devices></domain>"
    (complaint,) = complaints(text)
    assert (complaint.path, complaint.line) == ("/domain/devices/hub[2]/@type", 6)


@pytest.mark.parametrize(
    ("inner", "said"),
    [
        (
            "<disk type='block'><source file='/a'/><target dev='vda'/></disk>",
            ["attribute 'file' is not allowed in <source>"],
        ),
        (
            "<rng model='virtio'><backend model='dice'/></rng>",
            ["value 'dice' of attribute 'model' of <backend> is not allowed (allowed: random, builtin, egd)"],
        ),
        ("<filesystem type='bind'><target dir='/'/></filesystem>", ["element <source> of <filesystem> is missing"]),
        (
            "<memballoon model='virtio'><address type='pci' slot='0x1' port='2'/></memballoon>",
            ["attribute 'port' is not allowed in <address>"],
        ),
    ],
)  # fmt: skip
def test_of_alternatives_the_one_is_meant_that_comes_nearest(inner: str, said: list[str]) -> None:
    assert of_devices(inner) == said


@pytest.mark.parametrize("path", sorted(golden.DATA.rglob("*.xml")), ids=lambda path: path.name)
def test_nothing_that_is_allowed_is_complained_of(path: Path) -> None:
    root = parse_document(path.read_text(), "w")
    (complaint,) = find_complaints(root, load_grammar(GRAMMARS[str(root.tag)]))
    assert complaint.message == f"<{root.tag}> has parts that are allowed one by one but not together"


def test_a_wrong_definition_within_a_snapshot_is_found() -> None:
    text = f"<domainsnapshot><domain type='test'><name>n</name><uuid>{UUID}0</uuid></domain></domainsnapshot>"
    (complaint,) = complaints(text)
    assert complaint.path == "/domainsnapshot/domain/uuid"


def test_the_content_of_other_programs_is_not_complained_of() -> None:
    assert of_domain("<metadata><x xmlns='urn:x' a='1'>b<c/></x></metadata><zork/>") == [
        "element <zork> is not allowed in <domain>"
    ]


def test_a_long_value_is_shown_in_part_and_on_one_line() -> None:
    (message,) = of_domain("<uuid>" + "a\nb" * 1000 + "</uuid>")
    assert message.startswith("the text 'a ba b")
    assert len(message) < 200
    assert "\n" not in message


def test_one_complaint_stands_for_what_is_too_far_down_to_be_looked_at() -> None:
    hubs = "<hub type='usb'/>" * MAX_LOOKED_AT
    assert of_devices(hubs + "<hub type='x'/>") == [
        f"<domain> beyond its first {MAX_LOOKED_AT} elements has parts that are allowed one by one but not together"
    ]
