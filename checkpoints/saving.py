"""The directory of a run, written so that a kill at any moment loses little and spoils nothing.

    run.json                 the recipe and what it means: pivot, target, languages, held-out files
    checkpoint-N/            kept; weights, tokenizer, trainer_state.json and, written last, babelscope.json
    .resume/checkpoint-N/    the newest resume point between two kept checkpoints
    .partial/                what is being written or removed; nobody's to read

A checkpoint is written in `.partial` and renamed when it is whole, so a directory named `checkpoint-N` never
is half of one. Only the newest holds the optimizer's state. `tidy` may be repeated: it runs after every save
and again when a killed run is taken up.
"""

from __future__ import annotations

import errno
import os
import random
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate.utils import broadcast_object_list, wait_for_everyone
from safetensors import SafetensorError
from transformers import (
    PreTrainedModel,
    Trainer,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)

from babelscope.checkpoints.recipe import TrainingRecipe
from babelscope.core.errors import InputError
from babelscope.core.files import write_json
from babelscope.corpora.mixing import MixedRows

MARKER = "babelscope.json"
_STATE = ("optimizer.pt", "scheduler.pt", "scaler.pt", "rng_state*.pth")
# How safetensors and torch.save put it when a write fails; neither sets an error number.
_FULL_DISK = ("No space left on device", "file write failed", "unexpected pos")
_UNFINISHED = (".run.json.*.part", "data/.*.part", "heldout/.*.part")  # what `whole_file` leaves when killed

OnCheckpoint = Callable[[PreTrainedModel, int], None]


class RunFolder:
    """The checkpoints in one run's directory.

    Parameters
    ----------
    root
        The run's directory; created when something is written.
    """

    def __init__(self, root: Path):
        self.root = root
        self.staging = root / ".partial"
        self.resume_points = root / ".resume"

    def complete(self) -> dict[int, Path]:
        """Checkpoints and resume points that are whole, by step."""
        found = [*self.root.glob("checkpoint-*"), *self.resume_points.glob("checkpoint-*")]
        whole = {
            int(path.name.removeprefix("checkpoint-")): path for path in found if (path / MARKER).exists()
        }
        return dict(sorted(whole.items()))

    def is_resume_point(self, path: Path) -> bool:
        """Whether `path` is there only to resume from."""
        return path.parent == self.resume_points

    def staged(self, step: int) -> Path:
        """Where the checkpoint of `step` is written before it is whole."""
        return self.staging / f"checkpoint-{step}"

    def publish(self, step: int, marker: dict[str, Any], *, transient: bool) -> Path:
        """Mark the staged checkpoint of `step` as whole, move it to its place and tidy up."""
        staged = self.staged(step)
        (staged / "training_args.bin").unlink(missing_ok=True)  # a pickle, and of this machine's paths
        for file in staged.iterdir():
            with file.open("rb") as written:
                os.fsync(written.fileno())
        write_json(staged / MARKER, {"format": 1, "step": step, "transient": transient, **marker})
        place = (self.resume_points if transient else self.root) / staged.name
        place.parent.mkdir(parents=True, exist_ok=True)
        staged.rename(place)
        self.tidy()
        return place

    def tidy(self) -> None:
        """Remove what is partial, resume points but the newest, and outdated optimizer states."""
        shutil.rmtree(self.staging, ignore_errors=True)
        for pattern in _UNFINISHED:
            for file in self.root.glob(pattern):
                file.unlink()
        complete = self.complete()
        whole = set(complete.values())
        newest = max(complete, default=0)
        for path in [*self.root.glob("checkpoint-*"), *self.resume_points.glob("checkpoint-*")]:
            if path not in whole or (self.is_resume_point(path) and path != complete[newest]):
                self._remove(path)
            elif path != complete[newest]:
                for pattern in _STATE:
                    for file in path.glob(pattern):
                        file.unlink()

    def finish(self) -> None:
        """Remove the directories that only a run under way needs."""
        self.tidy()
        shutil.rmtree(self.staging, ignore_errors=True)
        shutil.rmtree(self.resume_points, ignore_errors=True)

    def require(self, needed: int) -> None:
        """Refuse to write `needed` bytes where they do not fit.

        Raises
        ------
        InputError
            With what is needed and what is free.
        """
        free = shutil.disk_usage(self.root).free
        if free < needed:
            raise InputError(
                f"{self.root} needs {needed / 1e6:,.0f} MB and has {free / 1e6:,.0f} MB free; make room or "
                "ask for fewer checkpoints. What is there is whole: the same command goes on from it"
            )

    @contextmanager
    def full_disk_in_words(self) -> Iterator[None]:
        """Turn a disk that fills up into an `InputError`, and remove what is half written."""
        try:
            yield
        except (OSError, RuntimeError, SafetensorError) as error:
            if getattr(error, "errno", None) != errno.ENOSPC and not any(
                words in str(error) for words in _FULL_DISK
            ):
                raise
            shutil.rmtree(self.staging, ignore_errors=True)
            raise InputError(
                f"the disk that holds {self.root} is full; make room and run the same command again. "
                "What is there is whole"
            ) from error

    def _remove(self, path: Path) -> None:
        # Renamed first: a kill in between must not leave a marked directory with files missing.
        self.staging.mkdir(parents=True, exist_ok=True)
        doomed = self.staging / f"removed-{path.name}"
        path.rename(doomed)
        shutil.rmtree(doomed)


