"""Random scripts: what somebody who knows the commands, but not what is in the hypervisor, could type.

They keep to what both sides are to agree on. What differs on purpose and leaves another state behind would make every
later command differ, and is never drawn:

- flags that libvirt's test driver lacks; --leaves with --no-leaves, which lists nothing there;
- asking for a guest when reverting to a snapshot that may be of a domain shut off (libvirt's starts none);
- memory or external disks asked for while the domain may be shut off, or a snapshot without memory while it runs
  (its test driver overrides what it is asked for; ours follows the rules of its qemu driver);
- redefining external disks without naming their files, since libvirt looks whether the images are here;
- suspending what may be shut off (there the same words mean two things), undefining again what is transient by then.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from itertools import combinations, cycle
from typing import TYPE_CHECKING, Final, TypeVar
from xml.sax.saxutils import escape

from hypothesis import strategies as st

from tests.peers.virsh.documents import DOMAIN, definition
from tests.peers.virsh.harness import Script

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

T = TypeVar("T")

MOST_COMMANDS: Final = 12
_NUMBERS: Final = 16
"""As many as the command with the most to choose needs."""

POOLS: Final = (
    ("a", "b"),
    ("a", "b", "c"),
    ("a", "B", "c2", "c10"),
    ("with space", "x/y", "q'uote"),
    ("ünï", "日本", "a"),
    ("<&>", ".dot", "1700000000", "a"),
    ("a", "A", "b"),
)
"""Few names per script, so that commands meet. Those of the last differ in case only: virsh leaves their order to
chance, unless it asks the server for one."""

STATES: Final = (
    "running",
    "paused",
    "shutoff",
    "blocked",
    "shutdown",
    "crashed",
    "pmsuspended",
    "disk-snapshot",
)


@dataclass(kw_only=True)
class Scene:
    """What the steps of one script have in common."""

    names: Sequence[str]
    goes_off: bool
    """The domain may be shut off, and snapshots may be of a domain shut off."""
    files: dict[str, str] = field(default_factory=dict)
    known: list[str] = field(default_factory=list)
    """Snapshots that should exist by now: a guess, which makes most commands find something."""

    disk_only: set[str] = field(default_factory=set)
    """Snapshots that may be of disks only: to make such current takes a flag that libvirt's test driver lacks."""

    def new_name(self, choices: Choices) -> str:
        """Return a name for a snapshot, seldom that of one which exists."""
        name = choices.often([name for name in self.names if name not in self.known], self.names)
        self.known.append(name)
        return name

    def name(self, choices: Choices) -> str:
        """Return the name of a snapshot, mostly of one that exists."""
        return choices.often(self.known, self.names)

    @property
    def orderly(self) -> bool:
        """Whether the names have an order though case does not count."""
        return len({name.lower() for name in self.names}) == len(self.names)

    def file(self, content: str) -> str:
        """Return the name of a file with this content."""
        name = f"{len(self.files) + 1}.xml"
        self.files[name] = content
        return name


class Choices:
    """The numbers that one step is made from. Zero is the simplest choice everywhere, so that scripts shrink well."""

    def __init__(self, numbers: bytes) -> None:
        self._numbers = cycle(numbers)

    def one(self, options: Sequence[T]) -> T:
        """Choose one of the options."""
        return options[next(self._numbers) % len(options)]

    def often(self, usual: Sequence[T], odd: Sequence[T]) -> T:
        """Choose one of the usual options, or one time in ten an odd one; what there is if one kind is empty."""
        rather_odd = self.one((False,) * 9 + (True,))
        return self.one(odd if not usual or (rather_odd and odd) else usual)

    def some(self, *flags: str) -> tuple[str, ...]:
        """Choose none, one or two of the flags."""
        return self.one([found for size in range(3) for found in combinations(flags, size)])


Step = list[str]
"""The words of a command."""


def quoted(word: str) -> str:
    """Return a word so that virsh's grammar reads it as it is."""
    if re.fullmatch(r"[\w./=,-]+", word, re.ASCII):
        return word
    return "'" + word.replace("'", "'\\''") + "'"


def _script(names: Sequence[str], goes_off: bool, rows: Sequence[bytes]) -> Script:
    scene = Scene(names=names, goes_off=goes_off)
    steps: list[Step] = []
    undefined = False
    for numbers in rows:
        choices = Choices(numbers)
        words = choices.one(_KINDS)(scene, choices)
        if words and not (undefined and words[0] == "undefine"):
            undefined = undefined or words[0] == "undefine"
            steps.append(words)
    commands = [" ".join(map(quoted, words)) for words in [*steps, *_last_look(scene)]]
    return Script(commands=tuple(commands), files=tuple(scene.files.items()))


_ROW: Final = st.binary(min_size=_NUMBERS, max_size=_NUMBERS)
SCRIPTS: Final = st.builds(_script, st.sampled_from(POOLS), st.booleans(), st.tuples(*[_ROW] * MOST_COMMANDS))
"""Scripts of at most `MOST_COMMANDS` commands, with the files that they name."""


