from __future__ import annotations

import pytest

from virtsnap_protocol.errors import Error
from virtsnapd.models.document import parse_document
from virtsnapd.models.snapshot_disk import SnapshotDisk, format_snapshot_disk, parse_snapshot_disk


def disk(text: str, *, redefine: bool = True) -> SnapshotDisk:
    return parse_snapshot_disk(parse_document(text, "domain_snapshot"), redefine=redefine)


def shown(entry: SnapshotDisk) -> str:
    return "".join(format_snapshot_disk(entry))


@pytest.mark.parametrize(
    ("text", "code", "message"),
    [
        ("<disk/>", 1, "internal error: missing name from disk snapshot element"),
        (
            "<disk name='vda' snapshot='default'/>",
            27,
            "XML error: Invalid value for attribute 'snapshot' in element 'disk': 'default'.",
        ),
        (
            "<disk name='vda' type='zz'/>",
            27,
            "XML error: Invalid value for attribute 'type' in element 'disk': 'zz'.",
        ),
        ("<disk name='vda' type='dir'/>", 27, "XML error: unsupported disk snapshot type 'dir'"),
        ("<disk name='vda' type='volume'/>", 27, "XML error: unsupported disk snapshot type 'volume'"),
        (
            "<disk name='vda'><source file='a'/></disk>",
            27,
            "XML error: disk snapshot image path 'a' must be absolute",
        ),
        (
            "<disk name='vda'><driver type='zz'/></disk>",
            67,
            "unsupported configuration: unknown disk snapshot driver 'zz'",
        ),
        (
            "<disk name='vda' type='network'><source name='x'/></disk>",
            27,
            "XML error: Missing required attribute 'protocol' in element 'source'",
        ),
        (
            "<disk name='vda' type='network'><source protocol='zz'/></disk>",
            27,
            "XML error: Invalid value for attribute 'protocol' in element 'source': 'zz'.",
        ),
    ],
)
def test_a_wrong_entry_is_refused_in_the_words_of_libvirt(text: str, code: int, message: str) -> None:
    with pytest.raises(Error) as refused:
        disk(text)
    assert (refused.value.code, str(refused.value)) == (code, message)


@pytest.mark.parametrize("inner", ["<source file='/a'/>", "<driver type='qcow2'/>"])
def test_a_source_or_a_format_means_external(inner: str) -> None:
    assert disk(f"<disk name='vda'>{inner}</disk>").snapshot == "external"


def test_an_entry_with_only_a_name_leaves_the_mode_open() -> None:
    assert disk("<disk name='vda'><source/></disk>") == SnapshotDisk(name="vda")


def test_an_unfinished_delete_is_recorded_by_redefining_only() -> None:
    text = "<disk name='vda'><snapshotDeleteInProgress/></disk>"
    assert disk(text).delete_in_progress
    assert not disk(text, redefine=False).delete_in_progress


def test_an_entry_without_a_name_is_not_shown() -> None:
    assert shown(SnapshotDisk(name="")) == ""


def test_the_type_is_shown_with_a_source_or_a_format_only() -> None:
    assert (
        shown(SnapshotDisk(name="vda", snapshot="internal")) == "    <disk name='vda' snapshot='internal'/>\n"
    )
    assert shown(SnapshotDisk(name="vda", snapshot="external", type="block", source="/dev/b")) == (
        "    <disk name='vda' snapshot='external' type='block'>\n      <source dev='/dev/b'/>\n    </disk>\n"
    )


RICH = (
    "<disk name='vda' snapshot='external' type='file'><source file='/a' startupPolicy='optional'>"
    "<seclabel model='dac'/></source><driver type='qcow2'/></disk>"
)


def test_what_a_source_says_besides_its_path_is_kept() -> None:
    entry = disk(RICH)
    assert (entry.source, entry.format) == ("/a", "qcow2")
    assert shown(entry) == (
        "    <disk name='vda' snapshot='external' type='file'>\n"
        "      <driver type='qcow2'/>\n"
        "      <source file='/a' startupPolicy='optional'>\n"
        "        <seclabel model='dac'/>\n"
        "      </source>\n"
        "    </disk>\n"
    )
    assert disk(shown(entry)) == entry


def test_pointing_an_entry_to_another_image_keeps_the_rest() -> None:
    moved = disk(RICH).with_source("/b'")
    assert moved.source == "/b'"
    assert disk(shown(moved)) == moved
    assert shown(moved) == shown(disk(RICH)).replace("'/a'", "'/b&apos;'")


def test_a_simple_entry_can_be_given_an_image() -> None:
    assert SnapshotDisk(name="vda", snapshot="external").with_source("/b") == SnapshotDisk(
        name="vda", snapshot="external", source="/b"
    )
