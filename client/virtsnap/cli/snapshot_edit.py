"""The command snapshot-edit: a snapshot's document through the user's editor."""

from __future__ import annotations

import os
import sys
import termios
import tty
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from virtsnap.cli.command import DOMAIN, Command, CommandFailed, Option
from virtsnap.cli.render import error_lines
from virtsnap.cli.shell import standard_input_is_typed
from virtsnap.cli.snapshot import NAME
from virtsnap_protocol.errors import Error

if TYPE_CHECKING:
    from collections.abc import Iterator

    from virtsnap.cli.command import Arguments
    from virtsnap.cli.console import Console
    from virtsnap.cli.editor import Draft
    from virtsnap.snapshot import BlockingSnapshot
    from virtsnap_protocol.methods.snapshot import InfoResult

_ANSWERS: Final = {
    "y": "yes, start editor again",
    "n": "no, throw away my changes",
    "i": "turn off validation and try to redefine again",
    "f": "force, try to redefine again",
    "?": "print this help",
}
_CHANGED_BY_ANOTHER: Final = "The XML configuration was changed by another user."


def _edit(console: Console, arguments: Arguments) -> None:
    arguments.exclude("rename", "clone")
    edit = _Edit(console, arguments)
    with _draft(console, edit) as draft:
        result = edit.through(draft)
    if result is None:
        console.tell(f"Snapshot {edit.name} XML configuration not changed.\n")
        if console.json:
            console.result({"changed": False, "snapshot": edit.snapshot.info().snapshot})
        return
    name = result.snapshot.name
    if name == edit.name:
        console.tell(f"Snapshot {name} edited.\n")
    else:
        what = "cloned" if arguments.flag("clone") else "renamed"
        console.tell(f"Snapshot {edit.name} {what} to {name}.\n")
    console.result({"changed": True, "snapshot": result.snapshot})


class _Edit:
    """One snapshot on its way through the editor (virsh-edit.c)."""

    def __init__(self, console: Console, arguments: Arguments) -> None:
        self._console = console
        self._arguments = arguments
        self._validate = arguments.flag("validate")
        self._domain = arguments.required("domain")
        self.name = self._chosen()
        self.original = self._read()
        self.unsaved = False
        """What the user has written is neither recorded nor given up."""

    @property
    def snapshot(self) -> BlockingSnapshot:
        """The snapshot, on a connection that works: the former may have ended while the user was thinking."""
        return self._console.domain(self._domain).snapshot(self.name)

    def _chosen(self) -> str:
        """Return the name of the snapshot; unlike elsewhere it may be given beside ``--current``."""
        domain = self._console.domain(self._domain)
        name = self._arguments.text("snapshotname")
        if name is not None:
            return name
        if not self._arguments.flag("current"):
            domain.info()  # an unknown domain is told first
            raise CommandFailed("--snapshotname or --current is required")
        return domain.current_snapshot().snapshot.name

    def _read(self) -> str:
        return self.snapshot.xml(secure=True).xml

    @property
    def _becomes_current(self) -> bool:
        return self._arguments.flag("current") and self._arguments.flag("snapshotname")

    def through(self, draft: Draft) -> InfoResult | None:
        """Let the user edit until the daemon accepts it or the user gives up; None when nothing was changed.

        Raises:
            CommandFailed: The editor failed, or the daemon refused and the user gave up.
        """
        while True:
            self._let_edit(draft)
            text = draft.read()
            self.unsaved = text != self.original
            if not self.unsaved and not self._becomes_current:
                return None
            result = self._submit(text)
            if result is not None:
                self.unsaved = False
                return result

    def _let_edit(self, draft: Draft) -> None:
        try:
            draft.edit()
        except CommandFailed as failure:
            raise CommandFailed(*failure.lines, f"Failed to update {self.name}") from failure
        self.unsaved = True

    def _submit(self, text: str) -> InfoResult | None:
        """Have the document recorded; None when it is to be edited again."""
        while True:
            try:
                if (now := self._read()) == self.original:
                    return self._record(text)
                self.original, trouble = now, None
            except Error as error:
                trouble = error
            except CommandFailed as failure:  # the daemon is gone: the next answer may find it again
                if failure.error is None:
                    raise
                trouble = failure.error
            match self._ask(trouble):
                case "y":
                    return None
                case "i":
                    self._validate = False
                case "n":
                    self.unsaved = False
                    raise CommandFailed(f"Failed to update {self.name}") from trouble

    def _record(self, text: str) -> InfoResult:
        return self.snapshot.edit(
            text,
            rename=self._arguments.flag("rename"),
            clone=self._arguments.flag("clone"),
            current=self._becomes_current,
            flags=["validate"] if self._validate else [],
        )

    def _ask(self, trouble: Error | None) -> str:
        """Return what the user wants to do now.

        Raises:
            CommandFailed: There is nobody to ask.
        """
        if not standard_input_is_typed():
            failed = f"Failed to update {self.name}"
            if trouble is None:
                raise CommandFailed(_CHANGED_BY_ANOTHER, failed)
            raise CommandFailed(failed, error=trouble) from trouble
        if trouble is not None:
            self._console.complain(*error_lines(trouble))
        answers = {key: text for key, text in _ANSWERS.items() if key != "i" or self._validate}
        question = f"{'Failed.' if trouble else _CHANGED_BY_ANOTHER} Try again? [{','.join(answers)}]: "
        while True:
            answer = _answer(question)
            if answer == "?":
                self._console.complain(*(f"{key} - {text}" for key, text in answers.items()))
            elif answer in answers:
                return answer


