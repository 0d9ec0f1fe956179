"""Whether two definitions show a guest the same machine, so that one can run a saved state of the other."""

from __future__ import annotations

from typing import TYPE_CHECKING

from virtsnap_protocol.errors import ConfigUnsupported, Problem

if TYPE_CHECKING:
    from collections.abc import Iterator

    from virtsnapd.models.document import Element
    from virtsnapd.models.domain import DomainDefinition

KIB = 1024

_COUNTED = (
    ("net card", "interface"),
    ("sound card", "sound"),
    ("video card", "video"),
    ("host device", "hostdev"),
    ("filesystem", "filesystem"),
    ("controller", "controller"),
    ("smartcard", "smartcard"),
    ("parallel port", "parallel"),
    ("serial port", "serial"),
    ("console", "console"),
    ("watchdog", "watchdog"),
    ("input device", "input"),
    ("hub device", "hub"),
    ("memory device", "memory"),
)
"""Device kinds by libvirt's word in `Target domain <word> count ...`, in the order of its checks."""


def check_abi_stability(source: DomainDefinition, target: DomainDefinition) -> None:
    """Refuse a `target` that differs from `source` in what the guest can see (virDomainDefCheckABIStability).

    The message is libvirt's for the first difference; `problems` lists all.

    Raises: ConfigUnsupported.
    """
    problems = [Problem(path=path, message=message) for path, message in _differences(source, target)]
    if problems:
        raise ConfigUnsupported(problems[0].message, problems=problems)


def _differences(source: DomainDefinition, target: DomainDefinition) -> Iterator[tuple[str, str]]:
    """Yield the path and libvirt's sentence of every difference, in libvirt's order."""
    if target.type != source.type:
        yield "/domain/@type", f"Target domain virt type {target.type} does not match source {source.type}"
    if target.uuid != source.uuid:
        yield "/domain/uuid", f"Target domain uuid {target.uuid} does not match source {source.uuid}"
    if target.name != source.name:
        yield "/domain/name", f"Target domain name '{target.name}' does not match source '{source.name}'"
    yield from _capacity(source, target)
    for path, word, mine, theirs in (
        ("/domain/os/type", "OS type", source.os_type, target.os_type),
        ("/domain/os/type/@arch", "architecture", source.arch, target.arch),
        ("/domain/os/type/@machine", "machine type", source.machine, target.machine),
    ):
        # an architecture that one side leaves open is the host's, which libvirt fills in and we cannot know
        if theirs != mine and not (word == "architecture" and None in {mine, theirs}):
            yield path, f"Target domain {word} {theirs or '(null)'} does not match source {mine or '(null)'}"
    yield from _disks(source, target)
    yield from _interfaces(source, target)
    for word, tag in _COUNTED:
        mine_count, their_count = (len(x.element.findall(f"devices/{tag}")) for x in (source, target))
        if mine_count != their_count:
            yield (
                f"/domain/devices/{tag}",
                f"Target domain {word} count {their_count} does not match source {mine_count}",
            )


def _capacity(source: DomainDefinition, target: DomainDefinition) -> Iterator[tuple[str, str]]:
    if target.max_memory != source.max_memory:
        theirs, mine = target.max_memory // KIB, source.max_memory // KIB
        yield "/domain/memory", f"Target domain max memory {theirs} does not match source {mine}"
    if target.vcpus != source.vcpus:
        yield "/domain/vcpu", f"Target domain vCPU max {target.vcpus} does not match source {source.vcpus}"


def _disks(source: DomainDefinition, target: DomainDefinition) -> Iterator[tuple[str, str]]:
    root = "/domain/devices/disk"
    if len(target.disks) != len(source.disks):
        yield (
            root,
            f"Target domain disk count {len(target.disks)} does not match source {len(source.disks)}",
        )
        return
    serials = (_serials(x) for x in (source, target))
    for number, (mine, theirs, my_serial, their_serial) in enumerate(
        zip(source.disks, target.disks, *serials, strict=True), start=1
    ):
        path = f"{root}[{number}]"
        if theirs.device != mine.device:
            yield path, f"Target disk device {theirs.device} does not match source {mine.device}"
        if theirs.bus != mine.bus:
            yield path, f"Target disk bus {theirs.bus} does not match source {mine.bus}"
        if theirs.target != mine.target:
            yield path, f"Target disk {theirs.target} does not match source {mine.target}"
        if their_serial != my_serial:
            yield path, f"Target disk serial {their_serial} does not match source {my_serial}"
        if theirs.readonly != mine.readonly:
            yield path, "Target disk access mode does not match source"


def _interfaces(source: DomainDefinition, target: DomainDefinition) -> Iterator[tuple[str, str]]:
    """Compare the addresses and models of network cards, where both sides give them and have as many."""
    mine, theirs = (x.element.findall("devices/interface") for x in (source, target))
    if len(mine) != len(theirs):
        return
    for number, (my_card, their_card) in enumerate(zip(mine, theirs, strict=True), start=1):
        path = f"/domain/devices/interface[{number}]"
        my_mac, their_mac = (_attribute(card, "mac", "address").lower() for card in (my_card, their_card))
        if my_mac and their_mac and my_mac != their_mac:
            yield path, f"Target network card mac {their_mac} does not match source {my_mac}"
        my_model, their_model = (
            _attribute(card, "model", "type") or "(null)" for card in (my_card, their_card)
        )
        if my_model != their_model:
            yield path, f"Target network card model {their_model} does not match source {my_model}"


def _attribute(element: Element, child: str, name: str) -> str:
    found = element.find(child)
    return "" if found is None else found.get(name, "")


def _serials(definition: DomainDefinition) -> list[str]:
    return [disk.findtext("serial") or "<null>" for disk in definition.element.iterfind("devices/disk")]
