"""domain.undefine: what must be allowed to go with the definition, and which flags a driver takes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.daemon import Running, running_daemon, settings

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tests.support.rpc import Rpc

QEMU = """<domain type='qemu'><name>vm</name><memory>16384</memory>
<os><type arch='x86_64' machine='pc'>hvm</type></os></domain>"""


@pytest.fixture
async def qemu(short_tmp: Path) -> AsyncIterator[tuple[Running, Rpc]]:
    """Run a daemon with the qemu driver, and a client; the domain `vm` is defined."""
    async with running_daemon(settings(short_tmp, drivers=("qemu",))) as running, running.client() as client:
        await client.call("domain.define", xml=QEMU)
        yield running, client


@pytest.mark.parametrize(
    ("flags", "named"),
    [
        (["nvram"], "nvram"),
        (["checkpoints-metadata"], "checkpoints-metadata"),
        (["snapshots-metadata", "keep-nvram"], "keep-nvram"),
        (["tpm", "managed-save", "keep-tpm"], "tpm, keep-tpm"),
    ],
)
async def test_the_simulated_driver_takes_the_flags_of_libvirt_s_test_driver(
    running: Running, rpc: Rpc, flags: list[str], named: str
) -> None:
    await rpc.call("domain.destroy", domain="test")
    with running.nothing_changes():
        error = await rpc.refusal("domain.undefine", domain="test", flags=flags)
    assert (error.code, str(error)) == (8, f"unsupported flags ({named}) in method domain.undefine")
    await rpc.call("domain.undefine", domain="test", flags=["snapshots-metadata", "managed-save"])


@pytest.mark.parametrize("kind", ["nvram", "TPM"])
async def test_what_is_to_be_kept_is_not_to_be_deleted(qemu: tuple[Running, Rpc], kind: str) -> None:
    running, client = qemu
    with running.nothing_changes("vm"):
        error = await client.refusal(
            "domain.undefine", domain="vm", flags=[f"keep-{kind.lower()}", kind.lower()]
        )
    assert str(error) == f"Requested operation is not valid: cannot both keep and delete {kind}"


@pytest.mark.parametrize(
    "flags",
    [
        [],
        ["nvram", "tpm"],
        ["keep-nvram", "keep-tpm"],
        ["managed-save", "snapshots-metadata", "checkpoints-metadata", "nvram", "keep-tpm"],
    ],
)
async def test_flags_about_what_a_domain_does_not_have_are_harmless(
    qemu: tuple[Running, Rpc], flags: list[str]
) -> None:
    _, client = qemu
    await client.call("domain.undefine", domain="vm", flags=flags)
    assert (await client.call("domain.list"))["domains"] == []


async def test_a_managed_save_is_refused_before_snapshots(running: Running, rpc: Rpc) -> None:
    await rpc.take("s1")
    await rpc.call("save.manage", domain="test")
    saved = "Refusing to undefine while domain managed save image exists"
    snapshots = "cannot delete inactive domain with 1 snapshots"
    for flags, message in (
        ([], saved),
        (["snapshots-metadata"], saved),
        (["managed-save"], snapshots),
    ):
        with running.nothing_changes():
            error = await rpc.refusal("domain.undefine", domain="test", flags=flags)
        assert str(error) == f"Requested operation is not valid: {message}"
    await rpc.call("domain.undefine", domain="test", flags=["managed-save", "snapshots-metadata"])
    assert (await rpc.call("domain.list"))["domains"] == []
