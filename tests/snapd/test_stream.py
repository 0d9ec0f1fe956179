from __future__ import annotations

import socket
from typing import TYPE_CHECKING

import pytest
import trio
import trio.testing

from virtsnapd.stream import UnixStream

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def pair() -> Iterator[tuple[UnixStream, socket.socket]]:
    ours, theirs = socket.socketpair(socket.AF_UNIX)
    theirs.settimeout(10)
    with ours, theirs:
        yield UnixStream(ours), theirs


Pair = tuple[UnixStream, socket.socket]


async def test_bytes_are_received_as_they_come(pair: Pair) -> None:
    stream, peer = pair
    async with trio.open_nursery() as nursery:

        async def read() -> None:
            assert await stream.receive_some(3) == b"abc"
            assert await stream.receive_some(3) == b"de"

        nursery.start_soon(read)
        await trio.testing.wait_all_tasks_blocked()
        peer.send(b"abcde")


async def test_the_peers_end_is_an_empty_receive(pair: Pair) -> None:
    stream, peer = pair
    peer.close()
    assert await stream.receive_some(10) == b""


async def test_receiving_lets_other_tasks_run_even_when_bytes_are_there(pair: Pair) -> None:
    stream, peer = pair
    peer.send(b"x")
    with trio.testing.assert_checkpoints():
        await stream.receive_some(10)


async def test_sending_takes_what_the_kernel_takes_and_no_more(pair: Pair) -> None:
    stream, peer = pair
    data = bytes(10_000_000)
    taken = stream.send_nowait(data)
    assert 0 < taken < len(data)
    while stream.send_nowait(data):
        pass
    async with trio.open_nursery() as nursery:
        nursery.start_soon(stream.wait_writable)
        await trio.testing.wait_all_tasks_blocked()
        while len(peer.recv(1_000_000)) == 1_000_000:
            pass
    assert stream.send_nowait(b"more") == 4


async def test_sending_to_a_peer_that_has_gone_is_a_broken_resource(pair: Pair) -> None:
    stream, peer = pair
    peer.close()
    with pytest.raises(trio.BrokenResourceError, match="Broken pipe"):
        stream.send_nowait(b"anyone?")


async def test_receiving_from_a_peer_that_dropped_our_bytes_is_a_broken_resource(pair: Pair) -> None:
    stream, peer = pair
    stream.send_nowait(b"unread")
    peer.close()
    with pytest.raises(trio.BrokenResourceError, match="reset by peer"):
        await stream.receive_some(10)


async def test_waiting_to_send_ends_when_the_peer_goes(pair: Pair) -> None:
    stream, peer = pair
    while stream.send_nowait(bytes(100_000)):
        pass
    async with trio.open_nursery() as nursery:
        nursery.start_soon(stream.wait_writable)
        await trio.testing.wait_all_tasks_blocked()
        peer.close()


async def test_closing_wakes_those_who_wait(pair: Pair) -> None:
    stream, _ = pair
    while stream.send_nowait(bytes(100_000)):
        pass
    ended: list[str] = []

    async def read() -> None:
        with pytest.raises(trio.ClosedResourceError):
            await stream.receive_some(10)
        ended.append("read")

    async def write() -> None:
        with pytest.raises(trio.ClosedResourceError):
            await stream.wait_writable()
        ended.append("write")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(read)
        nursery.start_soon(write)
        await trio.testing.wait_all_tasks_blocked()
        stream.close()
    assert sorted(ended) == ["read", "write"]


async def test_a_closed_stream_says_so_and_may_be_closed_again(pair: Pair) -> None:
    stream, _ = pair
    await stream.aclose()
    stream.close()
    with pytest.raises(trio.ClosedResourceError):
        await stream.receive_some(1)
    with pytest.raises(trio.ClosedResourceError):
        stream.send_nowait(b"x")
    with pytest.raises(trio.ClosedResourceError):
        await stream.wait_writable()


async def test_what_was_sent_before_closing_arrives_although_the_peer_was_not_read(pair: Pair) -> None:
    stream, peer = pair
    peer.send(b"never read")
    stream.send_nowait(b"last words")
    stream.close()
    assert peer.recv(100) == b"last words"


async def test_two_tasks_cannot_read_one_stream(pair: Pair) -> None:
    stream, _ = pair
    async with trio.open_nursery() as nursery:
        nursery.start_soon(stream.receive_some, 1)
        await trio.testing.wait_all_tasks_blocked()
        with pytest.raises(trio.BusyResourceError):
            await stream.receive_some(1)
        nursery.cancel_scope.cancel()
