"""One line on an event."""

from __future__ import annotations

import msgspec

from tests.support.samples import lifecycle_event
from virtsnap.cli.event import describe

EVENT = lifecycle_event(1)
OF_SNAPSHOT = msgspec.structs.replace(EVENT, lifecycle=None, detail=None, snapshot="s2")


def test_a_renamed_snapshot_is_told_with_both_names() -> None:
    event = msgspec.structs.replace(OF_SNAPSHOT, kind="snapshot.renamed", former="s1")
    assert describe(event) == "event 'snapshot' for domain 'vm': Renamed s1 to s2"


def test_other_events_of_snapshots_are_told_with_the_name() -> None:
    event = msgspec.structs.replace(OF_SNAPSHOT, kind="snapshot.current-changed")
    assert describe(event) == "event 'snapshot' for domain 'vm': Current changed s2"


def test_a_domain_that_goes_on_is_told_in_virshs_words() -> None:
    event = msgspec.structs.replace(EVENT, detail="from-snapshot")
    assert describe(event) == "event 'lifecycle' for domain 'vm': Started Snapshot"
