"""The page on libvirt's rules says what the tests prove, and leaves out nothing."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.support import checklist, docs
from tests.support.checklist import Checklist, Line, Proof

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="module")
def generated() -> tuple[str, list[str]]:
    return checklist.generated()


def test_every_line_has_a_test_or_a_reason_and_never_both(generated: tuple[str, list[str]]) -> None:
    _, problems = generated
    assert problems == []


def test_the_page_is_what_the_markers_say(generated: tuple[str, list[str]]) -> None:
    page, _ = generated
    assert checklist.PAGE.read_text() == page, f"{checklist.PAGE.name} is stale: run `{docs.COMMAND}`"


def test_the_lines_are_in_order_and_every_group_has_a_title() -> None:
    found = Checklist.read()
    assert list(found.lines) == sorted(found.lines)
    assert list(dict.fromkeys(line.group for line in found.lines.values())) == list(found.groups)


def _checklist(*proofs: Proof, inapplicable: str | None = None) -> Checklist:
    line = Line(number=1, group="A", text="x | y", inapplicable=inapplicable)
    return Checklist(groups={"A": "all"}, lines={1: line}, proofs={1: list(proofs)} if proofs else {})


def test_a_line_with_neither_is_a_problem() -> None:
    assert _checklist().problems() == ["line 1 has neither a test nor a reason"]


def test_a_line_with_both_is_a_problem() -> None:
    found = _checklist(Proof(test="t.py::test"), inapplicable="no such thing")
    assert found.problems() == ["line 1 does not apply, but is proven by t.py::test"]


def test_a_marker_of_a_line_that_does_not_exist_is_a_problem() -> None:
    found = _checklist(Proof(test="t.py::test"))
    found.proofs[2] = [Proof(test="t.py::other")]
    assert found.problems() == ["line 2 does not exist: t.py::other"]


@pytest.mark.parametrize(
    ("found", "cell"),
    [
        (_checklist(Proof(test="t.py::test")), "| **as libvirt** | `t.py::test` |"),
        (_checklist(Proof(test="t.py::test", ours="better")), "| **ours**: better | `t.py::test` |"),
        (_checklist(inapplicable="no such thing"), "| **does not apply**: no such thing |  |"),
        (_checklist(), "| **not proven** |  |"),
    ],
    ids=["proven", "ours", "inapplicable", "missing"],
)
def test_a_row_tells_how_the_line_is_kept(found: Checklist, cell: str) -> None:
    assert f"| 001 | x \\| y {cell}\n" in found.page()


def test_a_test_that_may_be_left_out_proves_nothing(tmp_path: Path) -> None:
    (tmp_path / "pytest.ini").write_text("[pytest]\nmarkers = checklist(*numbers): proves these lines\n")
    tests = "import pytest\n"
    for number, other in enumerate(("", "skip", "skipif(False, reason='')", "xfail"), start=1):
        tests += f"@pytest.mark.checklist({number})\n" + (f"@pytest.mark.{other}\n" if other else "")
        tests += f"def test_{number}(): pass\n"
    (tmp_path / "test_some.py").write_text(tests)
    script = f"from tests.support.checklist import collect; print(sorted(collect({str(tmp_path)!r}).proofs))"
    run = subprocess.run(
        [sys.executable, "-c", script], cwd=checklist.ROOT, capture_output=True, text=True, check=True
    )
    assert run.stdout == "[1]\n"
