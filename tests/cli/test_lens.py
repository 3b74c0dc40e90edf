"""`babelscope lens` as a user meets it."""

from __future__ import annotations

import io
import json

import pytest

from babelscope.checkpoints import live
from babelscope.cli import main
from babelscope.core.errors import InputError
from babelscope.interp.streams import PromptStream

LANGUAGES = ["--pivot", "python", "--target", "php"]
PROMPT = "<?php\n$n = len"


@pytest.fixture
def refused(capsys, monkeypatch):
    """Run a command that must be refused before any weights are read; its one line on stderr."""

    def run(*arguments):
        def read(*_, **__):
            raise AssertionError("weights were read")

        with monkeypatch.context() as patch:
            patch.setattr(live, "open_model", read)
            assert main(["lens", *map(str, arguments)]) == 2
        printed = capsys.readouterr()
        assert printed.out == ""
        assert printed.err.count("\n") == 1
        return printed.err

    return run


def document(capsys):
    return json.loads(capsys.readouterr().out)


def test_the_last_step_is_shown_unless_others_are_asked_for(make_run, capsys):
    run = make_run(steps=(0, 10))
    assert main(["lens", str(run), PROMPT, "--json"]) == 0
    found = document(capsys)
    assert [step["step"] for step in found["steps"]] == [10]
    assert "".join(found["tokens"]) == PROMPT
    assert main(["lens", str(run), PROMPT, "--step", "10", "--step", "0", "--json"]) == 0
    both = document(capsys)
    assert [step["step"] for step in both["steps"]] == [0, 10]
    assert both["steps"][1] == found["steps"][0] != both["steps"][0]
    cell = found["steps"][0]["layers"][-1]["positions"][-1]
    assert len(cell["top"]) == 5
    assert 0 < cell["top"][0]["probability"] <= 1


def test_nothing_is_stored_beside_the_checkpoints(make_run, capsys):
    run = make_run(steps=(0, 10))
    before = sorted(run.rglob("*"))
    assert main(["lens", str(run), PROMPT, *LANGUAGES]) == 0
    assert sorted(run.rglob("*")) == before
    assert "output" in capsys.readouterr().out


def test_a_checkpoints_own_folder_will_do(make_run, capsys):
    run = make_run(steps=(0, 10, 20))
    assert main(["lens", str(run / "checkpoint-10"), PROMPT, "--json"]) == 0
    alone = document(capsys)
    assert main(["lens", str(run), PROMPT, "--step", "10", "--json"]) == 0
    assert document(capsys)["steps"] == alone["steps"]


def test_a_prompt_comes_from_a_file_or_a_pipe_to_its_last_character(make_run, tmp_path, capsys, monkeypatch):
    run = make_run(steps=(0,))
    (tmp_path / "prompt.php").write_bytes(b"a\r\n$b\n")
    assert main(["lens", str(run), f"@{tmp_path / 'prompt.php'}", "--json"]) == 0
    assert document(capsys)["prompt"] == "a\r\n$b\n"
    monkeypatch.setattr("sys.stdin", io.StringIO("@x\n"))
    assert main(["lens", str(run), "-", "--json"]) == 0
    assert document(capsys)["prompt"] == "@x\n"


def test_the_page_has_a_slider_over_the_steps_and_shows_the_prompt_as_text(make_run, tmp_path, capsys):
    run, page = make_run(steps=(0, 10)), tmp_path / "out" / "lens.html"
    hostile = "</script><b>x"
    assert main(["lens", str(run), hostile, "--step", "0", "--step", "10", "--out", str(page)]) == 0
    assert f"table: {page}" in capsys.readouterr().out
    written = page.read_text()
    assert "training step " in written
    assert "&lt;/script&gt;&lt;b&gt;x" in written
    assert hostile not in written


def test_identifiers_of_probes_of_ones_own_are_recognised(make_run, tmp_path, capsys):
    run, paths = make_run(steps=(0,)), []
    for language, word in (("mine", "len"), ("yours", "count")):
        paths.append(tmp_path / f"{language}.toml")
        paths[-1].write_text(
            f'language = "{language}"\n[[concepts]]\nname = "length"\nidentifier = "{word}"\n'
            'prompts = [["n = ", "(xs)"]]\n'
        )
    given = [argument for path in paths for argument in ("--probes", str(path))]
    assert main(["lens", str(run), PROMPT, *given, "--json"]) == 0
    found = document(capsys)
    assert found["languages"] == ["mine", "yours"]
    assert found["notes"] == []


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ([], "give --pivot and --target"),
        (["--pivot", "python", "--target", "kotlin"], "no probes come with 'kotlin'"),
        (LANGUAGES, "no identifier has a token of its own"),
    ],
)
def test_without_usable_probes_there_are_no_colours_and_it_is_said(
    make_run, capsys, monkeypatch, options, reason
):
    run = make_run(steps=(0,))
    if options == LANGUAGES:

        def none(*_):
            raise InputError("no identifier has a token of its own in this tokenizer")

        monkeypatch.setattr(PromptStream, "read", none)
    assert main(["lens", str(run), PROMPT, *options, "--json"]) == 0
    found = document(capsys)
    assert found["languages"] == []
    assert any(note.startswith("no colours: ") and reason in note for note in found["notes"])


def test_bad_input_is_refused_before_any_weights_are_read(make_run, tmp_path, refused):
    run = make_run(steps=(0, 10))
    assert "there are [0, 10]" in refused(run, PROMPT, "--step", "7")
    assert "the prompt '' is empty" in refused(run, "")
    assert "has 257 tokens and the model takes 256" in refused(run, "Z" * 257)
    assert "cannot be read" in refused(run, "@nowhere")
    (tmp_path / "latin").write_bytes(b"\xe9")
    assert "not UTF-8" in refused(run, f"@{tmp_path / 'latin'}")
    assert "is a directory" in refused(run, PROMPT, "--out", tmp_path)
    assert "dtype 'int8'" in refused(run, PROMPT, "--dtype", "int8")
    assert "does not exist" in refused(run, PROMPT, "--probes", tmp_path / "none.toml")
    assert "is not a directory" in refused(tmp_path / "nowhere", PROMPT)


def test_a_damaged_checkpoint_is_said_and_refused_where_it_is_asked_for(make_run, capsys):
    run = make_run(steps=(0, 10))
    file = run / "checkpoint-10" / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])
    assert main(["lens", str(run), PROMPT]) == 1
    shown = capsys.readouterr().out
    assert "step 0" in shown
    assert "! unreadable: checkpoint-10: model.safetensors is truncated" in shown
    assert main(["lens", str(run), PROMPT, "--step", "10"]) == 2
    assert "there are [0]" in capsys.readouterr().err


def test_white_space_that_a_tokenizer_joins_to_the_next_word_is_said(make_run, capsys):
    run = make_run(steps=(0,))
    assert main(["lens", str(run), "n = ", "--json"]) == 0
    assert any("leave out white space at its end" in note for note in document(capsys)["notes"])
    assert main(["lens", str(run), "n =", "--json"]) == 0
    assert not any("white space" in note for note in document(capsys)["notes"])
