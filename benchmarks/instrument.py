"""The instrument, tested: are the three stages found where they are, and only there?

    python -m benchmarks.instrument --out runs/instrument --seeds 10-19

Small Babels of many seeds (`docs/small-babel.md`), each in four arms that differ in one thing:

    babel               the base knows functions that no text of the target tells
    everything shared   the target's text tells of them too: nothing is left to transfer, nor to forget
    permuted base       the base was taught another function's expression for their names
    random base         there is no base

What is judged is the shape of one curve, the score in the target on all problems:
"translation-transition-stabilization" is right in the first arm and false in the others. Recipe and detector
were chosen on seeds 0–4; 10–19 are for one run of what was frozen then. Checkpoints are denser than in the
demo, since training noise comes anew with each of them.

Every run is a directory of checkpoints that `babelscope analyze` takes, 0.6 GB of them; once it is scored,
they are deleted unless --keep says otherwise, and a table that `babelscope stages` takes remains. What is
done is not done again. Shapes are looked for at the end, in all runs at once. With four arms a seed takes
about half an hour of one core.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any, cast

import numpy as np
import pandas as pd

from babelscope.analyses.score_curve import ScoreCurve
from babelscope.analyses.shapes import BABEL as THREE_STAGES
from babelscope.analyses.stages import StageDetector
from babelscope.core.files import write_json, write_text
from babelscope.corpora.babel import Arm

BABEL, RANDOM = "babel", "random base"
ARMS = (BABEL, "everything shared", "permuted base", RANDOM)
TARGET = "php"
FIRST, DENSE = 110, 120  # about where a third of the problems are solved: from there on stages are lines


def series_of(out: Path, seed: int, arm: str) -> Path:
    """Train one arm of one seed, and its base if need be; the directory of its checkpoints."""
    from babelscope.analyses.demo import BASE_STEPS, Demo
    from babelscope.checkpoints.pretrain import pretrain
    from babelscope.checkpoints.recipe import ModelRecipe, TokenizerRecipe

    base = Demo(out / f"{seed}-base", seed=seed, target=TARGET)
    demo = Demo(out / _stem(seed, arm), seed=seed, target=TARGET, arm=_world(arm))
    demo.write()
    recipe = demo.recipe("continuation")
    if arm == RANDOM:
        start = {
            "model": demo.recipe("base").model,
            "tokenizer": TokenizerRecipe(path=str(demo.output / "world")),
        }
    else:
        base.write()
        start = {"model": ModelRecipe(start=str(pretrain(base.recipe("base")) / f"checkpoint-{BASE_STEPS}"))}
    steps = recipe.training.steps
    dense = {0, *(round(FIRST * (steps / FIRST) ** (i / (DENSE - 1))) for i in range(DENSE))}
    training = recipe.training.model_copy(update={"checkpoints": tuple(sorted(dense))})
    return pretrain(recipe.model_copy(update=start | {"training": training}))


def _stem(seed: int, arm: str) -> str:
    return f"{seed}-{arm.replace(' ', '-')}"


def _world(arm: str) -> Arm:
    return cast(Arm, BABEL if arm == RANDOM else arm)


def scores_of(out: Path, seed: int, arm: str, *, keep: bool) -> Path:
    """Which problems every checkpoint of one arm of one seed solves: a table with step, problem, passed."""
    from babelscope.analyses import tables
    from babelscope.analyses.sweep import sweep
    from babelscope.checkpoints.series import Series
    from babelscope.corpora.babel import BabelWorld
    from babelscope.interp.problem_scores import ProblemScores
    from babelscope.interp.streams import ProblemStream

    file = out / "scores" / f"{_stem(seed, arm)}.csv"
    if file.exists():
        return file
    world = BabelWorld(seed, targets=(TARGET,), arm=_world(arm))
    asked = ProblemScores(ProblemStream(world.problems(TARGET)))
    series = series_of(out, seed, arm)
    steps, names, solved = tables.outcomes(sweep(Series.open(series), [asked])["problem_scores"], TARGET)
    wide = pd.DataFrame(np.asarray(solved, int), index=pd.Index(names, name="problem"), columns=steps)
    long = wide.melt(ignore_index=False, var_name="step", value_name="passed")
    write_text(file, long.to_csv())
    if not keep:
        shutil.rmtree(series)
    return file


def answer(scores: Path) -> dict[str, Any]:
    """What the detector says of one run."""
    seed, _, arm = scores.stem.partition("-")
    found = StageDetector().fit(ScoreCurve.from_table(scores))
    return {"seed": int(seed), "arm": arm.replace("-", " "), **found.to_document()}


def table(answers: Sequence[dict[str, Any]]) -> str:
    """One line per arm, then one per run, in Markdown."""
    lines = ["| arm | runs | found as three stages | shapes |", "|---|---|---|---|"]
    for arm in dict.fromkeys(one["arm"] for one in answers):
        shapes = [one["shape"] for one in answers if one["arm"] == arm]
        listed = ", ".join(f"{shapes.count(shape)} × {shape}" for shape in dict.fromkeys(shapes))
        lines.append(f"| {arm} | {len(shapes)} | {shapes.count(THREE_STAGES)} | {listed} |")
    lines += [
        "",
        "| seed | arm | highest | rise | fall | breaks at steps | shape |",
        "|---|---|---|---|---|---|---|",
    ]
    for one in answers:
        rise, fall = (
            "{estimate:+.1f} ({low:+.1f} to {high:+.1f})".format(**{k: 100 * v for k, v in one[name].items()})
            for name in ("rise", "fall")
        )
        breaks = ", ".join(str(place["step"]) for place in one["breaks"]) or "–"
        highest = max(one["score"])
        lines.append(
            f"| {one['seed']} | {one['arm']} | {highest:.2f} | {rise} | {fall} | {breaks} | {one['shape']} |"
        )
    return "\n".join(lines)


def _in_a_process(out: Path, keep: bool, job: tuple[int, str]) -> Path:
    import torch

    torch.set_num_threads(1)
    return scores_of(out, *job, keep=keep)


def _seeds(text: str) -> list[int]:
    first, _, last = text.partition("-")
    return list(range(int(first), int(last or first) + 1))


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.instrument", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--out", type=Path, required=True, help="where runs and answers go")
    parser.add_argument("--seeds", type=_seeds, default=_seeds("10-19"), help="e.g. 10-19")
    parser.add_argument("--arms", nargs="+", choices=ARMS, default=ARMS)
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="runs at a time, one thread each")
    parser.add_argument("--keep", action="store_true", help="keep the checkpoints of runs that are scored")
    asked = parser.parse_args()
    scored: list[Path] = []
    # The arm with the base first: the others start from what it leaves.
    for arms in ([arm for arm in asked.arms if arm == BABEL], [arm for arm in asked.arms if arm != BABEL]):
        jobs = [(seed, arm) for seed in asked.seeds for arm in arms]
        with ProcessPoolExecutor(asked.jobs, mp_context=get_context("spawn")) as pool:
            for done in pool.map(partial(_in_a_process, asked.out, asked.keep), jobs):
                print(f"{done.stem} is scored", file=sys.stderr, flush=True)
                scored.append(done)
    answers = sorted(map(answer, scored), key=lambda one: (asked.arms.index(one["arm"]), one["seed"]))
    write_json(asked.out / "answers.json", answers)
    print(table(answers))


if __name__ == "__main__":
    main()
