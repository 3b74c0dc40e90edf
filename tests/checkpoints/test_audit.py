"""Planted faults are diagnosed item by item, a clean series is left alone, and weights are read once."""

from __future__ import annotations

import builtins
import json
import shutil
from collections import Counter
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from babelscope.checkpoints import fingerprints
from babelscope.checkpoints.audit import audit, flagged, unread
from babelscope.checkpoints.fingerprints import Fingerprints, fingerprint
from babelscope.checkpoints.series import Series
from babelscope.checkpoints.spacing import gaps
from babelscope.checkpoints.weights import tensors
from babelscope.core.errors import InputError
from tests.walks import REGIMES, SPACINGS, blank_out, write_series, write_weights

EVEN = list(range(0, 2400, 100))


@pytest.fixture
def make_walk(tmp_path, tmp_path_factory):
    scratch = tmp_path_factory.getbasetemp() / "template"

    def make(steps=tuple(EVEN), name="run", **options) -> Path:
        return write_series(tmp_path / name, steps, scratch=scratch, **options)

    return make


@pytest.fixture
def reads(monkeypatch):
    """Every stretch of a checkpoint's weight files that is read while this is in use: (file, start, stop)."""
    log: list[tuple[Path, int, int]] = []

    class Recording:
        def __init__(self, handle, path):
            self.handle, self.path = handle, path

        def read(self, size=-1):
            start = self.handle.tell()
            data = self.handle.read(size)
            log.append((self.path, start, start + len(data)))
            return data

        def __getattr__(self, name):
            return getattr(self.handle, name)

        def __enter__(self):
            return self

        def __exit__(self, *error):
            self.handle.close()

    real = builtins.open

    def opened(file, *arguments, **options):
        handle = real(file, *arguments, **options)
        path = Path(file) if isinstance(file, str | Path) else Path()
        is_weights = path.suffix == ".safetensors" and path.parent.name.startswith("checkpoint-")
        return Recording(handle, path) if is_weights else handle

    monkeypatch.setattr(builtins, "open", opened)
    return log


def weights_read(log) -> Counter[Path]:
    """Bytes read after the header, by file; reading any of them twice fails."""
    total: Counter[Path] = Counter()
    for path in {path for path, _, _ in log}:
        begin = 8 + int.from_bytes(path.read_bytes()[:8], "little")
        stretches = sorted((max(a, begin), b) for p, a, b in log if p == path and b > begin)
        assert all(b <= a for (_, b), (a, _) in pairwise(stretches))
        total[path] = sum(b - a for a, b in stretches)
    return +total


def change(run: Path, step: int, edit) -> None:
    folder = run / f"checkpoint-{step}"
    write_weights(folder, edit(load_file(folder / "model.safetensors")))


def exchange(a: Path, b: Path) -> None:
    a.rename(a.with_name("aside"))
    b.rename(a)
    a.with_name("aside").rename(b)


def kinds(findings) -> set[tuple[int | None, str]]:
    return {(finding.step, finding.kind) for finding in findings}


def test_planted_faults_are_diagnosed_item_by_item_and_each_weight_is_read_once(make_walk, reads):
    run = make_walk()
    tensor_names = list(load_file(run / "checkpoint-0/model.safetensors"))
    half, broken = tensor_names[::2], tensor_names[3]
    shutil.copy(run / "checkpoint-200/model.safetensors", run / "checkpoint-600")
    of_another = load_file(run / "checkpoint-1700/model.safetensors")
    change(run, 900, lambda own: own | {name: of_another[name] for name in half})

    def not_a_number(own):
        own[broken].flat[7] = np.nan
        return own

    change(run, 1100, not_a_number)
    file = run / "checkpoint-1300/model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])
    file = run / "checkpoint-1500/tokenizer.json"
    file.write_text(file.read_text().replace("<|endoftext|>", "<|end|>"))
    exchange(run / "checkpoint-400", run / "checkpoint-2000")
    shutil.rmtree(run / "checkpoint-1900")
    reads.clear()

    series = Series.open(run)
    findings = audit(series)
    assert kinds(findings) == {
        (400, "misplaced"),
        (400, "history of another step"),
        (600, "duplicate"),
        (900, "foreign tensors"),
        (1100, "non-finite weights"),
        (1300, "unreadable"),
        (1500, "tokenizer drift"),
        (2000, "misplaced"),
        (2000, "history of another step"),
        (1900, "missing steps"),
    }
    assert len(findings) == 10
    said = {(finding.step, finding.kind): finding.detail for finding in findings}
    assert "very weights of step 200" in said[600, "duplicate"]
    assert f"{len(half)} of {len(tensor_names)} tensors of step 1700" in said[900, "foreign tensors"]
    assert f"{broken} (1 of " in said[1100, "non-finite weights"]
    assert "fit at step 2000" in said[400, "misplaced"]
    assert "of step 2000" in said[400, "history of another step"]
    assert flagged(findings) == {400, 600, 900, 1100, 1300, 1500, 2000}
    assert weights_read(reads) == {
        c.path / "model.safetensors": sum(t.stop - t.start for t in tensors(c.path)) for c in series
    }


