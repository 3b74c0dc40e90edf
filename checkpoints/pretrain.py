"""Pretraining by recipe on the Hugging Face Trainer: a new series, or the continuation of a model.

`pretrain` writes checkpoints at logarithmic distances with the tokens of each language achieved by then, and
may be killed at any moment: the same command again goes on from the newest checkpoint and, on one CPU thread,
ends in the same bits. `plan` says beforehand what that will cost.

The loss is the mean over the next-token predictions inside each row; documents in a row are separated by the
end-of-text token and are not masked from each other, as in GPT-2 and GPT-3. Every row is of one language, so
the history also holds `loss_<language>`.
"""

from __future__ import annotations

import itertools
import statistics
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel, TrainingArguments
from transformers.utils import logging

from babelscope.checkpoints.material import (
    build_model,
    check_config,
    checkpoint_bytes,
    heldout_file,
    make_tokenizer,
    mixed_rows,
    open_tokenizer,
    prepare_tokens,
    sample_text,
    sources_of,
)
from babelscope.checkpoints.recipe import Recipe
from babelscope.checkpoints.saving import OnCheckpoint, RunFolder, SaveSeries
from babelscope.checkpoints.trainer import SeriesTrainer, ShowProgress, row_losses, training_arguments
from babelscope.core.errors import InputError
from babelscope.core.files import read_json, write_json, write_text
from babelscope.core.progress import console, progress
from babelscope.corpora.mixing import apportion

_MAY_CHANGE = {"training.threads"}  # between a run and its continuation
_SAMPLE_BYTES = 2**20  # of each language's text, for an estimate of its tokens


def pretrain(recipe: Recipe, *, on_checkpoint: OnCheckpoint | None = None, resume: bool = True) -> Path:
    """Train as the recipe says, or go on where a killed run of the same recipe stopped.

    Parameters
    ----------
    on_checkpoint
        Called as `on_checkpoint(model, step)` after each kept checkpoint is whole, with the model in
        evaluation mode; once more for the newest one when a run is taken up, so it must bear repetition.
    resume
        Whether an unfinished run in the output directory is taken up; otherwise it is an error.

    Returns
    -------
    The run's directory, which `Series.open` reads.

    Raises
    ------
    InputError
        Before anything expensive: a missing source, an unknown field, rows longer than the model takes, a
        batch that cannot be divided, another recipe's run in the output directory. Later: too little disk,
        a loss that is not finite. Whole checkpoints stay whole in every case.
    """
    folder = RunFolder(recipe.output)
    run = _existing_run(recipe, folder)
    if run is not None and run["finished"]:
        console.print(f"{recipe.output} is finished ({recipe.training.steps} steps); nothing to do")
        return recipe.output
    if run is not None and not resume:
        raise InputError(f"{recipe.output} holds an unfinished run; resume it or choose another output")
    if run is None:
        sources_of(recipe)
        check_config(recipe)
        if recipe.questions is not None and not recipe.questions.is_file():
            raise InputError(f"the questions {str(recipe.questions)!r} do not exist")
    args = training_arguments(recipe, folder.staging)
    logging.disable_progress_bar()  # of transformers, for loading weights: there is one bar, ours
    with _threads(recipe.training.threads), folder.full_disk_in_words():
        with args.main_process_first(local=False):
            if args.should_save:
                folder.tidy()
            whole = folder.complete()
            tokenizer = open_tokenizer(recipe, as_it_is=bool(whole))
            if not whole:
                counts = prepare_tokens(recipe, tokenizer)
                if args.should_save:
                    sources = {language: count.model_dump() for language, count in counts.items()}
                    write_json(recipe.output / "run.json", _run_document(recipe, sources=sources))
                    if recipe.questions is not None:
                        write_text(recipe.output / "questions.toml", recipe.questions.read_text("utf-8"))
            rows = mixed_rows(recipe)
        newest = whole[max(whole)] if whole else None
        model = build_model(recipe, tokenizer, checkpoint=newest)
        size = checkpoint_bytes(model, tokenizer)
        state = 2 * size  # Adam's two averages
        if args.should_save:
            left = sum(step not in whole for step in recipe.training.checkpoint_steps)
            folder.require(left * size + state)
        saving = SaveSeries(
            folder, training=recipe.training, rows=rows, needed=size + state, on_checkpoint=on_checkpoint
        )
        with progress() as display:
            trainer = SeriesTrainer(
                model,
                rows=rows,
                args=args,
                processing_class=tokenizer,
                callbacks=[saving, ShowProgress(display)],
            )
            saving.trainer = trainer
            trainer.train(resume_from_checkpoint=_resumable(newest))
        if args.should_save:
            folder.finish()
            write_json(
                recipe.output / "run.json", {**read_json(recipe.output / "run.json"), "finished": True}
            )
    return recipe.output


