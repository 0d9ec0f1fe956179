"""Rules about the devices of general use (disks, controllers, cards, ...): first those that libvirt compares first."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from virtsnapd.models.abi.address import ADDRESS, VIRTIO, switch
from virtsnapd.models.abi.rule import GUARDED, Field, Group, Rule
from virtsnapd.models.abi.values import lower, number, present, size

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from virtsnapd.models.document import Element


def kind(tag: str, words: str, *rules: Rule, ours: tuple[Rule, ...] = ()) -> Group:
    """Return the rule of all devices of one kind.

    `words` is libvirt's name for it, where it counts them; `ours` are the rules that libvirt does not have.
    """
    count = f"Target domain {words} count {{new}} does not match source {{old}}"
    return Group(path=f"devices/{tag}", count=count, rules=(*rules, *ADDRESS, *ours))


def value(path: str, words: str, absent: str = "default", *, form: Callable[[str], str] = str.strip) -> Field:
    """Return the rule of a value of which libvirt says that it `does not match`."""
    text = f"Target {words} {{new}} does not match source {{old}}"
    return Field(path=path, words=text, absent=absent, form=form)


def count(path: str, words: str, absent: str = "0") -> Field:
    """Return the rule of a number, which a document may spell in several ways."""
    return value(path, words, absent, form=number)


def flag(path: str, words: str) -> Field:
    """Return the rule of an element that is there or not."""
    return Field(path=path, read=present(path), words=words)


def _access(device: Element) -> str:
    """Return whether a guest may write to a disk; a CD-ROM is never written to."""
    read_only = device.get("device") == "cdrom" or device.find("readonly") is not None
    return "read-only" if read_only else "writable"


DISK: Final = kind(
    "disk",
    "disk",
    Field(path="@device", default="disk", words="Target disk device {new} does not match source {old}"),
    value("target/@bus", "disk bus"),
    value("target/@dev", "disk"),
    value("serial", "disk serial", GUARDED, form=str),
    Field(
        path="wwn",
        form=lower,
        absent=GUARDED,
        words="Target disk wwn '{new}' does not match source '{old}'",
    ),
    Field(path="readonly", read=_access, words="Target disk access mode does not match source"),
    value("@model", "disk model"),
    Field(
        path="target/@rotation_rate",
        form=number,
        absent="0",
        words="Target disk rotation rate {new} RPM does not match source {old} RPM",
    ),
    count("driver/@queues", "disk queue count"),
    count("driver/@queue_size", "disk queue size"),
    VIRTIO,
    ours=(
        value("vendor", "disk vendor", GUARDED, form=str),
        value("product", "disk product", GUARDED, form=str),
        switch("target/@removable", "Target disk removable mode '{new}' does not match source '{old}'"),
        *(
            count(f"blockio/@{name}", f"disk {name.replace('_', ' ')}")
            for name in ("logical_block_size", "physical_block_size", "discard_granularity")
        ),
        *(
            value(f"geometry/@{name}", f"disk geometry {name}", "0", form=number)
            for name in ("cyls", "heads", "secs", "trans")
        ),
        switch("driver/@event_idx", "Target disk event_idx option '{new}' does not match source '{old}'"),
    ),
)

CONTROLLER_MODELS: Final[Mapping[str, str]] = {
    "ide": "piix3 piix4 ich6",
    "pci": (
        "pci-root pcie-root pci-bridge dmi-to-pci-bridge pcie-to-pci-bridge pcie-root-port "
        "pcie-switch-upstream-port pcie-switch-downstream-port pci-expander-bus pcie-expander-bus"
    ),
    "scsi": (
        "auto buslogic lsilogic lsisas1068 vmpvscsi ibmvscsi virtio-scsi lsisas1078 virtio-transitional "
        "virtio-non-transitional ncr53c90 dc390 am53c974"
    ),
    "usb": (
        "piix3-uhci piix4-uhci ehci ich9-ehci1 ich9-uhci1 ich9-uhci2 ich9-uhci3 vt82c686b-uhci pci-ohci nec-xhci "
        "qusb1 qusb2 qemu-xhci none"
    ),
    "virtio-serial": "virtio virtio-transitional virtio-non-transitional",
}
"""Models by type, in the order of libvirt's enumerations: its message shows a model by its number."""


