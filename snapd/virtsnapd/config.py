"""The daemon's settings: their defaults, their meaning (the descriptions are the manual), the file."""

from __future__ import annotations

import difflib
import errno
import os
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal, cast

import msgspec
from msgspec import Meta

from virtsnap_protocol.errors import Problem, RequestError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from jsonschema.exceptions import ValidationError

MIB: Final = 1024 * 1024
ENVIRONMENT: Final = "environment"
"""Stands for the file where the environment is at fault."""

Folder = Annotated[str, Meta(pattern=r"^/")]
Count = Annotated[int, Meta(ge=1)]


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of every table of the file: all settings have defaults, unknown ones are refused."""


class DaemonSettings(Settings, frozen=True, kw_only=True):
    """[daemon]: where the daemon lives and how it stops."""

    runtime_dir: Annotated[
        Folder,
        Meta(
            description="Folder of the sockets virtsnapd.sock and virtsnapd-ro.sock, unless systemd hands "
            "them over. Per user: $XDG_RUNTIME_DIR/virtsnap."
        ),
    ] = "/run/virtsnap"
    state_dir: Annotated[
        Folder,
        Meta(
            description="Folder of everything that survives a restart: the store, and the monitors of "
            "running guests. One daemon per folder. Per user: $XDG_STATE_HOME/virtsnap."
        ),
    ] = "/var/lib/virtsnap"
    log_level: Annotated[
        Literal["debug", "info", "warning", "error"],
        Meta(description="The least important messages to log: debug, info, warning or error."),
    ] = "info"
    group: Annotated[
        str,
        Meta(
            description="Group whose members may use the read-write socket. Empty: the daemon's own group. "
            "With systemd's socket activation virtsnapd.socket decides instead."
        ),
    ] = ""
    grace_seconds: Annotated[
        float,
        Meta(
            ge=0,
            le=3600,
            description="How long running calls may take to finish when the daemon is told to stop. "
            "Guests keep running in any case.",
        ),
    ] = 10.0


class LimitSettings(Settings, frozen=True, kw_only=True):
    """[limits]: what is answered with an error when exceeded."""

    frame_bytes: Annotated[
        int,
        Meta(
            ge=4096,
            le=1024 * MIB,
            description="The longest request, in bytes. A longer one ends the connection.",
        ),
    ] = 64 * MIB
    clients: Annotated[
        Count,
        Meta(description="Connections at a time; the read-only socket takes half as many beside them."),
    ] = 5000
    requests_in_flight: Annotated[
        Count, Meta(description="Unanswered requests of one client; further ones are told to try again.")
    ] = 1024
    outbox_bytes: Annotated[
        int,
        Meta(
            ge=65536,
            description="Bytes that wait for one slow reader. Beyond it the reader loses events, "
            "and is told so.",
        ),
    ] = 16 * MIB
    events_kept: Annotated[
        Count, Meta(description="Past events that a client can still ask for when it comes back.")
    ] = 8192


class DriverSettings(Settings, frozen=True, kw_only=True):
    """[drivers]: which hypervisors are served."""

    enabled: Annotated[
        tuple[Annotated[str, Meta(pattern=r"^[a-z][a-z0-9+.-]*$")], ...],
        Meta(
            min_length=1,
            description="The drivers, by the scheme of their URIs. "
            "One whose hypervisor is missing reports so.",
        ),
    ] = ("test", "qemu")
    default_uri: Annotated[
        str,
        Meta(
            pattern=r"^$|^[a-z][a-z0-9+.-]*://",
            description="The URI that calls without one mean. Empty: qemu:///system where QEMU works "
            "(per user qemu:///session), else test:///default.",
        ),
    ] = ""


class QemuSettings(Settings, frozen=True, kw_only=True):
    """[qemu]: how guests of the qemu driver are run."""

    emulator: Annotated[
        str,
        Meta(
            min_length=1,
            description="The emulator of guests that name none: a path, or a name looked up on PATH.",
        ),
    ] = "qemu-system-x86_64"
    qemu_img: Annotated[
        str, Meta(min_length=1, description="qemu-img: a path, or a name looked up on PATH.")
    ] = "qemu-img"
    accel: Annotated[
        Literal["auto", "kvm", "tcg"],
        Meta(description="Accelerator: kvm, tcg (emulation), or auto: kvm where /dev/kvm can be opened."),
    ] = "auto"
    user: Annotated[
        str,
        Meta(
            description="Account that guests run as when the daemon is root, for instance virtsnap-qemu. "
            "Empty: the daemon's own. Disk images must be accessible to it."
        ),
    ] = ""


class Config(Settings, frozen=True, kw_only=True):
    """Everything that can be set; `load` reads it."""

    daemon: DaemonSettings = DaemonSettings()
    limits: LimitSettings = LimitSettings()
    drivers: DriverSettings = DriverSettings()
    qemu: QemuSettings = QemuSettings()

    @property
    def state_dir(self) -> Path:
        """Folder of everything that survives a restart."""
        return Path(self.daemon.state_dir)

    @property
    def socket(self) -> Path:
        """Path of the read-write socket."""
        return Path(self.daemon.runtime_dir, "virtsnapd.sock")

    @property
    def read_only_socket(self) -> Path:
        """Path of the read-only socket."""
        return Path(self.daemon.runtime_dir, "virtsnapd-ro.sock")

    def with_folders(self, runtime_dir: Path | None = None, state_dir: Path | None = None) -> Config:
        """Return the configuration with the folders of the command line; relative ones are made absolute."""
        given = {"runtime_dir": runtime_dir, "state_dir": state_dir}
        changes = {name: str(path.absolute()) for name, path in given.items() if path is not None}
        return msgspec.structs.replace(self, daemon=msgspec.structs.replace(self.daemon, **changes))

    def default_uris(self, uid: int) -> tuple[str, ...]:
        """Return the URIs that a call without one may mean, best first; the first available one is meant."""
        if self.drivers.default_uri:
            return (self.drivers.default_uri,)
        return ("qemu:///system" if uid == 0 else "qemu:///session", "test:///default")


class ConfigError(RequestError):
    """The configuration cannot be used; `str` has one line ``file:setting: message`` for every problem."""

    kind = "config-error"

    def __init__(self, source: str, problems: Sequence[Problem]) -> None:
        self.source = source
        lines = (f"{source}:{p.path}: {p.message}" if p.path else f"{source}: {p.message}" for p in problems)
        super().__init__("\n".join(lines), problems=list(problems))


@dataclass(frozen=True, kw_only=True)
class Paths:
    """Where the daemon of one user finds its things by default."""

    config_file: Path
    runtime_dir: Path
    state_dir: Path


def paths_for(uid: int, environ: Mapping[str, str]) -> Paths:
    """Return the default paths: the system's for root, else the XDG Base Directory Specification's.

    The specification has relative values ignored. Without XDG_RUNTIME_DIR the folder that logind would
    have set is taken.

    Raises: ConfigError when neither HOME nor the XDG variables say where to look.
    """
    if uid == 0:
        return Paths(
            config_file=Path("/etc/virtsnap/virtsnapd.toml"),
            runtime_dir=Path("/run/virtsnap"),
            state_dir=Path("/var/lib/virtsnap"),
        )

    def xdg(variable: str, below_home: str) -> Path:
        if environ.get(variable, "").startswith("/"):
            return Path(environ[variable], "virtsnap")
        home = environ.get("HOME", "")
        if not home.startswith("/"):
            raise ConfigError(ENVIRONMENT, [Problem(path=variable, message="neither this nor HOME is set")])
        return Path(home, below_home, "virtsnap")

    runtime = environ.get("XDG_RUNTIME_DIR", "")
    return Paths(
        config_file=xdg("XDG_CONFIG_HOME", ".config") / "virtsnapd.toml",
        runtime_dir=Path(runtime if runtime.startswith("/") else f"/run/user/{uid}", "virtsnap"),
        state_dir=xdg("XDG_STATE_HOME", ".local/state"),
    )


def load(path: Path | None, *, paths: Paths | None = None) -> Config:
    """Read the file, or the default one if it exists; settings not given there have their defaults.

    `paths` defaults to those of the calling user.

    Raises: ConfigError listing every problem of the file; also when a file named explicitly cannot be read.
    """
    paths = paths or paths_for(os.getuid(), os.environ)
    source = path or paths.config_file
    try:
        document = tomllib.loads(source.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        if path is not None:
            raise ConfigError(str(source), [Problem(path="", message=os.strerror(errno.ENOENT))]) from error
        document = {}
    except OSError as error:
        raise ConfigError(str(source), [Problem(path="", message=error.strerror or str(error))]) from error
    except ValueError as error:  # tomllib.TOMLDecodeError and UnicodeDecodeError
        raise ConfigError(str(source), [Problem(path="", message=str(error))]) from error
    if isinstance(daemon := document.setdefault("daemon", {}), dict):
        daemon.setdefault("runtime_dir", str(paths.runtime_dir))
        daemon.setdefault("state_dir", str(paths.state_dir))
    return parse(document, source=str(source))


def parse(document: Mapping[str, Any], *, source: str) -> Config:
    """Return the configuration that a parsed TOML document stands for.

    Raises: ConfigError listing every problem.
    """
    try:
        return msgspec.convert(document, Config, strict=True)
    except msgspec.ValidationError as error:
        problems = _violations(document) or [Problem(path="", message=str(error))]
        raise ConfigError(source, problems) from error


def _violations(document: Mapping[str, Any]) -> list[Problem]:
    # Imported when it is needed, which is seldom: it would be a third of the daemon's start-up time.
    from jsonschema import Draft202012Validator  # noqa: PLC0415

    validator = Draft202012Validator(msgspec.json.schema(Config))
    errors = sorted(
        validator.iter_errors(document), key=lambda error: [str(step) for step in error.absolute_path]
    )
    return [problem for error in errors for problem in _problems(error)]


def _problems(error: ValidationError) -> Iterator[Problem]:
    """Yield what one violation says in the words of someone editing the file."""
    path = list(error.absolute_path)
    if error.validator == "additionalProperties":
        schema, instance = cast("dict[str, Any]", error.schema), cast("dict[str, Any]", error.instance)
        known = list(schema["properties"])
        for name in sorted(set(instance) - set(known)):
            nearest = difflib.get_close_matches(name, known, n=1)
            hint = (
                f"did you mean {_dotted([*path, nearest[0]])}?"
                if nearest
                else f"known here: {', '.join(known)}"
            )
            yield Problem(path=_dotted([*path, name]), message=f"no such setting; {hint}")
    elif error.validator == "pattern" and error.validator_value == "^/":
        yield Problem(path=_dotted(path), message=f"{error.instance!r} is not an absolute path")
    else:
        yield Problem(path=_dotted(path), message=error.message)


def _dotted(path: Iterable[str | int]) -> str:
    steps = (f"[{step}]" if isinstance(step, int) else f".{step}" for step in path)
    return "".join(steps).removeprefix(".")
