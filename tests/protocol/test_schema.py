"""The JSON Schemas, and their agreement with the decoders."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from jsonschema.validators import extend

from tests.protocol import documents
from virtsnap_protocol import schema
from virtsnap_protocol.methods import METHODS, NOTIFICATIONS, connection, event, snapshot

if TYPE_CHECKING:
    from virtsnap_protocol.method import Method

every_method = pytest.mark.parametrize("method", METHODS, ids=lambda method: str(method.name))

# To JSON Schema 1.0 is an integer, to the decoder it is not (see virtsnap_protocol.schema).
Validator: Any = extend(  # type: ignore[no-untyped-call] # not annotated in types-jsonschema
    Draft202012Validator,
    type_checker=Draft202012Validator.TYPE_CHECKER.redefine(
        "integer", lambda _, value: isinstance(value, int) and not isinstance(value, bool)
    ),
)


def decodes(method: Method[Any, Any], value: object) -> bool:
    try:
        method.decode_params.decode(json.dumps(value))
    except msgspec.ValidationError:
        return False
    return True


@every_method
@settings(suppress_health_check=[HealthCheck.too_slow], max_examples=100)
@given(st.data())
def test_the_decoder_and_the_schema_are_of_one_mind(method: Method[Any, Any], data: st.DataObject) -> None:
    wanted = schema.params_schema(method)
    right = documents.valid(wanted, wanted["$defs"])
    value = data.draw(right | documents.spoilt(right))
    assert decodes(method, value) == Validator(wanted).is_valid(value), value


@every_method
@settings(suppress_health_check=[HealthCheck.too_slow], max_examples=30)
@given(st.data())
def test_what_follows_the_schema_decodes(method: Method[Any, Any], data: st.DataObject) -> None:
    wanted = schema.params_schema(method)
    assert decodes(method, data.draw(documents.valid(wanted, wanted["$defs"])))


@pytest.mark.parametrize("character", ["a", "é", "\U0001f600"])
@pytest.mark.parametrize(("length", "fits"), [(255, True), (256, False)])
def test_both_count_characters_not_bytes(character: str, length: int, fits: bool) -> None:
    value = {"domain": "demo", "snapshot": character * length}
    assert decodes(snapshot.GET, value) is fits
    assert Validator(schema.params_schema(snapshot.GET)).is_valid(value) is fits


@pytest.mark.parametrize(("seq", "fits"), [(0, True), (2**63 - 1, True), (2**63, False), (-1, False)])
def test_both_have_the_same_bounds_of_numbers(seq: int, fits: bool) -> None:
    value = {"since": {"epoch": "e", "seq": seq}}
    assert decodes(event.SUBSCRIBE, value) is fits
    assert Validator(schema.params_schema(event.SUBSCRIBE)).is_valid(value) is fits


def test_an_integer_with_a_fraction_of_zero_is_where_they_differ() -> None:
    assert not decodes(event.UNSUBSCRIBE, {"subscription": 1.0})
    assert Draft202012Validator(schema.params_schema(event.UNSUBSCRIBE)).is_valid({"subscription": 1.0})


@every_method
def test_schemas_of_methods_are_schemas(method: Method[Any, Any]) -> None:
    Draft202012Validator.check_schema(schema.params_schema(method))
    Draft202012Validator.check_schema(schema.result_schema(method))


@pytest.mark.parametrize("name", NOTIFICATIONS)
def test_schemas_of_notifications_are_schemas(name: str) -> None:
    Draft202012Validator.check_schema(schema.notification_document(name))


def test_a_schema_needs_no_other() -> None:
    for document in [
        *map(schema.method_document, METHODS),
        *map(schema.notification_document, NOTIFICATIONS),
    ]:
        text = json.dumps(document)
        for name in schema.definitions():
            assert (f'"#/$defs/{name}"' in text) == (name in document["$defs"])


def test_types_of_one_name_are_told_apart_by_their_noun() -> None:
    assert {"domain.ListParams", "snapshot.ListParams"} <= schema.definitions().keys()


def test_a_result_follows_its_schema() -> None:
    result = connection.OpenResult(
        driver=connection.DriverInfo(
            uri="test:///default",
            scheme="test",
            available=True,
            reason=None,
            version="1",
            capabilities=["snapshot.create"],
        )
    )
    assert Validator(schema.result_schema(connection.OPEN)).is_valid(msgspec.to_builtins(result))
    assert not Validator(schema.result_schema(connection.OPEN)).is_valid({})
