"""Disks: their block nodes with stable names, and their devices."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from virtsnapd.drivers.qemu.addresses import ALIAS, BOOT, address_rule
from virtsnapd.drivers.qemu.command import Command, Part, Value, json_text, own_alias, present
from virtsnapd.drivers.qemu.elements import (
    ANY,
    FLAG,
    IGNORED,
    NUMBER,
    ON_OFF,
    PATH,
    Rule,
    attributes_of,
    matching,
    one_of,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from virtsnapd.models.document import Element
    from virtsnapd.models.domain import Disk, DomainDefinition

FORMATS: Final = one_of("raw", "qcow2", "qed", "vmdk", "vdi", "vpc")
TARGET: Final = re.compile(r"(fd|hd|sd|vd)[a-z]{1,3}")
"""Disk targets; with at most five characters every node name stays below QEMU's limit of 31."""

_CACHE: Final = {  # cache mode -> (direct, no-flush, write cache), as in qemu(1) under "-drive cache"
    "none": (True, False, True),
    "writeback": (False, False, True),
    "writethrough": (False, False, False),
    "directsync": (True, False, False),
    "unsafe": (False, True, True),
}
_FILE_DRIVER: Final = {"file": ("file", "file"), "block": ("host_device", "dev")}
_BACKED: Final = {"qcow2", "qed", "vmdk"}
"""Formats that can lie on top of another image."""
_TAG_BUSES: Final = {  # elements that only some buses have a property for
    "wwn": {"ide", "sata", "scsi"},
    "vendor": {"scsi"},
    "product": {"scsi"},
    "serial": {"ide", "sata", "scsi", "virtio", "usb"},
}
_SEATS: Final = {  # the last of each part of a drive's address
    "ide": {"controller": 0, "bus": 1, "target": 0, "unit": 1},
    "sata": {"controller": 29, "bus": 0, "target": 0, "unit": 5},
    "scsi": {"controller": 29, "bus": 0, "target": 255, "unit": 16383},
    "fdc": {"controller": 0, "bus": 0, "target": 0, "unit": 1},
}
_SOURCE: Final = Rule(
    attributes={"file": PATH, "dev": PATH, "index": ANY, "startupPolicy": one_of("mandatory")},
    children={"seclabel": IGNORED},
)
_BACKING_PARTS: Final = {"format": Rule(attributes={"type": FORMATS}), "source": _SOURCE}
_BACKING_STORE: Final = Rule(
    attributes={"type": one_of(*_FILE_DRIVER), "index": ANY}, children=_BACKING_PARTS
)
_BACKING_PARTS["backingStore"] = _BACKING_STORE  # a chain: each image may say what lies below it

RULE: Final = Rule(
    at_most=None,
    required=("target",),
    attributes={
        "type": one_of(*_FILE_DRIVER),
        "device": one_of("disk", "cdrom", "floppy"),
        "snapshot": ANY,
    },
    children={
        "driver": Rule(
            attributes={
                "name": one_of("qemu"),
                "type": FORMATS,
                "cache": one_of("default", *_CACHE),
                "io": one_of("threads", "native", "io_uring"),
                "discard": one_of("ignore", "unmap"),
                "detect_zeroes": one_of("off", "on", "unmap"),
                "error_policy": one_of("stop", "report", "ignore", "enospace"),
                "rerror_policy": one_of("stop", "report", "ignore"),
                "copy_on_read": one_of("off"),
            }
        ),
        "source": _SOURCE,
        "backingStore": _BACKING_STORE,
        "target": Rule(
            attributes={
                "dev": matching(TARGET.pattern, "fda, hda, sda, vda and so on"),
                "bus": one_of("ide", "sata", "scsi", "virtio", "fdc", "usb"),
                "tray": one_of("closed"),
                "removable": ON_OFF,
                "rotation_rate": NUMBER,
            }
        ),
        "readonly": FLAG,
        "shareable": FLAG,
        "serial": Rule(text=matching(r"[A-Za-z0-9 _.+-]{1,36}", "at most 36 letters, digits and _.+-")),
        "wwn": Rule(text=matching(r"[0-9a-fA-F]{16}", "16 hexadecimal digits")),
        "vendor": Rule(text=matching(r"[ -~]{1,8}", "at most 8 printable characters")),
        "product": Rule(text=matching(r"[ -~]{1,16}", "at most 16 printable characters")),
        "blockio": Rule(attributes={"logical_block_size": NUMBER, "physical_block_size": NUMBER}),
        "boot": BOOT,
        "alias": ALIAS,
        "address": address_rule("drive", "pci", "usb"),
    },
)


