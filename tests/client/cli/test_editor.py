"""A document in the user's editor: which editor, where the document is meanwhile, what is left of it."""

from __future__ import annotations

import os
import resource
import signal
import stat
from typing import TYPE_CHECKING

import pytest

from virtsnap.cli.command import CommandFailed
from virtsnap.cli.editor import Draft

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def draft(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Draft]:
    """Return a draft whose folder is below the test's; no editor is chosen."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    monkeypatch.delenv("VISUAL", raising=False)
    monkeypatch.delenv("EDITOR", raising=False)
    draft = Draft("<a>é</a>\n")
    yield draft
    draft.discard()


def test_nobody_else_can_read_what_is_edited(draft: Draft) -> None:
    assert stat.S_IMODE(draft.path.stat().st_mode) == 0o600
    assert stat.S_IMODE(draft.path.parent.stat().st_mode) == 0o700


def test_nothing_is_left_of_a_draft_that_is_discarded(draft: Draft, tmp_path: Path) -> None:
    draft.path.with_suffix(".swp").touch()
    draft.discard()
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_left_of_a_draft_for_which_there_is_no_space(tmp_path: Path, draft: Draft) -> None:
    before = list(tmp_path.iterdir())
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2, limits[1]))
    try:
        with pytest.raises(CommandFailed, match="failed to write to temporary file: File too large"):
            Draft("<a/>")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert list(tmp_path.iterdir()) == before


def test_a_draft_for_which_there_is_no_folder_is_refused(
    tmp_path: Path, draft: Draft, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "gone"))
    with pytest.raises(CommandFailed, match="failed to create temporary file: No such file or directory"):
        Draft("<a/>")


def test_the_editor_may_have_options_and_quoted_words(draft: Draft, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDITOR", "sed -i -e 's/é/b c/' -e \"s/a>/z>/\"")
    draft.edit()
    assert draft.read() == "<z>b c</a>\n"


def test_visual_goes_before_editor_unless_it_is_empty(draft: Draft, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDITOR", "false")
    monkeypatch.setenv("VISUAL", "true")
    draft.edit()
    monkeypatch.setenv("VISUAL", "")
    with pytest.raises(CommandFailed, match="unexpected exit status 1"):
        draft.edit()


@pytest.mark.parametrize("name", ["sensible-editor", "vi"])
def test_without_a_choice_the_usual_editor_is_run(
    draft: Draft, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    editor = tmp_path / name
    editor.write_text("#!/bin/sh\necho edited > $1\n")
    editor.chmod(0o700)
    monkeypatch.setenv("PATH", str(tmp_path))
    draft.edit()
    assert draft.read() == "edited\n"


@pytest.mark.parametrize(
    ("editor", "message"),
    [
        ("no-such-editor -x", "Cannot find 'no-such-editor' in path: No such file or directory"),
        ("/", "Cannot run '/': Permission denied"),
        ("vi 'x", "EDITOR is not a list of words: No closing quotation"),
    ],
)
def test_an_editor_that_cannot_be_run_is_named(
    draft: Draft, monkeypatch: pytest.MonkeyPatch, editor: str, message: str
) -> None:
    monkeypatch.setenv("EDITOR", editor)
    with pytest.raises(CommandFailed) as caught:
        draft.edit()
    assert caught.value.lines == (message,)


def test_an_editor_that_is_killed_has_failed(draft: Draft, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDITOR", "sh -c 'kill -9 $$'")
    with pytest.raises(
        CommandFailed, match=r"Child process \(sh -c .*document.xml\) unexpected fatal signal 9"
    ):
        draft.edit()


def test_an_interrupt_is_the_editors_own_matter(draft: Draft, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDITOR", f"sh -c 'kill -INT {os.getpid()}; echo edited > $0'")
    former = signal.getsignal(signal.SIGINT)
    draft.edit()
    assert draft.read() == "edited\n"
    assert signal.getsignal(signal.SIGINT) is former


def test_what_is_not_text_is_refused(draft: Draft) -> None:
    draft.path.write_bytes(b"\xff")
    with pytest.raises(CommandFailed, match="not UTF-8 at byte 0"):
        draft.read()
