"""Rules about the devices that pass something of the host to the guest, and about those that guests have one of."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from virtsnapd.models.abi.address import ADDRESS, VIRTIO, switch
from virtsnapd.models.abi.devices import count, kind, value
from virtsnapd.models.abi.rule import GUARDED, Field, Group, Rule
from virtsnapd.models.abi.values import decimal, lower, number, present, size

if TYPE_CHECKING:
    from virtsnapd.models.document import Element

HOSTDEV: Final = kind(
    "hostdev",
    "host device",
    Field(
        path="@mode", default="subsystem", words="Target host device mode {new} does not match source {old}"
    ),
    value("@type", "host device subsystem"),
    # a frame buffer that the guest's firmware finds
    ours=(switch("@ramfb", "Target host device ramfb '{new}' does not match source '{old}'"),),
)
SMARTCARD: Final = kind("smartcard", "smartcard")
SERIAL: Final = kind(
    "serial",
    "serial port",
    value("target/@type", "serial type", "none"),
    value("target/model/@name", "serial model", "none"),
    count("target/@port", "serial port"),
)
PARALLEL: Final = kind("parallel", "parallel port", count("target/@port", "parallel port"))


def _forwarded(channel: Element) -> str | None:
    target = channel.find("target[@type='guestfwd']")
    return None if target is None else f"{target.get('address')}:{target.get('port')}"


CHANNEL: Final = kind(
    "channel",
    "channel",
    value("target/@type", "channel type"),
    value("target/@name", "channel name", GUARDED, form=str),
    Field(
        path="target",
        read=_forwarded,
        both=True,
        words="Target channel addr {new} does not match source {old}",
    ),
)
CONSOLE: Final = kind(
    "console",
    "console",
    Field(
        path="target/@type",
        default="serial",
        words="Target console type {new} does not match source {old}",
    ),
)
HUB: Final = kind("hub", "hub device", value("@type", "hub device type"))
REDIRECTED: Final = kind(
    "redirdev",
    "redirected devices",
    Field(path="@bus", default="usb", words="Target redirected device bus {new} does not match source {old}"),
    Field(
        path="@type",
        words="Target redirected device source type {new} does not match source device source type {old}",
    ),
)


def _usb(attribute: str, words: str) -> Rule:
    """Return the rule of what a filter asks of a USB device; -1 asks for nothing."""
    return Field(
        path=f"@{attribute}", default="-1", form=number, words=f"Target USB {words} does not match source"
    )


FILTER: Final = Group(
    path="devices/redirfilter",
    count="Target domain USB redirection filter count {new} does not match source {old}",
    rules=(
        Group(
            path="usbdev",
            count="Target USB redirection filter rule count {new} does not match source {old}",
            rules=(
                _usb("class", "Class code"),
                _usb("vendor", "vendor ID"),
                _usb("product", "product ID"),
                Field(
                    path="@version",
                    default="-1",
                    form=decimal,
                    words="Target USB version does not match source",
                ),
                Field(path="@allow", words="Target USB allow '{new}' does not match source '{old}'"),
            ),
        ),
    ),
)
WATCHDOG: Final = kind("watchdog", "watchdog", value("@model", "watchdog model"))
BALLOON: Final = kind(
    "memballoon",
    "memory balloon",
    value("@model", "balloon model"),
    *(
        switch(f"@{name}", f"Target balloon {name} attribute value '{{new}}' does not match source '{{old}}'")
        for name in ("autodeflate", "freePageReporting")
    ),
    VIRTIO,
)
RNG: Final = kind(
    "rng",
    "RNG device",
    Field(path="@model", words="Target RNG model '{new}' does not match source '{old}'"),
    VIRTIO,
)
PANIC: Final = kind(
    "panic",
    "panic device",
    Field(path="@model", absent="default", words="Target panic model '{new}' does not match source '{old}'"),
)


def _interrupts(device: Element) -> str | None:
    """Return how the device of a shared memory interrupts, all in one: libvirt's message says no more."""
    msi = device.find("msi")
    if msi is None:
        return None
    return f"vectors={msi.get('vectors', '0')} ioeventfd={msi.get('ioeventfd', 'default')}"


def _shared_model(device: Element) -> str:
    model = device.find("model")
    return "ivshmem" if model is None else model.get("type", "ivshmem")


def _role(device: Element) -> str | None:
    """Return the role, which the oldest model does not have."""
    return None if _shared_model(device) == "ivshmem" else device.get("role")


