"""A daemon with the qemu driver in the test's own process, and a guest for it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.guest import make_disk
from tests.support.qemu_host import LocalDaemon, TickDomain, local_daemon

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path


@pytest.fixture
async def daemon(short_tmp: Path) -> AsyncIterator[LocalDaemon]:
    async with local_daemon(short_tmp / "d") as running:
        yield running


@pytest.fixture
def tick(short_tmp: Path) -> TickDomain:
    return TickDomain(disks=[make_disk(short_tmp / "disk.qcow2", boot=True)], serial=short_tmp / "serial")
