"""Guests outlive their daemon, and what the daemon was at is carried through or undone."""

from __future__ import annotations

import json
import os
import signal
import socket
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

import pytest
import trio

import virtsnap
from tests.support.guest import Serial, make_disk
from tests.support.qemu_host import Host, TickDomain, running_host, wait_until
from virtsnap_protocol.errors import ConnectionLost
from virtsnapd.drivers.qemu import images

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def host(short_tmp: Path) -> Iterator[Host]:
    with running_host(short_tmp / "h") as host:
        yield host


@pytest.fixture
def tick(short_tmp: Path) -> TickDomain:
    return TickDomain(disks=[make_disk(short_tmp / "disk.qcow2", boot=True)], serial=short_tmp / "serial")


async def tags(tick: TickDomain) -> list[str]:
    return [entry.name for entry in (await images.info(tick.disks[0], format="qcow2")).snapshots]


@pytest.mark.parametrize("end", ["stop", "kill"])
async def test_guests_run_on_without_their_daemon_and_are_taken_up_again(
    host: Host, tick: TickDomain, end: str
) -> None:
    assert tick.serial is not None
    async with virtsnap.open_connection(socket=host.socket) as connection:
        await connection.create(tick.xml)
        vm = connection.domain("tick")
        async with Serial.open(tick.serial) as serial:
            await serial.wait_counter(3)
            written = await serial.command("w")
            await vm.take("s1")
            before = (await vm.info()).domain
            guests = host.guests()
            await trio.to_thread.run_sync(getattr(host, end))
            await serial.wait_counter(written + 3)
            assert await serial.command("w") > written
            await trio.to_thread.run_sync(host.start)
            async with virtsnap.open_connection(socket=host.socket) as again:
                vm = again.domain("tick")
                assert (await vm.info()).domain == before
                assert host.guests() == guests
                await serial.command("z")
                await vm.snapshot("s1").revert()
                assert await serial.wait_counter(written + 1) <= written + 3
                assert await serial.command("r") == written


async def test_a_snapshot_whose_client_vanishes_is_carried_through(host: Host, tick: TickDomain) -> None:
    async with virtsnap.open_connection(socket=host.socket) as connection:
        await connection.create(tick.xml)
        (pid,) = host.guests()
        os.kill(pid, signal.SIGSTOP)
        begin_take(host)
        os.kill(pid, signal.SIGCONT)
        vm = connection.domain("tick")

        async def is_there() -> bool:
            return [s.name for s in (await vm.snapshots()).snapshots] == ["s1"]

        await wait_until("the snapshot", is_there)
        assert await tags(tick) == ["s1"]


def begin_take(host: Host) -> None:
    """Ask for a snapshot, make sure that the request was read, and vanish."""
    params = {"domain": "tick", "xml": "<domainsnapshot><name>s1</name></domainsnapshot>"}
    request = {"jsonrpc": "2.0", "id": 1, "method": "snapshot.create", "params": params}
    ping = {"jsonrpc": "2.0", "id": 2, "method": "connection.ping", "params": {}}
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(30)
        client.connect(str(host.socket))
        client.sendall(b"".join(json.dumps(frame).encode() + b"\n" for frame in (request, ping)))
        with client.makefile("rb") as answers:
            assert json.loads(answers.readline())["id"] == 2


async def test_a_daemon_that_is_stopped_finishes_the_snapshot_first(host: Host, tick: TickDomain) -> None:
    async with virtsnap.open_connection(socket=host.socket) as connection:
        await connection.create(tick.xml)
        (pid,) = host.guests()
        os.kill(pid, signal.SIGSTOP)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(connection.domain("tick").take, "s1")
            await wait_until_noted(host)
            os.kill(host.pid, signal.SIGTERM)
            os.kill(pid, signal.SIGCONT)
    host.wait_killed()
    host.start()
    async with virtsnap.open_connection(socket=host.socket) as connection:
        found = (await connection.domain("tick").snapshots()).snapshots
        assert [snapshot.name for snapshot in found] == await tags(tick) == ["s1"]


@pytest.mark.parametrize("qemu_ends", [False, True])
async def test_a_snapshot_that_a_killed_daemon_had_begun_is_undone(
    host: Host, tick: TickDomain, *, qemu_ends: bool
) -> None:
    async with virtsnap.open_connection(socket=host.socket) as connection:
        await connection.define(tick.xml)
        await connection.domain("tick").start()
        (pid,) = host.guests()
        os.kill(pid, signal.SIGSTOP)
        lost: list[ConnectionLost] = []

        async def take() -> None:
            try:
                await connection.domain("tick").take("s1")
            except ConnectionLost as error:
                lost.append(error)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(take)
            await wait_until_noted(host)
            host.kill()
    assert [error.maybe_applied for error in lost] == [True]
    os.kill(pid, signal.SIGKILL if qemu_ends else signal.SIGCONT)
    assert "1 unfinished operations" in host.check()
    host.start()
    async with virtsnap.open_connection(socket=host.socket) as connection:
        vm = connection.domain("tick")
        domain = (await vm.info()).domain
        assert domain.state == ("shutoff" if qemu_ends else "running")
        assert (domain.snapshots, domain.needs_attention) == (0, None)
        assert await tags(tick) == []
        await vm.take("s1")
    host.stop()
    assert "unfinished" not in host.check()


async def wait_until_noted(host: Host) -> None:
    """Wait until the store holds the note of what is about to be done."""

    def noted() -> bool:
        with closing(sqlite3.connect(f"file:{host.state}/store.sqlite?mode=ro", uri=True)) as store:
            return bool(store.execute("SELECT count(*) FROM operations").fetchone()[0])

    await wait_until("the note", noted)
