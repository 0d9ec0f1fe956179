"""The documents: generated parts agree with the code, links lead somewhere, and the format page covers the format."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.support import docs
from virtsnap_protocol.methods import METHODS

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted(docs.DOCS.glob("*.md"))]


@pytest.mark.parametrize("path", docs.documents(), ids=lambda path: path.name)
def test_generated_parts_are_what_the_code_says(path: Path) -> None:
    text = path.read_text()
    assert text == docs.regenerated(text), f"{path.name} is stale: run `{docs.COMMAND}`"


def test_three_documents_have_generated_parts_or_more() -> None:
    assert {"drivers.md", "protocol.md"} <= {path.name for path in docs.documents()}


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_links_lead_to_files_that_exist(path: Path) -> None:
    targets = re.findall(r"\]\((?!https?:)([^)#]+)", path.read_text())
    assert [target for target in targets if not (path.parent / target).exists()] == []


def test_the_protocol_page_has_every_method() -> None:
    text = (docs.DOCS / "protocol.md").read_text()
    assert [method.name for method in METHODS if f"### `{method.name}`" not in text] == []
