"""One prompt, looked at in some checkpoints of a series: `Series.lens_table`."""

from __future__ import annotations

from collections.abc import Sequence

import xarray as xr

from babelscope.checkpoints.live import LiveModel
from babelscope.checkpoints.opening import dtype_named
from babelscope.checkpoints.series import Series
from babelscope.interp.lens_table import read_table
from babelscope.interp.prompt_texts import Prompt, PromptTexts
from babelscope.interp.streams import PromptStream
from babelscope.probes.identifiers import ProbeSet
from babelscope.probes.placement import ANY


def look(
    series: Series,
    prompt: str,
    *,
    steps: Sequence[int],
    probes: ProbeSet | None,
    device: str | None,
    dtype: str,
) -> xr.Dataset:
    """As `Series.lens_table`; whatever is wrong with the prompt shows before any weights are read."""
    chosen = [series.at(step) for step in sorted(set(steps))] or [series.checkpoints[-1]]
    identifiers = PromptStream(probes, background={}, context=None, minimum=ANY) if probes else None
    stream = PromptTexts([Prompt(prompt)], identifiers=identifiers, context=series.context)
    reading = stream.read(series.tokenizer)
    live = LiveModel(series, dtype=dtype_named(dtype), device=device)
    tables = [read_table(anatomy, reading) for _, anatomy in live.walk(chosen)]
    return xr.concat(tables, dim=xr.IndexVariable("step", [checkpoint.step for checkpoint in chosen]))
