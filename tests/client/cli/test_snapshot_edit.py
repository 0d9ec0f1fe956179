"""snapshot-edit: what is sent, what is told, and what becomes of the user's work when it is refused."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

import msgspec
import pytest

from tests.support.fake_daemon import hanging_up, refusing
from tests.support.samples import SNAPSHOT
from virtsnap_protocol.errors import DomainNotFound, InvalidArgument, SnapshotNotFound, XmlError
from virtsnap_protocol.methods import snapshot

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.client.cli.conftest import Cli
    from tests.support.fake_daemon import FakeDaemon

XML: Final = "<domainsnapshot><name>s1</name></domainsnapshot>\n"
CHANGED: Final = XML.replace("s1", "s2")
CHANGING: Final = "sed -i s/s1/s2/"


def recorded(name: str) -> Callable[[snapshot.EditParams], snapshot.InfoResult]:
    return lambda _: snapshot.InfoResult(snapshot=msgspec.structs.replace(SNAPSHOT, name=name))


@pytest.fixture(autouse=True)
def folder(daemon: FakeDaemon, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return where drafts are kept; the editor changes the name, and the daemon accepts that."""
    folder = tmp_path / "drafts"
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.setattr("tempfile.tempdir", None)
    monkeypatch.delenv("VISUAL", raising=False)
    monkeypatch.setenv("EDITOR", CHANGING)
    daemon.answers["snapshot.xml"] = lambda _: snapshot.XmlResult(xml=XML)
    daemon.answers["snapshot.edit"] = recorded("s2")
    return folder


def edits(daemon: FakeDaemon) -> list[snapshot.EditParams]:
    return [params for name, params in daemon.asked if name == "snapshot.edit"]


def test_what_the_editor_made_is_recorded(cli: Cli, daemon: FakeDaemon) -> None:
    daemon.answers["snapshot.edit"] = recorded("s1")
    assert cli("snapshot-edit", "vm", "s1") == (0, "Snapshot s1 edited.\n\n", "")
    assert edits(daemon) == [snapshot.EditParams(domain="vm", snapshot="s1", xml=CHANGED)]


def test_the_document_is_edited_with_its_secrets(cli: Cli, daemon: FakeDaemon) -> None:
    cli("snapshot-edit", "vm", "s1")
    assert daemon.asked[0][1] == snapshot.XmlParams(domain="vm", snapshot="s1", flags=["secure"])


@pytest.mark.parametrize(("option", "word"), [("rename", "renamed"), ("clone", "cloned")])
def test_another_name_is_told_with_what_it_means(
    cli: Cli, daemon: FakeDaemon, option: snapshot.EditFlag, word: str
) -> None:
    told = f"Snapshot s1 {word} to s2.\n\n"
    assert cli("snapshot-edit", "vm", "s1", f"--{option}", "--validate") == (0, told, "")
    assert edits(daemon)[0].flags == [option, "validate"]


