"""Every example of the JSON-RPC 2.0 specification, section 7, from both ends.

Two things are ours: parameters are given by name, so that the examples with positional ones are refused; and our
errors carry `data`, which the examples leave out.
"""

from __future__ import annotations

import json
from typing import Any

import pytest
from msgspec import Raw

from virtsnap_protocol import errors
from virtsnap_protocol.messages import Call, Response
from virtsnap_protocol.method import Method, Params, Result
from virtsnap_protocol.replies import decode_reply
from virtsnap_protocol.session import ClientSession, Reply, ServerSession, notify


def answers(frame: str) -> object:
    """Return what a daemon with the methods of the examples answers: one value per frame, without `data`."""
    server = ServerSession()
    sent = b""
    for event in server.receive_data(frame.replace("\n", " ").encode() + b"\n"):
        if isinstance(event, bytes):
            sent += event
        elif isinstance(event, Call):
            sent += perform(server, event)
    assert sent.count(b"\n") <= 1
    return without_data(json.loads(sent)) if sent else None


def perform(server: ServerSession, call: Call) -> bytes:
    given = json.loads(bytes(call.params)) if call.params is not None else {}
    match call.method:
        case "subtract":
            return server.result(call, Raw(str(given["minuend"] - given["subtrahend"]).encode()))
        case "get_data":
            return server.result(call, Raw(b'["hello",5]'))
        case _:
            return server.error(call, errors.MethodNotFound("Method not found"))


def without_data(answer: object) -> object:
    """Leave out what the examples do; the answers to a batch may come in any order."""
    if isinstance(answer, list):
        return in_one_order([without_data(member) for member in answer])
    assert isinstance(answer, dict)
    if "error" in answer:
        assert set(answer["error"]) == {"code", "message", "data"}
        del answer["error"]["data"]
    return answer


def in_one_order(answers: list[object]) -> list[object]:
    return sorted(answers, key=lambda answer: json.dumps(answer, sort_keys=True))


def failure(identity: object, code: int, message: str) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "error": {"code": code, "message": message}, "id": identity}


def success(identity: object, result: object) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "result": result, "id": identity}


def by_position(identity: object) -> dict[str, Any]:
    return failure(identity, -32602, "parameters are given by name, not by position")


INVALID = failure(None, -32600, "Invalid Request")
PARSE_ERROR = failure(None, -32700, "Parse error")


@pytest.mark.parametrize(
    ("frame", "answer"),
    [
        pytest.param(
            '{"jsonrpc": "2.0", "method": "subtract", "params": [42, 23], "id": 1}',
            by_position(1),
            id="positional parameters",
        ),
        pytest.param(
            '{"jsonrpc": "2.0", "method": "subtract", "params": [23, 42], "id": 2}',
            by_position(2),
            id="positional parameters the other way round",
        ),
        pytest.param(
            '{"jsonrpc": "2.0", "method": "subtract", "params": {"subtrahend": 23, "minuend": 42}, "id": 3}',
            success(3, 19),
            id="named parameters",
        ),
        pytest.param(
            '{"jsonrpc": "2.0", "method": "subtract", "params": {"minuend": 42, "subtrahend": 23}, "id": 4}',
            success(4, 19),
            id="named parameters in another order",
        ),
        pytest.param(
            '{"jsonrpc": "2.0", "method": "update", "params": [1,2,3,4,5]}', None, id="notification"
        ),
        pytest.param('{"jsonrpc": "2.0", "method": "foobar"}', None, id="notification of no known method"),
        pytest.param(
            '{"jsonrpc": "2.0", "method": "foobar", "id": "1"}',
            failure("1", -32601, "Method not found"),
            id="call of no known method",
        ),
        pytest.param(
            '{"jsonrpc": "2.0", "method": "foobar, "params": "bar", "baz]', PARSE_ERROR, id="invalid JSON"
        ),
        pytest.param(
            '{"jsonrpc": "2.0", "method": 1, "params": "bar"}', INVALID, id="invalid request object"
        ),
        pytest.param(
            """[
  {"jsonrpc": "2.0", "method": "sum", "params": [1,2,4], "id": "1"},
  {"jsonrpc": "2.0", "method"
]""",
            PARSE_ERROR,
            id="batch of invalid JSON",
        ),
        pytest.param("[]", INVALID, id="empty array"),
        pytest.param("[1]", [INVALID], id="invalid batch that is not empty"),
        pytest.param("[1,2,3]", [INVALID] * 3, id="invalid batch"),
        pytest.param(
            """[
  {"jsonrpc": "2.0", "method": "sum", "params": [1,2,4], "id": "1"},
  {"jsonrpc": "2.0", "method": "notify_hello", "params": [7]},
  {"jsonrpc": "2.0", "method": "subtract", "params": [42,23], "id": "2"},
  {"foo": "boo"},
  {"jsonrpc": "2.0", "method": "foo.get", "params": {"name": "myself"}, "id": "5"},
  {"jsonrpc": "2.0", "method": "get_data", "id": "9"}
]""",
            [
                by_position("1"),
                by_position("2"),
                INVALID,
                failure("5", -32601, "Method not found"),
                success("9", ["hello", 5]),
            ],
            id="batch",
        ),
        pytest.param(
            """[
  {"jsonrpc": "2.0", "method": "notify_sum", "params": [1,2,4]},
  {"jsonrpc": "2.0", "method": "notify_hello", "params": [7]}
]""",
            None,
            id="batch of notifications",
        ),
    ],
)
def test_the_daemon_answers_as_the_specification_says(frame: str, answer: object) -> None:
    assert answers(frame) == (in_one_order(answer) if isinstance(answer, list) else answer)


