"""Golden files: `<case>.in.xml` beside what the program makes of it, `<case>.out.xml`.

``make regenerate`` and ``pytest --regenerate`` write the second from the first; a human then looks at the difference.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

from virtsnapd.models.domain import DomainDefinition
from virtsnapd.models.snapshot import format_snapshot, parse_snapshot

if TYPE_CHECKING:
    from collections.abc import Callable

DATA: Final = Path(__file__).parent.parent / "data"
_UUID: Final = "6695eb01-f6a4-8304-79aa-97f2502e193f"


def dumped_snapshot(text: str) -> str:
    """Return what dumping with secrets shows after a snapshot's document was redefined."""
    parsed = parse_snapshot(
        text, redefine=True, offline=False, validate=False, now=0, unique_name=lambda name: name
    )
    domain = None if parsed.domain is None else parsed.domain.text
    inactive = None if parsed.inactive_domain is None else parsed.inactive_domain.text
    return format_snapshot(parsed.snapshot, domain=domain, inactive_domain=inactive, uuid=_UUID)


def dumped_domain(text: str) -> str:
    """Return what dumping without secrets shows after a domain's document was defined."""
    return DomainDefinition.parse(text, new_uuid=lambda: "00000000-0000-4000-8000-000000000000").format()


PRODUCERS: Final[dict[str, Callable[[str], str]]] = {"snapshot": dumped_snapshot, "domain": dumped_domain}
"""What makes the second file of a pair, by the folder of `tests/data` that holds the pair."""
PAIRS: Final = [
    (folder, path.name.removesuffix(".in.xml"))
    for folder in PRODUCERS
    for path in sorted((DATA / folder).glob("*.in.xml"))
]
"""Folder and case of every pair."""


def cases(folder: str) -> list[str]:
    """Return the names of a folder's cases."""
    return [case for its_folder, case in PAIRS if its_folder == folder]


def given(folder: str, case: str) -> str:
    """Return the first file of a pair."""
    return (DATA / folder / f"{case}.in.xml").read_text()


def expected(folder: str, case: str) -> str:
    """Return the second file of a pair."""
    return (DATA / folder / f"{case}.out.xml").read_text()


def regenerate() -> None:
    """Write the second file of every pair anew."""
    for folder, case in PAIRS:
        (DATA / folder / f"{case}.out.xml").write_text(PRODUCERS[folder](given(folder, case)))
