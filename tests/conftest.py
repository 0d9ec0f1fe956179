"""What every test gets: the check that it leaves nothing behind, a short folder for Unix sockets; --regenerate."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, settings

from tests.support import golden, leaks, qemu_golden

if TYPE_CHECKING:
    from collections.abc import Iterator

leaks.mark_environment()

# Properties are judged by what they say, not by how busy the machine is. A change is judged by the same examples
# every time; new ones are looked for wherever a person runs the suite.
settings.register_profile(
    "unhurried",
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
    derandomize="CI" in os.environ,
)
settings.load_profile("unhurried")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Declare `--regenerate`."""
    parser.addoption(
        "--regenerate",
        action="store_true",
        help="first write the golden files anew; no test fails of it, the difference shows in git",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Write the golden files anew, before any test reads them."""
    if config.getoption("--regenerate"):
        golden.regenerate()
        qemu_golden.regenerate()


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
