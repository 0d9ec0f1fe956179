"""The forms of a rule of the comparison: one value, values with names, a part that may be missing, parts in a row."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Final, Protocol

from lxml import etree

from virtsnap_protocol.errors import Problem

if TYPE_CHECKING:
    from virtsnapd.models.document import Element

Reader = Callable[["Element"], str | None]
NULL: Final = "(null)"
"""How libvirt's messages show a missing string, where they do not guard against it."""
GUARDED: Final = "<null>"
"""And where they do (NULLSTR)."""


class Rule(Protocol):
    """Something of an element that must be the same on both sides; an element that is absent is None."""

    def differences(
        self, old: Element | None, new: Element | None, at: str, number: int = 0
    ) -> Iterator[Problem]:
        """Yield what differs; `at` is the XPath of the element, `number` its place among its like, from 0."""


@dataclass(frozen=True, kw_only=True)
class Field:
    """One value: an attribute (``target/@bus``), the text of an element (``serial``), or what `read` makes of it."""

    path: str
    words: str
    """libvirt's sentence, with ``{new}`` for the target's value and ``{old}`` for the source's."""
    read: Reader | None = None
    """Reads the value, given the element that the path starts from; by default it is what stands at the path."""
    form: Callable[[str], str] = str.strip
    """Brings different spellings of one value into one form."""
    default: str | None = None
    """What absence means."""
    absent: str = NULL
    """How the sentence shows absence that means nothing in particular."""
    shown: Callable[[str], str] = str
    """How the sentence shows a value."""
    both: bool = False
    """Compared only where both sides have a value."""

    def differences(
        self, old: Element | None, new: Element | None, at: str, number: int = 0
    ) -> Iterator[Problem]:
        """Yield the difference, if there is one."""
        was, now = self._value(old), self._value(new)
        if was == now or (self.both and None in {was, now}):
            return
        shown = {key: self.absent if v is None else self.shown(v) for key, v in (("old", was), ("new", now))}
        path = f"{at}/{self.path}" if self.path else at
        yield Problem(path=path, message=self.words.format(n=number, **shown), old=was, new=now)

    def _value(self, element: Element | None) -> str | None:
        if element is None:
            return self.default
        value = _at(element, self.path) if self.read is None else self.read(element)
        return self.default if value is None else self.form(value)


def _at(element: Element, path: str) -> str | None:
    """Return the attribute or the text at `path`, None when there is none."""
    steps, attribute = _steps(path)
    for step in steps:
        child = next(element.iterchildren(step), None)
        if child is None:
            return None
        element = child
    return element.get(attribute) if attribute else element.text or ""


@cache
def _steps(path: str) -> tuple[tuple[str, ...], str]:
    """Return the elements that a path goes through and the attribute that it ends in.

    The paths are few, and walking the children is some four times as fast as `find`.
    """
    *parents, last = path.split("/")
    return (tuple(parents), last[1:]) if last.startswith("@") else ((*parents, last), "")


@dataclass(frozen=True, kw_only=True)
class Several:
    """Values that have names, of which each document has its own selection."""

    path: str
    """Where the value of ``{key}`` is."""
    words: str
    """The sentence, with ``{key}``, ``{old}`` and ``{new}``."""
    read: Callable[[Element], Mapping[str, str]]
    """Return what the document says, by name, in libvirt's order."""
    absent: str = "default"
    """How the sentence shows what a document does not say."""
    special: Mapping[str, str] = field(default_factory=dict)
    """Sentences of the names that have one of their own."""
    absences: Mapping[str, str] = field(default_factory=dict)
    """Likewise how absence is shown."""
    order: str = ""
    """The names in libvirt's order, separated by spaces; names that are missing here come last."""

    def differences(
        self, old: Element | None, new: Element | None, at: str, number: int = 0
    ) -> Iterator[Problem]:
        """Yield what differs, in libvirt's order of names."""
        was, now = ({} if element is None else self.read(element) for element in (old, new))
        for key in sorted({**was, **now}, key=self._rank):
            mine, theirs = was.get(key), now.get(key)
            if mine != theirs:
                absent = self.absences.get(key, self.absent)
                message = self.special.get(key, self.words).format(
                    key=key,
                    n=number,
                    old=absent if mine is None else mine,
                    new=absent if theirs is None else theirs,
                )
                yield Problem(path=f"{at}/{self.path.format(key=key)}", message=message, old=mine, new=theirs)

    def _rank(self, key: str) -> int:
        known = self.order.split()
        return known.index(key) if key in known else len(known)


@dataclass(frozen=True, kw_only=True)
class Part:
    """A child that a document may lack; what is in it is compared where both have it."""

    path: str
    rules: tuple[Rule, ...]
    missing: str | None = None
    """The sentence when one side lacks it; None where another rule says so already."""

    def differences(
        self, old: Element | None, new: Element | None, at: str, number: int = 0
    ) -> Iterator[Problem]:
        """Yield that the part is missing on one side, or what differs in it."""
        was, now = (None if element is None else element.find(self.path) for element in (old, new))
        path = f"{at}/{self.path}"
        if was is not None and now is not None:
            for rule in self.rules:
                yield from rule.differences(was, now, path, number)
        elif self.missing is not None and (was is not None or now is not None):
            yield Problem(
                path=path,
                message=self.missing,
                old=None if was is None else "present",
                new=None if now is None else "present",
            )


def _is_copy(one: Element, other: Element) -> bool:
    """Return whether two elements have one text: most of a large document, for a small price."""
    return bool(etree.tostring(one, with_tail=False) == etree.tostring(other, with_tail=False))


@dataclass(frozen=True, kw_only=True)
class Group:
    """All children of one name. There must be as many on both sides, and each is compared with the one in its place."""

    path: str
    count: str
    """libvirt's sentence for different numbers, with ``{new}`` and ``{old}``."""
    rules: tuple[Rule, ...]

    def differences(
        self, old: Element | None, new: Element | None, at: str, number: int = 0
    ) -> Iterator[Problem]:
        """Yield that the numbers differ, or what differs in each pair."""
        was, now = ([] if element is None else element.findall(self.path) for element in (old, new))
        path = f"{at}/{self.path}"
        if len(was) != len(now):
            mine, theirs = str(len(was)), str(len(now))
            message = self.count.format(n=number, old=mine, new=theirs)
            yield Problem(path=path, message=message, old=mine, new=theirs)
            return
        for place, (mine_here, theirs_here) in enumerate(zip(was, now, strict=True)):
            if _is_copy(mine_here, theirs_here):
                continue
            here = f"{path}[{place + 1}]" if len(now) > 1 else path
            for rule in self.rules:
                yield from rule.differences(mine_here, theirs_here, here, place)
