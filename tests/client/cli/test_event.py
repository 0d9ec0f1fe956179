"""The event command: what it says of an event, and the numbers it takes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import pytest

from tests.support.samples import lifecycle_event
from virtsnap.cli.event import describe

if TYPE_CHECKING:
    from tests.client.cli.conftest import Cli

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


@pytest.mark.parametrize("number", ["9" * 5000, "0", "-1", "1.5"])
def test_a_number_that_is_none_is_refused_however_long(cli: Cli, number: str) -> None:
    expected = f"error: Numeric value '{number}' for <timeout> option is malformed or out of range\n"
    assert cli("event", "--all", "--timeout", number) == (1, "\n", expected)


def test_a_position_that_is_none_is_refused_however_long(cli: Cli) -> None:
    status, _, err = cli("event", "--all", "--since", "epoch:" + "9" * 5000)
    assert status == 1
    assert err.endswith("is not a position of the form EPOCH:SEQ\n")
