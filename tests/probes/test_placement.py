"""Where probes are asked: against decoding, and one small tokenizer for each reason not to ask."""

from __future__ import annotations

from typing import Any

import pytest

from babelscope.core.errors import InputError
from babelscope.probes.identifiers import Probe, ProbeSet
from babelscope.probes.placement import Minimum, Placement
from babelscope.probes.probe_files import known_probes
from tests.probes.byte_pairs import GPT4, bpe

LENGTH = (
    Probe("length", "python", "n = ", "len", "(xs)"),
    Probe("length", "php", "$n = ", "count", "($xs)"),
)


def pieces(pattern: str, *probes: Probe) -> Any:
    """A tokenizer whose tokens are what `pattern` finds in the programs; all else is dropped."""
    from tokenizers import Regex, Tokenizer, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.WordLevel(unk_token="?"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(pattern), "removed", invert=True)
    texts = [probe.prompt + probe.identifier + probe.rest for probe in probes]
    tokenizer.train_from_iterator(texts, trainers.WordLevelTrainer(special_tokens=["?"], show_progress=False))
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="?")


def excluded(placement: Placement) -> dict[tuple[str, str], str | None]:
    return {(p.probe.language, p.probe.concept): p.kind for p in placement.excluded}


@pytest.mark.parametrize("pattern", [None, GPT4])
def test_the_token_holds_the_first_character_and_what_is_shown_ends_before_it(pattern):
    tokenizer = bpe("python", "php", pattern=pattern, size=2000)
    placement = Placement(known_probes("python", "php"), tokenizer)
    assert [place.probe for place in placement.places] == list(placement.probes.probes)
    for place in placement.places:
        before = tokenizer.decode(place.before)
        text = tokenizer.decode([*place.before, place.token])
        assert text == before + place.text
        assert len(before) <= len(place.probe.prompt) < len(text)
        assert (place.probe.prompt + place.probe.identifier + place.probe.rest).startswith(text)
        own = place.probe.prompt[len(before) :]
        part = len(text) - len(place.probe.prompt)
        if own.strip():
            assert (place.kind, place.text) == ("merge", own + place.probe.identifier[:part])
        elif 2 * part < len(place.probe.identifier):
            assert place.kind == "fragment"
        else:
            assert place.kind in (None, "collision", "no partner")
    kinds = {place.kind for place in placement.excluded}
    assert "fragment" in kinds
    assert ("merge" in kinds) == (pattern is not None)


def test_sets_are_what_one_languages_tokens_have_that_the_others_have_not():
    probes = known_probes("python", "java")
    placement = Placement(probes, bpe("python", "php", pattern=GPT4))
    assert any(place.kind == "collision" for place in placement.excluded)
    for concept in probes.concepts:
        tokens = {
            language: {
                p.token
                for p in placement.of(language, concept)
                if p.kind in (None, "collision", "no partner")
            }
            for language in probes.languages
        }
        left = tokens["python"] - tokens["java"], tokens["java"] - tokens["python"]
        assert (concept in placement.concepts) == all(left)
        if all(left):
            found = [set(placement.sets[concept, language].tolist()) for language in probes.languages]
            assert found == list(left)
        for language, own in zip(probes.languages, left, strict=True):
            for place in placement.of(language, concept):
                assert (place.kind is None) == (place.token in own and all(left))


def test_a_token_that_began_before_the_identifier_is_a_merge():
    probes = (
        *LENGTH,
        Probe("append", "python", "xs.", "append", "(1)"),
        Probe("append", "php", "$xs", "add", "(1)"),
        Probe("length", "python", "print(", "len", "(xs))"),
    )
    placement = Placement(ProbeSet(probes), pieces(r" ?[.(]?\w+|\S", *probes))
    assert [(p.probe.language, p.text) for p in placement.excluded if p.kind == "merge"] == [
        ("python", ".append"),
        ("php", "xsadd"),
        ("python", "(len"),
    ]
    message = "python append 'xs.': the token '.append' holds more than the beginning of 'append'"
    assert str(placement.excluded[0]) == message


def test_less_than_half_of_an_identifier_is_a_fragment_and_half_is_not():
    probes = (Probe("show", "python", "x; ", "print", "()"), Probe("show", "php", "x; ", "echo", " 1"))
    for letters, kind in ((2, "fragment"), (3, "no partner")):  # of "print"; "echo" is cut in half or more
        placement = Placement(ProbeSet(probes), pieces(rf" ?\w{{1,{letters}}}|\S", *probes))
        assert excluded(placement).get(("python", "show")) == (kind if letters == 2 else None)
        assert excluded(placement).get(("php", "show")) == ("no partner" if letters == 2 else None)
    assert [place.n_tokens for place in placement.places] == [2, 2]


