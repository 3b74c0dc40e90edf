"""The executor and its store: nothing twice, nothing lost, nothing mistaken."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import xarray as xr

from babelscope.analyses import executor as executor_module
from babelscope.analyses import store as store_module
from babelscope.analyses.executor import Executor, shards, with_sources
from babelscope.analyses.store import Store
from babelscope.analyses.sweep import sweep
from babelscope.checkpoints.live import LiveModel
from babelscope.checkpoints.series import Series
from babelscope.core.errors import InputError
from babelscope.interp.loss import LanguageLoss
from babelscope.interp.measure import Item
from babelscope.interp.streams import TextStream
from tests.questions import TEXTS, every_measure


@pytest.fixture
def series(make_run):
    return Series.open(make_run(steps=(0, 10)), pivot="python", target="php")


def files(series):
    return {p: p.stat().st_mtime_ns for p in (series.state / "store").rglob("*") if p.is_file()}


def test_results_have_a_step_and_are_of_that_steps_weights(series):
    results = sweep(series, every_measure())
    measured = {"language_loss", "transferring_neurons", "working_language", "completions", "problem_scores"}
    assert set(results) == measured
    assert results["language_loss"]["step"].to_numpy().tolist() == [0, 10]
    alone = sweep(
        series, [LanguageLoss(TextStream(TEXTS, tokens=30, window=16))], store=Store(series.state / "b")
    )
    xr.testing.assert_equal(alone["language_loss"], results["language_loss"])
    assert not np.allclose(*results["language_loss"]["nll"].to_numpy())


def test_a_second_sweep_computes_nothing_and_imports_no_torch(series):
    sweep(series, every_measure())
    before = files(series)
    script = (
        "import sys; from tests.questions import every_measure;"
        "from babelscope.checkpoints.series import Series; from babelscope.analyses.sweep import sweep;"
        f"r = sweep(Series.open({str(series.directory)!r}), every_measure()); r['working_language'];"
        "assert 'torch' not in sys.modules, 'torch was imported'"
    )
    subprocess.run([sys.executable, "-c", script], check=True)
    assert files(series) == before


def test_one_more_checkpoint_costs_one_checkpoint(series, make_run):
    sweep(series, every_measure())
    before = files(series)
    longer = Series.open(make_run(steps=(0, 10, 20)), pivot="python", target="php")
    sweep(longer, every_measure())
    after = files(longer)
    assert {p: t for p, t in after.items() if p in before} == before
    assert len(after) == len(before) + len(with_sources(every_measure()))


def test_shards_left_by_a_kill_are_used_and_the_result_is_the_same(series, monkeypatch):
    monkeypatch.setattr(executor_module, "OBSERVED", 16)
    whole = sweep(series, every_measure()[:1], store=Store(series.state / "whole"))["language_loss"]
    killed = Store(series.state / "killed")
    written = []

    def dies(file, result, write=store_module._write):
        if len(written) == 2:
            raise KeyboardInterrupt
        written.append(file)
        write(file, result)

    with monkeypatch.context() as patch:
        patch.setattr(store_module, "_write", dies)
        with pytest.raises(KeyboardInterrupt):
            sweep(series, every_measure()[:1], store=killed)
    left = {p: p.stat().st_mtime_ns for p in killed.directory.rglob("*.nc")}
    assert len(left) == 2

    read_again = []
    monkeypatch.setattr(
        Store, "save_part", lambda s, k, n, r, save=Store.save_part: (read_again.append(n), save(s, k, n, r))
    )
    resumed = sweep(series, every_measure()[:1], store=killed)["language_loss"]
    assert read_again[:2] != [0, 1]
    xr.testing.assert_identical(resumed, whole)
    assert not list(killed.directory.rglob("*shard*"))


def test_marking_anew_reads_no_weights(series, monkeypatch):
    first = sweep(series, every_measure())
    again = every_measure()
    odd = {"marking": 2}
    monkeypatch.setattr("tests.questions.Echo.marking", odd)
    monkeypatch.setattr(LiveModel, "__init__", lambda *_, **__: pytest.fail("weights were read"))
    marked = sweep(series, again)
    xr.testing.assert_identical(marked["completions"], first["completions"])
    assert marked["problem_scores"].sizes == first["problem_scores"].sizes
    assert (
        len(list((series.state / "store" / "problem_scores").glob("*.nc"))) == 4
    )  # two rules, two checkpoints


def test_a_different_question_is_a_different_result(series):
    short, longer = (LanguageLoss(TextStream(TEXTS, tokens=n, window=16)) for n in (20, 30))
    first = sweep(series, [short])["language_loss"]
    second = sweep(series, [longer])["language_loss"]
    assert first["tokens"].sum() < second["tokens"].sum()


def test_a_new_version_of_what_is_read_makes_another_result_of_what_reads_it(series, monkeypatch):
    scores = every_measure()[-1]
    before = Executor(Store(series.state), [], series).key(scores, "weights")
    monkeypatch.setattr(type(scores.source), "version", 99)
    assert Executor(Store(series.state), [], series).key(scores, "weights") != before


def test_a_checkpoint_with_non_finite_weights_is_left_out_by_name(series):
    import torch
    from safetensors.torch import load_file, save_file

    file = series.checkpoints[1].path / "model.safetensors"
    weights = load_file(file)
    weights["transformer.ln_f.weight"][3] = torch.nan
    save_file(weights, file, metadata={"format": "pt"})
    results = sweep(series, every_measure()[:1])
    assert results["language_loss"]["step"].to_numpy().tolist() == [0]
    assert [(f.step, f.kind) for f in results.findings] == [(10, "not measured")]
    assert "transformer.ln_f.weight" in results.findings[0].detail


def test_two_measures_of_one_name_are_refused(series):
    with pytest.raises(InputError, match="different names"):
        sweep(series, every_measure()[:1] * 2)


def test_the_random_model_is_measured_once_and_never_mixed_in(series):
    results = sweep(series, every_measure())
    assert results["working_language"].sizes["step"] == 2
    assert "step" not in results.null("working_language").dims


def test_shards_keep_every_item_in_order():
    items = [Item(np.zeros(n), i) for i, n in enumerate((3, 9, 1, 1, 4, 20, 2))]
    cut = shards(items, tokens=8)
    assert [i.index for shard in cut for i in shard] == list(range(7))
    assert all(len(s) == 1 or sum(len(i.ids) for i in s) <= 8 for s in cut)


def test_without_prefetching_nothing_is_read_ahead_and_results_are_the_same(series, monkeypatch):
    def contents(place):
        sweep(series, every_measure()[:2], store=Store(place), prefetch=place.name == "ahead")
        return {p.name: p.read_bytes() for p in place.rglob("*.nc")}

    ahead = contents(series.state / "ahead")
    monkeypatch.setattr(LiveModel, "_read_ahead", lambda *_: pytest.fail("read ahead"))
    assert contents(series.state / "not") == ahead


def test_a_checkpoint_that_vanishes_after_opening_is_a_finding_and_the_other_is_measured(series):
    (series.at(0).path / "model.safetensors").unlink()
    results = sweep(series, every_measure()[:1])
    assert results["language_loss"]["step"].to_numpy().tolist() == [10]
    (missing,) = (finding for finding in results.findings if finding.kind == "not measured")
    assert (missing.step, "checkpoint-0: has no model.safetensors" in missing.detail) == (0, True)
