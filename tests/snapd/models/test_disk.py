from __future__ import annotations

import pytest

from virtsnap_protocol.errors import Error
from virtsnapd.models.disk import Disk, parse_disk
from virtsnapd.models.document import parse_document


def disk(text: str) -> Disk:
    return parse_disk(parse_document(text, "domain_definition"))


def test_a_disk_has_the_defaults_of_libvirt() -> None:
    assert disk("<disk><source file='/a'/><target dev='vda'/></disk>") == Disk(
        target="vda", bus="virtio", device="disk", type="file", source="/a"
    )


@pytest.mark.parametrize(
    ("target", "bus"),
    [("fda", "fdc"), ("hda", "ide"), ("sda", "scsi"), ("vda", "virtio"), ("xvda", "xen"), ("ubda", "uml")],
)
def test_the_bus_follows_from_the_target(target: str, bus: str) -> None:
    assert disk(f"<disk><source file='/a'/><target dev='{target}'/></disk>").bus == bus


def test_a_given_bus_is_kept() -> None:
    assert disk("<disk><source file='/a'/><target dev='sda' bus='sata'/></disk>").bus == "sata"


@pytest.mark.parametrize(
    ("attributes", "source", "path"),
    [
        ("type='file'", "<source file='/a'/>", "/a"),
        ("type='block'", "<source dev='/dev/b'/>", "/dev/b"),
        ("type='network'", "<source protocol='rbd' name='pool/c'/>", "pool/c"),
        ("type='network'", "<source protocol='nbd'/>", "nbd"),
        ("type='volume'", "<source pool='p' volume='v'/>", "p/v"),
        ("type='dir'", "<source dir='/d'/>", "/d"),
        ("type='vhostuser'", "<source type='unix' path='/s'/>", "/s"),
    ],
)
def test_the_source_is_read_by_its_type(attributes: str, source: str, path: str) -> None:
    assert disk(f"<disk {attributes}>{source}<target dev='vda'/></disk>").source == path


@pytest.mark.parametrize("device", ["cdrom", "floppy"])
def test_a_drive_may_be_empty(device: str) -> None:
    assert disk(f"<disk device='{device}'><target dev='sda'/></disk>").empty


def test_what_cannot_be_written_has_no_snapshots_unless_it_says_so() -> None:
    assert disk("<disk device='cdrom'><target dev='sda'/></disk>").snapshot == "no"
    assert disk("<disk><source file='/a'/><target dev='sda'/><readonly/></disk>").snapshot == "no"
    assert (
        disk("<disk snapshot='manual'><source file='/a'/><target dev='sda'/><readonly/></disk>").snapshot
        == "manual"
    )
    assert disk("<disk><source file='/a'/><target dev='sda'/></disk>").snapshot is None


def test_access_modes_and_the_format_are_read() -> None:
    found = disk("<disk><driver type='qcow2'/><source file='/a'/><target dev='sda'/><shareable/></disk>")
    assert (found.format, found.shareable, found.readonly) == ("qcow2", True, False)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("<disk/>", "missing target information for device"),
        ("<disk><source file='/a'/><target/></disk>", "missing target information for device /a"),
        ("<disk><target dev='vda'/></disk>", "missing source information for device vda"),
        ("<disk type='z'/>", "XML error: Invalid value for attribute 'type' in element 'disk': 'z'."),
        ("<disk device='z'/>", "XML error: Invalid value for attribute 'device' in element 'disk': 'z'."),
        ("<disk snapshot='z'/>", "XML error: Invalid value for attribute 'snapshot' in element 'disk': 'z'."),
        (
            "<disk snapshot='default'/>",
            "XML error: Invalid value for attribute 'snapshot' in element 'disk': 'default'.",
        ),
        (
            "<disk><source file='/a'/><target dev='vda' bus='z'/></disk>",
            "XML error: Invalid value for attribute 'bus' in element 'target': 'z'.",
        ),
        (
            "<disk><source file='/a'/><target dev='foo'/></disk>",
            "XML error: Unknown disk name 'foo' and no address specified",
        ),
        (
            "<disk><driver type='z'/><source file='/a'/><target dev='vda'/></disk>",
            "unsupported configuration: unknown driver format value 'z'",
        ),
    ],
)
def test_a_wrong_disk_is_refused_in_the_words_of_libvirt(text: str, message: str) -> None:
    with pytest.raises(Error) as refused:
        disk(text)
    assert str(refused.value) == message
