"""Documents of snapshots and domains for scripts, in the form in which both sides print them."""

from __future__ import annotations

from typing import Final
from xml.sax.saxutils import escape

DOMAIN: Final = "6695eb01-f6a4-8304-79aa-97f2502e193f"
"""The UUID of the default domain."""

_DEFINITION: Final = """\
<domain type='test'>
  <name>{name}</name>
  <uuid>{uuid}</uuid>
  <memory unit='KiB'>{memory}</memory>
  <currentMemory unit='KiB'>2097152</currentMemory>
  <vcpu placement='static'>2</vcpu>
  <os>
    <type arch='i686'>hvm</type>
    <boot dev='hd'/>
  </os>
  <clock offset='utc'/>
  <on_poweroff>destroy</on_poweroff>
  <on_reboot>restart</on_reboot>
  <on_crash>destroy</on_crash>
  <devices>
{disks}
    <interface type='network'>
      <mac address='aa:bb:cc:dd:ee:ff'/>
      <source network='default'/>
      <target dev='testnet0'/>
      <address type='pci' domain='0x0000' bus='0x00' slot='0x01' function='0x0'/>
    </interface>
    <memballoon model='virtio'>
      <address type='pci' domain='0x0000' bus='0x00' slot='0x02' function='0x0'/>
    </memballoon>
  </devices>
</domain>"""

_DISK: Final = """\
    <disk type='file' device='disk'>
      <source file='{source}'/>
      <target dev='{target}' bus='virtio'/>
      <address type='pci' domain='0x0000' bus='0x01' slot='{slot:#04x}' function='0x0'/>
    </disk>"""


def definition(
    *,
    name: str = "test",
    uuid: str = DOMAIN,
    memory: int = 8388608,
    disks: tuple[str, ...] = ("/guest/diskimage1",),
) -> str:
    """Return the default domain's definition, or one that differs from it; `disks` are the files of vda, vdb..."""
    devices = (
        _DISK.format(source=source, target=f"vd{letter}", slot=slot)
        for slot, (source, letter) in enumerate(zip(disks, "abcdef", strict=False))
    )
    return _DEFINITION.format(name=name, uuid=uuid, memory=memory, disks="\n".join(devices))


def record(
    name: str | None = "s",
    *,
    state: str | None = "running",
    time: str | None = "1600000000",
    parent: str | None = None,
    rest: str = "",
    domain: str | None = None,
) -> str:
    """Return the document of a snapshot as redefining needs it; None leaves a part out."""
    parts = (
        "" if name is None else f"<name>{escape(name)}</name>",
        "" if state is None else f"<state>{state}</state>",
        "" if parent is None else f"<parent><name>{escape(parent)}</name></parent>",
        "" if time is None else f"<creationTime>{time}</creationTime>",
        rest,
        definition() if domain is None else domain,
    )
    return f"<domainsnapshot>{''.join(parts)}</domainsnapshot>"
