"""Finding checkpoints: every trainer's names, the hub's cache, and directories that nobody tidied."""

from __future__ import annotations

import json
import os
from pathlib import Path
from types import SimpleNamespace

import huggingface_hub
import pytest
from huggingface_hub.errors import LocalEntryNotFoundError
from hypothesis import given
from hypothesis import strategies as st

from babelscope.checkpoints.audit import audit, flagged
from babelscope.checkpoints.layouts import find, step_within
from babelscope.checkpoints.series import Series
from babelscope.cli import main
from babelscope.core.errors import InputError
from tests.checkpoints.folders import write_checkpoint, write_revision

REPO = "EleutherAI/pythia-70m"


def folders(directory: Path, *names: str) -> Path:
    for name in names:
        (directory / name).mkdir(parents=True)
    return directory


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """An empty cache of the hub's, and no network."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    return tmp_path / "hub"


@pytest.fixture
def online(cache, monkeypatch):
    """The hub lists steps 0, 1 and 1000; returns what was downloaded, to which a fake download adds."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    downloaded: list[tuple[str, list[str]]] = []

    def list_repo_refs(repo):
        branches = [SimpleNamespace(name=name) for name in ("main", "step1000", "step0", "step1")]
        return SimpleNamespace(branches=branches, tags=[])

    def snapshot_download(repo, *, revision, allow_patterns):
        downloaded.append((revision, allow_patterns))
        snapshot = cache / "models--EleutherAI--pythia-70m" / "snapshots" / revision
        if not snapshot.exists():
            write_checkpoint(snapshot)
            if not any("safetensors" in pattern for pattern in allow_patterns):
                (snapshot / "model.safetensors").unlink()
        return str(snapshot)

    monkeypatch.setattr(huggingface_hub, "list_repo_refs", list_repo_refs)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
    return downloaded


@pytest.mark.parametrize(
    "name",
    ["checkpoint-{}", "step{}", "step_{}", "step-{}", "global_step{}", "iter_{}", "iter-{}"],
)
def test_every_trainers_names_are_found_in_order_of_step(tmp_path, name):
    made = folders(tmp_path, *(name.format(step) for step in (1000, 2, 30, 0)), "data", "checkpoint-best")
    found = find(made)
    assert [place.step for place in found.places] == [0, 2, 30, 1000]
    assert [place.path for place in found.places] == [made / name.format(step) for step in (0, 2, 30, 1000)]
    assert found.findings == []


@given(st.lists(st.integers(0, 9_999_999), min_size=1, max_size=8, unique=True))
def test_zero_padding_changes_neither_step_nor_order(steps):
    padded = {step_within(f"runs/x/iter_{step:07d}"): f"iter_{step:07d}" for step in steps}
    assert sorted(padded) == sorted(steps)
    assert [padded[step] for step in sorted(steps)] == sorted(padded.values())


def test_zero_padded_folders_come_in_order(tmp_path):
    found = find(folders(tmp_path, "iter_0000100", "iter_0000020", "iter_1000000"))
    assert [place.step for place in found.places] == [20, 100, 1_000_000]


def test_tokens_are_read_from_the_name_where_it_tells_them(tmp_path):
    found = find(folders(tmp_path, "step1000-tokens4B", "step2000-tokens500M", "step0"))
    assert [(p.step, p.tokens_seen) for p in found.places] == [
        (0, None),
        (1000, 4 * 10**9),
        (2000, 500 * 10**6),
    ]


def test_a_second_stage_of_training_is_another_layout(tmp_path):
    stages = ["stage1-step10-tokens1B", "stage1-step20-tokens2B", "stage2-ingredient1-step5-tokens3B"]
    found = find(folders(tmp_path, *stages))
    assert [place.name for place in found.places] == stages[:2]
    assert [(f.step, f.kind) for f in found.findings] == [(None, "another layout")]
    assert "1 named stage2-ingredient1-stepN" in found.findings[0].detail


def test_a_pattern_chooses_among_folders(tmp_path):
    made = folders(tmp_path / "run", "step1", "step10", "step20")
    assert [place.step for place in find(f"{made}@step1*").places] == [1, 10]


def test_of_two_layouts_the_one_with_most_checkpoints_is_the_series(tmp_path):
    found = find(folders(tmp_path, "checkpoint-10", "checkpoint-20", "iter_10"))
    assert [place.name for place in found.places] == ["checkpoint-10", "checkpoint-20"]
    assert [(f.kind, f.detail) for f in found.findings] == [
        ("another layout", "1 named iter_N are left out: most are checkpoint-N")
    ]


def test_two_layouts_of_one_size_are_refused(tmp_path):
    with pytest.raises(InputError, match="holds 1 checkpoints named checkpoint-N and as many named stepN"):
        find(folders(tmp_path, "checkpoint-10", "step20"))


