"""virsh's grammar."""

from __future__ import annotations

from itertools import product

import pytest

from virtsnap.cli.grammar import BadSyntax, Invocation, parse, split, understood, unfinished
from virtsnap.cli.table import COMMANDS


def one(*words: str) -> Invocation:
    return parse([words], COMMANDS)[0]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a b", [["a", "b"]]),
        ("  a\tb  ", [["a", "b"]]),
        ("a;b", [["a"], ["b"]]),
        ("a;;b;", [["a"], ["b"]]),
        ("a\nb", [["a"], ["b"]]),
        ("'a b' \"c d\"", [["a b", "c d"]]),
        ("'a'b\"c\"'d'", [["abcd"]]),
        (r'"a\"b" ' + r"'a\b'", [['a"b', r"a\b"]]),
        (r"a\ b c\;d", [["a b", "c;d"]]),
        ("a ''", [["a", ""]]),
        ("a #b;c", [["a"]]),
        ("a #b\nc", [["a"], ["c"]]),
        ("a#b", [["a#b"]]),
        ("'#a;b'", [["#a;b"]]),
        ("a \\\n-b", [["a", "-b"]]),
        ('a\\\nb "c\\\nd"', [["ab", "cd"]]),
        ("a \\\n#b", [["a"]]),
        ("a\\\n#b", [["a#b"]]),
        ("'a\\\nb'", [["a\\\nb"]]),
        ("\\\n", []),
        ("", []),
        (" ; # nothing", []),
    ],
)
def test_a_text_is_split_as_virsh_does(text: str, words: list[list[str]]) -> None:
    assert split(text) == words


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ('a "b', 'missing "'),
        ("a 'b", "missing '"),
        ("a\\", "dangling \\"),
        ("a 'b\0'", "unexpected NUL character"),
    ],
)
def test_what_is_not_ended_or_no_text_is_refused(text: str, complaint: str) -> None:
    with pytest.raises(BadSyntax) as caught:
        split(text)
    assert str(caught.value) == complaint


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["foo"], "unknown command: 'foo'"),
        (["dominfo"], "command 'dominfo' requires <domain> option"),
        (["dominfo", "--bar", "x"], "command 'dominfo' doesn't support option --bar"),
        (["dominfo", "x", "y"], "unexpected data 'y'"),
        (["list", "-x"], "unexpected data '-x'"),
        (["list", "--", "x"], "unexpected data 'x'"),
        (["dominfo", "--domain"], "expected syntax: --domain <string>"),
        (["event", "--timeout"], "expected syntax: --timeout <number>"),
        (["dominfo", "--domain", "x", "--domain", "y"], "option --domain already seen"),
        (["dominfo", "x", "--domain", "y"], "option --domain already seen"),
        (["list", "--all=1"], "invalid '=' after option --all"),
        (["snapshot-create-as", "x", "--halt", "--halt"], "option --halt already seen"),
    ],
)
def test_a_mistake_is_refused_in_virshs_words(words: list[str], complaint: str) -> None:
    with pytest.raises(BadSyntax) as caught:
        one(*words)
    assert str(caught.value) == complaint


def test_values_are_taken_by_position_in_the_order_of_the_options() -> None:
    arguments = one("snapshot-create-as", "vm", "s", "d", "vda", "vdb").arguments
    assert (arguments.text("domain"), arguments.text("name"), arguments.text("description")) == (
        "vm",
        "s",
        "d",
    )
    assert arguments.many("diskspec") == ["vda", "vdb"]


def test_a_position_that_is_taken_by_name_is_skipped() -> None:
    arguments = one("snapshot-create-as", "--name", "s", "vm", "d").arguments
    assert (arguments.text("domain"), arguments.text("description")) == ("vm", "d")


def test_an_option_takes_its_value_with_an_equals_sign_or_as_the_next_word() -> None:
    assert one("dominfo", "--domain=vm").arguments.text("domain") == "vm"
    assert one("dominfo", "--domain", "--current").arguments.text("domain") == "--current"


def test_after_two_dashes_everything_is_a_value() -> None:
    assert one("dominfo", "--", "--vm").arguments.text("domain") == "--vm"


def test_help_is_asked_for_even_when_something_else_is_missing() -> None:
    assert one("dominfo", "--help").help_only


def test_every_command_takes_json() -> None:
    assert all(one(name, *_required(name), "--json").arguments.flag("json") for name in COMMANDS)


def _required(name: str) -> list[str]:
    return ["x" for option in COMMANDS[name].options if option.required]


@pytest.mark.parametrize("name", COMMANDS)
def test_options_by_position_come_before_the_one_that_takes_the_rest(name: str) -> None:
    kinds = [o.kind for o in COMMANDS[name].options if o.kind != "flag" and not o.named_only]
    assert "many" not in kinds[:-1]


@pytest.mark.parametrize(
    ("typed", "words", "prefix"),
    [
        ("", [], ""),
        ("a", [], "a"),
        ("a ", ["a"], ""),
        ("a; b c", ["b"], "c"),
        ("a 'b;c", ["a"], "b;c"),
        ('a "b c', ["a"], "b c"),
        ("a b\\ c", ["a"], "b c"),
        ("a b\\", ["a"], "b"),
    ],
)
def test_what_is_being_typed_is_understood_so_far(typed: str, words: list[str], prefix: str) -> None:
    before, last = unfinished(typed)
    assert (before, last.text) == (words, prefix)


@pytest.mark.parametrize(
    ("typed", "name"),
    [
        (typed, name)
        for typed, name in product(
            ["", "it", "'it", '"it', "it'", "i\\", "'i't", "it\\'s\\ ", "\"it's a"],
            ['it\'s a "b"; \\#c', "it", "#it"],
        )
        if name.startswith(unfinished(typed)[1].text)
    ],
)
def test_a_completed_word_means_the_name(typed: str, name: str) -> None:
    _, last = unfinished(typed)
    completed = last.completed(typed, name)
    assert completed.startswith(typed)
    assert split(completed) == [[name]]


@pytest.mark.parametrize(
    ("words", "values", "awaited", "positional"),
    [
        ([], {}, None, "domain"),
        (["vm"], {"domain": ["vm"]}, None, "name"),
        (["--name"], {}, "name", "domain"),
        (["--name", "--x"], {"name": ["--x"]}, None, "domain"),
        (["--name=s", "--halt", "vm"], {"name": ["s"], "halt": [""], "domain": ["vm"]}, None, "description"),
        (
            ["--bogus", "vm", "n", "d"],
            {"domain": ["vm"], "name": ["n"], "description": ["d"]},
            None,
            "diskspec",
        ),
        (["--", "--vm"], {"domain": ["--vm"]}, None, "name"),
        (["--diskspec", "a", "--diskspec=b"], {"diskspec": ["a", "b"]}, None, "domain"),
    ],
)
def test_the_words_of_a_command_that_is_being_typed_mean_what_they_will_mean(
    words: list[str], values: dict[str, list[str]], awaited: str | None, positional: str
) -> None:
    so_far = understood(COMMANDS["snapshot-create-as"], words)
    assert so_far.values == values
    assert (so_far.awaited.name if so_far.awaited else None) == awaited
    assert so_far.positional is not None
    assert so_far.positional.name == positional


def test_words_too_many_are_the_values_of_nothing() -> None:
    assert understood(COMMANDS["dominfo"], ["vm", "x"]).positional is None
