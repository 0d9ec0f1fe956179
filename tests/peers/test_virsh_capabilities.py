"""The simulated host is that of libvirt's test driver, byte for byte."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import trio

from tests.support.daemon import running_daemon, settings

if TYPE_CHECKING:
    from pathlib import Path

IOMMU = r"<iommu support='(yes|no)'/>"
"""libvirt's test driver looks at the machine it runs on for this one; ours is the same everywhere."""


async def test_the_simulated_host_is_libvirt_s(short_tmp: Path) -> None:
    command = ["virsh", "-q", "-c", "test:///default", "capabilities"]
    virsh = (await trio.run_process(command, capture_stdout=True)).stdout.decode()
    async with running_daemon(settings(short_tmp)) as running, running.client(read_only=True) as rpc:
        ours = (await rpc.call("connection.capabilities"))["xml"]
    assert len(re.findall(IOMMU, ours)) == 1
    assert ours + "\n" == re.sub(IOMMU, "<iommu support='no'/>", virsh)
