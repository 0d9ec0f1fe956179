"""What an XPath expression picks from a document, printed as virsh does (virshDumpXML); the only XML read here."""

from __future__ import annotations

from copy import deepcopy
from typing import TYPE_CHECKING, Any, Final

from virtsnap.cli.command import CommandFailed, Option

if TYPE_CHECKING:
    from lxml.etree import _Element, _ElementUnicodeResult

    from virtsnap.cli.command import Arguments
    from virtsnap.cli.console import Console
    from virtsnap_protocol.methods import domain, snapshot

OPTIONS: Final = (
    Option("xpath", "text", "print only what this XPath expression picks", named_only=True),
    Option("wrap", "flag", "with --xpath: put it all into one element <nodes>"),
)
"""Of every command that prints a document."""

_DECLARATION: Final = '<?xml version="1.0" encoding="UTF-8"?>\n'


def print_document(
    console: Console, arguments: Arguments, result: domain.XmlResult | snapshot.XmlResult
) -> None:
    """Print a document, or with ``--xpath`` what is picked from it.

    Raises:
        CommandFailed: The expression is none, or does not pick nodes.
    """
    expression = arguments.text("xpath")
    if expression is None:
        console.out(result.xml)
        console.result(result)
        return
    picked = Picked(result.xml, expression)
    if arguments.flag("wrap"):
        xml = picked.wrapped()
        console.out(f"{xml}\n")
        console.result({"xml": xml})
    else:
        nodes = picked.texts()
        console.out("".join(f"{node}\n" for node in nodes))
        console.result({"nodes": nodes})


class Picked:
    """The nodes that an expression picks, in the order of the document."""

    def __init__(self, xml: str, expression: str) -> None:
        from lxml import etree  # noqa: PLC0415 as slow to import as everything else together

        parser = etree.XMLParser(
            resolve_entities=False, no_network=True, load_dtd=False, remove_blank_text=True
        )
        try:
            self._root = etree.fromstring(xml.encode(), parser)
            picked: Any = etree.XPath(expression)(self._root.getroottree())
        except (etree.XPathError, ValueError) as error:  # the latter: not of characters that XML has
            raise CommandFailed(f"XPath error : {error}: {expression}") from error
        except etree.XMLSyntaxError as error:
            raise CommandFailed(f"the daemon's document cannot be read: {error}") from error
        if not isinstance(picked, list):
            raise CommandFailed(f"internal error: Incorrect xpath '{expression}'")
        # lxml has no node for the whole document, and tuples for namespaces, which virsh cannot print either.
        self._whole = expression.strip() == "/"
        self._nodes = (
            [self._root] if self._whole else [node for node in picked if not isinstance(node, tuple)]
        )

    def texts(self) -> list[str]:
        """Return each node as it is printed by itself."""
        if self._whole:
            return [f"{_DECLARATION}{_markup(self._root)}\n"]
        return [_alone(node) for node in self._nodes]

    @property
    def strings(self) -> list[str]:
        """The nodes that are text, as they mean it."""
        return [str(node) for node in self._nodes if isinstance(node, str)]

    def wrapped(self) -> str:
        """Return all nodes within one element; attributes become its own."""
        nodes = self._root.makeelement("nodes", {}, {})
        for node in self._nodes:
            _add(nodes, node)
        return _markup(nodes)


def domain_title(xml: str) -> str:
    """Return the text of a domain's <title>, empty when it has none."""
    return "".join(Picked(xml, "/domain/title/text()").strings)


def _alone(node: _Element | _ElementUnicodeResult) -> str:
    from lxml import etree  # noqa: PLC0415 it is loaded

    if not isinstance(node, str):
        return _markup(deepcopy(node))  # the copy declares only the namespaces that it uses
    alone = etree.Element("a")
    if not node.is_attribute:
        alone.text = node
        return _markup(alone).removeprefix("<a>").removesuffix("</a>")
    name = etree.QName(str(node.attrname))
    alone.set(name.localname, node)
    owner = node.getparent()
    prefixes = owner.nsmap if owner is not None and name.namespace else {}
    prefix = next((f"{prefix}:" for prefix, uri in prefixes.items() if prefix and uri == name.namespace), "")
    return f" {prefix}{_markup(alone).removeprefix('<a ').removesuffix('/>')}"


def _add(parent: _Element, node: _Element | _ElementUnicodeResult) -> None:
    if not isinstance(node, str):
        copy = deepcopy(node)
        copy.tail = None
        parent.append(copy)
    elif node.is_attribute:
        parent.set(str(node.attrname), node)
    elif len(parent):
        parent[-1].tail = (parent[-1].tail or "") + node
    else:
        parent.text = (parent.text or "") + node


def _markup(element: _Element) -> str:
    from lxml import etree  # noqa: PLC0415 it is loaded

    text = etree.tostring(element, encoding="unicode", pretty_print=True, with_tail=False)
    return text.removesuffix("\n")
