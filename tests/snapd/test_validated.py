"""The flag `validate`, as a client meets it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.snapshots import TRANSIENT

if TYPE_CHECKING:
    from tests.support.daemon import Running
    from tests.support.rpc import Rpc

SNAPSHOT = "<domainsnapshot><name>s</name></domainsnapshot>"


def with_something_strange(definition: str) -> str:
    head, end, _ = definition.rpartition("</domain>")
    return f"{head}<zork/>{end}"


async def test_a_definition_with_something_strange_is_refused_when_it_is_to_be_validated(
    running: Running, rpc: Rpc, definition: str
) -> None:
    with running.nothing_changes():
        error = await rpc.refusal("domain.define", xml=with_something_strange(definition), flags=["validate"])
    assert error.code == 92
    assert "element <zork> is not allowed in <domain>" in str(error)
    assert [problem.path for problem in error.problems or []] == ["/domain/zork"]


async def test_a_definition_with_something_strange_is_kept_otherwise(rpc: Rpc, definition: str) -> None:
    await rpc.call("domain.define", xml=with_something_strange(definition))
    kept = (await rpc.call("domain.xml", domain="test", flags=["inactive"]))["xml"]
    assert "<zork/>" in kept


async def test_a_transient_domain_with_something_strange_is_refused_when_it_is_to_be_validated(
    running: Running, rpc: Rpc
) -> None:
    with running.nothing_changes():
        error = await rpc.refusal("domain.create", xml=with_something_strange(TRANSIENT), flags=["validate"])
    assert error.code == 92
    listed = await rpc.call("domain.list")
    assert [domain["name"] for domain in listed["domains"]] == ["test"]


async def test_what_the_daemon_says_of_a_domain_can_be_defined_validated(rpc: Rpc, definition: str) -> None:
    running_xml = (await rpc.call("domain.xml", domain="test"))["xml"]
    assert " id='1'" in running_xml
    for xml in (definition, running_xml):
        await rpc.call("domain.define", xml=xml, flags=["validate"])


async def test_a_transient_domain_can_be_created_validated(rpc: Rpc) -> None:
    created = await rpc.call("domain.create", xml=TRANSIENT, flags=["validate"])
    assert created["domain"]["persistent"] is False


async def test_a_snapshot_with_something_strange_is_refused_when_it_is_to_be_validated(
    running: Running, rpc: Rpc
) -> None:
    with running.nothing_changes():
        error = await rpc.refusal(
            "snapshot.create", domain="test", xml=SNAPSHOT.replace("</n", "<z/></n"), flags=["validate"]
        )
    assert error.code == 92


@pytest.mark.parametrize("flags", [[], ["secure"]])
async def test_the_dump_of_a_snapshot_can_be_redefined_validated(rpc: Rpc, flags: list[str]) -> None:
    await rpc.call("snapshot.create", domain="test", xml=SNAPSHOT, flags=["validate"])
    dump = (await rpc.call("snapshot.xml", domain="test", snapshot="s", flags=flags))["xml"]
    await rpc.call("snapshot.create", domain="test", xml=dump, flags=["redefine", "validate"])
    assert (await rpc.call("snapshot.xml", domain="test", snapshot="s", flags=flags))["xml"] == dump


async def test_a_dump_with_something_strange_is_not_redefined_when_it_is_to_be_validated(
    running: Running, rpc: Rpc
) -> None:
    await rpc.call("snapshot.create", domain="test", xml=SNAPSHOT)
    dump: str = (await rpc.call("snapshot.xml", domain="test", snapshot="s"))["xml"]
    strange = dump.replace("</devices>", "<zork/></devices>")
    with running.nothing_changes():
        error = await rpc.refusal(
            "snapshot.create", domain="test", xml=strange, flags=["redefine", "validate"]
        )
    assert [problem.path for problem in error.problems or []] == ["/domainsnapshot/domain/devices/zork"]
