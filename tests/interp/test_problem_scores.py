"""What is stored of what a model writes."""

from __future__ import annotations

from io import BytesIO

import xarray as xr

from babelscope.interp import problem_scores
from babelscope.interp.generation import Written
from babelscope.interp.problem_scores import Completions
from babelscope.interp.streams import ProblemStream
from tests.questions import Echo


def test_a_model_that_writes_nul_does_not_stop_what_it_wrote_from_being_stored(monkeypatch, tokenizer):
    monkeypatch.setattr(
        problem_scores, "complete", lambda *_, **__: [Written(text, True) for text in ("a\0b", "", "ü", "c")]
    )
    measure = Completions(ProblemStream(Echo()))
    reading = measure.stream.read(tokenizer)
    result = measure.drive(None, tokenizer, reading, reading.items)
    stored = xr.load_dataset(BytesIO(result.to_netcdf(engine="h5netcdf")), engine="h5netcdf")
    assert stored["completion"].to_numpy().ravel().tolist() == ["a\ufffdb", "", "ü", "c"]
