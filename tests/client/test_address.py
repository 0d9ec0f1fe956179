"""Which socket and which URI a client uses."""

from __future__ import annotations

from pathlib import Path

import pytest

import virtsnap
from virtsnap.address import SYSTEM_SOCKET, default_uri, socket_path, unreachable
from virtsnap_protocol.errors import ConnectionLost


def test_the_argument_goes_before_the_environment() -> None:
    environment = {"VIRTSNAP_SOCKET": "/env"}
    assert socket_path("/argument", environment=environment) == Path("/argument")


def test_the_environment_goes_before_the_default() -> None:
    assert socket_path(environment={"VIRTSNAP_SOCKET": "/env"}) == Path("/env")


def test_root_talks_to_the_system_daemon(tmp_path: Path) -> None:
    (tmp_path / "virtsnap").mkdir()
    (tmp_path / "virtsnap/virtsnapd.sock").touch()
    assert socket_path(environment={"XDG_RUNTIME_DIR": str(tmp_path)}, uid=0) == SYSTEM_SOCKET


def test_a_user_talks_to_the_own_daemon_where_it_runs(tmp_path: Path) -> None:
    own = tmp_path / "virtsnap/virtsnapd.sock"
    own.parent.mkdir()
    own.touch()
    assert socket_path(environment={"XDG_RUNTIME_DIR": str(tmp_path)}, uid=1000) == own


def test_a_user_without_an_own_daemon_talks_to_the_system_daemon(tmp_path: Path) -> None:
    assert socket_path(environment={"XDG_RUNTIME_DIR": str(tmp_path)}, uid=1000) == SYSTEM_SOCKET


def test_the_read_only_socket_lies_beside_the_other() -> None:
    assert socket_path("/run/x/virtsnapd.sock", read_only=True) == Path("/run/x/virtsnapd-ro.sock")


def test_a_read_only_socket_that_is_named_is_used_as_it_is() -> None:
    assert socket_path("/run/x/virtsnapd-ro.sock", read_only=True) == Path("/run/x/virtsnapd-ro.sock")


def test_the_uri_is_left_to_the_daemon_when_nobody_says_one() -> None:
    assert default_uri(environment={}) is None
    assert default_uri(environment={"VIRTSNAP_URI": "qemu:///system"}) == "qemu:///system"
    assert default_uri("test:///default", environment={"VIRTSNAP_URI": "x:///"}) == "test:///default"


def test_a_missing_socket_is_named_with_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(ConnectionLost, match=f"cannot connect to '{tmp_path}/none'") as caught:
        virtsnap.connect(socket=tmp_path / "none")
    assert caught.value.cause == "No such file or directory"
    assert "systemctl status virtsnapd" in (caught.value.remedy or "")
    assert not caught.value.maybe_applied


async def test_a_missing_socket_is_the_same_error_in_trio(tmp_path: Path) -> None:
    with pytest.raises(ConnectionLost, match="cannot connect to"):
        async with virtsnap.open_connection(socket=tmp_path / "none"):
            pass


def test_a_forbidden_socket_names_the_group() -> None:
    error = unreachable(Path("/x"), PermissionError(13, "Permission denied"))
    assert "group virtsnap" in (error.remedy or "")
