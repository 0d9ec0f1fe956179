"""The generated parts of the documents in docs/, from the contract and the drivers."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, get_args

import msgspec

from virtsnap_protocol.errors import ERRORS, Error, ProtocolError, RequestError
from virtsnap_protocol.methods import METHODS, NOTIFICATIONS
from virtsnap_protocol.methods.domain import UndefineFlag
from virtsnap_protocol.methods.snapshot import CreateFlag, RevertFlag
from virtsnapd.drivers import DRIVERS, URIS
from virtsnapd.drivers.api import Capability

if TYPE_CHECKING:
    from collections.abc import Callable

    from virtsnap_protocol.method import Method

DOCS: Final = Path(__file__).parents[2] / "docs"
COMMAND: Final = "make regenerate"

_PART: Final = re.compile(r"(<!-- generated: (\w+) \(make regenerate\) -->\n).*?(<!-- end -->)", re.DOTALL)


def regenerated(text: str) -> str:
    """Return a document with its generated parts made anew."""
    return _PART.sub(lambda match: match[1] + _GENERATORS[match[2]]() + match[3], text)


def documents() -> list[Path]:
    """Return the documents that have generated parts."""
    return [path for path in sorted(DOCS.glob("*.md")) if _PART.search(path.read_text())]


def _table(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _drivers() -> str:
    drivers = list(DRIVERS.values())
    rows = [["URI", *("<br>".join(f"`{uri}`" for uri in URIS[name]) for name in DRIVERS)]]
    rows += [_marks(f"`{c}`", [c in driver.capabilities() for driver in drivers]) for c in Capability]
    rows += [
        _marks(f"create flag `{f}`", [f in driver.create_flags for driver in drivers])
        for f in get_args(CreateFlag)
    ]
    rows += [
        _marks(f"revert flag `{f}`", [f in driver.revert_flags for driver in drivers])
        for f in get_args(RevertFlag)
    ]
    rows += [
        _marks(f"undefine flag `{f}`", [f in driver.undefine_flags for driver in drivers])
        for f in get_args(UndefineFlag)
    ]
    return _table(["", *(f"{driver.scheme} ({driver.title})" for driver in drivers)], rows)


def _marks(what: str, facts: list[bool]) -> list[str]:
    return [what, *("yes" if fact else "no" for fact in facts)]


def _errors() -> str:
    classes = [cls for cls in ERRORS.values() if cls not in {Error, ProtocolError, RequestError}]
    rows = [
        [f"`{cls.kind}`", str(cls.code), "yes" if cls.retryable else "", _first_line(cls)] for cls in classes
    ]
    return _table(["kind", "code", "retryable", "meaning"], rows)


def _notifications() -> str:
    rows = [[f"`{name}`", _fields(params), _first_line(params)] for name, params in NOTIFICATIONS.items()]
    return _table(["notification", "parameters", "meaning"], rows)


def _methods() -> str:
    return "\n".join(map(_method, METHODS))


def _method(method: Method[Any, Any]) -> str:
    reads = " *(reads)*" if method.reads else ""
    lines = [f"### `{method.name}`{reads}", "", method.summary, ""]
    for title, shape in (("Parameters", method.params), ("Result", method.result)):
        if msgspec.structs.fields(shape):
            lines += [f"{title}: {_fields(shape)}", ""]
    return "\n".join(lines)


def _fields(shape: type[msgspec.Struct]) -> str:
    fields = msgspec.structs.fields(shape)
    return ", ".join(f"`{field.encode_name}`" + ("" if field.required else "?") for field in fields)


def _first_line(cls: type[object]) -> str:
    return (cls.__doc__ or "").strip().splitlines()[0]


_GENERATORS: Final[dict[str, Callable[[], str]]] = {
    "drivers": _drivers,
    "errors": _errors,
    "notifications": _notifications,
    "methods": _methods,
}
