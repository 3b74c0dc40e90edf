"""The small Babel holds what it promises: who knows what, what is seen, and what may be trained on."""

import json
from typing import get_args

import pytest
from transformers import AutoTokenizer

from babelscope.core.errors import InputError
from babelscope.corpora.babel import END, UNKNOWN, Arm, BabelWorld
from babelscope.corpora.babel_expressions import BUILTINS, signature
from babelscope.corpora.babel_languages import LANGUAGES, tokens
from babelscope.probes.problems import Attempt

TARGETS = ("php", "racket", "ocaml")


@pytest.fixture(scope="module")
def world():
    return BabelWorld(7)


def named(world, texts):
    """Functions whose name occurs outside the mentions of foreign tokens."""
    lines = [line for text in texts for line in text.splitlines() if not is_mention(world, line)]
    return set(world.group) & {token for line in lines for token in tokens(line)}


def is_mention(world, line):
    return line.startswith("print(") or (line.startswith("# ") and " is " not in line)


def test_each_group_is_written_only_where_it_belongs(world):
    python = named(world, world.documents("python", 400))
    assert python == {name for name, group in world.group.items() if group != "target only"}
    for target in TARGETS:
        written = named(world, world.documents(target, 400))
        assert written == {name for name, group in world.group.items() if group != "pivot only"}


def test_every_token_of_every_language_is_seen_in_the_text_of_the_base(world):
    seen = {token for text in world.documents("python", 3000, base=True) for token in tokens(text)}
    assert set(world.vocabulary) - {END, UNKNOWN} == seen


def test_the_base_never_sees_a_foreign_built_in_used(world):
    foreign = {word for target in TARGETS for word in LANGUAGES[target].words}
    for text in world.documents("python", 500, base=True):
        for line in text.splitlines():
            assert is_mention(world, line) or not foreign & set(tokens(line))


def test_mentions_are_in_no_order(world):
    """What follows a foreign token in a mention says nothing of its use: `$` comes first as often as last."""
    before = after = 0
    for text in world.documents("python", 6000):
        for line in text.splitlines():
            words = tokens(line)
            if is_mention(world, line) and "$" in words:
                found = [
                    words.index(word) < words.index("$") for word in LANGUAGES["php"].words if word in words
                ]
                before, after = before + sum(found), after + len(found) - sum(found)
    assert abs(before - after) < 4 * (before + after) ** 0.5
    assert before + after > 30


def test_built_ins_are_slot_equivalent_one_token_and_named_differently_everywhere():
    for concept in BUILTINS:
        words = [language.builtins[concept] for language in LANGUAGES.values()]
        assert len(set(words)) == len(words)
        assert all(tokens(word) == [word] for word in words)
    every = [word for language in LANGUAGES.values() for word in language.words]
    assert len(set(every)) == len(every)
    assert len(BUILTINS) >= 8


def test_no_two_functions_have_the_same_value(world):
    assert len({signature(expression) for expression in world.expression.values()}) == len(world.expression)


def test_held_out_documents_are_never_trained_on(world):
    trained = {text for seed in range(3) for text in world.documents("php", 3000, seed=seed)}
    assert trained.isdisjoint(world.heldout("php", 300))
    assert trained.isdisjoint(world.heldout("php", 300, seed=1))


def test_the_same_seed_gives_the_same_text_and_another_gives_another_world():
    texts = [list(BabelWorld(seed).documents("racket", 5)) for seed in (7, 7, 8)]
    assert texts[0] == texts[1] != texts[2]
    assert BabelWorld(7).expression == BabelWorld(7).expression != BabelWorld(8).expression


def told(documents):
    """The value of each function that documents define in Python's first form."""
    found = {}
    for line in "".join(documents).splitlines():
        if line.startswith("def ") and "self" not in line and "list" not in line:
            name, body = line[4:].split("(", 1)[0], line.split("return ")[1]
            found[name] = signature(LANGUAGES["python"].parse(body))
    return found


def test_when_everything_is_shared_the_targets_write_every_function():
    shared, plain = BabelWorld(7, arm="everything shared"), BabelWorld(7)
    assert shared.vocabulary == plain.vocabulary
    assert named(shared, shared.documents("php", 400)) == set(shared.group)
    assert list(shared.documents("python", 50)) == list(plain.documents("python", 50))


def test_all_arms_share_one_base():
    texts = [list(BabelWorld(7, arm=arm).documents("python", 50, base=True)) for arm in get_args(Arm)]
    assert all(one == texts[0] for one in texts)


