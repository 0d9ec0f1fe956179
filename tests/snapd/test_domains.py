from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.daemon import running_daemon, settings
from tests.support.rpc import until
from virtsnap_protocol.errors import DomainExists, DomainNotFound
from virtsnapd.models.domain import DomainDefinition

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.daemon import Running
    from tests.support.rpc import Rpc

UUID = "11111111-2222-3333-4444-555555555555"


def xml(name: str = "web", uuid: str | None = UUID, memory: int = 1024) -> str:
    identity = f"<uuid>{uuid}</uuid>" if uuid else ""
    return (
        f"<domain type='test'><name>{name}</name>{identity}<memory>{memory}</memory>"
        f"<os><type>hvm</type></os></domain>"
    )


async def names(rpc: Rpc, *flags: str) -> list[str]:
    return [domain["name"] for domain in (await rpc.call("domain.list", flags=list(flags)))["domains"]]


async def lifecycle(rpc: Rpc) -> list[tuple[str, str, str]]:
    return [(event["domain"], event["lifecycle"], event["detail"]) for event in await rpc.events()]


async def test_a_domain_is_found_by_name_uuid_and_id(running: Running, rpc: Rpc) -> None:
    await rpc.call("domain.create", xml=xml())
    domains = running.hypervisor.domains
    web = domains.find("web")
    assert domains.find(UUID) is web
    assert domains.find(UUID.upper()) is web
    assert domains.find(2) is web
    for unknown in (3, 0, -1, "2", "Web", "", UUID[:-1]):
        with pytest.raises(DomainNotFound):
            domains.find(unknown)


async def test_a_domain_may_be_called_like_the_id_of_another(rpc: Rpc) -> None:
    await rpc.call("domain.define", xml=xml("1"))
    assert (await rpc.call("domain.info", domain="1"))["domain"]["name"] == "1"
    assert (await rpc.call("domain.info", domain=1))["domain"]["name"] == "test"


async def test_an_id_goes_with_its_guest(rpc: Rpc) -> None:
    await rpc.call("domain.destroy", domain=1)
    assert (await rpc.refusal("domain.info", domain=1)).code == 42
    started = await rpc.call("domain.start", domain="test")
    assert started["domain"]["id"] == 2


async def test_an_unknown_domain_gets_libvirt_s_words(rpc: Rpc) -> None:
    error = await rpc.refusal("domain.info", domain="nobody")
    assert (error.code, error.domain) == (42, "nobody")
    assert str(error) == "Domain not found: no domain with matching name 'nobody'"


async def test_the_life_of_a_persistent_domain_is_told(rpc: Rpc) -> None:
    await rpc.call("event.subscribe")
    await rpc.call("domain.define", xml=xml())
    await rpc.call("domain.define", xml=xml(memory=2048))
    await rpc.call("domain.start", domain="web", flags=["paused"])
    await rpc.call("domain.resume", domain="web")
    await rpc.call("domain.suspend", domain="web")
    await rpc.call("domain.shutdown", domain="web")
    await rpc.call("domain.undefine", domain="web")
    assert await lifecycle(rpc) == [
        ("web", "defined", "added"),
        ("web", "defined", "updated"),
        ("web", "started", "booted"),
        ("web", "suspended", "paused"),
        ("web", "resumed", "unpaused"),
        ("web", "suspended", "paused"),
        ("web", "stopped", "shutdown"),
        ("web", "undefined", "removed"),
    ]
    assert await names(rpc) == ["test"]


async def test_a_transient_domain_is_gone_when_it_ends(running: Running, rpc: Rpc) -> None:
    await rpc.call("event.subscribe")
    made = (await rpc.call("domain.create", xml=xml()))["domain"]
    assert (made["persistent"], made["state"], made["reason"]) == (False, "running", "booted")
    await rpc.call("domain.destroy", domain="web")
    assert await lifecycle(rpc) == [("web", "started", "booted"), ("web", "stopped", "destroyed")]
    assert (await rpc.refusal("domain.info", domain="web")).code == 42
    assert [row.name for row in running.store.load().domains] == ["test"]


async def test_an_active_domain_becomes_transient_when_it_is_undefined(rpc: Rpc) -> None:
    await rpc.call("domain.undefine", domain="test")
    assert (await rpc.call("domain.info", domain="test"))["domain"]["persistent"] is False
    error = await rpc.refusal("domain.undefine", domain="test")
    assert str(error) == "Requested operation is not valid: cannot undefine transient domain"
    await rpc.call("domain.destroy", domain="test")
    assert await names(rpc) == []


async def test_a_listing_is_narrowed_by_groups_of_flags(rpc: Rpc) -> None:
    await rpc.call("domain.create", xml=xml("brief"))
    await rpc.call("domain.define", xml=xml("off", uuid=None))
    await rpc.take("s1")
    assert await names(rpc) == ["test", "brief", "off"]
    assert await names(rpc, "inactive") == ["off"]
    assert await names(rpc, "active", "inactive") == ["test", "brief", "off"]
    assert await names(rpc, "transient") == ["brief"]
    assert await names(rpc, "active", "persistent") == ["test"]
    assert await names(rpc, "has-snapshot") == ["test"]
    assert await names(rpc, "no-snapshot") == ["brief", "off"]


