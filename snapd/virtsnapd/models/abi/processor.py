"""Rules about the processor and its surroundings: NUMA nodes, timers, the CPU model, sleep states."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from virtsnap_protocol.errors import Error
from virtsnapd.models.abi.rule import GUARDED, Field, Group, Part, Rule, Several
from virtsnapd.models.abi.values import number, positions
from virtsnapd.models.domain import KIB, parse_scaled

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from virtsnapd.models.document import Element

_LOCAL: Final = "10"
_REMOTE: Final = "20"
"""Distances of NUMA nodes that a document does not give (LOCAL_DISTANCE, REMOTE_DISTANCE)."""


def _cell_memory(cell: Element) -> str | None:
    try:
        value = parse_scaled(cell.get("memory", ""), cell.get("unit"), "memory")
    except Error:
        return cell.get("memory")
    return str(-(-value // KIB))


def _distances(numa: Element) -> Mapping[str, str]:
    """Return the distances of all pairs of nodes; one that is given in one direction only holds in both."""
    cells = numa.findall("cell")
    given: dict[tuple[str, str], str] = {}
    for place, cell in enumerate(cells):
        here = number(cell.get("id", str(place)))
        for sibling in cell.iterfind("distances/sibling"):
            there, value = number(sibling.get("id", "")), number(sibling.get("value", ""))
            given[here, there] = value
            given.setdefault((there, here), value)
    standard = ((a, b, _LOCAL if a == b else _REMOTE) for a, b in given)
    return {f"{a} to {b}": given[a, b] for a, b, usual in standard if given[a, b] != usual}


NUMA: Final[tuple[Rule, ...]] = (
    Group(
        path="cpu/numa/cell",
        count="Target NUMA node count '{new}' doesn't match source '{old}'",
        rules=(
            Field(
                path="@memory",
                read=_cell_memory,
                words="Size of target NUMA node {n} ({new}) doesn't match source ({old})",
            ),
            Field(
                path="@cpus",
                form=positions,
                default="",
                words="Processor mask of target NUMA node {n} doesn't match source",
            ),
        ),
    ),
    Part(
        path="cpu/numa",
        rules=(
            Several(
                path="cell/distances",
                read=_distances,
                words="Target NUMA distance from {key} doesn't match source",
            ),
        ),
    ),
)


def _of_tsc(attribute: str) -> Callable[[Element], str | None]:
    return lambda timer: timer.get(attribute) if timer.get("name") == "tsc" else None


TIMERS: Final[tuple[Rule, ...]] = (
    Group(
        path="clock/timer",
        count="Target domain timers do not match source",
        rules=(
            Field(path="@name", words="Target timer {new} does not match source {old}"),
            Field(
                path="@present",
                absent="default",
                words="Target timer presence '{new}' does not match source '{old}'",
            ),
            Field(
                path="@frequency",
                read=_of_tsc("frequency"),
                form=number,
                absent="0",
                words="Target TSC frequency {new} does not match source {old}",
            ),
            Field(
                path="@mode",
                read=_of_tsc("mode"),
                absent="none",
                words="Target TSC mode {new} does not match source {old}",
            ),
        ),
    ),
)


def _topology(name: str, absent: str) -> Rule:
    return Field(
        path=f"topology/@{name}",
        read=lambda cpu: None if (found := cpu.find("topology")) is None else found.get(name, "1"),
        form=number,
        absent=absent,
        words=f"Target CPU {name} {{new}} does not match source {{old}}",
    )


def _attributes(path: str, *names: str) -> Callable[[Element], str | None]:
    """Return a reader of attributes that libvirt's message does not tell apart."""

    def read(element: Element) -> str | None:
        found = element.find(path)
        if found is None:
            return None
        return " ".join(f"{name}={number(found.get(name, ''))}" for name in names if name in found.attrib)

    return read


CPU: Final[tuple[Rule, ...]] = (
    Part(
        path="cpu",
        missing="Target CPU does not match source",
        rules=(
            Field(
                path="@mode",
                default="custom",
                words="Target CPU mode {new} does not match source {old}",
            ),
            Field(
                path="@check",
                absent="default",
                words="Target CPU check {new} does not match source {old}",
            ),
            Field(path="model", absent=GUARDED, words="Target CPU model {new} does not match source {old}"),
            Field(path="vendor", absent=GUARDED, words="Target CPU vendor {new} does not match source {old}"),
            Field(
                path="model/@vendor_id",
                absent=GUARDED,
                words="Target CPU vendor id {new} does not match source {old}",
            ),
            *(_topology(name, "0") for name in ("sockets", "dies", "clusters", "cores", "threads")),
            Field(
                path="maxphysaddr",
                read=_attributes("maxphysaddr", "mode", "bits"),
                words="Target CPU maxphysaddr does not match source",
            ),
            Group(
                path="feature",
                count="Target CPU feature count {new} does not match source {old}",
                rules=(
                    Field(path="@name", words="Target CPU feature {new} does not match source {old}"),
                    Field(
                        path="@policy",
                        default="require",
                        words="Target CPU feature policy {new} does not match source {old}",
                    ),
                ),
            ),
            Field(
                path="cache",
                read=_attributes("cache", "level", "mode"),
                words="Target CPU cache does not match source",
            ),
        ),
    ),
)


def _switches(*names: str) -> tuple[Rule, ...]:
    return tuple(
        Field(
            path=f"pm/{name}/@enabled",
            absent="default",
            words=f"Target PM {name} {{new}} does not match source {{old}}",
        )
        for name in names
    )


POWER: Final[tuple[Rule, ...]] = _switches("suspend-to-mem", "suspend-to-disk")
"""What the ACPI tables say of sleeping; libvirt does not compare it."""
