"""The grammar of <domainsnapshot> that the `validate` flag asks for, in RELAX NG beside this file."""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Final

from lxml import etree

from virtsnap_protocol.errors import Problem, XmlInvalidSchema

if TYPE_CHECKING:
    from virtsnapd.models.document import Element

GRAMMAR: Final = "domainsnapshot.rng"


def check_grammar(root: Element) -> None:
    """Refuse a <domainsnapshot> that the grammar does not allow; `problems` has every complaint.

    Raises: XmlInvalidSchema.
    """
    grammar = _grammar()
    if grammar.validate(root):
        return
    complaints = [entry.message for entry in grammar.error_log]
    problems = [Problem(path=str(entry.path or "/"), message=entry.message) for entry in grammar.error_log]
    detail = "\n".join([f"Unable to validate doc against {GRAMMAR}", *complaints])
    raise XmlInvalidSchema(detail, problems=problems)


@cache
def _grammar() -> etree.RelaxNG:
    """Compile the grammar once; part of the program, so reading it is not input."""
    text = (files("virtsnapd.models") / "schemas" / GRAMMAR).read_bytes()
    return etree.RelaxNG(etree.fromstring(text))
