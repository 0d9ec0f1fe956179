from __future__ import annotations

import configparser
import os
import re
import shutil
import subprocess
import tomllib
from pathlib import Path
from typing import Any, Final

import pytest

from virtsnapd.config import Config

ROOT: Final = Path(__file__).parents[2]
UNITS: Final = ROOT / "systemd"
NAMES: Final = ("virtsnapd.service", "virtsnapd.socket", "virtsnapd-ro.socket")
TARGETS: Final = ("sysinit", "basic", "sockets", "shutdown", "network", "local-fs", "remote-fs", "multi-user")


def unit(name: str) -> configparser.ConfigParser:
    parser = configparser.ConfigParser(interpolation=None, strict=True)
    parser.optionxform = str  # type: ignore[assignment,method-assign]  # the documented way to keep the case
    parser.read_string((UNITS / name).read_text())
    return parser


def project() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())


@pytest.fixture
def unit_folder(tmp_path: Path) -> Path:
    """Copies of the units whose daemon exists, beside the targets that they name: all that systemd is to see."""
    for name in NAMES:
        text = (UNITS / name).read_text()
        (tmp_path / name).write_text(text.replace("ExecStart=/usr/bin/virtsnapd", "ExecStart=/bin/true"))
    for target in TARGETS:
        (tmp_path / f"{target}.target").write_text(f"[Unit]\nDescription={target}\nDefaultDependencies=no\n")
    return tmp_path


def verify(folder: Path) -> subprocess.CompletedProcess[str]:
    environ = os.environ | {"SYSTEMD_UNIT_PATH": str(folder), "SYSTEMD_LOG_LEVEL": "warning"}
    command = [
        "systemd-analyze",
        "verify",
        "--generators=no",
        *(str(folder / name) for name in NAMES),
    ]
    return subprocess.run(command, env=environ, capture_output=True, text=True, check=False)


def test_systemd_finds_nothing_to_complain_about(unit_folder: Path) -> None:
    result = verify(unit_folder)
    assert (result.returncode, result.stdout + result.stderr) == (0, "")


def test_systemd_would_complain_about_a_mistake(unit_folder: Path) -> None:
    service = unit_folder / "virtsnapd.service"
    service.write_text(service.read_text().replace("KillMode=process", "KilMode=process"))
    assert "KilMode" in verify(unit_folder).stderr


def test_the_service_runs_the_installed_daemon() -> None:
    assert unit("virtsnapd.service")["Service"]["ExecStart"] == "/usr/bin/virtsnapd"
    assert "virtsnapd" in project()["project"]["scripts"]


@pytest.mark.parametrize(
    ("name", "path", "mode", "descriptor"),
    [
        ("virtsnapd.socket", Config().socket, "0660", "rw"),
        ("virtsnapd-ro.socket", Config().read_only_socket, "0666", "ro"),
    ],
)
def test_a_socket_is_where_the_daemon_would_put_it(name: str, path: Path, mode: str, descriptor: str) -> None:
    section = unit(name)["Socket"]
    assert (
        section["ListenStream"],
        section["SocketMode"],
        section["FileDescriptorName"],
        section["Service"],
    ) == (
        str(path),
        mode,
        descriptor,
        "virtsnapd.service",
    )


def test_the_state_folder_is_the_daemons_default() -> None:
    assert f"/var/lib/{unit('virtsnapd.service')['Service']['StateDirectory']}" == Config().daemon.state_dir


def test_stopping_the_service_neither_ends_guests_nor_removes_the_sockets() -> None:
    service = unit("virtsnapd.service")["Service"]
    assert service["KillMode"] == "process"
    assert "RuntimeDirectory" not in service


def test_the_daemon_has_the_time_it_takes_to_stop() -> None:
    seconds = unit("virtsnapd.service")["Service"]["TimeoutStopSec"].removesuffix("s")
    assert int(seconds) > Config().daemon.grace_seconds


def test_the_group_of_the_socket_is_one_that_is_created() -> None:
    group = unit("virtsnapd.socket")["Socket"]["SocketGroup"]
    assert re.search(rf"^g {group} ", (UNITS / "virtsnap.sysusers.conf").read_text(), re.MULTILINE)


def test_the_accounts_are_created(tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    command = ["systemd-sysusers", f"--root={tmp_path}", str(UNITS / "virtsnap.sysusers.conf")]
    subprocess.run(command, check=True, capture_output=True)
    groups = (tmp_path / "etc/group").read_text()
    assert re.search(r"^virtsnap:", groups, re.MULTILINE)
    assert re.search(r"^kvm:.*virtsnap-qemu$", groups, re.MULTILINE)
    assert re.search(
        r"^virtsnap-qemu:.*:/var/lib/virtsnap:", (tmp_path / "etc/passwd").read_text(), re.MULTILINE
    )


def test_the_folder_of_the_sockets_is_created(tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    shutil.copy("/etc/passwd", tmp_path / "etc/passwd")
    shutil.copy("/etc/group", tmp_path / "etc/group")
    command = ["systemd-tmpfiles", "--create", f"--root={tmp_path}", str(UNITS / "virtsnap.tmpfiles.conf")]
    # root in a user namespace of its own: any user may run the suite
    subprocess.run(["unshare", "--map-root-user", *command], check=True, capture_output=True)
    folder = tmp_path / Config().daemon.runtime_dir.removeprefix("/")
    assert folder.stat().st_mode & 0o7777 == 0o755


def test_nothing_that_is_installed_begins_with_snap() -> None:
    data = project()["tool"]["hatch"]["build"]["targets"]["wheel"]
    installed = [
        *project()["project"]["scripts"],
        *(part for path in data["shared-data"].values() for part in Path(path).parts),
        *(Path(package).name for package in data["packages"]),
        *Path(Config().daemon.runtime_dir).parts,
        *Path(Config().daemon.state_dir).parts,
    ]
    assert [name for name in installed if name.startswith("snap")] == []


def test_every_file_for_systemd_is_installed_where_systemd_looks() -> None:
    shared = project()["tool"]["hatch"]["build"]["targets"]["wheel"]["shared-data"]
    folders = {".service": "lib/systemd/system", ".socket": "lib/systemd/system"}
    expected = {f"systemd/{name}": f"{folders[Path(name).suffix]}/{name}" for name in NAMES} | {
        "systemd/virtsnap.sysusers.conf": "lib/sysusers.d/virtsnap.conf",
        "systemd/virtsnap.tmpfiles.conf": "lib/tmpfiles.d/virtsnap.conf",
    }
    assert expected.items() <= shared.items()
    assert {path.name for path in UNITS.iterdir() if path.suffix != ".toml"} == {
        Path(source).name for source in expected
    }
