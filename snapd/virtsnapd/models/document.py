"""Reads XML from strangers without harm and writes it the way libvirt does.

The parser accepts no document type definition, hence no entities beyond the five of XML itself, loads
nothing, and keeps libxml2's bounds on depth. The writer indents by two spaces, quotes attributes with ``'``
and escapes all five special characters, as virBufferEscapeString does; below ``<metadata>`` it quotes as
libxml2 does, since libvirt dumps that subtree with libxml2.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TYPE_CHECKING, Final, TypeAlias

from lxml import etree
from lxml.etree import QName, _Element

from virtsnap_protocol.errors import XmlDetail

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

Element: TypeAlias = _Element

MAX_DOCUMENT: Final = 16 * 1024 * 1024
"""Bytes of UTF-8 that a document may have."""
MAX_TAGS: Final = 256 * 1024
"""Tags that a document may have; a domain with a thousand disks has some ten thousand."""
_MAX_SHOWN_LINE: Final = 400
_MAX_REMEMBERED: Final = 64 * 1024
_XML_PREFIX: Final = "{http://www.w3.org/XML/1998/namespace}"

_DOCTYPE = re.compile(r"(?:\s|<\?.*?\?>|<!--.*?-->)*+<!DOCTYPE", re.DOTALL)
# Between structural lines only: text never holds a raw < or >, and text that is all white space has its line
# ends written as references, so a line end between > and < is always ours.
_STRUCTURAL_LINE_END = re.compile(r"(?<=>)\n(?= *<)")


def parse_document(text: str, what: str) -> Element:
    """Return the root element of an untrusted document; comments and processing instructions are dropped.

    `what` names the kind of document in errors, for instance ``domain_snapshot``. The error text is libvirt's
    (virXMLParseHelper): ``(what):line: message``, the line itself, and a line with a caret.

    Raises: XmlDetail.
    """
    text = text.removeprefix("\ufeff")
    data = _encoded(text, what)
    if match := _DOCTYPE.match(text):
        raise _detail_at(text, what, match.end(), "a DTD is not allowed")
    parser = etree.XMLParser(
        encoding="utf-8",
        resolve_entities=False,
        no_network=True,
        load_dtd=False,
        huge_tree=False,
        remove_comments=True,
        remove_pis=True,
    )
    try:
        return etree.fromstring(data, parser)
    except etree.XMLSyntaxError as error:
        # libvirt reports the first complaint; the exception itself carries the last one
        for first in parser.error_log:
            raise _detail(text, what, first.line, first.column, first.message) from None
        raise _detail(text, what, 1, 1, error.msg or "Document is empty") from None


def _encoded(text: str, what: str) -> bytes:
    if "\0" in text:
        raise _detail_at(text.replace("\0", " "), what, text.index("\0"), "Char 0x0 out of allowed range")
    try:
        data = text.encode()
    except UnicodeEncodeError as error:
        raise XmlDetail(f"({what}):1: {error.reason} at character {error.start}") from None
    if len(data) > MAX_DOCUMENT:
        raise XmlDetail(f"({what}):1: the document has {len(data)} bytes; the limit is {MAX_DOCUMENT}")
    if (tags := data.count(b"<")) > MAX_TAGS:
        raise XmlDetail(f"({what}):1: the document has {tags} tags; the limit is {MAX_TAGS}")
    return data


def _detail_at(text: str, what: str, at: int, message: str) -> XmlDetail:
    """Return the error for the character at index `at`."""
    return _detail(text, what, text.count("\n", 0, at) + 1, at - text.rfind("\n", 0, at), message)


def _detail(text: str, what: str, line: int, column: int, message: str) -> XmlDetail:
    """Return the error with its line and a caret; `column` counts from 1, a long line shows in part."""
    lines = text.split("\n")
    shown = lines[line - 1].rstrip("\r") if 0 < line <= len(lines) else ""
    caret = max(column - 1, 0)
    if len(shown) > _MAX_SHOWN_LINE:
        start = max(min(caret, len(shown)) - _MAX_SHOWN_LINE // 2, 0)
        shown, caret = shown[start : start + _MAX_SHOWN_LINE], min(caret - start, _MAX_SHOWN_LINE)
    caret = min(caret, len(shown))
    return XmlDetail(f"({what}):{line}: {message.strip()}\n{shown}\n{'-' * caret}^")


def format_document(element: Element) -> str:
    """Return the element as libvirt prints a document: indented, with one newline at the end."""
    return "".join(_element(element, 0, _LIBVIRT)) + "\n"


def format_fragment(element: Element) -> str:
    """Return the element like `format_document`, without the newline at the end."""
    return "".join(_element(element, 0, _LIBVIRT))


def indented(text: str, levels: int = 1) -> str:
    """Return a text that this module has formatted, moved `levels` levels to the right."""
    return _remembered(text, levels) if len(text) <= _MAX_REMEMBERED else _indented(text, levels)


@lru_cache(maxsize=128)
def _remembered(text: str, levels: int) -> str:
    """Spare the dumps of a hierarchy, whose snapshots share their definitions, the same work each time."""
    return _indented(text, levels)


def _indented(text: str, levels: int) -> str:
    margin = "  " * levels
    return margin + _STRUCTURAL_LINE_END.sub("\n" + margin, text)


def escape(text: str) -> str:
    """Return character data with all five special characters escaped, as virBufferEscapeString does."""
    return (
        text.replace("&", "&amp;")
        .replace("<", "&lt;")
        .replace(">", "&gt;")
        .replace('"', "&quot;")
        .replace("'", "&apos;")
        .replace("\r", "&#13;")
    )


def escape_attribute(text: str) -> str:
    """Return an attribute's value, with white space that a parser would normalise as references."""
    return escape(text).replace("\t", "&#9;").replace("\n", "&#10;")


