"""Errors on their way through the wire."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from virtsnap_protocol import errors
from virtsnap_protocol.errors import ERRORS, Error, ErrorObject, Problem, error_from_wire

LIBVIRT_NUMBERS = {
    "internal-error": 1,
    "hypervisor-error": 1,
    "no-support": 3,
    "driver-unavailable": 5,
    "invalid-argument": 8,
    "invalid-flags": 8,
    "operation-failed": 9,
    "snapshot-exists": 9,
    "domain-exists": 9,
    "xml-error": 27,
    "operation-denied": 29,
    "xml-detail": 35,
    "system-error": 38,
    "no-domain": 42,
    "operation-invalid": 55,
    "config-unsupported": 67,
    "operation-timeout": 68,
    "domain-busy": 68,
    "no-domain-snapshot": 72,
    "snapshot-revert-risky": 77,
    "operation-unsupported": 84,
    "access-denied": 88,
    "xml-invalid-schema": 92,
}
"""virErrorNumber, from libvirt's virterror.h."""

LIBVIRT_PREFIXES = {
    "internal-error": "internal error: ",
    "no-support": "this function is not supported by the connection driver: ",
    "invalid-argument": "invalid argument: ",
    "invalid-flags": "",
    "operation-failed": "operation failed: ",
    "xml-error": "XML error: ",
    "operation-denied": "operation forbidden: ",
    "xml-detail": "",
    "system-error": "",
    "no-domain": "Domain not found: ",
    "operation-invalid": "Requested operation is not valid: ",
    "config-unsupported": "unsupported configuration: ",
    "operation-timeout": "Timed out during operation: ",
    "no-domain-snapshot": "Domain snapshot not found: ",
    "snapshot-revert-risky": "revert requires force: ",
    "operation-unsupported": "Operation not supported: ",
    "access-denied": "access denied: ",
    "xml-invalid-schema": "XML document failed to validate against schema: ",
}
"""What src/util/virerror.c puts before the detail."""

JSONRPC_NUMBERS = {
    "parse-error": -32700,
    "invalid-request": -32600,
    "method-not-found": -32601,
    "invalid-params": -32602,
    "internal-fault": -32603,
}
"""JSON-RPC 2.0, section 5.1."""

texts = st.text(st.characters(codec="utf-8"), max_size=20)
maybe = st.none() | texts
facts = st.fixed_dictionaries(
    {},
    optional={
        "domain": maybe,
        "snapshot": maybe,
        "path": maybe,
        "cause": maybe,
        "remedy": maybe,
        "problems": st.lists(st.builds(Problem, texts, texts), max_size=3),
        "details": st.dictionaries(
            texts, maybe | st.integers(-(2**63), 2**63 - 1) | st.booleans(), max_size=3
        ),
    },
)


def through_the_wire(error: Error) -> Error:
    data = msgspec.json.encode(error.to_wire())
    return error_from_wire(msgspec.json.decode(data, type=ErrorObject))


@pytest.mark.parametrize("cls", ERRORS.values(), ids=ERRORS.keys())
@given(texts, facts)
def test_every_error_keeps_its_class_and_all_its_facts(cls: type[Error], detail: str, given: object) -> None:
    assert isinstance(given, dict)
    error = cls(detail, **given)
    found = through_the_wire(error)
    assert type(found) is cls
    assert vars(found) == vars(error)
    assert str(found) == str(error)


def classes(root: type[Error]) -> list[type[Error]]:
    """Return the classes of the contract; the daemon has some of its own that never travel."""
    children = [cls for cls in root.__subclasses__() if cls.__module__ == errors.__name__]
    return [root, *(leaf for child in children for leaf in classes(child))]


def test_every_class_has_a_kind_of_its_own() -> None:
    assert [cls.__name__ for cls in ERRORS.values()] == [cls.__name__ for cls in classes(Error)]


@pytest.mark.parametrize(("kind", "code"), (LIBVIRT_NUMBERS | JSONRPC_NUMBERS).items())
def test_codes_are_those_of_libvirt_and_of_json_rpc(kind: str, code: int) -> None:
    assert ERRORS[kind].code == code


@pytest.mark.parametrize(("kind", "prefix"), LIBVIRT_PREFIXES.items())
def test_messages_begin_as_those_of_libvirt(kind: str, prefix: str) -> None:
    assert str(ERRORS[kind]("x")) == prefix + "x"


@pytest.mark.parametrize("cls", classes(errors.ProtocolError)[1:])
def test_errors_of_the_conversation_have_negative_codes(cls: type[Error]) -> None:
    assert cls.code < 0


@pytest.mark.parametrize("cls", classes(errors.RequestError)[1:])
def test_refusals_have_positive_codes(cls: type[Error]) -> None:
    assert cls.code > 0


def test_an_error_says_on_the_wire_whether_trying_again_may_help() -> None:
    data = errors.DomainBusy("x").to_wire().data
    assert isinstance(data, errors.ErrorData)
    assert data.retryable