SHARED: Final = kind(
    "shmem",
    "shared memory device",
    Field(
        path="@role",
        read=_role,
        absent="default",
        words="Target shared memory role '{new}' does not match source role '{old}'",
    ),
    Field(
        path="model/@type",
        read=_shared_model,
        words="Target shared memory model '{new}' does not match source model '{old}'",
    ),
    Field(
        path="size",
        read=size("size", unit="bytes", default_unit="bytes"),
        absent="0",
        words="Target shared memory size '{new}' does not match source size '{old}'",
    ),
    Field(
        path="server",
        read=present("server"),
        words="Target shared memory server usage doesn't match source",
    ),
    Field(path="msi", read=_interrupts, words="Target shared memory MSI configuration doesn't match source"),
)


def _banks(tpm: Element) -> str | None:
    names = sorted(str(bank.tag) for bank in tpm.iterfind("backend/active_pcr_banks/*"))
    return " ".join(names) or None


TPM: Final = kind(
    "tpm",
    "TPM device",
    Field(path="backend/@type", words="Target TPM device type doesn't match source"),
    Field(path="@model", words="Target TPM device model doesn't match source"),
    Field(path="backend/@version", words="Target TPM version doesn't match source"),
    Field(path="backend/active_pcr_banks", read=_banks, words="Target active PCR banks doesn't match source"),
)


def _memory_size(path: str, words: str) -> Rule:
    text = f"Target {words} '{{new}}' doesn't match source {words} '{{old}}'"
    return Field(path=path, read=size(path), absent="0", words=text)


MEMORY_DEVICE: Final = kind(
    "memory",
    "memory device",
    Field(path="@model", words="Target memory device model '{new}' doesn't match source model '{old}'"),
    Field(
        path="target/node",
        form=number,
        absent="-1",
        words="Target memory device targetNode '{new}' doesn't match source targetNode '{old}'",
    ),
    _memory_size("target/size", "memory device size"),
    _memory_size("target/block", "memory device block size"),
    _memory_size("target/requested", "memory device requested size"),
    _memory_size("target/label/size", "NVDIMM label size"),
    _memory_size("source/alignsize", "NVDIMM alignment"),
    Field(
        path="source/pmem",
        read=present("source/pmem"),
        words="Target NVDIMM pmem flag doesn't match source NVDIMM pmem flag",
    ),
    Field(
        path="target/readonly",
        read=present("target/readonly"),
        words="Target NVDIMM readonly flag doesn't match source NVDIMM readonly flag",
    ),
    Field(path="uuid", form=lower, words="Target NVDIMM UUID doesn't match source NVDIMM"),
    # where one side is silent the hypervisor has chosen it
    ours=(
        Field(
            path="target/address/@base",
            form=number,
            both=True,
            words="Target memory device address '{new}' doesn't match source address '{old}'",
        ),
    ),
)
IOMMU: Final = Group(
    path="devices/iommu",
    count="Target domain IOMMU device count does not match source",
    rules=(
        Field(path="@model", words="Target domain IOMMU device model '{new}' does not match source '{old}'"),
        *(
            switch(
                f"driver/@{name}",
                f"Target domain IOMMU device {words} '{{new}}' does not match source '{{old}}'",
            )
            for name, words in (
                ("intremap", "intremap value"),
                ("caching_mode", "caching mode"),
                ("eim", "eim value"),
                ("iotlb", "iotlb value"),
            )
        ),
        Field(
            path="driver/@aw_bits",
            form=number,
            absent="0",
            words="Target domain IOMMU device aw_bits value '{new}' does not match source '{old}'",
        ),
        *ADDRESS,
    ),
)
VSOCK: Final = Group(
    path="devices/vsock",
    count="Target domain vsock device count does not match source",
    rules=(
        Field(
            path="@model",
            absent="default",
            words="Target domain vsock device model '{new}' does not match source '{old}'",
        ),
        VIRTIO,
        *ADDRESS,
    ),
)
# these libvirt 9.0 does not compare
NVRAM: Final = kind("nvram", "NVRAM device")
CRYPTO: Final = kind(
    "crypto",
    "crypto device",
    value("@model", "crypto device model"),
    count("backend/@queues", "crypto device queue count"),
    VIRTIO,
)
ATTACHED: Final[tuple[Rule, ...]] = (
    HOSTDEV,
    SMARTCARD,
    SERIAL,
    PARALLEL,
    CHANNEL,
    CONSOLE,
    HUB,
    REDIRECTED,
    FILTER,
    WATCHDOG,
    BALLOON,
    RNG,
    PANIC,
    SHARED,
    TPM,
    MEMORY_DEVICE,
    IOMMU,
    VSOCK,
    NVRAM,
    CRYPTO,
)
