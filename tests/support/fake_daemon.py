"""A daemon that says what a test wants, on a real Unix socket and with the real protocol, in threads."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

import msgspec

from tests.support.samples import HELLO
from virtsnap_protocol.errors import Error, MethodNotFound
from virtsnap_protocol.messages import Call, Cancel
from virtsnap_protocol.method import Empty, Method
from virtsnap_protocol.methods import METHODS, connection, event
from virtsnap_protocol.session import ServerSession

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path
    from types import TracebackType
    from typing import Self

    Answer = Callable[[Any], msgspec.Struct]

PATIENCE: Final = 10.0
"""Seconds after which something that a test waits for will not happen any more."""


class Silence(Exception):
    """Raised by an answer: do not answer this call."""


class HangUp(Exception):
    """Raised by an answer: close the connection."""


class FakeDaemon:
    """Answers calls with functions of their parameters; records what was asked."""

    def __init__(self, path: Path, answers: Mapping[Method[Any, Any], Answer] | None = None) -> None:
        self.path = path
        self.answers: dict[str, Answer] = {
            connection.OPEN.name: lambda _: connection.OpenResult(driver=HELLO.drivers[0]),
            connection.PING.name: lambda _: Empty(),
            event.UNSUBSCRIBE.name: lambda _: Empty(),
            **{method.name: answer for method, answer in (answers or {}).items()},
        }
        self.asked: list[tuple[str, Any]] = []
        self.cancelled: list[object] = []
        self._clients: list[socket.socket] = []
        self._changed = threading.Condition()
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen()
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.hang_up()
        for thread in self._threads:
            thread.join(PATIENCE)
        self.path.unlink()

    @property
    def names(self) -> list[str]:
        """What was asked, without parameters."""
        return [name for name, _ in self.asked]

    def hang_up(self) -> None:
        """Close all connections."""
        for client in list(self._clients):
            with suppress(OSError):
                client.shutdown(socket.SHUT_RDWR)

    def say(self, data: bytes) -> None:
        """Send bytes to every client."""
        for client in list(self._clients):
            client.sendall(data)

    def notify(self, method: str, params: msgspec.Struct) -> None:
        """Send a notification to every client."""
        self.say(ServerSession().notify(method, params))

    def babbling(self, _: object) -> msgspec.Struct:
        """Answer something that is not of the protocol."""
        self.say(b"nonsense\n")
        raise Silence

    def wait_for(self, what: Callable[[FakeDaemon], bool]) -> None:
        """Return once something is true of this daemon."""
        with self._changed:
            assert self._changed.wait_for(lambda: what(self), PATIENCE), "it did not happen"

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            self._clients.append(client)
            thread = threading.Thread(target=self._serve, args=(client,))
            self._threads.append(thread)
            thread.start()

    def _serve(self, client: socket.socket) -> None:
        session = ServerSession()
        with client, suppress(OSError, HangUp):
            while data := client.recv(65536):
                for message in session.receive_data(data):
                    client.sendall(self._react(session, message))
        self._clients.remove(client)

    def _react(self, session: ServerSession, message: Call | Cancel | bytes) -> bytes:
        if isinstance(message, bytes):
            return message
        if isinstance(message, Cancel):
            with self._changed:
                self.cancelled.append(message.id)
                self._changed.notify_all()
            return b""
        method = next((method for method in METHODS if method.name == message.method), None)
        params = msgspec.json.decode(message.params or b"{}", type=method.params if method else Any)
        with self._changed:
            self.asked.append((message.method, params))
            self._changed.notify_all()
        try:
            answer = self.answers.get(message.method)
            if answer is None:
                raise MethodNotFound(f"no method '{message.method}'")
            return session.result(message, answer(params))
        except Error as error:
            return session.error(message, error)
        except Silence:
            return b""


def refusing(error: Error) -> Answer:
    """Return an answer that raises an error."""

    def answer(_: object) -> msgspec.Struct:
        raise error

    return answer


def silent(_: object) -> msgspec.Struct:
    """Answer nothing."""
    raise Silence


def hanging_up(_: object) -> msgspec.Struct:
    """Close the connection instead of answering."""
    raise HangUp
