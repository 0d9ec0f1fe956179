"""Group B: the disks of a request beside those of the domain."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import pytest

from tests.checklist.refusals import Refusal, config_refused, refusal
from tests.support.snapshots import document

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.daemon import Running
    from tests.support.rpc import Rpc

UUID: Final = "22222222-3333-4444-5555-666666666666"
EMPTY_FLOPPY: Final = "<disk type='file' device='floppy'><target dev='fda'/></disk>"
CDROM: Final = (
    "<disk type='file' device='cdrom'><source file='/guest/cd.iso'/><target dev='sda'/><readonly/></disk>"
)


def disk(target: str, source: str, attributes: str = "") -> str:
    return f"<disk type='file' device='disk' {attributes}><source file='{source}'/><target dev='{target}'/></disk>"


PAIR: Final = (disk("vda", "/guest/a.img"), disk("vdb", "/guest/b.img"))


async def domain_with(rpc: Rpc, *disks: str) -> str:
    """Run a persistent domain that has these disks; return its name."""
    head = f"<domain type='test'><name>many</name><uuid>{UUID}</uuid><memory>1024</memory>"
    devices = f"<os><type>hvm</type></os><devices>{''.join(disks)}</devices></domain>"
    await rpc.call("domain.define", xml=head + devices)
    await rpc.call("domain.start", domain="many")
    return "many"


def request(disks: str, memory: str = "") -> str:
    return f"<domainsnapshot><name>s1</name>{memory}<disks>{disks}</disks></domainsnapshot>"


async def taken_disks(rpc: Rpc, xml: str, *flags: str) -> list[str]:
    """Take a snapshot of the domain and return the lines of its dump's <disks>, without indentation."""
    await rpc.call("snapshot.create", domain="many", xml=xml, flags=list(flags))
    inner = (await document(rpc, "s1", "many")).partition("\n  <disks>")[2].partition("</disks>")[0]
    return [line.strip() for line in inner.strip().splitlines()]


EXTERNAL: Final = "<memory snapshot='external' file='/memory'/>"
VDZ: Final = config_refused("no disk named 'vdz'")
NOT_REGULAR: Final = "source for disk '{}' is not a regular file; refusing to generate external snapshot name"


def proves(number: int, *case: object, name: str) -> object:
    return pytest.param(*case, marks=pytest.mark.checklist(number), id=name)


@pytest.mark.parametrize(
    ("xml", "refused"),
    [
        proves(42, request("<disk name='vdz'/>"), VDZ, name="no such disk"),
        proves(42, request("<disk name='VDA'/>"), config_refused("no disk named 'VDA'"), name="in capitals"),
        proves(
            42,
            request("<disk name='/guest/c.img'/>"),
            config_refused("no disk named '/guest/c.img'"),
            name="no such path",
        ),
        proves(
            43,
            request("<disk name='vdz'/>" * 3),
            config_refused("too many disk snapshot requests for domain"),
            name="more than there are",
        ),
        proves(
            44,
            request("<disk name='vda'/><disk name='/guest/a.img'/>"),
            config_refused("disk '/guest/a.img' specified twice"),
            name="by target, then by path",
        ),
        proves(
            44,
            request("<disk name='/guest/a.img'/><disk name='vda'/>"),
            config_refused("disk 'vda' specified twice"),
            name="by path, then by target",
        ),
        proves(
            47,
            request("<disk name='vda' snapshot='internal'><source file='/b'/></disk>"),
            config_refused("file '/b' for disk 'vda' requires use of external snapshot mode"),
            name="file of an internal disk",
        ),
        proves(
            47,
            request("<disk name='vda' snapshot='no'><source file='/b'/></disk>", EXTERNAL),
            config_refused("file '/b' for disk 'vda' requires use of external snapshot mode"),
            name="file of a disk that is left out",
        ),
        proves(
            48,
            request("<disk name='vdb' snapshot='no'/>"),
            config_refused("disk 'vdb' must use snapshot mode 'internal'"),
            name="disk left out of an internal snapshot",
        ),
        proves(
            48,
            request("<disk name='vdb'><source file='/b'/></disk>"),
            config_refused("disk 'vdb' must use snapshot mode 'internal'"),
            name="external disk in an internal snapshot",
        ),
        proves(
            51,
            request("", EXTERNAL),
            config_refused(NOT_REGULAR.format("vda")),
            name="image that does not exist",
        ),
    ],
)
async def test_disks_that_do_not_fit_the_domain_are_refused(
    running: Running, rpc: Rpc, xml: str, refused: Refusal
) -> None:
    name = await domain_with(rpc, *PAIR)
    with running.nothing_changes(name):
        assert await refusal(rpc, "snapshot.create", domain=name, xml=xml) == refused
    assert running.driver.contents(running.domain(name)).saved == {}


