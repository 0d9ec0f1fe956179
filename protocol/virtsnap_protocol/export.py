"""The OpenRPC document, and the files that show the contract to other languages and to reviewers.

``python -m virtsnap_protocol.export`` writes `openrpc.json` and `schemas/` beside this file; with ``--check`` it
only says which of them are stale. They are never edited by hand.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from virtsnap_protocol.errors import ERRORS, Error, ProtocolError, RequestError
from virtsnap_protocol.methods import METHODS, NOTIFICATIONS
from virtsnap_protocol.methods.connection import PROTOCOL
from virtsnap_protocol.schema import (
    DEFINITIONS,
    Schema,
    definitions,
    error_document,
    map_references,
    method_document,
    notification_document,
    summary_of,
    type_name,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from virtsnap_protocol.method import Method, Params

OPENRPC_VERSION: Final = "1.3.2"
COMMAND: Final = "python -m virtsnap_protocol.export"

_COMPONENTS: Final = "#/components/schemas/"
_EVERY_CALL: Final = ("invalid-params", "internal-fault", "too-busy", "cancelled")
_BY_PARAMETER: Final = {
    "uri": ("driver-unavailable", "no-support"),
    "domain": ("no-domain",),
    "snapshot": ("no-domain-snapshot",),
    "of": ("no-domain-snapshot",),
    "xml": ("xml-error", "xml-detail"),
    "flags": ("invalid-flags",),
}
_CHANGES: Final = ("operation-denied", "operation-invalid", "domain-busy", "storage-error")


def openrpc_document() -> dict[str, Any]:
    """Return the OpenRPC document: what `rpc.discover` answers.

    Beyond OpenRPC it has `x-reads` (a method changes nothing) and, among the components, `x-notifications`.
    """
    return {
        "openrpc": OPENRPC_VERSION,
        "info": {
            "title": "virtsnap",
            "description": "Virtual machines and their snapshots: JSON-RPC 2.0, one message per line.",
            "version": str(PROTOCOL),
            "license": {"name": "MIT"},
        },
        "methods": [_method(call) for call in METHODS],
        "components": {
            "schemas": {name: _openrpc(schema) for name, schema in definitions().items()},
            "errors": {kind: _error(cls) for kind, cls in ERRORS.items() if cls not in _ABSTRACT},
            "x-notifications": [_notification(name, params) for name, params in NOTIFICATIONS.items()],
        },
    }


_ABSTRACT: Final = (Error, ProtocolError, RequestError)


def _method(call: Method[Any, Any]) -> dict[str, Any]:
    return {
        "name": call.name,
        "summary": call.summary,
        "paramStructure": "by-name",
        "params": _descriptors(call.params),
        "result": {"name": call.result.__name__, "schema": {"$ref": _COMPONENTS + type_name(call.result)}},
        "errors": [{"$ref": f"#/components/errors/{kind}"} for kind in _likely_errors(call)],
        "x-reads": call.reads,
    }


def _notification(name: str, params: type[Params]) -> dict[str, Any]:
    return {
        "name": name,
        "summary": summary_of(params),
        "paramStructure": "by-name",
        "params": _descriptors(params),
    }


def _descriptors(params: type[Params]) -> list[dict[str, Any]]:
    schema = _openrpc(definitions()[type_name(params)])
    required = schema["required"]
    return [
        {"name": name, "required": name in required, "schema": member}
        for name, member in schema["properties"].items()
    ]


def _likely_errors(call: Method[Any, Any]) -> list[str]:
    """Return the kinds that follow from a call's parameters; a driver may answer with any other as well."""
    kinds = [kind for name in call.params.__struct_fields__ for kind in _BY_PARAMETER.get(name, ())]
    return [*_EVERY_CALL, *dict.fromkeys(kinds), *(() if call.reads else _CHANGES)]


def _error(cls: type[Error]) -> dict[str, Any]:
    about = {"kind": cls.kind, "retryable": cls.retryable, "prefix": cls.prefix}
    return {"code": cls.code, "message": summary_of(cls), "data": about}


def _openrpc(schema: Schema) -> Schema:
    return map_references(schema, lambda ref: _COMPONENTS + ref.removeprefix(DEFINITIONS))


def exported_files() -> dict[str, str]:
    """Return the text of every exported file by its path, relative to this package."""
    documents = {f"schemas/{call.name}.json": method_document(call) for call in METHODS}
    documents |= {f"schemas/{name}.json": notification_document(name) for name in NOTIFICATIONS}
    documents["schemas/error.json"] = error_document()
    documents["openrpc.json"] = openrpc_document()
    return {path: json.dumps(value, indent=2, ensure_ascii=False) + "\n" for path, value in documents.items()}


def stale_files(folder: Path) -> list[str]:
    """Return what in `folder` differs from the export: wrong, missing and superfluous files, relative to it."""
    wanted = exported_files()
    found = {str(path.relative_to(folder)): path for path in folder.glob("schemas/*.json")}
    found |= {path.name: path for path in folder.glob("openrpc.json")}
    return sorted(
        path
        for path in wanted.keys() | found.keys()
        if path not in wanted or path not in found or found[path].read_text("utf-8") != wanted[path]
    )


def main(arguments: Sequence[str] | None = None, folder: Path = Path(__file__).parent) -> int:
    """Write the files, or check them; return the exit status."""
    parser = argparse.ArgumentParser(prog=COMMAND, description="Export the protocol's schemas.")
    parser.add_argument("--check", action="store_true", help="write nothing, fail when a file is stale")
    check = parser.parse_args(arguments).check
    stale = stale_files(folder)
    if check:
        for path in stale:
            sys.stderr.write(f"{folder / path}: stale; run {COMMAND}\n")
        return 1 if stale else 0
    wanted = exported_files()
    (folder / "schemas").mkdir(exist_ok=True)
    for path in stale:
        if path in wanted:
            (folder / path).write_text(wanted[path], "utf-8")
        else:
            (folder / path).unlink()
        sys.stdout.write(f"{folder / path}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
