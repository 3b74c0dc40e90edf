"""Arms: the same start, schedule and number of tokens, different mixes."""

from __future__ import annotations

from pathlib import Path

import pytest

from babelscope.analyses.arms import METRIC, RECOMMENDED, reference_mixes, run_arms
from babelscope.checkpoints.pretrain import pretrain
from babelscope.checkpoints.recipe import Recipe
from babelscope.checkpoints.series import Series
from babelscope.core.errors import InputError
from babelscope.corpora.babel import BabelWorld
from babelscope.probes.problems import JoinedProblems

RECIPE = """
output = "{name}"
pivot = "python"
{target}
[model{scratch}]
{model}
[tokenizer]
path = "world"
[[sources]]
language = "python"
path = "world/python.jsonl"
proportion = 0.5
[[sources]]
language = "php"
path = "world/php.jsonl"
proportion = 0.5
[training]
steps = 4
batch_size = 2
sequence_length = 32
learning_rate = 1e-2
checkpoints = 2
"""
SCRATCH = 'family = "gpt2"\nn_layer = 1\nn_embd = 16\nn_head = 2\nn_positions = 96'


@pytest.fixture
def world() -> BabelWorld:
    return BabelWorld(0, targets=("php",), pivot_only=4, both=3, target_only=3)


@pytest.fixture
def recipe(tmp_path: Path, world: BabelWorld) -> Recipe:
    """A recipe that continues a tiny base, with its world beside it."""
    world.write_tokenizer(tmp_path / "world")
    for language in world.languages:
        world.write_text(tmp_path / "world" / f"{language}.jsonl", language, 200)
    base = RECIPE.format(name="base", target="", scratch=".scratch", model=SCRATCH)
    (tmp_path / "base.toml").write_text(base)
    pretrain(Recipe.from_toml(tmp_path / "base.toml"))
    arms = RECIPE.format(
        name="arms", target='target = "php"', scratch="", model='start = "base/checkpoint-4"'
    )
    (tmp_path / "arms.toml").write_text(arms)
    return Recipe.from_toml(tmp_path / "arms.toml")


def test_natural_is_by_what_exists_and_uniform_is_alike():
    mixes = reference_mixes("python", {"python": 100, "php": 300})
    assert mixes["natural"].weights == {"python": 0.25, "php": 0.75}
    assert mixes["uniform"].weights == {"python": 0.5, "php": 0.5}


def test_every_arm_reads_as_many_tokens_of_its_mix_from_the_same_start(recipe, world, tmp_path):
    mixes = reference_mixes("python", {"python": 100_000, "php": 300_000})
    mixes[RECOMMENDED] = mixes.pop("natural")
    problems = JoinedProblems([world.problems(name) for name in ("python", "php")])
    found = run_arms(recipe, mixes, seeds=[0, 1], problems=problems, output=tmp_path / "arms")
    assert found.problem_set == METRIC.format(problems="all problems")
    assert len(found.scores_) == 4
    assert {row["other"] for row in found.differences_.to_dict("records")} == {"uniform"}
    starts, tokens = set(), []
    for arm in mixes:
        for seed in (0, 1):
            series = Series.open(tmp_path / "arms" / f"{arm}-{seed}")
            starts.add(series.fingerprints.of(series.at(0).path))
            tokens.append(series.at(4).tokens)
    assert len(starts) == 1
    assert [sum(one.values()) for one in tokens] == [4 * 2 * 32] * 4
    assert tokens[0] == tokens[1] == {"python": 128, "php": 128}
    assert tokens[2] == tokens[3] == {"python": 64, "php": 192}


def test_a_finished_arm_is_not_trained_again(recipe, world, tmp_path):
    mixes = reference_mixes("python", {"python": 1_000, "php": 3_000})
    mixes[RECOMMENDED] = mixes["uniform"]
    arguments = {"seeds": [0], "problems": world.problems("php"), "output": tmp_path / "arms"}
    first = run_arms(recipe, mixes, **arguments)
    files = {p: p.stat().st_mtime_ns for p in (tmp_path / "arms").rglob("*.safetensors")}
    again = run_arms(recipe, mixes, **arguments)
    assert {p: p.stat().st_mtime_ns for p in (tmp_path / "arms").rglob("*.safetensors")} == files
    assert again.differences_.equals(first.differences_)


def test_two_arms_of_one_mix_are_one_run(recipe, world, tmp_path):
    mixes = reference_mixes("python", {"python": 1_000, "php": 3_000})
    mixes[RECOMMENDED] = mixes["natural"]
    found = run_arms(recipe, mixes, seeds=[0], problems=world.problems("php"), output=tmp_path / "arms")
    assert sorted(path.name for path in (tmp_path / "arms").iterdir()) == ["natural-0", "uniform-0"]
    same = found.differences_.set_index("other").loc["natural"]
    assert (same["difference"], same["gain"]) == (0, "no meaningful gain")


def test_one_seed_is_said_not_to_cover_the_noise_of_training(recipe, world, tmp_path):
    mixes = reference_mixes("python", {"python": 1_000, "php": 3_000})
    mixes[RECOMMENDED] = mixes["natural"]
    found = run_arms(recipe, mixes, seeds=[0], problems=world.problems("php"), output=tmp_path / "arms")
    assert any("seed" in note for note in found.notes_)


def test_nothing_to_compare_is_refused_before_training(recipe, world, tmp_path):
    mixes = reference_mixes("python", {"python": 1_000, "php": 3_000})
    with pytest.raises(InputError, match="give 'recommended'"):
        run_arms(recipe, mixes, seeds=[0], problems=world.problems("php"), output=tmp_path / "arms")
    assert not (tmp_path / "arms").exists()
