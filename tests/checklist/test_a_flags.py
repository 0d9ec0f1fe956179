"""Group A: flags, arguments and the read-only socket, as every driver's calls begin."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import pytest

from tests.checklist.refusals import (
    Refusal,
    Rungs,
    config_refused,
    flags_refused,
    internal_error,
    invalid_now,
    ladder,
    not_found,
    raised,
    refusal,
    xml_refused,
)
from tests.support.snapshots import grow
from virtsnapd.drivers.api import Driver
from virtsnapd.drivers.simulated.driver import SimulatedDriver
from virtsnapd.models.snapshot import Snapshot

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from tests.support.daemon import Running
    from tests.support.rpc import Rpc
    from virtsnap.domain import Domain

CREATE: Final = "VIR_DOMAIN_SNAPSHOT_CREATE_"
REVERT: Final = "VIR_DOMAIN_SNAPSHOT_REVERT_"
DELETE: Final = "VIR_DOMAIN_SNAPSHOT_DELETE_"


# --- the public checks, which no driver can change ---


@pytest.mark.parametrize(
    ("bits", "message"),
    [
        pytest.param(
            0x2,
            f"Flag '{CREATE}REDEFINE' is required by flag '{CREATE}CURRENT'",
            marks=pytest.mark.checklist(1),
        ),
        pytest.param(
            0x5,
            f"Flags '{CREATE}REDEFINE' and '{CREATE}NO_METADATA' are mutually exclusive",
            marks=pytest.mark.checklist(2),
        ),
        pytest.param(
            0x9,
            f"Flags '{CREATE}REDEFINE' and '{CREATE}HALT' are mutually exclusive",
            marks=pytest.mark.checklist(3),
        ),
        pytest.param(
            0x6,
            f"Flag '{CREATE}REDEFINE' is required by flag '{CREATE}CURRENT'",
            marks=pytest.mark.checklist(4),
        ),
        pytest.param(
            0xF,
            f"Flags '{CREATE}REDEFINE' and '{CREATE}NO_METADATA' are mutually exclusive",
            marks=pytest.mark.checklist(4),
        ),
    ],
)
@pytest.mark.parametrize("xml", ["<domainsnapshot/>", "<nonsense"])
async def test_contradicting_bits_of_create_are_refused_whatever_the_document(
    running: Running, vm: Domain, bits: int, message: str, xml: str
) -> None:
    with running.nothing_changes():
        assert await raised(lambda: vm.create_snapshot(xml, flags=bits)) == flags_refused(message)


@pytest.mark.checklist(11)
async def test_a_revert_ends_running_or_paused_not_both(running: Running, rpc: Rpc, vm: Domain) -> None:
    await grow(rpc)
    message = f"Flags '{REVERT}RUNNING' and '{REVERT}PAUSED' are mutually exclusive"
    with running.nothing_changes():
        assert await raised(lambda: vm.snapshot("s1").revert(flags=0x3)) == flags_refused(message)


@pytest.mark.checklist(12)
async def test_a_delete_takes_the_children_alone_or_with_the_snapshot(
    running: Running, rpc: Rpc, vm: Domain
) -> None:
    await grow(rpc)
    message = f"Flags '{DELETE}CHILDREN' and '{DELETE}CHILDREN_ONLY' are mutually exclusive"
    with running.nothing_changes():
        assert await raised(lambda: vm.snapshot("s1").delete(flags=0x5)) == flags_refused(message)
        assert await raised(lambda: vm.snapshot("s1").delete(flags=0x7)) == flags_refused(message)


@pytest.mark.checklist(5, ours="a parameter that is missing is named as one, with JSON-RPC's code")
@pytest.mark.parametrize("given", [{}, {"xml": None}], ids=["absent", "null"])
async def test_a_create_needs_a_document(running: Running, rpc: Rpc, given: dict[str, None]) -> None:
    with running.nothing_changes():
        error = await rpc.refusal("snapshot.create", domain="test", **given)
    assert (error.code, error.kind) == (-32602, "invalid-params")
    assert [problem.path for problem in error.problems] == ["$.xml"]


# --- bits and words that a call does not know ---

BIT_MASKS: Final[dict[str, tuple[int, Callable[[Domain, int], Awaitable[object]]]]] = {
    "snapshot.create": (0x3FF, lambda vm, bits: vm.create_snapshot(flags=bits)),
    "snapshot.xml": (0x1, lambda vm, bits: vm.snapshot("s1").xml(flags=bits)),
    "snapshot.list": (0x7FF, lambda vm, bits: vm.snapshots(flags=bits)),
    "snapshot.count": (0x7FF, lambda vm, bits: vm.count_snapshots(flags=bits)),
    "snapshot.revert": (0xF, lambda vm, bits: vm.snapshot("s1").revert(flags=bits)),
    "snapshot.delete": (0x7, lambda vm, bits: vm.snapshot("s1").delete(flags=bits)),
}
"""The calls with flags, with the bits that libvirt's header gives them."""


