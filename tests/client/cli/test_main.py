"""The command as a whole, in this process, against a daemon that says what the test wants."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from tests.support.fake_daemon import FakeDaemon, hanging_up, refusing, silent
from tests.support.samples import DOMAIN, HELLO, SNAPSHOT, lifecycle_event
from virtsnap_protocol.errors import (
    DomainNotFound,
    InvalidParams,
    OperationInvalid,
    Problem,
    RevertRisky,
    SnapshotNotFound,
)
from virtsnap_protocol.method import Empty
from virtsnap_protocol.methods import connection, domain, event, snapshot

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.client.cli.conftest import Cli


def test_a_command_prints_its_data_and_an_empty_line(cli: Cli) -> None:
    assert cli("domstate", "vm") == (0, "running\n\n", "")


def test_quiet_leaves_out_what_is_not_data(cli: Cli) -> None:
    assert cli("-q", "domstate", "vm") == (0, "running\n", "")
    assert cli("-q", "snapshot-create-as", "vm") == (0, "", "")


def test_timing_replaces_the_empty_line(cli: Cli) -> None:
    _, out, _ = cli("-t", "echo", "a")
    assert out.startswith("a\n(Time: ")
    assert out.endswith(" ms)\n\n")


def test_commands_after_a_failing_one_are_run_and_the_last_one_counts(cli: Cli, daemon: FakeDaemon) -> None:
    daemon.answers["domain.info"] = refusing(DomainNotFound("no domain with matching name 'x'"))
    assert cli("domstate x; echo a") == (0, "\na\n", "error: failed to get domain 'x'\n")
    assert cli("echo a; domstate x") == (1, "a\n\n", "error: failed to get domain 'x'\n")


def test_nothing_is_run_when_any_command_is_not_understood(cli: Cli, daemon: FakeDaemon) -> None:
    assert cli("domstate vm; foo") == (1, "", "error: unknown command: 'foo'\n")
    assert daemon.asked == []


def test_a_refusal_is_told_after_what_failed(cli: Cli, daemon: FakeDaemon) -> None:
    daemon.answers["domain.destroy"] = refusing(OperationInvalid("domain is not running", remedy="start it"))
    assert cli("destroy", "vm") == (
        1,
        "\n",
        (
            "error: Failed to destroy domain 'vm'\n"
            "error: Requested operation is not valid: domain is not running\nhint: start it\n"
        ),
    )


def test_all_problems_are_listed(cli: Cli, daemon: FakeDaemon) -> None:
    problems = [Problem("$.a", "one"), Problem("$.b", "two")]
    daemon.answers["domain.list"] = refusing(InvalidParams("wrong", problems=problems))
    assert cli("list")[2] == "error: wrong\n  $.a: one\n  $.b: two\n"


def test_a_missing_daemon_is_told_once_with_what_to_do(
    cli: Cli, monkeypatch: pytest.MonkeyPatch, short_tmp: Path
) -> None:
    monkeypatch.setenv("VIRTSNAP_SOCKET", f"{short_tmp}/none")
    assert cli("list; list") == (
        1,
        "",
        (
            "error: failed to connect to the hypervisor\n"
            f"error: cannot connect to '{short_tmp}/none': No such file or directory\n"
            "hint: is virtsnapd running with this runtime folder?\n"
        ),
    )


def test_commands_that_need_no_daemon_work_without_one(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VIRTSNAP_SOCKET", "/nonexistent/none")
    assert cli("help", "list")[0] == 0
    assert cli("echo", "a") == (0, "a\n", "")


def test_a_daemon_that_goes_away_is_told_with_the_doubt(cli: Cli, daemon: FakeDaemon) -> None:
    daemon.answers["domain.suspend"] = hanging_up
    assert cli("suspend", "vm") == (
        1,
        "\n",
        (
            "error: Failed to suspend domain 'vm'\nerror: the daemon closed the connection\n"
            "  the request had been sent: whether it was applied is unknown\n"
        ),
    )


def test_after_a_lost_connection_the_next_command_connects_again(cli: Cli, daemon: FakeDaemon) -> None:
    daemon.answers["domain.suspend"] = hanging_up
    assert cli("suspend vm; domstate vm")[1] == "\nrunning\n\n"


def test_the_uri_comes_from_the_option_or_the_environment(
    cli: Cli, daemon: FakeDaemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VIRTSNAP_URI", "qemu:///system")
    cli("domstate", "vm")
    cli("-c", "test:///default", "domstate", "vm")
    assert [p.uri for name, p in daemon.asked if name == "connection.open"] == [
        "qemu:///system",
        "test:///default",
    ]


def test_a_failed_connect_leaves_the_commands_after_it_where_they_were(cli: Cli, daemon: FakeDaemon) -> None:
    status, out, err = cli("-c", "test:///default", "connect bogus; uri; connect bogus --readonly; uri")
    assert (status, out.split()) == (0, ["test:///default", "test:///default"])
    assert err.count("error: failed to connect to the hypervisor\n") == 2


def test_read_only_goes_to_the_socket_beside(cli: Cli, daemon: FakeDaemon) -> None:
    status, _, err = cli("-r", "domstate", "vm")
    assert status == 1
    assert f"cannot connect to '{daemon.path.with_name('virtsnapd-ro.sock')}'" in err


@pytest.mark.parametrize(
    ("argv", "complaint"),
    [
        (["--foo"], "unsupported option '--foo'. See --help."),
        (["-z"], "unsupported option '-z'. See --help."),
        (["-c"], "option '-c'/'--connect' requires an argument"),
        (["--conn"], "option '-c'/'--connect' requires an argument"),
        (["--socket"], "option '--socket' requires an argument"),
    ],
)
def test_a_wrong_global_option_is_refused(cli: Cli, argv: list[str], complaint: str) -> None:
    assert cli(*argv) == (1, "", f"error: {complaint}\n")


def test_json_is_one_document_per_command(cli: Cli) -> None:
    _, out, err = cli("--json", "domstate vm; echo a")
    assert out == '{"state":"running","reason":"booted"}\n{"text":"a"}\n'
    assert err == ""


def test_json_can_be_asked_of_one_command(cli: Cli) -> None:
    assert cli("domstate vm --json; domstate vm")[1] == '{"state":"running","reason":"booted"}\nrunning\n\n'


def test_json_of_a_failure_is_the_daemons_error(cli: Cli, daemon: FakeDaemon) -> None:
    daemon.answers["domain.info"] = refusing(DomainNotFound("no domain with matching name 'x'", domain="x"))
    error = cli.json("dominfo", "x")["error"]
    assert (error["code"], error["data"]["kind"]) == (42, "no-domain")


def test_json_of_a_contradiction_has_its_message(cli: Cli) -> None:
    assert cli.json("snapshot-info", "vm") == {
        "error": {"message": "--snapshotname or --current is required"}
    }


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["list", "--bogus"], "command 'list' doesn't support option --bogus"),
        (["bogus"], "unknown command: 'bogus'"),
        (["domstate"], "command 'domstate' requires <domain> option"),
        (["bogus; uri"], "unknown command: 'bogus'"),
        (["echo 'a"], "missing '"),
        (["--bogus"], "unsupported option '--bogus'. See --help."),
        (["-c"], "option '-c'/'--connect' requires an argument"),
    ],
)
def test_json_of_what_is_not_understood_is_one_document_too(cli: Cli, argv: list[str], message: str) -> None:
    status, out, err = cli("--json", *argv)
    assert (status, err) == (1, f"error: {message}\n")
    assert msgspec.json.decode(out) == {"error": {"message": message}}


def test_json_that_only_the_command_asks_for_is_printed_for_its_mistakes(cli: Cli) -> None:
    assert msgspec.json.decode(cli("list", "--json", "--bogus")[1])["error"]
    assert msgspec.json.decode(cli("list --bogus --json")[1])["error"]
    assert msgspec.json.decode(cli("echo --json 'a")[1])["error"]
    assert cli("bogus")[1] == ""


def test_json_of_leaving_is_empty(cli: Cli) -> None:
    assert cli("--json", "quit") == (0, "{}\n", "")


def test_json_of_a_commands_help_is_that_of_help(cli: Cli) -> None:
    expected = cli.json("help", "list")
    assert cli.json("list", "--help") == expected
    assert msgspec.json.decode(cli("list", "--help", "--json")[1]) == expected


def test_json_of_no_event_in_time_is_an_error(cli: Cli) -> None:
    status, out, err = cli("--json", "event", "--all", "--timeout", "1")
    assert (status, err) == (1, "")
    assert msgspec.json.decode(out) == {"error": {"message": "event loop timed out"}}


def test_a_text_that_is_no_uri_is_refused_with_examples(cli: Cli) -> None:
    assert cli("-c", "bogus", "list")[2] == (
        "error: failed to connect to the hypervisor\n"
        "error: invalid argument: 'bogus' is not a URI such as qemu:///system or test:///default\n"
    )


def test_the_firmwares_variables_are_reset_on_demand(cli: Cli, daemon: FakeDaemon) -> None:
    daemon.answers["snapshot.revert"] = lambda _: Empty()
    assert cli("snapshot-revert", "vm", "s1", "--reset-nvram", "--running")[0] == 0
    assert daemon.asked[-1][1].flags == ["running", "reset-nvram"]


def test_a_graceful_end_is_the_usual_one(cli: Cli, daemon: FakeDaemon) -> None:
    daemon.answers["domain.destroy"] = lambda _: domain.InfoResult(domain=DOMAIN)
    assert cli("destroy", "vm", "--graceful") == (0, "Domain 'vm' destroyed\n\n", "")


@pytest.mark.parametrize(
    ("command", "options"),
    [
        ("undefine vm", "--managed-save --checkpoints-metadata"),
        ("list", "--managed-save --without-checkpoint --no-autostart"),
    ],
)
def test_options_of_virsh_on_what_there_is_none_of_change_nothing(
    cli: Cli, daemon: FakeDaemon, command: str, options: str
) -> None:
    stopped = msgspec.structs.replace(DOMAIN, id=None, state="shutoff")
    daemon.answers["domain.info"] = lambda _: domain.InfoResult(domain=stopped)
    daemon.answers["domain.start"] = lambda _: domain.InfoResult(domain=DOMAIN)
    daemon.answers["domain.undefine"] = lambda _: Empty()
    plain = cli(command)
    asked = list(daemon.asked)
    daemon.asked.clear()
    assert plain[0] == 0
    assert (cli(f"{command} {options}"), daemon.asked) == (plain, asked)


@pytest.mark.checklist(261)
def test_force_is_sent_only_after_the_refusal_that_asks_for_it(cli: Cli, daemon: FakeDaemon) -> None:
    def revert(params: snapshot.RevertParams) -> Empty:
        if "force" not in params.flags:
            raise RevertRisky("x")
        return Empty()

    daemon.answers["snapshot.revert"] = revert
    assert cli("snapshot-revert", "vm", "s1", "--force") == (0, "Domain snapshot s1 reverted\n\n", "")
    assert [p.flags for name, p in daemon.asked if name == "snapshot.revert"] == [[], ["force"]]


@pytest.mark.checklist(261)
def test_a_risk_is_told_when_it_is_not_accepted(cli: Cli, daemon: FakeDaemon) -> None:
    daemon.answers["snapshot.revert"] = refusing(RevertRisky("the snapshot lacks the domain's definition"))
    assert cli("snapshot-revert", "vm", "s1")[2] == (
        "error: Failed to revert snapshot s1\n"
        "error: revert requires force: the snapshot lacks the domain's definition\n"
    )


def test_setting_the_current_snapshot_redefines_it_from_its_own_document(
    cli: Cli, daemon: FakeDaemon
) -> None:
    daemon.answers["snapshot.xml"] = lambda _: snapshot.XmlResult(xml="<domainsnapshot>1</domainsnapshot>")
    daemon.answers["snapshot.get"] = lambda _: snapshot.InfoResult(
        snapshot=msgspec.structs.replace(SNAPSHOT, state="disk-snapshot")
    )
    assert cli("snapshot-current", "vm", "s1")[1] == "Snapshot s1 set as current\n"
    assert daemon.asked[-2:] == [
        ("snapshot.xml", snapshot.XmlParams(domain="vm", snapshot="s1", flags=["secure"])),
        (
            "snapshot.create",
            snapshot.CreateParams(
                domain="vm",
                xml="<domainsnapshot>1</domainsnapshot>",
                flags=["redefine", "current", "disk-only"],
            ),
        ),
    ]


def test_a_domain_without_a_current_snapshot_is_named_as_typed(cli: Cli, daemon: FakeDaemon) -> None:
    daemon.answers["snapshot.current"] = refusing(
        SnapshotNotFound("the domain does not have a current snapshot")
    )
    assert cli("snapshot-current", "1")[2] == "error: domain '1' has no current snapshot\n"


def test_an_external_snapshot_is_shown_as_such(cli: Cli, daemon: FakeDaemon) -> None:
    external = msgspec.structs.replace(SNAPSHOT, location="external", parent="s0", has_metadata=False)
    daemon.answers["snapshot.get"] = lambda _: snapshot.InfoResult(snapshot=external)
    out = cli("snapshot-info", "vm", "s1")[1]
    assert "Location:       external\nParent:         s0\n" in out
    assert out.endswith("Metadata:       no\n\n")


def test_a_document_is_read_from_standard_input(
    cli: Cli, daemon: FakeDaemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"<domainsnapshot/>")))
    cli("snapshot-create", "vm", "-")
    assert daemon.asked[-1][1].xml == "<domainsnapshot/>"


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("folder", "Failed to read file '{}': Is a directory"),
        ("none", "Failed to open file '{}': No such file or directory"),
    ],
)
def test_a_document_that_cannot_be_read_is_refused(cli: Cli, tmp_path: Path, name: str, told: str) -> None:
    (tmp_path / "folder").mkdir()
    path = f"{tmp_path}/{name}"
    assert cli("define", path)[2] == f"error: {told.format(path)}\n"


def test_a_document_that_is_not_text_is_refused(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"<a>\xff")
    assert (
        cli("define", f"{tmp_path}/x")[2]
        == f"error: Failed to read file '{tmp_path}/x': not UTF-8 at byte 3\n"
    )


def test_a_method_is_called_by_name_with_json(cli: Cli) -> None:
    _, out, _ = cli("call", "domain.info", '{"domain": "vm"}')
    assert msgspec.json.decode(out)["domain"] == msgspec.to_builtins(DOMAIN)


def test_parameters_that_are_not_an_object_are_not_sent(cli: Cli, daemon: FakeDaemon) -> None:
    assert cli("call", "domain.info", "[1]")[2].startswith("error: the parameters are not a JSON object")
    assert daemon.asked == []


def test_the_version_of_everything_is_told(cli: Cli) -> None:
    assert cli("version", "--daemon")[1] == (
        "Using library: virtsnap 0.1.0\nUsing API: TEST 0.1.0\nRunning hypervisor: TEST 2\n"
        "Running against daemon: 0.1.0\n\n"
    )


def with_an_unavailable_driver(_: object) -> connection.HelloResult:
    qemu = msgspec.structs.replace(
        HELLO.drivers[0],
        uri="qemu:///system",
        scheme="qemu",
        available=False,
        reason="qemu-system-x86_64 is not installed",
        version=None,
    )
    return msgspec.structs.replace(HELLO, drivers=[*HELLO.drivers, qemu])


def test_a_driver_that_is_not_available_is_told_with_the_reason(cli: Cli, daemon: FakeDaemon) -> None:
    daemon.answers["connection.hello"] = with_an_unavailable_driver
    assert cli("version")[1] == (
        "Using library: virtsnap 0.1.0\nUsing API: TEST 0.1.0\nRunning hypervisor: TEST 2\n"
        "Driver qemu is not available: qemu-system-x86_64 is not installed\n\n"
    )


def test_json_of_the_version_has_all_drivers(cli: Cli, daemon: FakeDaemon) -> None:
    daemon.answers["connection.hello"] = with_an_unavailable_driver
    told = cli.json("version")
    assert [(driver["scheme"], driver["available"]) for driver in told["drivers"]] == [
        ("test", True),
        ("qemu", False),
    ]
    assert told["driver"] == told["drivers"][0]


def subscribed(daemon: FakeDaemon, *notices: event.EventNotice | event.LostNotice) -> None:
    """Have the daemon send notices with its first subscription, and one event with the next."""
    position = event.Position(epoch="e", seq=0)
    rest = list(notices)

    def subscribe(_: object) -> event.SubscribeResult:
        for notice in rest:
            daemon.notify(event.EVENT if isinstance(notice, event.EventNotice) else event.EVENT_LOST, notice)
        rest[:] = [event.EventNotice(subscription=7, event=lifecycle_event(9))]
        return event.SubscribeResult(subscription=7, position=position)

    daemon.answers["event.subscribe"] = subscribe


def test_the_next_event_is_waited_for(cli: Cli, daemon: FakeDaemon) -> None:
    subscribed(daemon, event.EventNotice(subscription=7, event=lifecycle_event(1)))
    assert cli("event", "--event", "lifecycle") == (
        0,
        "event 'lifecycle' for domain 'vm': Started Booted\nevents received: 1\n\n",
        "",
    )


def test_lost_events_are_fetched_from_where_they_were_lost(cli: Cli, daemon: FakeDaemon) -> None:
    since = event.Position(epoch="e", seq=5)
    subscribed(daemon, event.LostNotice(subscription=7, since=since))
    assert cli("event", "--all")[0] == 0
    assert [p.since for name, p in daemon.asked if name == "event.subscribe"] == [None, since]


def test_a_position_is_given_as_epoch_and_number(cli: Cli, daemon: FakeDaemon) -> None:
    subscribed(daemon, event.EventNotice(subscription=7, event=lifecycle_event(6)))
    cli("event", "--all", "--since", "a:b:5")
    assert [p.since for name, p in daemon.asked if name == "event.subscribe"] == [
        event.Position(epoch="a:b", seq=5)
    ]


def test_no_event_in_time_is_a_failure(cli: Cli) -> None:
    assert cli("event", "--all", "--timeout", "1") == (1, "event loop timed out\nevents received: 0\n\n", "")


def test_events_are_json_documents_too(cli: Cli, daemon: FakeDaemon) -> None:
    subscribed(daemon, event.EventNotice(subscription=7, event=lifecycle_event(1)))
    assert cli.json("event", "--all")["seq"] == 1


def run(arguments: Sequence[str | bytes], **options: Any) -> subprocess.CompletedProcess[bytes]:  # noqa: ANN401 of Popen
    environment = {**os.environ, "PYTHONPATH": ":".join(sys.path)}
    command = [sys.executable, "-m", "virtsnap.cli", *arguments]
    return subprocess.run(command, env=environment, capture_output=True, timeout=30, check=False, **options)


def run_into(output: int, arguments: list[str]) -> subprocess.CompletedProcess[bytes]:
    environment = {**os.environ, "PYTHONPATH": ":".join(sys.path)}
    command = [sys.executable, "-m", "virtsnap.cli", *arguments]
    return subprocess.run(
        command, env=environment, stdout=output, stderr=subprocess.PIPE, timeout=30, check=False
    )


def test_a_script_on_standard_input_needs_no_prompt(daemon: FakeDaemon) -> None:
    script = b"# states\ndomstate vm\n\necho 'a b'; echo c\nquit\necho d\n"
    done = run([], input=script)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"running\n\na b\nc\n", b"")


def test_a_script_that_fails_last_fails(daemon: FakeDaemon) -> None:
    assert run([], input=b"echo a\nfoo\n").returncode == 1


def test_a_full_disk_is_an_error_and_not_a_traceback(daemon: FakeDaemon) -> None:
    with Path("/dev/full").open("wb") as full:
        done = run_into(full.fileno(), ["list"])
    assert (done.returncode, done.stderr) == (1, b"error: cannot write the output: No space left on device\n")


def test_names_that_are_not_utf8_pass_through() -> None:
    assert run([b"echo", b"\xff"]).stdout == b"\xff\n"
    assert run([b"--json", b"echo", b"\xff"]).stdout == b'{"text": "\\udcff"}\n'


def test_an_interrupt_ends_a_waiting_command_quietly(daemon: FakeDaemon) -> None:
    daemon.answers["domain.info"] = silent
    environment = {**os.environ, "PYTHONPATH": ":".join(sys.path)}
    command = [sys.executable, "-m", "virtsnap.cli", "domstate", "vm"]
    with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE) as process:
        daemon.wait_for(lambda d: "domain.info" in d.names)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=30)
    assert (process.returncode, err) == (130, b"")


def test_an_interrupt_ends_the_waiting_for_events_with_their_number(daemon: FakeDaemon) -> None:
    subscribed(daemon, event.EventNotice(subscription=7, event=lifecycle_event(1)))
    environment = {**os.environ, "PYTHONPATH": ":".join(sys.path)}
    command = [sys.executable, "-m", "virtsnap.cli", "event", "--all", "--loop"]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.send_signal(signal.SIGINT)
        out, _ = process.communicate(timeout=30)
    assert (process.returncode, out) == (0, b"event loop interrupted\nevents received: 1\n\n")


def test_a_reader_that_leaves_is_no_reason_to_complain(daemon: FakeDaemon) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    try:
        done = run_into(writer, ["list"])
    finally:
        os.close(writer)
    assert (done.returncode, done.stderr) == (141, b"")