def test_collisions_are_judged_by_tokens_and_not_by_letters():
    probes = (Probe("text", "python", "a: ", "str", ","), Probe("text", "go", "var a ", "string", "\n"))
    placement = Placement(ProbeSet(probes), pieces(r" ?\w+|\S", *probes))
    assert placement.excluded == ()
    placement = Placement(ProbeSet(probes), pieces(r" ?\w{1,3}|\S", *probes))
    assert excluded(placement) == {("python", "text"): "collision", ("go", "text"): "collision"}
    assert placement.excluded[0].reason == "the token ' str' begins the identifier of go too"


def test_collisions_are_judged_among_the_languages_that_are_asked():
    probes = ProbeSet(
        (
            Probe("nothing", "python", "x = ", "None"),
            Probe("nothing", "php", "$x = ", "null", ";"),
            Probe("nothing", "java", "var x = ", "null", ";"),
        )
    )
    tokenizer = pieces(r" ?\w+|\S", *probes.probes)
    assert Placement(probes.of("python", "java"), tokenizer).excluded == ()
    assert excluded(Placement(probes, tokenizer)) == {
        ("python", "nothing"): "no partner",
        ("php", "nothing"): "collision",
        ("java", "nothing"): "collision",
    }


def test_a_token_of_another_concept_is_no_collision():
    probes = ProbeSet(
        (
            *LENGTH,
            Probe("tally", "python", "xs; ", "count", "(1)"),
            Probe("tally", "php", "$xs; ", "len", "(1)"),
        )
    )
    assert Placement(probes, pieces(r"\w+|[^\w\s]", *probes.probes)).excluded == ()


def test_an_identifier_with_nothing_before_it_and_one_whose_beginning_is_dropped_are_left_out():
    probes = (
        *LENGTH,
        Probe("both", "python", "a ", "and", " b"),
        Probe("both", "go", "a ", "&&", " b"),
        Probe("show", "python", " ", "print", "(1)"),
        Probe("show", "php", "1; ", "echo", " 1"),
    )
    placement = Placement(ProbeSet(probes), pieces(r"\w+", *probes))
    assert excluded(placement) == {
        ("python", "both"): "no partner",
        ("go", "both"): "dropped character",
        ("python", "show"): "nothing before",
        ("php", "show"): "no partner",
    }
    assert "drops the first character of '&&'" in placement.of("go")[0].reason


def test_the_token_for_what_is_not_known_is_nobodys_identifier():
    """Otherwise it would tell languages apart wherever only one's identifier is known."""
    probes = ProbeSet(LENGTH)
    placement = Placement(probes, pieces(r"\w+|[^\w\s]", LENGTH[0]))  # has never seen PHP
    assert excluded(placement) == {("python", "length"): "no partner", ("php", "length"): "unknown"}
    assert placement.of("php")[0].reason == "the tokenizer does not know 'count'"
    assert placement.sets == {}


def test_a_prompt_is_too_long_from_one_token_more_than_the_model_takes():
    tokenizer = pieces(r"\w+|[^\w\s]", *LENGTH)
    assert Placement(ProbeSet(LENGTH), tokenizer, context=3).excluded == ()  # $ n =
    placement = Placement(ProbeSet(LENGTH), tokenizer, context=2)
    assert excluded(placement) == {("python", "length"): "no partner", ("php", "length"): "too long"}
    assert "the prompt has 3 tokens, the model takes 2" in str(placement.excluded[1])


def test_the_minimum_is_of_concepts_and_of_prompts_and_of_each_language():
    show = (
        Probe("show", "python", "\n\n; ", "print"),
        *(Probe("show", "php", f"{i}; ", "echo") for i in range(4)),
    )
    probes = ProbeSet((*LENGTH, *show))
    placement = Placement(probes, pieces(r"\w+|[^\w\s]", *probes.probes))
    placement.require(Minimum(concepts=2, prompts=2))
    with pytest.raises(
        InputError, match=r"^only python 2 of 2 concepts and 2 of 2 prompts, php 2 of 2 .* 5 of"
    ):
        placement.require(Minimum(concepts=3, prompts=2))
    with pytest.raises(
        InputError, match=r"^only python 2 of 2 concepts and 2 of 2 prompts can be asked"
    ) as found:
        placement.require(Minimum(concepts=2, prompts=3))
    assert "each language needs 2 concepts and 3 prompts" in str(found.value)
    assert "left out" not in str(found.value)


def test_reasons_are_counted_with_an_example_each_and_the_cause_before_its_consequence():
    probes = known_probes("python", "java")
    placement = Placement(probes, bpe("python", "php", pattern=GPT4))
    *causes, last = placement.reasons(at_most=9)
    kinds = [place.kind for place in placement.excluded]
    counts = [int(reason.split()[0]) for reason in causes]
    assert counts == sorted(counts, reverse=True)
    assert last.startswith(f"{kinds.count('no partner')} no partner (")
    first = next(place for place in placement.excluded if place.kind == "fragment")
    assert f"{kinds.count('fragment')} fragment ({first})" in causes
