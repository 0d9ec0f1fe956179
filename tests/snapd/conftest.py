"""A running daemon and a client of it, for the tests of the daemon's parts."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.daemon import Running, running_daemon, settings

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tests.support.rpc import Rpc


@pytest.fixture
async def running(short_tmp: Path) -> AsyncIterator[Running]:
    """Run a daemon with the simulated driver in this process."""
    async with running_daemon(settings(short_tmp)) as running:
        yield running


@pytest.fixture
async def rpc(running: Running) -> AsyncIterator[Rpc]:
    """Connect a raw client to it."""
    async with running.client() as client:
        yield client
