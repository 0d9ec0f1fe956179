"""A running daemon and a client of it, for the tests of the daemon's parts."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.daemon import Running, operations, running_daemon, settings
from tests.support.snapshots import TRANSIENT

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tests.support.rpc import Rpc


@pytest.fixture
async def running(short_tmp: Path) -> AsyncIterator[Running]:
    """Run a daemon with the simulated driver in this process; nothing may be left unfinished in its store."""
    async with running_daemon(settings(short_tmp)) as running:
        yield running
    assert operations(short_tmp / "s") == []


@pytest.fixture
async def rpc(running: Running) -> AsyncIterator[Rpc]:
    """Connect a raw client to it."""
    async with running.client() as client:
        yield client


@pytest.fixture
async def definition(rpc: Rpc) -> str:
    """Return the default domain's persistent definition, secrets included."""
    xml: str = (await rpc.call("domain.xml", domain="test", flags=["inactive", "secure"]))["xml"]
    return xml


@pytest.fixture
async def transient(rpc: Rpc) -> str:
    """Run a transient domain; return its name."""
    await rpc.call("domain.create", xml=TRANSIENT)
    return "brief"
