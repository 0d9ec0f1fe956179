"""Rules about the switches of <features>: those of the machine, and those of Hyper-V, Xen and KVM."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from virtsnapd.models.abi.rule import Field, Part, Rule, Several
from virtsnapd.models.abi.values import present, readable, size

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from virtsnapd.models.document import Element


def _state(element: Element) -> str:
    return element.get("state", "on")


def _hpt(element: Element) -> str:
    pages = size("maxpagesize")(element) or "0"
    return f"on,resizing={element.get('resizing', 'none')},maxpagesize={pages}"


_FEATURE_TEXTS: Final[Mapping[str, Callable[[Element], str]]] = {
    "apic": lambda apic: f"on,eoi={apic.get('eoi', 'default')}",
    # so libvirt calls a passthrough mode, whose number in one list means `off` in the other
    "hyperv": lambda hyperv: "off" if hyperv.get("mode") == "passthrough" else "on",
    "capabilities": lambda capabilities: f"policy={capabilities.get('policy', 'default')}",
    "gic": lambda gic: f"on,version={gic.get('version', 'none')}",
    "ioapic": lambda ioapic: f"driver={ioapic.get('driver', 'none')}",
    "hpt": _hpt,
    **dict.fromkeys(("cfpc", "sbbc", "ibs"), lambda choice: f"value={choice.get('value', 'none')}"),
}
"""How a feature's value is shown, where it is more than its state."""
_FEATURES_ABSENT: Final = {
    "apic": "default,eoi=default",
    "capabilities": "policy=default",
    "gic": "default,version=none",
    "ioapic": "driver=none",
    "hpt": "default,resizing=none,maxpagesize=0",
    **dict.fromkeys(("cfpc", "sbbc", "ibs"), "value=none"),
}
_FEATURES: Final = (
    "acpi apic pae hap viridian privnet hyperv kvm pvspinlock capabilities pmu vmport gic smm ioapic hpt vmcoreinfo "
    "htm nested-hv ccf-assist xen cfpc sbbc ibs"
)
"""virDomainFeature, without what is between the hypervisor and its host."""
_HOST_FEATURES: Final = frozenset({"msrs", "tcg", "async-teardown"})


def _features(features: Element) -> Mapping[str, str]:
    found = {
        str(child.tag): _FEATURE_TEXTS.get(str(child.tag), _state)(child)
        for child in features
        if child.tag not in _HOST_FEATURES
    }
    return {name: text for name, text in found.items() if text != _FEATURES_ABSENT.get(name)}


def _states(children: Iterable[Element]) -> dict[str, str]:
    return {str(child.tag): _state(child) for child in children}


def _enlightenments(hyperv: Element) -> Mapping[str, str]:
    """Return the states, of two the value: a state that is off is the value that nothing is said of."""
    found = _states(hyperv)
    for name, value in (("spinlocks", "retries"), ("vendor_id", "value")):
        child = hyperv.find(name)
        found.pop(name, None)
        if child is not None and _state(child) == "on":
            found[name] = child.get(value, "")
    return found


FEATURES: Final[tuple[Rule, ...]] = (
    Several(
        path="features/{key}",
        read=lambda domain: _features(features) if (features := domain.find("features")) is not None else {},
        words="State of feature '{key}' differs: source: '{old}', destination: '{new}'",
        absences=_FEATURES_ABSENT,
        order=_FEATURES,
    ),
    Part(
        path="features/hyperv",
        rules=(
            Several(
                path="{key}",
                read=_enlightenments,
                words="State of HyperV enlightenment feature '{key}' differs: source: '{old}', destination: '{new}'",
                special={
                    "spinlocks": "HyperV spinlock retry count differs: source: '{old}', destination: '{new}'",
                    "vendor_id": "HyperV vendor_id differs: source: '{old}', destination: '{new}'",
                },
                absences={"spinlocks": "0", "vendor_id": "(null)"},
                order="relaxed vapic spinlocks vpindex runtime synic stimer reset vendor_id frequencies "
                "reenlightenment tlbflush ipi evmcs avic",
            ),
            Part(
                path="stimer",
                rules=(
                    Field(
                        path="direct/@state",
                        absent="default",
                        words="State of HyperV stimer direct feature differs: "
                        "source: '{old}', destination: '{new}'",
                    ),
                ),
            ),
        ),
    ),
    Part(
        path="features/xen",
        rules=(
            Several(
                path="{key}",
                read=_states,
                words="State of Xen feature '{key}' differs: source: '{old}', destination: '{new}'",
                order="e820_host passthrough",
            ),
            Field(
                path="passthrough/@mode",
                absent="default",
                words="'mode' of Xen passthrough feature differs: source: '{old}', destination: '{new}'",
            ),
        ),
    ),
    Part(
        path="features/kvm",
        rules=(
            Several(
                path="{key}",
                read=_states,
                words="State of KVM feature '{key}' differs: source: '{old}', destination: '{new}'",
                order="hidden hint-dedicated poll-control pv-ipi dirty-ring",
            ),
            Field(
                path="dirty-ring/@size",
                both=True,
                words="dirty ring size of KVM feature 'dirty-ring' differs: source: '{old}', destination: '{new}'",
            ),
        ),
    ),
    Part(
        path="features/smm",
        rules=(
            Field(
                path="tseg",
                read=present("tseg"),
                absent="not specified",
                shown=lambda _: "specified",
                words="SMM TSEG differs: source: {old}, destination: '{new}'",
            ),
            Field(
                path="tseg",
                read=size("tseg", unit="bytes", default_unit="MiB"),
                both=True,
                shown=readable,
                words="Size of SMM TSEG size differs: source: '{old}', destination: '{new}'",
            ),
        ),
    ),
)
