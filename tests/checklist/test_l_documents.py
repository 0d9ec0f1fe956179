"""Group L: documents that the command makes of options, has edited, and takes apart."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import pytest

from tests.checklist.conftest import Said
from tests.support.snapshots import document, grow

if TYPE_CHECKING:
    from tests.checklist.conftest import CommandLine
    from tests.support.daemon import Running
    from tests.support.rpc import Rpc

# --- snapshot-create-as --print-xml ---


@pytest.mark.checklist(259)
@pytest.mark.parametrize(
    ("words", "body"),
    [
        ("", ""),
        ("s1", "  <name>s1</name>\n"),
        (
            "'a<b>&\"' 'one < two'",
            "  <name>a&lt;b&gt;&amp;&quot;</name>\n  <description>one &lt; two</description>\n",
        ),
        (
            "--description '1<2' --memspec file=d,,e --diskspec vda,file=a&b,,c,snapshot=external",
            (
                "  <description>1&lt;2</description>\n  <memory file='d,e'/>\n  <disks>\n"
                "    <disk name='vda' snapshot='external'>\n      <source file='a&amp;b,c'/>\n    </disk>\n"
                "  </disks>\n"
            ),
        ),
        (
            "--memspec /a,,b --diskspec vda --diskspec vdb,stype=block,driver=qed,file=/dev/x,,y",
            (
                "  <memory file='/a,b'/>\n  <disks>\n    <disk name='vda'/>\n    <disk name='vdb' type='block'>\n"
                "      <driver type='qed'/>\n      <source dev='/dev/x,y'/>\n    </disk>\n  </disks>\n"
            ),
        ),
        (
            "--memspec snapshot=no --diskspec ,,,snapshot=no",
            "  <memory snapshot='no'/>\n  <disks>\n    <disk name=',' snapshot='no'/>\n  </disks>\n",
        ),
    ],
)
async def test_options_become_a_document_that_is_only_printed(
    running: Running, virtsnap: CommandLine, words: str, body: str
) -> None:
    with running.nothing_changes():
        said = await virtsnap(f"snapshot-create-as test --print-xml {words}")
    assert said == Said(f"<domainsnapshot>\n{body}</domainsnapshot>\n\n\n", "", 0)


STYPE: Final = "error: Unknown storage type: 'net'\n"


@pytest.mark.checklist(260)
@pytest.mark.parametrize(
    ("words", "err"),
    [
        *(
            (f"--memspec {spec}", f"error: unable to parse memspec: {spec}\n")
            for spec in ("foo", "snapshot", "file=/a,file=/b", "/a,file=/b", "file=/a,foo=1", "file=/a,/b")
        ),
        *(
            (f"--diskspec {spec}", f"error: unable to parse diskspec: {spec}\n")
            for spec in ("vda,foo", "vda,foo=1", "vda,/a", "vda,file=/a,file=/b", "vda,driver=a,driver=b")
        ),
        ("--diskspec vda,stype=net", f"{STYPE}error: unable to parse diskspec: vda,stype=net\n"),
        ("--diskspec vda,stype=net,foo", "error: unable to parse diskspec: vda,stype=net,foo\n"),
    ],
)
@pytest.mark.parametrize("option", ["", " --print-xml"], ids=["create", "print"])
async def test_options_that_say_nonsense_are_quoted(
    running: Running, virtsnap: CommandLine, words: str, err: str, option: str
) -> None:
    with running.nothing_changes():
        assert await virtsnap(f"snapshot-create-as test{option} {words}") == Said("\n", err, 1)


# --- snapshot-edit ---


@pytest.fixture
def editor(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Return what `EDITOR` can be set with; `VISUAL` does not stand in its way."""
    monkeypatch.delenv("VISUAL", raising=False)
    return monkeypatch


@pytest.mark.checklist(262)
@pytest.mark.parametrize("option", ["", " --rename", " --clone"])
async def test_a_document_that_comes_back_unchanged_changes_nothing(
    running: Running, rpc: Rpc, virtsnap: CommandLine, editor: pytest.MonkeyPatch, option: str
) -> None:
    await grow(rpc)
    editor.setenv("EDITOR", "true")
    with running.nothing_changes():
        assert await virtsnap.alone(f"snapshot-edit test s1{option}") == Said(
            "Snapshot s1 XML configuration not changed.\n\n", "", 0
        )


