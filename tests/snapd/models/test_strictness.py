"""The grammars are strict in every place, allow all that the qemu driver honours, and no document keeps them busy."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import pytest
from lxml import etree

from tests.support import golden, vocabulary
from virtsnap_protocol.errors import XmlInvalidSchema
from virtsnapd.drivers.qemu.arguments import DOMAIN
from virtsnapd.drivers.qemu.elements import ANY
from virtsnapd.models.complaints import find_complaints, line_of
from virtsnapd.models.document import MAX_TAGS, parse_document
from virtsnapd.models.grammar import (
    GRAMMARS,
    MAX_ATTRIBUTES,
    MAX_COMPLAINTS,
    MAX_SIBLINGS,
    _compiled,
    check_grammar,
    load_grammar,
)
from virtsnapd.models.pattern import Patterns

if TYPE_CHECKING:
    from collections.abc import Iterator

    from virtsnapd.drivers.qemu.elements import Rule, Values
    from virtsnapd.models.document import Element

DISK: Final = "<source file='/a'/><target dev='vda'/>"


def domain(inner: str) -> Element:
    return parse_document(f"<domain type='test'><name>n</name>{inner}</domain>", "w")


# --- strictness, everywhere

FREE: Final = {
    "name": "of a snapshot: refused by its own rule, with libvirt's words",
    "description": "prose",
    "entry": "a firmware string of any content",
    "cmdline": "a kernel's own business",
    "bootloader_args": "a boot loader's own business",
    "initarg": "an argument of a program",
    "initenv": "a variable of a program",
    "cookie": "of an HTTP server",
    "@passwd": "a password",
    "@value": "an argument of QEMU",
}
"""Text and values that may be anything, by element or attribute, with the reason."""
OF_OTHERS: Final = ("{urn:q}", "element mknod", "element sys_chroot")
"""What has names that the grammar does not fix: other programs' elements, the kernel's capabilities."""


VAGUE: Final = "not together"


def is_free(mutation: str) -> bool:
    kind, _, rest = mutation.partition(" ")
    word = rest.split()[1] if kind == "text" else kind
    return any(other in mutation for other in OF_OTHERS) or (mutation.endswith("spoiled") and word in FREE)


@pytest.mark.parametrize(("folder", "case"), golden.PAIRS)
def test_whatever_one_thing_is_wrong_is_refused_with_a_complaint_about_it(folder: str, case: str) -> None:
    root = parse_document(golden.given(folder, case), "w")
    name = GRAMMARS[str(root.tag)]
    judge, grammar = _compiled(name), load_grammar(name)
    accepted, elsewhere = [], []
    for mutation, element in vocabulary.mutations(root, "\u00a7\n*"):
        lines = {line_of(place) for place in (element, element.getparent()) if place is not None}
        if judge.validate(root):
            if not is_free(mutation):
                accepted.append(mutation)
        elif all(
            found.line not in lines or VAGUE in found.message for found in find_complaints(root, grammar)
        ):
            elsewhere.append(mutation)
    assert (accepted, elsewhere) == ([], [])
    assert etree.tostring(root) == etree.tostring(parse_document(golden.given(folder, case), "w"))


# --- the qemu driver honours nothing that its users could not validate


def honoured(rule: Rule, path: str, seen: tuple[int, ...] = ()) -> Iterator[tuple[str, Values | None]]:
    """Yield the path of every element and attribute that a rule honours, with the values of attributes."""
    yield path, rule.text
    for name, values in rule.attributes.items():
        yield f"{path}/@{name}", values
    for name, child in rule.children.items():
        if id(child) not in seen:
            yield from honoured(child, f"{path}/{name}", (*seen, id(child)))


PATTERNS: Final = Patterns(load_grammar("domain.rng"))


def patterns_at(path: str) -> list[Element]:
    """Return every pattern that the grammar has for an element or attribute of a domain, in any alternative."""
    found = PATTERNS.roots["domain"]
    for name in path.split("/")[2:]:
        found = [
            inner
            for pattern in found
            for inner in vocabulary.inside(load_grammar("domain.rng"), pattern, name)
        ]
    return found


@pytest.mark.parametrize(("path", "values"), list(honoured(DOMAIN, "/domain")))
def test_what_the_qemu_driver_honours_is_in_the_grammar(path: str, values: Values | None) -> None:
    patterns = patterns_at(path)
    assert patterns, f"the grammar has no {path}"
    if "@" in path and values is not None and values is not ANY:
        words = [word for word in values.words.split(", ") if values.allow(word)]
        assert [word for word in words if not PATTERNS.fits(patterns, word)] == []


# --- hostile documents: what libxml2 and we do is bounded, whatever comes

WIDE: Final = MAX_TAGS // 3
HOSTILE = {
    "unknown elements": "<zork/>" * WIDE,
    "unknown devices": f"<devices>{'<zork/>' * WIDE}</devices>",
    "too many devices": f"<devices>{'<emulator>/e</emulator>' * WIDE}</devices>",
    "too much metadata": "<metadata>" + "<x xmlns='urn:x'/>" * WIDE + "</metadata>",
    "wrong devices": "<devices>" + "<hub type='usb' zork='1'/>" * MAX_SIBLINGS + "</devices>",
    "wrong disks": "<devices>" + "<disk type='block'><target/></disk>" * MAX_SIBLINGS + "</devices>",
    "one wrong disk": f"<devices>{f'<disk>{DISK}</disk>' * (MAX_SIBLINGS - 1)}<disk/></devices>",
    "attributes": "<devices><hub " + " ".join(f"a{n}='1'" for n in range(50_000)) + "/></devices>",
    "attributes of others": "<x xmlns='urn:x' " + " ".join(f"a{n}='1'" for n in range(50_000)) + "/>",
    "deep": "<zork>" * 200 + "</zork>" * 200,
    "deep chain": f"<devices><disk>{DISK}{'<backingStore>' * 200}<zork/>{'</backingStore>' * 200}</disk></devices>",
    "deep chain of alternatives": (
        f"<devices><disk>{DISK}"
        + "<backingStore type='file'><format type='raw'/><source file='/b'/>" * 200
        + "<zork/>"
        + "</backingStore>" * 200
        + "</disk></devices>"
    ),
    "a long value": f"<uuid>{'6' * 1_000_000}</uuid>",
    "a long number": f"<memory>{'6' * 1_000_000}</memory>",
    "a long path": f"<devices><emulator>{'/a' * 500_000}\n</emulator></devices>",
}


@pytest.mark.parametrize("case", HOSTILE)
def test_a_hostile_document_gets_few_and_short_complaints(case: str) -> None:
    with pytest.raises(XmlInvalidSchema) as refused:
        check_grammar(domain(HOSTILE[case]))
    assert 0 < len(refused.value.problems or []) <= MAX_COMPLAINTS
    assert len(str(refused.value)) < MAX_COMPLAINTS * 400


DOUBLING = " ".join(
    f"{name}='{value}'"
    for name, value in {
        "name": "qemu", "type": "qcow2", "cache": "none", "error_policy": "stop", "rerror_policy": "stop",
        "io": "native", "ioeventfd": "on", "event_idx": "on", "copy_on_read": "on", "discard": "unmap",
        "discard_no_unref": "on", "iothread": "1", "detect_zeroes": "on", "queues": "1", "queue_size": "1",
        "iommu": "on", "ats": "on", "packed": "on", "page_per_vq": "on",
    }.items()
)  # fmt: skip


def test_optional_attributes_do_not_double_the_work_each() -> None:
    # nineteen of them: as libxml2 compiles the files as they are, this document alone takes it a quarter of an hour
    check_grammar(domain(f"<devices><disk><driver {DOUBLING}/>{DISK}</disk></devices>"))


def test_the_most_that_can_be_checked_is_checked() -> None:
    attributes = " ".join(f"a{number}='1'" for number in range(MAX_ATTRIBUTES))
    check_grammar(domain(f"<metadata><x xmlns='urn:x' {attributes}/></metadata>"))
    check_grammar(domain(f"<devices>{f'<disk>{DISK}</disk>' * MAX_SIBLINGS}</devices>"))
