"""Where a command's words go, and where its connection comes from."""

from __future__ import annotations

import json
import sys
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from virtsnap.blocking import connect
from virtsnap.cli.command import CommandFailed, positive_number
from virtsnap.cli.render import error_lines
from virtsnap_protocol.errors import DomainNotFound, Error

if TYPE_CHECKING:
    from collections.abc import Mapping

    from virtsnap.blocking import BlockingConnection
    from virtsnap.cli.command import Command
    from virtsnap.domain import BlockingDomain
    from virtsnap_protocol.errors import ErrorObject
    from virtsnap_protocol.methods.domain import DomainInfo

Naming = Literal["id", "uuid", "name"]
"""How a command lets its user name a domain."""


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
    timeout: float | None = None
    """Seconds that the daemon has for each answer."""
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
            self._connection = connect(
                settings.uri, socket=settings.socket, read_only=settings.read_only, timeout=self.timeout
            )
        except Error as error:
            raise CommandFailed("failed to connect to the hypervisor", error=error, fatal=True) from error

    def disconnect(self) -> None:
        """Close the connection if there is one."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def domain(self, name: str) -> BlockingDomain:
        """Return a handle of a domain: a number is an id if there is such, else a name, as in virsh."""
        if (number := positive_number(name)) is not None:
            try:
                self.connection.domain(number).info()
            except DomainNotFound:
                return self.connection.domain(name)
            return self.connection.domain(number)
        return self.connection.domain(name)

    def find(self, given: str, *by: Naming) -> DomainInfo:
        """Return the domain that is named in one of these ways, as far as a command takes them.

        Raises:
            DomainNotFound: There is none.
        """
        if "id" in by and (number := positive_number(given)) is not None:
            with suppress(DomainNotFound):
                return self.connection.domain(number).info().domain
        found = self.connection.domain(given).info().domain
        if ("uuid" in by and given.lower() == found.uuid) or ("name" in by and given == found.name):
            return found
        raise DomainNotFound(f"no domain with matching {' or '.join(by)} '{given}'", domain=given)

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

    def note(self, text: str) -> None:
        """Print to standard error, as it is."""
        sys.stdout.flush()
        sys.stderr.write(text)
        sys.stderr.flush()

    def complain(self, *lines: str) -> None:
        """Print lines to standard error, after everything printed before."""
        self.note("".join(f"{line}\n" for line in lines))

    def report(self, failure: CommandFailed | Error) -> None:
        """Tell why a command failed."""
        error = failure if isinstance(failure, Error) else failure.error
        lines = [] if isinstance(failure, Error) else list(failure.lines)
        hint = failure.hint if isinstance(failure, CommandFailed) else None
        self.complain(
            *(f"error: {line}" for line in lines),
            *(error_lines(error) if error else ()),
            *([f"hint: {hint}"] if hint else ()),
        )
        if self.json and (error or lines):
            self.result({"error": _wire(failure, lines)} | ({"hint": hint} if hint else {}))


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
