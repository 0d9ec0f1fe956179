"""What the installed emulator is: asked of a QEMU that runs nothing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import trio

from virtsnap_protocol.errors import Error
from virtsnapd.drivers.api import Unavailable
from virtsnapd.drivers.qemu.capabilities import guest_facts, may_use_kvm, read_host
from virtsnapd.drivers.qemu.guest import GuestFolder, start_guest
from virtsnapd.drivers.qemu.monitor import MonitorError
from virtsnapd.models.capabilities import format_capabilities

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from virtsnapd.drivers.qemu.commands import Machine

ANSWER_SECONDS: Final = 60.0
"""For a host under load; an emulator that ends is noticed at once."""
_NOTHING: Final = ["-nodefaults", "-no-user-config", "-display", "none", "-machine", "none", "-S"]


@dataclass(frozen=True, kw_only=True)
class Emulator:
    """An emulator that works."""

    version: str
    machines: Mapping[str, str]
    """The machine types that its aliases (`pc`, `q35`) stand for."""
    capabilities: str
    """The <capabilities> document."""


async def probe(path: str, folder: GuestFolder) -> Emulator:
    """Start the emulator at `path` without a machine, ask it, and end it.

    Raises:
        Unavailable: It does not work; the text says why.
    """
    failure: Error | MonitorError | None = None
    found: Emulator | None = None
    with trio.move_on_after(ANSWER_SECONDS):
        async with trio.open_nursery() as nursery:
            try:
                found = await _ask(nursery, path, folder)
            except (Error, MonitorError) as error:  # raised below: the nursery would wrap it
                failure = error
    if found is None:
        raise Unavailable(f"{path} does not work: {failure or 'it does not answer'}") from failure
    return found


async def _ask(nursery: trio.Nursery, path: str, folder: GuestFolder) -> Emulator:
    argv = [path, *_NOTHING, "-qmp", f"unix:{folder.monitors[0]},server=on,wait=off"]
    qemu = await start_guest(nursery, folder.path.name, folder, argv)
    try:
        version = (await qemu.commands.query_version()).qemu
        machines = await qemu.commands.query_machines()
        kvm = (await qemu.commands.query_kvm()).present
    finally:
        await qemu.end()
    return Emulator(
        version=f"{version.major}.{version.minor}.{version.micro}",
        machines={machine.alias: machine.name for machine in machines if machine.alias},
        capabilities=await trio.to_thread.run_sync(lambda: _capabilities(path, machines, kvm=kvm)),
    )


def _capabilities(path: str, machines: Sequence[Machine], *, kvm: bool) -> str:
    guests = guest_facts(path, machines, kvm=kvm and may_use_kvm())
    return format_capabilities(read_host(), guests)
