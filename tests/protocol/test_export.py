"""The exported files, and the OpenRPC document."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

import virtsnap_protocol
from virtsnap_protocol import export
from virtsnap_protocol.errors import ERRORS
from virtsnap_protocol.methods import METHODS, NOTIFICATIONS

PACKAGE = Path(virtsnap_protocol.__file__).parent


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    """Return what rpc.discover answers."""
    return export.openrpc_document()


def test_the_exported_files_are_those_of_the_types() -> None:
    assert export.stale_files(PACKAGE) == [], f"run {export.COMMAND}"


def test_the_export_writes_every_file_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert export.main([], tmp_path) == 0
    assert len(capsys.readouterr().out.splitlines()) == len(METHODS) + len(NOTIFICATIONS) + 2
    assert export.main([], tmp_path) == 0
    assert capsys.readouterr().out == ""


def test_the_export_is_always_the_same() -> None:
    assert export.exported_files() == export.exported_files()


def test_the_check_names_stale_missing_and_superfluous_files(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    export.main([], tmp_path)
    (tmp_path / "openrpc.json").write_text("{}")
    (tmp_path / "schemas/domain.list.json").unlink()
    (tmp_path / "schemas/domain.fly.json").write_text("{}")
    assert export.main(["--check"], tmp_path) == 1
    complaint = capsys.readouterr().err
    assert re.findall(r"([\w.]+\.json): stale", complaint) == [
        "openrpc.json",
        "domain.fly.json",
        "domain.list.json",
    ]
    assert export.COMMAND in complaint
    assert (tmp_path / "schemas/domain.fly.json").exists()


def test_the_export_removes_what_the_types_no_longer_have(tmp_path: Path) -> None:
    export.main([], tmp_path)
    (tmp_path / "schemas/domain.fly.json").write_text("{}")
    export.main([], tmp_path)
    assert export.main(["--check"], tmp_path) == 0


def test_the_document_lists_every_method_in_the_order_of_the_table(document: dict[str, Any]) -> None:
    assert document["openrpc"] == "1.3.2"
    assert [(one["name"], one["x-reads"]) for one in document["methods"]] == [
        (method.name, method.reads) for method in METHODS
    ]


def test_parameters_are_described_by_name(document: dict[str, Any]) -> None:
    (create,) = [one for one in document["methods"] if one["name"] == "snapshot.create"]
    assert create["paramStructure"] == "by-name"
    assert [(one["name"], one["required"]) for one in create["params"]] == [
        ("domain", True),
        ("xml", True),
        ("uri", False),
        ("flags", False),
    ]


def test_notifications_are_described(document: dict[str, Any]) -> None:
    described = document["components"]["x-notifications"]
    assert [one["name"] for one in described] == list(NOTIFICATIONS)


def test_every_reference_leads_somewhere(document: dict[str, Any]) -> None:
    references = re.findall(r'"\$ref": "(.*?)"', json.dumps(document))
    assert references
    for reference in references:
        place = document
        for step in reference.removeprefix("#/").split("/"):
            place = place[step]


def test_every_error_that_travels_is_in_the_table(document: dict[str, Any]) -> None:
    table = document["components"]["errors"]
    assert {(one["data"]["kind"], one["code"], one["data"]["prefix"]) for one in table.values()} == {
        (cls.kind, cls.code, cls.prefix) for cls in ERRORS.values() if cls.code
    }


def test_every_method_and_type_says_what_it_is(document: dict[str, Any]) -> None:
    assert all(one["summary"].endswith(".") for one in document["methods"])
    assert all(one["description"] for one in document["components"]["schemas"].values())
