"""What a grammar has words for and what documents say, in the same terms; and all ways to get one thing wrong."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from typing_extensions import override

from virtsnapd.models.pattern import NG, element_name

if TYPE_CHECKING:
    from collections.abc import Iterator

    from virtsnapd.models.document import Element

_OWNERS: Final = {"disks", "revertDisks"}
"""Elements whose <disk> is another thing than that of a domain."""
_SAME: Final = {"inactiveDomain": "domain"}
"""Elements that hold what another holds."""
OPAQUE: Final = {"metadata", "cookie"}
"""Elements of which the content belongs to others."""


class Word(NamedTuple):
    """An element within another, or an attribute (with @) of one."""

    within: str
    name: str

    @override
    def __str__(self) -> str:
        """Return it as it is read in a list."""
        return f"{self.within}/{self.name}"


def _holder(path: tuple[str, ...]) -> str:
    name = "/".join(path[-2:]) if len(path) > 1 and path[-2] in _OWNERS else path[-1]
    return _SAME.get(name, name)


def words_of_grammar(grammar: Element) -> set[Word]:
    """Return every element and attribute that a grammar has a pattern for, wherever it is reached."""
    definitions = {str(define.get("name")): define for define in grammar.iter(f"{NG}define")}
    found: set[Word] = set()
    seen: set[tuple[Element, str]] = set()

    def walk(pattern: Element, path: tuple[str, ...]) -> None:
        for part in pattern:
            if part.tag == f"{NG}ref":
                walk_once(definitions[str(part.get("name"))], path)
            elif part.tag == f"{NG}attribute" and part.get("name") is not None:
                found.add(Word(_holder(path), f"@{part.get('name')}"))
            elif part.tag == f"{NG}element":
                name = element_name(part)
                if name and path:
                    found.add(Word(_holder(path), name))
                if name and name not in OPAQUE:
                    walk_once(part, (*path, name))
            else:
                walk(part, path)

    def walk_once(pattern: Element, path: tuple[str, ...]) -> None:
        key = (pattern, _holder(path) if path else "")
        if key not in seen:
            seen.add(key)
            walk(pattern, path)

    start = grammar.find(f"{NG}start")
    assert start is not None
    walk(start, ())
    return found


def inside(grammar: Element, pattern: Element, name: str) -> Iterator[Element]:
    """Yield the patterns of a child or attribute (with @) of this name that an element's pattern has anywhere."""
    definitions = {str(define.get("name")): define for define in grammar.iter(f"{NG}define")}
    for part in pattern:
        if part.tag == f"{NG}ref":
            yield from inside(grammar, definitions[str(part.get("name"))], name)
        elif part.tag == f"{NG}attribute":
            if f"@{part.get('name')}" == name:
                yield part
        elif part.tag == f"{NG}element":
            if element_name(part) == name:
                yield part
        else:
            yield from inside(grammar, part, name)


def words_of_document(root: Element) -> set[Word]:
    """Return every element and attribute that a document uses."""
    found: set[Word] = set()
    for element in speaking(root):
        path = tuple(str(owner.tag) for owner in (*reversed(list(element.iterancestors())), element))
        if len(path) > 1:
            found.add(Word(_holder(path[:-1]), path[-1]))
        found.update(Word(_holder(path), f"@{name}") for name in map(str, element.attrib))
    return found


def speaking(root: Element) -> Iterator[Element]:
    """Yield the elements of a document of which the grammar has anything to say."""
    yield root
    if root.tag not in OPAQUE:
        for child in root:
            yield from speaking(child)


def mutations(root: Element, spoiled: str) -> Iterator[tuple[str, Element]]:
    """Yield what is wrong while one element or attribute has another name or one value is `spoiled`, and the element.

    The document is changed for the time of each step, and is as before afterwards.
    """
    for element in list(speaking(root)):
        name = f"{element.tag} (line {element.sourceline})"
        if element is not root:
            tag, element.tag = element.tag, "zork"
            yield f"element {name} renamed", element
            element.tag = tag
        text = element.text
        if (text or "").strip():
            element.text = spoiled
            yield f"text of {name} spoiled", element
            element.text = text
        attributes = {str(key): str(value) for key, value in element.attrib.items()}
        for key, value in attributes.items():
            element.set(key, spoiled)
            yield f"@{key} of {name} spoiled", element
            del element.attrib[key]
            element.set("zork", value)
            yield f"@{key} of {name} renamed", element
            del element.attrib["zork"]
            element.set(key, value)