def _answer(question: str) -> str:
    """Ask on the terminal and return one key, in lower case.

    Raises:
        CommandFailed: The terminal is closed.
    """
    terminal = sys.stdin.fileno()
    settings = termios.tcgetattr(terminal)
    try:
        tty.setcbreak(terminal)  # forgets what was typed before: it was no answer to this
        sys.stderr.write(question)
        sys.stderr.flush()
        key = os.read(terminal, 1).decode(errors="replace").lower()
    finally:
        termios.tcsetattr(terminal, termios.TCSADRAIN, settings)
        sys.stderr.write("\n")
    if key in {"", "\x04"}:
        raise CommandFailed("no answer")
    return key


@contextmanager
def _draft(console: Console, edit: _Edit) -> Iterator[Draft]:
    """Yield the file to edit. It does not outlive the command, unless the user's work would be lost with it.

    Raises:
        CommandFailed: There is no place for it.
    """
    from virtsnap.cli.editor import Draft  # noqa: PLC0415 it brings what no other command needs to start with

    draft = Draft(edit.original)
    kept = f"your changes are kept in '{draft.path}'"
    try:
        yield draft
    except CommandFailed as failure:
        edit.unsaved = edit.unsaved and draft.path.exists()  # an editor may have removed it
        if edit.unsaved:
            failure.hint = kept
        raise
    except BaseException:
        if edit.unsaved:
            console.complain(f"hint: {kept}")
        raise
    finally:
        if not edit.unsaved:
            draft.discard()


COMMANDS: Final = (
    Command(
        name="snapshot-edit",
        group="snapshot",
        summary="edit the document of a snapshot",
        description="Open the document of a snapshot in the editor that VISUAL or EDITOR name, and record what\n"
        "comes back. Only metadata changes. A snapshot that is renamed keeps its children.",
        options=(
            DOMAIN,
            NAME,
            Option("current", "flag", "the current snapshot; with a name: make that one current as well"),
            Option("rename", "flag", "let another name in the document rename the snapshot"),
            Option("clone", "flag", "let another name in the document make a second snapshot"),
            Option("validate", "flag", "check the document against the schema"),
        ),
        run=_edit,
    ),
)
