"""What a training run starts from: tokenizer, token files, held-out text and the model.

Everything a recipe names is checked here in order of cost: names and shapes first, then the tokenizer, then
the tokens, which are written once and found again by a hash of what determines them.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    PreTrainedTokenizerFast,
    set_seed,
)

from babelscope.checkpoints.recipe import Recipe, SourceRecipe
from babelscope.checkpoints.saving import MARKER
from babelscope.core.errors import InputError
from babelscope.core.files import digest, read_json, write_json, write_text
from babelscope.corpora.mixing import MixedRows
from babelscope.corpora.sources import Source
from babelscope.corpora.token_files import (
    TokenCounts,
    open_tokens,
    token_counts,
    tokenise,
    tokenizer_hash,
)

END_OF_TEXT = "<|endoftext|>"
TOKENIZER_BYTES = 2**24  # of each language; more text changes a vocabulary of some thousands very little

# The Rust tokenizers use every core; nothing here forks afterwards, which is what their warning is about.
os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")


def sources_of(recipe: Recipe) -> dict[str, Source]:
    """The sources by language; `InputError` if a path is missing."""
    return {part.language: _source(part, recipe) for part in recipe.sources}


def check_config(recipe: Recipe) -> PreTrainedConfig:
    """The configuration of the model to train, before its vocabulary is known.

    Raises
    ------
    InputError
        If the family or a field is unknown, the start cannot be read, or rows are too long for the model.
    """
    start, scratch = recipe.model.start, recipe.model.scratch
    if scratch is not None:
        try:
            defaults = AutoConfig.for_model(scratch.family)
        except ValueError:
            raise InputError(
                f"[model.scratch] family = {scratch.family!r} is unknown to transformers"
            ) from None
        # Configurations accept any keyword and keep it, so a misspelt one would silently do nothing.
        unknown = [field for field in scratch.fields if not hasattr(defaults, field)]
        if unknown:
            raise InputError(f"[model.scratch] {scratch.family} has no configuration field {unknown}")
        config = AutoConfig.for_model(scratch.family, **scratch.fields)
    else:
        try:
            config = AutoConfig.from_pretrained(str(start))
        except (OSError, ValueError) as error:
            raise InputError(
                f"[model] start = {start!r} is neither a checkpoint directory nor on the hub: "
                f"{_first_line(error)}"
            ) from None
    longest = getattr(config, "max_position_embeddings", None)
    if longest is not None and recipe.training.sequence_length > longest:
        raise InputError(
            f"sequence_length = {recipe.training.sequence_length} exceeds the model's {longest} positions"
        )
    return config


def open_tokenizer(recipe: Recipe, *, as_it_is: bool = False) -> PreTrainedTokenizerBase:
    """The run's tokenizer, from `tokenizer/` in its directory, where it is put first if it is not there.

    Always read from the same place, so that a resumed run saves the same files as an uninterrupted one. Made
    anew if the recipe or the text it learns from has changed, unless it is to be taken `as_it_is`.
    """
    saved = recipe.output / "tokenizer"
    if not (as_it_is and saved.exists()):
        languages = (recipe.tokenizer and recipe.tokenizer.train_on) or recipe.languages
        chosen = [source for language, source in sources_of(recipe).items() if language in languages]
        named = recipe.tokenizer.model_dump() if recipe.tokenizer else recipe.model.start
        key = {"key": digest([named, [source.fingerprint() for source in chosen]])}
        if not (saved / MARKER).exists() or read_json(saved / MARKER) != key:
            shutil.rmtree(saved, ignore_errors=True)
            written = recipe.output / ".partial" / "tokenizer"
            make_tokenizer(recipe, _spread_texts(chosen, TOKENIZER_BYTES)).save_pretrained(written)
            write_json(written / MARKER, key)
            written.rename(saved)
            written.parent.rmdir()
    return AutoTokenizer.from_pretrained(saved)


def make_tokenizer(recipe: Recipe, texts: Iterable[str]) -> PreTrainedTokenizerBase:
    """The tokenizer that the recipe names, or a byte-level BPE (GPT-2's kind) trained on `texts`.

    Raises
    ------
    InputError
        If it names one that cannot be read.
    """
    wanted = recipe.tokenizer
    if wanted is None or wanted.vocab_size is None:
        path = str(recipe.model.start if wanted is None else wanted.path)
        try:
            return AutoTokenizer.from_pretrained(path)
        except (OSError, ValueError) as error:
            raise InputError(f"no tokenizer can be read from {path!r}: {_first_line(error)}") from None
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=wanted.vocab_size,
        special_tokens=[END_OF_TEXT],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token=END_OF_TEXT, eos_token=END_OF_TEXT)


def sample_text(source: Source, limit: int) -> list[str]:
    """The first documents of a source, about `limit` bytes."""
    sample, size = [], 0
    for document in source.training():
        sample.append(document.text)
        size += len(document.text.encode())
        if size >= limit:
            break
    return sample


def prepare_tokens(recipe: Recipe, tokenizer: PreTrainedTokenizerBase) -> dict[str, TokenCounts]:
    """Write, or find again, each language's token file (`data/`) and held-out documents (`heldout/`)."""
    counts = {}
    for part, source in zip(recipe.sources, sources_of(recipe).values(), strict=True):
        path, heldout = token_file(recipe, part.language), heldout_file(recipe, part.language)
        seed = recipe.seed if part.max_tokens is not None else None
        key = digest([source.fingerprint(), tokenizer_hash(tokenizer), part.max_tokens, seed])
        found = token_counts(path)
        if found is None or found.key != key or not heldout.exists():
            # The held-out documents are known only when the stream ends, and must be written by then.
            def texts(source: Source = source, path: Path = path, heldout: Path = heldout) -> Iterator[str]:
                for document in source.training():
                    yield document.text
                lines = (json.dumps({"name": kept.name, "text": kept.text}) for kept in source.heldout_)
                write_text(heldout, "".join(f"{line}\n" for line in lines))
                write_json(path.with_suffix(".documents.json"), dict(source.counts_))

            found = tokenise(
                texts(),
                tokenizer=tokenizer,
                path=path,
                key=key,
                keep=part.max_tokens,
                seed=recipe.seed,
                label=f"tokenising {part.language}",
            )
        counts[part.language] = found
    return counts


def mixed_rows(recipe: Recipe) -> MixedRows:
    """The rows of the whole run, from the token files in its directory."""
    return MixedRows(
        {language: open_tokens(token_file(recipe, language)) for language in recipe.languages},
        proportions=recipe.proportions,
        rows=recipe.training.steps * recipe.training.batch_size,
        length=recipe.training.sequence_length,
        seed=recipe.seed,
        until={part.language: part.until for part in recipe.sources},
    )


def build_model(
    recipe: Recipe, tokenizer: PreTrainedTokenizerBase, *, checkpoint: Path | None
) -> PreTrainedModel:
    """The model at `checkpoint`, or where the recipe starts; always with float32 weights.

    Raises
    ------
    InputError
        If there are no safetensors weights, or fewer embeddings than tokens.
    """
    scratch = recipe.model.scratch
    if checkpoint is None and scratch is not None:
        special = {
            name: getattr(tokenizer, name) for name in ("bos_token_id", "eos_token_id", "pad_token_id")
        }
        fields = {"vocab_size": len(tokenizer), **special, **scratch.fields}
        set_seed(recipe.seed)
        model = AutoModelForCausalLM.from_config(
            AutoConfig.for_model(scratch.family, **fields), dtype=torch.float32
        )
    else:
        start = str(checkpoint) if checkpoint is not None else str(recipe.model.start)
        try:
            model = AutoModelForCausalLM.from_pretrained(start, dtype=torch.float32, use_safetensors=True)
        except (OSError, ValueError, SafetensorError) as error:
            raise InputError(f"{start!r} has no weights that can be used: {_first_line(error)}") from None
    embeddings = model.config.vocab_size
    if embeddings < len(tokenizer):
        raise InputError(f"the model has {embeddings} embeddings, the tokenizer {len(tokenizer)} tokens")
    return model


def checkpoint_bytes(model: PreTrainedModel, tokenizer: Any) -> int:
    """Disk that one checkpoint takes without the optimizer's state: weights, tokenizer, history."""
    weights = sum(parameter.numel() for parameter in model.parameters()) * 4
    return weights + len(tokenizer.backend_tokenizer.to_str(pretty=True)) + 2**18


def token_file(recipe: Recipe, language: str) -> Path:
    """Where a language's tokens are."""
    return recipe.output / "data" / f"{language}.tokens"


def heldout_file(recipe: Recipe, language: str) -> Path:
    """Where a language's held-out documents are."""
    return recipe.output / "heldout" / f"{language}.jsonl"


def _source(part: SourceRecipe, recipe: Recipe) -> Source:
    return Source([Path(path) for path in part.path], extensions=part.endings, heldout=recipe.heldout)


def _spread_texts(sources: list[Source], limit: int) -> Iterator[str]:
    """About `limit` bytes of each source, from all over it: every n-th document."""
    for source in sources:
        every = max(1, round(sum(source.listing().values()) / limit))
        for number, document in enumerate(source.training()):
            if number % every == 0:
                yield document.text


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0]
