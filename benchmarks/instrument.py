"""The instrument, tested: are the three stages found where they are, and only there?

    python -m benchmarks.instrument --out runs/instrument --seeds 10-19

Small Babels of many seeds (`docs/small-babel.md`), each in four arms that differ in one thing:

    babel               the base knows functions that no text of the target tells
    everything shared   the target's text tells of them too: nothing is left to transfer, nor to forget
    permuted base       the base was taught another function's expression for their names
    random base         there is no base

What is judged is the shape of one curve, the score in the target on all problems:
"translation-transition-stabilization" is right in the first arm and false in the others. Recipe and detector
were chosen on seeds 0–4; 10–19 are for one run of what was frozen then. Checkpoints are three times as dense
as in the demo, since training noise comes anew with each of them.

Every run is a directory of checkpoints that `babelscope analyze` takes, and every answer a file: what is done
is not done again. With four arms a seed takes about half an hour of one core.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any, cast

from babelscope.core.files import read_json, write_json
from babelscope.corpora.babel import Arm

BABEL, RANDOM = "babel", "random base"
ARMS = (BABEL, "everything shared", "permuted base", RANDOM)
TARGET = "php"
FIRST, DENSE = 45, 120  # first checkpoint after 0: before it nothing is solved in the target
FOUND = "translation-transition-stabilization"


def series_of(out: Path, seed: int, arm: str) -> Path:
    """Train one arm of one seed, and its base if need be; the directory of its checkpoints."""
    from babelscope.analyses.demo import BASE_STEPS, Demo
    from babelscope.checkpoints.pretrain import pretrain
    from babelscope.checkpoints.recipe import ModelRecipe, TokenizerRecipe

    base = Demo(out / f"{seed}-base", seed=seed, target=TARGET)
    demo = Demo(
        out / f"{seed}-{arm.replace(' ', '-')}", seed=seed, target=TARGET, arm=BABEL if arm == RANDOM else arm
    )
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


def _world(arm: str) -> Arm:
    return cast(Arm, BABEL if arm == RANDOM else arm)


def answer(out: Path, seed: int, arm: str) -> dict[str, Any]:
    """What the detector says of one arm of one seed."""
    from babelscope.analyses import tables
    from babelscope.analyses.score_curve import ScoreCurve
    from babelscope.analyses.stages import StageDetector
    from babelscope.analyses.sweep import sweep
    from babelscope.checkpoints.series import Series
    from babelscope.corpora.babel import BabelWorld
    from babelscope.interp.problem_scores import ProblemScores
    from babelscope.interp.streams import ProblemStream

    file = out / "answers" / f"{seed}-{arm.replace(' ', '-')}.json"
    if file.exists():
        return read_json(file)
    world = BabelWorld(seed, targets=(TARGET,), arm=_world(arm))
    asked = ProblemScores(ProblemStream(world.problems(TARGET)))
    scored = sweep(Series.open(series_of(out, seed, arm)), [asked])
    steps, _, solved = tables.outcomes(scored["problem_scores"], TARGET)
    found = StageDetector().fit(ScoreCurve.from_outcomes(steps, solved))
    write_json(file, {"seed": seed, "arm": arm, **found.to_document()})
    return read_json(file)


def table(answers: Sequence[dict[str, Any]]) -> str:
    """One line per arm, then one per run, in Markdown."""
    lines = ["| arm | runs | found as three stages | shapes |", "|---|---|---|---|"]
    for arm in dict.fromkeys(one["arm"] for one in answers):
        shapes = [one["shape"] for one in answers if one["arm"] == arm]
        listed = ", ".join(f"{shapes.count(shape)} × {shape}" for shape in dict.fromkeys(shapes))
        lines.append(f"| {arm} | {len(shapes)} | {shapes.count(FOUND)} | {listed} |")
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


def _in_a_process(job: tuple[Path, int, str]) -> dict[str, Any]:
    import torch

    torch.set_num_threads(1)
    return answer(*job)


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
    asked = parser.parse_args()
    # The arm with the base first: the others start from what it leaves.
    for arms in ([arm for arm in asked.arms if arm == BABEL], [arm for arm in asked.arms if arm != BABEL]):
        jobs = [(asked.out, seed, arm) for seed in asked.seeds for arm in arms]
        with ProcessPoolExecutor(asked.jobs, mp_context=get_context("spawn")) as pool:
            for done in pool.map(_in_a_process, jobs):
                print(done["seed"], done["arm"], done["verdict"], flush=True)
    answers = [answer(asked.out, seed, arm) for arm in asked.arms for seed in asked.seeds]
    print(table(answers))


if __name__ == "__main__":
    main()
