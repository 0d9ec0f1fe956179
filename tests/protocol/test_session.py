"""A client's session and a daemon's, back to back and alone."""

from __future__ import annotations

import json

import msgspec
import pytest
from hypothesis import given
from msgspec import Raw

from tests.protocol.chunks import cut, cuts, streams
from tests.support.pair import ConnectionPair, only
from virtsnap_protocol.errors import (
    Cancelled,
    Error,
    FrameTooLong,
    InternalFault,
    Problem,
    SnapshotNotFound,
    TooBusy,
)
from virtsnap_protocol.messages import Call, Cancel, Notice
from virtsnap_protocol.method import NoParams
from virtsnap_protocol.methods import connection, event, snapshot
from virtsnap_protocol.session import ClientSession, Reply, ServerSession

GET = snapshot.SnapshotParams(domain="demo", snapshot="first")
INFO = snapshot.InfoResult(
    snapshot=snapshot.SnapshotInfo(
        name="first",
        parent=None,
        creation_time=1_700_000_000,
        state="running",
        location="internal",
        current=True,
        has_metadata=True,
        children=0,
        descendants=None,
        description="vor dem Übergang",
    )
)
PONG = connection.PING.result()
PING = connection.PING, NoParams()


def test_a_call_arrives_as_it_was_made() -> None:
    call = ConnectionPair().call(snapshot.GET, GET)
    assert call.method == "snapshot.get"
    assert call.params is not None
    assert snapshot.GET.decode_params.decode(call.params) == GET


def test_a_result_arrives_as_it_was_given() -> None:
    pair = ConnectionPair()
    call = pair.call(snapshot.GET, GET)
    reply = pair.result(call, INFO)
    assert (reply.id, reply.error) == (call.id, None)
    assert reply.result is not None
    assert snapshot.GET.decode_result.decode(reply.result) == INFO


def test_an_error_arrives_as_it_was_raised() -> None:
    pair = ConnectionPair()
    error = SnapshotNotFound("no snapshot 'first'", domain="demo", problems=[Problem("$.snapshot", "gone")])
    reply = pair.error(pair.call(snapshot.GET, GET), error)
    assert type(reply.error) is SnapshotNotFound
    assert vars(reply.error) == vars(error)
    assert reply.result is None


def test_answers_may_come_in_any_order() -> None:
    pair = ConnectionPair()
    first, second = pair.call(snapshot.GET, GET), pair.call(*PING)
    assert pair.result(second, PONG).id == second.id
    assert pair.result(first, INFO).id == first.id


def test_calls_are_pending_until_they_are_answered_or_abandoned() -> None:
    pair = ConnectionPair()
    first, second, third = (pair.call(*PING) for _ in range(3))
    assert list(pair.client.pending) == [first.id, second.id, third.id]
    pair.result(second, PONG)
    assert isinstance(third.id, int)
    pair.client.abandon(third.id)
    assert list(pair.client.pending) == [first.id]


def test_the_answer_to_an_abandoned_call_is_dropped() -> None:
    pair = ConnectionPair()
    call = pair.call(*PING)
    assert isinstance(call.id, int)
    pair.client.abandon(call.id)
    assert pair.client.receive_data(pair.server.result(call, PONG)) == []


def test_a_second_answer_is_dropped() -> None:
    pair = ConnectionPair()
    call = pair.call(*PING)
    pair.result(call, PONG)
    assert pair.client.receive_data(pair.server.result(call, PONG)) == []


@pytest.mark.parametrize("identity", ["7", '"1"', "1.5"])
def test_an_answer_to_a_call_that_was_never_made_is_dropped(identity: str) -> None:
    client = ClientSession()
    client.call(*PING)
    assert client.receive_data(b'{"jsonrpc":"2.0","id":%b,"result":{}}\n' % identity.encode()) == []


