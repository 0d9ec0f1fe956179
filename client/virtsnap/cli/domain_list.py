"""The command list: which domains there are."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from virtsnap.cli.command import Command, Option
from virtsnap.cli.render import STATES, table
from virtsnap.cli.xpath import domain_title
from virtsnap_protocol.errors import DomainNotFound

if TYPE_CHECKING:
    from virtsnap.cli.command import Arguments
    from virtsnap.cli.console import Console
    from virtsnap_protocol.methods.domain import DomainInfo, DomainState, ListFlag

_STATE_OPTIONS: Final[dict[str, DomainState]] = {
    "state-running": "running",
    "state-paused": "paused",
    "state-shutoff": "shutoff",
}
_FLAGS: Final[dict[str, ListFlag]] = {
    "persistent": "persistent",
    "transient": "transient",
    "with-managed-save": "managed-save",
    "without-managed-save": "no-managed-save",
    "with-snapshot": "has-snapshot",
    "without-snapshot": "no-snapshot",
}
_NEVER: Final = {"autostart": "no-autostart", "with-checkpoint": "without-checkpoint"}
"""What no domain has, and the option for those that do not have it."""


def _list(console: Console, arguments: Arguments) -> None:
    arguments.exclude("table", "name", "uuid", "id")
    found = console.connection.domains(flags=_flags(arguments)).domains
    domains = [domain for domain in found if _is_wanted(domain, arguments)]
    wanted = [option for option in ("uuid", "id", "name") if arguments.flag(option)]
    if wanted:
        for domain in domains:
            if wanted == ["id"] and domain.id is None:
                continue  # nothing to print: only beside something else there is a dash
            facts = {"id": _id(domain), "uuid": domain.uuid, "name": domain.name}
            console.out(" ".join(facts[option] for option in wanted) + "\n")
    elif arguments.flag("title"):
        titles = [_title(console, domain) for domain in domains]
        _print_table(console, arguments, domains, titles)
        console.result(
            {
                "domains": [
                    {**msgspec.to_builtins(domain), "title": title}
                    for domain, title in zip(domains, titles, strict=True)
                ]
            }
        )
        return
    else:
        _print_table(console, arguments, domains)
    console.result({"domains": domains})


def _flags(arguments: Arguments) -> list[ListFlag]:
    """Return what the daemon is to list: without an option active domains."""
    inactive = arguments.flag("inactive") or arguments.flag("state-shutoff")
    flags: list[ListFlag] = []
    if not inactive or arguments.flag("all"):
        flags.append("active")
    if inactive or arguments.flag("all"):
        flags.append("inactive")
    return flags + [flag for option, flag in _FLAGS.items() if arguments.flag(option)]


def _id(domain: DomainInfo) -> str:
    return "-" if domain.id is None else str(domain.id)


def _is_wanted(domain: DomainInfo, arguments: Arguments) -> bool:
    """Return whether a domain passes the filters that the daemon has no flags for."""
    if any(arguments.flag(has) and not arguments.flag(has_not) for has, has_not in _NEVER.items()):
        return False
    named = set(_STATE_OPTIONS.values())
    wanted = {state for option, state in _STATE_OPTIONS.items() if arguments.flag(option)}
    if arguments.flag("state-other") and domain.state not in named:
        return True
    return domain.state in wanted or not (wanted or arguments.flag("state-other"))


def _print_table(
    console: Console, arguments: Arguments, domains: list[DomainInfo], titles: list[str] | None = None
) -> None:
    header = ["Id", "Name", "State"]
    rows = [[_id(domain), domain.name, _state(domain, arguments)] for domain in domains]
    if titles is not None:
        header.append("Title")
        for row, title in zip(rows, titles, strict=True):
            row.append(title)
    console.out(table(header, rows, bare=console.settings.quiet))


def _title(console: Console, domain: DomainInfo) -> str:
    try:
        return domain_title(console.connection.domain(domain.uuid).xml().xml)
    except DomainNotFound:  # it has gone meanwhile
        return ""


def _state(domain: DomainInfo, arguments: Arguments) -> str:
    saved = arguments.flag("managed-save") and domain.managed_save and domain.state == "shutoff"
    return "saved" if saved else STATES[domain.state]


COMMANDS: Final = (
    Command(
        name="list",
        group="monitor",
        summary="list domains",
        description="List the active domains, or those that the options ask for.",
        options=(
            Option("inactive", "flag", "list inactive domains"),
            Option("all", "flag", "list active and inactive domains"),
            Option("transient", "flag", "only transient domains"),
            Option("persistent", "flag", "only persistent domains"),
            Option("with-snapshot", "flag", "only domains that have snapshots"),
            Option("without-snapshot", "flag", "only domains that have no snapshot"),
            Option("with-checkpoint", "flag", "accepted for scripts: no domain has checkpoints"),
            Option("without-checkpoint", "flag", "accepted for scripts: all domains"),
            Option("state-running", "flag", "only running domains"),
            Option("state-paused", "flag", "only paused domains"),
            Option("state-shutoff", "flag", "only domains that are shut off"),
            Option("state-other", "flag", "only domains in none of these states"),
            Option("autostart", "flag", "accepted for scripts: no domain starts by itself"),
            Option("no-autostart", "flag", "accepted for scripts: all domains"),
            Option("with-managed-save", "flag", "only domains that have a managed save"),
            Option("without-managed-save", "flag", "only domains that have no managed save"),
            Option("uuid", "flag", "print the UUIDs only"),
            Option("name", "flag", "print the names only"),
            Option("id", "flag", "print the ids only"),
            Option("table", "flag", "print a table (this is the default)"),
            Option("managed-save", "flag", "say 'saved' of domains that have a managed save"),
            Option("title", "flag", "show the title of each as well"),
        ),
        run=_list,
    ),
)
