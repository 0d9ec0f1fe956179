from __future__ import annotations

from typing import TYPE_CHECKING, Any, get_args

import pytest
import trio

from tests.support.daemon import running_daemon, settings
from virtsnap_protocol.errors import HypervisorError
from virtsnap_protocol.methods.snapshot import CreateFlag
from virtsnapd.drivers.api import Capability
from virtsnapd.drivers.simulated.driver import SimulatedDriver
from virtsnapd.drivers.simulated.faults import Fault, Faults, Step

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.daemon import Running
    from tests.support.rpc import Rpc

STEPS: dict[Step, tuple[str, dict[str, Any]]] = {
    "start": ("domain.create", {"xml": "<domain type='test'><name>web</name><memory>1024</memory>"
              "<os><type>hvm</type></os></domain>"}),
    "destroy": ("domain.destroy", {"domain": "test"}),
    "shutdown": ("domain.shutdown", {"domain": "test"}),
    "suspend": ("domain.suspend", {"domain": "test"}),
    "take": ("snapshot.create", {"domain": "test", "xml": "<domainsnapshot><name>s2</name></domainsnapshot>"}),
    "revert": ("snapshot.revert", {"domain": "test", "snapshot": "s1"}),
    "discard": ("snapshot.delete", {"domain": "test", "snapshot": "s1"}),
}  # fmt: skip
"""A call that reaches each step of the driver."""


def test_it_can_do_everything() -> None:
    assert SimulatedDriver.capabilities() == frozenset(Capability)
    assert SimulatedDriver.create_flags == frozenset(get_args(CreateFlag))


async def test_the_default_domain_is_libvirt_s(rpc: Rpc) -> None:
    (domain,) = (await rpc.call("domain.list"))["domains"]
    assert domain == {
        "name": "test",
        "uuid": "6695eb01-f6a4-8304-79aa-97f2502e193f",
        "id": 1,
        "state": "running",
        "reason": "unknown",
        "persistent": True,
        "os_type": "hvm",
        "vcpus": 2,
        "max_memory": 8388608 * 1024,
        "memory": 2097152 * 1024,
        "managed_save": False,
        "snapshots": 0,
        "current_snapshot": None,
        "generation": 0,
        "needs_attention": None,
    }


async def test_guests_go_on_when_the_daemon_restarts(short_tmp: Path) -> None:
    async with running_daemon(settings(short_tmp)) as running, running.client() as rpc:
        await rpc.take("s1")
        await rpc.call("domain.suspend", domain="test")
        before = await rpc.picture()
    async with running_daemon(settings(short_tmp)) as running, running.client() as rpc:
        assert await rpc.picture() == before


async def test_a_domain_that_was_undefined_does_not_come_back(short_tmp: Path) -> None:
    other = "<domain type='test'><name>other</name><memory>1024</memory><os><type>hvm</type></os></domain>"
    async with running_daemon(settings(short_tmp)) as running, running.client() as rpc:
        await rpc.call("domain.define", xml=other)
        await rpc.call("domain.undefine", domain="test")
        await rpc.call("domain.destroy", domain="test")
    async with running_daemon(settings(short_tmp)) as running, running.client() as rpc:
        assert [domain["name"] for domain in (await rpc.call("domain.list"))["domains"]] == ["other"]


@pytest.mark.parametrize("step", STEPS)
async def test_a_fault_fails_its_step_once_and_changes_nothing(
    running: Running, rpc: Rpc, step: Step
) -> None:
    await rpc.take("s1")
    method, params = STEPS[step]
    running.driver.faults.inject(step, Fault(error="on demand"))
    with running.nothing_changes():
        error = await rpc.refusal(method, **params)
    assert (error.code, error.kind, error.cause) == (1, "hypervisor-error", "on demand")
    assert str(error) == f"internal error: simulated failure of {step}: on demand"
    assert len(running.hypervisor.domains) == 1
    await rpc.call(method, **params)


async def test_a_domain_whose_start_fails_late_is_gone_again(running: Running, rpc: Rpc) -> None:
    running.driver.faults.inject("resume", Fault(error="on demand"))
    method, params = STEPS["start"]
    assert (await rpc.refusal(method, **params)).cause == "on demand"
    assert [domain.name for domain in running.hypervisor.domains] == ["test"]
    await rpc.call(method, **params)


async def test_faults_happen_in_the_order_they_were_given(autojump_clock: trio.testing.MockClock) -> None:
    faults = Faults()
    faults.inject("take", Fault(delay=5))
    faults.inject("take", Fault(delay=2, error="second"))
    await faults.reach("revert")
    assert trio.current_time() == 0
    await faults.reach("take")
    assert trio.current_time() == 5
    with pytest.raises(HypervisorError, match="second"):
        await faults.reach("take")
    assert trio.current_time() == 7
    await faults.reach("take")
    assert trio.current_time() == 7


async def test_a_cold_start_has_an_empty_memory_and_the_disks_of_before(running: Running, rpc: Rpc) -> None:
    contents = running.driver.contents(running.domain())
    contents.memory, contents.disks = 5, 6
    await rpc.call("domain.destroy", domain="test")
    await rpc.call("domain.start", domain="test")
    assert (contents.memory, contents.disks) == (0, 6)