def node_names(definition: DomainDefinition) -> dict[str, str]:
    """Map the target of every disk that has a medium to the node name of its image format.

    These are the nodes for QMP's `snapshot-save` and its kin: a protocol node is not accepted there.
    """
    return {disk.target: format_node(disk.target) for disk in definition.disks if disk.source}


def vmstate_target(definition: DomainDefinition) -> str | None:
    """Return the target of the disk that keeps the memory of internal snapshots: the first writable qcow2."""
    return next((disk.target for disk in definition.disks if _keeps_memory(disk)), None)


def _keeps_memory(disk: Disk) -> bool:
    return bool(disk.source) and disk.device == "disk" and disk.format == "qcow2" and not disk.readonly


def format_node(target: str) -> str:
    """Return the node name of a disk's image format layer."""
    return f"disk-{target}"


def file_node(target: str) -> str:
    """Return the node name of a disk's file layer."""
    return f"file-{target}"


def source_path(element: Element) -> str | None:
    """Return the path of a disk's or backing image's file or block device; None for an empty drive."""
    source = element.find("source")
    key = _FILE_DRIVER.get(element.get("type", "file"), ("", "file"))[1]
    return None if source is None else source.get(key) or None


def _file_layer(element: Element, target: str) -> dict[str, Value]:
    options = _driver_options(element)
    return present(
        {
            "driver": _FILE_DRIVER[element.get("type", "file")][0],
            "filename": source_path(element),
            "node-name": file_node(target),
            "aio": options.get("io"),
            "auto-read-only": True,
            "cache": _cache_flags(options),
            "discard": "unmap",  # whether discards arrive here at all is for the format layer to say
        }
    )


def _format_layer(element: Element, target: str) -> dict[str, Value]:
    options = _driver_options(element)
    layer: dict[str, Value] = {
        "driver": image_format(element),
        "node-name": format_node(target),
        "read-only": is_read_only(element),
        "cache": _cache_flags(options),
        "discard": options.get("discard"),
        "detect-zeroes": options.get("detect_zeroes"),
        "file": file_node(target),
    }
    return {**present(layer), **_backing(element, target, 1)}


def _driver_options(element: Element) -> dict[str, str]:
    driver = element.find("driver")
    return {} if driver is None else attributes_of(driver)


def _cache_flags(options: Mapping[str, str]) -> dict[str, object] | None:
    mode = _CACHE.get(options.get("cache", "default"))
    return None if mode is None else {"direct": mode[0], "no-flush": mode[1]}


def is_read_only(element: Element) -> bool:
    """Tell whether the guest cannot write to the disk."""
    return element.find("readonly") is not None or element.get("device") == "cdrom"


def image_format(element: Element) -> str:
    """Return the format of a disk or of a backing image; libvirt never guesses, raw is its default."""
    described = element.find("driver" if element.tag == "disk" else "format")
    return "raw" if described is None else str(described.get("type", "raw"))


def _backing(element: Element, target: str, depth: int) -> dict[str, Value]:
    """Return the `backing` member: absent when the image's own header is to be followed, null at the end."""
    store = element.find("backingStore")
    if store is None or image_format(element) not in _BACKED:
        return {}  # the others end the chain by themselves
    path = source_path(store)
    if path is None:
        return {"backing": None}
    image_file = {
        "driver": _FILE_DRIVER[store.get("type", "file")][0],
        "filename": path,
        "node-name": f"{file_node(target)}-b{depth}",
        "read-only": True,
    }
    return {
        "backing": {
            "driver": image_format(store),
            "node-name": f"{format_node(target)}-b{depth}",
            "read-only": True,
            "file": image_file,
            **_backing(store, target, depth + 1),
        }
    }


