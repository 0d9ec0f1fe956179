"""What a daemon makes of a frame."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from virtsnap_protocol.errors import InvalidParams, InvalidRequest, ParseError
from virtsnap_protocol.messages import Call, Cancel, Refusal
from virtsnap_protocol.rawjson import BATCH_LIMIT
from virtsnap_protocol.requests import ENVELOPE_LIMIT, decode_request

texts = st.text(st.characters(codec="utf-8"), max_size=20)
ids = st.none() | st.integers() | texts | st.floats(allow_nan=False, allow_infinity=False)
params = st.dictionaries(texts, st.none() | st.booleans() | st.integers() | texts, max_size=4)
requests = st.fixed_dictionaries(
    {"jsonrpc": st.just("2.0"), "method": texts}, optional={"id": ids, "params": params}
)
spellings: list[dict[str, Any]] = [
    {"separators": (",", ":")},
    {"separators": (",", ":"), "ensure_ascii": False},
    {},
    {"indent": 1, "sort_keys": True},
]


def refusal(frame: bytes) -> Refusal:
    message = decode_request(frame)
    assert isinstance(message, Refusal), message
    return message


def reason(frame: bytes) -> str | None:
    return refusal(frame).error.cause


@given(requests, st.sampled_from(spellings))
def test_the_spelling_of_a_request_does_not_matter(request: dict[str, Any], spelling: dict[str, Any]) -> None:
    message = decode_request(json.dumps(request, **spelling).encode())
    if isinstance(message, Cancel):
        message = Call(None, "$/cancelRequest", None, notification=True)
    assert isinstance(message, Call)
    assert (message.id, message.method) == (request.get("id"), request["method"])
    assert message.notification == ("id" not in request)
    read = None if message.params is None else json.loads(bytes(message.params))
    assert read == request.get("params")


@pytest.mark.parametrize("identity", ["1", "-7", "1.5", "null", '"x"', '""', "9" * 400])
def test_ids_of_every_kind_are_kept(identity: str) -> None:
    message = decode_request(b'{"jsonrpc":"2.0","method":"a","id":%b}' % identity.encode())
    assert isinstance(message, Call)
    assert message.id == json.loads(identity)
    assert type(message.id) is type(json.loads(identity))
    assert not message.notification


def test_members_that_the_specification_does_not_know_are_ignored() -> None:
    message = decode_request(b'{"jsonrpc":"2.0","method":"a","id":1,"trace":{"on":true}}')
    assert isinstance(message, Call)


@pytest.mark.parametrize(
    ("frame", "rule"),
    [
        (b'{"method":"a","id":1}', '"jsonrpc" is "2.0"'),
        (b'{"jsonrpc":"1.0","method":"a","id":1}', '"jsonrpc" is "2.0"'),
        (b'{"jsonrpc":2.0,"method":"a","id":1}', '"jsonrpc" is "2.0"'),
        (b'{"jsonrpc":"2.0","id":1}', '"method" is a string'),
        (b'{"jsonrpc":"2.0","method":null,"id":1}', '"method" is a string'),
        (b'{"jsonrpc":"2.0","method":"a","id":1,"params":null}', '"params" is an object'),
        (b'{"jsonrpc":"2.0","method":"a","id":1,"params":"x"}', '"params" is an object'),
        (b'{"jsonrpc":"2.0","id":1,"result":{}}', '"method" is a string'),
    ],
)
def test_an_invalid_request_is_answered_with_its_id_and_the_rule(frame: bytes, rule: str) -> None:
    found = refusal(frame)
    assert isinstance(found.error, InvalidRequest)
    assert found.id == 1
    assert rule in str(found.error.cause)


@pytest.mark.parametrize("identity", ["true", "[]", "{}", "1e999", "9" * 5000])
def test_an_id_that_is_none_is_answered_with_null(identity: str) -> None:
    found = refusal(b'{"jsonrpc":"2.0","method":"a","id":%b}' % identity.encode())
    assert isinstance(found.error, InvalidRequest)
    assert found.id is None


@pytest.mark.parametrize(
    "frame",
    [
        b"{",
        b"nonsense",
        b'{"jsonrpc":"2.0","method":"a","id":NaN}',
        b'{"jsonrpc":"2.0","method":"a","id":Infinity}',
        b'{"jsonrpc":"2.0","method":"a","params":{"a":NaN}}',
        b'{"jsonrpc":"2.0","method":"a","params":{"a":01}}',
        b'{"jsonrpc":"2.0","method":"a","params":{"a":1,}}',
        b'{"jsonrpc":"2.0","method":"\xff"}',
        b'{"jsonrpc":"2.0","method":"a","params":{"a":"\xff"}}',
        b'{"jsonrpc":"2.0","method":"a","params":{"a":"\xed\xa0\x80"}}',
        b'{"jsonrpc":"2.0","method":"a","params":{"\xc0\x80":1}}',
        b'{"jsonrpc":"2.0","method":"a","params":{"a":"\\ud800"}}',
        b'{"jsonrpc":"2.0","method":"a","id":"\\udc00 lone"}',
        b'{"jsonrpc":"2.0","method":"a"}{"jsonrpc":"2.0","method":"b"}',
        b'\xef\xbb\xbf{"jsonrpc":"2.0","method":"a"}',
    ],
)
def test_what_is_not_json_in_utf_8_is_a_parse_error(frame: bytes) -> None:
    found = refusal(frame)
    assert isinstance(found.error, ParseError)
    assert (found.id, str(found.error)) == (None, "Parse error")


@pytest.mark.parametrize(
    "frame",
    [
        b"[" * 10_000,
        b"[" * 10_000 + b"]" * 10_000,
        b'{"a":' * 10_000 + b"1" + b"}" * 10_000,
        b'{"jsonrpc":"2.0","method":"a","id":1,"params":{"a":' + b"[" * 10_000 + b"]" * 10_000 + b"}}",
        b'[{"jsonrpc":"2.0","method":"a","id":1,"params":' + b'{"a":' * 10_000 + b"1" + b"}" * 10_000 + b"}]",
    ],
)
def test_deep_nesting_is_a_parse_error(frame: bytes) -> None:
    assert reason(frame) == "nested too deeply"


def test_utf_8_that_is_cut_between_two_pieces_of_the_check_is_valid() -> None:
    text = "a" + "é" * 1024 * 1024
    frame = b'{"jsonrpc":"2.0","method":"a","id":1,"params":{"a":"%b"}}' % text.encode()
    assert isinstance(decode_request(frame), Call)


@pytest.mark.parametrize(
    "frame",
    [
        b'{"jsonrpc":"2.0","method":"domain.info","method":"domain.destroy","id":1}',
        b'{"jsonrpc":"2.0","method":"a","id":1,"id":2}',
        b'{"jsonrpc":"2.0","method":"a","id":1,"\\u0069d":2}',
        b'{"jsonrpc":"2.0","method":"a","id":1,"params":{"a":1},"params":{"a":2}}',
        b'{"jsonrpc":"2.0","method":"a","id":1,"params":{},"params":{}}',
        b'{"jsonrpc":"2.0","jsonrpc":"2.0","method":"a","id":1}',
    ],
)
def test_a_member_that_is_named_twice_is_refused(frame: bytes) -> None:
    assert reason(frame) == "no member is given twice"


def test_a_string_that_quotes_the_parameters_does_no_harm() -> None:
    message = decode_request(b'{"id": "{\\"a\\":1}", "jsonrpc":"2.0", "method":"{}", "params":{}}')
    assert isinstance(message, Call)
    assert (message.id, message.method) == ('{"a":1}', "{}")


def test_positional_parameters_are_refused_with_the_rule() -> None:
    found = refusal(b'{"jsonrpc":"2.0","method":"a","id":7,"params":[1]}')
    assert isinstance(found.error, InvalidParams)
    assert (found.id, found.notification) == (7, False)
    assert "parameters are given by name" in str(found.error)
    assert [problem.path for problem in found.error.problems] == ["$"]


def test_positional_parameters_of_a_notification_are_refused_in_silence() -> None:
    assert refusal(b'{"jsonrpc":"2.0","method":"a","params":[]}').notification


def test_a_batch_gives_a_message_for_each_member_in_its_order() -> None:
    messages = decode_request(
        b'[{"jsonrpc":"2.0","method":"a","id":1},2,[],{"jsonrpc":"2.0","method":"b"},'
        b'{"jsonrpc":"2.0","method":"$/cancelRequest","params":{"id":1}}]'
    )
    assert isinstance(messages, list)
    assert [type(message) for message in messages] == [Call, Refusal, Refusal, Call, Cancel]


def test_an_empty_batch_is_one_invalid_request() -> None:
    assert reason(b" [ ] ") == "a batch has at least one member"


def test_a_batch_of_the_limit_passes() -> None:
    messages = decode_request(b"[" + b",".join([b'{"jsonrpc":"2.0","method":"a"}'] * BATCH_LIMIT) + b"]")
    assert isinstance(messages, list)
    assert len(messages) == BATCH_LIMIT


def test_a_batch_beyond_the_limit_is_one_invalid_request() -> None:
    assert reason(b"[" + b",".join([b"1"] * (BATCH_LIMIT + 1)) + b"]") == "a batch has at most 1024 members"


@pytest.mark.parametrize("member", [b'"id":"%b"', b'"id":1,"trace":"%b"', b'"id":1,"\\u0069d":"%b"'])
def test_only_parameters_may_be_long(member: bytes) -> None:
    frame = b'{"jsonrpc":"2.0","method":"a",' + member % (b"x" * ENVELOPE_LIMIT) + b"}"
    assert "all members but params" in str(reason(frame))


@pytest.mark.parametrize("identity", ["1", '"x"', "null", "1.5"])
def test_a_cancellation_names_a_request(identity: str) -> None:
    frame = b'{"jsonrpc":"2.0","method":"$/cancelRequest","params":{"id":%b}}' % identity.encode()
    assert decode_request(frame) == Cancel(json.loads(identity))


@pytest.mark.parametrize("params", [b"", b',"params":{}', b',"params":{"id":true}'])
def test_a_cancellation_of_nothing_is_a_notification_like_any_other(params: bytes) -> None:
    message = decode_request(b'{"jsonrpc":"2.0","method":"$/cancelRequest"' + params + b"}")
    assert isinstance(message, Call)
    assert message.notification
