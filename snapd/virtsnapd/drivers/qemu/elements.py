"""A small grammar of XML elements: everything that a table of rules does not allow is found and named."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from virtsnap_protocol.errors import Problem

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from virtsnapd.models.document import Element


@dataclass(frozen=True, kw_only=True)
class Values:
    """The values that an attribute or a text may have, and how a refusal names them."""

    pattern: re.Pattern[str]
    words: str

    def allow(self, value: str) -> bool:
        """Tell whether the whole of `value` is one of these values."""
        return self.pattern.fullmatch(value) is not None


def one_of(*words: str) -> Values:
    """Return the values that are exactly one of `words`."""
    return Values(pattern=re.compile("|".join(re.escape(word) for word in words)), words=", ".join(words))


def matching(pattern: str, words: str) -> Values:
    """Return the values that match `pattern` as a whole; `words` describes them to a reader."""
    return Values(pattern=re.compile(pattern), words=words)


ANY: Final = matching(r"(?s).*", "anything")
YES_NO: Final = one_of("yes", "no")
ON_OFF: Final = one_of("on", "off")
ZERO: Final = matching(r"0[xX]0+|0+", "0")
NUMBER: Final = matching(r"0[xX][0-9a-fA-F]{1,8}|0|[1-9][0-9]{0,8}", "a number")
PATH: Final = matching(r"/[^\x00-\x1f]*", "an absolute path")


@dataclass(frozen=True, kw_only=True)
class Rule:
    """What is honoured of one element: its attributes, its text, its children, and how often it may occur."""

    attributes: Mapping[str, Values] = field(default_factory=dict)
    children: Mapping[str, Rule] = field(default_factory=dict)
    text: Values | None = None
    required: tuple[str, ...] = ()
    """Attributes and children that must be there."""
    at_most: int | None = 1
    ignored: bool = False
    """The subtree is kept but nothing in it changes what the guest sees."""


IGNORED: Final = Rule(ignored=True, at_most=None)
FLAG: Final = Rule()
"""An element that means something by being there."""


def child_elements(element: Element) -> Iterator[Element]:
    """Yield the child elements of `element`, without comments and processing instructions."""
    return (child for child in element if isinstance(child.tag, str))


def element_name(element: Element) -> str:
    """Return the name as it is written in the document, with its namespace prefix."""
    tag = str(element.tag)
    if not tag.startswith("{"):
        return tag
    local = tag.rpartition("}")[2]
    return f"{element.prefix}:{local}" if element.prefix else local


def attributes_of(element: Element) -> dict[str, str]:
    """Return the attributes as text."""
    return {str(key): str(value) for key, value in element.attrib.items()}


def violations(element: Element, rule: Rule, path: str) -> Iterator[Problem]:
    """Yield everything in `element` that `rule` does not allow; `path` is the XPath of the element."""
    if rule.ignored:
        return
    yield from _attribute_violations(element, rule, path)
    for name in rule.required:
        if element.get(name) is None and element.find(name) is None:
            kind = "attribute" if name in rule.attributes else "element"
            yield Problem(path, f"{kind} '{name}' of <{element_name(element)}> is missing")
    if (text := (element.text or "").strip()) and (rule.text is None or not rule.text.allow(text)):
        wanted = f" (supported: {rule.text.words})" if rule.text else ""
        yield Problem(path, f"the text '{text}' of <{element_name(element)}> is not supported{wanted}")
    for child, child_path in numbered(element, path):
        child_rule = rule.children.get(str(child.tag))
        if child_rule is None:
            yield Problem(child_path, f"element <{element_name(child)}> is not supported")
        else:
            yield from violations(child, child_rule, child_path)
    yield from _repetitions(element, rule, path)


def numbered(element: Element, path: str) -> Iterator[tuple[Element, str]]:
    """Yield the child elements with their XPaths, which carry a position where a name occurs repeatedly."""
    totals = Counter(child.tag for child in child_elements(element))
    seen: Counter[object] = Counter()
    for child in child_elements(element):
        seen[child.tag] += 1
        position = f"[{seen[child.tag]}]" if totals[child.tag] > 1 else ""
        yield child, f"{path}/{element_name(child)}{position}"


def _attribute_violations(element: Element, rule: Rule, path: str) -> Iterator[Problem]:
    name = element_name(element)
    for key, value in attributes_of(element).items():
        allowed = rule.attributes.get(key)
        if allowed is None:
            yield Problem(f"{path}/@{key}", f"attribute '{key}' of <{name}> is not supported")
        elif not allowed.allow(value):
            message = f"value '{value}' of attribute '{key}' of <{name}> is not supported"
            yield Problem(f"{path}/@{key}", f"{message} (supported: {allowed.words})")


def _repetitions(element: Element, rule: Rule, path: str) -> Iterator[Problem]:
    totals = Counter(child.tag for child in child_elements(element))
    for tag, child_rule in rule.children.items():
        if child_rule.at_most is not None and totals[tag] > child_rule.at_most:
            message = f"element <{tag}> occurs {totals[tag]} times, at most {child_rule.at_most} is supported"
            yield Problem(f"{path}/{tag}", message)