def _build(element: Element, command: Command) -> None:
    target_element = element.find("target")
    target = "" if target_element is None else str(target_element.get("dev"))
    bus = "" if target_element is None else str(target_element.get("bus"))
    if source_path(element):
        command.add("-blockdev", json_text(_file_layer(element, target)))
        command.add("-blockdev", json_text(_format_layer(element, target)))
    driver, place, alias = _seat(element, bus, command)
    boot_index = command.boot_index(element)
    if driver == "floppy" and boot_index is not None:
        # here the boot order is a matter of the controller
        command.add("-global", f"isa-fdc.bootindex{'AB'[int(str(place['unit']))]}={boot_index}")
        boot_index = None
    command.device(
        driver,
        **place,
        bootindex=boot_index,
        **_device_properties(element, target),
        id=own_alias(element) or alias,
    )


def _device_properties(element: Element, target: str) -> dict[str, Value]:
    options = _driver_options(element)
    cache = _CACHE.get(options.get("cache", "default"))
    on_write_error, on_read_error = _error_policies(options)
    block_sizes = element.find("blockio")
    target_element = element.find("target")
    wwn = element.findtext("wwn")
    return {
        "drive": format_node(target) if source_path(element) else None,
        "serial": element.findtext("serial"),
        "wwn": int(wwn, 16) if wwn else None,
        "vendor": element.findtext("vendor"),
        "product": element.findtext("product"),
        "write-cache": None if cache is None or is_drive(element) else "on" if cache[2] else "off",
        "share-rw": True if element.find("shareable") is not None else None,
        "werror": on_write_error,
        "rerror": on_read_error,
        "logical_block_size": _number(block_sizes, "logical_block_size"),
        "physical_block_size": _number(block_sizes, "physical_block_size"),
        "rotation_rate": _number(target_element, "rotation_rate"),
        "removable": _switch(target_element, "removable"),
    }


def is_drive(element: Element) -> bool:
    """Tell whether the device is a drive with a removable medium."""
    return element.get("device", "disk") != "disk"


def _error_policies(options: Mapping[str, str]) -> tuple[str | None, str | None]:
    """Return what happens on write and on read errors; reads follow writes where the word fits both, as in libvirt."""
    write, read = options.get("error_policy"), options.get("rerror_policy")
    if write == "enospace":
        return "enospc", read
    return write, read or write


def _number(element: Element | None, name: str) -> int | None:
    value = None if element is None else element.get(name)
    return None if value is None else int(value, 0)


def _switch(element: Element | None, name: str) -> bool | None:
    value = None if element is None else element.get(name)
    return None if value is None else value == "on"


def _seat(element: Element, bus: str, command: Command) -> tuple[str, dict[str, Value], str]:
    """Return the device's QEMU driver, the properties that say where it sits, and libvirt's id for it."""
    if bus == "virtio":
        return "virtio-blk-pci", command.pci(element), command.next_id("virtio-disk")
    if bus == "usb":
        return "usb-storage", command.usb(element), command.next_id("usb-disk")
    address = element.find("address[@type='drive']")
    controller, channel, lane, unit = (
        0 if address is None else int(address.get(key, "0"), 0)
        for key in ("controller", "bus", "target", "unit")
    )
    kind = "cd" if element.get("device") == "cdrom" else "hd"
    if bus == "fdc":
        return "floppy", {"unit": unit}, f"fdc0-0-{unit}"
    if bus == "ide":
        return f"ide-{kind}", {"bus": f"ide.{channel}", "unit": unit}, f"ide0-{channel}-{unit}"
    if bus == "sata":
        chipset = command.is_q35 and controller == 0
        name = "ide" if chipset else f"sata{controller}"
        return f"ide-{kind}", {"bus": f"{name}.{unit}"}, f"sata{controller}-0-{unit}"
    return f"scsi-{kind}", *_scsi_seat(element, command, (controller, lane, unit))


