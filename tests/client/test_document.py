"""Snapshot documents that the client writes."""

from __future__ import annotations

from xml.etree import ElementTree as ET

from hypothesis import given
from hypothesis import strategies as st

from virtsnap.document import DiskSpec, MemorySpec, snapshot_document

XML_TEXT = st.text(
    st.characters(codec="utf-8", exclude_categories=("Cc", "Cs"), exclude_characters="\ufffe\uffff")
)


def test_nothing_said_is_nothing_written() -> None:
    assert snapshot_document() == "<domainsnapshot>\n</domainsnapshot>\n"


def test_a_block_device_is_named_as_one() -> None:
    disk = DiskSpec(name="vdb", snapshot="external", driver="qcow2", storage="block", source="/dev/x")
    assert snapshot_document(disks=[disk]) == (
        "<domainsnapshot>\n  <disks>\n    <disk name='vdb' snapshot='external' type='block'>\n"
        "      <driver type='qcow2'/>\n      <source dev='/dev/x'/>\n    </disk>\n  </disks>\n"
        "</domainsnapshot>\n"
    )


@given(name=XML_TEXT, file=XML_TEXT)
def test_any_text_comes_out_of_a_parser_as_it_went_in(name: str, file: str) -> None:
    root = ET.fromstring(snapshot_document(name, memory=MemorySpec(file=file)))  # noqa: S314 written right here
    assert (root.findtext("name") or "") == name
    memory = root.find("memory")
    assert memory is not None
    assert memory.get("file") == file
