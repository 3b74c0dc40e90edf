"""Recipes: what is refused and in which words, where paths point, when checkpoints come."""

import copy
import math
from itertools import pairwise
from pathlib import Path

import pytest

from babelscope.checkpoints.recipe import Recipe, log_spaced
from babelscope.core.errors import InputError
from babelscope.corpora.mix import Mix

RECIPE = {
    "output": "runs/php",
    "pivot": "python",
    "target": "php",
    "model": {"scratch": {"family": "gpt2", "n_layer": 2}},
    "tokenizer": {"vocab_size": 300},
    "sources": [
        {"language": "python", "path": "py", "proportion": 0.25},
        {"language": "php", "path": ["a", "b"], "proportion": 0.75, "max_tokens": 1000},
    ],
    "training": {"steps": 100, "batch_size": 4, "sequence_length": 16, "learning_rate": 1e-3},
}


def changed(**changes):
    """The recipe with `{"training.steps": 5}` and the like replaced."""
    document = copy.deepcopy(RECIPE)
    for key, value in changes.items():
        *parents, last = key.split(".")
        part = document
        for name in parents:
            part = part[int(name)] if name.isdigit() else part[name]
        part[last] = value
    return document


def mix(**weights):
    shares = {language: {"weight": weight} for language, weight in weights.items()}
    return Mix.parse(
        {"languages": shares, "pivot": "python", "verdict": "…", "method": "uniform"}, origin="mix"
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"sources.1.proportion": 0.7}, r"proportions sum to 0\.95, not 1 \(python 0\.25, php 0\.7\)"),
        ({"sources.1.language": "python"}, r"\['python'\] have two sources"),
        ({"training.learning_rat": 1}, r"unknown key 'training\.learning_rat'"),
        ({"training.steps": 0}, r"training\.steps"),
        ({"training.warmup_steps": 101}, "warmup_steps = 101 is more than steps = 100"),
        ({"training.checkpoints": [50, 120]}, "checkpoints up to 120 do not fit into steps = 100"),
        ({"training.schedule": "wsd"}, r"training\.schedule.*'wsd'"),
        ({"target": "perl"}, "target 'perl' is not among the sources"),
        ({"pivot": "pyhton"}, "pivot 'pyhton' is not among the sources"),
        ({"model": {}}, r"needs either start"),
        ({"model": {"start": "x", "scratch": {"family": "gpt2"}}}, r"needs either start"),
        ({"tokenizer": {"vocab_size": 300, "path": "x"}}, r"\[tokenizer\] needs either path"),
        ({"tokenizer": None}, r"a model from scratch needs a \[tokenizer\]"),
        ({"tokenizer": {"vocab_size": 300, "train_on": ["go"]}}, r"train_on names \['go'\]"),
    ],
)
def test_a_mistake_is_refused_in_words(change, message):
    with pytest.raises(InputError, match=message):
        Recipe.parse(changed(**change), origin="php.toml")


def test_a_pivot_without_a_source_is_fine_when_the_model_knows_it():
    recipe = Recipe.parse(changed(pivot="lua", model={"start": "base"}), origin="php.toml")
    assert recipe.pivot == "lua"


def test_paths_are_relative_to_the_file(tmp_path):
    (tmp_path / "base").mkdir()
    (tmp_path / "php.toml").write_text(
        """
        output = "runs/php"
        pivot = "python"
        [model]
        start = "base"
        [[sources]]
        language = "php"
        path = "text"
        proportion = 1
        [training]
        steps = 1
        batch_size = 1
        sequence_length = 2
        learning_rate = 1
        """
    )
    recipe = Recipe.from_toml(tmp_path / "php.toml")
    assert recipe.output == tmp_path / "runs/php"
    assert recipe.model.start == str(tmp_path / "base")
    assert recipe.sources[0].path == (str(tmp_path / "text"),)
    (tmp_path / "base").rmdir()
    assert Recipe.from_toml(tmp_path / "php.toml").model.start == "base"  # not here: a name on the hub


def test_what_is_recorded_holds_no_absolute_path_and_does_not_change_when_the_folder_moves(tmp_path):
    recorded = []
    for place in ("here", "there"):
        folder = tmp_path / place
        sources = [{**part, "path": str(folder / "text")} for part in RECIPE["sources"]]
        document = changed(output=str(folder / "runs/php"), sources=sources)
        recorded.append(Recipe.parse(document, origin="php.toml").portable())
    assert recorded[0] == recorded[1]
    assert str(tmp_path) not in str(recorded)


def test_endings_are_those_of_the_language_unless_given():
    sources = Recipe.parse(changed(**{"sources.0.extensions": [".pyi"]}), origin="php.toml").sources
    assert sources[0].endings == (".pyi",)
    assert ".php" in sources[1].endings


def test_a_mix_replaces_proportions_and_where_given_unique_tokens():
    recipe = Recipe.parse(RECIPE, origin="php.toml")
    asked = mix(python=0.6, php=0.4)
    languages = {
        name: share.model_copy(update={"unique_tokens": 500 if name == "python" else None})
        for name, share in asked.languages.items()
    }
    mixed = recipe.with_mix(asked.model_copy(update={"languages": languages}))
    assert mixed.proportions == {"python": 0.6, "php": 0.4}
    assert [source.max_tokens for source in mixed.sources] == [500, 1000]
    assert recipe.proportions == {"python": 0.25, "php": 0.75}


def test_a_mix_about_other_languages_is_refused():
    recipe = Recipe.parse(RECIPE, origin="php.toml")
    with pytest.raises(InputError, match=r"names \['go'\], for which the recipe has no"):
        recipe.with_mix(mix(python=0.5, php=0.3, go=0.2))
    with pytest.raises(InputError, match=r"says nothing about \['php'\]"):
        recipe.with_mix(mix(python=1.0))


@pytest.mark.parametrize(("last", "count"), [(1, 24), (5, 24), (23, 24), (100, 24), (2000, 24), (50_000, 40)])
def test_checkpoints_are_as_many_as_asked_from_nought_to_the_last(last, count):
    steps = log_spaced(last, count)
    assert len(steps) == min(count, last + 1)
    assert steps == sorted(set(steps))
    assert (steps[0], steps[-1]) == (0, last)


def test_checkpoints_are_evenly_spaced_on_a_logarithmic_scale():
    steps = [step for step in log_spaced(50_000, 30) if step >= 50]
    ratios = [later / earlier for earlier, later in pairwise(steps)]
    assert max(ratios) / min(ratios) < 1.05
    assert math.isclose(ratios[0] ** len(ratios), 50_000 / steps[0], rel_tol=0.05)


def test_every_step_that_may_be_saved_is_logged():
    training = Recipe.parse(
        changed(**{"training.steps": 20_000, "training.resume_every": 777}), origin="php.toml"
    ).training
    assert set(training.checkpoint_steps) - {0} <= training.log_steps
    assert set(range(777, 20_000, 777)) <= training.log_steps
    assert 500 <= len(training.log_steps) < 1100


def test_steps_asked_for_are_kept_besides_the_first_and_the_last():
    training = Recipe.parse(changed(**{"training.checkpoints": [50, 75]}), origin="php.toml").training
    assert training.checkpoint_steps == [0, 50, 75, 100]


def test_the_recipe_in_the_documentation_is_one(tmp_path):
    from babelscope.checkpoints import recipe

    text = recipe.__doc__.partition("refused.")[2]
    (tmp_path / "php.toml").write_text(text.replace("proportion = 0.98", "proportion = 1"))
    assert Recipe.from_toml(tmp_path / "php.toml").output == Path(tmp_path / "runs/php")
