"""Ordinary values of the protocol's types, for tests that care about one field."""

from __future__ import annotations

from typing import Final

from virtsnap_protocol.methods import connection, domain, event, snapshot

UUID: Final = "6695eb01-f6a4-8304-79aa-97f2502e193f"

POSITION: Final = event.Position(epoch="e", seq=0)
DOMAIN: Final = domain.DomainInfo(
    name="vm",
    uuid=UUID,
    id=1,
    state="running",
    reason="booted",
    persistent=True,
    os_type="hvm",
    vcpus=2,
    max_memory=2 << 30,
    memory=1 << 30,
    managed_save=False,
    snapshots=0,
    current_snapshot=None,
    generation=0,
    needs_attention=None,
)
SNAPSHOT: Final = snapshot.SnapshotInfo(
    name="s1",
    parent=None,
    creation_time=1_700_000_000,
    state="running",
    location="internal",
    current=True,
    has_metadata=True,
    children=0,
    descendants=0,
    description=None,
)
HELLO: Final = connection.HelloResult(
    name="virtsnapd",
    version="0.1.0",
    protocol=1,
    drivers=[
        connection.DriverInfo(
            uri="test:///default",
            scheme="test",
            available=True,
            reason=None,
            version="2",
            capabilities=[],
        )
    ],
    limits=connection.Limits(frame_bytes=1, requests_in_flight=1, clients=1),
    you=connection.Identity(uid=0, gid=0, pid=1, read_only=False),
    uri="test:///default",
)


def lifecycle_event(seq: int, epoch: str = "e") -> event.Event:
    """Return the event that the sample domain was started."""
    return event.Event(
        epoch=epoch,
        seq=seq,
        time=1_700_000_000,
        kind="domain.lifecycle",
        uri="test:///default",
        domain=DOMAIN.name,
        uuid=UUID,
        id=1,
        lifecycle="started",
        detail="booted",
    )
