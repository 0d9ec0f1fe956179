from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from virtsnap_protocol.methods import METHODS

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.support.daemon import Running
    from tests.support.rpc import Rpc

CHANGES = [method.name for method in METHODS if not method.reads]
DOMAIN = "<domain type='test'><name>web</name><memory>1024</memory><os><type>hvm</type></os></domain>"
MAY_NOT = "the read-only socket stands for a user who may not: it refuses every change and every secret"


@pytest.fixture
async def reader(running: Running) -> AsyncIterator[Rpc]:
    async with running.client() as writer:
        await writer.take("s1")
        await writer.take("s2")
    async with running.client(read_only=True) as client:
        yield client


def valid(method: str) -> dict[str, object]:
    """Return parameters with which the method would change something."""
    noun, verb = method.split(".")
    if method in {"domain.define", "domain.create"}:
        return {"xml": DOMAIN}
    if method == "snapshot.create":
        return {"domain": "test", "xml": "<domainsnapshot/>"}
    if noun == "snapshot":
        return {"domain": "test", "snapshot": "s1"}
    assert noun in {"domain", "save"}, verb
    return {"domain": "test"}


def test_the_changes_are_those_of_the_contract() -> None:
    assert {"snapshot.create", "snapshot.revert", "snapshot.delete", "domain.define"} <= set(CHANGES)


@pytest.mark.checklist(6, 7, 8, ours="the method of the protocol is named, not libvirt's function")
@pytest.mark.checklist(280, ours=MAY_NOT)
@pytest.mark.parametrize("method", CHANGES)
async def test_the_read_only_socket_refuses_a_change(running: Running, reader: Rpc, method: str) -> None:
    with running.nothing_changes():
        error = await reader.refusal(method, **valid(method))
    assert (error.code, error.kind) == (29, "operation-denied")
    assert str(error) == f"operation forbidden: read only access prevents {method}"
    assert len(running.hypervisor.domains) == 1


@pytest.mark.parametrize("method", CHANGES)
async def test_a_change_is_refused_there_whatever_its_parameters(reader: Rpc, method: str) -> None:
    assert (await reader.refusal(method, nonsense=1)).code == 29


@pytest.mark.checklist(9, ours="the method of the protocol is named, not libvirt's function")
@pytest.mark.checklist(280, ours=MAY_NOT)
@pytest.mark.parametrize(("method", "more"), [("domain.xml", {}), ("snapshot.xml", {"snapshot": "s1"})])
async def test_the_read_only_socket_refuses_secrets(reader: Rpc, method: str, more: dict[str, str]) -> None:
    error = await reader.refusal(method, domain="test", flags=["secure"], **more)
    assert (error.code, str(error)) == (29, f"operation forbidden: {method} with secure flag")
    assert "xml" in await reader.call(method, domain="test", **more)


@pytest.mark.checklist(10)
@pytest.mark.parametrize(
    ("method", "more"),
    [
        ("connection.hello", {}),
        ("domain.list", {}),
        ("domain.info", {"domain": "test"}),
        ("snapshot.list", {"domain": "test"}),
        ("snapshot.get", {"domain": "test", "snapshot": "s1"}),
        ("snapshot.current", {"domain": "test"}),
        ("snapshot.parent", {"domain": "test", "snapshot": "s2"}),
        ("snapshot.count", {"domain": "test"}),
        ("snapshot.xml", {"domain": "test", "snapshot": "s1"}),
        ("event.subscribe", {}),
    ],
)
async def test_the_read_only_socket_answers_a_read(reader: Rpc, method: str, more: dict[str, str]) -> None:
    assert await reader.call(method, **more)


async def test_a_change_as_a_notification_is_refused_there_too(running: Running, reader: Rpc) -> None:
    with running.nothing_changes():
        await reader.send(b'{"jsonrpc":"2.0","method":"domain.destroy","params":{"domain":"test"}}\n')
        await reader.call("connection.ping")


async def test_a_caller_of_the_read_only_socket_is_told_so(reader: Rpc) -> None:
    assert (await reader.call("connection.hello"))["you"]["read_only"] is True