@pytest.mark.checklist(13, ours="the method of the protocol is named, not a driver's function")
@pytest.mark.parametrize("method", BIT_MASKS)
async def test_of_unknown_bits_only_these_are_shown(
    running: Running, rpc: Rpc, vm: Domain, method: str
) -> None:
    await rpc.take("s1")
    known, call = BIT_MASKS[method]
    beyond = (known + 1) | 1 << 30
    with running.nothing_changes():
        refused = await raised(lambda: call(vm, known | beyond))
    assert refused == flags_refused(f"unsupported flags (0x{beyond:x}) in method {method}")


@pytest.mark.checklist(13, ours="the method of the protocol is named, not a driver's function")
async def test_of_words_that_a_driver_does_not_honour_only_these_are_shown(
    qemu: Running, qemu_rpc: Rpc
) -> None:
    with qemu.nothing_changes("tick"):
        refused = await refusal(
            qemu_rpc,
            "snapshot.create",
            domain="tick",
            xml="<nonsense",
            flags=["live", "halt", "quiesce", "atomic"],
        )
    assert refused == flags_refused("unsupported flags (live, quiesce) in method snapshot.create")


@pytest.mark.parametrize(
    ("method", "bits"),
    [
        pytest.param("snapshot.xml", 0x2, marks=pytest.mark.checklist(15)),
        pytest.param("snapshot.count", 0x800, marks=pytest.mark.checklist(16)),
    ],
)
async def test_a_call_that_only_looks_refuses_unknown_bits_too(
    rpc: Rpc, vm: Domain, method: str, bits: int
) -> None:
    await rpc.take("s1")
    refused = await raised(lambda: BIT_MASKS[method][1](vm, bits))
    assert refused == flags_refused(f"unsupported flags (0x{bits:x}) in method {method}")


@pytest.mark.checklist(14, ours="these calls take no flags at all: the parameter is refused by its name")
@pytest.mark.parametrize("method", ["snapshot.get", "snapshot.parent", "snapshot.current"])
@pytest.mark.parametrize("flags", [1, [], ["secure"]], ids=str)
async def test_a_call_without_flags_takes_none(rpc: Rpc, method: str, flags: object) -> None:
    await grow(rpc)
    names = {"domain": "test"} if method == "snapshot.current" else {"domain": "test", "snapshot": "s2"}
    assert await rpc.call(method, **names)
    error = await rpc.refusal(method, **names, flags=flags)
    assert (error.code, [problem.path for problem in error.problems]) == (-32602, ["$.flags"])


# --- counts and pages in place of buffers ---


@pytest.mark.checklist(
    17, ours="pages are cut by `skip` and `limit`; one that makes no sense is refused by its path"
)
@pytest.mark.parametrize(
    ("page", "paths"),
    [
        ({"limit": -1}, ["$.limit"]),
        ({"limit": 0}, ["$.limit"]),
        ({"skip": -1}, ["$.skip"]),
        ({"skip": -1, "limit": -1}, ["$.limit", "$.skip"]),
    ],
    ids=str,
)
async def test_a_page_of_less_than_nothing_is_refused(
    rpc: Rpc, page: dict[str, int], paths: list[str]
) -> None:
    error = await rpc.refusal("snapshot.list", domain="test", **page)
    assert (error.code, sorted(problem.path for problem in error.problems)) == (-32602, paths)


