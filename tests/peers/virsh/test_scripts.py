"""Our own scripts through virsh and through ours: the same bytes, but for what the tables of differences name."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, Final

import pytest
import trio

from tests.peers.virsh.comparison import expected, explanation, steadied, told
from tests.peers.virsh.differences import ADDED, INTENDED, VOLATILE
from tests.peers.virsh.harness import run_both, transcript
from tests.peers.virsh.scripts import read_scripts

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from tests.peers.virsh.harness import Outcome, Script

SCRIPTS: Final = read_scripts()
ENOUGH: Final = 300
"""Scripts there are at least: reading them must not lose any."""


class Outcomes:
    """What both said, script by script. Each is run once; those of a subject side by side."""

    def __init__(self) -> None:
        self._known: dict[Script, tuple[Outcome, Outcome]] = {}

    def of(self, script: Script) -> tuple[Outcome, Outcome]:
        """Return virsh's outcome and ours, each from a process of its own."""
        if script not in self._known:
            trio.run(self._run, next(scripts for scripts in SCRIPTS.values() if script in scripts))
        return self._known[script]

    def of_all(self) -> Iterator[tuple[Script, Outcome, Outcome]]:
        """Yield every script with both outcomes."""
        for scripts in SCRIPTS.values():
            for script in scripts:
                yield script, *self.of(script)

    async def _run(self, scripts: Iterable[Script]) -> None:
        limiter = trio.CapacityLimiter(os.cpu_count() or 1)

        async def run(script: Script) -> None:
            async with limiter:
                self._known[script] = await run_both(script)

        async with trio.open_nursery() as nursery:
            for script in scripts:
                nursery.start_soon(run, script)


@pytest.fixture(scope="module")
def outcomes() -> Outcomes:
    return Outcomes()


def _named(script: Script) -> str:
    return re.sub(r"[^\x20-\x7e]", "?", script.title)


@pytest.mark.parametrize(
    "script",
    [
        pytest.param(script, id=f"{subject}: {_named(script)}")
        for subject, scripts in SCRIPTS.items()
        for script in scripts
    ],
)
def test_a_script_says_the_same_in_both(script: Script, outcomes: Outcomes) -> None:
    virsh, ours = outcomes.of(script)
    wanted, found = expected(script, virsh), told(script, ours)
    if found != wanted:
        pytest.fail(explanation(script, wanted, found), pytrace=False)


def test_no_script_is_lost() -> None:
    assert sum(map(len, SCRIPTS.values())) >= ENOUGH


def test_every_intended_difference_is_needed(outcomes: Outcomes) -> None:
    unneeded = set(INTENDED)
    for script, virsh, ours in outcomes.of_all():
        text, found = transcript(script, virsh), told(script, ours)
        for row in [row for row in unneeded if re.search(rf"(?m)^{row.virsh}", text)]:
            if expected(script, virsh, [other for other in INTENDED if other is not row]) != found:
                unneeded.remove(row)
    assert not unneeded


def test_everything_said_to_be_added_is_added(outcomes: Outcomes) -> None:
    unneeded = set(ADDED)
    for script, _, ours in outcomes.of_all():
        text = transcript(script, ours)
        unneeded -= {row for row in unneeded if re.search(rf"(?m)^{row.ours}", text)}
    assert not unneeded


def test_everything_said_to_be_volatile_is_seen_in_both(outcomes: Outcomes) -> None:
    seen: list[set[str]] = [set(), set()]
    for script, *both in outcomes.of_all():
        for words, outcome in zip(seen, both, strict=True):
            text = steadied(transcript(script, outcome), script, outcome)
            words |= {row.word for row in VOLATILE if row.word in text}
    assert seen == [{row.word for row in VOLATILE}] * 2
