"""Group L: what the command prints, byte for byte as virsh does."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

import pytest

from tests.checklist.conftest import Said
from tests.support.snapshots import document, grow, record, redefine
from virtsnapd.drivers.simulated.faults import Fault

if TYPE_CHECKING:
    from pathlib import Path

    from tests.checklist.conftest import CommandLine
    from tests.support.daemon import Running
    from tests.support.rpc import Rpc
    from virtsnapd.drivers.simulated.faults import Step

MISSING: Final = "error: Domain snapshot not found: no domain snapshot with matching name 'nope'\n"
EITHER: Final = "error: --snapshotname or --current is required\n"
NOT_BOTH: Final = "error: --snapshotname and --current are mutually exclusive\n"
NAME_ONLY: Final = "error: Options --name and --snapshotname are mutually exclusive\n"
EXCLUDE: Final = (
    "error: Flags 'VIR_DOMAIN_SNAPSHOT_{0}_{1}' and 'VIR_DOMAIN_SNAPSHOT_{0}_{2}' are mutually exclusive\n"
)
TAKEN: Final = "error: operation failed: domain moment s1 already exists\n"


def proves(number: int, text: str, *said: str) -> object:
    return pytest.param(text, *said, marks=pytest.mark.checklist(number), id=text)


# --- what succeeds; the tree is s1 - (s2 - s3, s4), and s4 is current ---


@pytest.mark.parametrize(
    ("text", "out"),
    [
        proves(238, "snapshot-create-as test new", "Domain snapshot new created\n"),
        proves(243, "snapshot-delete test s1 --children-only", "Domain snapshot s1 children deleted\n\n"),
        proves(243, "snapshot-delete test s1 --children", "Domain snapshot s1 deleted\n\n"),
        proves(243, "snapshot-delete test --current", "Domain snapshot s4 deleted\n\n"),
        proves(244, "snapshot-current test --name", "s4\n"),
        proves(258, "snapshot-parent test s3", "s2\n"),
        proves(258, "snapshot-parent test --current", "s1\n"),
    ],
)
async def test_what_is_done_is_told(rpc: Rpc, virtsnap: CommandLine, text: str, out: str) -> None:
    await grow(rpc)
    assert await virtsnap(text) == Said(out, "", 0)


@pytest.mark.checklist(238)
async def test_a_snapshot_from_a_file_is_told_with_the_file(virtsnap: CommandLine, tmp_path: Path) -> None:
    file = tmp_path / "new.xml"
    file.write_text("<domainsnapshot><name>new</name></domainsnapshot>")
    said = await virtsnap("snapshot-create", "test", str(file))
    assert said == Said(f"Domain snapshot new created from '{file}'\n", "", 0)


@pytest.mark.checklist(238)
async def test_a_snapshot_without_a_file_is_told_with_the_name_that_it_got(
    rpc: Rpc, virtsnap: CommandLine
) -> None:
    said = await virtsnap("snapshot-create", "test")
    (name,) = await rpc.tree()
    assert said == Said(f"Domain snapshot {name} created\n", "", 0)


@pytest.mark.checklist(245)
async def test_making_a_snapshot_current_reverts_nothing(
    running: Running, rpc: Rpc, virtsnap: CommandLine
) -> None:
    await grow(rpc)
    contents = running.driver.contents(running.domain())
    contents.memory, contents.disks = 7, 70
    before = running.domain().row
    assert await virtsnap("snapshot-current test s2") == Said("Snapshot s2 set as current\n", "", 0)
    assert await rpc.current() == "s2"
    assert (contents.memory, contents.disks, running.domain().row) == (7, 70, before)
    assert len(await rpc.tree()) == 4


INFO: Final = """\
Name:           {}
Domain:         test
Current:        {}
State:          {}
Location:       {}
Parent:         {}
Children:       {}
Descendants:    {}
Metadata:       yes

