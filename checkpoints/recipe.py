"""The recipe of a training run: one TOML file, unknown keys refused.

output = "runs/php"                  # relative paths are relative to the file
pivot = "python"
target = "php"

[model]
start = "runs/base/checkpoint-1600"  # a checkpoint directory or a name on the hub; or, from nothing:
# [model.scratch]
# family = "gpt2"                    # and any field of that family's configuration
# n_layer = 4

[tokenizer]                          # left out: the one of `start`
vocab_size = 8192                    # a byte-level BPE trained on the sources; or path = "…"

[[sources]]
language = "php"
path = "/usr/share/mediawiki"
proportion = 0.98                    # of the processed tokens
max_tokens = 5_000_000               # unique tokens to keep
# until = 0.2                        # read in the first fifth of the run only

[training]
steps = 2000
batch_size = 32                      # rows per step, over all devices and accumulation
sequence_length = 256
learning_rate = 1e-4
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, field_validator, model_validator

from babelscope.core.config import Strict
from babelscope.core.errors import InputError
from babelscope.core.languages import language
from babelscope.corpora.mix import Mix, check_sum
from babelscope.corpora.mixing import check_until

LOGS = 500  # entries in the training history, beside those at every checkpoint

OneOrMore = Annotated[
    tuple[str, ...], BeforeValidator(lambda value: [value] if isinstance(value, str) else value)
]


class Scratch(BaseModel):
    """A randomly initialised model: a Hugging Face family and any field of its configuration."""

    model_config = ConfigDict(extra="allow", frozen=True)

    family: str

    @property
    def fields(self) -> dict[str, Any]:
        """The configuration's fields as given."""
        return dict(self.model_extra or {})


class ModelRecipe(Strict):
    """Where the weights come from: `start` (directory or hub name) or `scratch`."""

    start: str | None = None
    scratch: Scratch | None = None

    @model_validator(mode="after")
    def _one(self) -> Self:
        if (self.start is None) == (self.scratch is None):
            raise ValueError("[model] needs either start = … or [model.scratch], not both")
        return self


class TokenizerRecipe(Strict):
    """A saved tokenizer (`path`), or the size of a byte-level BPE to train.

    Parameters
    ----------
    train_on
        Languages of `sources` whose text it learns from, equally much of each; all if None. A source
        with proportion 0 gives the tokenizer its text, and the run held-out text, without being trained on.
    """

    path: str | None = None
    vocab_size: int | None = Field(default=None, gt=256)
    train_on: tuple[str, ...] | None = None

    @model_validator(mode="after")
    def _one(self) -> Self:
        if (self.path is None) == (self.vocab_size is None):
            raise ValueError("[tokenizer] needs either path = … or vocab_size = …, not both")
        if self.path is not None and self.train_on is not None:
            raise ValueError(
                "[tokenizer] train_on belongs to vocab_size; a tokenizer at a path is not trained"
            )
        return self


class SourceRecipe(Strict):
    """Text of one language.

    Parameters
    ----------
    path
        One or more directories, .jsonl, .jsonl.gz or .txt files.
    extensions
        File endings to read in directories; those of the language if None.
    proportion
        Share of the processed tokens.
    max_tokens
        Unique tokens to keep, chosen at random by document; all if None.
    until
        Part of the run in which it is read; its proportion is of the whole run all the same.
    """

    language: str
    path: OneOrMore = Field(min_length=1)
    extensions: OneOrMore | None = None
    proportion: float = Field(ge=0, le=1)
    max_tokens: int | None = Field(default=None, gt=0)
    until: float = Field(default=1.0, gt=0, le=1)

    @property
    def endings(self) -> tuple[str, ...]:
        """File endings to read."""
        return self.extensions if self.extensions is not None else language(self.language).extensions


