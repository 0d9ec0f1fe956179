"""The command line of a guest from its pinned definition: complete, or a refusal that names what is not honoured."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

from virtsnap_protocol.errors import ConfigUnsupported, Problem
from virtsnapd.drivers.qemu import characters, controllers, disks, displays, peripherals, settings
from virtsnapd.drivers.qemu.command import Command, Part, is_q35, machine_of, option_text
from virtsnapd.drivers.qemu.elements import ANY, Rule, attributes_of, numbered, one_of, violations

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from virtsnapd.models.document import Element
    from virtsnapd.models.domain import DomainDefinition

node_names = disks.node_names
vmstate_target = disks.vmstate_target

DEVICES: Final[dict[str, Part]] = {
    # in the order of the command line: buses before what sits on them
    "controller": controllers.PART,
    "disk": disks.PART,
    "interface": peripherals.INTERFACE,
    "serial": characters.SERIAL,
    "parallel": characters.PARALLEL,
    "console": characters.CONSOLE,
    "channel": characters.CHANNEL,
    "input": displays.INPUT,
    "graphics": displays.GRAPHICS,
    "video": displays.VIDEO,
    "sound": displays.SOUND,
    "audio": displays.AUDIO,
    "watchdog": peripherals.WATCHDOG,
    "memballoon": peripherals.MEMBALLOON,
    "rng": peripherals.RNG,
    "panic": peripherals.PANIC,
    # which program runs is the daemon's configuration, so that no document can name one
    "emulator": settings.KEPT,
}
SETTINGS: Final[dict[str, Part]] = {
    "name": settings.NAME,
    "uuid": settings.UUID,
    "memory": settings.MEMORY,
    "currentMemory": settings.CURRENT_MEMORY,
    "cpu": settings.CPU,
    "vcpu": settings.VCPU,
    "os": settings.OS,
    "features": settings.FEATURES,
    "clock": settings.CLOCK,
    "pm": settings.POWER,
    "on_poweroff": settings.ON_POWEROFF,
    "on_reboot": settings.ON_REBOOT,
    "on_crash": settings.ON_CRASH,
    **dict.fromkeys(
        (
            "title",
            "description",
            "metadata",
            "seclabel",
            "resource",
            "perf",
            "cputune",
            "memtune",
            "blkiotune",
        ),
        settings.KEPT,
    ),
    "numatune": settings.KEPT,
}
"""Every honoured element of `<domain>`, in the order of the command line."""

DOMAIN: Final = Rule(
    attributes={"type": one_of("qemu", "kvm"), "id": ANY},
    children={
        **{tag: part.rule for tag, part in SETTINGS.items()},
        "devices": Rule(children={tag: part.rule for tag, part in DEVICES.items()}),
    },
)

_KVM_MISSING: Final = (
    "Domain requires KVM, but it is not available. Check that virtualization is enabled in the host BIOS, and host"
    " configuration is setup to load the kvm modules."
)


def check_honoured(definition: DomainDefinition, *, accel: str | None = None) -> None:
    """Refuse a definition that says anything about the guest which would be lost, naming all of it.

    With `accel` also refuse what that accelerator cannot do.

    Raises:
        ConfigUnsupported: `problems` has the XPath and the reason of each.

    """
    problems = [*_problems(definition.element), *_accelerator_problems(definition.element, accel)]
    if problems:
        message = "; ".join(problem.message for problem in problems)
        raise ConfigUnsupported(message, domain=definition.name, path=problems[0].path, problems=problems)


def _problems(root: Element) -> Iterator[Problem]:
    yield from violations(root, DOMAIN, "/domain")
    for child, path in numbered(root, "/domain"):
        yield from _refusals(SETTINGS, child, path)
        if child.tag == "devices":
            for device, device_path in numbered(child, path):
                yield from _refusals(DEVICES, device, device_path)
    yield from _machine_problems(root)


def _refusals(parts: dict[str, Part], element: Element, path: str) -> Iterator[Problem]:
    part = parts.get(str(element.tag))
    if part is not None:
        for relative, message in part.refuse(element):
            yield Problem(path + relative, message)


def _machine_problems(root: Element) -> Iterator[Problem]:
    if is_q35(root) and root.find("devices/disk/target[@bus='ide']") is not None:
        yield Problem(
            "/domain/devices/disk", "IDE controllers are unsupported for this QEMU binary or machine type"
        )
    topology = root.find("cpu/topology")
    counts = (
        []
        if topology is None
        else [int(value) for value in attributes_of(topology).values() if value.isdigit()]
    )
    if topology is not None and str(math.prod(counts)) != (root.findtext("vcpu") or "1").strip():
        yield Problem("/domain/cpu/topology", "CPU topology doesn't match maximum vcpu count")
    consoles = [c for c in root.iterfind("devices/console") if characters.mirrors_serial(c)]
    if len(consoles) > 1 and root.find("devices/serial") is not None:
        yield Problem("/domain/devices/console[2]", "only the first console can be a serial port")


def _accelerator_problems(root: Element, accel: str | None) -> Iterator[Problem]:
    if accel is None or accel == "kvm":
        return
    if root.get("type") == "kvm":
        yield Problem("/domain/@type", _KVM_MISSING)
    cpu = root.find("cpu")
    if cpu is not None and cpu.get("mode") == "host-passthrough":
        message = (
            "CPU mode 'host-passthrough' for x86_64 qemu domain on x86_64 host is not supported by hypervisor"
        )
        yield Problem("/domain/cpu/@mode", message)


def command_line(
    definition: DomainDefinition,
    *,
    emulator: str,
    accel: str,
    monitor_sockets: Sequence[str],
    paused: bool,
    run_as: str | None = None,
    socket_dir: str | None = None,
    incoming: str | None = None,
) -> list[str]:
    """Return the program and the arguments that start the guest of a pinned definition.

    `monitor_sockets` are the paths of QMP sockets that QEMU shall make; `socket_dir` is where channels without a
    path of their own get their socket; `incoming` is QEMU's migration URI, for instance `defer`.

    Raises:
        ConfigUnsupported: something in the definition cannot be honoured.

    """
    check_honoured(definition, accel=accel)
    root = definition.element
    command = Command(root, accel=accel, socket_dir=socket_dir, boot_order=settings.boot_order(root))
    _add_parts(command)
    process = ["-S"] if paused else []
    process += [] if incoming is None else ["-incoming", incoming]
    return [
        emulator,
        "-nodefaults",
        "-no-user-config",
        *process,
        *_machine(command),
        "-m",
        f"size={definition.max_memory // 1024}k",
        *command.arguments,
        *_monitors(monitor_sockets),
        *_confinement(run_as),
    ]


def _add_parts(command: Command) -> None:
    for tag, part in SETTINGS.items():
        for element in command.root.iterfind(tag):
            part.build(element, command)
    if command.root.find("clock") is None:
        command.add("-rtc", "base=utc")
    for element in _devices_in_order(command.root):
        DEVICES[str(element.tag)].build(element, command)


def _devices_in_order(root: Element) -> list[Element]:
    """Return the devices as they are to be created: PCI buses by number, then controllers, then the rest."""
    order = {tag: position for position, tag in enumerate(DEVICES)}

    def key(element: Element) -> tuple[int, bool, bool, int]:
        kind, index = controllers.kind_and_index(element)
        is_bus = element.tag == "controller" and kind == "pci"
        companion = element.find("master") is not None
        return order[str(element.tag)], not is_bus, companion, int(index) if is_bus else 0

    return sorted((e for e in root.iterfind("devices/*") if str(e.tag) in order), key=key)


def _machine(command: Command) -> list[str]:
    properties = ["usb=off", "dump-guest-core=off", *command.machine]
    if command.root.find("features/acpi") is None:
        properties.append("acpi=off")
    return ["-machine", ",".join([machine_of(command.root), *properties]), "-accel", command.accel]


def _monitors(sockets: Sequence[str]) -> Iterator[str]:
    """Yield the QMP monitors; QEMU serves one client per socket, a second lets us in beside a stuck first."""
    for number, path in enumerate(sockets):
        yield from (
            "-chardev",
            option_text("socket", id=f"charmonitor{number}", path=path, server="on", wait="off"),
        )
        yield from ("-mon", f"chardev=charmonitor{number},id=monitor{number},mode=control")


def _confinement(run_as: str | None) -> list[str]:
    """Return how the process ends and what it may not do.

    It stays after a power-off or panic, so that the reason can be asked for. QEMU installs its filter before it
    gives up root, hence with `run_as` the filter must let it; a process without root gains nothing by that, since
    the filter still refuses it every new program.
    """
    elevate = "deny" if run_as is None else "allow"
    sandbox = f"on,obsolete=deny,elevateprivileges={elevate},spawn=deny,resourcecontrol=deny"
    identity = [] if run_as is None else ["-runas", run_as]
    ends = ["-no-shutdown", "-action", "panic=pause"]
    return [*ends, "-display", "none", "-sandbox", sandbox, *identity, "-msg", "timestamp=on"]
