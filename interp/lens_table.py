"""Lens tables: what every layer decodes to at every position of a few prompts.

    p_{l,t} = softmax(W_U · norm_f(h_{l,t}) + b_U)        its k most likely tokens, and its entropy in nats

The last layer is the model's own output. The form is that of nostalgebraist, "interpreting GPT: the logit
lens" (2020); beside it stands what really came next, and whose identifier each decoded token begins.

This shows single cases and is no statistic: what holds over all probes is `working_language`'s to say.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import xarray as xr

from babelscope.interp.lens_measure import LensMeasure
from babelscope.interp.measure import Item, Observer, Stream
from babelscope.interp.prompt_texts import NOTHING, Prompt, PromptTexts, TableReading
from babelscope.interp.streams import PromptStream
from babelscope.interp.tuned_lens import TunedTranslators
from babelscope.interp.working_language import NOBODY

if TYPE_CHECKING:
    from torch import Tensor

    from babelscope.interp.anatomy import Anatomy, Site
    from babelscope.interp.batching import Batch
    from babelscope.interp.lens import LogitLens


class LensTable(LensMeasure[TableReading]):
    """The most likely tokens of every layer at every position, with the entropy.

    Parameters
    ----------
    stream
        A few prompts.
    last
        Positions of each prompt that are kept, from its end; all if None.
    translators
        Of the tuned lens, to read with; the logit lens without.
    """

    name: ClassVar[str] = "lens_table"
    version: ClassVar[int] = 1
    sites: ClassVar[frozenset[str]] = frozenset({"residual"})

    def __init__(
        self,
        stream: Stream[TableReading],
        *,
        last: int | None = None,
        translators: TunedTranslators | None = None,
    ):
        super().__init__(translators)
        self.stream = stream
        self.last = last

    @property
    def config(self) -> dict[str, Any]:
        return {"last": self.last}

    def observer(self, anatomy: Anatomy, reading: TableReading, shard: Sequence[Item]) -> Observer:
        longest = max(len(item.ids) for item in reading.items)
        return _Cells(self.lens(anatomy), anatomy.n_layers, shard, width=min(self.last or longest, longest))

    def combine(self, parts: Sequence[xr.Dataset], reading: TableReading) -> xr.Dataset:
        return spelled(xr.concat(parts, dim="prompt").sortby("prompt"), reading)


class _Cells:
    def __init__(self, lens: LogitLens, n_layers: int, prompts: Sequence[Item], *, width: int):
        from babelscope.interp.survey import TOP

        self.lens, self.width = lens, width
        self.row = {item.index: row for row, item in enumerate(prompts)}
        cells = (n_layers, len(prompts), width)
        self.token = np.full((*cells, TOP), NOTHING, np.int32)
        self.probability = np.full((*cells, TOP), np.nan, np.float32)
        self.entropy = np.full(cells, np.nan, np.float32)

    def see(self, site: Site, layer: int, tensor: Tensor, batch: Batch) -> None:
        from babelscope.interp.survey import survey

        for states, item in zip(tensor, batch.items, strict=True):
            kept = states[: len(item.ids)][-self.width :]
            seen = survey(self.lens.readout, self.lens.normed(kept, layer=layer))
            cells = (layer - 1, self.row[item.index], slice(len(kept)))
            self.token[cells] = seen.top.cpu()
            self.probability[cells] = seen.top_probabilities.cpu()
            self.entropy[cells] = seen.entropy.cpu()

    def result(self) -> xr.Dataset:
        cell = ("layer", "prompt", "position")
        return xr.Dataset(
            {
                "token": ((*cell, "rank"), self.token),
                "probability": ((*cell, "rank"), self.probability),
                "entropy": (cell, self.entropy),
            },
            coords={"layer": np.arange(1, len(self.token) + 1), "prompt": list(self.row)},
        )


def spelled(cells: xr.Dataset, reading: TableReading) -> xr.Dataset:
    """Cells by (layer, prompt, position, rank) with what they say; a shorter prompt's last are empty.

    Variables: `token`, `text`, `probability` and `language_of` (an index of `language`, or NOBODY: no
    language's alone) of every rank; `entropy` in nats; at every position the prompt's own token, `given` and
    `given_text`, and the one that came next, `next` and `next_text`. `start` tokens of a prompt come before
    its first position.
    """
    width = cells.sizes["position"]
    given = np.full((cells.sizes["prompt"], width), NOTHING)
    following = given.copy()
    for item in reading.items:
        kept = item.ids[-width:]
        given[item.index, : len(kept)] = kept
        following[item.index, : len(kept)] = [*kept[1:], reading.following[item.index]]
    tokens = cells["token"].to_numpy()
    texts = spellings(reading.tokenizer, np.unique(np.concatenate([tokens, given, following], None)))
    spell = np.vectorize(texts.__getitem__, otypes=[object])
    language_of = np.full(tokens.shape, NOBODY, np.int8)
    for which, own in enumerate(reading.identifiers.values()):
        language_of[np.isin(tokens, list(own))] = which
    cell, place = cells["token"].dims, ("prompt", "position")
    return cells.assign(
        text=(cell, spell(tokens)),
        language_of=(cell, language_of),
        given=(place, given.astype(np.int32)),
        given_text=(place, spell(given)),
        next=(place, following.astype(np.int32)),
        next_text=(place, spell(following)),
    ).assign_coords(
        position=np.arange(width),
        language=list(reading.identifiers),
        spoken=("prompt", [prompt.language for prompt in reading.prompts]),
        concept=("prompt", [prompt.concept for prompt in reading.prompts]),
        prompt_text=("prompt", [prompt.text for prompt in reading.prompts]),
        start=("prompt", [max(0, len(item.ids) - width) for item in reading.items]),
    )


def spellings(tokenizer: Any, tokens: Iterable[int]) -> dict[int, str]:
    """The text that each token is inside a text; its number where it has none, and nothing for NOTHING."""

    def spelling(token: int) -> str:
        name = tokenizer.convert_ids_to_tokens(token)
        if name is None:  # an unembedding may have more rows than there are tokens
            return f"<{token}>"
        text = tokenizer.decode([token], clean_up_tokenization_spaces=False)
        text = text.replace("\0", "␀")  # what netCDF cannot hold
        # A SentencePiece decoder drops the white space that begins a text, so a token alone loses its own.
        return " " + text if name.startswith("\u2581") and not text.startswith(" ") else text

    return {NOTHING: ""} | {token: spelling(token) for token in map(int, tokens) if token != NOTHING}


def lens_table(
    anatomy: Anatomy,
    tokenizer: Any,
    prompt: str,
    *,
    identifiers: PromptStream | None = None,
    lens: LogitLens | None = None,
) -> xr.Dataset:
    """The table of one prompt and one model; `spelled` says what it holds.

    Parameters
    ----------
    anatomy, tokenizer
        The model and its fast tokenizer.
    prompt
        Any text.
    identifiers
        Probes whose identifiers are to be recognised among the decoded tokens.
    lens
        What states are read with; default: the logit lens.

    Returns
    -------
    Dataset
        By (layer, position, rank): `table["text"].sel(rank=0).to_pandas()` is the table itself.

    Raises
    ------
    InputError
        If the prompt is empty, or if the lens at the last layer is not the model's output.
    """
    stream = PromptTexts([Prompt(prompt)], identifiers=identifiers)
    return read_table(anatomy, stream.read(tokenizer), lens=lens)


def read_table(anatomy: Anatomy, reading: TableReading, *, lens: LogitLens | None = None) -> xr.Dataset:
    """As `lens_table`, of a prompt that was tokenised before."""
    import torch

    from babelscope.interp.lens import LogitLens, check_readout
    from babelscope.interp.observe import observe

    (item,) = reading.items
    check_readout(anatomy, torch.as_tensor(item.ids, device=anatomy.device)[None])
    cells = _Cells(lens or LogitLens(anatomy), anatomy.n_layers, [item], width=len(item.ids))
    observe(anatomy, [item], [(LensTable.sites, cells)], tokens=len(item.ids))
    return spelled(cells.result(), reading).isel(prompt=0)