def test_an_unchanged_document_is_not_sent(
    cli: Cli, daemon: FakeDaemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EDITOR", "true")
    told = "Snapshot s1 XML configuration not changed.\n\n"
    assert cli("snapshot-edit", "vm", "s1", "--rename") == (0, told, "")
    assert edits(daemon) == []
    assert cli.json("snapshot-edit", "vm", "s1")["changed"] is False


def test_an_unchanged_document_is_sent_to_make_a_named_snapshot_current(
    cli: Cli, daemon: FakeDaemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EDITOR", "true")
    daemon.answers["snapshot.edit"] = recorded("s1")
    assert cli("snapshot-edit", "vm", "s1", "--current") == (0, "Snapshot s1 edited.\n\n", "")
    assert edits(daemon)[0].flags == ["current"]


def test_current_without_a_name_means_the_current_snapshot(cli: Cli, daemon: FakeDaemon) -> None:
    cli("snapshot-edit", "vm", "--current", "--rename")
    assert (edits(daemon)[0].snapshot, edits(daemon)[0].flags) == ("s1", ["rename"])


def test_quiet_tells_nothing_and_json_tells_what_there_is_now(cli: Cli) -> None:
    assert cli("-q", "snapshot-edit", "vm", "s1", "--rename") == (0, "", "")
    answer = cli.json("snapshot-edit", "vm", "s1", "--rename")
    assert (answer["changed"], answer["snapshot"]["name"]) == (True, "s2")


def test_what_contradicts_itself_is_told_first(cli: Cli, daemon: FakeDaemon) -> None:
    refusal = "error: Options --rename and --clone are mutually exclusive\n"
    assert cli("snapshot-edit", "vm", "--rename", "--clone") == (1, "\n", refusal)
    assert daemon.asked == []


def test_a_snapshot_must_be_named(cli: Cli, daemon: FakeDaemon) -> None:
    assert cli("snapshot-edit", "vm")[2] == "error: --snapshotname or --current is required\n"
    daemon.answers["domain.info"] = refusing(DomainNotFound("no domain with matching name 'vm'"))
    assert cli("snapshot-edit", "vm")[2] == "error: failed to get domain 'vm'\n"


def test_a_snapshot_that_is_not_there_is_told_alone(cli: Cli, daemon: FakeDaemon) -> None:
    daemon.answers["snapshot.xml"] = refusing(SnapshotNotFound("no domain snapshot with matching name 's1'"))
    told = "error: Domain snapshot not found: no domain snapshot with matching name 's1'\n"
    assert cli("snapshot-edit", "vm", "s1") == (1, "\n", told)


def test_a_failing_editor_changes_nothing_and_leaves_nothing(
    cli: Cli, daemon: FakeDaemon, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EDITOR", "sh -c 'echo >> $0; exit 3'")
    status, out, err = cli("snapshot-edit", "vm", "s1")
    lines = err.splitlines()
    assert (status, out) == (1, "\n")
    assert lines[0].startswith("error: internal error: Child process (sh -c ")
    assert lines[0].endswith("unexpected exit status 3")
    assert lines[1:] == ["error: Failed to update s1"]
    assert (edits(daemon), list(folder.iterdir())) == ([], [])


def test_nothing_is_left_of_what_was_recorded_or_not_changed(
    cli: Cli, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cli("snapshot-edit", "vm", "s1", "--rename")
    monkeypatch.setenv("EDITOR", "true")
    cli("snapshot-edit", "vm", "s1")
    assert list(folder.iterdir()) == []


def kept(folder: Path) -> Path:
    """Return the one draft that was kept."""
    [draft] = folder.glob("*/*")
    assert draft.read_text() == CHANGED
    return draft


def test_a_refused_document_is_kept_when_there_is_nobody_to_ask(
    cli: Cli, daemon: FakeDaemon, folder: Path
) -> None:
    refusal = InvalidArgument("Must use --rename or --clone to change s1 to s2")
    daemon.answers["snapshot.edit"] = refusing(refusal)
    status, out, err = cli("snapshot-edit", "vm", "s1")
    assert (status, out) == (1, "\n")
    assert err == (
        f"error: Failed to update s1\nerror: {refusal}\nhint: your changes are kept in '{kept(folder)}'\n"
    )


def test_the_json_of_a_refusal_says_where_the_changes_are(cli: Cli, daemon: FakeDaemon, folder: Path) -> None:
    daemon.answers["snapshot.edit"] = refusing(XmlError("no"))
    answer = cli.json("snapshot-edit", "vm", "s1")
    assert answer["error"]["code"] == XmlError.code
    assert answer["hint"] == f"your changes are kept in '{kept(folder)}'"


def test_changes_are_kept_when_the_daemon_goes_away(cli: Cli, daemon: FakeDaemon, folder: Path) -> None:
    daemon.answers["snapshot.edit"] = hanging_up
    err = cli("snapshot-edit", "vm", "s1")[2]
    assert err.endswith(f"is unknown\nhint: your changes are kept in '{kept(folder)}'\n")


def test_an_editor_that_writes_no_text_has_its_file_kept(
    cli: Cli, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EDITOR", "sh -c 'printf \"\\377\" > $0'")
    err = cli("snapshot-edit", "vm", "s1")[2]
    [draft] = folder.glob("*/*")
    assert err.endswith(f"not UTF-8 at byte 0\nhint: your changes are kept in '{draft}'\n")


def test_nothing_is_said_to_be_kept_of_a_file_that_the_editor_removed(
    cli: Cli, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EDITOR", "rm")
    err = cli("snapshot-edit", "vm", "s1")[2]
    assert err.startswith("error: Failed to open file '")
    assert err.endswith("': No such file or directory\n")
    assert list(folder.iterdir()) == []


def changing(daemon: FakeDaemon) -> None:
    """Let somebody else change the document once while it is being edited."""
    documents = iter([XML])
    daemon.answers["snapshot.xml"] = lambda _: snapshot.XmlResult(xml=next(documents, XML + "<!-- -->"))


def test_another_users_change_is_not_overwritten(cli: Cli, daemon: FakeDaemon, folder: Path) -> None:
    changing(daemon)
    status, _, err = cli("snapshot-edit", "vm", "s1")
    assert (status, edits(daemon)) == (1, [])
    assert err == (
        "error: The XML configuration was changed by another user.\nerror: Failed to update s1\n"
        f"hint: your changes are kept in '{kept(folder)}'\n"
    )


class Typed:
    """The command in a process of its own, with a terminal that the test types on."""

    def __init__(self, process: subprocess.Popen[bytes], terminal: int) -> None:
        self.process = process
        self._terminal = terminal

    def until(self, end: str) -> str:
        """Return what it says on standard error, up to an end."""
        assert self.process.stderr is not None
        said = b""
        while not said.endswith(end.encode()):
            byte = self.process.stderr.read(1)
            assert byte, f"only this was said: {said.decode()}"
            said += byte
        return said.decode()

    def type(self, keys: bytes) -> None:
        """Press keys."""
        os.write(self._terminal, keys)

    def end(self) -> tuple[int, str, str]:
        """Return the exit status and what else it says."""
        out, err = self.process.communicate(timeout=30)
        return self.process.returncode, out.decode(), err.decode()


@contextmanager
def typed(*options: str) -> Iterator[Typed]:
    terminal, inside = os.openpty()
    environment = {**os.environ, "PYTHONPATH": ":".join(sys.path)}
    command = [sys.executable, "-m", "virtsnap.cli", "snapshot-edit", "vm", "s1", *options]
    with subprocess.Popen(
        command, env=environment, stdin=inside, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        os.close(inside)
        try:
            yield Typed(process, terminal)
        finally:
            process.kill()
            os.close(terminal)


REFUSED: Final = "error: XML error: no\nFailed. Try again? [y,n,f,?]: "


def test_on_a_terminal_the_user_is_asked_what_to_do(daemon: FakeDaemon, folder: Path) -> None:
    daemon.answers["snapshot.edit"] = refusing(XmlError("no"))
    with typed() as user:
        assert user.until("]: ") == REFUSED
        user.type(b"?")
        assert user.until("]: ") == (
            "\ny - yes, start editor again\nn - no, throw away my changes\n"
            "f - force, try to redefine again\n? - print this help\nFailed. Try again? [y,n,f,?]: "
        )
        user.type(b"x")
        assert user.until("]: ") == "\nFailed. Try again? [y,n,f,?]: "
        user.type(b"N")
        assert user.end() == (1, "\n", "\nerror: Failed to update s1\n")
    assert list(folder.iterdir()) == []


def test_on_a_terminal_the_editor_starts_again_with_the_changes(
    daemon: FakeDaemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EDITOR", "sed -i -e s/s2/s3/ -e s/s1/s2/")
    daemon.answers["snapshot.edit"] = refusing(XmlError("no"))
    with typed("--rename") as user:
        user.until("]: ")
        daemon.answers["snapshot.edit"] = recorded("s3")
        user.type(b"y")
        assert user.end() == (0, "Snapshot s1 renamed to s3.\n\n", "\n")
    assert [params.xml.count("s3") for params in edits(daemon)] == [0, 1]


def test_on_a_terminal_the_same_can_be_tried_again(daemon: FakeDaemon) -> None:
    changing(daemon)
    with typed("--clone") as user:
        assert user.until("]: ") == (
            "The XML configuration was changed by another user. Try again? [y,n,f,?]: "
        )
        user.type(b"f")
        assert user.end()[:2] == (0, "Snapshot s1 cloned to s2.\n\n")


def test_on_a_terminal_the_validation_can_be_turned_off(daemon: FakeDaemon) -> None:
    daemon.answers["snapshot.edit"] = refusing(XmlError("no"))
    with typed("--clone", "--validate") as user:
        assert user.until("]: ") == REFUSED.replace("n,f", "n,i,f")
        user.type(b"i")
        assert user.until("]: ") == "\n" + REFUSED
        user.type(b"n")
        user.end()
    assert [params.flags for params in edits(daemon)] == [["clone", "validate"], ["clone"]]


@pytest.mark.parametrize("keys", [b"\x04", b"\x03"])
def test_changes_are_kept_when_the_question_is_not_answered(
    daemon: FakeDaemon, folder: Path, keys: bytes
) -> None:
    daemon.answers["snapshot.edit"] = refusing(XmlError("no"))
    with typed() as user:
        user.until("]: ")
        if keys == b"\x03":
            user.process.send_signal(2)
        else:
            user.type(keys)
        status, _, err = user.end()
    assert status in {1, 130}
    assert f"hint: your changes are kept in '{kept(folder)}'\n" in err


def test_a_daemon_that_was_restarted_is_found_again(daemon: FakeDaemon) -> None:
    daemon.answers["snapshot.edit"] = hanging_up
    with typed("--rename") as user:
        assert "the daemon closed the connection" in user.until("]: ")
        daemon.answers["snapshot.edit"] = recorded("s2")
        user.type(b"f")
        assert user.end()[:2] == (0, "Snapshot s1 renamed to s2.\n\n")


def test_changes_are_kept_when_the_editor_fails_after_a_refusal(
    daemon: FakeDaemon, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EDITOR", "sh -c 'grep -q s1 $0 && sed -i s/s1/s2/ $0'")
    daemon.answers["snapshot.edit"] = refusing(XmlError("no"))
    with typed() as user:
        user.until("]: ")
        user.type(b"y")
        assert user.end()[2].endswith(f"hint: your changes are kept in '{kept(folder)}'\n")
