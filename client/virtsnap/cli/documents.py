"""The files that commands take: reads XML documents, and says where a path begins."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Final

from virtsnap.cli.command import CommandFailed

LIMIT: Final = 10 * 1024 * 1024
"""As virsh (VSH_MAX_XML_FILE); the daemon has its own limit."""


def read_document(path: str) -> str:
    """Return the text of a file, or of standard input for ``-``.

    Raises:
        CommandFailed: It cannot be read, or is too long.
    """
    try:
        data = sys.stdin.buffer.read(LIMIT + 1) if path == "-" else _head(Path(path))
    except IsADirectoryError as error:  # which virsh opens
        raise CommandFailed(f"Failed to read file '{path}': {error.strerror}") from error
    except OSError as error:
        raise CommandFailed(f"Failed to open file '{path}': {error.strerror}") from error
    if len(data) > LIMIT:
        raise CommandFailed(f"Failed to read file '{path}': Value too large for defined data type")
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise CommandFailed(f"Failed to read file '{path}': not UTF-8 at byte {error.start}") from error


def current_folder() -> str:
    """Return the folder that file names are looked up in.

    Raises:
        CommandFailed: It is gone, or may not be looked at.
    """
    try:
        return os.getcwd()  # noqa: PTH109 the kernel's spelling
    except OSError as error:
        raise CommandFailed(f"cannot get current directory: {error.strerror}") from error


def _head(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(LIMIT + 1)
