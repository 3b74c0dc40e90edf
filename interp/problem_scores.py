"""What checkpoints write when they are asked problems, and which of it solves them.

Two measures, stored apart: `Completions` asks the model, `ProblemScores` marks what it wrote. Marking again,
on another machine or by another rule, needs no model.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import xarray as xr

from babelscope.interp.generation import GREEDY, Sampling, complete
from babelscope.interp.measure import Derive, Drive, Item, Reading
from babelscope.interp.streams import ProblemStream
from babelscope.probes.problems import Attempt

if TYPE_CHECKING:
    from babelscope.interp.anatomy import Anatomy


class Completions(Drive[Reading]):
    """What a checkpoint writes, cut where the function ends.

    Result, by problem and sample: `completion`; `ended`, by a rule or the end of text, not for want of room.

    Parameters
    ----------
    stream
        The problems.
    sampling
        How it is asked.
    """

    name: ClassVar[str] = "completions"
    version: ClassVar[int] = 1

    def __init__(self, stream: ProblemStream, sampling: Sampling = GREEDY):
        self.problems = stream.problems
        self.stream = stream
        self.sampling = sampling
        self.shard_tokens = max(1, self.shard_tokens // sampling.samples)

    @property
    def config(self) -> dict[str, Any]:
        return asdict(self.sampling) | {"max_new_tokens": self.problems.max_new_tokens}

    def drive(self, anatomy: Anatomy, tokenizer: Any, reading: Reading, shard: Sequence[Item]) -> xr.Dataset:
        asked = [self.problems.problems[item.index] for item in shard]
        written = complete(
            anatomy, tokenizer, shard, asked, new_tokens=self.problems.max_new_tokens, sampling=self.sampling
        )
        shape = len(shard), self.sampling.samples
        return xr.Dataset(
            {
                "completion": (("problem", "sample"), _filled([w.text for w in written], shape)),
                "ended": (("problem", "sample"), np.reshape([w.ended for w in written], shape)),
            },
            coords={"problem": [item.index for item in shard]},
        )

    def combine(self, parts: Sequence[xr.Dataset], reading: Reading) -> xr.Dataset:
        """By problem, with id, language and group."""
        whole = xr.concat(parts, dim="problem").sortby("problem")
        asked = [self.problems.problems[i] for i in whole["problem"].to_numpy()]
        return whole.assign_coords(
            id=("problem", [p.id for p in asked]),
            language=("problem", [p.language for p in asked]),
            group=("problem", [p.group for p in asked]),
        )


class ProblemScores(Derive[Reading]):
    """Which completions solve their problem.

    Result, by problem and sample: `solved`; `ran`, False where nothing here runs the language; `reason` and
    `detail` of the verdict.

    Parameters
    ----------
    stream
        The problems, with their marking.
    sampling
        How the model is asked.
    """

    name: ClassVar[str] = "problem_scores"
    version: ClassVar[int] = 3

    def __init__(self, stream: ProblemStream, sampling: Sampling = GREEDY):
        self.problems = stream.problems
        self.stream = stream
        self.source = Completions(stream, sampling)

    @property
    def config(self) -> dict[str, Any]:
        return self.source.config | {"marking": self.problems.marking}

    def check(self) -> None:
        self.problems.check()

    def derive(self, found: xr.Dataset, *, advance: Callable[[int], None]) -> xr.Dataset:
        texts = found["completion"].transpose("problem", "sample").to_numpy()
        asked = [self.problems.problems[i] for i in found["problem"].to_numpy()]
        attempts = [Attempt(p, str(text)) for p, row in zip(asked, texts, strict=True) for text in row]
        verdicts = self.problems.mark(attempts, advance=_in_steps(advance, texts.shape[1]))
        dims = "problem", "sample"
        return found.drop_vars(["completion", "ended"]).assign(
            solved=(dims, np.reshape([bool(v.solved) for v in verdicts], texts.shape)),
            ran=(dims, np.reshape([v.solved is not None for v in verdicts], texts.shape)),
            reason=(dims, _filled([v.reason for v in verdicts], texts.shape)),
            detail=(dims, _filled([v.detail for v in verdicts], texts.shape)),
        )


def _in_steps(advance: Callable[[int], None], size: int) -> Callable[[int], None]:
    """`advance` by one for every `size` that are done."""
    done = 0

    def count(more: int) -> None:
        nonlocal done
        before, done = done // size, done + more
        advance(done // size - before)

    return count


def _filled(texts: Sequence[str], shape: tuple[int, ...]) -> np.ndarray:
    values = np.empty(len(texts), dtype=object)
    # A model may write NUL, which HDF5's texts cannot hold; shown as what is no character.
    values[:] = [text.replace("\0", "\ufffd") for text in texts]
    return values.reshape(shape)