def _last_look(scene: Scene) -> list[Step]:
    """Return commands that show all that a script may have changed."""
    order = [] if scene.orderly else ["--topological"]
    return [
        ["snapshot-list", "test", "--parent", *order],
        ["snapshot-list", "test", "--tree", "--topological"],
        *(["snapshot-dumpxml", "test", name] for name in dict.fromkeys(scene.known)),
        ["snapshot-current", "test", "--name"],
        ["domstate", "test", "--reason"],
    ]


def _chosen(scene: Scene, choices: Choices) -> Step:
    """Return a snapshot's name or ``--current``, or rarely both or nothing of it."""
    named = [scene.name(choices)]
    return choices.often([named, named, ["--current"]], [[], [*named, "--current"]])


# --- taking ---

_DISKS: Final = (
    "vda",
    "vda,snapshot=internal",
    "vda,snapshot=external,file=/x",
    "vda,file=/d,,1",
    "vda,snapshot=no",
    "vda,snapshot=wrong",
    "vda,driver=qcow2",
    "vda,driver=wrong",
    "vda,stype=block,file=/dev/x",
    "vda,stype=wrong",
    "vda,file=relative",
    "vda,what=1",
    "vdb",
    "/guest/diskimage1",
    "/guest/nothing",
)
_MEMORY: Final = (
    "/m",
    "file=/m",
    "file=/m,snapshot=external",
    "file=/m,snapshot=internal",
    "snapshot=internal",
    "snapshot=external",
    "snapshot=wrong",
    "relative",
    "file=relative",
    "file=/a,file=/b",
)
_DESCRIPTIONS: Final = ("words", "two words", "<&>'\"", "ünï", "-", "line\nline")
_EXTERNAL: Final = re.compile("external|file|driver|source")


def _create_as(scene: Scene, choices: Choices) -> Step:
    specs = [["--diskspec", spec] for spec in _DISKS if not (scene.goes_off and _EXTERNAL.search(spec))]
    memory = [["--memspec", spec] for spec in _MEMORY if not scene.goes_off]
    return [
        "snapshot-create-as",
        "test",
        scene.new_name(choices),
        *choices.often([[]], [["--description", text] for text in _DESCRIPTIONS]),
        *choices.often([[]], memory),
        *choices.often([[]], specs),
        *choices.often([[]], specs),
        *choices.often(_halted(scene), [("--atomic",), ("--live", "--quiesce"), ("--print-xml",)]),
    ]


def _halted(scene: Scene) -> list[tuple[str, ...]]:
    return [(), (), (), ("--halt",)] if scene.goes_off else [()]


_MEMORY_XML: Final = (
    "",
    "<memory snapshot='internal'/>",
    "<memory snapshot='no'/>",
    "<memory snapshot='external' file='/m'/>",
    "<memory file='/m'/>",
    "<memory snapshot='external'/>",
    "<memory snapshot='manual'/>",
    "<memory snapshot='what'/>",
)
_DISKS_XML: Final = (
    "",
    "<disks><disk name='vda' snapshot='internal'/></disks>",
    "<disks><disk name='vda' snapshot='external'><source file='/d'/></disk></disks>",
    "<disks><disk name='vda' snapshot='external' type='block'><source dev='/d'/></disk></disks>",
    "<disks><disk name='vda'><driver type='qcow2'/><source file='/d'/></disk></disks>",
    "<disks><disk name='vda' snapshot='no'/></disks>",
    "<disks><disk name='vda' snapshot='external'/></disks>",
    "<disks><disk name='/guest/diskimage1'/></disks>",
    "<disks><disk name='vdb'/></disks>",
    "<disks><disk name='vda'/><disk name='vda'/></disks>",
    "<disks><disk snapshot='internal'/></disks>",
    "<disks/>",
)


def _create(scene: Scene, choices: Choices) -> Step:
    memory = [xml for xml in _MEMORY_XML if "'no'" not in xml and not scene.goes_off] or [""]
    disks = [xml for xml in _DISKS_XML if not (scene.goes_off and _EXTERNAL.search(xml))]
    parts = (
        f"<name>{escape(scene.new_name(choices))}</name>",
        choices.one(("", "<description>d &lt; e</description>", "<description/>")),
        choices.often([""], ["<state>shutoff</state>", "<parent><name>nobody</name></parent>", "<unknown/>"]),
        choices.often([""], memory),
        choices.often([""], disks),
    )
    document = scene.file(f"<domainsnapshot>{''.join(parts)}</domainsnapshot>")
    flags = choices.often(_halted(scene), [("--atomic", "--live"), ("--current",)])
    return ["snapshot-create", "test", document, *flags]


# --- redefining ---