@pytest.mark.parametrize(
    ("method", "domain", "code", "words"),
    [
        ("domain.start", "test", 55, "domain is already running"),
        ("domain.resume", "test", 55, "domain is already running"),
        ("domain.destroy", "off", 55, "domain is not running"),
        ("domain.shutdown", "off", 55, "domain is not running"),
        ("domain.suspend", "off", 55, "domain is not running"),
        ("domain.resume", "off", 55, "domain is not running"),
    ],
)
async def test_what_the_state_forbids_is_refused(
    running: Running, rpc: Rpc, method: str, domain: str, code: int, words: str
) -> None:
    await rpc.call("domain.define", xml=xml("off"))
    with running.nothing_changes(domain):
        error = await rpc.refusal(method, domain=domain)
    assert (error.code, str(error)) == (code, f"Requested operation is not valid: {words}")


@pytest.mark.parametrize("method", ["domain.define", "domain.create"])
async def test_names_and_uuids_are_unique(running: Running, rpc: Rpc, method: str) -> None:
    await rpc.call("domain.define", xml=xml("web"))
    with running.nothing_changes("web"):
        same_uuid = await rpc.refusal(method, xml=xml("other"))
        same_name = await rpc.refusal(method, xml=xml("web", uuid=UUID.replace("1", "9")))
    assert str(same_uuid) == f"operation failed: domain 'web' is already defined with uuid {UUID}"
    assert str(same_name) == f"operation failed: domain 'web' already exists with uuid {UUID}"
    assert {same_uuid.code, same_name.code} == {9}
    assert await names(rpc) == ["test", "web"]


async def test_a_running_domain_is_not_created_again(running: Running, rpc: Rpc) -> None:
    await rpc.call("domain.create", xml=xml())
    with running.nothing_changes("web"):
        error = await rpc.refusal("domain.create", xml=xml())
    assert str(error) == "Requested operation is not valid: domain 'web' is already active"


async def test_a_name_is_taken_from_the_moment_a_domain_is_being_made(running: Running) -> None:
    domains = running.hypervisor.domains
    definition = DomainDefinition.parse(xml())
    with domains.claim(definition), pytest.raises(DomainExists, match="just being made"):
        domains.claim(definition).__enter__()
    with domains.claim(definition) as domain:
        assert domain.name == "web"
        assert "web" not in [found.name for found in domains]


async def test_a_new_definition_is_used_from_the_next_start_on(rpc: Rpc) -> None:
    await rpc.call("domain.define", xml=xml())
    await rpc.call("domain.start", domain="web")
    await rpc.call("domain.define", xml=xml(memory=2048))
    assert (await rpc.call("domain.info", domain="web"))["domain"]["max_memory"] == 1024 * 1024
    inactive = await rpc.call("domain.xml", domain="web", flags=["inactive"])
    assert "2048" in inactive["xml"]
    await rpc.call("domain.destroy", domain="web")
    await rpc.call("domain.start", domain="web")
    assert (await rpc.call("domain.info", domain="web"))["domain"]["max_memory"] == 2048 * 1024


async def test_a_definition_is_stored_once_for_any_number_of_snapshots(running: Running, rpc: Rpc) -> None:
    for number in range(5):
        await rpc.take(f"s{number}")
    assert len(running.store.load().definitions) == 1


async def test_everything_is_there_again_after_a_restart(short_tmp: Path) -> None:
    async with running_daemon(settings(short_tmp)) as running, running.client() as rpc:
        await rpc.call("domain.create", xml=xml("brief"))
        await rpc.call("domain.define", xml=xml("off", uuid=None))
        for name in ("s1", "s2"):
            await rpc.take(name)
            await rpc.take(name, domain="brief")
        before = await rpc.picture()
        digests = {domain.uuid: domain.hierarchy.digest for domain in running.hypervisor.domains}
    async with running_daemon(settings(short_tmp)) as running, running.client() as rpc:
        assert await rpc.picture() == before
        assert {domain.uuid: domain.hierarchy.digest for domain in running.hypervisor.domains} == digests
        made = await rpc.call("domain.create", xml=xml("next", uuid=None))
        assert made["domain"]["id"] == 3


async def test_changes_that_come_too_late_for_a_domain_do_not_bring_it_back(
    running: Running, rpc: Rpc
) -> None:
    """Changes of metadata queue behind one another; what is behind an undefine finds no domain."""
    await rpc.call("domain.define", xml=xml())
    domain = running.domain("web")
    document = (
        "<domainsnapshot><name>late</name><state>shutoff</state><creationTime>1</creationTime>"
        f"{xml()}</domainsnapshot>"
    )
    requests: list[tuple[str, dict[str, object]]] = [
        ("domain.undefine", {"domain": "web"}),
        ("snapshot.create", {"domain": "web", "xml": document, "flags": ["redefine"]}),
        ("domain.define", {"xml": xml(memory=4096)}),
    ]
    identities: list[int] = []
    async with domain.lock.wait("the test"):
        for method, params in requests:
            identities.append(await rpc.begin(method, **params))
            await until(lambda: domain.lock._lock.statistics().tasks_waiting == len(identities))
    undefine, *late = identities
    assert await rpc.result(undefine) == {}
    for identity in late:
        assert (await rpc.answer(identity))["error"]["code"] == 42
    loaded = running.store.load()
    assert [row.name for row in loaded.domains] == ["test"]
    assert loaded.hierarchies == []
