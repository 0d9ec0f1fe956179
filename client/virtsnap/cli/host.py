"""Commands on the connection: connect, uri, version, capabilities, call."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

import msgspec

import virtsnap
from virtsnap.cli.command import Command, CommandFailed, Option

if TYPE_CHECKING:
    from virtsnap.cli.command import Arguments
    from virtsnap.cli.console import Console
    from virtsnap_protocol.methods.connection import DriverInfo, HelloResult


def _connect(console: Console, arguments: Arguments) -> None:
    former = console.settings
    console.settings = replace(
        former, uri=arguments.text("name") or former.uri, read_only=arguments.flag("readonly")
    )
    try:
        console.connect()
    except CommandFailed as failure:
        console.settings = former  # what follows goes where it went before, as in virsh
        failure.fatal = False
        raise
    console.result({})


def _uri(console: Console, arguments: Arguments) -> None:
    uri = console.connection.hello().uri
    console.out(f"{uri}\n")
    console.result({"uri": uri})


def _version(console: Console, arguments: Arguments) -> None:
    hello = console.connection.hello()
    driver = opened_driver(hello)
    console.out(f"Using library: virtsnap {virtsnap.__version__}\n")
    if driver is not None:
        name = driver.scheme.upper()
        console.out(f"Using API: {name} {hello.version}\n")
        if driver.version is None:
            console.out(f"Cannot extract running {name} hypervisor version\n")
        else:
            console.out(f"Running hypervisor: {name} {driver.version}\n")
    if arguments.flag("daemon"):
        console.out(f"Running against daemon: {hello.version}\n")
    for other in hello.drivers:
        if not other.available:
            console.out(
                f"Driver {other.scheme} is not available: {other.reason or 'the daemon does not say why'}\n"
            )
    console.result(
        {
            "library": virtsnap.__version__,
            "daemon": hello.version,
            "driver": driver,
            "drivers": hello.drivers,
        }
    )


def _capabilities(console: Console, arguments: Arguments) -> None:
    result = console.connection.capabilities()
    console.out(f"{result.xml}\n")
    console.result(result)


def opened_driver(hello: HelloResult) -> DriverInfo | None:
    """Return the driver that calls go to."""
    scheme = hello.uri.partition(":")[0]
    exact = (driver for driver in hello.drivers if driver.uri == hello.uri)
    return next(exact, next((driver for driver in hello.drivers if driver.scheme == scheme), None))


def _call(console: Console, arguments: Arguments) -> None:
    text = arguments.text("params") or "{}"
    try:
        params = msgspec.json.decode(text, type=dict[str, msgspec.Raw])
    except msgspec.MsgspecError as error:
        raise CommandFailed(f"the parameters are not a JSON object: {error}") from error
    name = arguments.required("method")
    result = console.connection.call_by_name(name, msgspec.Raw(msgspec.json.encode(params)))
    console.out(msgspec.json.format(bytes(result), indent=2).decode() + "\n")
    console.result(result)


COMMANDS: Final = (
    Command(
        name="connect",
        group="host",
        summary="connect to a hypervisor, or again",
        description="Connect to the daemon anew, with another URI if one is given.",
        options=(
            Option("name", "text", "hypervisor connection URI", completes="uri"),
            Option("readonly", "flag", "without the right to change anything"),
        ),
        run=_connect,
    ),
    Command(
        name="uri",
        group="host",
        summary="URI of the hypervisor",
        description="Print the URI that commands go to.",
        run=_uri,
    ),
    Command(
        name="version",
        group="host",
        summary="versions of everything involved",
        description="Print the versions of the library, the hypervisor and, if asked for, the daemon;\n"
        "and which drivers are not available, and why.",
        options=(Option("daemon", "flag", "also of the daemon"),),
        run=_version,
    ),
    Command(
        name="capabilities",
        group="host",
        summary="what the hypervisor can do",
        description="Print a description of the host and of the guests that it can run.",
        run=_capabilities,
    ),
    Command(
        name="call",
        group="host",
        summary="call any method of the daemon",
        description="Make a call of the protocol and print its result as JSON.",
        options=(
            Option("method", "text", "name of the method: noun.verb", required=True, completes="method"),
            Option("params", "text", "its parameters: a JSON object"),
        ),
        run=_call,
    ),
)