@pytest.mark.checklist(19, ours="counting is a method of its own, `snapshot.count`")
async def test_counting_lists_nothing(rpc: Rpc, vm: Domain) -> None:
    await grow(rpc)
    assert set(await rpc.call("snapshot.count", domain="test")) == {"count", "generation"}
    assert (await vm.count_snapshots()).count == 4
    assert (await vm.count_snapshots(of="s1", flags=0x1)).count == 3


# --- what a driver lacks ---


class Onlooker(SimulatedDriver):
    """A driver that leaves out what every driver may leave out of snapshots."""

    check_take, take = Driver.check_take, Driver.take
    check_revert, revert = Driver.check_revert, Driver.revert
    discard = Driver.discard


@pytest.mark.checklist(20, ours="the capability is named, with the driver that lacks it")
@pytest.mark.parametrize(
    ("method", "params", "capability"),
    [
        ("snapshot.create", {"xml": "<domainsnapshot/>"}, "snapshot-take"),
        ("snapshot.revert", {"snapshot": "s1"}, "snapshot-revert"),
        ("snapshot.delete", {"snapshot": "s1"}, "snapshot-delete"),
    ],
)
async def test_what_a_driver_lacks_is_named(
    running: Running, rpc: Rpc, method: str, params: dict[str, str], capability: str
) -> None:
    await rpc.take("s1")
    running.hypervisor.driver = Onlooker(running.driver.uri, running.driver.context)
    with running.nothing_changes():
        refused = await refusal(rpc, method, domain="test", **params)
    prefix = "this function is not supported by the connection driver: "
    assert refused == Refusal(3, "no-support", f"{prefix}{capability} (driver test)")


# --- handles that outlive what they name ---


@pytest.mark.checklist(21)
async def test_a_handle_of_a_deleted_snapshot_finds_nothing(running: Running, rpc: Rpc, vm: Domain) -> None:
    await rpc.take("s1")
    handle = vm.snapshot("s1")
    await handle.delete()
    gone = not_found("no domain snapshot with matching name 's1'")
    with running.nothing_changes():
        for call in (handle.info, handle.xml, handle.parent, handle.revert, handle.delete):
            assert await raised(call) == gone
        assert await raised(lambda: vm.snapshots(of="s1")) == gone
        assert await raised(lambda: vm.count_snapshots(of="s1")) == gone


@pytest.mark.checklist(22)
async def test_a_handle_of_an_undefined_domain_finds_nothing(rpc: Rpc, vm: Domain) -> None:
    await rpc.take("s1")
    handle = vm.snapshot("s1")
    await vm.destroy()
    await vm.undefine(flags=0x2)
    gone = Refusal(42, "no-domain", "Domain not found: no domain with matching name 'test'")
    for call in (handle.info, handle.xml, handle.parent, handle.revert, handle.delete):
        assert await raised(call) == gone
    for listing in (vm.snapshots, vm.count_snapshots, vm.current_snapshot, vm.create_snapshot):
        assert await raised(listing) == gone
    assert (await rpc.call("domain.list"))["domains"] == []


# --- the order of the checks of each call; domain and snapshot come first, as a client of libvirt looks them up ---

MISSING_DOMAIN: Final = Refusal(42, "no-domain", "Domain not found: no domain with matching name 'nobody'")

CREATE_RUNGS: Final[Rungs] = {
    "no such domain": MISSING_DOMAIN,
    "current": flags_refused(f"Flag '{CREATE}REDEFINE' is required by flag '{CREATE}CURRENT'"),
    "halted transient": invalid_now("cannot halt after transient domain snapshot"),
    "wrong root": xml_refused("expecting root element of 'domainsnapshot', not 'domain'"),
    "manual memory": xml_refused("'manual' memory snapshot mode not supported"),
    "nameless disk": internal_error("missing name from disk snapshot element"),
    "manual disk": Refusal(
        84,
        "operation-unsupported",
        "Operation not supported: 'manual' snapshot mode is not supported by the test driver",
    ),
    "too many disks": config_refused("too many disk snapshot requests for domain"),
    "unknown disk": config_refused("no disk named 'vdz'"),
    "taken name": Refusal(9, "snapshot-exists", "operation failed: domain moment s1 already exists"),
}


