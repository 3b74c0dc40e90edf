"""`babelscope neurons` as a user meets it."""

from __future__ import annotations

import io
import json

import pandas as pd
import pytest

from babelscope.checkpoints import live
from babelscope.cli import main
from babelscope.interp import single_ablation
from babelscope.interp.single_ablation import sample
from tests.cli.test_commands import with_text

ASKED = ["--pivot", "python", "--target", "php", "--tokens", "120"]


@pytest.fixture(autouse=True)
def few_neurons(monkeypatch):
    """Of the 504 single neurons that are ablated one after another."""
    monkeypatch.setattr(single_ablation, "sample", lambda size, neurons: sample(size, 24))


@pytest.fixture
def run(make_run):
    return with_text(make_run(steps=(0, 10, 20)))


def document(capsys):
    return json.loads(capsys.readouterr().out)


def stored(run):
    return {path.name: path.stat().st_mtime_ns for path in (run / ".babelscope" / "store").rglob("*.nc")}


def test_scores_sets_effects_and_lives_are_found_written_and_not_computed_twice(run, capsys):
    command = ["neurons", str(run), *ASKED, "--ablate", "2", "--exact", "1", "--json"]
    assert main(command) == 0
    found = document(capsys)
    tables = found["tables"]
    assert {row["step"] for row in tables["selected"]} == {0, 10, 20}
    assert {row["step"] for row in tables["specificity"]} == {10, 20}
    assert {row["step"] for row in tables["validity"]} == {20}
    assert {row["method"] for row in tables["validity"]} >= {
        "plnd_ffn",
        "gradient_attribution",
        "direct_effect",
    }
    assert "Attribution (step 20)" in found["verdict"]
    table = pd.read_csv(found["files"]["csv"])
    assert len(table) == len(tables["neurons"])
    assert {"language", "layer", "neuron", "born", "died"} <= set(table)
    page = (run / "analysis" / "neurons.html").read_text("utf-8")
    assert all(f'id="neuron-{part}"' in page for part in ("effects", "scores", "births", "origin"))

    before = stored(run)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(live, "open_model", None)  # a sweep with nothing to do reads no weights
        assert main(command) == 0
    assert document(capsys) == found
    assert stored(run) == before


def test_the_report_of_everything_shows_neurons_where_they_are_asked_for(run, capsys):
    assert main(["analyze", str(run), *ASKED, "--also", "neurons", "--json"]) == 0
    found = document(capsys)
    assert found["neurons"]["tables"]["selected"]
    assert 'id="neuron-effects"' in (run / "analysis" / "report.html").read_text("utf-8")


@pytest.mark.parametrize(
    "options",
    [
        ["--rule", "frozen"],
        ["--rule", "fdr", "--score", "gradient_attribution", "--most", "0.01"],
        ["--rule", "fdr", "--score", "plnd_ffn", "--attention"],
    ],
)
def test_other_scores_and_rules_select_too(run, capsys, options):
    assert main(["neurons", str(run), *ASKED, *options, "--ablate", "0", "--exact", "0", "--json"]) == 0
    found = document(capsys)
    assert found["rule"] == options[1]
    assert len(found["tables"]["selected"]) == 6
    assert "validity" not in found["tables"]
    assert ("attention" in found["tables"]) == ("--attention" in options)


def test_a_dry_run_says_what_each_part_would_cost_and_stores_nothing(run, capsys):
    assert main(["neurons", str(run), *ASKED, "--dry-run", "--exact", "1", "--json"]) == 0
    cost = document(capsys)
    assert [(name, part["checkpoints"]) for name, part in cost.items()] == [
        ("scores", 3),
        ("sets", 3),
        ("single neurons", 1),
    ]
    assert stored(run) == {}


def test_shards_score_their_parts_and_whoever_finds_nothing_owed_goes_on(run, capsys):
    command = ["neurons", str(run), *ASKED, "--exact", "0", "--ablate", "1", "--json"]
    assert main([*command, "--shard", "1/2"]) == 0
    assert document(capsys)["owed"]
    assert main([*command, "--shard", "2/2"]) == 0
    assert document(capsys)["tables"]["specificity"]


def test_a_dry_run_computes_nothing_for_other_shards(run, capsys):
    """Though this shard's scores are all there, and a rule could be made were the others'."""
    command = ["neurons", str(run), *ASKED, "--rule", "frozen", "--exact", "0", "--ablate", "0"]
    assert main([*command, "--shard", "1/2"]) == 0
    assert "once these are all there, each shard ablates its part" in capsys.readouterr().out
    before = stored(run)
    assert main([*command, "--shard", "1/2", "--dry-run"]) == 0
    assert "scores, results missing: 0" in capsys.readouterr().out
    assert stored(run) == before


def test_the_neurons_of_one_checkpoint_are_a_table_too(make_run):
    run = with_text(make_run(steps=(0,)))
    options = ["--rule", "fdr", "--fdr", "0.2", "--score", "direct_effect", "--ablate", "0", "--exact", "0"]
    assert main(["neurons", str(run), *ASKED, *options]) == 0
    page = (run / "analysis" / "neurons.html").read_text("utf-8")
    for said in ("One checkpoint has no training to follow", "No sets were ablated.", "No single neurons"):
        assert said in page
    assert {"language", "layer", "neuron", "born"} <= set(pd.read_csv(run / "analysis" / "neurons.csv"))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--score", "plnd_ffn"], "give --rule fdr"),
        (["--rule", "fdr", "--fdr", "1.5"], "false-discovery rate of 1.5"),
        (["--rule", "fdr", "--most", "0"], "at most 0 of all neurons"),
        (["--rule", "fdr", "--fdr", "0.0001"], "0.0001"),
        (["--dtype", "int8"], "'int8'"),
    ],
)
def test_what_cannot_work_is_refused_before_any_weights_are_read(run, capsys, options, words):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(live, "open_model", None)
        assert main(["neurons", str(run), *ASKED, *options]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert words in printed.err
    assert io.StringIO(printed.err).readlines()[1:] == []
