"""Readers of values: different spellings of one value give one text, and a value that is none gives itself."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from virtsnap_protocol.errors import Error
from virtsnapd.models.domain import KIB, parse_scaled

if TYPE_CHECKING:
    from virtsnapd.models.abi.rule import Reader
    from virtsnapd.models.document import Element

MAX_VCPUS: Final = 16384
"""More than any hypervisor has (libvirt's VIR_DOMAIN_CPUMASK_LEN); keeps a document's number from costing memory."""
_UNITS: Final = ("bytes", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB")


def number(text: str) -> str:
    """Return a number as plain decimals, however it is spelled."""
    text = text.strip()
    try:
        return str(int(text, 16 if text.lower().startswith("0x") else 10))
    except ValueError:
        return text


def decimal(text: str) -> str:
    """Return a decimal fraction without what means nothing: ``2.00`` is ``2.0``."""
    return re.sub(r"(\.\d+?)0+$", r"\1", text.strip())


def lower(text: str) -> str:
    """Return text of which case means nothing."""
    return text.strip().lower()


def positions(text: str) -> str:
    """Return a list of virtual CPUs such as ``5,0-3,^3`` in order and as short as it can be: ``0-2,5``."""
    members = 0  # a bit for each: a text has room for many long ranges
    for word in text.replace(" ", "").split(","):
        match = re.fullmatch(r"(\^?)([0-9]{1,6})(?:-([0-9]{1,6}))?", word)
        first, last = (int(match[2]), int(match[3] or match[2])) if match else (0, MAX_VCPUS)
        if match is None or last >= MAX_VCPUS:
            return text.strip()
        span = (1 << max(last + 1 - first, 0)) - 1 << first
        members = members & ~span if match[1] else members | span
    spans = [(run.start(), run.end() - 1) for run in re.finditer("1+", f"{members:b}"[::-1])]
    return ",".join(f"{first}-{last}" if first < last else str(first) for first, last in spans)


def number_of_bytes(element: Element, *, default_unit: str = "KiB") -> int | None:
    """Return the bytes that the element's text and unit mean; None when they mean nothing."""
    try:
        return parse_scaled(element.text or "", element.get("unit") or default_unit, str(element.tag))
    except Error:
        return None


def size(path: str, *, unit: str = "KiB", default_unit: str = "KiB") -> Reader:
    """Return a reader of the size at `path`, in KiB rounded up or (`unit`) in bytes."""

    def read(element: Element) -> str | None:
        found = element.find(path)
        value = None if found is None else number_of_bytes(found, default_unit=default_unit)
        if value is None:
            return None if found is None else (found.text or "").strip()
        return str(-(-value // KIB) if unit == "KiB" else value)

    return read


def readable(value: str) -> str:
    """Return bytes in the largest unit that divides them (virFormatIntPretty)."""
    count, unit = int(value) if value.isdigit() else 0, 0
    while count and count % KIB == 0 and unit < len(_UNITS) - 1:
        count, unit = count // KIB, unit + 1
    return f"{count} {_UNITS[unit]}"


def present(path: str) -> Reader:
    """Return a reader of whether there is an element at `path`."""
    return lambda element: None if element.find(path) is None else "present"


def number_or_text(text: str) -> int | str:
    """Return the number that a text spells, or the text."""
    plain = number(text)
    return int(plain) if re.fullmatch(r"-?[0-9]{1,20}", plain) else plain
