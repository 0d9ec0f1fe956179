"""Where a command's words go, and where its connection comes from."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import msgspec

from virtsnap.blocking import connect
from virtsnap.cli.command import CommandFailed
from virtsnap.cli.render import error_lines
from virtsnap_protocol.errors import DomainNotFound, Error

if TYPE_CHECKING:
    from collections.abc import Mapping

    from virtsnap.blocking import BlockingConnection
    from virtsnap.cli.command import Command
    from virtsnap.domain import BlockingDomain
    from virtsnap_protocol.errors import ErrorObject


@dataclass(kw_only=True)
class Settings:
    """The global options."""

    uri: str | None = None
    socket: str | None = None
    read_only: bool = False
    quiet: bool = False
    timing: bool = False
    json: bool = False


@dataclass
class Console:
    """One run of the command: settings, connection, output."""

    settings: Settings
    commands: Mapping[str, Command]
    interactive: bool = False
    json: bool = False
    """Of the command that is running: asked for by it or for all."""
    _connection: BlockingConnection | None = field(default=None, init=False)

    @property
    def connection(self) -> BlockingConnection:
        """The connection, opened when first needed, and again when it was lost.

        Raises:
            CommandFailed: There is no daemon, or not this hypervisor.
        """
        if self._connection is None or not self._connection.alive:
            self.connect()
        return self._connection  # type: ignore[return-value]  # connect() sets it or raises

    def connect(self) -> None:
        """Open a connection according to the settings, in place of the one there is.

        Raises:
            CommandFailed: There is no daemon, or not this hypervisor.
        """
        self.disconnect()
        settings = self.settings
        try:
            self._connection = connect(settings.uri, socket=settings.socket, read_only=settings.read_only)
        except Error as error:
            raise CommandFailed("failed to connect to the hypervisor", error=error, fatal=True) from error

    def disconnect(self) -> None:
        """Close the connection if there is one."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def domain(self, name: str) -> BlockingDomain:
        """Return a handle of a domain: a number is an id if there is such, else a name, as in virsh."""
        if name.isascii() and name.isdigit() and 0 < int(name) < 2**31:
            try:
                self.connection.domain(int(name)).info()
            except DomainNotFound:
                return self.connection.domain(name)
            return self.connection.domain(int(name))
        return self.connection.domain(name)

    def out(self, text: str) -> None:
        """Print data, as it is."""
        if not self.json:
            sys.stdout.write(text)

    def tell(self, text: str) -> None:
        """Print what a quiet user does not want to see."""
        if not self.settings.quiet:
            self.out(text)

    def result(self, value: Any) -> None:  # noqa: ANN401 whatever msgspec can encode
        """Print the JSON document of a command, when that is asked for."""
        if self.json:
            sys.stdout.write(_document(value) + "\n")

    def complain(self, *lines: str) -> None:
        """Print lines to standard error, after everything printed before."""
        sys.stdout.flush()
        sys.stderr.write("".join(f"{line}\n" for line in lines))
        sys.stderr.flush()

    def report(self, failure: CommandFailed | Error) -> None:
        """Tell why a command failed."""
        error = failure if isinstance(failure, Error) else failure.error
        lines = [] if isinstance(failure, Error) else list(failure.lines)
        self.complain(*(f"error: {line}" for line in lines), *(error_lines(error) if error else ()))
        if self.json and (error or lines):
            self.result({"error": _wire(failure, lines)})


def _wire(failure: CommandFailed | Error, lines: list[str]) -> ErrorObject | dict[str, str]:
    """Return the JSON of a failure: the daemon's error where there is one, also when text would not show it."""
    if isinstance(failure, Error):
        return failure.to_wire()
    cause = failure.error or failure.__cause__
    return cause.to_wire() if isinstance(cause, Error) else {"message": "; ".join(lines)}


def _document(value: Any) -> str:  # noqa: ANN401 whatever msgspec can encode
    try:
        return msgspec.json.encode(value).decode()
    except UnicodeEncodeError:  # a name that is not UTF-8: escaped, it is still JSON
        return json.dumps(msgspec.to_builtins(value))
