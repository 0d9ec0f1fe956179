"""Group N: limits; who may do what is proven in tests/snapd/test_access.py."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import pytest

from virtsnapd.models.forest import Change
from virtsnapd.models.snapshot import Snapshot

if TYPE_CHECKING:
    from tests.support.daemon import Running
    from tests.support.rpc import Rpc

LIBVIRT_LIST_MAX: Final = 16384
"""REMOTE_DOMAIN_SNAPSHOT_LIST_MAX."""
MANY: Final = LIBVIRT_LIST_MAX + 1
MIB: Final = 1024 * 1024
"""Bytes."""


@pytest.fixture
async def many(running: Running) -> int:
    """Record one snapshot more than libvirt can list; return how many there are."""
    domain = running.domain()
    snapshots = [
        Snapshot(name=f"s{n}", state="running", creation_time=1, domain=domain.digest) for n in range(MANY)
    ]
    await running.hypervisor.domains.record(domain, Change(put=tuple(snapshots)))
    return MANY


@pytest.mark.checklist(274, ours="there is no limit to a listing")
async def test_any_number_of_snapshots_is_listed_and_counted(rpc: Rpc, many: int) -> None:
    listing = await rpc.call("snapshot.list", domain="test")
    assert len(listing["snapshots"]) == listing["total"] == many
    assert (await rpc.call("snapshot.count", domain="test"))["count"] == many


@pytest.mark.checklist(
    275, ours="a page may be of any length from one on; one that makes no sense is refused by its path"
)
async def test_a_page_may_be_as_long_as_one_likes(rpc: Rpc, many: int) -> None:
    listing = await rpc.call("snapshot.list", domain="test", skip=1, limit=2**40)
    assert (len(listing["snapshots"]), listing["total"]) == (many - 1, many)
    error = await rpc.refusal("snapshot.list", domain="test", limit=-1)
    assert (error.code, [problem.path for problem in error.problems]) == (-32602, ["$.limit"])


def described(length: int) -> str:
    """Return a request for a snapshot that has so many characters."""
    frame = "<domainsnapshot><name>s1</name><description>{}</description></domainsnapshot>"
    return frame.format("x" * (length - len(frame) + 2))


@pytest.mark.checklist(
    276, ours="a document may have libvirt's 4 MiB; the answer names the one that is too long"
)
async def test_a_document_may_have_4_mib(running: Running, rpc: Rpc) -> None:
    with running.nothing_changes():
        error = await rpc.refusal("snapshot.create", domain="test", xml=described(4 * MIB + 1))
    assert (error.code, error.kind) == (-32602, "invalid-params")
    assert str(error).endswith(f"Expected `str` of length <= {4 * MIB} - at `$.xml`")
    await rpc.call("snapshot.create", domain="test", xml=described(4 * MIB))
    assert await rpc.tree() == {"s1": None}