class SaveSeries(TrainerCallback):
    """Decides when a Trainer logs and saves, and makes each save a whole checkpoint of the series.

    Saving happens only at logged steps: there the Trainer's running sums are empty, so that the history of a
    resumed run is the history of an uninterrupted one.

    Parameters
    ----------
    folder
        The run's directory; the Trainer itself writes into its `staging`.
    training
        The recipe's part on steps and saving.
    rows
        The rows of the run, for the tokens achieved at a step.
    needed
        Bytes that one checkpoint with optimizer state takes.
    on_checkpoint
        Called with the model in evaluation mode and the step once a kept checkpoint is whole. It may use
        random numbers: training does not notice.
    """

    PAUSE = 30.0  # seconds between resume points at least, and 20 times what the last save took
    RATIO = 20.0

    def __init__(
        self,
        folder: RunFolder,
        *,
        training: TrainingRecipe,
        rows: MixedRows,
        needed: int,
        on_checkpoint: OnCheckpoint | None,
    ):
        self.folder = folder
        self.training = training
        self.rows = rows
        self.needed = needed
        self.on_checkpoint = on_checkpoint
        self.kept, self.logged = set(training.checkpoint_steps), training.log_steps
        self.trainer: Trainer | None = None
        self.save_began = self.save_ended = time.monotonic()

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Save step 0, or call `on_checkpoint` again for the checkpoint from which the run goes on."""
        complete = self.folder.complete()
        if not complete:
            assert self.trainer is not None  # noqa: S101 - `pretrain` connects the two
            staged = self.folder.staged(0)
            self.trainer.save_model(str(staged))
            if args.should_save:
                state.save_to_json(str(staged / "trainer_state.json"))
            self._publish(args, state, kwargs["model"])
        elif not self.folder.is_resume_point(complete[state.global_step]):
            self._tell(args, state.global_step, kwargs["model"])
        self.save_ended = time.monotonic()

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Ask for a log entry and, where due, for a checkpoint."""
        step = state.global_step
        if step not in self.logged:
            return
        control.should_log = True
        control.should_save = step in self.kept or self._resume_point_due(args, step)
        if control.should_save:
            if args.should_save:
                self.folder.require(self.needed)
            self.save_began = time.monotonic()

    def on_save(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Make what the Trainer just wrote a whole checkpoint."""
        self._publish(args, state, kwargs["model"])

    def _resume_point_due(self, args: TrainingArguments, step: int) -> bool:
        if self.training.resume_every is not None:
            return step % self.training.resume_every == 0
        pause = max(self.PAUSE, self.RATIO * (self.save_ended - self.save_began))
        due = [time.monotonic() - self.save_ended > pause]
        if args.world_size > 1:
            broadcast_object_list(due)  # clocks differ, and all ranks must save together
        return due[0]

    def _publish(self, args: TrainingArguments, state: TrainerState, model: PreTrainedModel) -> None:
        wait_for_everyone()  # each rank writes its own random state
        step = state.global_step
        rows = step * self.training.batch_size
        if args.should_save:
            marker = {
                "rows": rows,
                "tokens": self.rows.tokens_by_language(rows),
                "epochs": self.rows.epochs(rows),
                "learning_rate": state.log_history[-1]["learning_rate"] if step else None,
            }
            self.folder.publish(step, marker, transient=step not in self.kept)
        self.save_ended = time.monotonic()
        if step in self.kept:
            self._tell(args, step, model)

    def _tell(self, args: TrainingArguments, step: int, model: PreTrainedModel) -> None:
        if self.on_checkpoint is None or not args.should_save:
            return
        with _untouched_randomness():
            model.eval()
            self.on_checkpoint(model, step)
            model.train()


@contextmanager
def _untouched_randomness() -> Iterator[None]:
    python, numpy = random.getstate(), np.random.get_state()  # noqa: NPY002 - the state that others draw from
    with torch.random.fork_rng():
        yield
    random.setstate(python)
    np.random.set_state(numpy)  # noqa: NPY002