class TrainingRecipe(Strict):
    """How long, how fast, how often saved.

    Parameters
    ----------
    batch_size
        Rows per optimizer step, over all devices and accumulation.
    schedule
        What the learning rate does after the warm-up: stays, or falls to 0 by a line or a half cosine.
    checkpoints
        How many, at logarithmic distances, step 0 and the last included; or the steps themselves.
    resume_every
        Steps between resume points beside the checkpoints; None: by time, so that a kill costs about
        half a minute and saving about a twentieth of the time.
    threads
        CPU threads; PyTorch's choice if None.
    """

    steps: int = Field(gt=0)
    batch_size: int = Field(gt=0)
    sequence_length: int = Field(ge=2)
    learning_rate: float = Field(gt=0)
    schedule: Literal["constant", "linear", "cosine"] = "cosine"
    warmup_steps: int = Field(default=0, ge=0)
    weight_decay: float = Field(default=0.0, ge=0)
    gradient_accumulation: int = Field(default=1, gt=0)
    precision: Literal["float32", "bfloat16"] = "float32"
    checkpoints: Annotated[int, Field(ge=2)] | tuple[Annotated[int, Field(ge=0)], ...] = 24
    resume_every: int | None = Field(default=None, gt=0)
    threads: int | None = Field(default=None, gt=0)

    @model_validator(mode="after")
    def _within_the_run(self) -> Self:
        if self.warmup_steps > self.steps:
            raise ValueError(f"warmup_steps = {self.warmup_steps} is more than steps = {self.steps}")
        if not isinstance(self.checkpoints, int) and max(self.checkpoints, default=0) > self.steps:
            raise ValueError(
                f"checkpoints up to {max(self.checkpoints)} do not fit into steps = {self.steps}"
            )
        return self

    @property
    def checkpoint_steps(self) -> list[int]:
        """Steps whose checkpoints are kept, always with 0 and the last."""
        if isinstance(self.checkpoints, int):
            return log_spaced(self.steps, self.checkpoints)
        return sorted({0, *self.checkpoints, self.steps})

    @property
    def log_steps(self) -> set[int]:
        """Steps at which the history gets an entry; every step at which anything may be saved is one."""
        every = max(1, self.steps // LOGS)
        resumes = () if self.resume_every is None else range(0, self.steps, self.resume_every)
        spaced = log_spaced(self.steps, LOGS)
        return {*range(0, self.steps, every), *spaced, *resumes, *self.checkpoint_steps} - {0}


class Recipe(Strict):
    """Everything that determines a training run. See the head of this file for an example.

    Parameters
    ----------
    heldout
        Fraction of each source's documents that is never trained on.
    questions
        A questions.toml that says what `analyze` asks of the checkpoints; copied beside them.
    """

    output: Path
    seed: int = Field(default=0, ge=0, lt=2**32)
    pivot: str
    target: str | None = None
    model: ModelRecipe
    tokenizer: TokenizerRecipe | None = None
    sources: tuple[SourceRecipe, ...] = Field(min_length=1)
    training: TrainingRecipe
    heldout: float = Field(default=0.01, gt=0, lt=0.5)
    questions: Path | None = None

    @field_validator("sources")
    @classmethod
    def _shares(cls, sources: tuple[SourceRecipe, ...]) -> tuple[SourceRecipe, ...]:
        languages = [source.language for source in sources]
        twice = sorted({name for name in languages if languages.count(name) > 1})
        if twice:
            raise ValueError(f"{twice} have two sources; give one source several paths instead")
        proportions = {source.language: source.proportion for source in sources}
        check_sum(proportions, what="the proportions")
        check_until(proportions, {source.language: source.until for source in sources})
        return sources

    @model_validator(mode="after")
    def _languages_have_sources(self) -> Self:
        if self.target is not None and self.target not in self.languages:
            raise ValueError(f"the target {self.target!r} is not among the sources {list(self.languages)}")
        if self.model.scratch is not None and self.pivot not in self.languages:
            raise ValueError(f"the pivot {self.pivot!r} is not among the sources {list(self.languages)}")
        if self.model.scratch is not None and self.tokenizer is None:
            raise ValueError("a model from scratch needs a [tokenizer]")
        unknown = set((self.tokenizer and self.tokenizer.train_on) or ()) - set(self.languages)
        if unknown:
            raise ValueError(f"tokenizer.train_on names {sorted(unknown)}, which have no source")
        return self

    @classmethod
    def from_toml(cls, path: Path) -> Self:
        """Read a recipe; relative paths in it are relative to `path`'s directory."""
        return super().from_toml(path)._beside(path.parent)

    @property
    def languages(self) -> tuple[str, ...]:
        """Languages of the sources, in their order."""
        return tuple(source.language for source in self.sources)

    @property
    def proportions(self) -> dict[str, float]:
        """Share of the processed tokens, by language."""
        return {source.language: source.proportion for source in self.sources}

    def with_mix(self, mix: Mix) -> Self:
        """The same run with a mix's weights and, where it gives them, its unique tokens.

        Raises
        ------
        InputError
            If the mix and the sources are not about the same languages.
        """
        without = sorted(set(mix.languages) - set(self.languages))
        left_out = sorted(set(self.languages) - set(mix.languages))
        if without:
            raise InputError(f"the mix names {without}, for which the recipe has no [[sources]] entry")
        if left_out:
            raise InputError(
                f"the mix says nothing about {left_out}; remove them from [[sources]] or add them"
            )
        sources = []
        for source in self.sources:
            share = mix.languages[source.language]
            kept = share.unique_tokens if share.unique_tokens is not None else source.max_tokens
            sources.append(source.model_copy(update={"proportion": share.weight, "max_tokens": kept}))
        return self.model_copy(update={"sources": tuple(sources)})

    def portable(self) -> dict[str, Any]:
        """JSON-able form without absolute paths: they become relative to `output`."""
        document = self.model_dump(mode="json", exclude={"output"})
        if self.questions is not None:
            document["questions"] = os.path.relpath(self.questions, self.output)
        for source in document["sources"]:
            source["path"] = [os.path.relpath(path, self.output) for path in source["path"]]
        for part, key in (("model", "start"), ("tokenizer", "path")):
            if document[part] is not None and document[part][key] and Path(document[part][key]).exists():
                document[part][key] = os.path.relpath(document[part][key], self.output)
        return document

    def _beside(self, folder: Path) -> Self:
        def local_first(name: str | None) -> str | None:
            return str(folder / name) if name is not None and (folder / name).exists() else name

        start = local_first(self.model.start)
        tokenizer = self.tokenizer
        if tokenizer is not None:
            tokenizer = tokenizer.model_copy(update={"path": local_first(tokenizer.path)})
        sources = [
            source.model_copy(update={"path": tuple(str(folder / path) for path in source.path)})
            for source in self.sources
        ]
        return self.model_copy(
            update={
                "output": folder / self.output,
                "model": self.model.model_copy(update={"start": start}),
                "tokenizer": tokenizer,
                "sources": tuple(sources),
                "questions": None if self.questions is None else folder / self.questions,
            }
        )


def log_spaced(last: int, count: int) -> list[int]:
    """0 and `count` - 1 distinct steps up to `last`, as evenly on a logarithmic scale as whole steps allow.

    Near the beginning steps are closer together than 1 would allow, and are taken one by one; what is left is
    then spread anew. Fewer than `count` only where the run has fewer steps.
    """
    steps = [0]
    while steps[-1] < last and len(steps) < count:
        newest, left = steps[-1], count - len(steps)
        position = newest * (last / newest) ** (1 / left) if newest else last ** (left == 1)
        steps.append(max(newest + 1, round(position)))
    return steps