@pytest.mark.parametrize("names", [("iter_10", "iter_0010"), ("step10-tokens1B", "step10-tokens2B")])
def test_two_folders_for_one_step_are_refused(tmp_path, names):
    with pytest.raises(InputError, match=r"holds step 10 twice, .* and .*; move one elsewhere") as refused:
        find(folders(tmp_path, *names, names[0].replace("10", "30")))
    assert all(name in str(refused.value) for name in names)


def test_what_a_run_in_progress_has_not_finished_is_a_finding(tmp_path):
    names = (
        "checkpoint-10",
        "tmp-checkpoint-20",
        "checkpoint-30.part",
        "checkpoint-40_tmp",
        "checkpoint-best",
    )
    found = find(folders(tmp_path, *names))
    assert [place.step for place in found.places] == [10]
    assert [(f.step, f.kind) for f in found.findings] == [(n, "unfinished") for n in (20, 30, 40)]


def test_links_to_nothing_loops_and_files_are_findings(tmp_path):
    folders(tmp_path, "checkpoint-10")
    (tmp_path / "checkpoint-20").symlink_to(tmp_path / "gone")
    (tmp_path / "checkpoint-30").symlink_to(tmp_path / "checkpoint-30")
    (tmp_path / "checkpoint-40").write_text("")
    (tmp_path / "checkpoint-50").symlink_to(tmp_path / "checkpoint-10")
    found = find(tmp_path)
    assert [place.step for place in found.places] == [10, 50]
    assert [(f.step, f.kind) for f in found.findings] == [(n, "unreadable") for n in (20, 30, 40)]
    assert [f.detail for f in found.findings][1:] == [
        "checkpoint-30 is a link to nothing",
        "checkpoint-40 is not a folder",
    ]


def test_a_directory_that_may_not_be_listed_is_refused(tmp_path, monkeypatch):
    (tmp_path / "run").mkdir()

    def denied(path):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(os, "scandir", denied)
    with pytest.raises(InputError, match="run cannot be listed: Permission denied"):
        find(tmp_path / "run")


def test_names_that_are_not_utf8_are_left_alone_and_can_be_printed(tmp_path, capsys):
    run = Path(os.fsdecode(bytes(tmp_path) + b"/run\xff"))
    write_checkpoint(run / "checkpoint-10", log=[])
    (run / os.fsdecode(b"checkpoint-\xff")).mkdir()
    (run / os.fsdecode(b"tmp-checkpoint-20\xff")).mkdir()
    found = find(run)
    assert [place.step for place in found.places] == [10]
    found.findings[0].detail.encode()
    assert main(["inspect", str(run)]) == 1
    assert "checkpoint-20\\udcff was not written" in capsys.readouterr().out


def test_thousands_of_entries_are_listed_once_and_none_is_read(tmp_path, monkeypatch):
    for step in range(1_000):
        (tmp_path / f"checkpoint-{step}").mkdir()
        (tmp_path / f"log-{step}.txt").touch()
    listed, scandir = [], os.scandir
    monkeypatch.setattr(os, "scandir", lambda path: listed.append(path) or scandir(path))
    monkeypatch.setattr("builtins.open", lambda *_: pytest.fail("a file was opened"))
    assert [place.step for place in find(tmp_path).places] == list(range(1_000))
    assert listed == [tmp_path]


def test_the_hubs_cache_is_read_as_a_directory(cache):
    for step in (1000, 0, 512):
        write_revision(cache, REPO, f"step{step}", commit=f"c{step}")
    write_revision(cache, REPO, "main", commit="cmain")
    folder = cache / "models--EleutherAI--pythia-70m"
    found = find(folder)
    assert [(p.step, p.name, p.path) for p in found.places] == [
        (step, f"step{step}", folder / "snapshots" / f"c{step}") for step in (0, 512, 1000)
    ]


def test_what_is_cached_is_found_without_a_network(cache):
    for step in (1000, 0, 512):
        write_revision(cache, REPO, f"step{step}", commit=f"c{step}")
    series = Series.open(f"{REPO}@step*")
    assert series.steps == [0, 512, 1000]
    assert series.directory == cache / "models--EleutherAI--pythia-70m"
    assert {f.kind for f in series.findings} == {"no history"}
    assert Series.open(f"{REPO}@step1*").steps == [1000]


def test_a_half_fetched_revision_is_left_out_where_there_is_no_network(cache):
    write_revision(cache, REPO, "step0", commit="c0")
    (write_revision(cache, REPO, "step1", commit="c1") / "model.safetensors").resolve().unlink()
    found = find(f"{REPO}@step*")
    assert [place.step for place in found.places] == [0]
    assert [(f.step, f.kind) for f in found.findings] == [(1, "not cached")]


