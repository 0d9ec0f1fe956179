"""Commands that look at one domain: dominfo, domstate, domblklist, dumpxml."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from virtsnap.cli.command import DOMAIN, Command, Option
from virtsnap.cli.render import STATES, fields, table
from virtsnap.cli.xpath import OPTIONS as XPATH_OPTIONS
from virtsnap.cli.xpath import print_document

if TYPE_CHECKING:
    from virtsnap.cli.command import Arguments
    from virtsnap.cli.console import Console
    from virtsnap_protocol.methods.domain import DisksFlag


def _dominfo(console: Console, arguments: Arguments) -> None:
    result = console.domain(arguments.required("domain")).info()
    domain = result.domain
    values = {
        "Id": "-" if domain.id is None else str(domain.id),
        "Name": domain.name,
        "UUID": domain.uuid,
        "OS Type": domain.os_type,
        "State": STATES[domain.state],
        "CPU(s)": str(domain.vcpus),
        "Max memory": f"{domain.max_memory // 1024} KiB",
        "Used memory": f"{domain.memory // 1024} KiB",
        "Persistent": "yes" if domain.persistent else "no",
        "Autostart": "disable",
        "Managed save": "yes" if domain.managed_save else "no",
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
    print_document(console, arguments, result)


def _domblklist(console: Console, arguments: Arguments) -> None:
    flags: list[DisksFlag] = ["inactive"] if arguments.flag("inactive") else []
    result = console.domain(arguments.required("domain")).disks(flags=flags)
    header = ["Target", "Source"]
    rows = [[disk.target, "-" if disk.source is None else disk.source] for disk in result.disks]
    if arguments.flag("details"):
        header = ["Type", "Device", *header]
        rows = [[disk.type, disk.device, *row] for disk, row in zip(result.disks, rows, strict=True)]
    console.out(table(header, rows, bare=console.settings.quiet))
    console.result(result)


COMMANDS: Final = (
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
            *XPATH_OPTIONS,
        ),
        run=_dumpxml,
    ),
    Command(
        name="domblklist",
        group="monitor",
        summary="list the disks of a domain",
        description="List the disks of a domain and the images behind them.",
        options=(
            DOMAIN,
            Option("inactive", "flag", "those of the next start, not of the running domain"),
            Option("details", "flag", "also say what each is"),
        ),
        run=_domblklist,
    ),
)
