"""What libvirt says of two definitions of a snapshot's domain, and what we say: the same, of every single change.

libvirt's test hypervisor runs the comparison that its other drivers do. The machine and its changes are those of
tests/support/abi: each value changed, each attribute and element removed, and pairs of changes, for the order.
"""

from __future__ import annotations

import functools
import itertools
import re
import subprocess
from typing import TYPE_CHECKING, Final

import pytest

from tests.snapd.models.abi.test_completion import COMPLETIONS
from tests.snapd.models.samples import disk_xml, domain_xml
from tests.support import abi
from virtsnap_protocol.errors import Error
from virtsnapd.models.abi import differences
from virtsnapd.models.abi.devices import CONTROLLER_MODELS
from virtsnapd.models.domain import DomainDefinition

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

PLAIN: Final = (
    f"<domain type='test'><name>plain</name><uuid>{abi.UUID}</uuid><memory>1024</memory><os><type>hvm</type></os>"
    "</domain>"
)
COMPARED: Final = re.compile(
    r"unsupported configuration: ((?:Target |.*\bdiffers\b|.*doesn't match source).*)"
)
"""Complaints of the comparison; all others say that libvirt cannot read the document."""
BATCH: Final = 60
"""Documents for one virsh, so that its command line is short enough and that a document which ends it costs little."""

