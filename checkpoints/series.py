"""A series: the checkpoints of one training run, in order, with what went with them.

runs/php/
  checkpoint-0/  checkpoint-25/ …   weights, tokenizer, trainer_state.json
  run.json                          pivot, target and recipe, where this project made the run
  heldout/<language>.jsonl          text the run never trained on
  questions.toml                    what to ask its checkpoints
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from babelscope.checkpoints.weights import BrokenWeightsError, Fingerprints, tensors, weight_files
from babelscope.core.errors import InputError
from babelscope.core.files import digest, read_json

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge

TOKENIZER_FILES = ("tokenizer.json", "vocab.json", "merges.txt", "tokenizer.model")


@dataclass(frozen=True)
class Finding:
    """Something wrong with a series; `step` is None where it concerns no single checkpoint."""

    step: int | None
    kind: str
    detail: str


@dataclass(frozen=True)
class Checkpoint:
    """One step's weights on disk.

    Attributes
    ----------
    tokens
        Tokens per language seen in training so far, where the run recorded them.
    """

    step: int
    path: Path
    tokens: dict[str, int] | None = field(default=None, compare=False)

    @property
    def n_bytes(self) -> int:
        return sum(file.stat().st_size for file in weight_files(self.path))

    def to_transformer_lens(self, *, dtype: str = "float32", device: str | None = None) -> TransformerBridge:
        """This checkpoint as a `TransformerBridge`, for everything that TransformerLens offers.

        Parameters
        ----------
        dtype
            Of the weights, as torch names it.
        device
            Where it runs, as torch names it; default: the first GPU if there is one.

        Raises
        ------
        InputError
            If there is no such dtype, if the checkpoint has no tokenizer, or if TransformerLens does not know
            the architecture.
        """
        import torch
        from transformers import AutoModelForCausalLM, AutoTokenizer

        from babelscope.interp.transformer_lens import take_over

        wanted = getattr(torch, dtype, None)
        if not isinstance(wanted, torch.dtype):
            raise InputError(f"torch has no dtype {dtype!r}; float32 and bfloat16 are the usual ones")
        if _tokenizer_hash(self.path) is None:
            raise InputError(f"{self.path} has no tokenizer; copy its files there")
        place = device or ("cuda" if torch.cuda.is_available() else "cpu")
        model: Any = AutoModelForCausalLM.from_pretrained(self.path, dtype=wanted, local_files_only=True)
        tokenizer = AutoTokenizer.from_pretrained(self.path, local_files_only=True)
        return take_over(model.to(place).eval(), tokenizer)


@dataclass(frozen=True)
class Series:
    """Checkpoints of one model with one tokenizer, by step; open it with `Series.open`.

    Attributes
    ----------
    checkpoints
        The usable ones, in order of step.
    findings
        What was left out, or is missing, and why.
    history
        One dict per logged step, as the trainer wrote it (`step`, `loss`, `learning_rate`, …).
    """

    directory: Path
    checkpoints: tuple[Checkpoint, ...]
    findings: tuple[Finding, ...]
    history: tuple[dict[str, Any], ...]
    pivot: str | None
    target: str | None

    @classmethod
    def open(cls, directory: str | Path, *, pivot: str | None = None, target: str | None = None) -> Self:
        """Open a directory of `checkpoint-N` folders.

        Parameters
        ----------
        directory
            Where the checkpoints are.
        pivot, target
            The language the model knew first and the one it is learning; default: what the run
            recorded. Both are names, as in `babelscope.core.languages`.

        Raises
        ------
        InputError
            If there is no usable checkpoint, or if architectures or tokenizers differ.
        """
        directory = Path(directory)
        if not directory.is_dir():
            raise InputError(f"{directory} is not a directory; give the one that holds checkpoint-N folders")
        found = sorted(_checkpoint_folders(directory))
        if not found:
            raise InputError(f"{directory} holds no checkpoint-N folders")
        usable, findings = [], []
        for step, path in found:
            marker = read_json(path / "babelscope.json") if (path / "babelscope.json").exists() else {}
            try:
                list(tensors(path))
                read_json(path / "config.json")
            except (BrokenWeightsError, InputError) as error:
                findings.append(Finding(step, "unreadable", f"{path.name}: {error}"))
                continue
            usable.append(Checkpoint(step, path, marker.get("tokens")))
        if not usable:
            raise InputError(
                f"{directory} has no usable checkpoint: " + "; ".join(f.detail for f in findings)
            )
        _same_model(usable)
        history, gaps = _history(usable)
        opened = cls(directory, tuple(usable), tuple(findings + gaps), history, pivot, target)
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
        return Fingerprints(self.state / "fingerprints.json")

    @cached_property
    def config(self) -> dict[str, Any]:
        """The model's configuration, of the first checkpoint; all agree in shape."""
        return read_json(self.checkpoints[0].path / "config.json")

    @cached_property
    def tokenizer_hash(self) -> str:
        return _tokenizer_hash(self.checkpoints[0].path) or ""

    @cached_property
    def tokenizer(self) -> Any:
        """The series' fast tokenizer; offsets are needed, so a slow one is refused."""
        from transformers import AutoTokenizer

        if not self.tokenizer_hash:
            raise InputError(f"{self.checkpoints[0].path} has no tokenizer; copy its files there")
        tokenizer = AutoTokenizer.from_pretrained(self.checkpoints[0].path, local_files_only=True)
        if not tokenizer.is_fast:
            raise InputError(f"{self.checkpoints[0].path}: a fast tokenizer (tokenizer.json) is needed")
        return tokenizer


