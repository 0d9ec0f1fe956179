"""Random scripts through virsh and through ours: the same bytes, but for what the tables of differences name."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

import pytest
import trio
from hypothesis import given, settings

from tests.peers.virsh.comparison import expected, explanation, told
from tests.peers.virsh.fork_server import ForkServer, fork_server
from tests.peers.virsh.generation import SCRIPTS
from tests.peers.virsh.harness import Script, run_both

if TYPE_CHECKING:
    from collections.abc import Iterator

EXAMPLES: Final = int(os.environ.get("VIRTSNAP_PEER_EXAMPLES", "500"))
"""Set the variable to look further: a thousand take about 45 seconds. Beyond two minutes give pytest
``-o faulthandler_timeout=0`` too, else it shows where the test is then."""


@pytest.fixture(scope="module")
def forks() -> Iterator[ForkServer]:
    with fork_server() as server:
        yield server


@pytest.fixture(scope="module")
def seen() -> set[Script]:
    """Scripts that agree: many choices make the same one, above all when a failing one shrinks."""
    return set()


@settings(max_examples=EXAMPLES)
@given(script=SCRIPTS)
def test_a_random_script_says_the_same_in_both(script: Script, forks: ForkServer, seen: set[Script]) -> None:
    if script in seen:
        return
    theirs, ours = trio.run(run_both, script, forks)
    wanted, found = expected(script, theirs), told(script, ours)
    if found != wanted:
        pytest.fail(explanation(script, wanted, found), pytrace=False)
    seen.add(script)