def _model_rule(controller_type: str, models: str) -> Rule:
    names = models.split()

    def read(controller: Element) -> str | None:
        return controller.get("model") if controller.get("type") == controller_type else None

    return Field(
        path="@model",
        read=read,
        absent="-1",
        shown=lambda model: str(names.index(model)) if model in names else model,
        words="Target controller model {new} does not match source {old}",
    )


CONTROLLER: Final = kind(
    "controller",
    "controller",
    value("@type", "controller type"),
    count("@index", "controller index"),
    *(_model_rule(name, models) for name, models in CONTROLLER_MODELS.items()),
    count("@ports", "controller ports", "-1"),
    count("@vectors", "controller vectors", "-1"),
    VIRTIO,
    ours=(
        count("driver/@queues", "controller queue count"),
        # where one side is silent the hypervisor has chosen these
        *(
            Field(
                path=path,
                form=number,
                both=True,
                words=f"Target controller {words} {{new}} does not match source {{old}}",
            )
            for path, words in (
                ("model/@name", "model name"),
                ("target/@chassis", "chassis"),
                ("target/@chassisNr", "chassisNr"),
                ("target/@port", "port"),
                ("target/@busNr", "busNr"),
            )
        ),
        Field(
            path="pcihole64",
            read=size("pcihole64"),
            absent="0",
            words="Target controller pcihole64 {new} does not match source {old}",
        ),
        count("target/node", "controller node", "-1"),
        switch("target/@hotplug", "Target controller hotplug value '{new}' does not match source '{old}'"),
    ),
)
FILESYSTEM: Final = kind(
    "filesystem",
    "filesystem",
    value("target/@dir", "filesystem guest target", "(null)", form=str),
    flag("readonly", "Target filesystem access mode does not match source"),
    Field(path="@model", words="Target filesystem model does not match source"),
    VIRTIO,
)


def _offloads(side: str, names: str) -> tuple[Rule, ...]:
    return tuple(
        switch(
            f"driver/{side}/@{name}",
            f"Target network card {side} {name} '{{new}}' does not match source '{{old}}'",
        )
        for name in names.split()
    )


INTERFACE: Final = kind(
    "interface",
    "net card",
    # a card without an address is given one at random when its domain is defined
    Field(
        path="mac/@address",
        form=lower,
        both=True,
        words="Target network card mac {new} does not match source {old}",
    ),
    value("model/@type", "network card model", "unknown"),
    count("mtu/@size", "network card MTU"),
    VIRTIO,
    ours=(
        count("driver/@queues", "network card queue count"),
        count("driver/@rx_queue_size", "network card receive queue size"),
        count("driver/@tx_queue_size", "network card transmit queue size"),
        *(
            switch(
                f"driver/@{name}",
                f"Target network card {name} option '{{new}}' does not match source '{{old}}'",
            )
            for name in ("event_idx", "rss", "rss_hash_report")
        ),
        *_offloads("host", "csum gso tso4 tso6 ecn ufo mrg_rxbuf"),
        *_offloads("guest", "csum tso4 tso6 ecn ufo"),
        *(
            switch(
                f"rom/@{name}", f"Target network card ROM {name} '{{new}}' does not match source '{{old}}'"
            )
            for name in ("bar", "enabled")
        ),
    ),
)
INPUT: Final = kind(
    "input",
    "input device",
    value("@type", "input device type"),
    value("@bus", "input device bus"),
    value("@model", "input model"),
    VIRTIO,
)
SOUND: Final = kind(
    "sound",
    "sound card",
    value("@model", "sound card model"),
    ours=(
        switch("@multichannel", "Target sound card multichannel '{new}' does not match source '{old}'"),
        Group(
            path="codec",
            count="Target sound card codec count {new} does not match source {old}",
            rules=(value("@type", "sound card codec"),),
        ),
    ),
)
GENERAL: Final[tuple[Rule, ...]] = (DISK, CONTROLLER, FILESYSTEM, INTERFACE, INPUT, SOUND)
