"""Commands as a user meets them: what is printed where, and the exit code."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from babelscope.analyses.export import formats
from babelscope.analyses.neuron_questions import NeuronQuestions
from babelscope.cli import COMMANDS, main
from babelscope.corpora.mix import LanguageShare, Mix
from tests.questions import TEXTS
from tests.walks import blank_out

ANALYZE = ["--pivot", "python", "--target", "php", "--tokens", "120"]
STEPS = (0, 1, 2, 4, 8, 16, 32)


def with_text(run: Path) -> Path:
    (run / "heldout").mkdir(exist_ok=True)
    for language, texts in TEXTS.items():
        lines = "".join(json.dumps({"text": text}) + "\n" for text in texts)
        (run / "heldout" / f"{language}.jsonl").write_text(lines)
    return run


@pytest.fixture
def refused(capsys):
    """Run a command that must be refused: code 2, one line on stderr, nothing on stdout."""

    def run(*arguments: str | Path) -> str:
        assert main([str(argument) for argument in arguments]) == 2
        printed = capsys.readouterr()
        assert printed.out == ""
        assert printed.err.startswith("error: ")
        assert printed.err.count("\n") == 1
        return printed.err

    return run


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help(name, capsys):
    assert main([name, "--help"]) == 0
    assert "--json" in capsys.readouterr().out


@pytest.mark.parametrize("arguments", [["nosuch"], ["inspect"], ["inspect", "x", "--nosuch"]])
def test_a_mistyped_command_is_refused_with_2(arguments, capsys):
    assert main(arguments) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert "Traceback" not in printed.err


def test_inspect_lists_checkpoints_as_json_and_nothing_else(make_run, capsys):
    assert main(["inspect", str(make_run(steps=(0, 10))), "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert [checkpoint["step"] for checkpoint in document["checkpoints"]] == [0, 10]
    assert document["findings"] == []
    assert document["architecture"] == "gpt2"


def test_inspect_flags_a_truncated_checkpoint_and_exits_with_1(make_run, capsys):
    run = make_run(steps=(0, 10))
    file = run / "checkpoint-10" / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])
    assert main(["inspect", str(run)]) == 1
    assert "checkpoint-10: model.safetensors is truncated" in capsys.readouterr().out


@pytest.mark.parametrize("names", [(), ("data",), ("checkpoint-10", "step10"), ("iter_10", "iter_010")])
def test_inspect_refuses_a_directory_that_is_no_series(tmp_path, names, refused):
    for name in names:
        (tmp_path / name).mkdir()
    assert str(tmp_path) in refused("inspect", tmp_path)
    assert "is not a directory" in refused("inspect", tmp_path / "nowhere")


def test_inspect_shows_norm_movement_and_flags_by_step(make_run, capsys):
    run = make_run(steps=(0, 10, 20, 30))
    shutil.copy(run / "checkpoint-0" / "model.safetensors", run / "checkpoint-20")
    assert main(["inspect", str(run), "--json"]) == 1
    document = json.loads(capsys.readouterr().out)
    detail = "checkpoint-20 has the very weights of step 0"
    assert document["findings"] == [{"step": 20, "kind": "duplicate", "detail": detail}]
    rows = {row["step"]: row for row in document["checkpoints"]}
    assert [step for step, row in rows.items() if row["flags"]] == [20]
    assert rows[0]["fingerprint"] == rows[20]["fingerprint"] != rows[10]["fingerprint"]
    assert rows[0]["moved"] is None
    assert rows[0]["norm"] == rows[20]["norm"] > 0
    assert 0.5 < rows[10]["moved"] < 2  # independent random models
    assert document["bytes_read"] == 4 * (run / "checkpoint-0" / "model.safetensors").stat().st_size
    assert main(["inspect", str(run)]) == 1
    shown = capsys.readouterr().out
    assert f"! duplicate: {detail}" in shown
    assert "read: 0.0 MB of weights; the rest was known" in shown


def test_a_dry_inspection_says_what_it_would_read_and_reads_nothing(make_run, capsys):
    run = make_run(steps=(0, 10))
    assert main(["inspect", str(run), "--dry-run", "--json"]) == 0
    size = (run / "checkpoint-0" / "model.safetensors").stat().st_size
    expected = {"checkpoints_to_read": 2, "files_to_read": 2, "bytes_to_read": 2 * size}
    expected["checkpoints_to_fetch"] = 0
    assert json.loads(capsys.readouterr().out) == expected
    assert not (run / ".babelscope").exists()


def test_what_the_audit_flags_is_left_out_unless_it_is_asked_for(make_run, capsys):
    run = with_text(make_run(steps=(0, 1, 2, 4, 16)))
    shutil.copy(run / "checkpoint-1" / "model.safetensors", run / "checkpoint-4")
    for options, steps in ((["--keep-flagged"], [0, 1, 2, 4, 16]), ([], [0, 1, 2, 16])):
        assert main(["analyze", str(run), *ANALYZE, *options, "--json"]) == 1
        document = json.loads(capsys.readouterr().out)
        losses = document["tables"]["losses"]
        assert sorted({row["step"] for row in losses}) == steps
        assert [(f["step"], f["kind"]) for f in document["findings"]] == [(4, "duplicate")]


def test_a_finished_series_analysed_again_reads_no_weights_and_imports_no_torch(make_run, capsys):
    run = with_text(make_run(steps=(0, 10, 20)))
    assert main(["analyze", str(run), *ANALYZE, "--json"]) == 0
    first = json.loads(capsys.readouterr().out)
    for file in run.glob("checkpoint-*/model.safetensors"):
        blank_out(file)
    for command in (["analyze", str(run), *ANALYZE, "--json"], ["inspect", str(run), "--json"]):
        script = (
            f"import sys; from babelscope.cli import main; assert main({command!r}) == 0;"
            "assert 'torch' not in sys.modules, 'torch was imported'"
        )
        done = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True)
        if command[0] == "analyze":
            assert json.loads(done.stdout) == first


def test_analyze_writes_a_report_and_leaves_out_what_is_damaged(make_run, capsys):
    run = with_text(make_run(steps=STEPS))
    file = run / "checkpoint-8" / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])
    assert main(["analyze", str(run), *ANALYZE, "--json"]) == 1
    document = json.loads(capsys.readouterr().out)
    assert [row["step"] for row in document["tables"]["losses"] if row["language"] == "php"] == [
        0,
        1,
        2,
        4,
        16,
        32,
    ]
    assert [finding["step"] for finding in document["findings"]] == [8]
    report = (run / "analysis" / "report.html").read_text()
    assert "checkpoint-8" in report


def test_a_dry_run_says_the_cost_and_stores_nothing(make_run, capsys):
    run = with_text(make_run(steps=(0, 10)))
    assert main(["analyze", str(run), *ANALYZE, "--dry-run", "--json"]) == 0
    cost = json.loads(capsys.readouterr().out)
    assert cost["checkpoints"] == 2
    assert cost["results_missing"] == 8
    assert cost["bytes_to_read"] > 10_000
    assert cost["seconds"] > 0
    assert not (run / ".babelscope" / "store").exists()


def test_a_dry_run_says_what_neurons_would_cost_where_they_are_asked_for(make_run, capsys, monkeypatch):
    run = with_text(make_run(steps=(0, 10)))
    monkeypatch.setattr(NeuronQuestions, "plan", lambda _self, **how: {"scores": how})
    dry = ["analyze", str(run), *ANALYZE, "--dry-run", "--json"]
    assert main(dry) == 0
    assert "neurons" not in json.loads(capsys.readouterr().out)
    assert main([*dry, "--also", "neurons", "--dtype", "bfloat16"]) == 0
    assert json.loads(capsys.readouterr().out)["neurons"]["scores"]["dtype"] == "bfloat16"


def test_a_shard_measures_its_part_and_the_last_one_writes_the_report(make_run, capsys):
    run = with_text(make_run(steps=STEPS))
    assert main(["analyze", str(run), *ANALYZE, "--shard", "1/2", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["shard"] == "1/2"
    assert document["done"] == [f"checkpoint-{step}" for step in STEPS[::2]]
    assert document["owed"] == [*(f"checkpoint-{step}" for step in STEPS[1::2]), "the random model"]
    assert not (run / "analysis").exists()
    assert main(["analyze", str(run), *ANALYZE, "--shard", "1/2"]) == 0
    assert "owed by other shards: checkpoint-1, checkpoint-4" in capsys.readouterr().out
    assert main(["analyze", str(run), *ANALYZE, "--shard", "2/2"]) == 0
    assert (run / "analysis" / "report.html").exists()


def test_ranks_of_a_launcher_are_shards_and_a_given_shard_goes_before_them(make_run, capsys, monkeypatch):
    run = with_text(make_run(steps=(0, 10)))
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert main(["analyze", str(run), *ANALYZE, "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert (document["shard"], document["done"]) == ("2/2", ["checkpoint-10"])
    assert main(["analyze", str(run), *ANALYZE, "--dry-run", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["checkpoints"] == 0
    assert main(["analyze", str(run), *ANALYZE, "--shard", "1/1", "--dry-run", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["checkpoints"] == 1


def test_a_shard_says_which_of_its_checkpoints_it_could_not_measure(make_run, capsys):
    import torch
    from safetensors.torch import load_file, save_file

    run = with_text(make_run(steps=(0, 1, 2)))
    file = run / "checkpoint-2" / "model.safetensors"
    weights = load_file(file)
    weights["transformer.ln_f.weight"][3] = torch.nan
    save_file(weights, file, metadata={"format": "pt"})
    assert main(["analyze", str(run), *ANALYZE, "--shard", "1/2", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert (document["done"], document["not_measured"][0]["step"]) == (["checkpoint-0"], 2)


@pytest.mark.parametrize(
    ("option", "words"), [(["--shard", "3/2"], "no shard 3/2"), (["--dtype", "int8"], "dtype 'int8'")]
)
def test_a_bad_shard_or_dtype_is_refused(refused, make_run, option, words):
    run = with_text(make_run(steps=(0, 10)))
    assert words in refused("analyze", run, *ANALYZE, *option)
    assert not (run / ".babelscope").exists()


def test_a_missing_directory_is_refused(refused, tmp_path):
    assert "nowhere is not a directory" in refused("analyze", tmp_path / "nowhere")


def test_an_empty_directory_is_refused(refused, tmp_path):
    assert "holds no checkpoint-N folders" in refused("inspect", tmp_path)


def test_a_series_without_a_target_is_refused(refused, make_run):
    assert "give --pivot and --target" in refused("analyze", make_run())


def test_a_target_without_probes_is_refused_before_anything_is_computed(refused, make_run):
    run = with_text(make_run(steps=(0, 10)))
    shutil.copy(run / "heldout" / "php.jsonl", run / "heldout" / "klingon.jsonl")
    message = refused("analyze", run, "--pivot", "python", "--target", "klingon")
    assert "no probes come with 'klingon'" in message
    assert not (run / ".babelscope").exists()


def test_a_language_without_text_is_refused(refused, make_run):
    assert "no held-out text for 'python'" in refused("analyze", make_run(), *ANALYZE)


def test_different_architectures_are_refused(refused, make_run):
    run = make_run(steps=(0,))
    shutil.move(make_run("other", steps=(10,), family="llama") / "checkpoint-10", run)
    assert "different architectures" in refused("analyze", run, *ANALYZE)


def test_a_loss_that_does_not_fall_gives_no_mix(refused, make_run):
    run = with_text(make_run(steps=STEPS))
    for step in STEPS[1:]:  # the same weights at every step: alpha = beta
        shutil.copy(run / "checkpoint-0" / "model.safetensors", run / f"checkpoint-{step}")
    available = ["--available", "python=1e6", "--available", "php=2e6"]
    assert "is not above beta" in refused("mix", run, *ANALYZE, *available, "--keep-flagged")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("speed = 3", "unknown key 'speed'"),
        ("[[sources]]\nlanguage = 'php'\npath = 'x'\nproportion = 0.5", "the proportions sum to 0.5, not 1"),
        ("output = [", "is not TOML"),
    ],
)
def test_a_bad_recipe_is_refused_before_training(refused, tmp_path, text, words):
    (tmp_path / "r.toml").write_text(
        'output = "out"\npivot = "php"\n' * text.startswith(("speed", "[[")) + text
        if "sources" not in text
        else f'output = "out"\npivot = "php"\n[model]\nstart = "m"\n{text}\n'
        "[training]\nsteps = 1\nbatch_size = 1\nsequence_length = 8\nlearning_rate = 1e-3\n"
    )
    assert words in refused("pretrain", tmp_path / "r.toml")
    assert not (tmp_path / "out").exists()


def test_stages_of_a_plain_table(tmp_path, capsys):
    steps = [10, 20, 40, 80, 160, 320, 640, 1280, 2560, 5120]
    solved = [50, 100, 180, 300, 420, 420, 300, 180, 100, 60]
    table = tmp_path / "curve.csv"
    table.write_text(
        "step,solved,total\n" + "".join(f"{a},{b},1000\n" for a, b in zip(steps, solved, strict=True))
    )
    assert main(["stages", str(table), "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["rises_and_falls"]
    assert document["best"]["step"] in (160, 320)


def test_stages_draws_a_page_and_says_that_nothing_is_best(tmp_path, capsys):
    table, page = tmp_path / "never.csv", tmp_path / "never.html"
    table.write_text("tokens,solved,total\n" + "".join(f"{10**k},0,90\n" for k in range(3, 11)))
    assert main(["stages", str(table), "--draws", "99", "--level", "0.9", "--figure", str(page)]) == 0
    said = capsys.readouterr().out
    assert "no problem is solved at any checkpoint" in said
    assert "best checkpoint: none" in said
    assert "tokens" in page.read_text()


def test_stages_refuses_what_cannot_be_drawn_or_fitted(refused, tmp_path):
    table = tmp_path / "curve.csv"
    table.write_text("step,solved,total\n10,1,9\n")
    assert "ends in .html" in refused("stages", table, "--figure", tmp_path / "curve.pdf")
    assert "1 checkpoint after step 0" in refused("stages", table)
    assert "'tokens'" in refused("stages", table, "--x", "tokens")


def a_mix(path: Path) -> Path:
    shares = {"python": LanguageShare(weight=0.6), "php": LanguageShare(weight=0.4)}
    Mix(languages=shares, pivot="python", verdict="For a test.", method="test").save(path)
    return path


def test_export_writes_the_stacks_own_syntax_and_says_its_unit(tmp_path, capsys):
    mix = a_mix(tmp_path / "mix.json")
    sources = ["--source", "python=data/py", "--source", "php=data/php"]
    assert main(["export", str(mix), "megatron", str(tmp_path / "blend.txt"), *sources]) == 0
    assert (tmp_path / "blend.txt").read_text().split() == ["0.6", "data/py", "0.4", "data/php"]
    assert "unit: " in capsys.readouterr().out


def test_an_unknown_format_is_refused_with_the_known_ones(refused, tmp_path):
    message = refused("export", a_mix(tmp_path / "mix.json"), "nemo", tmp_path / "x")
    assert all(format in message for format in formats())


def test_a_format_without_a_check_is_called_unverified(tmp_path, capsys):
    mix = a_mix(tmp_path / "mix.json")
    sources = ["--source", "python=data/py.jsonl", "--source", "php=data/php.jsonl"]
    unverified = [one for one in formats().values() if one.verified is None]
    assert unverified
    for one in unverified:
        assert main(["export", str(mix), one.name, str(tmp_path / f"mix{one.endings[0]}"), *sources]) == 0
        assert "unverified" in capsys.readouterr().out
    assert main(["export", str(mix), "megatron", str(tmp_path / "mix.sh"), *sources]) == 0
    assert "unverified" not in capsys.readouterr().out


def test_export_shows_the_conversion_to_documents(tmp_path, capsys):
    options = ["--source", "python=py", "--source", "php=php"]
    options += ["--tokens-per-document", "python=100", "--tokens-per-document", "php=200"]
    mix = a_mix(tmp_path / "mix.json")
    assert main(["export", str(mix), "llama-factory", str(tmp_path / "mix.yaml"), *options]) == 0
    # 0.6 / 100 and 0.4 / 200 sum to 0.008.
    assert "php: p 0.4, m 200 tokens, q 0.25" in capsys.readouterr().out


def test_the_formats_are_listed_from_the_registry_with_their_options(capsys):
    assert main(["export", "--list"]) == 0
    listed = capsys.readouterr().out
    assert main(["export", "--help"]) == 0
    helped = "".join(capsys.readouterr().out.split())
    for one in formats().values():
        assert f"{one.name} ({', '.join(one.endings)})\n  unit: {one.unit}\n" in listed
        assert one.name in helped
    assert "--set: stage=mix, start_training_step=1, seed=42" in listed
    assert main(["export", "--list", "--json"]) == 0
    assert [one["format"] for one in json.loads(capsys.readouterr().out)] == list(formats())


def test_an_option_of_one_format_is_set_by_its_name(refused, tmp_path, capsys):
    mix = a_mix(tmp_path / "mix.json")
    given = [str(mix), "nanotron", str(tmp_path / "mix.yaml"), "--source", "python=a", "--source", "php=b"]
    assert main(["export", *given, "--set", "start_training_step=500"]) == 0
    assert "start_training_step: 500\n" in (tmp_path / "mix.yaml").read_text()
    capsys.readouterr()
    assert "stage, start_training_step, seed" in refused("export", *given, "--set", "step=1")
    for wrong in ("soon", "1.5", "inf", "nan"):
        message = refused("export", *given, "--set", f"start_training_step={wrong}")
        assert f"--set start_training_step={wrong}: give a whole number" in message
    assert main(["export", *given, "--set", "start_training_step=2e3"]) == 0
    assert "start_training_step: 2000\n" in (tmp_path / "mix.yaml").read_text()
    capsys.readouterr()
    assert "gives seed twice, as 1 and as 2" in refused(
        "export", *given, "--set", "seed=1", "--set", "seed=2"
    )
    assert "OPTION=VALUE" in refused("export", *given, "--set", "seed")
    assert "give the mix, the format and the file" in refused("export", str(mix))


def test_what_an_export_lacks_is_asked_for_by_the_options_of_the_command(refused, tmp_path):
    given = ["export", a_mix(tmp_path / "mix.json"), "hf-datasets", tmp_path / "mix.py"]
    assert "give --source python=PATH --source php=PATH" in refused(*given)
    sources = ["--source", "python=a.jsonl", "--source", "php=b.jsonl"]
    assert "(--tokens-per-document LANGUAGE=MEAN)" in refused(*given, *sources)
    assert "--source gives php twice, as b.jsonl and as c.jsonl" in refused(
        *given, *sources, "--source", "php=c.jsonl"
    )


def test_an_export_into_a_place_that_cannot_be_written_is_refused(refused, tmp_path):
    (tmp_path / "there.json").mkdir()
    message = refused("export", a_mix(tmp_path / "mix.json"), "json", tmp_path / "there.json")
    assert "there.json cannot be written: Is a directory; give another place" in message


def test_a_full_disk_is_said_in_words_and_spoils_nothing(make_run, tmp_path, capsys):
    """On a real file system of little size."""
    small = tmp_path / "small"
    small.mkdir()
    if subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(small)], capture_output=True
    ).returncode:
        pytest.skip("mounting a small file system needs root")
    try:
        run = small / "run"
        shutil.copytree(with_text(make_run(steps=(0, 1, 2))), run)
        with open(small / "filler", "wb", buffering=0) as filler:
            try:
                while True:
                    filler.write(b"\0" * 4096)
            except OSError:
                filled = filler.tell()
        with open(small / "filler", "r+b") as filler:
            filler.truncate(filled - 60_000)  # room for some results, not for all
        assert main(["analyze", str(run), *ANALYZE]) == 2
        printed = capsys.readouterr()
        assert "the disk is full" in printed.err
        kept = sorted((run / ".babelscope").rglob("*.nc"))
        assert not list((run / ".babelscope").rglob("*.part"))
        (small / "filler").unlink()
        before = {path: path.read_bytes() for path in kept if "shard" not in path.name}
        assert main(["analyze", str(run), *ANALYZE]) == 0
        assert all(path.read_bytes() == content for path, content in before.items())
    finally:
        subprocess.run(["umount", str(small)], check=True)
