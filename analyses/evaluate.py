"""Problems asked of every checkpoint of a series, and what the answers show.

Completions are generated and stored, then marked and stored: after a kill the same call computes what is
missing, and marking again needs no model. `babelscope evaluate` is this.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import pandas as pd
import xarray as xr

from babelscope.analyses.evaluation import changes, knowledge_transferred, pivot_specific, scores_at_k
from babelscope.analyses.grades import grades, translation_losses
from babelscope.analyses.sharding import WHOLE, Shard
from babelscope.analyses.sweep import Results, sweep
from babelscope.checkpoints.findings import Finding
from babelscope.checkpoints.series import Series
from babelscope.core.errors import InputError
from babelscope.core.languages import shown
from babelscope.interp.continuation import Continuation, ContinuationLoss, ContinuationStream
from babelscope.interp.generation import GREEDY, Sampling
from babelscope.interp.measure import Measure
from babelscope.interp.problem_scores import ProblemScores
from babelscope.interp.streams import ProblemStream
from babelscope.probes.problems import ProblemSet

CONTEXT = 2048  # of a model that does not say


@dataclass(frozen=True)
class Evaluation:
    """What a series solves.

    Attributes
    ----------
    name
        Of the problems.
    scores
        As of `evaluation.scores_at_k`.
    reasons
        step, language, reason, completions: what became of every completion.
    changes
        As of `evaluation.changes`; None for sampled completions.
    transferred
        As of `evaluation.knowledge_transferred`; None without a run of the target alone.
    grades, translations
        As of `babelscope.analyses.grades`; None where no solutions were read.
    findings
        Checkpoints that could not be measured.
    notes
        What a reader should know of the above.
    outcomes
        step, language, problem, sample, passed; with the columns of `babelscope stages` for each language.
    """

    name: str
    scores: pd.DataFrame
    reasons: pd.DataFrame
    changes: pd.DataFrame | None
    transferred: pd.DataFrame | None
    grades: pd.DataFrame | None
    translations: pd.DataFrame | None
    findings: tuple[Finding, ...]
    notes: tuple[str, ...]
    outcomes: pd.DataFrame = field(repr=False)

    def to_document(self) -> dict[str, Any]:
        """Everything but single outcomes, ready for JSON; what is not a number is null."""
        tables = {
            name: json.loads(str(table.to_json(orient="records", double_precision=12)))
            for name in ("scores", "reasons", "changes", "transferred", "grades", "translations")
            if (table := getattr(self, name)) is not None
        }
        findings = [asdict(finding) for finding in self.findings]
        return {"format": 1, "problems": self.name, **tables, "findings": findings, "notes": list(self.notes)}


def measures(
    series: Series, problems: ProblemSet, *, sampling: Sampling = GREEDY, graded: Sequence[Continuation] = ()
) -> list[Measure[Any]]:
    """What `evaluate` measures of every checkpoint."""
    wanted: list[Measure[Any]] = [ProblemScores(ProblemStream(problems), sampling)]
    if graded:
        wanted.append(ContinuationLoss(ContinuationStream(graded, context=series.context or CONTEXT)))
    return wanted


def evaluate(
    series: Series,
    problems: ProblemSet,
    *,
    sampling: Sampling = GREEDY,
    ks: Sequence[int] = (1,),
    graded: Sequence[Continuation] = (),
    monolingual: Series | None = None,
    device: str | None = None,
    dtype: str = "float32",
    shard: Shard = WHOLE,
    prefetch: bool = True,
) -> Evaluation | Results:
    """Ask every checkpoint; while other shards owe results, what there is of them.

    Parameters
    ----------
    series
        The checkpoints.
    problems
        What they are asked.
    sampling
        How.
    ks
        Of pass@k; each at most the number of samples.
    graded
        Continuations to be read for graded scores.
    monolingual
        A run of the target alone. Its last checkpoint, with the first of `series`, tells which problems only
        the pivot's knowledge solves.
    device, dtype, shard, prefetch
        As of `sweep`.

    Raises
    ------
    InputError
        As of `check`, before anything is computed; for a sandbox that does not work.
    """
    check(series, sampling=sampling, ks=ks, monolingual=monolingual)
    how: dict[str, Any] = {"device": device, "dtype": dtype, "prefetch": prefetch}
    asked = measures(series, problems, sampling=sampling, graded=graded)
    results = sweep(series, asked, shard=shard, **how)
    if results.owed:
        return results
    data = results["problem_scores"]
    transferred = None
    notes = _notes(data, results["completions"])
    if monolingual:
        alone = monolingual.without(monolingual.steps[:-1], monolingual.findings)
        theirs = sweep(alone, [ProblemScores(ProblemStream(problems))], **how)["problem_scores"]
        pivot, target = str(series.pivot), str(series.target)
        specific = pivot_specific(data.isel(step=[0]), theirs, pivot=pivot, target=target)
        transferred = knowledge_transferred(data, specific, target=target)
        notes.append(
            f"{len(specific)} problems are specific to {shown(pivot)}: step 0 solves them in it, and"
            f" {monolingual.directory.name} at step {alone.steps[0]} does not in {shown(target)}."
        )
    read = results["continuation_loss"] if graded else None
    return Evaluation(
        name=problems.name,
        scores=scores_at_k(data, ks),
        reasons=_reasons(data),
        changes=changes(data) if sampling == GREEDY else None,
        transferred=transferred,
        grades=grades(read) if read is not None else None,
        translations=translation_losses(read) if read is not None else None,
        findings=results.findings,
        notes=tuple(notes),
        outcomes=_outcomes(data),
    )


def check(series: Series, *, sampling: Sampling, ks: Sequence[int], monolingual: Series | None) -> None:
    """Refuse what `evaluate` cannot answer; arguments as there.

    Raises
    ------
    InputError
        For a k that the samples do not allow, or another run that cannot be held against this one.
    """
    if bad := [k for k in ks if not 1 <= k <= sampling.samples]:
        raise InputError(
            f"pass@{bad[0]} of {sampling.samples} completions per problem: k goes from 1 to their number;"
            f" give --samples {max(bad[0], 1)} or more, and a temperature"
        )
    if monolingual and sampling != GREEDY:
        raise InputError(
            "knowledge transferred is about greedy completions; leave out samples or --monolingual"
        )
    if monolingual and (series.pivot is None or series.target is None or series.steps[0] != 0):
        raise InputError(
            f"{series.directory}: knowledge transferred needs pivot, target and step 0, the pivot's own model"
        )


def _reasons(data: xr.Dataset) -> pd.DataFrame:
    frame = data["reason"].to_dataframe().reset_index()
    columns = ["step", "language", "reason"]
    return frame[columns].value_counts(sort=False).rename("completions").to_frame().reset_index()


def _outcomes(data: xr.Dataset) -> pd.DataFrame:
    frame = data[["solved", "ran"]].to_dataframe().reset_index()
    wanted = {name: frame[name] for name in ("step", "language")}
    table = pd.DataFrame(
        wanted | {"problem": frame["id"], "sample": frame["sample"], "passed": frame["solved"]}
    )
    return table.loc[frame["ran"]]


def _notes(data: xr.Dataset, completions: xr.Dataset) -> list[str]:
    notes = []
    for language in pd.unique(data["language"].to_numpy()):
        some = data["language"].to_numpy() == language
        ended = completions["ended"].transpose("problem", ...).to_numpy()[some]
        if not ended.all():
            notes.append(
                f"{shown(language)}: {1 - ended.mean():.1%} of the completions had no room to come to an end."
            )
        reason = data["reason"].transpose("problem", ...).to_numpy()[some]
        if loose := int((reason == "passed only permissively").sum()):
            notes.append(
                f"{shown(language)}: {loose} completions pass only where values are compared permissively"
                f" ({loose / reason.size:.1%} of all)."
            )
    if not data["solved"].any() and data["ran"].any():
        notes.append("Nothing is solved at any step: graded scores tell models apart that solve nothing.")
    return notes
