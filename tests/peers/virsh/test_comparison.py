"""The comparison of virsh with ours hides what the tables name, and nothing else."""

from __future__ import annotations

import re
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Final

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from tests.peers.virsh.comparison import expected, steadied, told, without_difference
from tests.peers.virsh.differences import INTENDED, Intended
from tests.peers.virsh.generation import POOLS, STATES
from tests.peers.virsh.harness import Outcome, Script, transcript

NOW: Final = 1795388987
SCRIPT: Final = Script(commands=("list", "domstate test"))
BETWEEN: Final = "\n@@1@@\n"
NAMES: Final = sorted({name for names in POOLS for name in names})


def outcome(stdout: str = "", stderr: str = "", status: int = 0) -> Outcome:
    folder = Path("/dev/shm/vs-1")  # noqa: S108 - only its name
    return Outcome(stdout=stdout, stderr=stderr, status=status, began=NOW, ended=NOW + 1.5, folder=folder)


def local(seconds: int) -> str:
    zone = timezone(timedelta(hours=5, minutes=30))
    return datetime.fromtimestamp(seconds, zone).strftime("%Y-%m-%d %H:%M:%S %z")


def test_a_transcript_tells_which_command_said_what_on_which_stream() -> None:
    done = outcome(f"one\n{BETWEEN}two", "error: a\nerror: @@1@@\nerror: b\n", 1)
    assert transcript(SCRIPT, done) == (
        "$ list\n  one\n! error: a\n$ domstate test\n  two\n\\ no newline\n! error: b\nstatus 1\n"
    )


outputs = st.text(alphabet="ab \n!$\\", max_size=12)
outcomes = st.builds(outcome, outputs, outputs, st.integers(0, 2))


@given(one=outcomes, other=outcomes)
def test_two_outcomes_have_one_transcript_only_if_they_are_the_same(one: Outcome, other: Outcome) -> None:
    script = Script(commands=("list",))
    same = (one.stdout, one.stderr, one.status) == (other.stdout, other.stderr, other.status)
    assert (transcript(script, one) == transcript(script, other)) == same


@pytest.mark.parametrize("seconds", [NOW, NOW + 1])
def test_the_time_of_the_run_is_not_compared(seconds: int) -> None:
    text = steadied(f"  {seconds} {local(seconds)}\n", SCRIPT, outcome())
    assert text == "  <seconds> <local time>\n"


@pytest.mark.parametrize("seconds", [NOW - 1, NOW + 2, 1600000000, 1700000000])
def test_any_other_time_is_compared(seconds: int) -> None:
    text = f"  {seconds} {local(seconds)}\n"
    assert steadied(text, SCRIPT, outcome()) == text


def test_the_time_of_the_run_in_another_zone_is_the_same_time_but_not_another_hour() -> None:
    wrong = local(NOW).replace("+0530", "+0000")
    assert steadied(wrong, SCRIPT, outcome()) == wrong


def test_a_generated_uuid_is_not_compared_and_one_that_the_script_names_is() -> None:
    uuid = "6695eb01-f6a4-4304-89aa-97f2502e193f"
    assert steadied(uuid, SCRIPT, outcome()) == "<uuid>"
    assert steadied(uuid, Script(commands=(f"domstate {uuid}",)), outcome()) == uuid


def test_the_default_domain_s_uuid_is_compared() -> None:
    uuid = "6695eb01-f6a4-8304-79aa-97f2502e193f"
    assert steadied(uuid, SCRIPT, outcome()) == uuid


def test_the_folder_is_not_compared() -> None:
    assert steadied("/dev/shm/vs-1/home/s.sav", SCRIPT, outcome()) == "<folder>/home/s.sav"  # noqa: S108 - a name


@st.composite
def facts(draw: st.DrawFn) -> str:
    """Draw what virsh prints of a hierarchy: names, counts, states, whether something is current."""
    name, parent = draw(st.sampled_from(NAMES)), draw(st.sampled_from(["-", *NAMES]))
    lines = (
        f"Name:           {name}",
        f"Current:        {draw(st.sampled_from(('yes', 'no')))}",
        f"State:          {draw(st.sampled_from(STATES))}",
        f"Parent:         {parent}",
        f"Children:       {draw(st.integers(0, 99))}",
        f"Descendants:    {draw(st.integers(0, 20000))}",
        f" {name}   {local(draw(st.integers(0, NOW - 1)))}   {draw(st.sampled_from(STATES))}   {parent}",
        f"  +- {name}",
        f"Domain snapshot {name} created",
    )
    return "".join(f"{line}\n" for line in draw(st.permutations(lines)))


@given(virsh=facts(), ours=facts(), statuses=st.tuples(st.integers(0, 1), st.integers(0, 1)))
def test_names_counts_and_states_are_always_compared(
    virsh: str, ours: str, statuses: tuple[int, int]
) -> None:
    assume((virsh, statuses[0]) != (ours, statuses[1]))
    wanted = expected(SCRIPT, outcome(virsh, status=statuses[0]))
    assert told(SCRIPT, outcome(ours, status=statuses[1])) != wanted


@given(said=facts())
def test_what_is_the_same_is_equal(said: str) -> None:
    assert told(SCRIPT, outcome(said)) == expected(SCRIPT, outcome(said))


@pytest.mark.parametrize("row", INTENDED, ids=lambda row: row.virsh.strip()[:60])
def test_a_difference_is_about_whole_lines_and_has_a_reason(row: Intended) -> None:
    assert row.virsh.endswith("\n")
    assert row.ours.endswith("\n") or not row.ours
    assert row.reason
    re.compile(row.virsh)


def test_a_line_that_only_contains_a_difference_is_compared() -> None:
    row = Intended(virsh="! b\n", ours="! c\n", reason="as an example")
    assert without_difference(row, "! a b\n! b\n! b b\n") == "! a b\n! c\n! b b\n"


def test_the_status_is_ours_only_where_the_difference_is_said_last() -> None:
    row = Intended(virsh="! b\n", ours="  c\n", reason="as an example", status=0)
    assert without_difference(row, "! b\nstatus 1\n") == "  c\nstatus 0\n"
    assert without_difference(row, "! b\n$ list\n! a\nstatus 1\n") == "  c\n$ list\n! a\nstatus 1\n"


def test_what_we_add_is_left_out_and_what_we_say_otherwise_is_not() -> None:
    ours = outcome(stderr="error: no\nhint: try again\n  at /domain/name\nerror: @@1@@\nerror: hint: x\n")
    assert told(SCRIPT, ours) == "$ list\n! error: no\n$ domstate test\n! error: hint: x\nstatus 0\n"
