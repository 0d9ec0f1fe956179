"""Our grammar beside libvirt's own: what ours has is libvirt's format, and is not looser than libvirt's.

libvirt's files are those that libvirt-clients brings along (of libvirt 9.0 in Debian 12); they are asked, not read.
Each part of the golden documents is asked about by itself, in a domain that has nothing else: libvirt's grammar takes
libxml2 exponential time on more.
"""

from __future__ import annotations

import copy
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest
from lxml import etree

from tests.support import golden, vocabulary
from virtsnap_protocol.errors import XmlInvalidSchema
from virtsnapd.models.document import parse_document
from virtsnapd.models.grammar import check_grammar

if TYPE_CHECKING:
    from collections.abc import Iterator

    from virtsnapd.models.document import Element

LIBVIRT: Final = Path("/usr/share/libvirt/schemas/domain.rng")
MINIMAL: Final = "<domain type='kvm'><name>n</name><memory>1</memory><os><type>hvm</type></os></domain>"
WITHIN: Final = {"name", "uuid", "memory", "os", "devices"}
"""Parts that the minimal domain has already, or that are asked about piece by piece."""
NEWER: Final = (
    "async-teardown", "blob", "crypto", "discard_granularity", "discard_no_unref", "passthrough' limit=",
    "multichannel", "protocol='ssh'", "reconnect delay", "templateFormat", "vhostvdpa", "virtio-mem",
)  # fmt: skip
"""Words of the parts that libvirt's format has got after 9.0."""
FORGOTTEN: Final = ("ua-card-reader",)
"""Words of the parts that libvirt prints and its grammar does not have: the alias of a smartcard."""
LOOSER: Final = {
    "element mknod renamed": "the kernel's capabilities have no list here",
    "element sys_chroot renamed": "the kernel's capabilities have no list here",
    "@driver of audio spoiled": "the name of a driver of SDL",
    "@format of driver spoiled": "the format of a container's file system",
    "@wwpn of source spoiled": "the name of a target on the host",
    "@name of entry spoiled": "the words of the firmware's tables",
}
"""What libvirt's grammar refuses and ours does not, with the reason."""


@cache
def libvirt() -> etree.RelaxNG:
    assert LIBVIRT.exists(), f"{LIBVIRT} is not there (libvirt-clients)"
    return etree.RelaxNG(etree.parse(LIBVIRT))


def parts(case: str) -> Iterator[tuple[Element, Element]]:
    """Yield the parts of a golden domain, each in a domain of its own, as domain and part."""
    root = parse_document(golden.given("domain", case), "w")
    for part in (*root, *root.iterfind("devices/*")):
        if part.tag not in WITHIN or part.getparent() is not root:
            domain = etree.fromstring(MINIMAL)
            holder = domain if part.getparent() is root else etree.SubElement(domain, "devices")
            holder.append(copy.deepcopy(part))
            yield domain, holder[-1]


def is_beyond(part: Element) -> bool:
    text = etree.tostring(part, encoding="unicode").replace('"', "'")
    return any(word in text for word in NEWER + FORGOTTEN)


CASES: Final = [case for case in golden.cases("domain") if case != "everything"]
# its one disk says much at once, and is there for how it is printed


@pytest.mark.parametrize("case", CASES)
def test_libvirt_accepts_what_our_documents_hold(case: str) -> None:
    refused = [
        f"{part.tag} (line {part.sourceline})"
        for domain, part in parts(case)
        if not libvirt().validate(domain)
    ]
    beyond = [f"{part.tag} (line {part.sourceline})" for _, part in parts(case) if is_beyond(part)]
    assert [found for found in refused if found not in beyond] == []


def test_what_is_said_to_be_beyond_libvirts_grammar_is() -> None:
    beyond = [domain for case in CASES for domain, part in parts(case) if is_beyond(part)]
    assert [etree.tostring(domain) for domain in beyond if libvirt().validate(domain)] == []


@pytest.mark.parametrize("case", CASES)
def test_a_wrong_word_that_libvirt_refuses_is_refused_here_too(case: str) -> None:
    looser = []
    for domain, part in parts(case):
        if libvirt().validate(domain):
            for mutation, _ in vocabulary.mutations(part, "zork"):
                if accepts(domain) and not libvirt().validate(domain):
                    before, _, after = mutation.partition(" (line")
                    looser.append(before + after.rpartition(")")[2])
    assert [found for found in looser if found not in LOOSER] == []


def accepts(domain: Element) -> bool:
    try:
        check_grammar(domain)
    except XmlInvalidSchema:
        return False
    return True
