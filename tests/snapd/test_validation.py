from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from virtsnap_protocol.methods import METHODS, domain, event, snapshot
from virtsnapd.validation import _validator, explain

if TYPE_CHECKING:
    from virtsnap_protocol.errors import InvalidParams
    from virtsnap_protocol.method import Method

BY_NAME = {method.name: method for method in METHODS}
NAMES = sorted({name for method in METHODS for name in method.params.__struct_fields__})
FLAGS = ["redefine", "current", "secure", "paused", "active", "roots", "children", "no-such-flag"]

scalars = (
    st.none()
    | st.booleans()
    | st.integers(min_value=-(2**70), max_value=2**70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.sampled_from(["", "test", "test:///default", "Test:///", "x" * 256, "x" * 1025, *FLAGS])
    | st.text(max_size=8)
)
values = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["epoch", "seq", "kinds", "domain", "uri", "other"]), inner, max_size=3
        )
    ),
    max_leaves=6,
)
documents = st.dictionaries(st.sampled_from([*NAMES, "nonsense"]), values, max_size=5)


def refusal(method: Method[Any, Any], params: object) -> InvalidParams | None:
    """Return what the fast path makes of the parameters, explained by the referee."""
    text = json.dumps(params).encode()
    try:
        method.decode_params.decode(text)
    except msgspec.MsgspecError as error:
        return explain(method, text, str(error))
    return None


# the machine may be busy; what is compared does not depend on time
calm = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])


@calm
@given(method=st.sampled_from(METHODS), params=documents)
def test_the_decoder_and_the_referee_are_of_one_mind(
    method: Method[Any, Any], params: dict[str, Any]
) -> None:
    # what the wire carries: msgspec's reading of the text, not Python's
    value = msgspec.json.decode(json.dumps(params))
    assert (refusal(method, params) is None) == _validator(method).is_valid(value)


@calm
@given(
    params=st.fixed_dictionaries(
        {}, optional={"domain": scalars, "xml": scalars, "flags": values, "uri": scalars}
    )
)
def test_both_are_of_one_mind_about_creating_a_snapshot(params: dict[str, Any]) -> None:
    value = msgspec.json.decode(json.dumps(params))
    assert (refusal(snapshot.CREATE, params) is None) == _validator(snapshot.CREATE).is_valid(value)


def test_every_violation_is_listed_with_its_path() -> None:
    error = refusal(snapshot.CREATE, {"domain": [], "flags": ["redefine", "curent", 7], "snapshoot": 1})
    assert error is not None
    assert [(problem.path, problem.message) for problem in error.problems] == [
        ("$.xml", "is required"),
        ("$.snapshoot", "no such parameter"),
        ("$.domain", "[] is not of type 'string'"),
        ("$.domain", "[] is not of type 'integer'"),
        ("$.flags[1]", f"'curent' is not one of {flags()}; did you mean current?"),
        ("$.flags[2]", f"7 is not one of {flags()}"),
    ]
    assert str(error) == "snapshot.create: $.xml: is required (and 5 more)"


def flags() -> str:
    schema = msgspec.json.schema(snapshot.CreateParams)
    (found,) = schema["$defs"].values()
    words = found["properties"]["flags"]["items"]["enum"]
    return ", ".join(words)


def test_a_misspelt_parameter_is_answered_with_the_right_one() -> None:
    error = refusal(domain.INFO, {"domian": "test"})
    assert error is not None
    assert ("$.domian", "no such parameter; did you mean domain?") in [
        (p.path, p.message) for p in error.problems
    ]


def test_a_path_leads_into_nested_parameters() -> None:
    error = refusal(event.SUBSCRIBE, {"since": {"epoch": "e", "seq": -1}, "filter": {"kinds": ["x"]}})
    assert error is not None
    assert {problem.path for problem in error.problems} == {"$.since.seq", "$.filter.kinds[0]"}


def test_text_that_is_no_json_is_explained_by_the_decoder_s_own_words() -> None:
    error = explain(domain.INFO, b'{"domain": }', "the decoder's words")
    assert [(problem.path, problem.message) for problem in error.problems] == [("$", "the decoder's words")]


def test_a_number_that_merely_looks_like_an_integer_is_refused_with_its_path() -> None:
    error = refusal(event.UNSUBSCRIBE, {"subscription": 1.0})
    assert error is not None
    assert [problem.path for problem in error.problems] == ["$.subscription"]


def test_an_explanation_does_not_quote_megabytes() -> None:
    for params in ({"domain": "x" * 10**6}, {"domain": ["x" * 10**6]}, {"domain": "test", "x" * 10**6: 1}):
        error = refusal(domain.INFO, params)
        assert error is not None
        assert len(msgspec.json.encode(error.to_wire())) < 4000
    error = refusal(domain.INFO, {"domain": "x" * 2000})
    assert error is not None
    assert [problem.message for problem in error.problems] == [
        "has 2000 characters; at most 1024 are possible"
    ]


def test_of_several_types_the_likely_one_is_explained() -> None:
    error = refusal(domain.INFO, {"domain": "", "uri": "no uri"})
    assert error is not None
    assert [problem.path for problem in error.problems] == ["$.domain", "$.uri"]
    assert "integer" not in str(error)


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.name)
def test_the_schema_of_a_method_is_one(method: Method[Any, Any]) -> None:
    Draft202012Validator.check_schema(msgspec.json.schema(method.params))
