"""The probes of real languages: that they are code, ask what they say, and are read as written."""

from __future__ import annotations

import ast
import json
import re
import shutil
import subprocess
from collections import Counter, defaultdict
from itertools import combinations
from pathlib import Path

import pytest

from babelscope.core import languages
from babelscope.core.errors import InputError
from babelscope.interp.streams import PromptStream
from babelscope.probes.identifiers import Probe, shared_probes
from babelscope.probes.probe_files import (
    known_probes,
    probed_languages,
    probes_of,
    read_probe_files,
    read_probes,
)
from tests.probes.byte_pairs import GPT4, bpe

PROBES = known_probes("python", "php")
# Reads programs from stdin as JSON, so that one process checks all; writes what the parser says of each.
PARSE_PHP = """
foreach (json_decode(stream_get_contents(STDIN), true, 8, JSON_THROW_ON_ERROR) as $text) {
    try {
        token_get_all($text, TOKEN_PARSE);
        $said[] = '';
    } catch (ParseError $error) {
        $said[] = $error->getMessage();
    }
}
echo json_encode($said);
"""


def program(probe: Probe) -> str:
    return probe.prompt + probe.identifier + probe.rest


def words(text: str) -> set[str]:
    """Words as a tokenizer may find them: the parts of snake_case and camelCase names too."""
    return {word.lower() for word in re.findall(r"[A-Z]?[a-z]+|[A-Z]+", text)}


def parse_php(texts: list[str]) -> list[str]:
    said = subprocess.run(
        ["php", "-r", PARSE_PHP], input=json.dumps(texts), capture_output=True, text=True, check=True
    )
    return json.loads(said.stdout)


def write(folder: Path, text: str) -> Path:
    path = folder / "probes.toml"
    path.write_text(text)
    return path


def test_every_file_speaks_of_the_language_it_is_named_after():
    for name, path in probed_languages().items():
        assert {probe.language for probe in read_probes(path)} == {name}
        assert name in languages.known()


def test_python_and_php_share_at_least_ten_concepts_of_ten_prompts_each():
    asked = Counter((probe.concept, probe.language) for probe in PROBES.probes)
    assert len(PROBES.concepts) >= 10
    assert set(asked) == {(concept, language) for concept in PROBES.concepts for language in PROBES.languages}
    assert min(asked.values()) >= 10


def test_every_python_probe_is_python():
    for probe in read_probes(probed_languages()["python"]):
        ast.parse(program(probe), probe.concept)


@pytest.mark.skipif(shutil.which("php") is None, reason="needs php (Debian package php-cli) to parse PHP")
def test_every_php_probe_is_php():
    assert parse_php(["<?php $n = count($rows;", "<?php $n = count($rows);"])[1] == ""
    assert "unexpected token" in parse_php(["<?php $n = count($rows;"])[0]
    probes = read_probes(probed_languages()["php"])
    wrong = dict(zip(map(program, probes), parse_php([program(probe) for probe in probes]), strict=True))
    assert {text: said for text, said in wrong.items() if said} == {}


def test_every_identifier_ends_where_its_name_ends():
    for probe in PROBES.probes:
        assert not re.match(r"\w", probe.rest), program(probe)
        assert probe.concept == "constructor" or not re.search(r"\w\Z", probe.prompt), program(probe)


def test_no_prompt_holds_the_answer_in_any_language():
    answers = defaultdict(set)
    for probe in PROBES.probes:
        answers[probe.concept] |= words(probe.identifier)
    for probe in PROBES.probes:
        # a method of Python cannot be written without naming its receiver
        unavoidable = {"self"} if probe.language == "python" else set()
        assert not (words(probe.prompt) & answers[probe.concept]) - unavoidable, program(probe)


def test_no_identifier_begins_another_of_its_concept():
    for concept in PROBES.concepts:
        names = {name for language in PROBES.languages for name in PROBES.identifiers(concept, language)}
        for one, other in combinations(sorted(names), 2):
            assert not other.startswith(one), concept


def test_languages_are_asked_with_a_space_before_the_name_alike():
    spaced: dict[tuple[str, str], set[bool]] = defaultdict(set)
    for probe in PROBES.probes:
        spaced[probe.concept, probe.language].add(probe.prompt.endswith(" "))
    assert spaced["receiver", "php"] == {False} < spaced["receiver", "python"]  # `$` comes before
    for concept in set(PROBES.concepts) - {"receiver"}:
        assert spaced[concept, "python"] == spaced[concept, "php"], concept


def test_no_probe_is_lost_where_words_are_split_as_for_gpt2():
    reading = PromptStream(PROBES, background={}).read(bpe("python", "php"))
    assert reading.dropped == ()
    assert reading.concepts == PROBES.concepts


def test_at_least_eight_prompts_remain_where_a_sign_may_join_the_name_after_it():
    reading = PromptStream(PROBES, background={}).read(bpe("python", "php", pattern=GPT4))
    kept = Counter((probe.concept, probe.language) for probe in reading.probes)
    assert min(kept[concept, language] for concept in PROBES.concepts for language in PROBES.languages) >= 8


