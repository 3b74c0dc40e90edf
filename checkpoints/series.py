"""A series: the checkpoints of one training run, in order, with what went with them.

runs/php/
  checkpoint-0/  checkpoint-25/ …   weights, tokenizer, trainer_state.json; other names: `layouts.py`
  run.json                          pivot, target and recipe, where this project made the run
  heldout/<language>.jsonl          text the run never trained on
  questions.toml                    what to ask its checkpoints

The series of a model on the hub lives in the hub's cache: what is computed about it is kept there too.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from babelscope.checkpoints import hub
from babelscope.checkpoints.agreement import model_in, one_architecture, other_tokenizers, tokenizer_hash
from babelscope.checkpoints.checkpoint import Checkpoint, recorded_tokens
from babelscope.checkpoints.evaluations import Score, read_evaluations, table
from babelscope.checkpoints.findings import Finding
from babelscope.checkpoints.fingerprints import Fingerprints
from babelscope.checkpoints.history import read_history
from babelscope.checkpoints.layouts import find, shown
from babelscope.checkpoints.tokenizer import context_in
from babelscope.checkpoints.weights import BrokenWeightsError, model_folder
from babelscope.core.errors import InputError
from babelscope.core.files import read_json

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr

    from babelscope.probes.identifiers import ProbeSet


@dataclass(frozen=True)
class Series:
    """Checkpoints of one model with one tokenizer, by step; open it with `Series.open`.

    Attributes
    ----------
    directory
        Where the checkpoints are.
    checkpoints
        The usable ones, in order of step; those still on the hub are taken on trust until fetched.
    findings
        What was left out, or is missing, and why.
    history
        What was logged, one dict per row (`step`, `loss`, `learning_rate`, …); names are the Trainer's.
    scores
        What other evaluators found; `evaluations` is their table.
    """

    directory: Path
    checkpoints: tuple[Checkpoint, ...]
    findings: tuple[Finding, ...]
    history: tuple[dict[str, Any], ...]
    pivot: str | None
    target: str | None
    scores: tuple[Score, ...] = ()

    @classmethod
    def open(cls, place: str | Path, *, pivot: str | None = None, target: str | None = None) -> Self:
        """Open a directory of checkpoints, or revisions of a model on the hub.

        Parameters
        ----------
        place
            A directory, or `repo@pattern` such as `EleutherAI/pythia-70m@step*`; see
            `babelscope.checkpoints.layouts` for the names that are understood.
        pivot, target
            The language the model knew first and the one it is learning; default: what the run
            recorded. Both are names, as in `babelscope.core.languages`.

        Raises
        ------
        InputError
            If there is no usable checkpoint, or if architectures differ, or if tokenizers do and
            neither is that of most checkpoints.
        """
        directory, places, findings = find(place)
        where = shown(str(place))
        if not places:
            raise InputError(f"{where} holds no checkpoint-N folders, nor stepN, iter_N or the like")
        checkpoints, models = [], {}
        for one in places:
            try:
                tokens = recorded_tokens(one.path) if one.path else None
                if one.path:
                    models[one.name] = model_in(one.path)
                checkpoints.append(Checkpoint(one, tokens))
            except (BrokenWeightsError, InputError, OSError) as error:
                findings.append(Finding(one.step, "unreadable", f"{one.name}: {error}"))
        if not checkpoints:
            raise InputError(f"{where} has no usable checkpoint: " + "; ".join(f.detail for f in findings))
        if models:
            one_architecture(models, of="a series is one model over time")
        drifted = other_tokenizers(models)
        findings += [
            Finding(
                c.step, "tokenizer drift", f"{c.name} has another tokenizer than {drifted[c.name]} and most"
            )
            for c in checkpoints
            if c.name in drifted
        ]
        usable = tuple(c for c in checkpoints if c.name not in drifted)
        history, gaps = read_history(directory, usable)
        scores, odd = read_evaluations(directory)
        findings += gaps + odd
        opened = cls(directory, usable, tuple(findings), tuple(history), pivot, target, tuple(scores))
        recorded = opened.run
        return replace(opened, pivot=pivot or recorded.get("pivot"), target=target or recorded.get("target"))

    def __iter__(self) -> Iterator[Checkpoint]:
        return iter(self.checkpoints)

    def __len__(self) -> int:
        return len(self.checkpoints)

    @property
    def steps(self) -> list[int]:
        return [checkpoint.step for checkpoint in self]

    def at(self, step: int) -> Checkpoint:
        """The checkpoint of a step; an `InputError` lists the steps there are."""
        for checkpoint in self:
            if checkpoint.step == step:
                return checkpoint
        raise InputError(f"{self.directory} has no usable checkpoint at step {step}; there are {self.steps}")

    def without(self, steps: Collection[int], findings: tuple[Finding, ...]) -> Self:
        """The series with these steps left out, and with these findings.

        Raises
        ------
        InputError
            If no checkpoint would be left.
        """
        kept = tuple(checkpoint for checkpoint in self if checkpoint.step not in steps)
        if not kept:
            raise InputError(
                f"{self.directory} has no checkpoint without a finding: "
                + "; ".join(f.detail for f in findings)
            )
        return replace(self, checkpoints=kept, findings=findings)

    def lens_table(
        self,
        prompt: str,
        *,
        steps: Sequence[int] = (),
        probes: ProbeSet | None = None,
        device: str | None = None,
        dtype: str = "float32",
    ) -> xr.Dataset:
        """What every layer decodes to at every position of a prompt; nothing of it is stored.

        Parameters
        ----------
        prompt
            Any text.
        steps
            Of the checkpoints to look at; default: the last.
        probes
            Whose identifiers are to be recognised among the decoded tokens.
        device, dtype
            Where and in which type the model runs, as torch names it; default: the first GPU if there is one.

        Returns
        -------
        Dataset
            As `babelscope.interp.lens_table.spelled` says, with a leading `step`;
            `babelscope.analyses.figures.lens_table_figure` draws it.

        Raises
        ------
        InputError, BrokenWeightsError
            If there is no checkpoint at a step, if the prompt is empty or longer than the model's context, or
            if a checkpoint cannot be opened.
        """
        from babelscope.checkpoints.looking import look

        series: Any = self  # a checker of types meets this file by two names
        return look(series, prompt, steps=steps, probes=probes, device=device, dtype=dtype)

    @property
    def state(self) -> Path:
        """Where this project keeps what it computes about the series."""
        return self.directory / ".babelscope"

    @cached_property
    def run(self) -> dict[str, Any]:
        """What this project recorded about the run; empty for any other."""
        file = self.directory / "run.json"
        return read_json(file) if file.exists() else {}

    @property
    def available_tokens(self) -> dict[str, int]:
        """Tokens of each language in the run's sources, also those it left alone; where it recorded them."""
        return {name: source["source_tokens"] for name, source in self.run.get("sources", {}).items()}

    @property
    def continues_from_pivot(self) -> bool:
        """Whether the run started from given weights; of a run without a record, no more than assumed."""
        return not self.run or self.run["recipe"]["model"]["start"] is not None

    @property
    def warmup_steps(self) -> int:
        """Steps until the learning rate was highest; 0 where it was not logged."""
        rates = [(e["learning_rate"], -e["step"]) for e in self.history if "learning_rate" in e]
        return -max(rates)[1] if rates else 0

    @cached_property
    def fingerprints(self) -> Fingerprints:
        return Fingerprints(self.state / "fingerprints")

    @cached_property
    def evaluations(self) -> pd.DataFrame:
        """Scores that other evaluators found (step, task, metric, value, stderr, source), by step."""
        return table(self.scores)

    @cached_property
    def described(self) -> Path:
        """A folder with the configuration and the tokenizer that all checkpoints share."""
        here = [checkpoint.path for checkpoint in self if checkpoint.is_here]
        if not here:
            first = self.checkpoints[0]
            return hub.fetch(str(first.place.repo), first.name, weights=False)
        return next((path for path in here if tokenizer_hash(path)), here[0])

    @cached_property
    def config(self) -> dict[str, Any]:
        """The model's configuration; all checkpoints agree in shape."""
        return read_json(model_folder(self.described) / "config.json")

    @property
    def context(self) -> int | None:
        """Tokens that the model takes; None where its configuration does not say."""
        return context_in(self.config)

    @cached_property
    def tokenizer_hash(self) -> str:
        return tokenizer_hash(self.described) or ""

    @cached_property
    def tokenizer(self) -> Any:
        """The series' fast tokenizer; offsets are needed, so a slow one is refused."""
        from transformers import AutoTokenizer

        if not self.tokenizer_hash:
            raise InputError(f"{self.described} has no tokenizer; copy its files there")
        tokenizer = AutoTokenizer.from_pretrained(self.described, local_files_only=True)
        if not tokenizer.is_fast:
            raise InputError(f"{self.described}: a fast tokenizer (tokenizer.json) is needed")
        return tokenizer
