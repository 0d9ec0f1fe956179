"""Applies the tables of differences: what our transcript must be, given virsh's."""

from __future__ import annotations

import difflib
import re
from typing import TYPE_CHECKING

from tests.peers.virsh.differences import ADDED, INTENDED, VOLATILE
from tests.peers.virsh.harness import transcript

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.peers.virsh.differences import Added, Intended, Volatile
    from tests.peers.virsh.harness import Outcome, Script


def expected(script: Script, virsh: Outcome, intended: Sequence[Intended] = INTENDED) -> str:
    """Return the transcript that ours must have where virsh's run had this outcome."""
    text = transcript(script, virsh)
    for difference in intended:
        text = without_difference(difference, text)
    return steadied(text, script, virsh)


def told(script: Script, ours: Outcome, added: Sequence[Added] = ADDED) -> str:
    """Return what is to be compared with that: our transcript without what we add to virsh's words."""
    text = transcript(script, ours)
    for addition in added:
        text = re.sub(rf"(?m)^{addition.ours}", "", text)
    return steadied(text, script, ours)


def without_difference(difference: Intended, text: str) -> str:
    """Return virsh's transcript with our words where the difference is."""
    if difference.status is not None:
        last = rf"(?m)^{difference.virsh}status \d+\n\Z"
        text = re.sub(last, f"{difference.ours}status {difference.status}\n", text)
    return re.sub(rf"(?m)^{difference.virsh}", difference.ours, text)


def steadied(text: str, script: Script, outcome: Outcome, volatiles: Sequence[Volatile] = VOLATILE) -> str:
    """Return a transcript without what differs from run to run."""
    text = text.replace(str(outcome.folder), "<folder>")
    for volatile in volatiles:
        text = _replaced(volatile, text, script, outcome)
    return text


def _replaced(volatile: Volatile, text: str, script: Script, outcome: Outcome) -> str:
    def word(found: re.Match[str]) -> str:
        return volatile.word if volatile.holds(found[0], script, outcome) else found[0]

    return re.sub(volatile.pattern, word, text)


def explanation(script: Script, wanted: str, found: str) -> str:
    """Return what to look at where they disagree: the files of the script, and both transcripts as a diff."""
    files = "".join(f"--- {name}\n{content}\n" for name, content in script.files)
    diff = difflib.unified_diff(
        wanted.splitlines(keepends=True), found.splitlines(keepends=True), "virsh", "ours", n=1000
    )
    return f"they disagree\n{files}{''.join(diff)}"