_WRONG_STATES: Final = ("", "<state>nostate</state>", "<state>x</state>")
_TIMES: Final = ("<creationTime>1600000000</creationTime>", "<creationTime>1500000001</creationTime>")
_WRONG_TIMES: Final = ("", "<creationTime>soon</creationTime>", "<creationTime>-5</creationTime>")

_OTHER_DEFINITIONS: Final = (
    "",
    f"<domain><uuid>{DOMAIN}</uuid></domain>",
    definition(uuid="6695eb01-f6a4-8304-79aa-97f2502e1930"),
    definition(name="other"),
    definition(memory=4194304),
)


def _redefine(scene: Scene, choices: Choices) -> Step:
    parent = choices.often([None, *scene.known], ["nobody", *scene.names])
    name = scene.new_name(choices) if choices.one((True, True, False)) else scene.name(choices)
    states = STATES if scene.goes_off else ("running", "paused")
    state = choices.often([f"<state>{state}</state>" for state in states], _WRONG_STATES)
    if "disk-snapshot" in state:
        scene.disk_only.add(name)
    memory = choices.often([""], _MEMORY_XML)
    sourced = bool(_EXTERNAL.search(memory)) or "disk-snapshot" in state
    disks = [xml for xml in _DISKS_XML if "<source" in xml or not (sourced or _EXTERNAL.search(xml))]
    parts = (
        f"<name>{escape(name)}</name>",
        choices.one(("", "<description>told</description>")),
        state,
        "" if parent is None else f"<parent><name>{escape(parent)}</name></parent>",
        choices.often(_TIMES, _WRONG_TIMES),
        memory,
        choices.one(disks) if sourced else choices.often([""], disks),
        choices.often([definition()], _OTHER_DEFINITIONS),
    )
    document = scene.file(f"<domainsnapshot>{''.join(parts)}</domainsnapshot>")
    flags = choices.often([(), ("--current",)], [("--no-metadata",), ("--atomic",)])
    return ["snapshot-create", "test", document, "--redefine", *flags]


# --- looking ---

_LIST_FLAGS: Final = (
    *("--tree", "--parent", "--name", "--topological", "--roots", "--leaves", "--no-leaves", "--metadata"),
    *("--no-metadata", "--inactive", "--active", "--disk-only", "--internal", "--external", "--current"),
    "--descendants",
)


def _list(scene: Scene, choices: Choices) -> Step:
    start = choices.one(([], [], [], ["--from", scene.name(choices)]))
    flags = {*choices.some(*_LIST_FLAGS), *choices.often([()], [(flag,) for flag in _LIST_FLAGS])}
    if {"--leaves", "--no-leaves"} <= flags:
        flags.remove("--leaves")
    if not scene.orderly:
        flags.add("--topological")
    return ["snapshot-list", "test", *start, *sorted(flags)]


def _current(scene: Scene, choices: Choices) -> Step:
    looks = [[], ["--name"], ["--security-info"]]
    name = scene.name(choices)
    named = [] if name in scene.disk_only else [[name], [name]]
    return ["snapshot-current", "test", *choices.often([*looks, *named], [[name, "--name"]])]


def _parent(scene: Scene, choices: Choices) -> Step:
    return ["snapshot-parent", "test", *_chosen(scene, choices)]


def _info(scene: Scene, choices: Choices) -> Step:
    return ["snapshot-info", "test", *_chosen(scene, choices)]


def _dumpxml(scene: Scene, choices: Choices) -> Step:
    return ["snapshot-dumpxml", "test", scene.name(choices), *choices.one(((), ("--security-info",)))]


# --- changing ---


def _revert(scene: Scene, choices: Choices) -> Step:
    flags = choices.some(*(["--force"] if scene.goes_off else ["--running", "--paused", "--force"]))
    return ["snapshot-revert", "test", *_chosen(scene, choices), *flags]


def _delete(scene: Scene, choices: Choices) -> Step:
    return [
        "snapshot-delete",
        "test",
        *_chosen(scene, choices),
        *choices.often([[], ["--children"], ["--children-only"]], [["--children", "--children-only"]]),
    ]


_OFF_AND_ON: Final = ("destroy test", "start test", "undefine test --snapshots-metadata", "undefine test")
_PAUSE_AND_GO_ON: Final = ("suspend test", "resume test")


def _live(scene: Scene, choices: Choices) -> Step:
    moves = _OFF_AND_ON if scene.goes_off else _PAUSE_AND_GO_ON
    text: str = choices.one(("domstate test --reason", "dominfo test", *moves))
    return text.split()


def _nothing(scene: Scene, choices: Choices) -> Step:
    return []


_KINDS: Final[tuple[Callable[[Scene, Choices], Step], ...]] = (
    _nothing,
    *(_create_as, _create_as, _create, _redefine, _redefine),
    *(_list, _list, _current, _parent, _info, _dumpxml),
    *(_revert, _delete, _live),
)
