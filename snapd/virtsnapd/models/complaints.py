"""What is wrong with a document that does not follow its grammar, in words, with element and line.

libxml2 says whether a document follows a grammar. What it says of one that does not is of little use to a person:
of a mistyped attribute of a disk it tells that there is an ``Extra element devices in interleave``. Here the
document is walked beside the grammar, and everything found that the grammar does not allow.
"""

from __future__ import annotations

from collections import Counter
from functools import lru_cache
from typing import TYPE_CHECKING, Final, NamedTuple

from lxml.etree import QName

from virtsnapd.models.pattern import Patterns, Shape, admits

if TYPE_CHECKING:
    from collections.abc import Iterator

    from virtsnapd.models.document import Element

MAX_LOOKED_AT: Final = 2_000
"""Elements that are looked at; beyond, one complaint stands for all."""
_MAX_SHOWN: Final = 60


class Complaint(NamedTuple):
    """One thing that the grammar does not allow."""

    path: str
    """The XPath of the element or attribute."""
    line: int
    message: str


def find_complaints(root: Element, grammar: Element) -> Iterator[Complaint]:
    """Yield what is wrong with a document of which libxml2 has said that something is, at least one thing."""
    walk = _Walk(_patterns(grammar))
    found = False
    for complaint in walk.element(root, walk.patterns.roots.get(str(root.tag), []), f"/{_name(root)}"):
        found = True
        yield complaint
    if not found:
        where = f"beyond its first {MAX_LOOKED_AT} elements " if walk.left <= 0 else ""
        message = f"<{_name(root)}> {where}has parts that are allowed one by one but not together"
        yield Complaint(f"/{_name(root)}", line_of(root), message)


@lru_cache(maxsize=4)
def _patterns(grammar: Element) -> Patterns:
    return Patterns(grammar)


class _Walk:
    """Goes through one document."""

    def __init__(self, patterns: Patterns) -> None:
        self.patterns = patterns
        self.left = MAX_LOOKED_AT

    def element(self, element: Element, allowed: list[Element], path: str) -> Iterator[Complaint]:
        """Yield what is wrong with an element that is one of those `allowed`, and with all in it."""
        self.left -= 1
        if self.left < 0:
            return
        shape = self.patterns.nearest(allowed, element)
        yield from self._attributes(element, shape, path)
        yield from self._text(element, shape, path)
        for child, child_path in _numbered(element, path):
            tag = str(child.tag)
            patterns = shape.children.get(tag) or [wild for wild in shape.wildcards if admits(wild, tag)]
            if patterns:
                yield from self.element(child, patterns, child_path)
            else:
                message = f"element <{_name(child)}> is not allowed in <{_name(element)}>"
                yield Complaint(child_path, line_of(child), message)
        yield from _occurrences(element, shape, path)

    def _attributes(self, element: Element, shape: Shape, path: str) -> Iterator[Complaint]:
        name, line = _name(element), line_of(element)
        for key, value in ((str(key), str(value)) for key, value in element.attrib.items()):
            patterns = shape.attributes.get(key)
            where = f"{path}/@{_local(key)}"
            if patterns is not None:
                if not self.patterns.fits(patterns, value):
                    words = self._words(patterns)
                    message = (
                        f"value '{_shown(value)}' of attribute '{key}' of <{name}> is not allowed{words}"
                    )
                    yield Complaint(where, line, message)
            elif not shape.any_attribute:
                yield Complaint(where, line, f"attribute '{_local(key)}' is not allowed in <{name}>")
        for key in sorted(shape.needed_attributes - {str(key) for key in element.attrib}):
            yield Complaint(f"{path}/@{key}", line, f"attribute '{key}' of <{name}> is missing")

    def _text(self, element: Element, shape: Shape, path: str) -> Iterator[Complaint]:
        text = "".join([element.text or "", *(child.tail or "" for child in element)])
        if not shape.texts and not text.strip():
            return
        if not text and not shape.text_needed:
            return
        if not shape.texts or not self.patterns.fits(shape.texts, text):
            words = self._words(shape.texts)
            message = f"the text '{_shown(text)}' of <{_name(element)}> is not allowed{words}"
            yield Complaint(path, line_of(element), message)

    def _words(self, patterns: list[Element]) -> str:
        words = list(dict.fromkeys(self.patterns.words(patterns)))
        return f" (allowed: {', '.join(words)})" if words else ""


def _occurrences(element: Element, shape: Shape, path: str) -> Iterator[Complaint]:
    counts = Counter(str(child.tag) for child in element)
    name, line = _name(element), line_of(element)
    for tag in sorted(shape.needed_children - counts.keys()):
        yield Complaint(f"{path}/{_local(tag)}", line, f"element <{_local(tag)}> of <{name}> is missing")
    for tag, count in counts.items():
        if count > 1 and tag in shape.children and tag not in shape.repeated:
            message = f"element <{_local(tag)}> occurs {count} times in <{name}>, once is allowed"
            yield Complaint(f"{path}/{_local(tag)}", line, message)


def _numbered(element: Element, path: str) -> Iterator[tuple[Element, str]]:
    """Yield the children with their XPaths, which carry a position where a name occurs repeatedly."""
    totals = Counter(child.tag for child in element)
    seen: Counter[object] = Counter()
    for child in element:
        seen[child.tag] += 1
        position = f"[{seen[child.tag]}]" if totals[child.tag] > 1 else ""
        yield child, f"{path}/{_name(child)}{position}"


def _name(element: Element) -> str:
    local = QName(element).localname
    return _shown(f"{element.prefix}:{local}" if element.prefix else local)


def _local(name: str) -> str:
    return _shown(name.rpartition("}")[2])


def line_of(element: Element) -> int:
    """Return the line of a document on which an element begins, from 1."""
    line: object = element.sourceline  # the type stubs have no type for it
    return line if isinstance(line, int) else 1


def _shown(text: str) -> str:
    """Return a text as a message shows it: on one line, and not all of it when it is long."""
    text = " ".join(text.split())
    return text if len(text) <= _MAX_SHOWN else text[:_MAX_SHOWN] + "..."
