"""Commands on one snapshot: how it is named."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.fake_daemon import refusing
from virtsnap_protocol.errors import DomainNotFound

if TYPE_CHECKING:
    from tests.client.cli.conftest import Cli
    from tests.support.fake_daemon import FakeDaemon

COMMANDS = ["info", "parent", "revert", "delete"]


@pytest.mark.parametrize("command", COMMANDS)
def test_exactly_one_snapshot_is_named(cli: Cli, daemon: FakeDaemon, command: str) -> None:
    neither = "error: --snapshotname or --current is required\n"
    both = "error: --snapshotname and --current are mutually exclusive\n"
    assert cli(f"snapshot-{command} vm") == (1, "\n", neither)
    assert cli(f"snapshot-{command} vm s1 --current") == (1, "\n", both)
    assert {name for name in daemon.names if name.startswith("snapshot.")} == set()


@pytest.mark.parametrize("command", [*(f"{command} x" for command in COMMANDS), "list x --from s1 --current"])
def test_an_unknown_domain_is_told_before_a_snapshot_that_is_not_named(
    cli: Cli, daemon: FakeDaemon, command: str
) -> None:
    daemon.answers["domain.info"] = refusing(DomainNotFound("no domain with matching name 'x'"))
    assert cli(f"snapshot-{command}") == (1, "\n", "error: failed to get domain 'x'\n")
