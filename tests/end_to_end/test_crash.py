"""kill -9 of the daemon at every write of the store, during everything that changes snapshots.

Each kill point starts from a copy of one stored state, so that what is found afterwards can be compared with it.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeAlias

import pytest
import trio

from tests.support.crashing_daemon import MOMENTS, Moment, crashing_command, survives
from tests.support.daemon import Running, running_daemon, settings, stored
from tests.support.qemu_host import Host
from tests.support.rpc import Rpc, connected
from virtsnapd.models.forest import Forest

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator
    from pathlib import Path

    from virtsnap_protocol.methods.event import Event
    from virtsnapd.store import Loaded

WRITES_MAX: Final = 50
"""An operation that writes more often than this has lost its way."""

Tree: TypeAlias = dict[str, str | None]


@dataclass(frozen=True)
class Case:
    """A call, and the hierarchies that may be found after a crash in it: before, on the way, after."""

    call: Callable[[Rpc], Awaitable[object]]
    trees: tuple[tuple[Tree, str | None], ...]
    writes: int
    """How often it writes when nothing disturbs it."""


BEFORE: Final[tuple[Tree, str | None]] = ({"s1": None, "s2": "s1", "s3": "s2", "s4": "s1"}, "s4")


async def _create(rpc: Rpc) -> None:
    await rpc.take("s5")


async def _create_and_halt(rpc: Rpc) -> None:
    await rpc.take("s5", "halt")


async def _redefine(rpc: Rpc) -> None:
    document = (await rpc.call("snapshot.xml", domain="test", snapshot="s2", flags=["secure"]))["xml"]
    renamed = document.replace("<name>s2</name>", "<name>r</name>")
    await rpc.call("snapshot.create", domain="test", xml=renamed, flags=["redefine", "current"])


async def _delete(rpc: Rpc) -> None:
    await rpc.call("snapshot.delete", domain="test", snapshot="s1")


async def _delete_metadata(rpc: Rpc) -> None:
    await rpc.call("snapshot.delete", domain="test", snapshot="s1", flags=["children", "metadata-only"])


async def _delete_children(rpc: Rpc) -> None:
    await rpc.call("snapshot.delete", domain="test", snapshot="s2", flags=["children"])


async def _revert(rpc: Rpc) -> None:
    await rpc.call("snapshot.revert", domain="test", snapshot="s2", flags=["paused"])


TREE: Final = BEFORE[0]
CASES: Final = {
    "create": Case(_create, (BEFORE, ({**TREE, "s5": "s4"}, "s5")), writes=2),
    "create and halt": Case(_create_and_halt, (BEFORE, ({**TREE, "s5": "s4"}, "s5")), writes=3),
    "redefine": Case(_redefine, (BEFORE, ({**TREE, "r": "s1"}, "r")), writes=1),
    "delete": Case(_delete, (BEFORE, ({"s2": None, "s3": "s2", "s4": None}, "s4")), writes=2),
    "delete metadata": Case(_delete_metadata, (BEFORE, ({}, None)), writes=1),
    # each snapshot of a subtree is an operation of its own, leaves first
    "delete children": Case(
        _delete_children,
        (BEFORE, ({"s1": None, "s2": "s1", "s4": "s1"}, "s4"), ({"s1": None, "s4": "s1"}, "s4")),
        writes=4,
    ),
    "revert": Case(_revert, (BEFORE, (TREE, "s2")), writes=2),
}


@pytest.fixture
def template(short_tmp: Path) -> Path:
    """Return a state folder in which the domain has a tree of snapshots."""
    folder = short_tmp / "t"

    async def prepare() -> None:
        async with running_daemon(settings(folder)) as running, running.client() as rpc:
            for name in ("s1", "s2", "s3"):
                await rpc.take(name)
            await rpc.call("snapshot.revert", domain="test", snapshot="s1")
            await rpc.take("s4")

    trio.run(prepare)
    return folder / "s"


def runs(template: Path, case: Case, when: Moment) -> Iterator[tuple[int, Path, bool]]:
    """Yield for N = 1, 2, ... the folder of a host whose daemon was to die at its N-th write, and whether it lived."""
    for number in range(1, WRITES_MAX):
        folder = template.parents[1] / f"{when}{number}"
        shutil.copytree(template, folder / "s")
        host = Host(folder, drivers=("test",), command=crashing_command(number, when))
        lived = survives(host, case.call)
        yield number, folder, lived
        if lived or (
            number == case.writes and when != "before"
        ):  # one moment shows that there is no more to write
            return
    raise AssertionError("it writes and writes")


def hierarchy(loaded: Loaded) -> tuple[Tree, str | None]:
    ((head, snapshots),) = loaded.hierarchies
    return {snapshot.name: snapshot.parent for snapshot in snapshots}, head.current


def digest(loaded: Loaded) -> tuple[str, int]:
    ((head, snapshots),) = loaded.hierarchies
    return Forest(snapshots, head.current).digest(), head.generation


def news(loaded: Loaded, since: int) -> list[Event]:
    return [event for event in loaded.events if event.seq > since and event.kind != "domain.lifecycle"]


async def restarted(folder: Path) -> None:
    """Let a sound daemon take the store over, and see that it works."""
    async with running_daemon(settings(folder)) as running, running.client() as rpc:
        _agrees_with_the_store(running, stored(folder / "s"))
        await rpc.take("probe")
        await rpc.call("snapshot.revert", domain="test", snapshot="probe", flags=["running"])
        await rpc.call("snapshot.delete", domain="test", snapshot="probe")


def _agrees_with_the_store(running: Running, loaded: Loaded) -> None:
    domain = running.domain()
    assert (domain.hierarchy.digest, domain.hierarchy.generation) == digest(loaded)
    assert [domain.row] == loaded.domains
    assert domain.row.attention is None


def settled(folder: Path) -> Loaded:
    """Let a sound daemon settle what the dead one left unfinished; return what it has made of it."""

    async def start_and_stop() -> None:
        async with running_daemon(settings(folder)):
            pass

    trio.run(start_and_stop)
    return stored(folder / "s")


@pytest.mark.parametrize("when", MOMENTS)
@pytest.mark.parametrize("name", CASES)
def test_a_killed_daemon_leaves_a_consistent_store(template: Path, name: str, when: Moment) -> None:
    case = CASES[name]
    original = stored(template)
    kills = 0
    stages: list[int] = []
    for number, folder, lived in runs(template, case, when):
        assert lived == (number > case.writes), f"write {number}"
        kills += not lived
        left = stored(folder / "s")  # sound as it was left
        assert left.operations == [] or not lived, "an operation that was answered is not known to have ended"
        loaded = settled(folder)

        assert loaded.operations == [], f"write {number}: an operation is left"
        found = hierarchy(loaded)
        assert found in case.trees, f"write {number}: {found}"
        stages.append(case.trees.index(found))
        if stages[-1] == 0:
            assert digest(loaded) == digest(original), f"write {number}"
            assert news(loaded, original.seq) == [], f"write {number}: announced and not done"
        else:
            assert news(loaded, original.seq), f"write {number}: done and not announced"
        (row,) = loaded.domains
        assert row.attention is None
        trio.run(restarted, folder)
    assert kills == case.writes
    assert stages == sorted(stages), "a later death undid more"
    if when != "within":
        assert stages[-1] == len(case.trees) - 1, "a durable change was lost"


def test_a_killed_daemon_s_store_passes_the_check(template: Path) -> None:
    folder = template.parents[1] / "h"
    shutil.copytree(template, folder / "s")
    assert not survives(Host(folder, drivers=("test",), command=crashing_command(2, "within")), _revert)
    host = Host(folder, drivers=("test",))
    assert "4 snapshots, 1 unfinished operations" in host.check()
    host.start()
    try:
        assert "settling an interrupted revert of snapshot s2" in host.log.read_text()
        state = trio.run(_state_of_the_domain, host)
    finally:
        host.close()
    assert state == ("paused", "s2")
    assert "4 snapshots\n" in host.check()


async def _state_of_the_domain(host: Host) -> tuple[str, str | None]:
    async with connected(host.socket) as rpc:
        info = (await rpc.call("domain.info", domain="test"))["domain"]
        return info["state"], info["current_snapshot"]


def test_a_daemon_that_dies_while_it_settles_is_followed_by_one_that_does(
    template: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = template.parents[1] / "h"
    shutil.copytree(template, folder / "s")
    assert not survives(Host(folder, drivers=("test",), command=crashing_command(2, "before")), _delete)
    assert [operation.verb for operation in stored(folder / "s").operations] == ["discard"]

    class Death(BaseException):
        pass

    async def die(*_: object) -> None:
        raise Death

    monkeypatch.setattr("virtsnapd.drivers.simulated.driver.SimulatedDriver.discard", die)
    with pytest.raises(Death):
        settled(folder)
    monkeypatch.undo()
    assert [operation.verb for operation in stored(folder / "s").operations] == ["discard"]
    loaded = settled(folder)
    assert hierarchy(loaded) == CASES["delete"].trees[-1]
    assert loaded.operations == []
