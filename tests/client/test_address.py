"""Which socket and which URI a client uses."""

from __future__ import annotations

import os
import pwd
from pathlib import Path

import pytest

import virtsnap
from virtsnap.address import SYSTEM_SOCKET, default_uri, own_socket, socket_path, unreachable
from virtsnap_protocol.errors import ConnectionLost, InvalidArgument
from virtsnapd.config import paths_for


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
    assert caught.value.remedy == "is virtsnapd running with this runtime folder?"
    assert not caught.value.maybe_applied


async def test_a_missing_socket_is_the_same_error_in_trio(tmp_path: Path) -> None:
    with pytest.raises(ConnectionLost, match="cannot connect to"):
        async with virtsnap.open_connection(socket=tmp_path / "none"):
            pass


@pytest.mark.parametrize("name", ["virtsnapd.sock", "virtsnapd-ro.sock"])
def test_a_missing_socket_of_the_system_points_to_its_service(name: str) -> None:
    error = unreachable(SYSTEM_SOCKET.with_name(name), FileNotFoundError(2, "No such file or directory"))
    assert error.remedy == "is virtsnapd running? See: systemctl status virtsnapd"


def test_a_forbidden_socket_of_the_system_names_the_group_and_the_user() -> None:
    error = unreachable(SYSTEM_SOCKET, PermissionError(13, "Permission denied"))
    user = pwd.getpwuid(os.getuid()).pw_name
    assert (error.remedy or "").endswith(f"see: usermod --append --groups virtsnap {user}")


def test_a_forbidden_socket_of_another_daemon_names_no_group() -> None:
    error = unreachable(Path("/x/virtsnapd.sock"), PermissionError(13, "Permission denied"))
    assert error.remedy == "only the user that runs this virtsnapd and members of its group may connect"


@pytest.mark.parametrize("environment", [{}, {"XDG_RUNTIME_DIR": ""}, {"XDG_RUNTIME_DIR": "relative"}])
def test_without_a_runtime_folder_the_own_daemon_is_where_logind_would_have_it(
    environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    own = Path("/run/user/4242/virtsnap/virtsnapd.sock")
    assert own_socket(4242, environment) == own
    assert paths_for(4242, {**environment, "HOME": "/home/x"}).runtime_dir == own.parent
    monkeypatch.setattr(Path, "exists", lambda path: path == own)
    assert socket_path(environment=environment, uid=4242) == own


@pytest.mark.parametrize("text", ["bogus", "qemu:/system", "QEMU:///system", "://"])
def test_what_is_no_uri_is_refused(text: str) -> None:
    with pytest.raises(InvalidArgument, match="is not a URI such as qemu:///system or test:///default"):
        default_uri(text, environment={})
