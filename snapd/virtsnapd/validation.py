"""The referee: when the typed decoder refuses parameters, the JSON Schema says everything that is wrong with them."""

from __future__ import annotations

import difflib
from functools import cache
from itertools import islice
from typing import TYPE_CHECKING, Any, Final, cast

import msgspec

from virtsnap_protocol.errors import InvalidParams, Problem

if TYPE_CHECKING:
    from jsonschema import Draft202012Validator
    from jsonschema.exceptions import ValidationError

    from virtsnap_protocol.method import Method

QUOTED_MAX: Final = 400
"""Characters that an explanation quotes of what it is about."""
WORD_MAX: Final = 64
"""Characters of a word that is worth looking for its neighbours."""
EXPLAINED_MAX: Final = 64 * 1024
"""Bytes of parameters that are explained in full: anybody may send nonsense, and explaining costs far more."""
PROBLEMS_MAX: Final = 50
"""Violations that are listed."""


def explain(method: Method[Any, Any], params: bytes, refusal: str) -> InvalidParams:
    """Return the error for parameters that the decoder of `method` refused with the words `refusal`."""
    problems = _problems(method, params) or [Problem("$", _shortened(refusal))]
    first = problems[0]
    more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
    return InvalidParams(f"{method.name}: {first.path}: {first.message}{more}", problems=problems)


def _problems(method: Method[Any, Any], params: bytes) -> list[Problem]:
    if len(params) > EXPLAINED_MAX:
        return []
    try:
        value = msgspec.json.decode(params)
    except (msgspec.MsgspecError, RecursionError):
        return []
    found = islice(_validator(method).iter_errors(value), PROBLEMS_MAX)
    errors = sorted(found, key=lambda error: list(map(str, error.absolute_path)))
    return [problem for error in errors for problem in _described(error)][:PROBLEMS_MAX]


@cache
def _validator(method: Method[Any, Any]) -> Draft202012Validator:
    # Imported when it is first needed: it would be a third of the daemon's start-up time.
    from jsonschema import Draft202012Validator, validators  # noqa: PLC0415

    # to the schema's rules 1.0 is an integer, to the decoder it is not
    types = Draft202012Validator.TYPE_CHECKER.redefine("integer", lambda _, value: type(value) is int)
    strict = cast(
        "type[Draft202012Validator]",
        validators.extend(Draft202012Validator, type_checker=types),  # type: ignore[no-untyped-call] # stubs
    )
    return strict(msgspec.json.schema(method.params))


def _described(error: ValidationError) -> list[Problem]:
    path, instance = error.json_path, error.instance
    wanted = cast("list[str]", error.validator_value)
    if error.validator == "additionalProperties":
        known = list(cast("dict[str, Any]", error.schema)["properties"])
        unknown = sorted(set(cast("dict[str, Any]", instance)) - set(known))
        return [
            Problem(f"{path}.{_shortened(name)}", "no such parameter" + _hint(name, known))
            for name in unknown[:PROBLEMS_MAX]
        ]
    if error.validator == "anyOf":
        # say what is wrong with the value as what it seems to be, not that it might have been null
        inner = [one for one in error.context or () if one.validator_value != "null"]
        likely = [one for one in inner if one.validator != "type" or one.absolute_path != error.absolute_path]
        return [problem for one in likely or inner for problem in _described(one)] or [
            Problem(path, error.message)
        ]
    if error.validator == "enum":
        text = f"{_shortened(repr(instance))} is not one of {', '.join(map(str, wanted))}"
        return [Problem(path, text + _hint(instance, wanted))]
    if error.validator == "required":
        missing = next(name for name in wanted if error.message.startswith(repr(name)))
        return [Problem(f"{path}.{missing}", "is required")]
    if error.validator == "maxLength":  # jsonschema would quote all of it
        return [Problem(path, f"has {len(cast('str', instance))} characters; at most {wanted} are possible")]
    return [Problem(path, _shortened(error.message))]


def _shortened(message: str) -> str:
    if len(message) <= QUOTED_MAX:
        return message
    return f"{message[: QUOTED_MAX // 2]} ... {message[-QUOTED_MAX // 2 :]}"


def _hint(word: object, known: list[str]) -> str:
    if len(str(word)) > WORD_MAX:
        return ""
    near = difflib.get_close_matches(str(word), known, n=1)
    return f"; did you mean {near[0]}?" if near else ""