@pytest.mark.parametrize("decay", [False, True])
@pytest.mark.parametrize(
    ("spacing", "regime"), [("even", "both"), ("log", "random walk"), ("log, then even", "mostly noise")]
)
def test_a_clean_noisy_series_of_30_steps_gives_no_finding(make_walk, spacing, regime, decay):
    run = make_walk(SPACINGS[spacing], regime=REGIMES[regime], decay=decay)
    assert audit(Series.open(run)) == ()


@pytest.mark.parametrize("plant", ["scaled", "another seed"])
def test_one_foreign_checkpoint_is_flagged_and_its_neighbours_are_not(make_walk, plant):
    run = make_walk()
    if plant == "scaled":
        change(run, 1200, lambda own: {name: 1.5 * tensor for name, tensor in own.items()})
        expected = "norm"
    else:
        other = make_walk(name="other", seed=1) / "checkpoint-1200/model.safetensors"
        rng = np.random.default_rng(0)  # both runs start from the same weights; not when permuted
        foreign = {n: rng.permutation(t.ravel()).reshape(t.shape) for n, t in load_file(other).items()}
        change(run, 1200, lambda _: foreign)
        expected = "outlier"
    assert kinds(audit(Series.open(run))) == {(1200, expected)}


def test_all_names_shuffled_is_seen_without_any_history(make_walk):
    run = make_walk()
    order = np.random.default_rng(3).permutation(len(EVEN))
    for step in EVEN:
        (run / f"checkpoint-{step}").rename(run / f"aside-{step}")
    for step, place in zip(EVEN, order, strict=True):
        (run / f"aside-{step}").rename(run / f"checkpoint-{EVEN[place]}")
        (run / f"checkpoint-{EVEN[place]}/trainer_state.json").unlink()
    misplaced = {f.step for f in audit(Series.open(run)) if f.kind == "misplaced"}
    assert len(misplaced) >= len(EVEN) - 3  # the other direction along the path may leave one or two in place


def test_tensors_that_are_never_trained_or_frozen_for_a_while_are_nobody_elses(make_walk):
    run = make_walk()
    first = load_file(run / "checkpoint-0/model.safetensors")
    never, late = list(first)[:2], list(first)[6:9]
    for step in EVEN:
        still = never + late if step < 900 else never
        change(run, step, lambda own, still=still: own | {name: first[name] for name in still})
    assert audit(Series.open(run)) == ()


def test_half_of_the_next_checkpoint_is_foreign_to_either(make_walk):
    run = make_walk()
    following = load_file(run / "checkpoint-1000/model.safetensors")
    change(run, 900, lambda own: own | {name: following[name] for name in list(own)[::2]})
    (finding,) = audit(Series.open(run))
    assert finding.kind == "foreign tensors"
    assert finding.step in (900, 1000)  # the bytes are equally far from the neighbours of both


def test_a_copy_made_by_a_step_at_learning_rate_zero_is_no_fault(make_walk):
    steps = [0, 1, 2, 4, 8, 16]
    run = make_walk(steps)
    shutil.copy(run / "checkpoint-0/model.safetensors", run / "checkpoint-1")
    assert kinds(audit(Series.open(run))) == {(1, "duplicate")}
    state = run / "checkpoint-16/trainer_state.json"
    document = json.loads(state.read_text())
    document["log_history"][0] |= {"step": 1, "learning_rate": 0.0}
    state.write_text(json.dumps(document))
    assert audit(Series.open(run)) == ()


def test_folders_that_count_something_else_than_steps_are_one_finding_and_flag_nothing(make_walk):
    run = make_walk()
    for epoch, step in enumerate(EVEN):
        (run / f"checkpoint-{step}").rename(run / f"checkpoint-{epoch + 1}")
    findings = audit(Series.open(run))
    assert kinds(findings) == {(None, "history of another step")}
    assert flagged(findings) == set()


