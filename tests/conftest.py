"""What every test gets: the check that it leaves nothing behind, and a short folder for Unix sockets."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support import leaks

if TYPE_CHECKING:
    from collections.abc import Iterator

leaks.mark_environment()


@pytest.fixture(autouse=True)
def nothing_leaks() -> Iterator[None]:
    """Fail a test after which there is a process, a descriptor or a socket that was not there before."""
    before = leaks.observe()
    yield
    found = leaks.leaks(before)
    if found:
        pytest.fail("left behind:\n" + "\n".join(found), pytrace=False)


@pytest.fixture
def short_tmp() -> Iterator[Path]:
    """Return a folder whose path is short enough for Unix sockets (107 bytes); removed after the test."""
    folder = Path(tempfile.mkdtemp(prefix="vs-", dir="/tmp"))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)