@pytest.mark.parametrize(
    ("disks", "memory", "refused"),
    [
        (
            "<disk name='vdz'/><disk name='vda' snapshot='no'/><disk name='vda'/>",
            "",
            config_refused("too many disk snapshot requests for domain"),
        ),
        ("<disk name='vdz' snapshot='no'/><disk name='vda' snapshot='no'/>", "", VDZ),
        (
            "<disk name='vda'/><disk name='vda' snapshot='no'/>",
            "",
            config_refused("disk 'vda' specified twice"),
        ),
        (
            "<disk name='vda' snapshot='no'><source file='/b'/></disk><disk name='vdz'/>",
            "",
            config_refused("disk 'vda' must use snapshot mode 'internal'"),
        ),
        (
            "<disk name='vda' snapshot='internal'><source file='/b'/></disk><disk name='vdz'/>",
            "",
            config_refused("file '/b' for disk 'vda' requires use of external snapshot mode"),
        ),
        # names are generated when all that is asked for is understood, in the domain's order
        ("<disk name='vda'/><disk name='vdz'/>", EXTERNAL, VDZ),
        (
            "<disk name='vdb' snapshot='external' type='block'/><disk name='vda'/>",
            EXTERNAL,
            config_refused(NOT_REGULAR.format("vda")),
        ),
        (
            "<disk name='vdb'/><disk name='vda' snapshot='external' type='block'/>",
            EXTERNAL,
            config_refused("cannot generate external snapshot name for disk 'vda' on a 'block' device"),
        ),
    ],
)
@pytest.mark.checklist(42, 43, 44, 47, 48, 51)
async def test_of_several_faults_of_disks_the_first_that_libvirt_finds_is_told(
    running: Running, rpc: Rpc, disks: str, memory: str, refused: Refusal
) -> None:
    name = await domain_with(rpc, *PAIR)
    with running.nothing_changes(name):
        assert await refusal(rpc, "snapshot.create", domain=name, xml=request(disks, memory)) == refused


# --- what a disk may be called ---


@pytest.mark.checklist(45)
async def test_a_disk_may_be_named_by_its_image_and_is_called_by_its_target(rpc: Rpc) -> None:
    await domain_with(rpc, *PAIR)
    xml = request("<disk name='/guest/b.img' snapshot='internal'/>")
    assert await taken_disks(rpc, xml) == [
        "<disk name='vda' snapshot='internal'/>",
        "<disk name='vdb' snapshot='internal'/>",
    ]


@pytest.mark.checklist(46)
async def test_an_image_of_two_disks_names_neither(running: Running, rpc: Rpc) -> None:
    name = await domain_with(rpc, disk("vda", "/guest/a.img"), disk("vdb", "/guest/a.img"))
    xml = request("<disk name='/guest/a.img'/>")
    with running.nothing_changes(name):
        assert await refusal(rpc, "snapshot.create", domain=name, xml=xml) == config_refused(
            "no disk named '/guest/a.img'"
        )


# --- what is done with disks that the request says little or nothing of ---


@pytest.mark.checklist(48)
@pytest.mark.parametrize("own", [CDROM, disk("sda", "/guest/cd.iso", "snapshot='no'")], ids=["cdrom", "own"])
@pytest.mark.parametrize("asked", ["<disk name='sda' snapshot='no'/>", "<disk name='sda'/>", ""])
async def test_a_disk_that_itself_says_no_may_be_left_out_of_an_internal_snapshot(
    rpc: Rpc, own: str, asked: str
) -> None:
    await domain_with(rpc, PAIR[0], own)
    assert await taken_disks(rpc, request(asked)) == [
        "<disk name='vda' snapshot='internal'/>",
        "<disk name='sda' snapshot='no'/>",
    ]


