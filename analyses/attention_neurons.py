"""Neurons of attention: columns of the value, query and key projections that serve one language (PLND).

Selected at a false-discovery rate and beyond a random model, whatever rule sets of the MLP are made by. They
are not ablated: that they matter is what their score says and nothing else bears out.
"""

from __future__ import annotations

import pandas as pd

from babelscope.analyses.sweep import Results
from babelscope.core.languages import shown
from babelscope.core.progress import progress
from babelscope.interp.neuron_scores import METHODS, scores
from babelscope.interp.selection import Fdr

SCORES = ("plnd_value", "plnd_query", "plnd_key")


def attention_neurons(results: Results, *, level: float) -> pd.DataFrame:
    """A row per step, score, language and selected neuron: layer (from 1), neuron, value of the score, q.

    A neuron's number is its head times the heads' width, plus its place in the head; of values and keys the
    heads are those that queries share. Columns without rows where nothing was selected.
    """
    rows = []
    for name in (name for name in SCORES if name in results):
        rule, data = Fdr(name, level=level, reference=results.null(name)), results[name]
        languages = data["language"].to_numpy().tolist()
        with progress() as display:
            steps = display.track(data["step"].to_numpy().tolist(), description=f"selecting {name}")
            for step in steps:
                found = data.sel(step=step)
                selection, value = rule(found), scores(found, name)
                for language, layer, neuron in zip(*selection.members.to_numpy().nonzero(), strict=True):
                    at = (language, layer, neuron)
                    worth, q = (float(of.to_numpy()[at]) for of in (value, selection.q))
                    rows.append((step, name, languages[language], layer + 1, neuron, worth, q))
    return pd.DataFrame(rows, columns=["step", "score", "language", "layer", "neuron", "value", "q"])


def attention_in_words(table: pd.DataFrame, *, step: int, languages: list[str], level: float) -> str:
    """How many of which projection and language there are at one step."""
    last = table[table["step"] == step]
    counts = last.groupby(["score", "language"]).size()
    found = [
        f"{METHODS[name].label} "
        + " and ".join(f"{counts.get((name, one), 0):,} of {shown(one)}" for one in languages)
        for name in SCORES
    ]
    return (
        f"Of attention, at step {step:,}, at a false-discovery rate of {level:g} and beyond a random model:"
        f" {'; '.join(found)}. These are not ablated, so nothing says that they matter."
    )
