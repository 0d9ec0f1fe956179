"""Snapshots as the tests of the daemon speak of them: documents, and a tree of four."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from tests.support.rpc import Frame, Rpc

UUID: Final = "6695eb01-f6a4-8304-79aa-97f2502e193f"
"""The default domain's."""
TRANSIENT: Final = """<domain type='test'><name>brief</name><uuid>11111111-2222-3333-4444-555555555555</uuid>
<memory>1024</memory><os><type>hvm</type></os></domain>"""


def record(
    name: str, *, state: str = "running", parent: str | None = None, domain: str, inner: str = ""
) -> str:
    """Return a document that can be redefined."""
    above = f"<parent><name>{parent}</name></parent>" if parent else ""
    return (
        f"<domainsnapshot><name>{name}</name><state>{state}</state><creationTime>1000</creationTime>"
        f"{above}{inner}{domain}</domainsnapshot>"
    )


async def document(rpc: Rpc, name: str, domain: str = "test") -> str:
    """Return a snapshot's document with everything that redefining it needs."""
    xml: str = (await rpc.call("snapshot.xml", domain=domain, snapshot=name, flags=["secure"]))["xml"]
    return xml


async def redefine(rpc: Rpc, xml: str, *flags: str, domain: str = "test") -> Frame:
    """Record a snapshot from its document."""
    return await rpc.call("snapshot.create", domain=domain, xml=xml, flags=["redefine", *flags])


async def grow(rpc: Rpc) -> None:
    """Make the tree s1 - (s2 - s3, s4), of which s4 is current."""
    for name in ("s1", "s2", "s3"):
        await rpc.take(name)
    await rpc.call("snapshot.revert", domain="test", snapshot="s1")
    await rpc.take("s4")
