"""The grammars that the `validate` flag asks for: RELAX NG in the files of `schemas`, checked by libxml2.

The files are plain RELAX NG, which any validator can read. libxml2 follows every way to read a document at once,
so that each optional attribute doubles its work: a <driver> with twenty of them would take it hours. Before it
compiles a grammar it is therefore given the same grammar in a form for which it needs one way: attributes stand
in an <interleave> beside the rest, which it settles one by one, and what is optional is a choice that tries the
thing before nothing. tests/snapd/models/test_grammar.py has the documents that show the difference.
"""

from __future__ import annotations

import copy
from functools import cache
from importlib.resources import files
from itertools import islice
from typing import TYPE_CHECKING, Final

from lxml import etree

from virtsnap_protocol.errors import Problem, XmlInvalidSchema
from virtsnapd.models.complaints import Complaint, find_complaints, line_of
from virtsnapd.models.pattern import NG

if TYPE_CHECKING:
    from virtsnapd.models.document import Element

GRAMMARS: Final = {"domain": "domain.rng", "domainsnapshot": "domainsnapshot.rng"}
"""The grammar of a document by the name of its root element."""
MAX_COMPLAINTS: Final = 100
"""How many complaints an error carries: a person reads the first few."""
MAX_SIBLINGS: Final = 4096
MAX_ATTRIBUTES: Final = 256
"""Elements within one, and its attributes: libxml2 compares each with all before it. No domain has as many."""

_DATATYPES: Final = "http://www.w3.org/2001/XMLSchema-datatypes"
_NAME_CLASSES: Final = {f"{NG}{tag}" for tag in ("name", "anyName", "nsName")}
_SEQUENCES: Final = [
    f"{NG}{tag}" for tag in ("element", "define", "group", "optional", "zeroOrMore", "oneOrMore")
]
"""The patterns whose children follow one another."""
_TRANSPARENT: Final = {f"{NG}{tag}" for tag in ("group", "choice", "optional", "interleave")}


def check_grammar(root: Element) -> None:
    """Refuse a document that its grammar does not allow; `problems` has the first hundred complaints.

    The text begins like libvirt's (virXMLValidatorValidate), with the file's name for its path.

    Raises: XmlInvalidSchema.
    """
    name = GRAMMARS[str(root.tag)]
    if too_large := _too_large(root):
        complaints = [too_large]
    elif _compiled(name).validate(root):
        return
    else:
        complaints = list(islice(find_complaints(root, load_grammar(name)), MAX_COMPLAINTS))
    problems = [Problem(path=complaint.path, message=complaint.message) for complaint in complaints]
    lines = [f"line {complaint.line}: {complaint.message}" for complaint in complaints]
    detail = "\n".join([f"Unable to validate doc against {name}", *lines])
    raise XmlInvalidSchema(detail, path=problems[0].path, problems=problems)


def _too_large(root: Element) -> Complaint | None:
    """Return what makes a document too much work for libxml2, which would be time that grows with its square."""
    for element in root.iter():
        if len(element) > MAX_SIBLINGS:
            message = f"an element has {len(element)} others in it; at most {MAX_SIBLINGS} can be checked"
            return Complaint(f"/{root.tag}", line_of(element), message)
        if len(element.attrib) > MAX_ATTRIBUTES:
            message = (
                f"an element has {len(element.attrib)} attributes; at most {MAX_ATTRIBUTES} can be checked"
            )
            return Complaint(f"/{root.tag}", line_of(element), message)
    return None


@cache
def load_grammar(name: str) -> Element:
    """Return a grammar as one tree, with what it includes. Never change it."""
    # part of the program, so reading it is not input
    text = (files("virtsnapd.models") / "schemas" / name).read_bytes()
    root = etree.fromstring(text, etree.XMLParser(remove_blank_text=True, remove_comments=True))
    for include in root.findall(f"{NG}include"):
        root.extend(copy.deepcopy(child) for child in load_grammar(str(include.get("href"))))
        root.remove(include)
    root.set("datatypeLibrary", _DATATYPES)
    return root


@cache
def _compiled(name: str) -> etree.RelaxNG:
    root = copy.deepcopy(load_grammar(name))
    _separate_attributes(root)
    _prefer_presence(root)
    return etree.RelaxNG(root)


def _separate_attributes(root: Element) -> None:
    """Turn every sequence that has attributes in it into an <interleave> of each attribute and the rest."""
    definitions = {str(define.get("name")): define for define in root.iter(f"{NG}define")}
    sequences = [sequence for sequence in root.iter(*_SEQUENCES) if len(sequence) > 1]
    # all found out before anything is moved
    found = [[part for part in sequence if _is_attribute(part, definitions)] for sequence in sequences]
    for sequence, attributes in zip(sequences, found, strict=True):
        for empty in sequence.findall(f"{NG}empty"):
            sequence.remove(empty)
        rest = [part for part in sequence if part not in attributes and part.tag not in _NAME_CLASSES]
        if attributes and len(attributes) + len(rest) > 1:
            together = etree.SubElement(sequence, f"{NG}interleave")
            together.extend(attributes)
            (etree.SubElement(together, f"{NG}group") if len(rest) > 1 else together).extend(rest)


def _is_attribute(pattern: Element, definitions: dict[str, Element]) -> bool:
    """Tell whether a pattern is about nothing but attributes of the element that it is in."""
    if pattern.tag == f"{NG}attribute":
        return True
    if pattern.tag == f"{NG}ref":
        pattern = definitions[str(pattern.get("name"))]
    elif pattern.tag not in _TRANSPARENT:
        return False
    return len(pattern) > 0 and all(_is_attribute(part, definitions) for part in pattern)


def _prefer_presence(root: Element) -> None:
    """Turn every <optional> into a choice that tries the thing before nothing."""
    for optional in list(root.iter(f"{NG}optional")):
        parts = list(optional)
        optional.tag = f"{NG}choice"
        if len(parts) > 1:
            etree.SubElement(optional, f"{NG}group").extend(parts)
        etree.SubElement(optional, f"{NG}empty")
