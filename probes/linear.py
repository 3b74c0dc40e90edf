"""Linear probes on given activations: which label a linear classifier reads off them, in files it never saw.

A probe is multinomial logistic regression on standardised activations (Alain & Bengio, arXiv 1610.01644).
What it finds is decodable; whether the model uses it is another question. Four things make its accuracy
look like more than it is, and each has its answer here:

    positions of one file are alike      folds split by file: the probe is tried on other files only
    the probe memorises token types      control task (Hewitt & Liang, arXiv 1909.03368): a random label for
                                         each type; selectivity = accuracy − control accuracy
    the token itself tells the label     `majority_by_token` says how much; `matched_by_token` takes as many
                                         positions of every type under each label, so that it tells nothing
    files differ, whatever their label   labels permuted between files
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, Int, Shaped
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedGroupKFold
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from babelscope.core.errors import InputError

FOLDS = 5
# Inverse strength of the L2 penalty. There are about as many positions as dimensions: weaker penalties fit
# noise, and take longer.
C = 0.01

Labels = Shaped[np.ndarray, " position"]
Files = Shaped[np.ndarray, " position"]
Fold = tuple[Int[np.ndarray, " train"], Int[np.ndarray, " test"]]


def linear_probe() -> Pipeline:
    """Standardisation and logistic regression, not fitted; two labels or more."""
    return make_pipeline(StandardScaler(), LogisticRegression(C=C, max_iter=1000))


def split_by_file(labels: Labels, files: Files) -> list[Fold]:
    """Positions to fit and to try a probe on, `FOLDS` times; a file is never on both sides.

    Parameters
    ----------
    labels
        Every fold gets its part of each.
    files
        From which file each position is.

    Raises
    ------
    InputError
        If a label has fewer than `FOLDS` files.
    """
    for label in np.unique(labels):
        found = len(np.unique(files[labels == label]))
        if found < FOLDS:
            raise InputError(
                f"linear probes are tried on files that they were not fitted to and need {FOLDS} of every "
                f"language; of {label} there are {found}: give held-out text of more files"
            )
    splitter = StratifiedGroupKFold(FOLDS, shuffle=True, random_state=0)
    return list(splitter.split(labels, labels, groups=files))


def out_of_fold(
    activations: Float[np.ndarray, "position d_model"], labels: Labels, folds: Sequence[Fold]
) -> Labels:
    """What probes fitted to the other files predict at each position."""
    predicted = np.empty_like(labels)
    for train, test in folds:
        if len(np.unique(labels[train])) == 1:  # nothing to tell apart, and scikit-learn fits no such task
            predicted[test] = labels[train][0]
        else:
            predicted[test] = linear_probe().fit(activations[train], labels[train]).predict(activations[test])
    return predicted


def majority_by_token(
    tokens: Int[np.ndarray, " position"], labels: Labels, folds: Sequence[Fold]
) -> Float[np.ndarray, " position"]:
    """How often the most frequent label of a token's type in the other files is right.

    The best that any probe of the token alone could do. Where m labels are equally frequent (all, for a type
    that the other files lack) a guess is right one time in m.
    """
    _, token = np.unique(tokens, return_inverse=True)
    kinds, label = np.unique(labels, return_inverse=True)
    right = np.empty(len(tokens))
    for train, test in folds:
        counts = np.zeros((token.max() + 1, len(kinds)), int)
        np.add.at(counts, (token[train], label[train]), 1)
        most = counts == counts.max(1, keepdims=True)
        right[test] = (most / most.sum(1, keepdims=True))[token[test], label[test]]
    return right


def matched_by_token(
    tokens: Int[np.ndarray, " position"], labels: Labels, *, rng: np.random.Generator
) -> Bool[np.ndarray, " position"]:
    """A random choice with as many positions of each token type under every label.

    In it the token itself tells nothing of the label: what beats chance there knows the context.
    """
    order = rng.permutation(len(tokens))
    table = pd.DataFrame({"token": tokens, "label": labels}).iloc[order]
    counts = pd.crosstab(table["token"], table["label"])
    taken = table["token"].map(counts.min(axis=1)).to_numpy()
    chosen = np.zeros(len(tokens), bool)
    chosen[order] = table.groupby(["token", "label"]).cumcount().to_numpy() < taken
    return chosen


def control_labels(
    tokens: Int[np.ndarray, " position"], labels: Labels, *, rng: np.random.Generator
) -> Labels:
    """The control task: a random label for each token type, every label for as many types.

    Only a probe that memorises types can solve it in other files.
    """
    types, token = np.unique(tokens, return_inverse=True)
    return rng.permutation(np.resize(np.unique(labels), len(types)))[token]


def permuted_between_files(labels: Labels, files: Files, *, rng: np.random.Generator) -> Labels:
    """Labels of files exchanged at random; each file keeps one label throughout."""
    _, first, file = np.unique(files, return_index=True, return_inverse=True)
    return rng.permutation(labels[first])[file]
