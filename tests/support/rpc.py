"""A raw client: sends any bytes and reads frames, so that a test sees the wire as it is."""

from __future__ import annotations

import itertools
from collections import deque
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final

import msgspec
import trio

from virtsnap_protocol.errors import Error, ErrorObject, error_from_wire
from virtsnap_protocol.framing import LineFramer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

PATIENCE: Final = 20.0
"""Seconds for any one answer; daemons answer in milliseconds."""

POLL: Final = 0.002
"""Seconds between two looks at a condition that nothing announces."""

Frame = Any
"""A decoded JSON text."""


class Rpc:
    """One connection. Notifications are put aside in `notices`, whatever is being waited for."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self.stream = stream
        self.notices: list[Frame] = []
        self._framer = LineFramer()
        self._frames: deque[Frame] = deque()
        self._ids = itertools.count(1)

    async def send(self, data: bytes) -> None:
        """Send bytes as they are."""
        with trio.fail_after(PATIENCE):
            await self.stream.send_all(data)

    async def line(self, text: str) -> Frame:
        """Send a line and return the next frame."""
        await self.send(text.encode() + b"\n")
        return await self.frame()

    async def frame(self) -> Frame:
        """Return the next frame, whatever it is; None at the end of the conversation."""
        while not self._frames:
            with trio.fail_after(PATIENCE):
                data = await self.stream.receive_some(65536)
            if not data:
                return None
            self._frames += (msgspec.json.decode(text) for text in self._framer.feed(data))
        return self._frames.popleft()

    async def begin(self, method: str, /, **params: object) -> int:
        """Send a request and return its id."""
        identity = next(self._ids)
        request = {"jsonrpc": "2.0", "id": identity, "method": method, "params": params}
        await self.send(msgspec.json.encode(request) + b"\n")
        return identity

    async def answer(self, identity: object) -> Frame:
        """Return the answer with this id, past notifications and other answers."""
        others: list[Frame] = []
        while (frame := await self.frame()) is not None:
            if isinstance(frame, dict) and "method" in frame:
                self.notices.append(frame)
            elif isinstance(frame, dict) and frame["id"] == identity:
                self._frames.extendleft(reversed(others))
                return frame
            else:
                others.append(frame)
        raise EOFError(f"the daemon closed the connection before it answered {identity}")

    async def result(self, identity: object) -> Frame:
        """Return the result of the request with this id, or raise its error."""
        frame = await self.answer(identity)
        if "error" in frame:
            raise error_from_wire(msgspec.convert(frame["error"], ErrorObject))
        return frame["result"]

    async def call(self, method: str, /, **params: object) -> Frame:
        """Make a call and return its result.

        Raises:
            Error: What the daemon raised.
        """
        return await self.result(await self.begin(method, **params))

    async def refusal(self, method: str, /, **params: object) -> Error:
        """Make a call that is to fail; return its error."""
        try:
            result = await self.call(method, **params)
        except Error as error:
            return error
        raise AssertionError(f"{method} succeeded: {result}")

    async def notice(self) -> Frame:
        """Return the parameters of the oldest notification that nobody has looked at."""
        while not self.notices:
            frame = await self.frame()
            assert frame is not None, "the daemon closed the connection"
            assert "method" in frame, frame
            self.notices.append(frame)
        return self.notices.pop(0)["params"]

    async def events(self) -> list[Frame]:
        """Return the events that have been sent before the answer to a ping made now."""
        await self.call("connection.ping")
        found = [notice["params"]["event"] for notice in self.notices if notice["method"] == "event"]
        self.notices = [notice for notice in self.notices if notice["method"] != "event"]
        return found

    async def take(self, name: str, *flags: str, domain: str = "test") -> Frame:
        """Take a snapshot."""
        xml = f"<domainsnapshot><name>{name}</name></domainsnapshot>"
        return await self.call("snapshot.create", domain=domain, xml=xml, flags=list(flags))

    async def tree(self, domain: str = "test") -> dict[str, str | None]:
        """Return the parent of every snapshot."""
        listing = await self.call("snapshot.list", domain=domain)
        return {found["name"]: found["parent"] for found in listing["snapshots"]}

    async def current(self, domain: str = "test") -> str | None:
        """Return the name of the current snapshot."""
        info = await self.call("domain.info", domain=domain)
        name: str | None = info["domain"]["current_snapshot"]
        return name

    async def picture(self) -> Frame:
        """Return everything that the daemon tells of its domains and snapshots, to be compared with a later one."""
        domains = (await self.call("domain.list"))["domains"]
        documents: dict[str, str] = {}
        for domain in domains:
            name = domain["name"]
            documents[name] = (await self.call("domain.xml", domain=name))["xml"]
            for snapshot in await self.tree(name):
                document = await self.call("snapshot.xml", domain=name, snapshot=snapshot)
                documents[f"{name}/{snapshot}"] = document["xml"]
        return {"domains": domains, "documents": documents}


async def until(condition: Callable[[], bool]) -> None:
    """Wait until something is so that nothing announces."""
    with trio.fail_after(PATIENCE):
        while not condition():  # noqa: ASYNC110 - as it says
            await trio.sleep(POLL)


@asynccontextmanager
async def connected(path: Path) -> AsyncIterator[Rpc]:
    """Connect to the daemon that listens at `path`."""
    async with await trio.open_unix_socket(str(path)) as stream:
        assert isinstance(stream, trio.SocketStream)
        yield Rpc(stream)