def test_what_is_not_cached_is_refused_without_a_network_and_says_what_is(cache):
    write_revision(cache, REPO, "main", commit="c")
    with pytest.raises(InputError) as refused:
        find(f"{REPO}@step*")
    for words in ("nothing that matches", "(there: main)", "offline mode", f"hf download {REPO}", str(cache)):
        assert words in str(refused.value)


def test_the_command_refuses_what_is_not_cached_in_one_line(cache, capsys):
    assert main(["inspect", f"{REPO}@step*"]) == 2
    printed = capsys.readouterr()
    assert (printed.out, printed.err.count("\n")) == ("", 1)
    assert "hf download" in printed.err


def test_a_pattern_that_matches_nothing_says_which_revisions_there_are(online):
    with pytest.raises(
        InputError, match=r"no revision that matches 'epoch\*'.* main, step0, step1, step1000"
    ):
        find(f"{REPO}@epoch*")


def test_a_checkpoint_is_fetched_when_it_is_needed_and_no_other(online, cache):
    write_revision(cache, REPO, "step1", commit="c1")
    series = Series.open(f"{REPO}@step*")
    assert series.steps == [0, 1, 1000]
    assert [checkpoint.is_here for checkpoint in series] == [False, True, False]
    assert series.config["model_type"] == "gpt2"  # of the one that is here
    assert online == []
    assert (series.at(1000).path / "model.safetensors").exists()
    assert series.at(1000).path.name == "step1000"
    assert [revision for revision, _ in online] == ["step1000"]
    assert [checkpoint.is_here for checkpoint in series] == [False, True, True]


def test_the_description_of_a_model_is_fetched_without_its_weights(online):
    series = Series.open(f"{REPO}@step*")
    assert series.config["model_type"] == "gpt2"
    assert [revision for revision, _ in online] == ["step0"]
    assert not any("safetensors" in pattern or ".bin" in pattern for pattern in online[0][1])


def test_binary_weights_are_asked_for_only_where_there_are_no_safetensors(online, cache):
    series = Series.open(f"{REPO}@step*")
    _ = series.at(0).path
    (cache / "models--EleutherAI--pythia-70m" / "snapshots" / "step1").mkdir()
    with pytest.raises(InputError, match=r"step1 is not in the cache and cannot be downloaded: has no model"):
        _ = series.at(1).path
    binary = [(revision, any(".bin" in pattern for pattern in patterns)) for revision, patterns in online]
    assert binary == [("step0", False), ("step1", False), ("step1", True)]


def test_a_revision_named_in_full_that_is_cached_asks_nobody(cache, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr(huggingface_hub, "list_repo_refs", lambda _: pytest.fail("the hub was asked"))
    write_revision(cache, REPO, "step1000", commit="c")
    assert Series.open(f"{REPO}@step1000").steps == [1000]


def test_a_network_that_fails_is_a_finding_where_something_is_cached(cache, monkeypatch):
    def failing(_):
        raise ConnectionError("no route\nto host")

    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr(huggingface_hub, "list_repo_refs", failing)
    write_revision(cache, REPO, "step1000", commit="c")
    (finding,) = find(f"{REPO}@step*").findings
    assert finding.kind == "hub not reached"
    assert finding.detail.endswith("no route")


def test_a_download_that_fails_is_refused_in_one_line(online, monkeypatch):
    def failing(*_, **__):
        raise LocalEntryNotFoundError("no\nroute")

    series = Series.open(f"{REPO}@step*")
    monkeypatch.setattr(huggingface_hub, "snapshot_download", failing)
    with pytest.raises(
        InputError, match=r"pythia-70m@step0 is not in the cache and cannot be downloaded: no$"
    ):
        _ = series.at(0).path


def test_an_audit_goes_on_past_a_revision_that_cannot_be_fetched(online, monkeypatch):
    download = huggingface_hub.snapshot_download

    def failing(repo, *, revision, allow_patterns):
        if revision == "step1":
            raise LocalEntryNotFoundError("the line is dead")
        return download(repo, revision=revision, allow_patterns=allow_patterns)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", failing)
    series = Series.open(f"{REPO}@step*")
    findings = audit(series)
    (missed,) = (finding for finding in findings if finding.kind == "not fetched")
    assert (missed.step, "the line is dead" in missed.detail) == (1, True)
    assert flagged(findings) >= {1}
    assert {revision for revision, _ in online} == {"step0", "step1000"}


def test_the_cost_of_inspecting_revisions_is_said_without_fetching_weights(online, capsys):
    assert main(["inspect", f"{REPO}@step*", "--dry-run", "--json"]) == 0
    cost = json.loads(capsys.readouterr().out)
    assert (cost["checkpoints_to_fetch"], cost["bytes_to_read"]) == (3, 0)
    assert not any("safetensors" in pattern for _, patterns in online for pattern in patterns)
