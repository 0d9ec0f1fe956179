"""Whole commands against a running daemon: what they print, and that a refused one changes nothing."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
import trio

from tests.support.daemon import running_daemon, settings

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tests.support.daemon import Running

CHAIN = "snapshot-create-as test s1; snapshot-create-as test s2; snapshot-create-as test s3"
RENAMING = "sed -i -e s/<name>s2</<name>new</"


@pytest.fixture
async def running(short_tmp: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Running]:
    """Return a daemon with three snapshots, one below the other, that the environment points to."""
    async with running_daemon(settings(short_tmp)) as running:
        monkeypatch.setenv("VIRTSNAP_SOCKET", str(running.config.socket))
        monkeypatch.setenv("VIRTSNAP_URI", "test:///default")
        monkeypatch.setenv("PYTHONPATH", ":".join(sys.path))
        monkeypatch.setenv("TMPDIR", str(short_tmp))
        monkeypatch.delenv("VISUAL", raising=False)
        await said("-q", CHAIN)
        yield running


async def said(*words: str, editor: str = "true") -> tuple[int, str, str]:
    """Run the command; return its exit status, standard output and standard error."""
    done = await trio.run_process(
        [sys.executable, "-m", "virtsnap.cli", *words],
        env={**os.environ, "EDITOR": editor},
        stdin=subprocess.DEVNULL,
        capture_stdout=True,
        capture_stderr=True,
        check=False,
    )
    return done.returncode, done.stdout.decode(), done.stderr.decode()


def drafts(folder: Path) -> list[Path]:
    """Return the documents that were kept."""
    return list(folder.glob("virtsnap-*/*"))


async def test_a_renamed_snapshot_keeps_its_children_and_place(running: Running) -> None:
    assert await said("snapshot-edit test s2 --rename", editor=RENAMING) == (
        0,
        "Snapshot s2 renamed to new.\n\n",
        "",
    )
    tree = "s1\n  |\n  +- new\n      |\n      +- s3\n        \n"
    assert (await said("-q", "snapshot-list test --tree"))[1] == tree


async def test_a_cloned_snapshot_stands_beside_the_first(running: Running) -> None:
    assert (await said("snapshot-edit test s2 --clone", editor=RENAMING))[
        1
    ] == "Snapshot s2 cloned to new.\n\n"
    assert (await said("-q", "snapshot-list test --name --from s1"))[1] == "new\ns2\n"


async def test_an_edited_snapshot_has_what_was_written(running: Running) -> None:
    describing = "sed -i s!<state>!<description>mine</description><state>!"
    status, out, err = await said("snapshot-edit test s1", editor=describing)
    assert (status, out, err) == (0, "Snapshot s1 edited.\n\n", "")
    found = await said("-q", "snapshot-dumpxml test s1 --xpath /domainsnapshot/description")
    assert found[1] == "<description>mine</description>\n"


@pytest.mark.parametrize(
    ("options", "editor", "message"),
    [
        ("", RENAMING, "Must use --rename or --clone to change s2 to new"),
        ("--rename", "sed -i -e s/<name>s2</<name>s3</", "domain moment s3 already exists"),
        ("--clone", "sed -i -e s/<name>s2</<name>s1</", "domain moment s1 already exists"),
        ("", "sed -i -e s/<name>s1</<name>s3</", "s3"),
        ("", "sed -i -e /creationTime/d", "creationTime"),
        ("", "sed -i -e 1d", "Extra content at the end of the document"),
    ],
)
async def test_a_refused_edit_changes_nothing_and_keeps_what_was_written(
    running: Running, short_tmp: Path, options: str, editor: str, message: str
) -> None:
    with running.nothing_changes():
        status, out, err = await said(f"snapshot-edit test s2 {options}", editor=editor)
    [draft] = drafts(short_tmp)
    assert (status, out) == (1, "\n")
    assert err.startswith("error: Failed to update s2\nerror: ")
    assert message in err
    assert err.endswith(f"hint: your changes are kept in '{draft}'\n")


async def test_an_editor_that_fails_changes_nothing(running: Running, short_tmp: Path) -> None:
    with running.nothing_changes():
        status, _, err = await said("snapshot-edit test s2", editor="sed -i --no-such-option")
    assert (status, err.splitlines()[-1]) == (1, "error: Failed to update s2")
    assert drafts(short_tmp) == []


async def test_a_domain_goes_on_from_a_file(running: Running, short_tmp: Path) -> None:
    file = short_tmp / "test.sav"
    assert (await said("-q", f"save test {file}; domstate test --reason"))[1] == "shut off (saved)\n"
    assert (await said("-q", f"restore {file} --paused; domstate test"))[1] == "paused\n"


async def test_a_managed_save_shows_until_the_next_start(running: Running) -> None:
    status, out, err = await said("managedsave test; list --all --managed-save --with-managed-save")
    assert (status, err) == (0, "")
    assert out.endswith(" -    test   saved\n\n")
    with running.nothing_changes():
        refused = await said("undefine test --snapshots-metadata")
    assert refused[2] == (
        "error: Failed to undefine domain 'test'\n"
        "error: Requested operation is not valid: Refusing to undefine while domain managed save image exists\n"
    )
    assert (await said("-q", "start test; list --all --name --with-managed-save")) == (0, "", "")


async def test_a_domain_is_renamed_with_its_snapshots(running: Running) -> None:
    with running.nothing_changes():
        assert (await said("domrename test other"))[0] == 1
    assert (await said("-q", "destroy test; domrename test other; snapshot-list other --name"))[
        1
    ] == "s1\ns2\ns3\n"


async def test_undefine_takes_the_snapshots_along_when_asked_to(running: Running) -> None:
    await said("destroy test")
    with running.nothing_changes():
        refused = await said("undefine test --checkpoints-metadata")
    assert "cannot delete inactive domain with 3 snapshots\n" in refused[2]
    assert (await said("-q", "undefine test --snapshots-metadata; list --all --name")) == (0, "", "")
