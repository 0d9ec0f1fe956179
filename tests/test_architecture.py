"""Who may import whom, and what a file may look like: read from the syntax tree of every source file."""

from __future__ import annotations

import ast
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Final

import pytest
from typing_extensions import override

ROOT: Final = Path(__file__).parents[1]
PACKAGES: Final = {"virtsnap_protocol": "protocol", "virtsnap": "client", "virtsnapd": "snapd"}
"""Import packages by the folders that hold them."""

LAYERS: Final[tuple[frozenset[str], ...]] = tuple(
    frozenset(layer.split())
    for layer in (
        "__main__",
        "daemon",
        "session",
        "dispatch",
        "validation",
        "handlers",
        "routing",
        "context outcomes saves snapshots",
        "access events jobs",
        "drivers",
        "disk_owners domains",
        "domain",
        "definitions hierarchies locks",
        "store",
        "models",
        "config documents flags listener logs savefile stream systemd",
    )
)
"""The daemon from the top down. A module imports from its own layer and those below, never from above."""

PURE: Final = ("virtsnap_protocol", "virtsnapd.models")
"""No waiting, no clock of their own, no trio."""
WIRES: Final = frozenset(
    {"virtsnapd.drivers.qemu.qmp", "virtsnapd.drivers.esx.soap", "virtsnapd.drivers.vbox.manage"}
)
"""The sans-I/O modules of the drivers."""
LIBRARIES: Final[dict[str, tuple[str, ...]]] = {
    "msgspec": ("virtsnap_protocol", "virtsnap", "virtsnapd"),
    "typing_extensions": ("virtsnap", "virtsnapd"),
    "trio": ("virtsnap", "virtsnapd"),
    "lxml": (
        "virtsnapd.models",
        "virtsnapd.drivers.esx.soap",
        "virtsnap.cli.xpath",  # `dumpxml --xpath` reads XML by its nature; the library of the client reads none
    ),
    "jsonschema": ("virtsnapd.validation", "virtsnapd.config"),
    "sqlite3": ("virtsnapd.store",),
    "argcomplete": ("virtsnap.cli.shell_completion",),
}
"""Where a library may be imported; one that is not listed may not be imported at all."""
MEMBERS: Final = {
    "virtsnapd.drivers": [
        f"virtsnapd.drivers.{path.name}"
        for path in (ROOT / "snapd/virtsnapd/drivers").iterdir()
        if path.is_dir() and path.name != "__pycache__"
    ],
    "virtsnapd.handlers": [
        f"virtsnapd.handlers.{path.stem}"
        for path in (ROOT / "protocol/virtsnap_protocol/methods").glob("[!_]*.py")
    ],
}
"""Drivers and nouns, by the package whose `__init__` alone lists them."""
FORBIDDEN_NAMES: Final = frozenset({"utils", "util", "helpers", "common", "manager", "base", "misc"})
MAX_LINES: Final = 500


