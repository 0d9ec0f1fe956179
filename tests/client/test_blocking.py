"""The blocking connection: answers, deadlines, a daemon that goes away, events."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import msgspec
import pytest

import virtsnap
from tests.support.fake_daemon import FakeDaemon, Silence, hanging_up, refusing, silent
from tests.support.samples import DOMAIN, lifecycle_event
from virtsnap_protocol.errors import (
    ConnectionLost,
    DeadlineExceeded,
    DomainNotFound,
    InternalFault,
    InvalidArgument,
    MethodNotFound,
    ResyncRequired,
)
from virtsnap_protocol.method import Method
from virtsnap_protocol.methods import connection, domain, event
from virtsnap_protocol.session import notify

if TYPE_CHECKING:
    from collections.abc import Iterator

POSITION = event.Position(epoch="e", seq=0)


@pytest.fixture
def client(daemon: FakeDaemon) -> Iterator[virtsnap.BlockingConnection]:
    with virtsnap.connect(socket=daemon.path) as opened:
        yield opened


def test_a_call_returns_the_result(client: virtsnap.BlockingConnection) -> None:
    assert client.domain("vm").info().domain == DOMAIN


def test_text_beyond_ascii_arrives_as_it_was_sent(
    client: virtsnap.BlockingConnection, daemon: FakeDaemon
) -> None:
    daemon.answers["domain.xml"] = lambda params: domain.XmlResult(xml=params.domain)
    assert client.domain("Übergang").xml().xml == "Übergang"


@pytest.mark.parametrize("deadline", [None, 60.0])
def test_documents_larger_than_any_buffer_come_and_go_whole(
    client: virtsnap.BlockingConnection, daemon: FakeDaemon, deadline: float | None
) -> None:
    document = "x" * 3_000_000
    daemon.answers["domain.define"] = lambda params: domain.XmlResult(xml=params.xml)
    echo = Method("domain.define", domain.DefineParams, domain.XmlResult, summary="")
    assert client.call(echo, domain.DefineParams(xml=document), deadline=deadline).xml == document


def test_an_error_of_the_daemon_is_raised_as_what_it_is(
    client: virtsnap.BlockingConnection, daemon: FakeDaemon
) -> None:
    daemon.answers["domain.info"] = refusing(DomainNotFound("no domain with matching name 'x'", domain="x"))
    with pytest.raises(DomainNotFound, match="no domain with matching name 'x'") as caught:
        client.domain("x").info()
    assert caught.value.domain == "x"


def test_the_uri_is_opened_when_one_is_given(daemon: FakeDaemon) -> None:
    with virtsnap.connect("test:///default"):
        assert daemon.asked == [("connection.open", connection.OpenParams(uri="test:///default"))]


def test_a_refused_uri_leaves_no_connection(daemon: FakeDaemon) -> None:
    daemon.answers["connection.open"] = refusing(MethodNotFound("x"))
    with pytest.raises(MethodNotFound):
        virtsnap.connect("test:///default")


def test_an_unanswered_change_may_have_been_applied(
    client: virtsnap.BlockingConnection, daemon: FakeDaemon
) -> None:
    daemon.answers["domain.start"] = silent
    with pytest.raises(DeadlineExceeded, match=r"no answer to domain\.start within 0\.01 s") as caught:
        client.domain("vm").within(0.01).start()
    assert caught.value.maybe_applied


def test_an_unanswered_question_changes_nothing(
    client: virtsnap.BlockingConnection, daemon: FakeDaemon
) -> None:
    daemon.answers["domain.info"] = silent
    with pytest.raises(DeadlineExceeded) as caught:
        client.domain("vm").within(0.01).info()
    assert not caught.value.maybe_applied


def test_after_a_deadline_the_daemon_is_told_and_the_connection_serves_on(
    client: virtsnap.BlockingConnection, daemon: FakeDaemon
) -> None:
    daemon.answers["domain.start"] = silent
    with pytest.raises(DeadlineExceeded):
        client.domain("vm").within(0.01).start()
    client.ping()
    assert daemon.cancelled == [1]


def test_the_timeout_of_the_connection_holds_for_calls_without_a_deadline(daemon: FakeDaemon) -> None:
    daemon.answers["connection.ping"] = silent
    with virtsnap.connect(timeout=0.01) as client, pytest.raises(DeadlineExceeded):
        client.ping()


def test_a_daemon_that_goes_away_may_have_applied_a_change(
    client: virtsnap.BlockingConnection, daemon: FakeDaemon
) -> None:
    daemon.answers["domain.start"] = hanging_up
    with pytest.raises(ConnectionLost, match="the daemon closed the connection") as caught:
        client.domain("vm").start()
    assert caught.value.maybe_applied
    assert not client.alive


def test_a_call_on_a_lost_connection_was_not_applied(
    client: virtsnap.BlockingConnection, daemon: FakeDaemon
) -> None:
    daemon.answers["domain.start"] = hanging_up
    with pytest.raises(ConnectionLost):
        client.domain("vm").start()
    with pytest.raises(ConnectionLost) as caught:
        client.domain("vm").start()
    assert not caught.value.maybe_applied


def test_an_answer_that_makes_no_sense_ends_the_conversation(
    client: virtsnap.BlockingConnection, daemon: FakeDaemon
) -> None:
    daemon.answers["connection.ping"] = daemon.babbling
    with pytest.raises(ConnectionLost, match="the conversation is broken"):
        client.ping()


def test_a_result_of_the_wrong_shape_is_a_fault_that_leaves_the_connection_usable(
    client: virtsnap.BlockingConnection, daemon: FakeDaemon
) -> None:
    daemon.answers["domain.info"] = lambda _: domain.ListResult(domains=[], position=POSITION)
    with pytest.raises(InternalFault, match=r"answer to domain\.info is not understood"):
        client.domain("vm").info()
    client.ping()


def test_text_that_is_not_unicode_is_refused_before_it_is_sent(
    client: virtsnap.BlockingConnection, daemon: FakeDaemon
) -> None:
    with pytest.raises(InvalidArgument, match="not valid Unicode"):
        client.domain("\udcff").info()
    assert daemon.asked == []


def test_a_method_can_be_called_by_name(client: virtsnap.BlockingConnection) -> None:
    result = client.call_by_name("domain.info", msgspec.Raw(b'{"domain":"vm"}'))
    assert msgspec.json.decode(result)["domain"]["name"] == "vm"


def test_closing_twice_is_harmless(client: virtsnap.BlockingConnection) -> None:
    client.close()
    client.close()
    with pytest.raises(ConnectionLost, match="the connection is closed"):
        client.ping()


def test_events_are_delivered_in_order(client: virtsnap.BlockingConnection, daemon: FakeDaemon) -> None:
    with client.events() as stream:
        for seq in (1, 2):
            daemon.notify(event.EVENT, event.EventNotice(subscription=7, event=lifecycle_event(seq)))
        assert [next(stream), next(stream)] == [lifecycle_event(1), lifecycle_event(2)]
    assert daemon.names[-1] == "event.unsubscribe"


def test_events_that_arrive_during_a_call_are_kept(
    client: virtsnap.BlockingConnection, daemon: FakeDaemon
) -> None:
    with client.events() as stream:
        daemon.notify(event.EVENT, event.EventNotice(subscription=7, event=lifecycle_event(1)))
        client.ping()
        assert stream.next(timeout=0) == lifecycle_event(1)


def test_an_event_in_one_piece_with_an_answer_is_kept(
    client: virtsnap.BlockingConnection, daemon: FakeDaemon
) -> None:
    notice = notify(event.EVENT, event.EventNotice(subscription=7, event=lifecycle_event(1)))

    def answer_with_news(_: object) -> msgspec.Struct:
        daemon.say(notice + b'{"jsonrpc":"2.0","id":2,"result":{}}\n' + notice)
        raise Silence

    with client.events() as stream:
        daemon.answers["connection.ping"] = answer_with_news
        client.ping()
        assert [stream.next(timeout=0), stream.next(timeout=0)] == [lifecycle_event(1)] * 2


def test_waiting_for_an_event_ends_at_the_timeout(client: virtsnap.BlockingConnection) -> None:
    with client.events() as stream:
        assert stream.next(timeout=0.01) is None


def test_a_stream_that_lost_events_says_so_and_ends(
    client: virtsnap.BlockingConnection, daemon: FakeDaemon
) -> None:
    with client.events() as stream:
        daemon.notify(event.EVENT_LOST, event.LostNotice(subscription=7, since=POSITION))
        assert list(stream) == [virtsnap.LostEvents(since=POSITION)]


def test_a_stream_fails_when_the_daemon_goes_away(
    client: virtsnap.BlockingConnection, daemon: FakeDaemon
) -> None:
    with client.events() as stream:
        daemon.hang_up()
        with pytest.raises(ConnectionLost):
            next(stream)


def test_a_position_that_is_no_longer_held_is_an_error(
    client: virtsnap.BlockingConnection, daemon: FakeDaemon
) -> None:
    daemon.answers["event.subscribe"] = refusing(ResyncRequired("events are no longer held"))
    with pytest.raises(ResyncRequired):
        client.events(since=POSITION)


def test_importing_the_library_does_not_import_trio() -> None:
    code = "import sys, virtsnap, virtsnap.cli.__main__; sys.exit('trio' in sys.modules)"
    path = {"PYTHONPATH": ":".join(sys.path)}
    assert subprocess.run([sys.executable, "-c", code], env=path, check=False).returncode == 0


def test_the_trio_connection_is_there_when_asked_for() -> None:
    assert virtsnap.open_connection.__module__ == "virtsnap.connection"
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        virtsnap.nothing  # noqa: B018 that it is not there is the point
