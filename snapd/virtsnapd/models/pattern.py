"""What a RELAX NG pattern allows one element: attributes, children and text, for telling a person what is wrong.

Whether a document follows its grammar is for libxml2 to say. Of a choice, this takes the alternative that the
element comes nearest to, so that a <disk type='block'> is told what such a disk may have and not what any may.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, Final

from lxml import etree

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from virtsnapd.models.document import Element

NG: Final = "{http://relaxng.org/ns/structure/1.0}"
_CLOSED: Final = {f"{NG}element", f"{NG}attribute"}
_LEAVES: Final = {f"{NG}{tag}" for tag in ("value", "data", "text", "list")}
_SHORT: Final = 64
"""Characters of a value whose judgement is kept: a document's own large ones are not to stay in memory."""
_WRONG_VALUE: Final = 3
"""A wrong value counts more than a thing too many or too few: it is what tells alternatives apart."""
_NOT_PATTERNS: Final = {f"{NG}{tag}" for tag in ("name", "anyName", "nsName", "except", "param")}

_NONE: Final = etree.Element("none")


@dataclass(kw_only=True)
class Shape:
    """What one element may have, and what it must."""

    attributes: dict[str, list[Element]] = field(default_factory=dict)
    """The patterns of an attribute's value by its name."""
    needed_attributes: set[str] = field(default_factory=set)
    children: dict[str, list[Element]] = field(default_factory=dict)
    """The patterns of a child element by its name, with its namespace in braces."""
    needed_children: set[str] = field(default_factory=set)
    repeated: set[str] = field(default_factory=set)
    """The names of children that may occur more than once."""
    wildcards: list[Element] = field(default_factory=list)
    """The patterns of children whose name is not fixed."""
    any_attribute: bool = False
    texts: list[Element] = field(default_factory=list)
    """The patterns of the text; none of them means that there may be none."""
    text_needed: bool = False

    def include(self, other: Shape, *, all_of_it: bool = True) -> None:
        """Add what `other` allows, and unless it is but one of several ways, what it asks for."""
        for mine, theirs in ((self.attributes, other.attributes), (self.children, other.children)):
            for name, patterns in theirs.items():
                mine.setdefault(name, []).extend(patterns)
        self.repeated |= other.repeated
        self.wildcards += other.wildcards
        self.any_attribute |= other.any_attribute
        self.texts += other.texts
        if all_of_it:
            self.needed_attributes |= other.needed_attributes
            self.needed_children |= other.needed_children
            self.text_needed |= other.text_needed

    def ask_for_nothing(self) -> None:
        """Make everything optional."""
        self.needed_attributes, self.needed_children, self.text_needed = set(), set(), False


