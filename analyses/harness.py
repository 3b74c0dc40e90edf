"""Scores as lm-evaluation-harness writes them (its format since 0.4), a file per checkpoint.

What reads that format reads these: tables and plots of one's own, and `Series.open`, to which they are scores
of the checkpoint like any evaluator's.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from babelscope.core.files import write_json

FILE = "results_step-{step}.json"


def documents(
    scores: pd.DataFrame, *, name: str, checkpoints: Mapping[int, str], settings: Mapping[str, Any]
) -> dict[int, dict[str, Any]]:
    """One document per step.

    Parameters
    ----------
    scores
        Of `babelscope.analyses.evaluation.scores_at_k`.
    name
        Of the problems; a task is one language of them, "primer_php".
    checkpoints
        Step → path of the checkpoint.
    settings
        How completions were asked for and marked; goes to `config`.
    """
    found = {}
    for step, table in scores.groupby("step"):
        results: dict[str, dict[str, Any]] = {}
        counts: dict[str, dict[str, int]] = {}
        for row in table.to_dict("records"):
            task = f"{name}_{row['language']}"
            metric = f"pass@{row['k']}"
            entry = results.setdefault(task, {"alias": task, "sample_len": row["problems"]})
            entry[f"{metric},none"] = _number(row["estimate"])
            entry[f"{metric}_stderr,none"] = _number((row["high"] - row["low"]) / (2 * 1.96))
            entry[f"{metric}_low,none"] = _number(row["low"])
            entry[f"{metric}_high,none"] = _number(row["high"])
            counts[task] = {
                "original": row["problems"] + row["not_run"],
                "effective": row["problems"],
                "not_run": row["not_run"],
            }
        found[int(step)] = {  # pyright: ignore[reportArgumentType]
            "results": results,
            "versions": dict.fromkeys(results, 1),
            "n-shot": dict.fromkeys(results, 0),
            "n-samples": counts,
            "config": {"model": "hf", "model_args": f"pretrained={checkpoints[int(step)]}", **settings},  # pyright: ignore[reportArgumentType]
            "date": time.time(),
        }
    return found


def write(documents: Mapping[int, dict[str, Any]], folder: Path) -> list[Path]:
    """Write them; the paths."""
    paths = []
    for step, document in documents.items():
        paths.append(folder / FILE.format(step=step))
        write_json(paths[-1], document)
    return paths


def _number(value: float) -> float | None:
    """JSON has no NaN."""
    return None if np.isnan(value) else float(value)
