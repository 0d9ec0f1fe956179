"""JSON Schemas (Draft 2020-12) of everything that crosses the wire, derived from the types of the contract.

One difference is left between a schema and the decoder of the same type, by definition of both: to JSON Schema
``1.0`` is an integer, to the decoder it is not. A validator that is to be of the decoder's mind redefines the
type ``integer`` accordingly.
"""

from __future__ import annotations

import sys
from functools import cache
from typing import TYPE_CHECKING, Any, Final

import msgspec

from virtsnap_protocol import errors, method
from virtsnap_protocol.methods import METHODS, NOTIFICATIONS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from virtsnap_protocol.method import Method

Schema = dict[str, Any]

DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"
DEFINITIONS: Final = "#/$defs/"
"""Where the references of all schemas in this module point."""


def params_schema(call: Method[Any, Any]) -> Schema:
    """Return the schema of a method's parameters, complete in itself."""
    return _reference(call.params) | _needed(call.params)


def result_schema(call: Method[Any, Any]) -> Schema:
    """Return the schema of a method's result, complete in itself."""
    return _reference(call.result) | _needed(call.result)


def method_document(call: Method[Any, Any]) -> Schema:
    """Return the schemas of a method: `params` and `result`, which refer to `$defs`."""
    members = {"params": _reference(call.params), "result": _reference(call.result)}
    about = {"$schema": DIALECT, "title": call.name, "description": call.summary, "x-reads": call.reads}
    return about | members | _needed(call.params, call.result)


def notification_document(name: str) -> Schema:
    """Return the schema of a notification: `params`, which refer to `$defs`."""
    params = NOTIFICATIONS[name]
    about = {"$schema": DIALECT, "title": name, "description": summary_of(params)}
    return about | {"params": _reference(params)} | _needed(params)


def error_document() -> Schema:
    """Return the schema of `data`, a member of every error; it refers to `$defs`."""
    data = errors.ErrorData
    about = {"$schema": DIALECT, "title": "error", "description": summary_of(data)}
    return about | {"data": _reference(data)} | _needed(data)


def summary_of(struct: type) -> str:
    """Return the first line of a type's docstring."""
    return (struct.__doc__ or "").strip().partition("\n")[0]


def type_name(struct: type) -> str:
    """Return a type's name in the schemas: ``noun.Type``, for several nouns have a ListParams."""
    return f"{struct.__module__.rpartition('.')[2]}.{struct.__name__}"


@cache
def definitions() -> dict[str, Schema]:
    """Return the schemas of all types by name, those within others included."""
    types = [*(call.params for call in METHODS), *(call.result for call in METHODS), *NOTIFICATIONS.values()]
    _, found = msgspec.json.schema_components([*types, errors.ErrorData], ref_template="{name}")
    names = _type_names()
    return {
        names[short]: map_references(schema, lambda reference: DEFINITIONS + names[reference])
        for short, schema in found.items()
    }


def map_references(schema: Schema, rename: Callable[[str], str]) -> Schema:
    """Return a copy of a schema with every ``$ref`` replaced by what `rename` makes of it."""

    def mapped(value: object) -> object:
        if isinstance(value, dict):
            return map_references(value, rename)
        return [mapped(item) for item in value] if isinstance(value, list) else value

    return {key: rename(value) if key == "$ref" else mapped(value) for key, value in schema.items()}


def _type_names() -> dict[str, str]:
    """Return our name of each type by both names that msgspec may give it: the class's, or with its module."""
    nouns = dict.fromkeys(call.params.__module__ for call in METHODS)
    names: dict[str, str] = {}
    for module in (method.__name__, errors.__name__, *nouns):
        for name, value in vars(sys.modules[module]).items():
            if isinstance(value, type) and value.__module__ == module:
                names[name] = names[f"{module}.{name}"] = type_name(value)
    return names


def _reference(struct: type) -> Schema:
    return {"$ref": DEFINITIONS + type_name(struct)}


def _needed(*structs: type) -> Schema:
    """Return the member `$defs` with these types and all that they refer to."""
    found: dict[str, Schema] = {}
    waiting = [type_name(struct) for struct in structs]
    while waiting:
        name = waiting.pop(0)
        if name not in found:
            found[name] = definitions()[name]
            waiting += [reference.removeprefix(DEFINITIONS) for reference in _references(found[name])]
    return {"$defs": found}


def _references(schema: object) -> Iterator[str]:
    if isinstance(schema, dict):
        if "$ref" in schema:
            yield schema["$ref"]
        schema = list(schema.values())
    if isinstance(schema, list):
        for item in schema:
            yield from _references(item)