class Patterns:
    """The patterns of one grammar."""

    def __init__(self, grammar: Element) -> None:
        self._definitions = {str(define.get("name")): define for define in grammar.iter(f"{NG}define")}
        self._choices: dict[Element, bool] = {}
        self._validator = lru_cache(maxsize=1024)(self._compiled)
        self._fits = lru_cache(maxsize=4096)(self._matches)
        self._fixed_shape = lru_cache(maxsize=None)(self.shape)
        self._fixed_part = lru_cache(maxsize=None)(self._new_part)
        start = grammar.find(f"{NG}start")
        self.roots: dict[str, list[Element]] = {} if start is None else self._elements(start)

    def _elements(self, pattern: Element) -> dict[str, list[Element]]:
        return {element_name(element): [element] for element in pattern.iterfind(f"{NG}element")}

    def shape(self, pattern: Element, element: Element, *, again: bool = False) -> Shape:
        """Return what the children of `pattern` together allow `element` to have; `again` if they may repeat."""
        shape = Shape()
        for part in pattern:
            if part.tag not in _NOT_PATTERNS:
                shape.include(self._part(part, element, again=again))
        return shape

    def nearest(self, patterns: Iterable[Element], element: Element) -> Shape:
        """Return what the alternative allows that `element` comes nearest to; the union of those as near."""
        shapes = [self._whole(pattern, element) for pattern in patterns]
        return shapes[0] if len(shapes) == 1 else self._nearest(shapes, element)

    def _whole(self, pattern: Element, element: Element) -> Shape:
        if any(map(self._decides, pattern)):
            return self.shape(pattern, element)
        return self._fixed_shape(pattern, _NONE)

    def _part(self, pattern: Element, element: Element, *, again: bool) -> Shape:
        """Return what one pattern allows; for most this does not depend on the element, and is known already."""
        if self._decides(pattern):
            return self._new_part(pattern, element, again=again)
        return self._fixed_part(pattern, _NONE, again=again)

    def _decides(self, pattern: Element) -> bool:
        """Tell whether there is a choice to make in a pattern, other than between values."""
        known = self._choices.get(pattern)
        if known is None:
            known = not self._is_value(pattern) and (
                pattern.tag == f"{NG}choice" or any(map(self._decides, self._inner(pattern)))
            )
            self._choices[pattern] = known
        return known

    def _is_value(self, pattern: Element) -> bool:
        """Tell whether a pattern is about text alone."""
        if pattern.tag in {f"{NG}ref", f"{NG}choice"}:
            return all(part.tag == f"{NG}empty" or self._is_value(part) for part in self._inner(pattern))
        return pattern.tag in _LEAVES

    def _inner(self, pattern: Element) -> Iterable[Element]:
        """Return the patterns that one is made of, without entering elements and attributes."""
        if pattern.tag == f"{NG}ref":
            return self._definitions[str(pattern.get("name"))]
        return () if pattern.tag in _CLOSED else pattern

    def _new_part(self, pattern: Element, element: Element, *, again: bool) -> Shape:
        kind = str(pattern.tag).removeprefix(NG)
        if self._is_value(pattern):
            return Shape(texts=[pattern], text_needed=not self.fits([pattern], ""))
        if kind == "ref":
            return self.shape(self._definitions[str(pattern.get("name"))], element, again=again)
        if kind == "attribute":
            return _attribute(pattern)
        if kind == "element":
            return _child(pattern)
        if kind == "choice":
            shapes = [self._part(part, element, again=again) for part in pattern]
            return _union(shapes) if again else self._nearest(shapes, element)
        again = again or kind in {"zeroOrMore", "oneOrMore"}
        shape = self.shape(pattern, element, again=again)
        if kind in {"optional", "zeroOrMore"}:
            shape.ask_for_nothing()
        if again:
            shape.repeated |= shape.children.keys()
        return shape

    def _nearest(self, shapes: list[Shape], element: Element) -> Shape:
        """Return the union of the shapes that leave least to complain of."""
        known = _union(shapes)
        distances = [self._distance(shape, known, element) for shape in shapes]
        least = min(distances)
        if least:
            result = Shape()
            result.include(shapes[distances.index(least)])
            for name in result.attributes.keys() & element.attrib.keys():
                if not self.fits(known.attributes[name], element.get(name, "")):
                    result.attributes[name] = known.attributes[name]  # so that all that is possible is named
            return result
        return _union([shape for shape, away in zip(shapes, distances, strict=True) if not away])

    def _distance(self, shape: Shape, known: Shape, element: Element) -> int:
        """Count what `shape` finds wrong with the element and some other alternative might not."""
        children = {str(child.tag) for child in element}
        attributes = {str(name) for name in element.attrib}
        wrong_values = [
            name
            for name, patterns in shape.attributes.items()
            if name in attributes and not self.fits(patterns, element.get(name, ""))
        ]
        return (
            len(shape.needed_attributes - attributes)
            + len(shape.needed_children - children)
            + _WRONG_VALUE * len(wrong_values)
            + len((known.attributes.keys() - shape.attributes.keys()) & attributes)
            + len((known.children.keys() - shape.children.keys()) & children)
            + self._text_distance(shape, known, element.text or "")
        )

    def _text_distance(self, shape: Shape, known: Shape, text: str) -> int:
        if not known.texts:
            return 0
        return not (self.fits(shape.texts, text) if shape.texts else not text.strip())

    def fits(self, patterns: Iterable[Element], text: str) -> bool:
        """Tell whether a value is one that some of the patterns allow."""
        judge = self._fits if len(text) <= _SHORT else self._matches
        return any(judge(pattern, text) for pattern in patterns)

    def _matches(self, pattern: Element, text: str) -> bool:
        if pattern.tag == f"{NG}attribute" and len(pattern) == 0:
            return True
        holder = etree.Element("v")
        holder.text = text
        return self._validator(pattern)(holder)

    def _compiled(self, pattern: Element) -> Callable[[Element], bool]:
        """Return libxml2's own judgement of values, from a grammar that has nothing but this pattern in it."""
        root = etree.Element(f"{NG}grammar", datatypeLibrary="http://www.w3.org/2001/XMLSchema-datatypes")
        holder = etree.SubElement(etree.SubElement(root, f"{NG}start"), f"{NG}element", name="v")
        holder.extend(_copied(pattern) if pattern.tag == f"{NG}attribute" else [_copy(pattern)])
        wanted = [str(ref.get("name")) for ref in holder.iter(f"{NG}ref")]
        for name in wanted:  # grows on the way
            root.append(definition := _copy(self._definitions[name]))
            names = (str(ref.get("name")) for ref in definition.iter(f"{NG}ref"))
            wanted.extend(name for name in names if name not in wanted)
        judge: Callable[[Element], bool] = etree.RelaxNG(root).validate
        return judge

    def words(self, patterns: Iterable[Element]) -> Iterator[str]:
        """Yield the words that some of the patterns allow, in the grammar's order."""
        for pattern in patterns:
            for part in pattern.iter(f"{NG}value", f"{NG}ref"):
                if part.tag == f"{NG}value":
                    yield part.text or ""
                else:
                    yield from self.words([self._definitions[str(part.get("name"))]])