def test_a_file_is_read_in_its_order_with_its_white_space(tmp_path):
    text = """
language = "lua"
[[concepts]]
name = "nothing"
identifier = "nil"
prompts = [["local x = ", "\\n"], ["return ", ""]]
[[concepts]]
name = "raise"
identifier = "error"
prompts = [["  \\t", "('no')"]]
"""
    assert read_probes(write(tmp_path, text)) == (
        Probe("nothing", "lua", "local x = ", "nil", "\n"),
        Probe("nothing", "lua", "return ", "nil", ""),
        Probe("raise", "lua", "  \t", "error", "('no')"),
    )


ONE = '[[concepts]]\nname = "length"\nidentifier = "len"\nprompts = [["n = ", "(xs)"]]\n'


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (ONE, "'language' is missing"),
        ('language = "python"\nconcepts = []\n', "'concepts'"),
        ('language = "python"\n' + ONE.replace("identifier", "identifer"), "unknown key .*identifer"),
        ('language = "python"\n' + ONE.replace('"len"', '" len"'), "identifier' = ' len'"),
        ('language = "python"\n' + ONE.replace('"n = "', '""'), r"prompts\.0\.0' = ''"),
        ('language = "python"\n' + ONE.replace(', "(xs)"', ""), r"'concepts\.0\.prompts\.0\.1' is missing"),
        ('language = "python"\n' + ONE + ONE.replace("n =", "m ="), "concept 'length' is given 2 times"),
        (
            'language = "python"\n' + ONE + ONE.replace("length", "size"),
            "prompt 'n = ' is given twice, for 'length' and for 'size'",
        ),
        ("language = ", "is not TOML"),
    ],
)
def test_a_file_that_cannot_be_meant_is_refused_with_its_path_and_the_item(tmp_path, text, message):
    path = write(tmp_path, text)
    with pytest.raises(InputError, match=f"{re.escape(str(path))}.*{message}"):
        read_probes(path)


def test_a_missing_file_is_refused_by_name(tmp_path):
    with pytest.raises(InputError, match=r"nowhere\.toml does not exist"):
        read_probes(tmp_path / "nowhere.toml")


def test_a_language_without_probes_is_refused_with_those_that_have_some():
    with pytest.raises(InputError, match=r"no probes come with 'cobol'; they come with .*php, python, "):
        known_probes("python", "cobol")


@pytest.mark.parametrize("given", [(), ("php",), ("php", "php")])
def test_fewer_than_two_languages_are_refused(given):
    with pytest.raises(InputError, match="at least two languages; given"):
        known_probes(*given)


def test_languages_come_in_the_order_given():
    assert known_probes("php", "python").languages == ("php", "python")
    assert known_probes("python", "php").languages == ("python", "php")


def test_only_concepts_named_differently_by_two_languages_are_kept():
    length = (Probe("length", "python", "n = ", "len"), Probe("length", "php", "$n = ", "count"))
    absolute = (Probe("absolute", "python", "y = ", "abs"), Probe("absolute", "php", "$y = ", "abs"))
    alone = (Probe("yield", "python", "  ", "yield"),)
    assert shared_probes((*alone, *length, *absolute)).probes == length


def test_a_concept_that_two_of_three_languages_name_alike_is_kept_for_all():
    nothing = tuple(
        Probe("nothing", language, "x = ", name)
        for language, name in (("python", "None"), ("php", "null"), ("javascript", "null"))
    )
    assert shared_probes(nothing).probes == nothing


def test_a_language_that_would_vanish_is_refused_by_name():
    length = (Probe("length", "python", "n = ", "len"), Probe("length", "php", "$n = ", "count"))
    with pytest.raises(InputError, match="no distinguishable pairs: lua and python, php share no concept"):
        shared_probes((*length, Probe("table", "lua", "t = ", "table")))


def test_languages_that_name_everything_alike_have_no_distinguishable_pairs():
    message = r"no distinguishable pairs: javascript and typescript give the same names to all 17 concepts"
    with pytest.raises(InputError, match=message):
        known_probes("javascript", "typescript")
    every = known_probes("python", "javascript", "typescript")
    with pytest.raises(InputError, match=message):
        every.of("javascript", "typescript")


def test_users_files_add_to_a_language_that_comes_with_probes(tmp_path):
    mine = write(tmp_path, 'language = "python"\n' + ONE)
    found = probes_of(["python", "php"], [mine])
    assert found[:-1] == probes_of(["python", "php"])
    assert found[-1] == Probe("length", "python", "n = ", "len", "(xs)")


def test_users_files_of_languages_that_are_not_asked_are_left_alone(tmp_path):
    mine = write(tmp_path, 'language = "cobol"\n' + ONE)
    assert probes_of(["python", "php"], [mine]) == probes_of(["python", "php"])
    assert probes_of(["python", "cobol"], [mine])[-1].language == "cobol"


def test_a_prompt_that_another_file_gives_already_is_refused_with_both_files(tmp_path):
    known = read_probes(probed_languages()["php"])[0]
    text = f"""
language = "php"
[[concepts]]
name = "mine"
identifier = "mine"
prompts = [[{json.dumps(known.prompt)}, ""]]
"""
    mine = write(tmp_path, text)
    with pytest.raises(InputError) as refused:
        probes_of(["php", "python"], [mine])
    assert str(refused.value).startswith(f"{mine}: prompt ")
    assert f"of php 'mine' is given by {probed_languages()['php']} already" in str(refused.value)
    with pytest.raises(InputError, match="given by"):
        read_probe_files([probed_languages()["php"]] * 2)
