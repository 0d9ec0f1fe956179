"""Hypothesis strategies for JSON that follows one of our schemas, and for JSON that nearly does."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

from hypothesis import strategies as st

if TYPE_CHECKING:
    from collections.abc import Iterator

    from virtsnap_protocol.schema import Schema

characters = st.characters(codec="utf-8")
anything = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(-3, 3).map(float)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(characters, max_size=5),
    lambda inner: (
        st.lists(inner, max_size=2) | st.dictionaries(st.text(characters, max_size=3), inner, max_size=2)
    ),
    max_leaves=4,
)


def valid(schema: Schema, definitions: dict[str, Schema]) -> st.SearchStrategy[Any]:
    """Return values that follow a schema; it knows the keywords that our schemas use."""
    match schema:
        case {"$ref": reference}:
            return valid(definitions[reference.removeprefix("#/$defs/")], definitions)
        case {"anyOf": options}:
            return st.one_of([valid(option, definitions) for option in options])
        case {"enum": values}:
            return st.sampled_from(values)
        case {"type": "object", "properties": properties, "required": required}:
            members = {name: valid(member, definitions) for name, member in properties.items()}
            return st.fixed_dictionaries(
                {name: member for name, member in members.items() if name in required},
                optional={name: member for name, member in members.items() if name not in required},
            )
        case {"type": "array", "items": items}:
            return st.lists(valid(items, definitions), max_size=3)
        case {"type": "string", "pattern": pattern}:
            return st.from_regex(pattern).filter(lambda text: len(text) <= schema["maxLength"])
        case {"type": "string"}:
            return st.text(characters, min_size=schema.get("minLength", 0), max_size=20)
        case {"type": "integer"}:
            return st.integers(schema.get("minimum"), schema.get("maximum"))
        case {"type": "boolean"}:
            return st.booleans()
        case {"type": "null"}:
            return st.none()
    raise NotImplementedError(schema)


@st.composite
def spoilt(draw: st.DrawFn, values: st.SearchStrategy[Any]) -> Any:  # noqa: ANN401 it is JSON
    """Return a value with one place changed: another value, one more member, or one less."""
    root = {"": copy.deepcopy(draw(values))}
    holder, key = draw(st.sampled_from(list(_places(root))))
    inner = holder[key]
    change = draw(st.sampled_from(["replace", "nearly", "remove", "add"]))
    if change == "add" and isinstance(inner, dict):
        inner[draw(st.sampled_from(["x", "Domain", ""]))] = draw(anything)
    elif change == "add" and isinstance(inner, list):
        inner.append(draw(anything))
    elif change == "remove" and holder is not root:
        del holder[key]
    elif change == "nearly":
        holder[key] = draw(st.sampled_from(list(_near(inner))))
    else:
        holder[key] = draw(anything)
    return root[""]


def _near(value: object) -> Iterator[object]:
    yield [value]
    yield str(value)
    if isinstance(value, str):
        yield value.upper() + " "
        yield value * 1025
    if isinstance(value, int):
        yield from (float(value % 1000), bool(value), -value, value * 2**64)


def _places(holder: Any) -> Iterator[tuple[Any, Any]]:  # noqa: ANN401 it is JSON
    for key in holder if isinstance(holder, dict) else range(len(holder)):
        yield holder, key
        if isinstance(holder[key], dict | list):
            yield from _places(holder[key])