def test_a_second_audit_reads_no_weights_and_one_more_checkpoint_costs_one(make_walk, reads):
    run = make_walk(EVEN[:6])
    shutil.copy(run / "checkpoint-200/model.safetensors", run / "checkpoint-400")
    newest = run / "checkpoint-500"
    newest.rename(run / "aside")
    first = audit(Series.open(run))
    (run / "aside").rename(newest)
    for file in run.glob("checkpoint-[0-4]*/model.safetensors"):
        blank_out(file)
    reads.clear()
    assert [checkpoint.step for checkpoint in unread(Series.open(run))] == [500]
    assert kinds(audit(Series.open(run))) == kinds(first) == {(400, "duplicate")}
    assert set(weights_read(reads)) == {newest / "model.safetensors"}
    reads.clear()
    audit(Series.open(run))
    assert not weights_read(reads)


def test_a_changed_checkpoint_is_read_again(make_walk):
    run = make_walk(EVEN[:6])
    assert audit(Series.open(run)) == ()
    shutil.copy(run / "checkpoint-200/model.safetensors", run / "checkpoint-300")
    assert kinds(audit(Series.open(run))) == {(300, "duplicate")}


def test_the_audit_leaves_the_fingerprints_where_a_sweep_looks_for_them(make_walk, monkeypatch):
    series = Series.open(make_walk(EVEN[:4]))
    expected = {c.step: fingerprint(c.path) for c in series}
    audit(series)
    monkeypatch.setattr(fingerprints, "_hash", lambda _: pytest.fail("hashed again"))
    assert {c.step: series.fingerprints.of(c.path) for c in series} == expected
    kept = Fingerprints(series.state / "fingerprints")
    assert {c.step: kept.of(c.path) for c in series} == expected


def test_a_checkpoint_that_is_replaced_while_its_series_is_open_is_a_finding(make_walk):
    series = Series.open(make_walk(EVEN[:5]))
    file = series.at(200).path / "model.safetensors"
    file.write_bytes(file.read_bytes()[:500])
    findings = audit(series)
    assert kinds(findings) == {(200, "unreadable")}
    left = series.without(flagged(findings), findings)
    assert (left.steps, left.findings) == ([0, 100, 300, 400], findings)


def test_a_state_that_cannot_be_kept_is_refused_before_anything_is_read(make_walk, reads):
    series = Series.open(make_walk(EVEN[:2]))
    series.state.write_text("a file where a directory should be")
    reads.clear()
    with pytest.raises(InputError, match=r"\.babelscope/contents cannot be made: "):
        audit(series)
    assert not weights_read(reads)


def test_leaving_out_everything_is_refused_with_the_reasons(make_walk):
    series = Series.open(make_walk(EVEN[:2]))
    for checkpoint in series:
        write_weights(checkpoint.path, {"a": np.full(3, np.nan, np.float32)})
    findings = audit(series)
    with pytest.raises(InputError, match="no checkpoint without a finding: checkpoint-0: not finite in a "):
        series.without(flagged(findings), findings)


@pytest.mark.parametrize(
    ("steps", "missing"),
    [
        ([0, 10, 20, 40, 50, 60], [30]),
        ([10, 20, 30, 60, 70, 80, 100, 110, 120], [40, 90]),
        ([0, 100, 200, 300, 400, 450], []),
        ([*range(0, 1000, 100), 1050], []),
        ([0, 1, 2, 4, 8, 16, 64, 128, 256, 512], [32]),
        ([*(2**k for k in range(5, 11)), 4096, 8192, 16384], [2048]),
        ([0, 20, 40, 80, 160, 640, 1280, 2560], [320]),
        ([0, *(2**k for k in range(10)), *range(1000, 143_001, 1000)], []),
        ([0, *(2**k for k in range(10)), *range(1000, 9000, 1000), *range(10_000, 20_000, 1000)], [9000]),
        ([0, 1, 2, 3, 4, 5, 7, 9, 12, 16, 22, 30, 41, 56, 76, 103, 140, 190, 258], []),
        ([1, 2, 4, 16, 32, 64], [8]),
        ([*range(100, 103), *range(104, 107), *range(108, 120)], []),
        ([0, 3, 17, 100, 120, 900, 905], []),
        ([0, 1, 4, 9, 16, 25, 36, 49, 64], []),
        ([5], []),
        ([], []),
    ],
)
def test_missing_steps_are_gaps_in_a_spacing_that_is_regular_around_them(steps, missing):
    assert [step for step, _ in gaps(steps)] == missing


@pytest.mark.parametrize("total", [800, 5000, 143_000])
@pytest.mark.parametrize("n", [12, 20, 30, 60])
def test_rounded_log_spaced_steps_have_no_gap(total, n):
    assert gaps([0, *sorted({round(s) for s in np.geomspace(1, total, n)})]) == []
