"""Commands that look at domains: list, dominfo, domstate, dumpxml."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from virtsnap.cli.command import DOMAIN, Command, Option
from virtsnap.cli.render import STATES, fields, table

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
    "with-snapshot": "has-snapshot",
    "without-snapshot": "no-snapshot",
}


def _list(console: Console, arguments: Arguments) -> None:
    arguments.exclude("table", "name", "uuid", "id")
    flags: list[ListFlag] = []
    if not arguments.flag("inactive") or arguments.flag("all"):
        flags.append("active")
    if arguments.flag("inactive") or arguments.flag("all"):
        flags.append("inactive")
    flags += [flag for option, flag in _FLAGS.items() if arguments.flag(option)]
    result = console.connection.domains(flags=flags)
    domains = [domain for domain in result.domains if _has_wanted_state(domain, arguments)]
    wanted = [option for option in ("id", "uuid", "name") if arguments.flag(option)]
    if wanted:
        for domain in domains:
            facts = {"id": _id(domain), "uuid": domain.uuid, "name": domain.name}
            console.out(" ".join(facts[option] for option in wanted) + "\n")
    else:
        rows = [(_id(domain), domain.name, STATES[domain.state]) for domain in domains]
        console.out(table(("Id", "Name", "State"), rows, bare=console.settings.quiet))
    console.result({"domains": domains})


def _id(domain: DomainInfo) -> str:
    return "-" if domain.id is None else str(domain.id)


def _has_wanted_state(domain: DomainInfo, arguments: Arguments) -> bool:
    named = set(_STATE_OPTIONS.values())
    wanted = {state for option, state in _STATE_OPTIONS.items() if arguments.flag(option)}
    if arguments.flag("state-other") and domain.state not in named:
        return True
    return domain.state in wanted or not (wanted or arguments.flag("state-other"))


def _dominfo(console: Console, arguments: Arguments) -> None:
    result = console.domain(arguments.required("domain")).info()
    domain = result.domain
    values = {
        "Id": _id(domain),
        "Name": domain.name,
        "UUID": domain.uuid,
        "OS Type": domain.os_type,
        "State": STATES[domain.state],
        "CPU(s)": str(domain.vcpus),
        "Max memory": f"{domain.max_memory // 1024} KiB",
        "Used memory": f"{domain.memory // 1024} KiB",
        "Persistent": "yes" if domain.persistent else "no",
        "Autostart": "disable",
        "Managed save": "no",
    }
    if domain.needs_attention:
        values["Attention"] = domain.needs_attention
    console.out(fields(values))
    console.result(result)


def _domstate(console: Console, arguments: Arguments) -> None:
    domain = console.domain(arguments.required("domain")).info().domain
    reason = f" ({domain.reason})" if arguments.flag("reason") else ""
    console.out(f"{STATES[domain.state]}{reason}\n")
    console.result({"state": domain.state, "reason": domain.reason})


def _dumpxml(console: Console, arguments: Arguments) -> None:
    result = console.domain(arguments.required("domain")).xml(
        secure=arguments.flag("security-info"), inactive=arguments.flag("inactive")
    )
    console.out(result.xml)
    console.result(result)


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
            Option("state-running", "flag", "only running domains"),
            Option("state-paused", "flag", "only paused domains"),
            Option("state-shutoff", "flag", "only domains that are shut off"),
            Option("state-other", "flag", "only domains in none of these states"),
            Option("uuid", "flag", "print the UUIDs only"),
            Option("name", "flag", "print the names only"),
            Option("id", "flag", "print the ids only"),
            Option("table", "flag", "print a table (this is the default)"),
            Option("managed-save", "flag", "accepted for scripts: there are no managed saves"),
        ),
        run=_list,
    ),
    Command(
        name="dominfo",
        group="monitor",
        summary="describe a domain",
        description="Show what is known of a domain at a glance.",
        options=(DOMAIN,),
        run=_dominfo,
    ),
    Command(
        name="domstate",
        group="monitor",
        summary="state of a domain",
        description="Show whether a domain runs.",
        options=(DOMAIN, Option("reason", "flag", "also say why it is in this state")),
        run=_domstate,
    ),
    Command(
        name="dumpxml",
        group="domain",
        summary="definition of a domain in XML",
        description="Print a domain's definition.",
        options=(
            DOMAIN,
            Option("inactive", "flag", "the definition of the next start, not the running one"),
            Option("security-info", "flag", "with its secrets"),
        ),
        run=_dumpxml,
    ),
)