def _union(shapes: Iterable[Shape]) -> Shape:
    """Return what any of the shapes allows; it needs what all need."""
    shapes = list(shapes)
    result = Shape()
    for shape in shapes:
        result.include(shape, all_of_it=False)
    result.needed_attributes = set.intersection(*(shape.needed_attributes for shape in shapes))
    result.needed_children = set.intersection(*(shape.needed_children for shape in shapes))
    result.text_needed = all(shape.text_needed for shape in shapes)
    return result


def admits(wildcard: Element, tag: str) -> bool:
    """Tell whether a pattern of elements of any name is of this one, given with its namespace in braces."""
    namespace = tag[1:].partition("}")[0] if tag.startswith("{") else ""
    return namespace not in {excluded.get("ns", "") for excluded in wildcard.iter(f"{NG}nsName")}


def element_name(pattern: Element) -> str:
    """Return the name of an element that a pattern is of, with its namespace in braces; empty if any has it."""
    name = pattern.get("name")
    if name is None:
        return ""
    owners = (pattern, *pattern.iterancestors())
    namespace = next((owner.get("ns") for owner in owners if owner.get("ns") is not None), "")
    return f"{{{namespace}}}{name}" if namespace else name


def _attribute(pattern: Element) -> Shape:
    name = pattern.get("name")
    if name is None:
        return Shape(any_attribute=True)
    return Shape(attributes={name: [pattern]}, needed_attributes={name})


def _child(pattern: Element) -> Shape:
    name = element_name(pattern)
    if not name:
        return Shape(wildcards=[pattern])
    return Shape(children={name: [pattern]}, needed_children={name})


def _copy(pattern: Element) -> Element:
    return etree.fromstring(etree.tostring(pattern))


def _copied(pattern: Element) -> Iterator[Element]:
    return (_copy(part) for part in pattern)
