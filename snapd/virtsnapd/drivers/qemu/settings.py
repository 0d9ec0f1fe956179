"""What a definition says beside its devices: machine, processor, memory, clock, boot, power management."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from virtsnapd.drivers.qemu.command import Command, Part, escaped
from virtsnapd.drivers.qemu.elements import (
    ANY,
    FLAG,
    IGNORED,
    NUMBER,
    ON_OFF,
    PATH,
    YES_NO,
    Rule,
    attributes_of,
    matching,
    one_of,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from virtsnapd.models.document import Element

MACHINES: Final = matching(
    r"(pc-(i440fx|q35)-[0-9]+\.[0-9]+(\.[0-9]+)?)|pc|q35", "pc-i440fx-*, pc-q35-*, pc, q35"
)
_NAME: Final = matching(r"[A-Za-z0-9][A-Za-z0-9._-]*", "a name")
_COUNT: Final = matching(r"[1-9][0-9]{0,3}", "a positive number")

_BOOT_DEVICES: Final = {  # <boot dev=...> -> the devices it may mean
    "fd": "devices/disk[@device='floppy']",
    "hd": "devices/disk",
    "cdrom": "devices/disk[@device='cdrom']",
    "network": "devices/interface",
}


def boot_order(root: Element) -> dict[Element, int]:
    """Return the boot position, from 1, of every device that has one.

    As in libvirt (qemuBuildBootIndex...), each `<boot dev>` of `<os>` means the first device of its kind.
    """
    devices = [(device, device.find("boot")) for device in root.iterfind("devices/*")]
    order = {device: int(boot.get("order", "1")) for device, boot in devices if boot is not None}
    wanted = dict.fromkeys(str(boot.get("dev")) for boot in root.iterfind("os/boot"))
    for position, kind in enumerate(wanted, start=1):
        for device in root.iterfind(_BOOT_DEVICES.get(kind, "none")):
            if kind != "hd" or device.get("device", "disk") == "disk":
                order.setdefault(device, position)
                break
    return order


def _build_os(element: Element, command: Command) -> None:
    options = ["strict=on"]
    menu, bios = element.find("bootmenu"), element.find("bios")
    if menu is not None:
        enabled = menu.get("enable") == "yes"
        options.append(f"menu={'on' if enabled else 'off'}")
        if enabled and menu.get("timeout"):
            options.append(f"splash-time={menu.get('timeout')}")
    if bios is not None and bios.get("rebootTimeout"):
        options.append(f"reboot-timeout={bios.get('rebootTimeout')}")
    if bios is not None and bios.get("useserial") == "yes":
        command.machine.append("graphics=off")
    command.add("-boot", ",".join(options))
    for tag, flag in (("kernel", "-kernel"), ("initrd", "-initrd"), ("cmdline", "-append")):
        if text := (element.findtext(tag) or "").strip():
            command.add(flag, text)


def _refuse_os(element: Element) -> Iterator[tuple[str, str]]:
    root = element.getparent()
    if root is None:
        return
    if element.find("bios[@useserial='yes']") is not None and root.find("devices/serial") is None:
        yield "/bios/@useserial", "need at least one serial port to use BIOS serial output"
    if element.find("boot") is not None and root.find("devices/*/boot") is not None:
        yield "/boot", "per-device boot elements cannot be used together with os/boot elements"


OS: Final = Part(
    rule=Rule(
        children={
            "type": Rule(attributes={"arch": one_of("x86_64"), "machine": MACHINES}, text=one_of("hvm")),
            "boot": Rule(attributes={"dev": one_of(*_BOOT_DEVICES)}, required=("dev",), at_most=4),
            "bootmenu": Rule(attributes={"enable": YES_NO, "timeout": NUMBER}),
            "bios": Rule(
                attributes={"useserial": YES_NO, "rebootTimeout": matching(r"-1|[0-9]{1,5}", "ms or -1")}
            ),
            "kernel": Rule(text=PATH),
            "initrd": Rule(text=PATH),
            "cmdline": Rule(text=ANY),
        }
    ),
    build=_build_os,
    refuse=_refuse_os,
)


def _build_features(element: Element, command: Command) -> None:
    # PAE and the local APIC are always there on these machines
    for tag, name in (("vmport", "vmport"), ("smm", "smm")):
        switch = element.find(tag)
        if switch is not None:
            command.machine.append(f"{name}={switch.get('state', 'on')}")


_STATE: Final = Rule(attributes={"state": ON_OFF})
FEATURES: Final = Part(
    rule=Rule(
        children={
            "acpi": FLAG,
            "apic": FLAG,
            "pae": FLAG,
            "vmport": _STATE,
            "smm": _STATE,
            "pmu": _STATE,
        }
    ),
    build=_build_features,
)

_TIMERS: Final = {  # name -> the attributes of that timer that we can make QEMU do
    "rtc": {"tickpolicy": one_of("delay", "catchup")},
    "pit": {"tickpolicy": one_of("delay", "discard")},
    "hpet": {"present": YES_NO},
}


def _build_clock(element: Element, command: Command) -> None:
    options = ["base=localtime" if element.get("offset") == "localtime" else "base=utc"]
    for timer in element.iterfind("timer"):
        name, policy = timer.get("name"), timer.get("tickpolicy")
        if name == "rtc" and policy == "catchup":
            options.append("driftfix=slew")
        elif name == "pit" and policy is not None and command.accel == "kvm":
            command.add(
                "-global", f"kvm-pit.lost_tick_policy={policy}"
            )  # other accelerators have no such policy
        elif name == "hpet" and timer.get("present"):
            command.machine.append(f"hpet={'on' if timer.get('present') == 'yes' else 'off'}")
    command.add("-rtc", ",".join(options))


def _refuse_clock(element: Element) -> Iterator[tuple[str, str]]:
    for position, timer in enumerate(element.iterfind("timer"), start=1):
        for key, value in attributes_of(timer).items():
            allowed = _TIMERS.get(str(timer.get("name")), {}).get(key)
            if key != "name" and (allowed is None or not allowed.allow(value)):
                message = f"{key} '{value}' of timer '{timer.get('name')}' is not supported"
                yield f"/timer[{position}]/@{key}", message


CLOCK: Final = Part(
    rule=Rule(
        attributes={"offset": one_of("utc", "localtime")},
        children={
            "timer": Rule(
                at_most=None,
                required=("name",),
                attributes={"name": one_of(*_TIMERS), "tickpolicy": ANY, "present": YES_NO},
            )
        },
    ),
    build=_build_clock,
    refuse=_refuse_clock,
)

_POLICY: Final = {"require": "on", "force": "on", "optional": "on", "disable": "off", "forbid": "off"}


def _build_cpu(element: Element, command: Command) -> None:
    mode = element.get("mode", "custom")
    parts = [
        {"host-passthrough": "host", "maximum": "max"}.get(mode) or (element.findtext("model") or "").strip()
    ]
    if mode == "host-passthrough" and element.get("migratable"):
        parts.append(f"migratable={element.get('migratable')}")
    parts += [
        f"{feature.get('name')}={_POLICY[str(feature.get('policy', 'require'))]}"
        for feature in element.iterfind("feature")
    ]
    performance = command.root.find("features/pmu")
    if performance is not None:
        parts.append(f"pmu={performance.get('state', 'on')}")
    if parts[0]:
        command.add("-cpu", ",".join(parts))


def _refuse_cpu(element: Element) -> Iterator[tuple[str, str]]:
    mode = element.get("mode", "custom")
    if mode != "custom" and element.find("model") is not None:
        yield "/model", f"a model is not supported for cpu mode '{mode}'"
    if (
        mode == "custom"
        and element.find("feature") is not None
        and not (element.findtext("model") or "").strip()
    ):
        yield "/feature", "Non-empty feature list specified without CPU model"
    if mode != "host-passthrough" and element.get("migratable") is not None:
        yield "/@migratable", "attribute 'migratable' is supported for cpu mode 'host-passthrough' only"


_FEATURE: Final = Rule(
    attributes={"name": _NAME, "policy": one_of(*_POLICY)}, required=("name",), at_most=None
)
CPU: Final = Part(
    rule=Rule(
        attributes={
            "mode": one_of("custom", "host-passthrough", "maximum"),
            "match": one_of("exact"),
            "check": one_of("none", "partial"),
            "migratable": ON_OFF,
        },
        children={
            "model": Rule(attributes={"fallback": one_of("allow", "forbid")}, text=_NAME),
            "feature": _FEATURE,
            "topology": Rule(
                attributes={"sockets": _COUNT, "dies": _COUNT, "cores": _COUNT, "threads": _COUNT}
            ),
        },
    ),
    build=_build_cpu,
    refuse=_refuse_cpu,
)


def _build_vcpu(element: Element, command: Command) -> None:
    most = (element.text or "1").strip()
    now = element.get("current", most)
    parts = [now] if now == most else [now, f"maxcpus={most}"]
    topology = command.root.find("cpu/topology")
    if topology is None:
        parts += [f"sockets={most}", "cores=1", "threads=1"]
    else:
        keys = ("sockets", "dies", "cores", "threads")
        parts += [f"{key}={topology.get(key)}" for key in keys if topology.get(key)]
    command.add("-smp", ",".join(parts))


VCPU: Final = Part(
    rule=Rule(
        # where the host runs them is nothing that the guest sees
        attributes={"placement": one_of("static", "auto"), "cpuset": ANY, "current": _COUNT},
        text=_COUNT,
    ),
    build=_build_vcpu,
)


def _build_power(element: Element, command: Command) -> None:
    chip = "ICH9-LPC" if command.is_q35 else "PIIX4_PM"
    for tag, name in (("suspend-to-mem", "disable_s3"), ("suspend-to-disk", "disable_s4")):
        state = element.find(tag)
        if state is not None and state.get("enabled"):
            command.add("-global", f"{chip}.{name}={int(state.get('enabled') == 'no')}")


_ENABLED: Final = Rule(attributes={"enabled": YES_NO})
POWER: Final = Part(
    rule=Rule(children={"suspend-to-mem": _ENABLED, "suspend-to-disk": _ENABLED}), build=_build_power
)


def _build_on_reboot(element: Element, command: Command) -> None:
    # what `on_poweroff` and `on_crash` say the driver can do afterwards; a reboot would be over by then
    if (element.text or "").strip() == "destroy":
        command.add("-action", "reboot=shutdown")


def lifecycle_part(*actions: str) -> Part:
    """Return the part of an element that says what follows the guest's own end."""
    return Part(rule=Rule(text=one_of(*actions)))