@dataclass(frozen=True)
class Module:
    """One source file: its dotted name and its text."""

    name: str
    source: str
    is_package: bool = False

    @override
    def __str__(self) -> str:
        return self.name

    @cached_property
    def tree(self) -> ast.Module:
        return ast.parse(self.source)

    @cached_property
    def imports(self) -> tuple[str, ...]:
        """Dotted names of everything imported, wherever in the file; `from a import b` gives a.b."""
        return tuple(sorted(set(self._imports())))

    def _imports(self) -> Iterator[str]:
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Import):
                yield from (alias.name for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                yield from (f"{node.module}.{alias.name}" for alias in node.names)

    def within(self, *packages: str) -> bool:
        return _within(self.name, *packages)


def _within(name: str, *packages: str) -> bool:
    return any(name == package or name.startswith(package + ".") for package in packages)


def _module(path: Path) -> Module:
    parts = list(path.relative_to(ROOT).with_suffix("").parts[1:])
    is_package = parts[-1] == "__init__"
    name = ".".join(parts[:-1] if is_package else parts)
    return Module(name, path.read_text(encoding="utf-8"), is_package)


MODULES: Final = [
    _module(path)
    for package, folder in PACKAGES.items()
    for path in sorted((ROOT / folder / package).rglob("*.py"))
]

Rule = Callable[[Module], Iterator[str]]


def client_and_daemon_share_only_the_protocol(module: Module) -> Iterator[str]:
    own = module.name.partition(".")[0]
    for name in module.imports:
        if (other := name.partition(".")[0]) in PACKAGES and other not in {own, "virtsnap_protocol"}:
            yield f"imports {name} across the wire"


def _layer(name: str) -> int | None:
    component = name.removeprefix("virtsnapd").removeprefix(".").partition(".")[0]
    return next((number for number, layer in enumerate(LAYERS) if component in layer), None)


def the_daemon_imports_downwards(module: Module) -> Iterator[str]:
    if not module.within("virtsnapd") or module.name == "virtsnapd":
        return
    own = _layer(module.name)
    if own is None:
        yield "has no place in LAYERS of this test: which layer is it?"
        return
    for name in module.imports:
        if _within(name, "virtsnapd") and (other := _layer(name)) is not None and other < own:
            yield f"imports {name} from a layer above"


def drivers_do_not_know_each_other(module: Module) -> Iterator[str]:
    parts = module.name.split(".")
    if parts[:2] != ["virtsnapd", "drivers"] or len(parts) < 3:
        return
    for name in module.imports:
        if _within(name, "virtsnapd.drivers") and not _within(
            name, ".".join(parts[:3]), "virtsnapd.drivers.api"
        ):
            yield f"imports {name}, another driver"


def only_the_tables_list_members(module: Module) -> Iterator[str]:
    for table, members in MEMBERS.items():
        if not module.within(table):
            for name in module.imports:
                if _within(name, *members):
                    yield f"names {name}, which only the table in {table} may"
    if module.within("virtsnap_protocol.methods") and "virtsnap_protocol.methods.METHODS" in module.imports:
        yield "is a noun that needs the table of all nouns"


def libraries_stay_in_their_place(module: Module) -> Iterator[str]:
    for name in module.imports:
        library = name.partition(".")[0]
        if library in LIBRARIES:
            if not module.within(*LIBRARIES[library]):
                yield f"imports {library}, which belongs in {', '.join(LIBRARIES[library])}"
        elif library not in PACKAGES and library not in sys.stdlib_module_names:
            yield f"imports {library}: neither of the standard library nor a declared dependency"


def pure_modules_know_no_trio(module: Module) -> Iterator[str]:
    if module.within(*PURE) or module.name in WIRES:
        for name in module.imports:
            if name.partition(".")[0] in {"trio", "asyncio", "socket", "selectors", "threading", "time"}:
                yield f"imports {name}, but must stay free of I/O and clocks"


def pure_modules_do_not_wait(module: Module) -> Iterator[str]:
    if module.within(*PURE) or module.name in WIRES:
        for node in ast.walk(module.tree):
            if isinstance(node, ast.AsyncFunctionDef):
                yield f"line {node.lineno}: async def {node.name}"


def modules_say_what_they_are_for(module: Module) -> Iterator[str]:
    if not ast.get_docstring(module.tree):
        yield "has no docstring"


def names_say_something(module: Module) -> Iterator[str]:
    if (last := module.name.rpartition(".")[2]) in FORBIDDEN_NAMES:
        yield f"is called {last}, which says nothing"


def files_stay_readable(module: Module) -> Iterator[str]:
    if (lines := module.source.count("\n")) > MAX_LINES:
        yield f"has {lines} lines"


def annotations_are_not_evaluated(module: Module) -> Iterator[str]:
    if any(not isinstance(node, ast.Expr) for node in module.tree.body) and (
        "__future__.annotations" not in module.imports
    ):
        yield "lacks `from __future__ import annotations`"


RULES: Final[tuple[Rule, ...]] = (
    client_and_daemon_share_only_the_protocol,
    the_daemon_imports_downwards,
    drivers_do_not_know_each_other,
    only_the_tables_list_members,
    libraries_stay_in_their_place,
    pure_modules_know_no_trio,
    pure_modules_do_not_wait,
    modules_say_what_they_are_for,
    names_say_something,
    files_stay_readable,
    annotations_are_not_evaluated,
)

BAD: Final[tuple[tuple[Rule, str, str], ...]] = (
    (client_and_daemon_share_only_the_protocol, "virtsnap.cli.shell", "import virtsnapd.models.forest"),
    (client_and_daemon_share_only_the_protocol, "virtsnapd.daemon", "from virtsnap import address"),
    (client_and_daemon_share_only_the_protocol, "virtsnap_protocol.framing", "import virtsnap.connection"),
    (the_daemon_imports_downwards, "virtsnapd.models.forest", "from virtsnapd.store import Store"),
    (the_daemon_imports_downwards, "virtsnapd.store.store", "from virtsnapd import domains"),
    (the_daemon_imports_downwards, "virtsnapd.drivers.api", "def f():\n    import virtsnapd.handlers"),
    (the_daemon_imports_downwards, "virtsnapd.somewhere", ""),
    (drivers_do_not_know_each_other, "virtsnapd.drivers.qemu.x", "import virtsnapd.drivers.simulated.driver"),
    (drivers_do_not_know_each_other, "virtsnapd.drivers.qemu.x", "from virtsnapd.drivers import DRIVERS"),
    (
        only_the_tables_list_members,
        "virtsnapd.daemon",
        "from virtsnapd.drivers.qemu.driver import QemuDriver",
    ),
    (only_the_tables_list_members, "virtsnapd.daemon", "from virtsnapd.handlers import snapshot"),
    (
        only_the_tables_list_members,
        "virtsnap_protocol.methods.x",
        "from virtsnap_protocol.methods import METHODS",
    ),
    (libraries_stay_in_their_place, "virtsnapd.handlers.snapshot", "from lxml import etree"),
    (libraries_stay_in_their_place, "virtsnapd.domains", "import sqlite3"),
    (libraries_stay_in_their_place, "virtsnap.connection", "import jsonschema"),
    (libraries_stay_in_their_place, "virtsnap.connection", "import requests"),
    (libraries_stay_in_their_place, "virtsnap_protocol.method", "import trio"),
    (pure_modules_know_no_trio, "virtsnapd.models.forest", "import trio"),
    (pure_modules_know_no_trio, "virtsnapd.drivers.qemu.qmp", "from trio import Event"),
    (pure_modules_do_not_wait, "virtsnapd.models.forest", "async def walk(): ..."),
    (modules_say_what_they_are_for, "virtsnapd.daemon", "x = 1"),
    (names_say_something, "virtsnapd.store.utils", ""),
    (files_stay_readable, "virtsnapd.daemon", "\n" * 501),
    (annotations_are_not_evaluated, "virtsnapd.daemon", '"""Doc."""\nx = 1'),
)


@pytest.mark.parametrize("module", MODULES, ids=str)
def test_a_source_file_keeps_the_rules(module: Module) -> None:
    assert [f"{module}: {problem}" for rule in RULES for problem in rule(module)] == []


@pytest.mark.parametrize(("rule", "name", "source"), BAD)
def test_a_rule_notices_its_violation(rule: Rule, name: str, source: str) -> None:
    assert list(rule(Module(name, source)))


def test_every_rule_is_shown_to_notice_something() -> None:
    assert {rule for rule, _, _ in BAD} == set(RULES)


def test_all_three_packages_are_looked_at() -> None:
    assert {module.name.partition(".")[0] for module in MODULES} == set(PACKAGES)


def test_modules_do_not_import_each_other_in_circles() -> None:
    known = {module.name: module for module in MODULES}
    done: set[str] = set()

    def visit(name: str, path: tuple[str, ...]) -> None:
        assert name not in path, f"import circle: {' -> '.join([*path[path.index(name) :], name])}"
        if name in done:
            return
        for imported in run_time_imports(known[name]):
            target = imported if imported in known else imported.rpartition(".")[0]
            if target in known and target != name:
                visit(target, (*path, name))
        done.add(name)

    for name in known:
        visit(name, ())


def run_time_imports(module: Module) -> Iterator[str]:
    """Yield what the module imports when it is itself imported: not in functions, not for type checkers."""
    for node in module.tree.body:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def test_an_import_for_type_checkers_only_makes_no_circle() -> None:
    source = "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import virtsnapd.daemon\n"
    assert list(run_time_imports(Module("virtsnapd.session", source))) == ["typing.TYPE_CHECKING"]