DIFFERENCES: Final = {
    r"disk\[1\]/driver/@queue_size": "libvirt shows the number of queues in place of their size",
    r"input\[2\]/@model": "libvirt shows the buses in place of the models",
    r"memory\[2\]/(source|target/label)": "libvirt shows source and target the wrong way round",
    r"dirty-ring/@size": "libvirt shows (null) in place of the feature's name",
    r"os/type/@arch removed": "an architecture that is left open is the host's; we have one document, not two hosts",
    r"interface/mac": "a card without an address is given one at random; we keep the recorded one",
    r"disk\[2\]/driver removed": "a <driver> that says nothing of virtio is nothing to a guest",
    r"cpu/numa/cell.*distances": "libvirt compares the distances of each node before the next node",
}
"""Where we mean to say something else, by the change; each is needed."""
STRICTER: Final = (
    r"/pm(/| )|oemStrings|blockio|geometry|/vendor|/product|@removable|event_idx|address/@(target|bus|port)|"
    r"controller(\[\d\])?/(driver|model|target|pcihole64|@type removed)|"
    r"interface/(driver|rom)|sound(\[\d\])?/(@multichannel|codec)|"
    r"video/model/(@blob|resolution)|@ramfb|/nvram|memory\[3\]/target/address|crypto"
)
"""What a guest sees and libvirt does not compare: a change of it is refused here, in words of our own."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("abi")
    (folder / "plain.xml").write_text(PLAIN)
    return folder


def test_every_change_is_told_in_libvirts_words(folder: Path) -> None:
    changes = [*abi.changes(), *abi.removals()]
    theirs = said_by_virsh([change.text for change in changes], folder)
    compared, wrong, used = 0, [], set()
    for change, their in zip(changes, theirs, strict=True):
        our = said_by_us(change.text)
        if their is None or our is None:
            continue
        compared += 1
        declared = [pattern for pattern in DIFFERENCES if re.search(pattern, str(change))]
        if their == our:
            continue
        if declared:
            used.update(declared)
        elif their or not re.search(STRICTER, str(change)):
            wrong.append(f"{change}\n  libvirt: {their}\n  we:      {our}")
    assert wrong == []
    assert compared > 1000
    assert used == {*DIFFERENCES} - {r"cpu/numa/cell.*distances"}


def test_of_two_differences_libvirts_first_is_the_message(folder: Path) -> None:
    pairs = list(_pairs())
    texts = [two for _, _, two in pairs]
    theirs = said_by_virsh(texts, folder)
    wrong = [
        f"{one} and {other}\n  libvirt: {their}\n  we:      {our}"
        for (one, other, text), their in zip(pairs, theirs, strict=True)
        if their and (our := said_by_us(text)) and our != their
    ]
    assert wrong == []


@pytest.mark.parametrize("kind", CONTROLLER_MODELS)
def test_a_model_of_a_controller_has_libvirts_number(kind: str, folder: Path) -> None:
    models = CONTROLLER_MODELS[kind].split()
    controllers = [f"<controller type='{kind}' index='0' model='{model}'/>" for model in models]
    source = domain_xml(disk_xml() + f"<controller type='{kind}' index='0'/>", uuid=abi.UUID)
    texts = [domain_xml(disk_xml() + controller, uuid=abi.UUID) for controller in controllers]
    told = [(said_by_virsh([text], folder, source)[0], said_by_us(text, source)) for text in texts]
    # some a document may only have together with others
    assert [their for their, _ in told if their] == [our for their, our in told if their]
    assert sum(their is not None for their, _ in told) > len(models) / 2


@pytest.mark.parametrize("case", sorted({*COMPLETIONS} - {"mac"}))  # libvirt makes a new one each time
def test_libvirt_adds_what_we_say_it_adds(case: str, folder: Path) -> None:
    short, whole = (domain_xml(disk_xml() + said, uuid=abi.UUID) for said in COMPLETIONS[case])
    assert said_by_virsh([short], folder, whole) == said_by_virsh([whole], folder, short) == [""]


def _pairs() -> Iterator[tuple[abi.Change, abi.Change, str]]:
    """Yield pairs of changes of neighbours: those of one part of the document, and the first of each two parts."""
    told = abi.expected()
    usual = [
        change
        for change in abi.changes()
        if len(problems := told.get(str(change), "; ").split("; ")) == 1
        and problems[0].startswith(tuple("0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"))
        and not re.search("|".join((*DIFFERENCES, STRICTER)), str(change))
    ]
    parts = {
        name: list(members)
        for name, members in itertools.groupby(usual, key=lambda change: _part(change.path))
    }
    inside = (pair for members in parts.values() for pair in itertools.pairwise(members))
    between = itertools.combinations([members[0] for members in parts.values()], 2)
    for one, other in (*inside, *between):
        yield one, other, abi.with_values({one.path: str(one.new), other.path: str(other.new)})


def _part(path: str) -> str:
    steps = path.split("/")
    return "/".join(steps[2:4] if steps[2] == "devices" else steps[2:3])


_parsed = functools.cache(DomainDefinition.parse)


def said_by_us(text: str, source: str = abi.MACHINE) -> str | None:
    """Return our first message, "" for no difference, None where the document is none."""
    try:
        problems = differences(_parsed(source), DomainDefinition.parse(text))
    except Error:
        return None
    return problems[0].message if problems else ""


def said_by_virsh(texts: Sequence[str], folder: Path, source: str = abi.MACHINE) -> list[str | None]:
    """Return libvirt's message when a snapshot of `source` is redefined with each of these; likewise."""
    found: list[str | None] = []
    for start in range(0, len(texts), BATCH):
        batch = texts[start : start + BATCH]
        answers = _batch(batch, folder, source)
        found += answers if answers is not None else [_alone(text, folder, source) for text in batch]
    return found


def _alone(text: str, folder: Path, source: str) -> str | None:
    answer = _batch([text], folder, source)
    return None if answer is None else answer[0]


def _batch(texts: Sequence[str], folder: Path, source: str) -> list[str | None] | None:
    """Ask one virsh; None when a document made it stop."""
    commands = [f"define {folder}/plain.xml"]
    for number, text in enumerate(texts):
        for name, domain in (("old", source), ("new", text)):
            path = folder / f"{number}-{name}.xml"
            path.write_text(
                f"<domainsnapshot><name>s{number}</name><state>shutoff</state><creationTime>1</creationTime>"
                f"{domain}</domainsnapshot>"
            )
            commands += [f"echo --err {name}", f"snapshot-create plain {path} --redefine"]
    run = subprocess.run(
        ["virsh", "-c", "test:///default", ";".join([*commands, "echo --err old"])],
        capture_output=True,
        text=True,
        check=False,
    )
    answers = re.findall(r"error: new\n(.*?)(?=error: old\n)", run.stderr, re.DOTALL)
    return [_message(answer) for answer in answers] if len(answers) == len(texts) else None


def _message(answer: str) -> str | None:
    if not answer.strip():
        return ""
    match = COMPARED.search(answer)
    return None if match is None else match[1]
