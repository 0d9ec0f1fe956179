"""What a client makes of a frame."""

from __future__ import annotations

import pytest
from msgspec import Raw

from virtsnap_protocol.errors import ConfigUnsupported, InvalidRequest, ParseError, RequestError
from virtsnap_protocol.messages import Notice, Response
from virtsnap_protocol.replies import decode_reply


def response(frame: bytes) -> Response:
    message = decode_reply(frame)
    assert isinstance(message, Response), message
    return message


def test_a_result_is_left_as_it_is() -> None:
    assert response(b'{"jsonrpc":"2.0","id":1,"result":{"a" : 1}}').result == Raw(b'{"a" : 1}')


def test_a_result_of_null_is_a_result() -> None:
    assert response(b'{"jsonrpc":"2.0","id":1,"result":null}').result == Raw(b"null")


def test_members_that_the_specification_does_not_know_are_ignored() -> None:
    assert response(b'{"jsonrpc":"2.0","id":1,"result":{},"took":3}').error is None


def test_a_notification_without_parameters_has_none() -> None:
    message = decode_reply(b'{"jsonrpc":"2.0","method":"event"}')
    assert isinstance(message, Notice)
    assert (message.method, message.params) == ("event", Raw(b"{}"))


@pytest.mark.parametrize("data", [b"", b',"data":null', b',"data":"words"', b',"data":{"kind":7}'])
def test_an_error_of_another_implementation_is_known_by_its_code(data: bytes) -> None:
    frame = b'{"jsonrpc":"2.0","id":1,"error":{"code":67,"message":"unsupported configuration: x"%b}}' % data
    error = response(frame).error
    assert type(error) is ConfigUnsupported
    assert str(error) == "unsupported configuration: x"


def test_an_error_of_no_known_code_or_kind_keeps_its_message() -> None:
    error = response(
        b'{"jsonrpc":"2.0","id":1,"error":{"code":4711,"message":"later","data":{"kind":"new"}}}'
    ).error
    assert type(error) is RequestError
    assert str(error) == "later"


@pytest.mark.parametrize(
    "frame",
    [
        b'{"jsonrpc":"2.0","id":1}',
        b'{"jsonrpc":"2.0","id":1,"method":"a"}',
        b'{"jsonrpc":"2.0","id":1,"result":1,"error":{"code":1,"message":"x"}}',
        b'{"jsonrpc":"2.0","id":1,"error":"x"}',
        b'{"jsonrpc":"2.0","id":1,"error":{"code":"1","message":"x"}}',
        b'{"jsonrpc":"2.0","id":1,"error":null}',
    ],
)
def test_a_response_that_makes_no_sense_fails_its_call(frame: bytes) -> None:
    found = response(frame)
    assert found.id == 1
    assert isinstance(found.error, InvalidRequest)


@pytest.mark.parametrize(
    "frame",
    [
        b"1",
        b"{}",
        b"[]",
        b'{"jsonrpc":"2.0"}',
        b'{"jsonrpc":"2.0","result":1}',
        b'{"jsonrpc":"2.0","result":1,"id":null}',
        b'{"jsonrpc":"2.0","result":1,"id":true}',
        b'{"jsonrpc":"1.0","result":1,"id":1}',
        b'{"jsonrpc":"2.0","method":"a","params":[1]}',
        b'{"jsonrpc":"2.0","method":"a","result":1}',
        b"[" + b"1," * 2000 + b"1]",
    ],
)
def test_what_is_neither_response_nor_notification_breaks_the_conversation(frame: bytes) -> None:
    found = response(frame)
    assert found.id is None
    assert isinstance(found.error, InvalidRequest)


@pytest.mark.parametrize(
    "frame",
    [
        b"{",
        b'{"jsonrpc":"2.0","id":1,"result":"\xff"}',
        b'{"jsonrpc":"2.0","id":1,"result":NaN}',
        b'{"jsonrpc":"2.0","id":1,"result":' + b"[" * 10_000 + b"]" * 10_000 + b"}",
    ],
)
def test_what_is_not_json_breaks_the_conversation(frame: bytes) -> None:
    found = response(frame)
    assert found.id is None
    assert isinstance(found.error, ParseError)


def test_a_member_of_a_batch_that_makes_no_sense_spoils_no_other() -> None:
    messages = decode_reply(b'[1,{"jsonrpc":"2.0","id":1,"result":1}]')
    assert isinstance(messages, list)
    assert [one.id for one in messages if isinstance(one, Response)] == [None, 1]
