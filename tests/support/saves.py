"""Saved states as the tests of the daemon speak of them: what is in memory, which files there are."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from virtsnapd import savefile, saves
from virtsnapd.savefile import SaveHeader

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.daemon import Running
    from tests.support.rpc import Frame, Rpc

MEMORY: Final = 7
"""What `fill` puts into a simulated guest's memory."""


async def info(rpc: Rpc, domain: str = "test") -> Frame:
    """Return what the daemon tells of a domain."""
    return (await rpc.call("domain.info", domain=domain))["domain"]


async def condition(rpc: Rpc, domain: str = "test") -> tuple[str, str, bool]:
    """Return state, reason, and whether there is a managed save."""
    found = await info(rpc, domain)
    return found["state"], found["reason"], found["managed_save"]


async def lifecycle(rpc: Rpc) -> list[tuple[str, str]]:
    """Return the lifecycle events that have come, with their details."""
    events = [event for event in await rpc.events() if event["kind"] == "domain.lifecycle"]
    return [(event["lifecycle"], event["detail"]) for event in events]


def fill(running: Running, domain: str = "test") -> None:
    """Put something into a guest's memory."""
    running.driver.contents(running.domain(domain)).memory = MEMORY


def memory(running: Running, domain: str = "test") -> int:
    """Return what a guest has in its memory."""
    return running.driver.contents(running.domain(domain)).memory


def managed_file(running: Running) -> Path:
    """Return where the default domain's managed save is, if it has one."""
    return saves.managed_path(running.hypervisor, running.domain())


def write_protect(running: Running, *, on: bool) -> None:
    """Let the store refuse every change, as a full disk does, or no more."""
    running.store._connection.execute(f"PRAGMA query_only = {int(on)}")


def files(folder: Path) -> list[str]:
    """Return the names of what is in a folder."""
    return sorted(path.name for path in folder.iterdir())


def write(path: Path, text: str) -> None:
    """Put a text into a file."""
    path.write_text(text)


def content(path: Path) -> str:
    """Return the text that is in a file."""
    return path.read_text()


def exists(path: Path) -> bool:
    """Tell whether there is such a file."""
    return path.exists()


async def saved_as(running: Running, path: Path, **changes: object) -> None:
    """Write a saved state of the default domain, or with something else in its header."""
    domain = running.domain()
    facts = {
        "driver": "test",
        "name": domain.name,
        "uuid": domain.uuid,
        "definition": domain.definition.text,
        "running": True,
        "identity": "i1",
        "time": 1,
    }
    header = SaveHeader(**(facts | changes))  # type: ignore[arg-type] # of many types
    async with savefile.create(path, header, shown=path) as file:
        await file.write(b"7")
        await file.finish()