ON_POWEROFF: Final = lifecycle_part("destroy", "restart", "preserve", "rename-restart")
ON_CRASH: Final = lifecycle_part(
    "destroy", "restart", "preserve", "rename-restart", "coredump-destroy", "coredump-restart"
)
ON_REBOOT: Final = Part(rule=Rule(text=one_of("restart", "destroy")), build=_build_on_reboot)


def _refuse_current_memory(element: Element) -> Iterator[tuple[str, str]]:
    root = element.getparent()
    memory = None if root is None else root.find("memory")
    if memory is None:
        return
    values = [((part.text or "").strip(), part.get("unit", "KiB")) for part in (memory, element)]
    if values[0] != values[1]:
        yield "", "a current memory that differs from the memory is not supported"


MEMORY: Final = Part(rule=Rule(attributes={"unit": ANY, "dumpCore": one_of("off", "on")}, text=ANY))
CURRENT_MEMORY: Final = Part(rule=Rule(attributes={"unit": ANY}, text=ANY), refuse=_refuse_current_memory)
KEPT: Final = Part(rule=IGNORED)
"""Elements that say nothing about what the guest sees: descriptions, and the host's own resources."""
NAME: Final = Part(
    rule=Rule(text=ANY),
    build=lambda name, command: command.add("-name", f"guest={escaped(name.text or '')},debug-threads=on"),
)
UUID: Final = Part(
    rule=Rule(text=ANY), build=lambda uuid, command: command.add("-uuid", (uuid.text or "").strip())
)
