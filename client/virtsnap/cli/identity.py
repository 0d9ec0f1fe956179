"""Commands that turn one of a domain's names into another: domname, domid, domuuid."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from virtsnap.cli.command import NAME_OR_UUID, Command, Option

if TYPE_CHECKING:
    from virtsnap.cli.command import Arguments
    from virtsnap.cli.console import Console


def _domname(console: Console, arguments: Arguments) -> None:
    found = console.find(arguments.required("domain"), "id", "uuid")
    console.out(f"{found.name}\n")
    console.result({"name": found.name})


def _domid(console: Console, arguments: Arguments) -> None:
    found = console.find(arguments.required("domain"), "uuid", "name")
    console.out(f"{'-' if found.id is None else found.id}\n")
    console.result({"id": found.id})


def _domuuid(console: Console, arguments: Arguments) -> None:
    found = console.find(arguments.required("domain"), "id", "name")
    console.out(f"{found.uuid}\n")
    console.result({"uuid": found.uuid})


def _named(how: str) -> Option:
    return Option("domain", "text", f"{how} of a domain", required=True, completes="domain")


COMMANDS: Final = (
    Command(
        name="domname",
        group="domain",
        summary="name of a domain",
        description="Print the name of the domain with an id or UUID.",
        options=(_named("id or UUID"),),
        run=_domname,
    ),
    Command(
        name="domid",
        group="domain",
        summary="id of a domain",
        description="Print the id of the domain with a name or UUID; '-' when it is not active.",
        options=(NAME_OR_UUID,),
        run=_domid,
    ),
    Command(
        name="domuuid",
        group="domain",
        summary="UUID of a domain",
        description="Print the UUID of the domain with a name or id.",
        options=(_named("name or id"),),
        run=_domuuid,
    ),
)
