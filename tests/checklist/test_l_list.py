"""Group L: snapshot-list, as a table, as names and as a tree."""

from __future__ import annotations

import re
from datetime import datetime
from typing import TYPE_CHECKING, Final

import pytest

from tests.support.snapshots import record, redefine

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tests.checklist.conftest import CommandLine
    from tests.support.rpc import Rpc

SAMPLE: Final = {
    "s1": None,
    "s3": "s1",
    "s2": "s3",
    "s6": "s3",
    "s4": "s6",
    "s5": "s6",
    "s7": "s1",
    "s8": "s7",
}
DATE: Final = "YYYY-MM-DD HH:MM:SS +ZZZZ"


async def plant(rpc: Rpc, definition: str, tree: Mapping[str, str | None], state: str = "running") -> None:
    """Record a tree of snapshots, each of another second."""
    for number, (name, parent) in enumerate(tree.items()):
        xml = record(name, parent=parent, state=state, domain=definition)
        await redefine(rpc, xml.replace(">1000<", f">{1_000_000_000 + number}<"))


def drawn(*lines: str) -> str:
    """Return an output of these lines, with the empty one that ends what a command prints."""
    return "".join(f"{line}\n" for line in (*lines, ""))


async def shown(virtsnap: CommandLine, options: str) -> str:
    """Return what is listed, with every date replaced by one of the same width."""
    said = await virtsnap(f"snapshot-list test {options}")
    assert (said.err, said.status) == ("", 0)
    return re.sub(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d [+-]\d{4}", DATE, said.out)


@pytest.mark.checklist(248)
async def test_a_table_is_as_wide_as_its_widest_cells(
    rpc: Rpc, virtsnap: CommandLine, definition: str
) -> None:
    assert await shown(virtsnap, "") == drawn(
        " Name   Creation Time   State", "-------------------------------"
    )
    await plant(rpc, definition, {"b": None, "A": "b", "a long name": "A", "Z": None, "c": "Z"})
    await redefine(rpc, record("\u00e9", state="shutoff", parent="c", domain=definition))
    assert await shown(virtsnap, "") == drawn(
        " Name          Creation Time               State",
        "----------------------------------------------------",
        f" A             {DATE}   running",
        f" a long name   {DATE}   running",
        f" b             {DATE}   running",
        f" c             {DATE}   running",
        f" Z             {DATE}   running",
        f" \u00e9             {DATE}   shutoff",
    )
    assert await shown(virtsnap, "--parent --from b --descendants") == drawn(
        " Name          Creation Time               State     Parent",
        "-------------------------------------------------------------",
        f" A             {DATE}   running   b",
        f" a long name   {DATE}   running   A",
    )
    assert await shown(virtsnap, "--parent --no-leaves") == drawn(
        " Name   Creation Time               State     Parent",
        "------------------------------------------------------",
        f" A      {DATE}   running   b",
        f" b      {DATE}   running   ",
        f" c      {DATE}   running   Z",
        f" Z      {DATE}   running   ",
    )


@pytest.mark.checklist(248)
async def test_the_time_is_that_of_the_user_s_zone(rpc: Rpc, virtsnap: CommandLine, definition: str) -> None:
    await plant(rpc, definition, {"s1": None})
    line = (await virtsnap("-q", "snapshot-list test")).out
    found = re.fullmatch(r" s1   (\d{4}-\d\d-\d\d \d\d:\d\d:\d\d [+-]\d{4})   running\n", line)
    assert found is not None
    assert datetime.strptime(found[1], "%Y-%m-%d %H:%M:%S %z").timestamp() == 1_000_000_000


@pytest.mark.checklist(249)
@pytest.mark.parametrize("more", ["", " --leaves", " --from z --descendants"])
async def test_parents_come_before_their_children_when_that_is_asked_for(
    rpc: Rpc, virtsnap: CommandLine, definition: str, more: str
) -> None:
    tree = {"z": None, "y": "z", "x": "y", "w": "x", "v": "y", "a": None}
    await plant(rpc, definition, tree)
    by_name = (await virtsnap("snapshot-list", "test", "--name", *more.split())).out
    assert by_name.split() == sorted(by_name.split())
    seen: list[str | None] = [None]
    for name in (
        await virtsnap("snapshot-list", "test", "--name", "--topological", *more.split())
    ).out.split():
        above = tree[name]
        assert above in seen or above not in by_name.split()
        seen.append(name)
    assert len(seen) == 1 + len(by_name.split())


TREE: Final = drawn(
    "s1",
    "  |",
    "  +- s3",
    "  |   |",
    "  |   +- s2",
    "  |   +- s6",
    "  |       |",
    "  |       +- s4",
    "  |       +- s5",
    "  |         ",
    "  +- s7",
    "      |",
    "      +- s8",
    "        ",
)


@pytest.mark.checklist(250)
async def test_a_tree_is_drawn_as_virsh_draws_it(rpc: Rpc, virtsnap: CommandLine, definition: str) -> None:
    await plant(rpc, definition, SAMPLE)
    assert await shown(virtsnap, "--tree") == TREE


@pytest.mark.checklist(250)
async def test_every_root_has_a_tree_of_its_own(rpc: Rpc, virtsnap: CommandLine, definition: str) -> None:
    await plant(rpc, definition, {"b": None, "c": None, "d": "c", "A": None})
    assert await shown(virtsnap, "--tree") == drawn("A", "", "b", "", "c", "  |", "  +- d", "    ")


@pytest.mark.checklist(254)
@pytest.mark.parametrize(
    ("options", "lines"),
    [
        ("--from s3", ("s3", "  |", "  +- s2", "  +- s6", "    ")),
        (
            "--from s3 --descendants",
            ("s3", "  |", "  +- s2", "  +- s6", "      |", "      +- s4", "      +- s5", "        "),
        ),
        ("--from s4", ("s4", "")),
        ("--current", ("s7", "  |", "  +- s8", "    ")),
    ],
)
async def test_a_tree_from_a_snapshot_has_one_level_unless_all_are_asked_for(
    rpc: Rpc, virtsnap: CommandLine, definition: str, options: str, lines: tuple[str, ...]
) -> None:
    await plant(rpc, definition, SAMPLE)
    await redefine(rpc, record("s7", parent="s1", domain=definition), "current")
    assert await shown(virtsnap, f"--tree {options}") == drawn(*lines)


@pytest.mark.checklist(
    255, ours="names alone, one per line: what virsh prints too, for all that its manual says"
)
async def test_names_stand_alone_with_or_without_parents(
    rpc: Rpc, virtsnap: CommandLine, definition: str
) -> None:
    await plant(rpc, definition, {"b": None, "A": "b", "c": "A"})
    assert await shown(virtsnap, "--name --parent") == await shown(virtsnap, "--name") == drawn("A", "b", "c")