@pytest.mark.checklist(49)
async def test_disks_that_are_not_mentioned_are_saved_as_the_others_and_empty_drives_are_not(
    rpc: Rpc, tmp_path: Path
) -> None:
    (tmp_path / "c.img").touch()
    third = disk("vdc", f"{tmp_path}/c.img")
    await domain_with(rpc, *PAIR, EMPTY_FLOPPY, third)
    assert await taken_disks(rpc, request("<disk name='vdb'/>")) == [
        "<disk name='vda' snapshot='internal'/>",
        "<disk name='vdb' snapshot='internal'/>",
        "<disk name='fda' snapshot='no'/>",
        "<disk name='vdc' snapshot='internal'/>",
    ]
    await rpc.call("snapshot.delete", domain="many", snapshot="s1")
    given = "".join(f"<disk name='vd{x}'><source file='/o{x}'/></disk>" for x in "ab")
    assert await taken_disks(rpc, request(given, EXTERNAL)) == [
        *("<disk name='vda' snapshot='external' type='file'>", "<source file='/oa'/>", "</disk>"),
        *("<disk name='vdb' snapshot='external' type='file'>", "<source file='/ob'/>", "</disk>"),
        "<disk name='fda' snapshot='no'/>",
        "<disk name='vdc' snapshot='external' type='file'>",
        *(f"<source file='{tmp_path}/c.s1'/>", "</disk>"),
    ]


@pytest.mark.checklist(41)
async def test_a_source_or_a_format_means_that_a_disk_is_saved_externally(rpc: Rpc, tmp_path: Path) -> None:
    (tmp_path / "b.img").touch()
    await domain_with(rpc, PAIR[0], disk("vdb", f"{tmp_path}/b.img"))
    given = "<disk name='vda'><source file='/o'/></disk><disk name='vdb'><driver type='qed'/></disk>"
    assert await taken_disks(rpc, request(given), "disk-only") == [
        *("<disk name='vda' snapshot='external' type='file'>", "<source file='/o'/>", "</disk>"),
        "<disk name='vdb' snapshot='external' type='file'>",
        *("<driver type='qed'/>", f"<source file='{tmp_path}/b.s1'/>", "</disk>"),
    ]


# --- names of overlays that nobody gave one ---


@pytest.mark.checklist(50)
@pytest.mark.parametrize(
    ("image", "overlay"),
    [("a.qcow2", "a.s1"), ("a", "a.s1"), ("a.b.c", "a.b.s1"), ("with.dot/a", "with.dot/a.s1")],
)
@pytest.mark.parametrize("how", ["disk-only", "memory"])
async def test_the_name_of_an_overlay_is_made_of_the_image_and_the_snapshot(
    rpc: Rpc, tmp_path: Path, image: str, overlay: str, how: str
) -> None:
    (tmp_path / image).parent.mkdir(exist_ok=True)
    (tmp_path / image).touch()
    await domain_with(rpc, disk("vda", f"{tmp_path}/{image}"))
    flags, memory = (["disk-only"], "") if how == "disk-only" else ([], EXTERNAL)
    lines = await taken_disks(rpc, request("", memory), *flags)
    assert f"<source file='{tmp_path}/{overlay}'/>" in lines


@pytest.mark.checklist(51)
@pytest.mark.parametrize("flags", [["disk-only"], ["disk-only", "no-metadata"]], ids=" ".join)
async def test_no_name_is_made_of_what_is_not_a_regular_file(
    running: Running, rpc: Rpc, tmp_path: Path, flags: list[str]
) -> None:
    (tmp_path / "a.img").touch()
    name = await domain_with(rpc, disk("vda", f"{tmp_path}/a.img"), disk("vdb", str(tmp_path)))
    with running.nothing_changes(name):
        found = await refusal(rpc, "snapshot.create", domain=name, xml=request(""), flags=flags)
    assert found == config_refused(NOT_REGULAR.format("vdb"))


@pytest.mark.checklist(52)
async def test_two_overlays_of_the_same_name_are_refused(running: Running, rpc: Rpc, tmp_path: Path) -> None:
    for image in ("a.img", "a.raw"):
        (tmp_path / image).touch()
    name = await domain_with(rpc, disk("vda", f"{tmp_path}/a.img"), disk("vdb", f"{tmp_path}/a.raw"))
    collision = config_refused(
        "cannot generate external snapshot name for disk 'vdb': collision with disk 'vda'"
    )
    given = f"<disk name='vda' snapshot='external'><source file='{tmp_path}/a.s1'/></disk>"
    for disks in ("", given):
        with running.nothing_changes(name):
            found = await refusal(
                rpc, "snapshot.create", domain=name, xml=request(disks), flags=["disk-only"]
            )
        assert found == collision
