"""kill -9 of the daemon at every write of its store, with real guests: data and metadata agree ever after."""

from __future__ import annotations

import json
import sqlite3
import subprocess
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

import virtsnap
from tests.support.crashing_daemon import Moment, crashing_command
from tests.support.guest import make_disk, socket_folder
from tests.support.qemu_host import Host, TickDomain
from virtsnap_protocol.errors import ConnectionLost

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from virtsnap.domain import BlockingDomain

MOMENTS: list[tuple[int, Moment]] = [(write, when) for write in range(1, 7) for when in ("before", "after")]
SECONDS = 60.0


@dataclass(frozen=True, kw_only=True)
class Scenario:
    """What there is, and the operation that the daemon does not survive."""

    prepare: Callable[[BlockingDomain], object]
    act: Callable[[BlockingDomain], object]
    names: tuple[str, ...]
    """Snapshots before it."""
    names_after: tuple[str, ...]
    transient: bool = False


def take(vm: BlockingDomain, *names: str) -> None:
    for name in names:
        vm.take(name)


def run_and_take(vm: BlockingDomain, *names: str) -> None:
    vm.start()
    take(vm, *names)


def run_take_and_stop(vm: BlockingDomain, *names: str) -> None:
    run_and_take(vm, *names)
    vm.destroy()


def take_run_and_take(vm: BlockingDomain, off: str, running: str) -> None:
    take(vm, off)
    run_and_take(vm, running)


SCENARIOS = {
    "take of a running domain": Scenario(
        prepare=lambda vm: run_and_take(vm, "s0"),
        act=lambda vm: vm.take("s1"),
        names=("s0",),
        names_after=("s0", "s1"),
    ),
    "take of a transient domain": Scenario(
        prepare=lambda vm: take(vm, "s0"),
        act=lambda vm: vm.take("s1"),
        names=("s0",),
        names_after=("s0", "s1"),
        transient=True,
    ),
    "take of a shut-off domain": Scenario(
        prepare=lambda vm: take(vm, "s0"),
        act=lambda vm: vm.take("s1"),
        names=("s0",),
        names_after=("s0", "s1"),
    ),
    "revert of a running domain": Scenario(
        prepare=lambda vm: run_and_take(vm, "s0", "s1"),
        act=lambda vm: vm.snapshot("s0").revert(),
        names=("s0", "s1"),
        names_after=("s0", "s1"),
    ),
    "revert of a shut-off domain": Scenario(
        prepare=lambda vm: run_take_and_stop(vm, "s0", "s1"),
        act=lambda vm: vm.snapshot("s0").revert(),
        names=("s0", "s1"),
        names_after=("s0", "s1"),
    ),
    "revert that shuts off": Scenario(
        prepare=lambda vm: take_run_and_take(vm, "s0", "s1"),
        act=lambda vm: vm.snapshot("s0").revert(),
        names=("s0", "s1"),
        names_after=("s0", "s1"),
    ),
    "delete": Scenario(
        prepare=lambda vm: run_and_take(vm, "s0", "s1"),
        act=lambda vm: vm.snapshot("s1").delete(),
        names=("s0", "s1"),
        names_after=("s0",),
    ),
}


@pytest.fixture
def host() -> Iterator[Host]:
    with socket_folder() as folder:
        host = Host(folder / "h")
        try:
            yield host
        finally:
            host.close()


def tags(path: Path) -> list[str]:
    output = subprocess.run(
        ["qemu-img", "info", "-U", "--output=json", str(path)], check=True, capture_output=True
    ).stdout
    return [entry["name"] for entry in json.loads(output).get("snapshots", [])]


@pytest.mark.parametrize("title", SCENARIOS)
def test_a_daemon_killed_at_any_write_leaves_images_and_metadata_of_one_mind(host: Host, title: str) -> None:
    scenario = SCENARIOS[title]
    kills = 0
    host.start()
    for write, moment in MOMENTS:
        tick = TickDomain(disks=[make_disk(host.folder / f"{kills}.{n}", boot=n == 0) for n in range(2)])
        prepare(host, tick, scenario)
        host.stop()
        survived = survives(host, tick, scenario, write, moment)
        host.start()
        outcome = settled(host, tick)
        if survived:
            break
        assert outcome in (scenario.names, scenario.names_after), f"killed {moment} write {write}"
        kills += 1
    else:
        pytest.fail("it writes more often than this test allows")
    assert outcome == scenario.names_after
    assert kills >= 4, "an operation is noted and recorded, and it can die before and after both"
    host.stop()
    assert "unfinished" not in host.check()


def prepare(host: Host, tick: TickDomain, scenario: Scenario) -> None:
    with virtsnap.connect(socket=host.socket, timeout=SECONDS) as connection:
        _ = connection.create(tick.xml) if scenario.transient else connection.define(tick.xml)
        scenario.prepare(connection.domain(tick.name))


def survives(host: Host, tick: TickDomain, scenario: Scenario, write: int, moment: Moment) -> bool:
    """Do it under a daemon that dies at this write; tell whether there was no such write."""
    doomed = Host(host.folder, command=crashing_command(write, moment))
    doomed.start()
    try:
        with virtsnap.connect(socket=doomed.socket, timeout=SECONDS) as connection:
            scenario.act(connection.domain(tick.name))
    except ConnectionLost:
        return False
    else:
        return True
    finally:
        doomed.stop()


def settled(host: Host, tick: TickDomain) -> tuple[str, ...]:
    """Hold the record against the images and QEMU, try it out, remove it; return the snapshots' names."""
    assert unfinished(host) == 0
    with virtsnap.connect(socket=host.socket, timeout=SECONDS) as connection:
        vm = connection.domain(tick.name)
        names = tuple(snapshot.name for snapshot in vm.snapshots().snapshots)
        domain = vm.info().domain
        assert [tags(path) for path in tick.disks] == [list(names)] * 2
        assert len(host.guests()) == (domain.id is not None)
        assert (domain.needs_attention, domain.current_snapshot in names) == (None, True)
        vm.snapshot("s0").revert(running=True)
        vm.take("after")
        assert [tags(path) for path in tick.disks] == [[*names, "after"]] * 2
        vm.destroy()
        if domain.persistent:
            vm.undefine(snapshots_metadata=True)
    return names


def unfinished(host: Host) -> int:
    """Return how many operations the store says to be under way."""
    with closing(sqlite3.connect(f"file:{host.state}/store.sqlite?mode=ro", uri=True)) as store:
        count: int = store.execute("SELECT count(*) FROM operations").fetchone()[0]
    return count
