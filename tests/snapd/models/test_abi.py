from __future__ import annotations

import pytest

from tests.snapd.models.samples import UUID, disk_xml, domain, domain_xml
from virtsnap_protocol.errors import ConfigUnsupported
from virtsnapd.models.abi import check_abi_stability
from virtsnapd.models.domain import DomainDefinition

SOURCE = domain_xml(disk_xml())

# observed with virsh 9.0 by redefining a snapshot with the changed domain
CHANGES = {
    "type": ("type='test'", "type='qemu'", "Target domain virt type qemu does not match source test"),
    "uuid": (
        UUID,
        UUID.replace("6", "5"),
        f"Target domain uuid {UUID.replace('6', '5')} does not match source {UUID}",
    ),
    "name": ("<name>web", "<name>wob", "Target domain name 'wob' does not match source 'web'"),
    "memory": (">2048<", ">2049<", "Target domain max memory 2049 does not match source 2048"),
    "vcpu": ("<vcpu>2", "<vcpu>3", "Target domain vCPU max 3 does not match source 2"),
    "os": (">hvm<", ">xen<", "Target domain OS type xen does not match source hvm"),
    "arch": ("x86_64", "i686", "Target domain architecture i686 does not match source x86_64"),
    "machine": (
        "'x86_64'",
        "'x86_64' machine='pc'",
        "Target domain machine type pc does not match source (null)",
    ),
    "disk count": (
        "<devices>",
        f"<devices>{disk_xml('vdb')}",
        "Target domain disk count 2 does not match source 1",
    ),
    "disk device": (
        "<disk type",
        "<disk device='cdrom' type",
        "Target disk device cdrom does not match source disk",
    ),
    "disk bus": ("dev='vda'", "dev='vda' bus='scsi'", "Target disk bus scsi does not match source virtio"),
    "disk target": ("dev='vda'", "dev='vdb'", "Target disk vdb does not match source vda"),
    "serial": ("<target", "<serial>x</serial><target", "Target disk serial x does not match source <null>"),
    "access": ("<target", "<readonly/><target", "Target disk access mode does not match source"),
    "net": (
        "<devices>",
        "<devices><interface type='user'/>",
        "Target domain net card count 1 does not match source 0",
    ),
    "controller": (
        "<devices>",
        "<devices><controller type='usb' index='0'/>",
        "Target domain controller count 1 does not match source 0",
    ),
}


@pytest.mark.parametrize("case", CHANGES)
def test_what_the_guest_can_see_must_not_change(case: str) -> None:
    old, new, message = CHANGES[case]
    source, target = DomainDefinition.parse(SOURCE), DomainDefinition.parse(SOURCE.replace(old, new, 1))
    with pytest.raises(ConfigUnsupported) as refused:
        check_abi_stability(source, target)
    assert str(refused.value) == f"unsupported configuration: {message}"


def test_every_difference_is_reported_and_the_first_is_the_message() -> None:
    source, target = domain(), domain(disk_xml("vdb"), name="other", memory="4096")
    with pytest.raises(ConfigUnsupported) as refused:
        check_abi_stability(source, target)
    assert [problem.path for problem in refused.value.problems] == [
        "/domain/name",
        "/domain/memory",
        "/domain/devices/disk[1]",
    ]
    assert refused.value.detail == refused.value.problems[0].message


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("/images/a.qcow2", "/elsewhere/a.qcow2"),
        ("<devices>", "<title>t</title><devices>"),
        ("<target", "<shareable/><target"),
    ],
    ids=["path", "title", "shareable"],
)
def test_what_the_guest_cannot_see_may_change(old: str, new: str) -> None:
    check_abi_stability(DomainDefinition.parse(SOURCE), DomainDefinition.parse(SOURCE.replace(old, new, 1)))


def test_network_cards_must_keep_their_addresses() -> None:
    source, target = (
        domain(disk_xml() + f"<interface type='user'><mac address='52:54:00:00:00:0{n}'/></interface>")
        for n in (1, 2)
    )
    with pytest.raises(
        ConfigUnsupported, match="Target network card mac 52:54:00:00:00:02 does not match source"
    ):
        check_abi_stability(source, target)