class Subtraction(Params, frozen=True, kw_only=True):
    """Parameters of the examples."""

    minuend: int
    subtrahend: int


SUBTRACT = Method("subtract", Subtraction, Result, summary="Subtract.")
NUMBERS = Subtraction(minuend=42, subtrahend=23)


def test_the_client_calls_as_the_specification_says() -> None:
    identity, frame = ClientSession().call(SUBTRACT, NUMBERS)
    assert json.loads(frame) == {
        "jsonrpc": "2.0",
        "method": "subtract",
        "params": {"minuend": 42, "subtrahend": 23},
        "id": identity,
    }


def test_the_client_notifies_as_the_specification_says() -> None:
    expected = {"jsonrpc": "2.0", "method": "update", "params": {"minuend": 42, "subtrahend": 23}}
    assert json.loads(ClientSession().notification("update", NUMBERS)) == expected
    assert json.loads(notify("update", NUMBERS)) == expected


def test_the_client_sends_a_batch_as_the_specification_says() -> None:
    identities, frame = ClientSession().batch([(SUBTRACT, NUMBERS), (SUBTRACT, NUMBERS)])
    assert [(member["method"], member["id"]) for member in json.loads(frame)] == [
        ("subtract", identity) for identity in identities
    ]


def test_the_client_understands_the_result_of_its_call() -> None:
    client = ClientSession()
    client.call(SUBTRACT, NUMBERS)
    (reply,) = client.receive_data(b'{"jsonrpc": "2.0", "result": 19, "id": 1}\n')
    assert isinstance(reply, Reply)
    assert (reply.id, reply.result, reply.error) == (1, Raw(b"19"), None)


@pytest.mark.parametrize(
    ("frame", "identity", "error"),
    [
        (
            '{"jsonrpc": "2.0", "error": {"code": -32601, "message": "Method not found"}, "id": "1"}',
            "1",
            errors.MethodNotFound,
        ),
        (
            '{"jsonrpc": "2.0", "error": {"code": -32700, "message": "Parse error"}, "id": null}',
            None,
            errors.ParseError,
        ),
        (
            '{"jsonrpc": "2.0", "error": {"code": -32600, "message": "Invalid Request"}, "id": null}',
            None,
            errors.InvalidRequest,
        ),
    ],
)
def test_the_client_understands_the_errors_of_the_examples(
    frame: str, identity: str | None, error: type[errors.Error]
) -> None:
    response = decode_reply(frame.encode())
    assert isinstance(response, Response)
    assert response.id == identity
    assert type(response.error) is error
    assert str(response.error) == json.loads(frame)["error"]["message"]


def test_the_client_understands_the_answer_to_the_batch_of_the_examples() -> None:
    responses = decode_reply(
        b"""[
        {"jsonrpc": "2.0", "result": 7, "id": "1"},
        {"jsonrpc": "2.0", "result": 19, "id": "2"},
        {"jsonrpc": "2.0", "error": {"code": -32600, "message": "Invalid Request"}, "id": null},
        {"jsonrpc": "2.0", "error": {"code": -32601, "message": "Method not found"}, "id": "5"},
        {"jsonrpc": "2.0", "result": ["hello", 5], "id": "9"}
    ]"""
    )
    assert isinstance(responses, list)
    assert [
        (one.id, one.result and bytes(one.result), one.error and one.error.kind)
        for one in responses
        if isinstance(one, Response)
    ] == [
        ("1", b"7", None),
        ("2", b"19", None),
        (None, None, "invalid-request"),
        ("5", None, "method-not-found"),
        ("9", b'["hello", 5]', None),
    ]