def _checkpoint_folders(directory: Path) -> Iterator[tuple[int, Path]]:
    for path in directory.iterdir():
        match = re.fullmatch(r"checkpoint-(\d+)", path.name)
        if match and path.is_dir():
            yield int(match[1]), path


def _same_model(checkpoints: list[Checkpoint]) -> None:
    """Refuse a mixture of models: its curves would join what does not belong together."""
    first = checkpoints[0]
    shapes = {part.name: part.shape for part in tensors(first.path)}
    kind = read_json(first.path / "config.json").get("model_type")
    tokenizer = _tokenizer_hash(first.path)
    for other in checkpoints[1:]:
        other_kind = read_json(other.path / "config.json").get("model_type")
        if other_kind != kind or {part.name: part.shape for part in tensors(other.path)} != shapes:
            raise InputError(
                f"{first.path.name} ({kind}) and {other.path.name} ({other_kind}) are different "
                "architectures; a series is one model over time"
            )
        other_tokenizer = _tokenizer_hash(other.path)
        if tokenizer and other_tokenizer and other_tokenizer != tokenizer:
            raise InputError(f"{first.path.name} and {other.path.name} have different tokenizers")


def _tokenizer_hash(path: Path) -> str | None:
    present = [path / name for name in TOKENIZER_FILES if (path / name).exists()]
    return digest([(file.name, digest(file.read_text())) for file in present]) if present else None


def _history(checkpoints: list[Checkpoint]) -> tuple[tuple[dict[str, Any], ...], list[Finding]]:
    """The last checkpoint's log, which holds all earlier ones, and what is wrong with it."""
    last = checkpoints[-1]
    file = last.path / "trainer_state.json"
    if not file.exists():
        return (), [
            Finding(
                last.step,
                "no history",
                f"{last.path.name} has no trainer_state.json: no losses, no learning rate",
            )
        ]
    try:
        entries = json.loads(file.read_text())["log_history"]
    except (ValueError, KeyError) as error:
        return (), [Finding(last.step, "no history", f"{last.path.name}/trainer_state.json: {error!r}")]
    kept, findings = [], []
    for entry in entries:
        wrong = [k for k, v in entry.items() if isinstance(v, float) and not math.isfinite(v)]
        if wrong:
            findings.append(
                Finding(
                    entry.get("step"), "non-finite history", f"{', '.join(wrong)} at step {entry.get('step')}"
                )
            )
        kept.append({k: v for k, v in entry.items() if k not in wrong})
    return tuple(kept), findings
