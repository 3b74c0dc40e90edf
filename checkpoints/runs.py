"""Several runs of one model, such as seeds, side by side."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from babelscope.checkpoints.agreement import model_in, one_architecture
from babelscope.checkpoints.layouts import entries, find, shown
from babelscope.checkpoints.series import Series
from babelscope.core.errors import InputError


def open_runs(
    places: str | Path | Sequence[str | Path], *, pivot: str | None = None, target: str | None = None
) -> dict[str, Series]:
    """Open runs by name.

    Parameters
    ----------
    places
        A directory, whose subfolders that hold checkpoints are the runs and name them; or what
        `Series.open` takes, several times, each named as given.
    pivot, target
        As for `Series.open`.

    Raises
    ------
    InputError
        If there are no runs, if one cannot be opened, or if their architectures differ.
    """
    if isinstance(places, str | Path):
        if not os.path.isdir(places):
            raise InputError(f"{shown(places)} is not a directory; give the one that holds the runs' folders")
        folders = sorted(entry.path for entry in entries(Path(places)) if entry.is_dir())
        named = {shown(Path(path).name): path for path in folders if find(path).places}
    else:
        named = {str(place): place for place in places}
    if not named:
        raise InputError(f"{places} holds no runs: none of its folders holds checkpoints")
    runs = {name: Series.open(place, pivot=pivot, target=target) for name, place in named.items()}
    here = {name: next((c for c in series if c.is_here), None) for name, series in runs.items()}
    models = {name: model_in(checkpoint.path) for name, checkpoint in here.items() if checkpoint}
    if models:
        one_architecture(models, of="runs are compared of one model")
    return runs
