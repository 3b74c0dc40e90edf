"""Token files: a source tokenised once into one flat file, with what it holds beside it."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from babelscope.core.config import Strict
from babelscope.core.errors import InputError
from babelscope.core.files import digest, read_json, whole_file, write_json
from babelscope.core.progress import progress

_BATCH_CHARACTERS = 2**22  # what is tokenised at once: enough to keep every core busy, little memory


class TokenCounts(Strict):
    """What a token file holds, beside what its source held.

    Attributes
    ----------
    key
        Hash of all that determines the file: source, tokenizer, number of tokens to keep and seed.
    tokens, documents
        In the file; every document ends with one end-of-text token, which is counted.
    source_tokens, source_documents, source_bytes
        In the whole training part of the source, whether kept or not.
    dtype
        NumPy name of the integers in the file.
    """

    key: str
    tokens: int
    documents: int
    source_tokens: int
    source_documents: int
    source_bytes: int
    dtype: str


def tokenizer_hash(tokenizer: Any) -> str:
    """Hash of a fast tokenizer's whole definition."""
    return digest(tokenizer.backend_tokenizer.to_str())


def tokenise(
    texts: Iterable[str],
    *,
    tokenizer: Any,
    path: Path,
    key: str,
    keep: int | None = None,
    seed: int = 0,
    label: str = "tokenising",
) -> TokenCounts:
    """Write the tokens of `texts` into one flat file, with `TokenCounts` as JSON beside it.

    Parameters
    ----------
    tokenizer
        A fast Hugging Face tokenizer with an end-of-text token. Text that looks like a special token is
        tokenised as text.
    path
        The file to write; `path` with the ending `.json` is written last.
    keep
        Unique tokens to keep: whole documents chosen at random, of the last one its beginning. None: all.

    Raises
    ------
    InputError
        If the tokenizer is not a fast one or has no end-of-text token.
    """
    if getattr(tokenizer, "backend_tokenizer", None) is None:
        raise InputError(f"{type(tokenizer).__name__} is not a fast tokenizer; save it with a tokenizer.json")
    if tokenizer.eos_token_id is None:
        raise InputError("the tokenizer has no end-of-text token (eos_token), which must separate documents")
    dtype = np.dtype(np.uint16 if len(tokenizer) <= 2**16 else np.uint32)
    encoder = _plain_encoder(tokenizer)
    lengths: list[int] = []
    read_bytes = 0
    sidecar = path.with_suffix(".json")
    sidecar.unlink(missing_ok=True)  # it must never describe another file than the one beside it
    with whole_file(path) as temporary:
        with temporary.open("wb") as file, progress() as display:
            task = display.add_task(label, total=None)
            for texts_at_once in _batches(texts):
                for encoding in encoder.encode_batch_fast(texts_at_once, add_special_tokens=False):
                    np.asarray([*encoding.ids, tokenizer.eos_token_id], dtype=dtype).tofile(file)
                    lengths.append(len(encoding.ids) + 1)
                read_bytes += sum(len(text.encode()) for text in texts_at_once)
                display.update(task, completed=len(lengths))
        taken = _sample(lengths, keep=keep, seed=seed)
        if taken.sum() < sum(lengths):
            _keep_beginnings(temporary, lengths, taken, dtype=dtype, end_of_text=tokenizer.eos_token_id)
    counts = TokenCounts(
        key=key,
        tokens=int(taken.sum()),
        documents=int(np.count_nonzero(taken)),
        source_tokens=sum(lengths),
        source_documents=len(lengths),
        source_bytes=read_bytes,
        dtype=dtype.name,
    )
    write_json(sidecar, counts.model_dump())
    return counts


def token_counts(path: Path) -> TokenCounts | None:
    """What `tokenise` recorded about the token file `path`; None if it did not get to the end."""
    sidecar = path.with_suffix(".json")
    if not path.exists() or not sidecar.exists():
        return None
    return TokenCounts.parse(read_json(sidecar), origin=str(sidecar))


def open_tokens(path: Path) -> NDArray[np.unsignedinteger]:
    """The tokens in a file that `tokenise` wrote, mapped into memory rather than read."""
    counts = token_counts(path)
    if counts is None:
        raise InputError(f"{path} was not written to the end; tokenise the source again")
    return np.memmap(path, dtype=counts.dtype, mode="r", shape=(counts.tokens,))


def _batches(texts: Iterable[str]) -> Iterator[list[str]]:
    texts = iter(texts)
    while True:
        batch, size = [], 0
        for text in texts:
            batch.append(text)
            size += len(text)
            if size >= _BATCH_CHARACTERS:
                break
        if not batch:
            return
        yield batch


def _plain_encoder(tokenizer: Any) -> Any:
    # The Rust tokenizer itself: three times as fast as the Python call, which also makes masks and offsets.
    # A copy, because the caller's tokenizer should go on treating special tokens as special.
    backend = copy.deepcopy(tokenizer.backend_tokenizer)
    backend.no_padding()
    backend.no_truncation()
    backend.encode_special_tokens = True
    return backend


def _sample(lengths: Sequence[int], *, keep: int | None, seed: int) -> NDArray[np.int64]:
    """Tokens to take of each document so that they sum to `keep`: whole documents, and one beginning."""
    every = np.asarray(lengths, dtype=np.int64)
    if keep is None:
        return every
    order = np.random.default_rng(seed).permutation(len(every))
    before = np.cumsum(every[order]) - every[order]
    taken = np.zeros_like(every)
    taken[order] = np.clip(keep - before, 0, every[order])
    return taken


def _keep_beginnings(
    path: Path, lengths: Sequence[int], taken: NDArray[np.int64], *, dtype: np.dtype, end_of_text: int
) -> None:
    """Rewrite a token file to the first `taken[i]` tokens of each document i, the last of them its end."""
    everything = np.memmap(path, dtype=dtype, mode="r+")
    end = 0
    for start, size in zip(itertools.accumulate(lengths, initial=0), taken, strict=False):
        if size:
            # Moves towards the front only, so nothing is overwritten before it was read.
            everything[end : end + size] = everything[start : start + size]
            end += int(size)
            everything[end - 1] = end_of_text
    everything.flush()
    with path.open("r+b") as file:
        file.truncate(end * everything.itemsize)