class _Style:
    """How one part of a document is quoted."""

    def __init__(self, quote: str, text: Callable[[str], str], *, namespaces_first: bool) -> None:
        self.quote = quote
        self.text = text
        self.namespaces_first = namespaces_first


def _escape_sparsely(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").replace("\r", "&#13;")


_LIBVIRT: Final = _Style("'", escape, namespaces_first=False)
_LIBXML: Final = _Style('"', _escape_sparsely, namespaces_first=True)


def _element(element: Element, level: int, style: _Style) -> Iterator[str]:
    margin = "  " * level
    name = _name(element)
    yield f"{margin}<{name}{''.join(_attributes(element, style))}"
    if len(element) == 0:
        yield f">{_chunk(element.text, style)}</{name}>" if element.text else "/>"
    elif _is_mixed(element):
        yield ">"
        yield from _verbatim(element, style)
        yield f"</{name}>"
    else:
        inner = _LIBXML if element.tag == "metadata" else style
        yield ">\n"
        for child in element:
            yield from _element(child, level + 1, inner)
            yield "\n"
        yield f"{margin}</{name}>"


def _verbatim(element: Element, style: _Style) -> Iterator[str]:
    """Yield the content of an element of which white space may mean something."""
    yield _chunk(element.text, style)
    for child in element:
        name = _name(child)
        yield f"<{name}{''.join(_attributes(child, style))}"
        if len(child) or child.text:
            yield ">"
            yield from _verbatim(child, style)
            yield f"</{name}>"
        else:
            yield "/>"
        yield _chunk(child.tail, style)


def _chunk(text: str | None, style: _Style) -> str:
    if not text:
        return ""
    return style.text(text) if text.strip() else text.replace("\r", "&#13;").replace("\n", "&#10;")


def _is_mixed(element: Element) -> bool:
    return _says_something(element.text) or any(_says_something(child.tail) for child in element)


def _says_something(text: str | None) -> bool:
    return bool(text and text.strip())


def _name(element: Element) -> str:
    local = QName(element).localname
    return f"{element.prefix}:{local}" if element.prefix else local


def _attributes(element: Element, style: _Style) -> Iterator[str]:
    parent = element.getparent()
    inherited = {} if parent is None else parent.nsmap
    namespaces = [
        f" {'xmlns:' + prefix if prefix else 'xmlns'}={style.quote}{escape_attribute(uri)}{style.quote}"
        for prefix, uri in element.nsmap.items()
        if inherited.get(prefix) != uri
    ]
    attributes = [
        f" {_attribute_name(element, str(name))}={style.quote}{escape_attribute(str(value))}{style.quote}"
        for name, value in element.attrib.items()
    ]
    yield from namespaces + attributes if style.namespaces_first else attributes + namespaces


def _attribute_name(element: Element, name: str) -> str:
    if not name.startswith("{"):
        return name
    if name.startswith(_XML_PREFIX):
        return "xml:" + name.removeprefix(_XML_PREFIX)
    uri, _, local = name[1:].partition("}")
    prefix = next(prefix for prefix, bound in element.nsmap.items() if bound == uri and prefix)
    return f"{prefix}:{local}"