"""


@pytest.mark.checklist(256)
@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("s1", ("no", "running", "internal", "-", 2, 3)),
        ("s2", ("no", "running", "internal", "s1", 1, 1)),
        ("s4", ("yes", "running", "internal", "s1", 0, 0)),
    ],
)
async def test_a_snapshot_is_described_in_nine_lines(
    rpc: Rpc, virtsnap: CommandLine, name: str, values: tuple[object, ...]
) -> None:
    await grow(rpc)
    assert await virtsnap(f"snapshot-info test {name}") == Said(INFO.format(name, *values), "", 0)


OVERLAY: Final = "<disks><disk name='vda' snapshot='external'><source file='/overlay'/></disk></disks>"
MEMORY: Final = "<memory snapshot='external' file='/memory'/>"


@pytest.mark.checklist(257)
@pytest.mark.parametrize(
    ("state", "inner", "location"),
    [
        ("running", "", "internal"),
        ("running", MEMORY + OVERLAY, "external"),
        (
            "running",
            MEMORY + OVERLAY.replace("external'><source file='/overlay'/></disk>", "no'/>"),
            "external",
        ),
        ("running", "<memory snapshot='internal'/>" + OVERLAY, "external"),
        ("disk-snapshot", OVERLAY, "external"),
        ("shutoff", OVERLAY, "external"),
        ("shutoff", "", "internal"),
    ],
)
async def test_a_snapshot_with_anything_outside_the_images_is_external(
    rpc: Rpc, virtsnap: CommandLine, definition: str, state: str, inner: str, location: str
) -> None:
    await redefine(rpc, record("a", state=state, domain=definition, inner=inner))
    said = await virtsnap("snapshot-info test a")
    assert said == Said(INFO.format("a", "no", state, location, "-", 0, 0), "", 0)


@pytest.mark.checklist(240)
@pytest.mark.parametrize(
    ("text", "out"),
    [
        ("snapshot-create-as test new", ""),
        ("snapshot-current test s2", ""),
        ("snapshot-revert test s2", ""),
        ("snapshot-delete test s2", ""),
        ("snapshot-current test --name", "s4"),
        ("snapshot-parent test s3", "s2"),
        ("snapshot-list test --name --leaves", "s3\ns4\n"),
        ("snapshot-list test --roots", " s1   DATE   running\n"),
        ("snapshot-info test s4", INFO.format("s4", "yes", "running", "internal", "s1", 0, 0)[:-1]),
        ("domstate test", "running\n"),
        ("destroy test", ""),
    ],
)
async def test_quiet_leaves_data_alone(rpc: Rpc, virtsnap: CommandLine, text: str, out: str) -> None:
    await grow(rpc)
    said = await virtsnap("-q", text)
    assert Said(dateless(said.out), said.err, said.status) == Said(out, "", 0)


def dateless(text: str) -> str:
    return re.sub(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d [+-]\d{4}", "DATE", text)


# --- what fails ---


@pytest.mark.parametrize(
    ("text", "err"),
    [
        proves(239, "snapshot-create-as test s1", TAKEN),
        proves(
            239,
            "snapshot-create test /nope",
            "error: Failed to open file '/nope': No such file or directory\n",
        ),
        proves(239, "snapshot-info test nope", MISSING),
        proves(239, "snapshot-list test --from nope", MISSING),
        proves(
            242,
            "snapshot-revert test s1 --running --paused",
            "error: Failed to revert snapshot s1\n" + EXCLUDE.format("REVERT", "RUNNING", "PAUSED"),
        ),
        proves(
            242,
            "snapshot-delete test s1 --children --children-only",
            "error: Failed to delete snapshot s1\n" + EXCLUDE.format("DELETE", "CHILDREN", "CHILDREN_ONLY"),
        ),
        proves(246, "snapshot-current test --name --snapshotname s1", NAME_ONLY),
        proves(246, "snapshot-current nope s1 --name", NAME_ONLY),
        proves(247, "snapshot-delete test", EITHER),
        proves(247, "snapshot-info test", EITHER),
        proves(247, "snapshot-revert test", EITHER),
        proves(247, "snapshot-parent test", EITHER),
        proves(247, "snapshot-delete test s1 --current", NOT_BOTH),
        proves(247, "snapshot-info test --current s1", NOT_BOTH),
        proves(247, "snapshot-revert test --snapshotname s1 --current", NOT_BOTH),
        proves(247, "snapshot-delete test nope --current", NOT_BOTH),
        proves(
            251, "snapshot-list test --tree --leaves", "error: --leaves and --tree are mutually exclusive\n"
        ),
        proves(
            251,
            "snapshot-list test --tree --external",
            "error: --external and --tree are mutually exclusive\n",
        ),
        proves(
            252,
            "snapshot-list test --descendants",
            "error: --descendants requires either --from or --current\n",
        ),
        proves(
            253,
            "snapshot-list test --roots --from s1",
            "error: Options --roots and --from are mutually exclusive\n",
        ),
        proves(
            253,
            "snapshot-list test --parent --tree",
            "error: Options --parent and --tree are mutually exclusive\n",
        ),
        proves(258, "snapshot-parent test s1", "error: snapshot 's1' has no parent\n"),
    ],
)
async def test_what_fails_is_told_and_changes_nothing(
    running: Running, rpc: Rpc, virtsnap: CommandLine, text: str, err: str
) -> None:
    await grow(rpc)
    with running.nothing_changes():
        assert await virtsnap(text) == Said("\n", err, 1)
        assert await virtsnap("-q", text) == Said("", err, 1)


@pytest.mark.checklist(241)
@pytest.mark.parametrize(
    "command",
    [
        "snapshot-create nope",
        "snapshot-create nope /nope",
        "snapshot-create-as nope s1 --print-xml --memspec foo",
        "snapshot-current nope",
        "snapshot-current nope s1",
        "snapshot-delete nope s1",
        "snapshot-delete nope",
        "snapshot-dumpxml nope s1",
        "snapshot-edit nope s1",
        "snapshot-info nope --current",
        "snapshot-list nope --from s1",
        "snapshot-parent nope s1",
        "snapshot-revert nope s1 --running --paused",
        "dominfo nope",
        "undefine nope",
    ],
)
async def test_a_domain_that_is_not_there_is_all_that_is_told(virtsnap: CommandLine, command: str) -> None:
    assert await virtsnap(command) == Said("\n", "error: failed to get domain 'nope'\n", 1)


@pytest.mark.checklist(244)
@pytest.mark.parametrize("typed", ["test", "1", "6695eb01-f6a4-8304-79aa-97f2502e193f"])
@pytest.mark.parametrize("option", ["", " --name", " --security-info"])
async def test_a_domain_without_a_current_snapshot_is_called_as_it_was_typed(
    virtsnap: CommandLine, typed: str, option: str
) -> None:
    told = f"error: domain '{typed}' has no current snapshot\n"
    assert await virtsnap(f"snapshot-current {typed}{option}") == Said("\n", told, 1)


@pytest.mark.checklist(244)
async def test_the_current_snapshot_is_printed(rpc: Rpc, virtsnap: CommandLine) -> None:
    await grow(rpc)
    assert await virtsnap("snapshot-current test") == Said(await document(rpc, "s4") + "\n", "", 0)


@pytest.mark.checklist(242)
@pytest.mark.parametrize("command", ["revert", "delete"])
async def test_what_the_hypervisor_says_follows_the_summary(
    running: Running, rpc: Rpc, virtsnap: CommandLine, command: str
) -> None:
    await grow(rpc)
    step: Step = "revert" if command == "revert" else "discard"
    running.driver.faults.inject(step, Fault(error="no such data"))
    with running.nothing_changes():
        said = await virtsnap(f"snapshot-{command} test s3")
    first, second, *_ = said.err.splitlines()
    assert first == f"error: Failed to {command} snapshot s3"
    assert second.startswith("error: internal error: ")
    assert "no such data" in said.err
    assert (said.out, said.status) == ("\n", 1)


# --- undefine ---


@pytest.mark.checklist(265)
@pytest.mark.parametrize("options", ["--snapshots-metadata", "--snapshots-metadata --managed-save"])
async def test_a_domain_is_undefined_with_its_snapshots_when_that_is_asked_for(
    running: Running, rpc: Rpc, virtsnap: CommandLine, options: str
) -> None:
    await rpc.take("s1", "halt")
    refused = "error: Requested operation is not valid: cannot delete inactive domain with 1 snapshots\n"
    with running.nothing_changes():
        said = await virtsnap("undefine test")
    told, _, hint = said.err.partition("hint: ")
    assert Said(said.out, told, said.status) == Said(
        "\n", f"error: Failed to undefine domain 'test'\n{refused}", 1
    )
    assert "snapshots-metadata" in hint
    assert await virtsnap(f"undefine test {options}") == Said("Domain 'test' has been undefined\n\n", "", 0)
    assert (await rpc.call("domain.list"))["domains"] == []


@pytest.mark.checklist(265)
async def test_a_running_domain_is_undefined_with_its_snapshots_unasked(
    rpc: Rpc, virtsnap: CommandLine
) -> None:
    await rpc.take("s1")
    assert await virtsnap("undefine test") == Said("Domain 'test' has been undefined\n\n", "", 0)
    assert await rpc.tree() == {"s1": None}