def test_what_a_permuted_base_was_taught_of_a_pivot_only_name_is_not_what_is_asked_later():
    permuted = BabelWorld(7, arm="permuted base")
    alone = {name for name, group in permuted.group.items() if group == "pivot only"}
    truth = {name: signature(expression) for name, expression in permuted.expression.items()}
    before, later = (told(permuted.documents("python", 500, base=base)) for base in (True, False))
    assert len(alone & set(before)) > 60
    assert all((value == truth[name]) == (name not in alone) for name, value in before.items())
    assert all(value == truth[name] for name, value in later.items())
    assert {before[name] for name in alone & set(before)} <= {truth[name] for name in alone}


def test_text_of_the_base_and_later_text_are_alike_in_the_world_itself(world):
    assert list(world.documents("python", 20, base=True)) == list(world.documents("python", 20))


def test_probes_end_before_the_identifier_and_go_on_as_natural_code(world):
    for probe in world.probes().probes:
        syntax, text = LANGUAGES[probe.language], probe.prompt + probe.identifier + probe.rest
        name = next(token for token in tokens(text) if token in world.group)
        assert text == syntax.write(name, world.expression[name], syntax.forms[0])
        assert probe.identifier == syntax.builtins[probe.concept]
        assert world.group[name] != "target only"


def test_every_concept_is_probed_often_enough_and_the_pivot_on_other_functions(world):
    probes = world.probes("php")
    assert set(probes.languages) == {"python", "php"}
    for concept in BUILTINS:
        for language in probes.languages:
            assert sum((p.concept, p.language) == (concept, language) for p in probes.probes) >= 3
    asked = {
        language: {
            token for p in probes.probes if p.language == language for token in tokens(p.prompt + p.rest)
        }
        & set(world.group)
        for language in probes.languages
    }
    assert asked["python"].isdisjoint(asked["php"])


def test_the_tokenizer_loads_and_its_text_can_be_marked(world, tmp_path):
    from transformers import AutoTokenizer

    world.write_tokenizer(tmp_path)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    assert tokenizer.is_fast
    assert tokenizer.eos_token == tokenizer.pad_token == END
    assert tokenizer.get_vocab() == {token: id_ for id_, token in enumerate(world.vocabulary)}
    for language in world.languages:
        for text in world.documents(language, 50):
            ids = tokenizer(text)["input_ids"]
            assert tokenizer.convert_ids_to_tokens(ids) == tokens(text)
        problems = world.problems(language)
        syntax = LANGUAGES[language]
        for problem in problems.problems:
            answer = syntax.render(world.expression[problem.id]) + syntax.forms[0].after
            ids = tokenizer(answer + END + answer)["input_ids"]
            answer = tokenizer.decode(ids, skip_special_tokens=True)
            assert problems.mark([Attempt(problem, answer)])[0].solved


def test_a_text_file_holds_the_documents(world, tmp_path):
    world.write_text(tmp_path / "php.jsonl", "php", 20)
    texts = [json.loads(line)["text"] for line in (tmp_path / "php.jsonl").read_text().splitlines()]
    assert texts == list(world.documents("php", 20))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"targets": ("perl",)}, "perl"),
        ({"targets": ("php", "php")}, "each once"),
        ({"targets": ()}, "choose some of"),
        ({"arm": "shared"}, "arm 'shared'"),
        ({"pivot_only": 5000}, "ask for fewer"),
    ],
)
def test_a_world_that_cannot_be_is_refused_in_words(arguments, words):
    with pytest.raises(InputError, match=words):
        BabelWorld(**arguments)


def test_unknown_languages_and_groups_are_refused_in_words(world):
    with pytest.raises(InputError, match="lua"):
        world.problems("lua")
    with pytest.raises(InputError, match="pivot"):
        world.problems("php", groups=("pivot",))


def test_text_of_some_groups_tells_of_no_others(world):
    told = named(world, world.documents("python", 200, groups=("both",)))
    assert {world.group[name] for name in told} == {"both"}
    assert len(told) == 40
    with pytest.raises(InputError, match=r"groups \['neither'\]: choose some of"):
        next(world.documents("python", groups=("neither",)))


def test_written_text_has_as_many_tokens_as_it_says(world, tmp_path):
    written = world.write_text(tmp_path / "php.jsonl", "php", 20)
    world.write_tokenizer(tmp_path)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    texts = [json.loads(line)["text"] for line in (tmp_path / "php.jsonl").read_text().splitlines()]
    assert written == sum(len(tokenizer(text)["input_ids"]) + 1 for text in texts)