def plan(recipe: Recipe) -> dict[str, Any]:
    """What the run will do and cost; nothing is written.

    Steps, tokens and disk follow from the recipe. The seconds are an estimate: a few steps on random tokens
    on this machine, without saving. So are unique tokens and epochs: from the first text of each source.

    Raises
    ------
    InputError
        As `pretrain` does before anything expensive.
    """
    folder = RunFolder(recipe.output)
    run = _existing_run(recipe, folder)
    sources, training = sources_of(recipe), recipe.training
    check_config(recipe)
    args = training_arguments(recipe, recipe.output)
    samples = {language: sample_text(source, _SAMPLE_BYTES) for language, source in sources.items()}
    tokenizer = make_tokenizer(recipe, itertools.chain.from_iterable(samples.values()))
    unique, processed = {}, {}
    rows = apportion(list(recipe.proportions.values()), total=training.steps * training.batch_size)
    for source, due in zip(recipe.sources, rows, strict=True):
        sample = samples[source.language]
        per_byte = sum(map(len, tokenizer(sample, verbose=False)["input_ids"])) / sum(
            len(text.encode()) for text in sample
        )
        there = int(per_byte * sum(sources[source.language].listing().values()))
        unique[source.language] = min(there, source.max_tokens or there)
        processed[source.language] = int(due) * training.sequence_length
    with _threads(training.threads):
        model = build_model(recipe, tokenizer, checkpoint=None)
        seconds = _seconds_per_step(model, args, length=training.sequence_length)
    size = checkpoint_bytes(model, tokenizer)
    done = max(folder.complete(), default=0) if run is not None else 0
    return {
        "steps": training.steps,
        "steps_done": done,
        "checkpoints": training.checkpoint_steps,
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "tokens": sum(processed.values()),
        "processed_tokens": processed,
        "unique_tokens": unique,
        "epochs": {language: processed[language] / max(1, unique[language]) for language in unique},
        "bytes": (len(training.checkpoint_steps) + 2) * size,
        "seconds_per_step": seconds,
        "seconds": (training.steps - done) * seconds,
    }


def _seconds_per_step(model: PreTrainedModel, args: TrainingArguments, *, length: int) -> float:
    """Median time of a training step, by trying some; the first, which allocates memory, does not count."""
    torch.nn.Module.to(model, args.device)
    model.train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.0)
    tokens = torch.randint(model.config.vocab_size, (args.train_batch_size, length), device=args.device)
    times = []
    for _ in range(4):
        began = time.perf_counter()
        for _ in range(args.gradient_accumulation_steps):
            with torch.autocast(args.device.type, torch.bfloat16, enabled=args.bf16):
                loss = row_losses(model(input_ids=tokens, use_cache=False).logits, tokens).mean()
            loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        loss.item()  # waits for the device
        times.append(time.perf_counter() - began)
    return statistics.median(times[1:])


def _resumable(checkpoint: Path | None) -> str | None:
    if checkpoint is None or checkpoint.name == "checkpoint-0":
        return None  # nothing has been learnt: the seed alone gives the same start
    if not (checkpoint / "optimizer.pt").exists():
        raise InputError(f"{checkpoint} has no optimizer.pt to resume from; start anew in another output")
    return str(checkpoint)


def _existing_run(recipe: Recipe, folder: RunFolder) -> dict[str, Any] | None:
    """What is recorded of the run in the output directory, once it has a checkpoint.

    Raises
    ------
    InputError
        If it is another run, or the checkpoints are of no run known.
    """
    if not (recipe.output / "run.json").exists():
        if any(recipe.output.glob("checkpoint-*")):
            raise InputError(f"{recipe.output} holds checkpoints of something else; choose another output")
        return None
    if not folder.complete():
        return None
    run = read_json(recipe.output / "run.json")
    # Parsed, so that a setting which did not exist when the run was made has its default.
    recorded = Recipe.parse(
        run["recipe"] | {"output": str(recipe.output)}, origin=f"{recipe.output}/run.json"
    )
    before, now = _flat(recorded.model_dump(mode="json", exclude={"output"})), _flat(recipe.portable())
    changed = sorted(key for key in before.keys() | now.keys() if before.get(key) != now.get(key))
    changed = [key for key in changed if key not in _MAY_CHANGE]
    if changed:
        listed = ", ".join(f"{key} (was {before.get(key)!r}, is {now.get(key)!r})" for key in changed)
        raise InputError(f"{recipe.output} holds a run with other settings: {listed}; choose another output")
    return run


def _flat(document: Any, prefix: str = "") -> dict[str, Any]:
    parts: Sequence[tuple[Any, Any]]
    if isinstance(document, dict):
        parts = list(document.items())
    elif isinstance(document, list) and any(isinstance(part, dict) for part in document):
        parts = list(enumerate(document))
    else:
        return {prefix: document}
    return {
        key: value
        for name, part in parts
        for key, value in _flat(part, f"{prefix}.{name}" if prefix else str(name)).items()
    }


def _run_document(recipe: Recipe, *, sources: dict[str, Any]) -> dict[str, Any]:
    return {
        "format": 1,
        "pivot": recipe.pivot,
        "target": recipe.target,
        "languages": list(recipe.languages),
        "heldout": {
            language: heldout_file(recipe, language).relative_to(recipe.output).as_posix()
            for language in recipe.languages
        },
        "checkpoints": recipe.training.checkpoint_steps,
        "sources": sources,
        "recipe": recipe.portable(),
        "versions": {name: version(name) for name in ("babelscope", "torch", "transformers")},
        "finished": False,
    }


@contextmanager
def _threads(number: int | None) -> Iterator[None]:
    before = torch.get_num_threads()
    if number is not None:
        torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)
