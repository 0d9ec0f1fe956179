"""The protocol is plain enough for a shell: one line in, one line out."""

from __future__ import annotations

import json
import subprocess
from typing import TYPE_CHECKING, Any, Final

import pytest

from tests.support.qemu_host import Host, running_host

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PATIENCE: Final = 30.0


@pytest.fixture
def host(short_tmp: Path) -> Iterator[Host]:
    with running_host(short_tmp, drivers=("test",)) as host:
        yield host


def shell(script: str, host: Host) -> list[Any]:
    """Run a shell script in which $S is the daemon's socket; return the JSON texts that it prints."""
    done = subprocess.run(
        ["sh", "-c", script],
        env={"S": str(host.socket), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=True,
        timeout=PATIENCE,
    )
    assert done.stderr == ""
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_one_line_takes_a_snapshot(host: Host) -> None:
    one_liner = """echo '{"jsonrpc": "2.0", "id": 1, "method": "snapshot.create", "params": {"uri": "test:///default", \
"domain": "test", "xml": "<domainsnapshot><name>before</name></domainsnapshot>"}}' | socat - UNIX-CONNECT:$S"""
    (answer,) = shell(one_liner, host)
    assert answer["id"] == 1
    assert answer["result"]["snapshot"]["name"] == "before"
    listing = """echo '{"jsonrpc":"2.0","id":2,"method":"snapshot.list","params":{"domain":"test"}}' \
| socat - UNIX-CONNECT:$S"""
    ((listed),) = shell(listing, host)
    assert [snapshot["name"] for snapshot in listed["result"]["snapshots"]] == ["before"]


def test_several_lines_are_all_answered_though_the_shell_has_stopped_talking(host: Host) -> None:
    (host.folder / "lines").write_text(
        '{"jsonrpc":"2.0","id":1,"method":"connection.ping"}\n'
        '{"jsonrpc":"2.0","id":2,"method":"snapshot.create","params":{"domain":"test","xml":"<domainsnapshot/>"}}\n'
        '{"jsonrpc":"2.0","id":3,"method":"domain.list"}\n'
    )
    answers = shell(f"socat -t 10 - UNIX-CONNECT:$S < {host.folder}/lines", host)
    assert sorted(answer["id"] for answer in answers) == [1, 2, 3]
    assert all("result" in answer for answer in answers)


def test_an_error_is_as_plain(host: Host) -> None:
    script = """printf '{"jsonrpc":"2.0","id":"x","method":"domain.info","params":{"domain":"nobody"}}\\r\\n\\n' \
| socat - UNIX-CONNECT:$S"""
    (answer,) = shell(script, host)
    assert answer["error"]["code"] == 42
    assert answer["error"]["message"] == "Domain not found: no domain with matching name 'nobody'"
