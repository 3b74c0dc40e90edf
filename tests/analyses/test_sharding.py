"""Several processes, one store: together they do what one would, byte for byte."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import traceback
from pathlib import Path

import numpy as np
import pytest
import torch
import xarray as xr

from babelscope.analyses import executor as executor_module
from babelscope.analyses.analysis import analyse
from babelscope.analyses.executor import with_sources
from babelscope.analyses.planning import SAMPLE, plan
from babelscope.analyses.sharding import WHOLE, Shard, own_gpu
from babelscope.analyses.store import Store
from babelscope.analyses.sweep import sweep
from babelscope.checkpoints.series import Series
from babelscope.core.errors import InputError
from babelscope.interp.loss import LanguageLoss
from babelscope.interp.measure import FromModel
from babelscope.interp.streams import TextStream
from tests.questions import TEXTS, every_measure

ROOT = Path(__file__).parents[2]
STEPS = (0, 10, 20)
PARTS = 48  # tokens per shard of a stream, so that every result has several


@pytest.fixture
def series(make_run):
    return Series.open(make_run(steps=STEPS), pivot="python", target="php")


def two_measures():
    """One that adds up its parts and one that also wants the random model."""
    loss, _, working_language, _ = every_measure()
    return [loss, working_language]


def contents(directory):
    return {
        str(path.relative_to(directory)): path.read_bytes()
        for path in sorted(directory.rglob("*"))
        if path.is_file()
    }


@pytest.mark.parametrize("count", [1, 2, 3, 7, 20])
def test_shards_divide_everything_evenly_and_once(count):
    parts = [Shard(index, count).of(range(17)) for index in range(1, count + 1)]
    assert sorted(item for part in parts for item in part) == list(range(17))
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


def test_one_more_checkpoint_moves_no_other():
    before, after = (Shard(2, 3).of(range(n)) for n in (10, 11))
    assert after[: len(before)] == before


@pytest.mark.parametrize("text", ["2", "2/", "/8", "a/b", "2/8/9", "-1/8", "2 of 8", "²/8", ""])
def test_what_is_no_shard_is_refused_with_an_example(text):
    with pytest.raises(InputError, match="write it as i/n, for example 2/8"):
        Shard.parse(text)


@pytest.mark.parametrize("text", ["0/8", "9/8", "1/0"])
def test_a_shard_that_does_not_exist_is_refused(text):
    with pytest.raises(InputError, match=f"there is no shard {text}"):
        Shard.parse(text)


@pytest.mark.parametrize(
    ("environment", "shard"),
    [
        ({}, WHOLE),
        ({"RANK": "1", "WORLD_SIZE": "8"}, Shard(2, 8)),
        ({"SLURM_PROCID": "3", "SLURM_NTASKS": "4"}, Shard(4, 4)),
        ({"RANK": "0", "WORLD_SIZE": "2", "SLURM_PROCID": "3", "SLURM_NTASKS": "4"}, Shard(1, 2)),
        ({"RANK": "5"}, WHOLE),
        ({"SLURM_JOB_ID": "9", "SLURM_STEP_ID": "0", "SLURM_PROCID": "1", "SLURM_NTASKS": "4"}, Shard(2, 4)),
    ],
)
def test_a_launchers_rank_is_the_shard(environment, shard):
    assert Shard.from_environment(environment) == shard


def test_a_batch_script_that_srun_did_not_start_is_not_one_task_of_many():
    script = {"SLURM_JOB_ID": "9", "SLURM_PROCID": "0", "SLURM_NTASKS": "4"}
    assert Shard.from_environment(script) == WHOLE


@pytest.mark.parametrize("rank", ["one", "8"])
def test_a_rank_that_makes_no_sense_is_refused(rank):
    with pytest.raises(InputError, match=r"RANK='one' and WORLD_SIZE='8' are not numbers|no shard 9/8"):
        Shard.from_environment({"RANK": rank, "WORLD_SIZE": "8"})


def test_each_process_of_a_machine_takes_its_own_gpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    assert own_gpu({}) is None
    assert own_gpu({"LOCAL_RANK": "3"}) == "cuda:3"
    assert own_gpu({"SLURM_LOCALID": "2"}) == "cuda:2"
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)  # SLURM shows each task only its own
    assert own_gpu({"SLURM_LOCALID": "2"}) == "cuda:0"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert own_gpu({"LOCAL_RANK": "3"}) is None


def test_shards_owe_one_another_until_the_last_is_done(series):
    whole = sweep(series, every_measure(), store=Store(series.state / "whole"))
    store = Store(series.state / "shared")
    first = sweep(series, every_measure(), store=store, shard=Shard(1, 2))
    assert first.owed == ("checkpoint-10", "the random model")
    assert first["language_loss"]["step"].to_numpy().tolist() == [0, 20]
    with pytest.raises(InputError, match="still to be measured by other shards: checkpoint-10"):
        analyse(first)
    last = sweep(series, every_measure(), store=store, shard=Shard(2, 2))
    assert last.owed == ()
    assert contents(store.directory) == contents(series.state / "whole")
    for measure in whole:
        xr.testing.assert_identical(last[measure], whole[measure])


def test_a_shard_without_checkpoints_has_nothing_to_do(series):
    results = sweep(series, every_measure()[:1], shard=Shard(4, 4))
    assert results.owed == ("checkpoint-0", "checkpoint-10", "checkpoint-20")
    assert not (series.state / "store").exists()


def test_the_cost_of_a_shard_is_that_of_its_part(series):
    costs = [plan(series, every_measure(), shard=Shard(i, 2)) for i in (1, 2)]
    assert [cost["checkpoints"] for cost in costs] == [2, 1]
    assert costs[0]["bytes_to_read"] == 2 * costs[1]["bytes_to_read"]


def test_the_cost_is_estimated_from_items_of_every_language(series, monkeypatch):
    """A measure may be about one language only, and streams hold one after the other."""
    tried, observer = [], LanguageLoss.observer

    def trying(self, anatomy, reading, shard):
        tried.extend(reading.languages[reading.language[item.index]] for item in shard)
        return observer(self, anatomy, reading, shard)

    monkeypatch.setattr(LanguageLoss, "observer", trying)
    plan(series, [LanguageLoss(TextStream(TEXTS, tokens=200, window=4))])
    assert len(tried) <= SAMPLE
    assert set(tried) == set(TEXTS)


@pytest.mark.parametrize("moment", ["save_part", "has_part"])
def test_a_result_that_another_process_finishes_meanwhile_is_taken_as_it_is(series, monkeypatch, moment):
    monkeypatch.setattr(executor_module, "OBSERVED", 16)
    loss = every_measure()[:1]
    done = Store(series.state / "done")
    sweep(series, loss, store=done)
    overtaken, act = [], getattr(Store, moment)

    def other_process(store, key, *arguments):
        result = act(store, key, *arguments)
        if len(overtaken) < 2 and key not in overtaken:  # once it has begun, the other one ends
            overtaken.append(key)
            whole = done.load(key)
            store.save(key, whole, about={name: whole.attrs[name] for name in ("step", "readout_error")})
        return result

    mine = Store(series.state / "mine")
    with monkeypatch.context() as patch:
        patch.setattr(Store, moment, other_process)
        sweep(series, loss, store=mine)
    assert len(overtaken) == 2
    sweep(series, loss, store=mine)  # tidies
    assert contents(mine.directory) == contents(done.directory)


def test_parts_that_vanish_without_a_whole_are_not_passed_over(series, monkeypatch):
    def lost(store, key, shard, result):
        pass

    monkeypatch.setattr(Store, "save_part", lost)
    with pytest.raises(KeyError):
        sweep(series, every_measure()[:1])


def race(run: Path, store: Path, shards: list[str]) -> None:
    """Fork a process per shard and let them all begin at the same moment."""
    import babelscope.checkpoints.live  # noqa: F401 - before the forks

    executor_module.OBSERVED = PARTS
    gate, open_gate = os.pipe()
    children = []
    for shard in shards:
        child = os.fork()
        if child == 0:
            os.close(open_gate)
            os.read(gate, 1)  # returns when every writer is gone
            try:
                sweep(Series.open(run), two_measures(), store=Store(store), shard=Shard.parse(shard))
                os._exit(0)
            except BaseException:  # noqa: BLE001 - a forked child must not return into the parent's code
                traceback.print_exc()
                os._exit(1)
        children.append(child)
    os.close(open_gate)
    assert [os.waitpid(child, 0)[1] for child in children] == [0] * len(children)


def test_processes_at_the_same_time_leave_what_one_leaves(make_run, monkeypatch):
    """Two shards, and a whole run that computes what the shards compute."""
    monkeypatch.setattr(executor_module, "OBSERVED", PARTS)
    series = Series.open(make_run(steps=(0, 10)))
    shared = series.state / "shared"
    arguments = [str(series.directory), str(shared), json.dumps(["1/2", "2/2", "1/1"])]
    done = subprocess.run(
        [sys.executable, "-m", "tests.analyses.test_sharding", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr[-3000:]
    alone = Store(series.state / "alone")
    sweep(series, two_measures(), store=alone)
    assert contents(shared) == contents(alone.directory)


def test_bfloat16_is_kept_apart_and_agrees_with_float32(series):
    full = sweep(series, every_measure())
    half = sweep(series, every_measure(), dtype="bfloat16")
    stored = len(list((series.state / "store").rglob("*.nc")))
    nulls = sum(isinstance(measure, FromModel) and measure.random_init for measure in every_measure())
    assert stored == 2 * (len(with_sources(every_measure())) * len(STEPS) + nulls)
    error = np.abs(half["working_language"]["share"] - full["working_language"]["share"])
    assert 0 < error.max() < 0.01
    loss, rounded = (r["language_loss"]["nll"].to_numpy() for r in (full, half))
    np.testing.assert_allclose(rounded, loss, rtol=0.01)
    assert not np.array_equal(rounded, loss)


def test_another_dtype_is_refused(series):
    with pytest.raises(InputError, match="dtype 'float16': models run in float32 or bfloat16"):
        sweep(series, every_measure(), dtype="float16")


if __name__ == "__main__":
    race(Path(sys.argv[1]), Path(sys.argv[2]), json.loads(sys.argv[3]))
