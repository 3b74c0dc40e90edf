"""Scores of checkpoints that other evaluators wrote, as one table.

lm-evaluation-harness        {"results": {task: {"acc,none": 0.31, "acc_stderr,none": 0.01, …}}, "config": …}
                             its releases before 0.4 wrote "acc" and "acc_stderr"
bigcode-evaluation-harness   {task: {"pass@1": 0.19, …}, "config": …}; no standard errors

Files are found by their path: `.json`, with `eval` or `result` in it or a step in the file's name, in a
checkpoint or beside the checkpoints, at most `DEPTH` folders down. Whose scores they are is what the file
records of its model (`pretrained=runs/php/checkpoint-10`, `revision=step1000`) or what its path says; where
these differ, it is left out.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeGuard

from babelscope.checkpoints.findings import Finding
from babelscope.checkpoints.layouts import shown, step_within
from babelscope.core.errors import InputError
from babelscope.core.files import read_json

if TYPE_CHECKING:
    import pandas as pd

DEPTH = 3
_RESULTS = re.compile("eval|result", re.IGNORECASE)


class Score(NamedTuple):
    """One number; `stderr` is NaN where none was given, `source` the file below the series' directory."""

    step: int
    task: str
    metric: str
    value: float
    stderr: float
    source: str


def read_evaluations(directory: Path) -> tuple[list[Score], list[Finding]]:
    """All scores below a directory, by step; of several for one step, task and metric, the newest file's."""
    documents, findings = [], []
    for file in _files(directory):
        source = shown(file.relative_to(directory))
        try:
            document, written = read_json(file), file.stat().st_mtime
        except (InputError, OSError, RecursionError) as error:
            findings.append(Finding(step_within(source), "unread evaluation", f"{source}: {error}"))
            continue
        if isinstance(document, dict) and (scores := list(_scores(document))):
            date = document.get("date")  # where recorded: a copied file's own time is the copy's
            documents.append((date if _is_number(date) else written, source, document, scores))
    newest: dict[tuple[int, str, str], Score] = {}
    for _, source, document, scores in sorted(documents, key=lambda one: one[:2]):
        recorded, placed = _recorded_step(document), step_within(source)
        step = placed if recorded is None else recorded
        if step is None:
            detail = f"{source} does not say of which checkpoint"
            findings.append(Finding(None, "evaluation of no step", detail))
        elif placed is not None and placed != step:
            detail = f"{source} holds the scores of step {step}; they are left out"
            findings.append(Finding(placed, "evaluation of another step", detail))
        else:
            for task, metric, value, stderr in scores:
                if math.isfinite(value):
                    newest[step, task, metric] = Score(step, task, metric, value, stderr, source)
                else:
                    findings.append(Finding(step, "non-finite score", f"{source}: {metric} of {task}"))
    return sorted(newest.values()), findings


def table(scores: Iterable[Score]) -> pd.DataFrame:
    """One row per score, with the columns of `Score`."""
    import pandas as pd

    return pd.DataFrame(list(scores), columns=list(Score._fields))


def _files(directory: Path) -> Iterator[Path]:
    for folder, subfolders, names in os.walk(directory, followlinks=True):  # a loop ends at DEPTH
        below = Path(folder).relative_to(directory)
        deep = len(below.parts) >= DEPTH
        subfolders[:] = [] if deep else sorted(name for name in subfolders if not name.startswith("."))
        for name in sorted(names):
            named = _RESULTS.search(str(below / name)) or step_within(name) is not None
            if named and name.endswith(".json"):
                yield Path(folder) / name


def _scores(document: dict[str, Any]) -> Iterator[tuple[str, str, float, float]]:
    """Task, metric, value and standard error; nothing if the document is of neither evaluator."""
    config = document.get("config")
    if isinstance(results := document.get("results"), dict):
        tasks = results
    elif isinstance(config, dict) and "model" in config:
        tasks = {name: result for name, result in document.items() if name != "config"}
    else:
        return
    for task, result in tasks.items():
        if not isinstance(result, dict):
            continue
        with_filter = any("," in key for key in result)  # then what has none is a counter, not a metric
        for key, value in result.items():
            name, comma, filtered = key.partition(",")
            if name.endswith("_stderr") or not _is_number(value) or (with_filter and not comma):
                continue
            stderr = result.get(f"{name}_stderr{comma}{filtered}")
            metric = name if filtered == "none" else key
            yield task, metric, float(value), float(stderr) if _is_number(stderr) else math.nan


def _is_number(value: object) -> TypeGuard[int | float]:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _recorded_step(document: dict[str, Any]) -> int | None:
    """The step in what the evaluator recorded of its model, the revision before the name."""
    config: Any = document.get("config")
    if not isinstance(config, dict):
        return None
    arguments: Any = config.get("model_args")
    if isinstance(arguments, str):
        arguments = dict(part.split("=", 1) for part in arguments.split(",") if "=" in part)
    if not isinstance(arguments, dict):
        arguments = {}
    said = [arguments.get("revision"), config.get("revision"), config.get("model_revision")]
    said += [
        arguments.get("peft"),
        arguments.get("pretrained"),
        config.get("peft_model"),
        config.get("model"),
    ]
    steps = (step_within(text) for text in said if isinstance(text, str))
    return next((step for step in steps if step is not None), None)
