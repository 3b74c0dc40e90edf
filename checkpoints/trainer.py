"""The Hugging Face Trainer, as much of it as a series needs changed.

Rows come in their planned order, the loss is kept by language, and a loss that is not finite stops the run.
"""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy.typing import NDArray
from rich.progress import Progress
from torch import Tensor, nn
from transformers import (
    PreTrainedModel,
    PrinterCallback,
    Trainer,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)

from babelscope.checkpoints.recipe import Recipe
from babelscope.core.errors import InputError
from babelscope.corpora.mixing import MixedRows

_SCHEDULES = {"constant": "constant_with_warmup", "linear": "linear", "cosine": "cosine"}


class SeriesTrainer(Trainer):
    """A Trainer whose rows come in order and whose history holds the loss on each language.

    Parameters
    ----------
    rows
        The rows of the run.
    """

    loss_is_scaled_for_ga = False  # every row is as long as any other, so the mean of means is the mean

    def __init__(self, model: PreTrainedModel, *, rows: MixedRows, **kwargs: Any):
        super().__init__(model, train_dataset=rows, data_collator=_collate, **kwargs)  # pyright: ignore[reportArgumentType]
        self.remove_callback(PrinterCallback)  # stdout belongs to results
        self.languages = rows.languages
        # Since the last log entry: sum of the rows' losses and number of rows, by language.
        self.seen = torch.zeros(2, len(self.languages), dtype=torch.float64, device=self.args.device)
        self.flos_per_token = 6 * model.num_parameters(exclude_embeddings=True)

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Any:
        """Mean loss of the rows; adds each row's to its language."""
        tokens, language = inputs["input_ids"], inputs["language"]  # (rows, length), (rows,)
        outputs = model(input_ids=tokens, use_cache=False)
        by_row = row_losses(outputs.logits, tokens)
        self.seen[0].index_add_(0, language, by_row.detach().double())
        self.seen[1] += torch.bincount(language, minlength=len(self.languages))
        return (by_row.mean(), outputs) if return_outputs else by_row.mean()

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Add the loss on each language; stop where a loss or gradient is not finite.

        Raises
        ------
        InputError
            Before the checkpoint of this step would be written.
        """
        if "loss" in logs:
            totals, counts = self.accelerator.reduce(self.seen).tolist()  # pyright: ignore[reportAttributeAccessIssue]
            self.seen.zero_()
            for language, total, count in zip(self.languages, totals, counts, strict=True):
                if count:
                    logs[f"loss_{language}"] = total / count
            last = self.state.global_step
            first = self.state.log_history[-1]["step"] + 1 if self.state.log_history else 1
            wrong = [name for name in ("loss", "grad_norm") if not math.isfinite(logs[name])]
            if wrong:
                steps = f"step {first}" if first == last else f"steps {first} to {last}"
                raise InputError(
                    f"training diverged at {steps}: {wrong[0]} is {logs[wrong[0]]}; lower learning_rate = "
                    f"{self.args.learning_rate:g} or lengthen warmup_steps = {self.args.warmup_steps:g}. "
                    "The checkpoints before are kept"
                )
        super().log(logs, start_time)

    def floating_point_ops(self, inputs: dict[str, Any]) -> int:
        """As the Trainer counts them, without walking through the model at each step."""
        return self.flos_per_token * inputs["input_ids"].numel()


def row_losses(
    logits: Float[Tensor, "rows length vocab"], tokens: Int[Tensor, "rows length"]
) -> Float[Tensor, " rows"]:
    """Mean loss of each row's next-token predictions, in nats."""
    # Shifting the targets copies rows x length integers; shifting the logits would copy all of them.
    targets = nn.functional.pad(tokens[:, 1:], (0, 1), value=-100)
    losses = nn.functional.cross_entropy(logits.flatten(0, 1).float(), targets.flatten(), reduction="none")
    return losses.view_as(tokens).sum(1) / (tokens.shape[1] - 1)


class ShowProgress(TrainerCallback):
    """Steps and loss on the project's progress bar."""

    def __init__(self, display: Progress):
        self.display = display

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        visible = state.is_world_process_zero
        self.task = self.display.add_task(
            "training", total=state.max_steps, completed=state.global_step, visible=visible
        )

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self.display.update(self.task, completed=state.global_step)

    def on_log(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        if "loss" in state.log_history[-1]:
            self.display.update(self.task, description=f"training, loss {state.log_history[-1]['loss']:.3f}")


def _collate(batch: tuple[NDArray[np.int64], NDArray[np.int64]]) -> dict[str, Tensor]:
    languages, tokens = batch
    return {"input_ids": torch.from_numpy(tokens), "language": torch.from_numpy(languages)}


def training_arguments(recipe: Recipe, output: Path) -> TrainingArguments:
    """The Trainer's arguments; `InputError` if processes and accumulation cannot share the batch equally."""
    training = recipe.training
    parts = training.gradient_accumulation * int(os.environ.get("WORLD_SIZE", "1"))
    if training.batch_size % parts:
        raise InputError(
            f"batch_size = {training.batch_size} cannot be divided into {parts} equal parts "
            "(gradient_accumulation x processes)"
        )
    on_gpu = torch.cuda.is_available()
    args = TrainingArguments(
        output_dir=str(output),
        max_steps=training.steps,
        per_device_train_batch_size=training.batch_size // parts,
        gradient_accumulation_steps=training.gradient_accumulation,
        learning_rate=training.learning_rate,
        lr_scheduler_type=_SCHEDULES[training.schedule],
        warmup_steps=training.warmup_steps,
        weight_decay=training.weight_decay,
        bf16=training.precision == "bfloat16",
        seed=recipe.seed,
        train_sampling_strategy="sequential",
        save_strategy="no",  # and no logging: `SaveSeries` asks for both
        logging_strategy="no",
        logging_nan_inf_filter=False,  # it hides what must stop the run, and waits for the GPU at each step
        remove_unused_columns=False,
        dataloader_pin_memory=on_gpu,
        use_cpu=not on_gpu,
        use_cache=True,  # written into the checkpoints' configuration, for whoever generates with them
        report_to="none",
        disable_tqdm=True,
        log_level="error",
        log_level_replica="error",
    )
    if args.n_gpu > 1:
        args._n_gpu = 1  # several GPUs are used through torchrun; DataParallel would change the batch
    return args
