from __future__ import annotations

from typing import Literal

import pytest

from tests.snapd.models.samples import disk_xml, domain, missing, record, regular
from virtsnap_protocol.errors import ConfigUnsupported
from virtsnapd.models.alignment import Stat, align_disks
from virtsnapd.models.domain import DomainDefinition
from virtsnapd.models.snapshot import SnapshotDisk

TWO = domain(disk_xml("vda", "/i/a.qcow2"), disk_xml("vdb", "/i/b.raw"))
FLOPPY = domain(disk_xml("vda", "/i/a.qcow2"), disk_xml("fda", None, "device='floppy'"))
CDROM = domain(disk_xml("vda", "/i/a.qcow2"), disk_xml("sda", "/i/cd.iso", "device='cdrom'"))
Default = Literal["internal", "external"]


def align(
    definition: DomainDefinition,
    *requests: SnapshotDisk,
    default: Default = "internal",
    stat: Stat | None = regular,
    uniform: bool = True,
    force_default: bool = False,
) -> list[tuple[str, str | None, str | None]]:
    made = align_disks(
        record("s1", disks=requests),
        definition,
        default=default,
        uniform=uniform,
        force_default=force_default,
        stat=stat,
    )
    return [(disk.name, disk.snapshot, disk.source) for disk in made.disks]


def refusal(
    definition: DomainDefinition, *requests: SnapshotDisk, default: Default = "internal", stat: Stat = regular
) -> str:
    with pytest.raises(ConfigUnsupported) as refused:
        align(definition, *requests, default=default, stat=stat)
    return refused.value.detail


def ask(
    name: str,
    snapshot: Literal["no", "internal", "external", "manual"] | None = None,
    source: str | None = None,
) -> SnapshotDisk:
    return SnapshotDisk(name=name, snapshot=snapshot, source=source)


def test_every_disk_of_the_domain_gets_an_entry_in_the_domains_order() -> None:
    assert align(TWO, ask("vdb")) == [("vda", "internal", None), ("vdb", "internal", None)]


def test_more_requests_than_disks_are_refused_before_their_names_are_read() -> None:
    assert refusal(domain(), ask("x"), ask("y")) == "too many disk snapshot requests for domain"


def test_nothing_is_done_for_a_domain_without_disks() -> None:
    bare = DomainDefinition.parse(domain().text.replace("<devices>", "<x>").replace("</devices>", "</x>"))
    assert align(bare) == []


def test_an_unknown_disk_is_refused() -> None:
    assert refusal(TWO, ask("vdc")) == "no disk named 'vdc'"


def test_a_disk_asked_for_twice_is_refused_however_it_is_called() -> None:
    assert refusal(TWO, ask("vda"), ask("/i/a.qcow2")) == "disk '/i/a.qcow2' specified twice"


def test_a_disk_may_be_named_by_its_path() -> None:
    assert align(TWO, ask("/i/b.raw", "internal"))[1] == ("vdb", "internal", None)


def test_a_path_of_two_disks_names_neither() -> None:
    shared = domain(disk_xml("vda", "/i/a"), disk_xml("vdb", "/i/a"))
    assert refusal(shared, ask("/i/a")) == "no disk named '/i/a'"


@pytest.mark.parametrize("mode", ["no", "external", "manual"])
def test_an_internal_snapshot_needs_every_disk(mode: Literal["no", "external", "manual"]) -> None:
    assert refusal(TWO, ask("vda", mode)) == "disk 'vda' must use snapshot mode 'internal'"


def test_a_disk_that_itself_says_no_may_be_left_out() -> None:
    assert align(CDROM, ask("sda", "no"))[1] == ("sda", "no", None)
    assert align(CDROM, ask("sda"))[1] == ("sda", "no", None)


def test_an_empty_writable_drive_may_be_left_out() -> None:
    assert align(FLOPPY) == [("vda", "internal", None), ("fda", "no", None)]
    assert align(FLOPPY, ask("vda", "internal"), ask("fda", "no")) == align(FLOPPY)


def test_a_disk_that_itself_says_manual_may_be_asked_for_so() -> None:
    manual = domain(disk_xml("vda", "/i/a", "snapshot='manual'"))
    assert align(manual) == align(manual, ask("vda", "manual")) == [("vda", "manual", None)]


def test_an_external_disk_does_not_fit_an_internal_snapshot_whatever_it_says_itself() -> None:
    external = domain(disk_xml("vda", "/i/a", "snapshot='external'"))
    assert refusal(external, ask("vda", "external")) == "disk 'vda' must use snapshot mode 'internal'"


def test_a_file_needs_an_external_snapshot() -> None:
    assert refusal(TWO, ask("vda", "internal", "/x")) == (
        "file '/x' for disk 'vda' requires use of external snapshot mode"
    )


def test_what_a_disk_wants_itself_counts_in_an_external_snapshot() -> None:
    wants = domain(disk_xml("vda", "/i/a"), disk_xml("vdb", "/i/b", "snapshot='manual'"))
    assert align(wants, default="external")[1] == ("vdb", "manual", None)
    assert align(wants, ask("vdb"), default="external")[1] == ("vdb", "manual", None)
    assert align(wants, default="external", force_default=True)[1] == ("vdb", "external", "/i/b.s1")


def test_modes_may_be_mixed_when_not_uniform() -> None:
    assert align(TWO, ask("vda", "no"), uniform=False) == [("vda", "no", None), ("vdb", "internal", None)]


@pytest.mark.parametrize(
    ("source", "name"),
    [("/i/a.qcow2", "/i/a.s1"), ("/i/a", "/i/a.s1"), ("/i.d/a", "/i.d/a.s1"), ("/i/a.b.c", "/i/a.b.s1")],
)
def test_an_external_name_replaces_the_last_extension(source: str, name: str) -> None:
    assert align(domain(disk_xml("vda", source)), default="external") == [("vda", "external", name)]


def test_a_given_external_name_is_kept() -> None:
    assert align(domain(), ask("vda", "external", "/x"), default="external", stat=missing) == [
        ("vda", "external", "/x")
    ]


def test_no_name_is_generated_for_what_is_not_a_regular_file() -> None:
    assert refusal(domain(), default="external", stat=missing) == (
        "source for disk 'vda' is not a regular file; refusing to generate external snapshot name"
    )


def test_a_name_is_generated_from_text_alone_when_nobody_can_look() -> None:
    assert align(domain(), default="external", stat=None) == [("vda", "external", "/images/a.s1")]


def test_no_name_is_generated_for_another_storage_type() -> None:
    asked = SnapshotDisk(name="vda", snapshot="external", type="block")
    assert refusal(domain(), asked, default="external") == (
        "cannot generate external snapshot name for disk 'vda' on a 'block' device"
    )


def test_no_name_is_generated_without_a_source() -> None:
    assert refusal(FLOPPY, ask("fda", "external"), default="external") == (
        "cannot generate external snapshot name for disk 'fda' without source"
    )


def test_generated_names_must_differ_from_all_earlier_ones() -> None:
    alike = domain(disk_xml("vda", "/i/a.raw"), disk_xml("vdb", "/i/a.qcow2"))
    message = "cannot generate external snapshot name for disk 'vdb': collision with disk 'vda'"
    assert refusal(alike, default="external") == message
    assert refusal(TWO, ask("vda", "external", "/i/b.s1"), default="external") == message
