"""Devices around the disks: network cards, memory balloon, random numbers, watchdog, panic notifier."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from virtsnapd.drivers.qemu.addresses import ALIAS, BOOT, PCI_ADDRESS, address_rule
from virtsnapd.drivers.qemu.command import Command, Part, Value, json_text, model_type
from virtsnapd.drivers.qemu.elements import (
    ANY,
    IGNORED,
    NUMBER,
    ON_OFF,
    Rule,
    matching,
    one_of,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from virtsnapd.models.document import Element

MAC: Final = matching(r"[0-9a-fA-F]{2}(:[0-9a-fA-F]{2}){5}", "six hexadecimal bytes with colons")
_NIC_DRIVERS: Final = {
    "virtio": "virtio-net-pci",
    "e1000": "e1000",
    "e1000e": "e1000e",
    "rtl8139": "rtl8139",
    "ne2k_pci": "ne2k_pci",
    "pcnet": "pcnet",
}


def _build_interface(element: Element, command: Command) -> None:
    identity = command.alias(element, "net")
    mac, rom = element.find("mac"), element.find("rom")
    command.add("-netdev", json_text({"type": "user", "id": f"host{identity}"}))
    command.device(
        _NIC_DRIVERS[model_type(element, "rtl8139")],
        netdev=f"host{identity}",
        id=identity,
        mac=None if mac is None else mac.get("address"),
        bootindex=command.boot_index(element),
        rombar=None if rom is None or rom.get("bar") is None else int(rom.get("bar") == "on"),
        **command.pci(element),
    )


INTERFACE: Final = Part(
    rule=Rule(
        at_most=None,
        required=("type",),
        attributes={"type": one_of("user"), "trustGuestRxFilters": one_of("no")},
        children={
            "mac": Rule(attributes={"address": MAC, "type": one_of("generated", "static")}),
            "model": Rule(attributes={"type": one_of(*_NIC_DRIVERS)}),
            "target": Rule(attributes={"dev": ANY}),  # the name of a host's tap, of which there is none
            "link": Rule(attributes={"state": one_of("up")}),
            "rom": Rule(attributes={"bar": ON_OFF}),
            "boot": BOOT,
            "alias": ALIAS,
            "address": PCI_ADDRESS,
        },
    ),
    build=_build_interface,
    needs_pci=lambda _interface: True,
)


def _build_balloon(element: Element, command: Command) -> None:
    if element.get("model") != "none":
        command.device(
            "virtio-balloon-pci",
            id=command.alias(element, "balloon"),
            **{
                "deflate-on-oom": _is_on(element, "autodeflate"),
                "free-page-reporting": _is_on(element, "freePageReporting"),
            },
            **command.pci(element),
        )


def _is_on(element: Element, name: str) -> bool | None:
    value = element.get(name)
    return None if value is None else value == "on"


MEMBALLOON: Final = Part(
    rule=Rule(
        required=("model",),
        attributes={"model": one_of("virtio", "none"), "autodeflate": ON_OFF, "freePageReporting": ON_OFF},
        # how often the host asks for statistics is nothing that the guest is made of
        children={"stats": IGNORED, "alias": ALIAS, "address": PCI_ADDRESS},
    ),
    build=_build_balloon,
    needs_pci=lambda balloon: balloon.get("model") != "none",
)


def _build_rng(element: Element, command: Command) -> None:
    identity = command.alias(element, "rng")
    backend, rate = element.find("backend"), element.find("rate")
    source: dict[str, Value] = {"qom-type": "rng-builtin", "id": f"obj{identity}"}
    if backend is None or backend.get("model") == "random":
        path = "/dev/urandom" if backend is None else (backend.text or "").strip() or "/dev/urandom"
        source = {"qom-type": "rng-random", "id": f"obj{identity}", "filename": path}
    command.add("-object", json_text(source))
    command.device(
        "virtio-rng-pci",
        rng=f"obj{identity}",
        id=identity,
        **{"max-bytes": None if rate is None else int(rate.get("bytes", "0"))},
        period=None if rate is None else int(rate.get("period", "1000"), 0),
        **command.pci(element),
    )


RNG: Final = Part(
    rule=Rule(
        at_most=None,
        required=("model", "backend"),
        attributes={"model": one_of("virtio")},
        children={
            "backend": Rule(
                required=("model",),
                attributes={"model": one_of("random", "builtin")},
                text=one_of("/dev/urandom", "/dev/random", "/dev/hwrng"),
            ),
            "rate": Rule(
                attributes={"bytes": matching(r"[0-9]{1,9}", "bytes"), "period": NUMBER}, required=("bytes",)
            ),
            "alias": ALIAS,
            "address": PCI_ADDRESS,
        },
    ),
    build=_build_rng,
    needs_pci=lambda _rng: True,
)


def _build_watchdog(element: Element, command: Command) -> None:
    command.device(str(element.get("model")), id=command.alias(element, "watchdog"), **command.pci(element))
    action = str(element.get("action", "reset"))
    # libvirt dumps the guest itself after QEMU has paused it
    command.add("-action", f"watchdog={'pause' if action == 'dump' else action}")


WATCHDOG: Final = Part(
    rule=Rule(
        required=("model",),
        attributes={
            "model": one_of("i6300esb", "ib700"),
            "action": one_of("reset", "shutdown", "poweroff", "pause", "none", "inject-nmi"),
        },
        children={"alias": ALIAS, "address": PCI_ADDRESS},
    ),
    build=_build_watchdog,
    needs_pci=lambda watchdog: watchdog.get("model") == "i6300esb",
)


def _build_panic(element: Element, command: Command) -> None:
    address = element.find("address[@type='isa']")
    port = None if address is None or address.get("iobase") is None else int(address.get("iobase", "0"), 16)
    if element.get("model") == "pvpanic":
        command.device("pvpanic-pci", **command.pci(element))
    else:
        command.device("pvpanic", ioport=port)


def _refuse_panic(element: Element) -> Iterator[tuple[str, str]]:
    address = element.find("address")
    wanted = "pci" if element.get("model") == "pvpanic" else "isa"
    if address is not None and address.get("type") != wanted:
        yield (
            "/address/@type",
            f"an address of type '{address.get('type')}' is not supported for this panic device",
        )


PANIC: Final = Part(
    rule=Rule(
        attributes={"model": one_of("isa", "pvpanic")},
        children={"alias": ALIAS, "address": address_rule("isa", "pci")},
    ),
    build=_build_panic,
    refuse=_refuse_panic,
    needs_pci=lambda panic: panic.get("model") == "pvpanic",
)
