"""The pairs of documents exercise every element and attribute that the grammars have, and can be written anew."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Final

import pytest

from tests.support import golden
from tests.support.vocabulary import Word, words_of_document, words_of_grammar
from virtsnapd.models.document import parse_document
from virtsnapd.models.grammar import GRAMMARS, load_grammar

if TYPE_CHECKING:
    from pathlib import Path

NOT_PRINTED: Final = {
    Word("domainsnapshot", "active"): "only in libvirt's own files on disk",
    Word("domain", "@id"): "a definition has none; only a running domain's own dump",
}
WORDS: Final = frozenset(word for name in GRAMMARS.values() for word in words_of_grammar(load_grammar(name)))


def spoken(text: str) -> set[Word]:
    return words_of_document(parse_document(text, "w"))


def test_every_element_and_attribute_is_in_some_first_document() -> None:
    used = {word for pair in golden.PAIRS for word in spoken(golden.given(*pair))}
    assert sorted(map(str, WORDS - used)) == []


def test_every_element_and_attribute_is_in_some_second_document_if_it_is_printed() -> None:
    used = {word for pair in golden.PAIRS for word in spoken(golden.expected(*pair))}
    assert sorted(map(str, WORDS - used - NOT_PRINTED.keys())) == []


def test_what_is_said_not_to_be_printed_is_not() -> None:
    used = {word for pair in golden.PAIRS for word in spoken(golden.expected(*pair))}
    assert used.isdisjoint(NOT_PRINTED)


def test_the_grammars_have_words_for_everything_known_to_be_in_a_snapshot() -> None:
    # so that the tests above do not pass because no words were found
    some = {
        Word("domainsnapshot", "revertDisks"),
        Word("parent", "name"),
        Word("memory", "@file"),
        Word("disks/disk", "@snapshot"),
        Word("revertDisks/disk", "snapshotDeleteInProgress"),
        Word("domainsnapshot", "{urn:virtsnap:snapshot:1}data"),
        Word("domain", "devices"),
        Word("address", "@multifunction"),
    }
    assert some <= WORDS
    assert len(WORDS) > 1000


@pytest.mark.parametrize(("folder", "case"), golden.PAIRS)
def test_a_document_comes_out_as_in_its_pair(folder: str, case: str) -> None:
    assert golden.PRODUCERS[folder](golden.given(folder, case)) == golden.expected(folder, case)


@pytest.mark.parametrize(("folder", "case"), golden.PAIRS)
def test_what_came_out_comes_out_again(folder: str, case: str) -> None:
    text = golden.expected(folder, case)
    assert golden.PRODUCERS[folder](text) == text


def test_the_second_documents_are_written_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for folder in golden.PRODUCERS:
        shutil.copytree(golden.DATA / folder, tmp_path / folder)
    spoiled = tmp_path / "snapshot" / "virsh-root.out.xml"
    wanted = spoiled.read_text()
    spoiled.write_text("")
    monkeypatch.setattr(golden, "DATA", tmp_path)
    golden.regenerate()
    assert spoiled.read_text() == wanted
