"""`babelscope pretrain RECIPE`: make a series, or launch the corrective run of a mix."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from babelscope.cli.output import DryRun, Json, emit, say


def command(
    recipe: Annotated[Path, typer.Argument(help="TOML file; see docs/pretraining.md.")],
    mix: Annotated[
        Path | None, typer.Option(help="A mix.json whose weights and unique tokens replace the recipe's.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Where the run goes, instead of the recipe's output.")
    ] = None,
    dry_run: DryRun = False,
    as_json: Json = False,
) -> int:
    """Train a model and keep log-spaced checkpoints. Run it again after a kill: it continues exactly."""
    from babelscope.checkpoints.pretrain import plan, pretrain
    from babelscope.checkpoints.recipe import Recipe
    from babelscope.corpora.mix import Mix

    wanted = Recipe.from_toml(recipe)
    if mix is not None:
        wanted = wanted.with_mix(Mix.load(mix))
    if out is not None:
        wanted = wanted.model_copy(update={"output": out})
    if dry_run:
        cost = plan(wanted)
        if as_json:
            emit(cost)
        else:
            say(*(f"{name.replace('_', ' ')}: {value}" for name, value in cost.items()))
        return 0
    run = pretrain(wanted)
    if as_json:
        emit({"run": str(run), "steps": wanted.training.steps})
    else:
        say(f"done: {run}", f"next: babelscope analyze {run}")
    return 0