def bad_request(faults: frozenset[str]) -> dict[str, object]:
    """Return the parameters of a snapshot.create that has these faults."""
    disks = ""
    if "nameless disk" in faults:
        disks += "<disk/>"
    if "manual disk" in faults:
        disks += "<disk name='vda' snapshot='manual'/>"
    if "unknown disk" in faults:
        disks += "<disk name='vdz'/>"
    if "too many disks" in faults:
        disks += "<disk name='vdy'/>" * 2
    root = "domain" if "wrong root" in faults else "domainsnapshot"
    memory = "<memory snapshot='manual'/>" if "manual memory" in faults else ""
    return {
        "domain": "nobody" if "no such domain" in faults else "brief",
        "xml": f"<{root}><name>s1</name>{memory}<disks>{disks}</disks></{root}>",
        "flags": [
            flag for flag, fault in (("current", "current"), ("halt", "halted transient")) if fault in faults
        ],
    }


@pytest.mark.checklist(4)
@pytest.mark.parametrize(("faults", "refused"), ladder(CREATE_RUNGS))
async def test_a_create_with_several_faults_is_refused_for_the_first_that_libvirt_finds(
    running: Running, rpc: Rpc, brief: str, faults: frozenset[str], refused: Refusal
) -> None:
    await rpc.take("s1", domain=brief)
    with running.nothing_changes(brief):
        assert await refusal(rpc, "snapshot.create", **bad_request(faults)) == refused


REVERT_RUNGS: Final[Rungs] = {
    "no such domain": MISSING_DOMAIN,
    "no such snapshot": not_found("no domain snapshot with matching name 'nobody'"),
    "both states": flags_refused(f"Flags '{REVERT}RUNNING' and '{REVERT}PAUSED' are mutually exclusive"),
    "ending transient": invalid_now(
        "transient domain needs to request run or pause to revert to inactive snapshot"
    ),
    "no definition": Refusal(
        77,
        "snapshot-revert-risky",
        "revert requires force: snapshot 'bare' lacks domain 'brief' rollback info",
    ),
}


@pytest.mark.parametrize(("faults", "refused"), ladder(REVERT_RUNGS))
async def test_a_revert_with_several_faults_is_refused_for_the_first_that_libvirt_finds(
    running: Running, rpc: Rpc, brief: str, faults: frozenset[str], refused: Refusal
) -> None:
    domain = running.domain(brief)
    bare = Snapshot(name="bare", state="shutoff", creation_time=1)
    await running.hypervisor.domains.record(domain, domain.hierarchy.forest.insertion(bare, current=False))
    states = ["running"] if "ending transient" not in faults else []
    with running.nothing_changes(brief):
        found = await refusal(
            rpc,
            "snapshot.revert",
            domain="nobody" if "no such domain" in faults else brief,
            snapshot="nobody" if "no such snapshot" in faults else "bare",
            flags=["running", "paused"] if "both states" in faults else states,
        )
    assert found == refused


DELETE_RUNGS: Final[Rungs] = {
    "no such domain": MISSING_DOMAIN,
    "no such snapshot": not_found("no domain snapshot with matching name 'nobody'"),
    "both extents": flags_refused(
        f"Flags '{DELETE}CHILDREN' and '{DELETE}CHILDREN_ONLY' are mutually exclusive"
    ),
}


@pytest.mark.parametrize("metadata", [[], ["metadata-only"]], ids=["data", "metadata"])
@pytest.mark.parametrize(("faults", "refused"), ladder(DELETE_RUNGS))
async def test_a_delete_with_several_faults_is_refused_for_the_first_that_libvirt_finds(
    running: Running, rpc: Rpc, faults: frozenset[str], refused: Refusal, metadata: list[str]
) -> None:
    await grow(rpc)
    with running.nothing_changes():
        found = await refusal(
            rpc,
            "snapshot.delete",
            domain="nobody" if "no such domain" in faults else "test",
            snapshot="nobody" if "no such snapshot" in faults else "s1",
            flags=metadata + (["children", "children-only"] if "both extents" in faults else []),
        )
    assert found == refused
