"""Fixtures of the client's tests."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.support.fake_daemon import FakeDaemon
from tests.support.samples import DOMAIN, HELLO, POSITION, SNAPSHOT
from virtsnap_protocol.methods import connection, domain, event, snapshot

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.fake_daemon import Answer
    from virtsnap_protocol.method import Method


@pytest.fixture
def daemon(short_tmp: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeDaemon]:
    """Return a daemon with one running domain, which the environment points to."""
    path = short_tmp / "virtsnapd.sock"
    monkeypatch.setenv("VIRTSNAP_SOCKET", str(path))
    monkeypatch.delenv("VIRTSNAP_URI", raising=False)
    answers: dict[Method[Any, Any], Answer] = {
        connection.HELLO: lambda _: HELLO,
        domain.INFO: lambda _: domain.InfoResult(domain=DOMAIN),
        domain.LIST: lambda _: domain.ListResult(domains=[DOMAIN], position=POSITION),
        snapshot.GET: lambda _: snapshot.InfoResult(snapshot=SNAPSHOT),
        snapshot.CURRENT: lambda _: snapshot.InfoResult(snapshot=SNAPSHOT),
        snapshot.LIST: lambda _: snapshot.ListResult(
            snapshots=[SNAPSHOT], total=1, generation=1, position=POSITION
        ),
        snapshot.CREATE: lambda _: snapshot.InfoResult(snapshot=SNAPSHOT),
        event.SUBSCRIBE: lambda _: event.SubscribeResult(
            subscription=7, position=event.Position(epoch="e", seq=0)
        ),
    }
    with FakeDaemon(path, answers) as fake:
        yield fake
