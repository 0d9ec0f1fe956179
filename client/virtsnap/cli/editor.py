"""A document in the user's editor: a private temporary file, and the program that edits it."""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import subprocess
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

from virtsnap.cli.command import CommandFailed
from virtsnap.cli.documents import read_document

if TYPE_CHECKING:
    from collections.abc import Iterator

_DEFAULTS: Final = ("sensible-editor", "vi")
"""In this order, the first that there is; Debian's virsh has the first, others the second."""


class Draft:
    """A document that is being edited, in a folder that nobody else can look into.

    Editors leave backups and locks beside what they edit, and the document may hold secrets.

    Raises:
        CommandFailed: There is no place for it; nothing of it is left.
    """

    def __init__(self, text: str) -> None:
        try:
            self._folder = Path(tempfile.mkdtemp(prefix="virtsnap-"))
        except OSError as error:
            raise CommandFailed(f"failed to create temporary file: {error.strerror}") from error
        self.path = self._folder / "document.xml"
        try:
            with os.fdopen(os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
                file.write(text.encode())
        except OSError as error:
            self.discard()
            raise CommandFailed(
                f"write: {self.path}: failed to write to temporary file: {error.strerror}"
            ) from error

    def edit(self) -> None:
        """Run the editor and wait for its end.

        Raises:
            CommandFailed: There is no such editor, or it failed.
        """
        program = [*_editor(), str(self.path)]
        try:
            with _keyboard_is_anothers():
                status = subprocess.run(program, check=False).returncode  # noqa: S603 what the user names is what is run
        except FileNotFoundError as error:
            raise CommandFailed(f"Cannot find '{program[0]}' in path: {error.strerror}") from error
        except OSError as error:
            raise CommandFailed(f"Cannot run '{program[0]}': {error.strerror}") from error
        if status:
            how = f"exit status {status}" if status > 0 else f"fatal signal {-status}"
            raise CommandFailed(f"internal error: Child process ({' '.join(program)}) unexpected {how}")

    def read(self) -> str:
        """Return what the document is now.

        Raises:
            CommandFailed: It cannot be read, is too long, or is not UTF-8.
        """
        return read_document(str(self.path))

    def discard(self) -> None:
        """Remove it with everything that the editor left beside it."""
        shutil.rmtree(self._folder, ignore_errors=True)


def _editor() -> list[str]:
    """Return the editor's program and options: what ``VISUAL`` or ``EDITOR`` say, split as a shell would."""
    for variable in ("VISUAL", "EDITOR"):
        try:
            words = shlex.split(os.environ.get(variable, ""))
        except ValueError as error:
            raise CommandFailed(f"{variable} is not a list of words: {error}") from error
        if words:
            return words
    return [next((name for name in _DEFAULTS if shutil.which(name)), _DEFAULTS[-1])]


@contextmanager
def _keyboard_is_anothers() -> Iterator[None]:
    """Leave signals from the keyboard to the program that is run meanwhile, as system(3) does.

    They are caught and not ignored: what is ignored would be ignored by the program as well.
    """
    former = [(number, signal.signal(number, lambda *_: None)) for number in (signal.SIGINT, signal.SIGQUIT)]
    try:
        yield
    finally:
        for number, handler in former:
            signal.signal(number, handler)