def _scsi_seat(
    element: Element, command: Command, seat: tuple[int, int, int]
) -> tuple[dict[str, Value], str]:
    """Return the place on a SCSI bus and the id; the parallel adapter knows no units below its targets.

    `device_id` is what the guest reads in the identification page; libvirt makes it from the id.
    """
    controller, lane, unit = seat
    adapter = command.root.find(f"devices/controller[@type='scsi'][@index='{controller}']")
    place: dict[str, Value] = {"bus": f"scsi{controller}.0"}
    if adapter is not None and adapter.get("model") == "virtio-scsi":
        place |= {"channel": 0, "scsi-id": lane, "lun": unit}
        alias = f"scsi{controller}-0-{lane}-{unit}"
    else:
        place["scsi-id"] = unit
        alias = f"scsi{controller}-0-{unit}"
    place["device_id"] = element.findtext("serial") or f"drive-{alias}"
    return place, alias


def _refuse(element: Element) -> Iterator[tuple[str, str]]:
    """Yield the combinations that no single attribute shows."""
    target = element.find("target")
    if target is None or not target.get("dev"):
        return
    bus, device = target.get("bus"), element.get("device", "disk")
    if bus is not None and (bus == "fdc") != (device == "floppy"):
        yield "/target/@bus", f"a {device} on bus '{bus}' is not supported"
    if device == "cdrom" and bus in {"virtio", "usb"}:
        yield "/target/@bus", f"a cdrom on bus '{bus}' is not supported"
    address = element.find("address")
    if (
        address is not None
        and bus is not None
        and address.get("type") != {"virtio": "pci", "usb": "usb"}.get(bus, "drive")
    ):
        yield "/address/@type", f"an address of type '{address.get('type')}' is not supported on bus '{bus}'"
    yield from _seat_limits(element, str(bus))
    yield from _bus_properties(element, str(bus))
    store = element.find("backingStore/source")
    if store is not None and image_format(element) not in _BACKED:
        yield "/backingStore", f"a backing store below format '{image_format(element)}' is not supported"
    if element.find("shareable") is not None and image_format(element) != "raw":
        message = f"shared access for disk '{target.get('dev')}' requires use of supported storage format"
        yield "/shareable", message
    if device == "disk" and source_path(element) is None:
        yield "/source", f"disk '{target.get('dev')}' has no source"
    if target.get("removable") is not None and bus != "usb":
        yield "/target/@removable", "attribute 'removable' is supported on bus 'usb' only"


def _seat_limits(element: Element, bus: str) -> Iterator[tuple[str, str]]:
    address = element.find("address[@type='drive']")
    for key, most in _SEATS.get(bus, {}).items():
        value = None if address is None else address.get(key)
        if value is not None and NUMBER.allow(value) and int(value, 0) > most:
            yield f"/address/@{key}", f"{key} {value} is beyond the last of bus '{bus}', which is {most}"


def _bus_properties(element: Element, bus: str) -> Iterator[tuple[str, str]]:
    for tag, buses in _TAG_BUSES.items():
        if element.find(tag) is not None and bus not in buses:
            yield f"/{tag}", f"element <{tag}> is not supported on bus '{bus}'"
    target = element.find("target")
    if target is not None and target.get("rotation_rate") is not None and bus not in {"ide", "sata", "scsi"}:
        yield "/target/@rotation_rate", f"attribute 'rotation_rate' is not supported on bus '{bus}'"


PART: Final = Part(rule=RULE, build=_build, refuse=_refuse, needs_pci=lambda disk: on_bus(disk, "virtio"))


def on_bus(element: Element, bus: str) -> bool:
    """Tell whether the disk sits on `bus`."""
    target = element.find("target")
    return target is not None and target.get("bus") == bus
