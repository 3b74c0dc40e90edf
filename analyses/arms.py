"""Acting on a mix and judging it: the same start, schedule and number of tokens, different mixes.

    recommended   what Algorithm 1 says
    natural       every language in proportion to the tokens that exist
    uniform       every language alike

The metric is fixed before anything is trained: the share of problems solved at the last checkpoint, pivot's
and target's together, of the groups by which Algorithm 1 chose the best checkpoint; that is what it means to
raise. What a mix costs elsewhere is shown by group. Arms are compared on the same problems and, where several
training seeds are given, with the noise of training in the interval.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from babelscope.analyses.best_mix import problem_set
from babelscope.analyses.comparison import ArmComparison
from babelscope.analyses.executor import Executor
from babelscope.analyses.store import Store
from babelscope.checkpoints.recipe import Recipe
from babelscope.checkpoints.series import Series
from babelscope.core.errors import InputError
from babelscope.core.files import digest
from babelscope.corpora.mix import LanguageShare, Mix
from babelscope.interp.measure import FromModel
from babelscope.interp.problem_scores import ProblemScores
from babelscope.interp.streams import ProblemStream
from babelscope.probes.problems import ProblemSet

RECOMMENDED = "recommended"
METRIC = "{problems}, asked in pivot and target, at the last checkpoint"


def reference_mixes(pivot: str, available: Mapping[str, int]) -> dict[str, Mix]:
    """The natural and the uniform mix of what exists."""
    total = sum(available.values())
    weights = {
        "natural": {language: tokens / total for language, tokens in available.items()},
        "uniform": {language: 1 / len(available) for language in available},
    }
    return {
        name: Mix(
            languages={
                language: LanguageShare(weight=weight, unique_tokens=available[language])
                for language, weight in shares.items()
            },
            pivot=pivot,
            verdict=f"The {name} mix, for comparison.",
            method=name,
        )
        for name, shares in weights.items()
    }


def run_arms(
    recipe: Recipe,
    mixes: Mapping[str, Mix],
    *,
    seeds: Sequence[int],
    problems: ProblemSet,
    output: Path,
    best_by: Sequence[str] = (),
) -> ArmComparison:
    """Train every different mix with every seed, score the last checkpoints, and compare.

    Parameters
    ----------
    recipe
        Start, schedule and sources of all arms; its proportions, seed and output are replaced.
    mixes
        By arm; `RECOMMENDED` must be among them.
    seeds
        Training seeds; every arm gets all of them.
    problems
        What is asked at the end.
    output
        Runs go to `output/<arm>-<seed>`; one that is finished is not trained again.
    best_by
        Groups of problems that the metric is the mean of; all if empty.

    Raises
    ------
    InputError
        If there is nothing to compare, or a mix does not fit the recipe.
    """
    if RECOMMENDED not in mixes or len(mixes) < 2 or not seeds:
        raise InputError(
            f"arms {list(mixes)} with seeds {list(seeds)}: give {RECOMMENDED!r}, another arm and a seed"
        )
    runs: dict[str, np.ndarray] = {}  # by what is trained: two arms of one mix are one run
    outcomes: dict[str, list[np.ndarray]] = {arm: [] for arm in mixes}
    for arm, mix in mixes.items():
        mixed = recipe.with_mix(mix)
        for seed in seeds:
            trained = digest([mixed.model_dump(mode="json"), seed])
            if trained not in runs:
                one = mixed.model_copy(update={"seed": seed, "output": output / f"{arm}-{seed}"})
                runs[trained] = _last_outcomes(one, problems)
            outcomes[arm].append(runs[trained])
    groups = [f"{problem.language}: {problem.group}" for problem in problems.problems]
    judged = np.array([not best_by or problem.group in best_by for problem in problems.problems])
    comparison = ArmComparison(
        recommended=RECOMMENDED, problem_set=METRIC.format(problems=problem_set(best_by))
    )
    return comparison.fit(
        {arm: np.stack(rows) for arm, rows in outcomes.items()},
        seeds={arm: list(seeds) for arm in mixes},
        groups=groups,
        judged=judged,
    )


def _last_outcomes(recipe: Recipe, problems: ProblemSet) -> np.ndarray:
    """Which problems the recipe's last checkpoint solves; scored while its model is in memory."""
    from babelscope.checkpoints.pretrain import pretrain

    measure = ProblemScores(ProblemStream(problems))
    last = recipe.training.steps

    def executor() -> tuple[Executor, str]:
        series = Series.open(recipe.output)
        store = Store(series.state / "store")
        return Executor(store, [measure], series), series.fingerprints.of(series.at(last).path)

    def score(model: Any, step: int) -> None:
        from babelscope.interp.anatomy import Anatomy

        if step == last:
            run, fingerprint = executor()
            missing = run.missing(fingerprint)
            if missing:
                asked = [one for one in missing if isinstance(one, FromModel)]
                run.run(Anatomy(model), asked, fingerprint=fingerprint, about={"step": step}, advance=_silent)
                run.derive([measure], fingerprint=fingerprint, advance=_silent)

    pretrain(recipe, on_checkpoint=score)
    run, fingerprint = executor()
    return run.store.load(run.key(measure, fingerprint))["solved"].isel(sample=0).to_numpy().astype(bool)


def _silent(_done: int) -> None:
    """Scoring one checkpoint takes seconds; training's own bar goes on."""