def test_an_answer_that_is_whole_and_alone_is_its_result() -> None:
    client = ClientSession()
    identity, _ = client.call(snapshot.GET, GET)
    plain = msgspec.structs.replace(INFO, snapshot=msgspec.structs.replace(INFO.snapshot, description="x"))
    frame = ServerSession().result(Call(identity, "snapshot.get", None), plain)
    assert client.receive_result(frame, identity, snapshot.GET) == plain
    assert not client.pending
    assert client.receive_result(frame, identity, snapshot.GET) is None


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b'{"jsonrpc":"2.0","id":1,"result":{}}', id="no newline yet"),
        pytest.param(b'{"jsonrpc":"2.0","id":1,"result":{}}\n{"jsonrpc":"2.0",', id="more behind it"),
        pytest.param(b'{"jsonrpc":"2.0","id":1,"result":{}}\n' * 2, id="twice"),
        pytest.param(
            b'{"jsonrpc":"2.0","method":"event"}\n{"jsonrpc":"2.0","id":1,"result":{}}\n', id="notice"
        ),
        pytest.param(b'{"jsonrpc":"2.0","method":"event","params":{}}\n', id="notice alone"),
        pytest.param(b'{"jsonrpc":"2.0","id":2,"result":{}}\n', id="of another call"),
        pytest.param(b'{"jsonrpc":"2.0","id":1.0,"result":{}}\n', id="a fraction for an id"),
        pytest.param(b'{"jsonrpc":"2.0","id":1,"error":{"code":1,"message":"x"}}\n', id="error"),
        pytest.param(b'{"jsonrpc":"2.0","id":1,"result":{},"error":{}}\n', id="both"),
        pytest.param(b'{"jsonrpc":"2.0","id":1,"result":{},"took":3}\n', id="unknown member"),
        pytest.param(b'{"jsonrpc":"2.0","id":1,"result":7}\n', id="of the wrong shape"),
        pytest.param(b'{"jsonrpc":"2.0","id":1,"result":{"a":"\xff"}}\n', id="not UTF-8"),
        pytest.param(b'{"jsonrpc":"2.0","id":1,\n"result":{}}\n', id="cut by a newline"),
        pytest.param(b'[{"jsonrpc":"2.0","id":1,"result":{}}]\n', id="batch"),
        pytest.param(b"nonsense\n", id="nonsense"),
        pytest.param(b'{"jsonrpc":"2.0","id":1,"result":{' + b" " * 300 + b"}}\n", id="too long"),
    ],
)
def test_all_else_is_left_untouched_for_the_general_way(data: bytes) -> None:
    tried, fresh = ClientSession(frame_limit=200), ClientSession(frame_limit=200)
    for client in (tried, fresh):
        client.call(connection.PING, NoParams())
    assert tried.receive_result(data, 1, connection.PING) is None
    assert list(tried.pending) == [1]
    assert [_seen(m) for m in tried.receive_data(data)] == [_seen(m) for m in fresh.receive_data(data)]


def test_what_ends_a_frame_that_has_begun_is_not_taken_for_an_answer() -> None:
    client = ClientSession()
    identity, _ = client.call(connection.PING, NoParams())
    answer = b'{"jsonrpc":"2.0","id":1,"result":{}}\n'
    assert client.receive_data(b'{"jsonrpc":"2.0","method":"x","params":') == []
    assert client.receive_result(answer, identity, connection.PING) is None


def _seen(message: Reply | Notice) -> object:
    """Return what can be compared of a message."""
    if isinstance(message, Notice):
        return message.method, message.params
    return message.id, message.result, str(message.error)


def test_a_cancelled_call_is_answered_all_the_same() -> None:
    pair = ConnectionPair()
    call = pair.call(snapshot.GET, GET)
    assert pair.cancel(call) == Cancel(call.id)
    assert isinstance(pair.error(call, Cancelled("cancelled by the caller")).error, Cancelled)


def test_a_notification_of_the_daemon_arrives() -> None:
    notice = event.LostNotice(subscription=1, since=event.Position(epoch="e", seq=7))
    seen = ConnectionPair().notify(event.EVENT_LOST, notice)
    assert seen.method == "event.lost"
    assert json.loads(bytes(seen.params)) == {"subscription": 1, "since": {"epoch": "e", "seq": 7}}


def test_a_notification_of_the_client_arrives_and_is_not_answered() -> None:
    pair = ConnectionPair()
    call = only(Call, pair.server.receive_data(pair.client.notification("hint", NoParams())))
    assert (call.notification, call.id) == (True, None)
    assert pair.server.result(call, PONG) == b""
    assert pair.server.error(call, TooBusy("later")) == b""


def test_an_id_of_null_is_answered() -> None:
    server = ServerSession()
    call = only(Call, server.receive_data(b'{"jsonrpc":"2.0","id":null,"method":"connection.ping"}\n'))
    assert not call.notification
    assert json.loads(server.result(call, PONG)) == {"jsonrpc": "2.0", "id": None, "result": {}}


def test_calls_may_be_keys() -> None:
    server = ServerSession()
    frame = b'{"jsonrpc":"2.0","id":1,"method":"a"}\n'
    assert len(set(server.receive_data(frame * 2))) == 2


