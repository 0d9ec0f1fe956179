"""Rules about the machine as a whole: identity, memory, virtual CPUs, firmware tables (in libvirt's order)."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Final

from virtsnap_protocol.errors import Problem
from virtsnapd.models.abi.rule import GUARDED, Field, Group, Part, Rule, Several
from virtsnapd.models.abi.values import MAX_VCPUS, lower, number, size

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from virtsnapd.models.document import Element


def _genid(element: Element) -> str | None:
    """Return the generation id; an empty one is made when the domain is defined, so it says nothing."""
    return (element.findtext("genid") or "").strip() or None


def _initial_memory(element: Element) -> str | None:
    """Return the memory without that of memory devices (virDomainDefGetMemoryInitial), in KiB."""
    total = size("memory")(element)
    devices = [size("target/size")(device) for device in element.iterfind("devices/memory")]
    if total is None or not all(value and value.isdigit() for value in (total, *devices)):
        return total
    return str(int(total) - sum(int(value or "0") for value in devices))


def _online(element: Element) -> Mapping[str, str]:
    """Return which virtual CPUs are there at start, by their number."""
    listed = element.findall("vcpus/vcpu")
    if listed:
        return {number(v.get("id", "")): "online" for v in listed if v.get("enabled") == "yes"}
    vcpu = element.find("vcpu")
    text = "1" if vcpu is None else vcpu.get("current") or vcpu.text or "1"
    plain = number(text)
    return {str(n): "online" for n in range(min(int(plain), MAX_VCPUS) if plain.isdigit() else 0)}


def _enable_order(element: Element) -> Mapping[str, str]:
    listed = element.iterfind("vcpus/vcpu[@order]")
    return {number(vcpu.get("id", "")): number(vcpu.get("order", "")) for vcpu in listed}


class _Vcpus:
    """Which virtual CPUs are there, and in which order they are made: both of one before those of the next."""

    def differences(
        self, old: Element | None, new: Element | None, at: str, number: int = 0
    ) -> Iterator[Problem]:
        """Yield what differs, by the number of the virtual CPU."""
        told = "between source and destination definitions"
        kinds = (
            ("enabled", _online, "State of vCPU '{}' differs " + told),
            ("order", _enable_order, "vcpu enable order of vCPU '{}' differs " + told),
        )
        found = [
            (vcpu, attribute, mine.get(vcpu), theirs.get(vcpu), words)
            for attribute, read, words in kinds
            for mine, theirs in [[{} if element is None else read(element) for element in (old, new)]]
            for vcpu in {**mine, **theirs}
            if mine.get(vcpu) != theirs.get(vcpu)
        ]
        for vcpu, attribute, was, now, words in sorted(found, key=lambda entry: (len(entry[0]), entry[:2])):
            path = f"{at}/vcpus/vcpu[@id='{vcpu}']/@{attribute}"
            yield Problem(path=path, message=words.format(vcpu), old=was, new=now)


IDENTITY: Final[tuple[Rule, ...]] = (
    Field(path="@type", words="Target domain virt type {new} does not match source {old}"),
    Field(path="uuid", words="Target domain uuid {new} does not match source {old}", form=lower),
    Field(
        path="genid",
        read=lambda element: None if element.find("genid") is None else "requested",
        words="Target domain requested genid does not match source",
    ),
    Field(
        path="genid",
        read=_genid,
        both=True,
        form=lower,
        words="Target domain genid {new} does not match source {old}",
    ),
    Field(path="name", words="Target domain name '{new}' does not match source '{old}'", form=str),
)
MEMORY: Final[tuple[Rule, ...]] = (
    Field(
        path="memory",
        read=_initial_memory,
        words="Target domain max memory {new} does not match source {old}",
    ),
    Field(
        path="currentMemory",
        read=size("currentMemory"),
        words="Target domain current memory {new} does not match source {old}",
    ),
    Field(
        path="maxMemory",
        read=size("maxMemory"),
        absent="0",
        words="Target maximum memory size '{new}' doesn't match source '{old}'",
    ),
    Field(
        path="maxMemory/@slots",
        form=number,
        absent="0",
        words="Target domain memory slots count '{new}' doesn't match source '{old}'",
    ),
)
VCPUS: Final[tuple[Rule, ...]] = (
    Field(
        path="vcpu",
        form=number,
        default="1",
        words="Target domain vCPU max {new} does not match source {old}",
    ),
    _Vcpus(),
)
SYSTEM: Final[tuple[Rule, ...]] = (
    Field(path="os/type", words="Target domain OS type {new} does not match source {old}"),
    # An architecture that one side leaves open is the host's, which libvirt fills in and a document does not tell.
    Field(
        path="os/type/@arch",
        both=True,
        words="Target domain architecture {new} does not match source {old}",
    ),
    Field(path="os/type/@machine", words="Target domain machine type {new} does not match source {old}"),
    Field(
        path="os/smbios/@mode",
        absent="none",
        words="Target domain SMBIOS mode {new} does not match source {old}",
    ),
)


def _entry(block: Element, *, name: str) -> str | None:
    return next(
        (entry.text or "" for entry in block.iterchildren("entry") if entry.get("name") == name), None
    )


def _entries(subject: str, names: str) -> tuple[Rule, ...]:
    """Return the rules of <entry> elements; the manufacturer is called vendor in the messages."""
    return tuple(
        Field(
            path=f"entry[@name='{name}']",
            read=partial(_entry, name=name),
            absent=GUARDED,
            words=f"Target sysinfo {subject} {name.replace('manufacturer', 'vendor')} {{new}} "
            "does not match source {old}",
        )
        for name in names.split()
    )


def _firmware_entries(element: Element) -> Mapping[str, str]:
    """Return the entries that are for the guest's own programs: OEM strings by position, fw_cfg by name."""
    strings = enumerate(element.iterfind("oemStrings/entry"), start=1)
    found = {f"oemStrings/entry[{place}]": (entry.text or "").strip() for place, entry in strings}
    for entry in element.iterfind("entry"):
        found[f"entry[@name='{entry.get('name')}']"] = (entry.text or entry.get("file") or "").strip()
    return found


SYSINFO: Final[tuple[Rule, ...]] = (
    Group(
        path="sysinfo",
        count="Target domain count of sysinfo does not match source",
        rules=(
            Field(path="@type", words="Target sysinfo {new} does not match source {old}"),
            Part(
                path="bios",
                missing="Target sysinfo does not match source",
                rules=_entries("BIOS", "vendor version date release"),
            ),
            Part(
                path="system",
                missing="Target sysinfo does not match source",
                rules=_entries("system", "manufacturer product version serial uuid sku family"),
            ),
            Group(
                path="baseBoard",
                count="Target sysinfo base board count '{new}' does not match source '{old}'",
                rules=_entries("base board", "manufacturer product version serial asset location"),
            ),
            Part(
                path="chassis",
                missing="Target chassis does not match source",
                rules=_entries("chassis", "manufacturer version serial asset sku"),
            ),
            # libvirt compares none of these; a guest's programs read them
            Several(
                path="{key}",
                read=_firmware_entries,
                words="Target sysinfo {key} {new} does not match source {old}",
                absent=GUARDED,
            ),
        ),
    ),
)