@pytest.mark.checklist(262)
async def test_another_name_in_the_document_needs_a_word_about_it(
    running: Running, rpc: Rpc, virtsnap: CommandLine, editor: pytest.MonkeyPatch
) -> None:
    await grow(rpc)
    editor.setenv("EDITOR", "sed -i s,<name>s4</name>,<name>new</name>,")
    with running.nothing_changes():
        said = await virtsnap.alone("snapshot-edit test s4")
    assert "error: Must use --rename or --clone to change s4 to new\n" in said.err
    assert "error: Failed to update s4\n" in said.err
    assert (said.out, said.status) == ("\n", 1)


@pytest.mark.checklist(263)
async def test_a_clone_stands_beside_the_snapshot(
    rpc: Rpc, virtsnap: CommandLine, editor: pytest.MonkeyPatch
) -> None:
    await grow(rpc)
    before = await document(rpc, "s2")
    editor.setenv("EDITOR", "sed -i s,<name>s2</name>,<name>new</name>,")
    assert await virtsnap.alone("snapshot-edit test s2 --clone") == Said(
        "Snapshot s2 cloned to new.\n\n", "", 0
    )
    assert await rpc.tree() == {"s1": None, "s2": "s1", "s3": "s2", "s4": "s1", "new": "s1"}
    assert (await document(rpc, "s2"), await rpc.current()) == (before, "s4")


@pytest.mark.checklist(263, ours="a renamed snapshot keeps its children and the current marker, and is told")
@pytest.mark.parametrize(
    ("name", "tree", "current"),
    [
        ("s2", {"s1": None, "new": "s1", "s3": "new", "s4": "s1"}, "s4"),
        ("s4", {"s1": None, "s2": "s1", "s3": "s2", "new": "s1"}, "new"),
    ],
)
async def test_a_renamed_snapshot_takes_the_place_of_its_former_record(
    rpc: Rpc,
    virtsnap: CommandLine,
    editor: pytest.MonkeyPatch,
    name: str,
    tree: dict[str, str | None],
    current: str,
) -> None:
    await grow(rpc)
    editor.setenv("EDITOR", f"sed -i s,<name>{name}</name>,<name>new</name>,")
    said = await virtsnap.alone(f"snapshot-edit test {name} --rename")
    assert said == Said(f"Snapshot {name} renamed to new.\n\n", "", 0)
    assert (await rpc.tree(), await rpc.current()) == (tree, current)


# --- snapshot-dumpxml ---

SECURED: Final = """<domain type='test'><name>secured</name><uuid>11111111-2222-3333-4444-555555555555</uuid>
<memory>1024</memory><os><type>hvm</type></os><devices><graphics type='vnc' port='-1' passwd='secret'/></devices>
</domain>"""


@pytest.mark.checklist(264)
@pytest.mark.parametrize(
    ("options", "out"),
    [
        ("--xpath /domainsnapshot/name", "<name>s1</name>\n\n"),
        ("--xpath //name", "<name>s1</name>\n<name>secured</name>\n\n"),
        ("--xpath //name/text()", "s1\nsecured\n\n"),
        ("--xpath //name --wrap", "<nodes>\n  <name>s1</name>\n  <name>secured</name>\n</nodes>\n\n"),
        ("--xpath //nothing", "\n"),
        ("--xpath //graphics/@passwd", "\n"),
        ("--xpath //graphics/@passwd --security-info", ' passwd="secret"\n\n'),
        ("--xpath //graphics/@passwd --wrap --security-info", '<nodes passwd="secret"/>\n\n'),
    ],
)
async def test_parts_of_a_document_are_printed(
    rpc: Rpc, virtsnap: CommandLine, options: str, out: str
) -> None:
    await rpc.call("domain.create", xml=SECURED)
    await rpc.take("s1", domain="secured")
    assert await virtsnap(f"snapshot-dumpxml secured s1 {options}") == Said(out, "", 0)


@pytest.mark.checklist(264)
async def test_secrets_are_printed_on_demand(rpc: Rpc, virtsnap: CommandLine) -> None:
    await rpc.call("domain.create", xml=SECURED)
    await rpc.take("s1", domain="secured")
    secure = await document(rpc, "s1", "secured")
    assert secure.count("passwd='secret'") == 1
    assert await virtsnap("snapshot-dumpxml secured s1 --security-info") == Said(secure + "\n", "", 0)
    plain = secure.replace(" passwd='secret'", "")
    assert await virtsnap("snapshot-dumpxml secured s1") == Said(plain + "\n", "", 0)
