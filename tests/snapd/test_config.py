from __future__ import annotations

import tomllib
from pathlib import Path

import msgspec
import pytest

from tests.support.config_sample import COMMAND, SAMPLE, format_sample
from virtsnapd.config import Config, ConfigError, Paths, load, parse, paths_for


@pytest.fixture
def paths(tmp_path: Path) -> Paths:
    return Paths(
        config_file=tmp_path / "virtsnapd.toml",
        runtime_dir=tmp_path / "run",
        state_dir=tmp_path / "state",
    )


def problems(text: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        parse(tomllib.loads(text), source="f.toml")
    return str(caught.value).splitlines()


def test_root_uses_the_folders_of_the_system() -> None:
    assert paths_for(0, {"HOME": "/root", "XDG_STATE_HOME": "/elsewhere"}) == Paths(
        config_file=Path("/etc/virtsnap/virtsnapd.toml"),
        runtime_dir=Path("/run/virtsnap"),
        state_dir=Path("/var/lib/virtsnap"),
    )


def test_a_user_has_folders_where_the_xdg_variables_say() -> None:
    environ = {"XDG_RUNTIME_DIR": "/r", "XDG_STATE_HOME": "/s", "XDG_CONFIG_HOME": "/c"}
    assert paths_for(1000, environ) == Paths(
        config_file=Path("/c/virtsnap/virtsnapd.toml"),
        runtime_dir=Path("/r/virtsnap"),
        state_dir=Path("/s/virtsnap"),
    )


@pytest.mark.parametrize("value", [{}, {"XDG_STATE_HOME": "", "XDG_RUNTIME_DIR": "relative"}])
def test_a_user_without_xdg_variables_has_the_specified_defaults(value: dict[str, str]) -> None:
    assert paths_for(1000, {"HOME": "/home/u", **value}) == Paths(
        config_file=Path("/home/u/.config/virtsnap/virtsnapd.toml"),
        runtime_dir=Path("/run/user/1000/virtsnap"),
        state_dir=Path("/home/u/.local/state/virtsnap"),
    )


def test_a_user_without_a_home_is_told_which_variable_is_missing() -> None:
    with pytest.raises(ConfigError, match=r"^environment:XDG_CONFIG_HOME: neither this nor HOME is set$"):
        paths_for(1000, {})


def test_without_a_file_everything_has_its_default(paths: Paths) -> None:
    config = load(None, paths=paths)
    assert config == Config().with_folders(paths.runtime_dir, paths.state_dir)


def test_the_default_file_is_read_where_it_exists(paths: Paths) -> None:
    paths.config_file.write_text("[limits]\nclients = 7\n")
    assert load(None, paths=paths).limits.clients == 7


def test_a_file_overrides_only_what_it_says(paths: Paths, tmp_path: Path) -> None:
    file = tmp_path / "other.toml"
    file.write_text('[daemon]\nstate_dir = "/srv/virtsnap"\ngrace_seconds = 3\n[qemu]\naccel = "kvm"\n')
    config = load(file, paths=paths)
    assert config.state_dir == Path("/srv/virtsnap")
    assert config.socket == paths.runtime_dir / "virtsnapd.sock"
    assert config.read_only_socket == paths.runtime_dir / "virtsnapd-ro.sock"
    assert (config.daemon.grace_seconds, config.qemu.accel, config.qemu.qemu_img) == (3.0, "kvm", "qemu-img")


def test_a_file_that_was_named_must_exist(paths: Paths, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nowhere.toml: No such file or directory"):
        load(tmp_path / "nowhere.toml", paths=paths)


def test_a_file_that_cannot_be_read_is_an_error_even_where_it_is_optional(paths: Paths) -> None:
    paths.config_file.mkdir()
    with pytest.raises(ConfigError, match=r"virtsnapd.toml: Is a directory"):
        load(None, paths=paths)


@pytest.mark.parametrize(
    ("content", "said"),
    [(b"[limits\n", "at line 1, column 8"), (b"a = 1\na = 2\n", "line 2"), (b'x = "\xff"\n', "utf-8")],
)
def test_a_file_that_is_not_toml_says_where(paths: Paths, content: bytes, said: str) -> None:
    paths.config_file.write_bytes(content)
    with pytest.raises(ConfigError, match=said):
        load(None, paths=paths)


def test_all_problems_of_a_file_are_listed_at_once() -> None:
    text = """
    [daemon]
    log_level = "loud"
    state_dir = "relative"
    [drivers]
    enabled = ["test", 3]
    [limits]
    clients = "many"
    frame_bytes = 1
    """
    assert problems(text) == [
        "f.toml:daemon.log_level: 'loud' is not one of ['debug', 'error', 'info', 'warning']",
        "f.toml:daemon.state_dir: 'relative' is not an absolute path",
        "f.toml:drivers.enabled[1]: 3 is not of type 'string'",
        "f.toml:limits.clients: 'many' is not of type 'integer'",
        "f.toml:limits.frame_bytes: 1 is less than the minimum of 4096",
    ]


def test_an_unknown_setting_is_refused_with_the_nearest_one() -> None:
    assert problems("[limits]\nframe_byte = 5000\n") == [
        "f.toml:limits.frame_byte: no such setting; did you mean limits.frame_bytes?"
    ]


def test_an_unknown_setting_like_no_other_is_refused_with_the_list() -> None:
    assert problems("[colours]\n") == [
        "f.toml:colours: no such setting; known here: daemon, limits, drivers, qemu"
    ]


def test_a_table_given_as_a_value_is_refused(paths: Paths) -> None:
    paths.config_file.write_text("daemon = 3\n")
    with pytest.raises(ConfigError, match="daemon: 3 is not of type 'object'"):
        load(None, paths=paths)


def test_each_problem_has_the_setting_as_its_path() -> None:
    with pytest.raises(ConfigError) as caught:
        parse({"qemu": {"accel": "warp"}, "limits": {"clients": 0}}, source="f.toml")
    assert [problem.path for problem in caught.value.problems] == ["limits.clients", "qemu.accel"]


def test_folders_of_the_command_line_win_and_are_made_absolute(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    config = Config().with_folders(runtime_dir=Path("r"))
    assert config.socket == tmp_path / "r" / "virtsnapd.sock"
    assert config.state_dir == Path("/var/lib/virtsnap")


@pytest.mark.parametrize(
    ("uid", "given", "uris"),
    [
        (0, "", ("qemu:///system", "test:///default")),
        (1000, "", ("qemu:///session", "test:///default")),
        (0, "test:///default", ("test:///default",)),
    ],
)
def test_the_default_uri_is_the_one_given_or_that_of_the_user(
    uid: int, given: str, uris: tuple[str, ...]
) -> None:
    assert parse({"drivers": {"default_uri": given}}, source="f.toml").default_uris(uid) == uris


def test_the_sample_file_is_what_the_defaults_say() -> None:
    assert SAMPLE.read_text() == format_sample(), f"stale: run {COMMAND}"


def test_the_sample_file_with_everything_uncommented_is_the_default_configuration() -> None:
    lines = SAMPLE.read_text().splitlines()
    uncommented = "\n".join(line[1:] if line.startswith("#") and line[1] != " " else line for line in lines)
    assert parse(tomllib.loads(uncommented), source="sample") == Config()


def test_every_setting_has_a_description() -> None:
    schema = msgspec.json.schema(Config)["$defs"]
    settings = [
        (table, name, setting)
        for table, definition in schema.items()
        if table != "Config"
        for name, setting in definition["properties"].items()
    ]
    assert [(table, name) for table, name, setting in settings if not setting.get("description")] == []
