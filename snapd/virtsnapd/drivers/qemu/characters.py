"""Character devices: serial and parallel ports, consoles, and the channels of a guest agent."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Final

from virtsnapd.drivers.qemu.addresses import ALIAS, address_rule
from virtsnapd.drivers.qemu.command import Command, Part, option_text
from virtsnapd.drivers.qemu.elements import ANY, IGNORED, NUMBER, ON_OFF, PATH, Rule, Values, matching, one_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from virtsnapd.models.document import Element

BACKENDS: Final = ("unix", "file", "null", "pty")
SOCKET_PATH_BYTES: Final = 107
"""What the kernel takes as the path of a Unix socket (unix(7): 108 with the closing zero)."""

_LOG: Final = Rule(attributes={"file": PATH, "append": ON_OFF}, required=("file",))

_SOURCE: Final = Rule(
    attributes={"mode": one_of("bind", "connect"), "path": PATH, "append": ON_OFF},
    children={"seclabel": IGNORED},
)


def _rule(
    target: Rule, *address_kinds: str, at_most: int | None, required: tuple[str, ...] = (), **extra: Values
) -> Rule:
    return Rule(
        at_most=at_most,
        required=required,
        attributes={"type": one_of(*BACKENDS), **extra},
        children={
            "source": _SOURCE,
            "log": _LOG,
            "target": target,
            "alias": ALIAS,
            **({"address": address_rule(*address_kinds)} if address_kinds else {}),
        },
    )


def backend(element: Element) -> str:
    """Return the kind of the host's end."""
    return str(element.get("type", "pty"))


def target_type(element: Element) -> str | None:
    """Return the `type` of the guest's end."""
    target = element.find("target")
    return None if target is None else target.get("type")


def mirrors_serial(console: Element) -> bool:
    """Tell whether the console is but another view of the first serial port, as libvirt writes it."""
    return target_type(console) in {None, "serial"}


def uses_virtio_serial(element: Element) -> bool:
    """Tell whether the device is a port of a virtio-serial controller."""
    return target_type(element) == "virtio"


def _chardev(element: Element, identity: str, command: Command) -> str:
    """Append the host's end and return its id."""
    name = f"char{identity}"
    source = element.find("source")
    path = None if source is None else source.get("path")
    log = element.find("log")
    logging = {} if log is None else {"logfile": log.get("file"), "logappend": log.get("append", "off")}
    kind = backend(element)
    if kind == "unix":
        serves = source is None or source.get("mode", "bind") == "bind"
        modes = {"server": "on", "wait": "off"} if serves else {}
        path = path or _own_socket(element, command)
        command.add("-chardev", option_text("socket", id=name, path=path, **modes, **logging))
    elif kind == "file":
        append = None if source is None else source.get("append")
        command.add("-chardev", option_text("file", id=name, path=path, append=append, **logging))
    else:
        command.add("-chardev", option_text(kind, id=name, **logging))
    return name


def _own_socket(element: Element, command: Command) -> str:
    """Return the path of a channel's socket whose place the definition leaves to us, as libvirt allows."""
    target = element.find("target")
    name = "channel" if target is None else str(target.get("name", "channel"))
    return str(PurePosixPath(command.socket_dir or "/nonexistent", name))


def _build_serial(element: Element, command: Command) -> None:
    identity = command.alias(element, "serial")
    target = element.find("target")
    index = None if target is None else target.get("port")
    chardev = _chardev(element, identity, command)
    command.device("isa-serial", chardev=chardev, id=identity, index=None if index is None else int(index))


def _build_parallel(element: Element, command: Command) -> None:
    identity = command.alias(element, "parallel")
    command.device("isa-parallel", chardev=_chardev(element, identity, command), id=identity)


def _build_console(element: Element, command: Command) -> None:
    if not mirrors_serial(element):
        _build_port(element, command, "virtconsole", command.alias(element, "console"))


def _build_channel(element: Element, command: Command) -> None:
    _build_port(element, command, "virtserialport", command.alias(element, "channel"))


def _build_port(element: Element, command: Command, driver: str, identity: str) -> None:
    target = element.find("target")
    name = None if target is None else target.get("name")
    address = element.find("address")
    controller, port = (
        ("0", "1") if address is None else (address.get("controller", "0"), address.get("port", "1"))
    )
    chardev = _chardev(element, identity, command)
    command.device(
        driver,
        bus=f"virtio-serial{int(controller, 0)}.0",
        nr=int(port, 0),
        chardev=chardev,
        id=identity,
        name=name,
    )


def _refuse(element: Element) -> Iterator[tuple[str, str]]:
    """Yield what is missing or superfluous for the host's end."""
    source = element.find("source")
    path = None if source is None else source.get("path")
    kind = backend(element)
    if kind in {"unix", "file"} and not path and element.tag != "channel":
        yield "/source/@path", f"Missing source path attribute for char device of type '{kind}'"
    if kind == "unix" and path and len(path.encode()) > SOCKET_PATH_BYTES:
        yield "/source/@path", f"UNIX socket path '{path}' is longer than {SOCKET_PATH_BYTES} bytes"
    if kind == "file" and element.tag == "channel" and not path:
        yield "/source/@path", "Missing source path attribute for char device of type 'file'"


def _refuse_console(element: Element) -> Iterator[tuple[str, str]]:
    if not mirrors_serial(element):
        yield from _refuse(element)


_SERIAL_TARGET: Final = Rule(
    attributes={"type": one_of("isa-serial"), "port": matching(r"[0-3]", "0 to 3")},
    children={"model": Rule(attributes={"name": one_of("isa-serial")})},
)
_PORT_NAME: Final = matching(r"(?!\.)[^\0/]{1,64}", "a name without slashes")

SERIAL: Final = Part(rule=_rule(_SERIAL_TARGET, at_most=4, tty=ANY), build=_build_serial, refuse=_refuse)
PARALLEL: Final = Part(
    rule=_rule(Rule(attributes={"port": NUMBER}), at_most=3, tty=ANY), build=_build_parallel, refuse=_refuse
)
CONSOLE: Final = Part(
    rule=_rule(
        Rule(attributes={"type": one_of("serial", "virtio"), "port": NUMBER}),
        "virtio-serial",
        at_most=None,
        tty=ANY,  # where the host put the pty at the last start
    ),
    build=_build_console,
    refuse=_refuse_console,
)
CHANNEL: Final = Part(
    rule=_rule(
        Rule(attributes={"type": one_of("virtio"), "name": _PORT_NAME, "state": ANY}, required=("type",)),
        "virtio-serial",
        at_most=None,
        required=("target",),
    ),
    build=_build_channel,
    refuse=_refuse,
)