def test_a_batch_is_answered_with_one_frame_when_its_last_call_is() -> None:
    pair = ConnectionPair()
    identities, frame = pair.client.batch([PING, (snapshot.GET, GET), PING])
    first, second, third = (e for e in pair.server.receive_data(frame) if isinstance(e, Call))
    assert pair.server.result(third, PONG) == b""
    assert pair.server.error(second, SnapshotNotFound("gone")) == b""
    answer = pair.server.result(first, PONG)
    assert answer.count(b"\n") == 1
    replies = pair.client.receive_data(answer)
    assert [r.id for r in replies if isinstance(r, Reply)] == list(reversed(identities))
    assert list(pair.client.pending) == []


def test_errors_of_a_batch_wait_for_its_calls() -> None:
    server = ServerSession()
    call = only(Call, server.receive_data(b'[1,{"jsonrpc":"2.0","id":1,"method":"a"}]\n'))
    assert [one["id"] for one in json.loads(server.result(call, PONG))] == [None, 1]


def test_notifications_of_a_batch_are_not_waited_for() -> None:
    server = ServerSession()
    notification, error = server.receive_data(b'[{"jsonrpc":"2.0","method":"a"},1]\n')
    assert isinstance(notification, Call)
    assert isinstance(error, bytes)
    assert len(json.loads(error)) == 1
    assert server.error(notification, TooBusy("later")) == b""


def test_a_batch_of_no_calls_sends_nothing() -> None:
    assert ClientSession().batch([]) == ([], b"")


def test_a_file_name_that_is_not_utf_8_does_not_spoil_an_error() -> None:
    pair = ConnectionPair()
    reply = pair.error(pair.call(*PING), InternalFault("cannot open \udcff.qcow2", cause="\udcff"))
    assert str(reply.error) == "cannot open ?.qcow2"


def test_an_over_long_frame_is_answered_and_ends_the_conversation() -> None:
    server = ServerSession(frame_limit=40)
    ping = b'{"jsonrpc":"2.0","id":1,"method":"a"}\n'
    call, error = server.receive_data(ping + b"x" * 41)
    assert isinstance(call, Call)
    assert isinstance(error, bytes)
    assert json.loads(error)["error"]["data"]["kind"] == "frame-too-long"
    assert server.closing
    assert server.receive_data(ping) == []
    assert server.result(call, PONG) == b'{"jsonrpc":"2.0","id":1,"result":{}}\n'


def test_an_over_long_answer_ends_the_conversation_for_the_client() -> None:
    client = ClientSession(frame_limit=40)
    reply = only(Reply, client.receive_data(b"x" * 41))
    assert reply.id is None
    assert isinstance(reply.error, FrameTooLong)
    assert client.closing
    assert client.receive_data(b"\n") == []


def test_an_error_without_an_id_reaches_the_client() -> None:
    pair = ConnectionPair()
    (answer,) = pair.server.receive_data(b"nonsense\n")
    assert isinstance(answer, bytes)
    reply = only(Reply, pair.client.receive_data(answer))
    assert reply.id is None
    assert reply.error is not None
    assert reply.error.kind == "parse-error"


def comparable(event: object) -> object:
    """Return what two runs of a session must agree in."""
    if isinstance(event, Call):
        return event.id, event.method, event.params, event.notification, event.batch is None
    if isinstance(event, Notice):
        return event.method, event.params
    if isinstance(event, Reply):
        return event.id, event.result, facts(event.error)
    return event


def facts(error: Error | None) -> object:
    return error and (type(error), vars(error))


@given(streams, cuts)
def test_no_bytes_in_any_chunks_confuse_the_daemon(stream: bytes, positions: list[int]) -> None:
    whole, pieces = ServerSession(200), ServerSession(200)
    expected = list(map(comparable, whole.receive_data(stream)))
    found = [comparable(e) for chunk in cut(stream, positions) for e in pieces.receive_data(chunk)]
    assert found == expected
    for answer in found:
        if isinstance(answer, bytes):
            assert answer.endswith(b"\n")
            assert json.loads(answer)


@given(streams, cuts)
def test_no_bytes_in_any_chunks_confuse_the_client(stream: bytes, positions: list[int]) -> None:
    whole, pieces = ClientSession(200), ClientSession(200)
    for session in (whole, pieces):
        session.call(*PING)
    expected = list(map(comparable, whole.receive_data(stream)))
    found = [comparable(e) for chunk in cut(stream, positions) for e in pieces.receive_data(chunk)]
    assert found == expected
    assert list(pieces.pending) == list(whole.pending)


def test_a_result_may_be_json_already() -> None:
    server = ServerSession()
    call = only(Call, server.receive_data(b'{"jsonrpc":"2.0","id":1,"method":"a"}\n'))
    assert server.result(call, Raw(b"[1]")) == b'{"jsonrpc":"2.0","id":1,"result":[1]}\n'
