"""What a person sees, hears and touches: displays, video cards, input and sound."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from virtsnapd.drivers.qemu.addresses import ALIAS, PCI_ADDRESS, address_rule
from virtsnapd.drivers.qemu.characters import SOCKET_PATH_BYTES
from virtsnapd.drivers.qemu.command import Command, Part, Value, escaped, json_text, model_type
from virtsnapd.drivers.qemu.elements import NUMBER, PATH, YES_NO, Rule, matching, one_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from virtsnapd.models.document import Element

_FIRST_VNC_PORT: Final = 5900
_VIDEO_DRIVERS: Final = {  # the primary card, and a further one where there is such a thing
    "vga": ("VGA", None),
    "cirrus": ("cirrus-vga", None),
    "qxl": ("qxl-vga", "qxl"),
    "virtio": ("virtio-vga", "virtio-gpu-pci"),
    "bochs": ("bochs-display", "bochs-display"),
}
_INPUT_DRIVERS: Final = {
    ("usb", "tablet"): "usb-tablet",
    ("usb", "mouse"): "usb-mouse",
    ("usb", "keyboard"): "usb-kbd",
    ("virtio", "tablet"): "virtio-tablet-pci",
    ("virtio", "mouse"): "virtio-mouse-pci",
    ("virtio", "keyboard"): "virtio-keyboard-pci",
}
_SOUND_DRIVERS: Final = {"ac97": "AC97", "ich6": "intel-hda", "ich9": "ich9-intel-hda"}


def _build_input(element: Element, command: Command) -> None:
    bus = str(element.get("bus", "ps2"))
    driver = _INPUT_DRIVERS.get((bus, str(element.get("type"))))
    if driver is not None:  # PS/2 devices are part of the machine
        place = command.usb(element) if bus == "usb" else command.pci(element)
        command.device(driver, id=command.alias(element, "input"), **place)


def _refuse_input(element: Element) -> Iterator[tuple[str, str]]:
    bus, address = element.get("bus"), element.find("address")
    if bus == "ps2" and element.get("type") == "tablet":
        yield "/@bus", "a tablet on bus 'ps2' is not supported"
    wanted = {"usb": "usb", "virtio": "pci"}.get(str(bus))
    if address is not None and bus is not None and address.get("type") != wanted:
        yield "/address/@type", f"an address of type '{address.get('type')}' is not supported on bus '{bus}'"


INPUT: Final = Part(
    rule=Rule(
        at_most=None,
        required=("type",),
        attributes={"type": one_of("tablet", "mouse", "keyboard"), "bus": one_of("ps2", "usb", "virtio")},
        children={"alias": ALIAS, "address": address_rule("usb", "pci")},
    ),
    build=_build_input,
    needs_pci=lambda device: device.get("bus") == "virtio",
    refuse=_refuse_input,
)


def _vnc_socket(element: Element) -> str | None:
    listen = element.find("listen[@type='socket']")
    return element.get("socket") or (None if listen is None else listen.get("socket"))


def _build_graphics(element: Element, command: Command) -> None:
    """Append the VNC server: on a Unix socket, or on TCP at the loopback address unless the definition says more."""
    if path := _vnc_socket(element):
        display = f"unix:{escaped(path)}"
    else:
        listen = element.find("listen[@type='address']")
        address = element.get("listen") or (None if listen is None else listen.get("address")) or "127.0.0.1"
        host = f"[{address}]" if ":" in address else address
        port = int(element.get("port", "-1"))
        # autoport: QEMU takes the first free display of a hundred; query-vnc tells which
        display = f"{host}:{port - _FIRST_VNC_PORT}" if port >= _FIRST_VNC_PORT else f"{host}:0,to=99"
    policy = element.get("sharePolicy")
    command.add("-vnc", display if policy is None else f"{display},share={policy}")


def _refuse_graphics(element: Element) -> Iterator[tuple[str, str]]:
    port, path = element.get("port", "-1"), _vnc_socket(element)
    if port != "-1" and int(port) < _FIRST_VNC_PORT and element.get("autoport") != "yes":
        yield "/@port", f"vnc port must be in range [{_FIRST_VNC_PORT},65535]"
    if path is None and element.find("listen[@type='socket']") is not None:
        yield "/listen/@socket", "a vnc socket without a path is not supported"
    if path is not None and len(path.encode()) > SOCKET_PATH_BYTES:
        yield "/@socket", f"UNIX socket path '{path}' is longer than {SOCKET_PATH_BYTES} bytes"


_HOST: Final = matching(r"[0-9A-Fa-f:.]+|[A-Za-z0-9.-]+", "an address or host name")
GRAPHICS: Final = Part(
    rule=Rule(
        required=("type",),
        attributes={
            "type": one_of("vnc"),
            "socket": PATH,
            "port": matching(r"-1|[0-9]{1,5}", "a port number or -1"),
            "autoport": YES_NO,
            "listen": _HOST,
            "sharePolicy": one_of("allow-exclusive", "force-shared", "ignore"),
        },
        children={
            "listen": Rule(
                attributes={"type": one_of("address", "socket"), "address": _HOST, "socket": PATH}
            ),
        },
    ),
    build=_build_graphics,
    refuse=_refuse_graphics,
)


def _build_video(element: Element, command: Command) -> None:
    model = element.find("model")
    kind = "none" if model is None else str(model.get("type", "none"))
    if model is None or kind == "none":
        return
    identity = command.alias(element, "video")
    primary, secondary = _VIDEO_DRIVERS[kind]
    driver = primary if identity == "video0" or secondary is None else secondary
    memory: dict[str, Value] = {}
    if kind == "qxl":
        memory = {
            "ram_size": _kib(model, "ram", 1024),
            "vram_size": _kib(model, "vram", 1024),
            "vram64_size_mb": _mib(model, "vram64"),
            "vgamem_mb": _mib(model, "vgamem"),
            "max_outputs": int(model.get("heads", "1"), 0),
        }
    elif kind == "vga":
        memory = {"vgamem_mb": _mib(model, "vram")}
    elif kind == "bochs":
        memory = {"vgamem": _kib(model, "vram", 1024)}
    elif kind == "virtio" and model.get("heads"):
        memory = {"max_outputs": int(model.get("heads", "1"), 0)}
    command.device(driver, id=identity, **memory, **command.pci(element))


def _kib(model: Element, name: str, unit: int) -> int | None:
    value = model.get(name)
    return None if value is None else int(value, 0) * unit


def _mib(model: Element, name: str) -> int | None:
    value = model.get(name)
    return None if value is None else int(value, 0) // 1024


def _refuse_video(element: Element) -> Iterator[tuple[str, str]]:
    kind = model_type(element, "none")
    model = element.find("model")
    attributes = set() if model is None else set(model.attrib)
    for name in sorted({"ram", "vram64", "vgamem"} & attributes):
        if kind != "qxl":
            yield f"/model/@{name}", f"attribute '{name}' is supported for video type 'qxl' only"
    if kind not in {"virtio", "none"} and model is not None and model.get("heads", "1") != "1":
        yield "/model/@heads", f"more than one head is not supported for video type '{kind}'"


VIDEO: Final = Part(
    rule=Rule(
        at_most=4,
        attributes={},
        children={
            "model": Rule(
                attributes={
                    "type": one_of(*_VIDEO_DRIVERS, "none"),
                    "vram": NUMBER,
                    "ram": NUMBER,
                    "vram64": NUMBER,
                    "vgamem": NUMBER,
                    "heads": NUMBER,
                    "primary": YES_NO,
                }
            ),
            "alias": ALIAS,
            "address": PCI_ADDRESS,
        },
    ),
    build=_build_video,
    needs_pci=lambda video: model_type(video, "none") != "none",
    refuse=_refuse_video,
)


def _build_sound(element: Element, command: Command) -> None:
    """Append the card; its sound goes nowhere, as with `<audio type='none'>`, which the guest cannot tell."""
    identity = command.alias(element, "sound")
    model = str(element.get("model"))
    if identity == "sound0":
        command.add("-audiodev", json_text({"id": "audio1", "driver": "none"}))
    if model == "ac97":
        command.device("AC97", id=identity, audiodev="audio1", **command.pci(element))
    else:
        command.device(_SOUND_DRIVERS[model], id=identity, **command.pci(element))
        command.device("hda-duplex", id=f"{identity}-codec0", bus=f"{identity}.0", cad=0, audiodev="audio1")


SOUND: Final = Part(
    rule=Rule(
        required=("model",),
        attributes={"model": one_of(*_SOUND_DRIVERS)},
        children={"alias": ALIAS, "address": PCI_ADDRESS, "audio": Rule(attributes={"id": NUMBER})},
    ),
    build=_build_sound,
    needs_pci=lambda _sound: True,
)
AUDIO: Final = Part(rule=Rule(attributes={"id": NUMBER, "type": one_of("none")}))
