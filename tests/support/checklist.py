"""The page on libvirt's rules, line by line, made of tests/data/checklist.toml and of the tests' own markers."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).parents[2]
PAGE: Final = ROOT / "docs/libvirt-compatibility.md"
_LINES: Final = ROOT / "tests/data/checklist.toml"

_HEAD: Final = """\
# How virtsnap follows libvirt, rule by rule

What libvirt's snapshots do is a list of numbered lines, and this page says of each how virtsnap keeps it. It is
made by `make regenerate` from that list (`tests/data/checklist.toml`) and from the markers of the tests
(`@pytest.mark.checklist`): a line counts as kept because a test in `tests/` says that it proves it.

- **as libvirt**: the tests named beside it prove the line as it stands.
- **ours**: the tests prove another rule, on purpose; the reason is given.
- **does not apply**: the situation cannot exist here; the reason is given.

Lines about a hypervisor that has no driver yet are not in the list, nor are most of those about taking, reverting
and deleting with QEMU and about its files: the tests of the driver and of the store prove these.
"""


@dataclass(frozen=True, kw_only=True)
class Line:
    """One testable line of libvirt's behaviour."""

    number: int
    group: str
    text: str
    inapplicable: str | None = None
    """Why the situation cannot exist here."""


@dataclass(frozen=True, kw_only=True)
class Proof:
    """One test function that says it proves a line."""

    test: str
    """Path below tests/ and name, without parameters."""
    ours: str | None = None
    """What is proven instead of libvirt's rule, where it is not that."""


@dataclass(kw_only=True)
class Checklist:
    """The lines, and as a plugin of pytest the collector of their proofs."""

    groups: dict[str, str]
    lines: dict[int, Line]
    proofs: dict[int, list[Proof]] = field(default_factory=dict)

    @classmethod
    def read(cls) -> Checklist:
        """Return the lines of the file, as yet without proofs."""
        data = tomllib.loads(_LINES.read_text())
        lines = [Line(**line) for line in data["line"]]
        return cls(groups=data["groups"], lines={line.number: line for line in lines})

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Note which test proves which line (hook of pytest); what may be left out or fail proves nothing."""
        for item in items:
            if any(item.get_closest_marker(name) for name in ("skip", "skipif", "xfail")):
                continue
            test = item.nodeid.removeprefix("tests/").partition("[")[0]
            for mark in item.iter_markers("checklist"):
                proof = Proof(test=test, **mark.kwargs)
                for number in mark.args:
                    found = self.proofs.setdefault(number, [])
                    if proof not in found:
                        found.append(proof)

    def problems(self) -> list[str]:
        """Return what keeps the page from being true: lines with neither test nor reason, or with both."""
        return [
            *(
                f"line {number} does not exist: {self._tests(number)}"
                for number in sorted(self.proofs.keys() - self.lines)
            ),
            *(f"line {n} has neither a test nor a reason" for n in self.lines if self._verdict(n) == MISSING),
            *(
                f"line {number} does not apply, but is proven by {self._tests(number)}"
                for number, line in self.lines.items()
                if line.inapplicable and number in self.proofs
            ),
        ]

    def page(self) -> str:
        """Return the page."""
        verdicts = [self._verdict(number) for number in self.lines]
        counts = [f"- {verdict}: {verdicts.count(verdict)}" for verdict in (*VERDICTS, MISSING)]
        if not verdicts.count(MISSING):
            counts.pop()
        tests = {proof.test for proofs in self.proofs.values() for proof in proofs}
        total = f"{len(self.lines)} lines, proven by {len(tests)} tests:"
        return "\n".join([_HEAD, total, "", *counts, *map(self._section, self.groups)]) + "\n"

    def _section(self, group: str) -> str:
        rows = [self._row(line) for line in self.lines.values() if line.group == group]
        head = [
            f"\n## {group}. {self.groups[group]}\n",
            "| line | rule of libvirt | here | tests |",
            "|---|---|---|---|",
        ]
        return "\n".join(head + rows)

    def _row(self, line: Line) -> str:
        verdict = f"**{self._verdict(line.number)}**"
        proofs = self.proofs.get(line.number, [])
        reasons = [line.inapplicable] if line.inapplicable else [proof.ours for proof in proofs if proof.ours]
        if reasons:
            verdict += ": " + "; ".join(dict.fromkeys(reasons))
        tests = "<br>".join(f"`{test}`" for test in sorted({proof.test for proof in proofs}))
        cells = (f"{line.number:03}", line.text, verdict, tests)
        return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"

    def _verdict(self, number: int) -> str:
        proofs = self.proofs.get(number, [])
        if self.lines[number].inapplicable:
            return INAPPLICABLE
        if not proofs:
            return MISSING
        return OURS if any(proof.ours for proof in proofs) else AS_LIBVIRT

    def _tests(self, number: int) -> str:
        return ", ".join(proof.test for proof in self.proofs[number])


AS_LIBVIRT: Final = "as libvirt"
OURS: Final = "ours"
INAPPLICABLE: Final = "does not apply"
MISSING: Final = "not proven"
VERDICTS: Final = (AS_LIBVIRT, OURS, INAPPLICABLE)


def collect(*paths: str) -> Checklist:
    """Return the checklist with the proofs that pytest finds below `paths`; to be called outside of pytest.

    Raises:
        RuntimeError: pytest could not collect all tests.
    """
    checklist = Checklist.read()
    # without a terminal reporter nothing is printed; an error of collection shows in the status
    arguments = ["--collect-only", "-p", "no:terminal", "-p", "no:cacheprovider", *paths]
    status = pytest.main(arguments, plugins=[checklist])
    if status != pytest.ExitCode.OK:
        raise RuntimeError(f"pytest could not collect the tests (status {status}): see pytest --collect-only")
    return checklist


def generated() -> tuple[str, list[str]]:
    """Return the page and the problems that a process of its own finds."""
    run = subprocess.run(
        [sys.executable, "-m", __name__, "--print"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return run.stdout, run.stderr.splitlines()


def write() -> None:
    """Write the page; lines without a proof are said in it to have none."""
    PAGE.write_text(generated()[0])


def main(arguments: list[str]) -> None:
    """Write the page, or (`--print`) print it, and the problems on standard error."""
    checklist = collect(str(ROOT / "tests"))
    if "--print" in arguments:
        sys.stdout.write(checklist.page())
    else:
        PAGE.write_text(checklist.page())
    sys.stderr.write("".join(f"{problem}\n" for problem in checklist.problems()))


if __name__ == "__main__":
    main(sys.argv[1:])
