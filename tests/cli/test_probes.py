"""`babelscope probes` as a user meets it."""

from __future__ import annotations

import json
import shutil
import socket

import huggingface_hub
import pytest

from babelscope.cli import main
from babelscope.cli.output import stdout
from babelscope.probes.probe_files import probed_languages
from tests.conftest import byte_tokenizer
from tests.probes.byte_pairs import bpe

OWN = """
language = "cobol"
[[concepts]]
name = "show"
identifier = "DISPLAY"
prompts = [["       ", " 1."]]
"""


@pytest.fixture
def folder(tmp_path):
    """A tokenizer that knows Python's and PHP's words."""
    bpe("python", "php").save_pretrained(tmp_path / "words")
    return tmp_path / "words"


@pytest.fixture
def poor(tmp_path):
    """One that knows three."""
    byte_tokenizer().save_pretrained(tmp_path / "bytes")
    return tmp_path / "bytes"


def audited(capsys, *arguments, code=0):
    assert main(["probes", *map(str, arguments), "--json"]) == code
    return json.loads(capsys.readouterr().out)


def test_every_language_with_probes_is_told_from_the_pivot(folder, capsys):
    document = audited(capsys, folder)
    assert [one["target"] for one in document["targets"]] == [n for n in probed_languages() if n != "python"]
    assert {one["verdict"] for one in document["targets"]} == {"enough"}
    assert document["minimum"] == {"concepts": 3, "prompts": 20}
    assert document["context"] is None
    assert document["vocabulary"] == len(bpe("python", "php"))


def test_a_language_under_the_minimum_is_told_with_exit_code_1(poor, capsys):
    document = audited(capsys, poor, "--target", "go", "--target", "php", code=1)
    go, php = document["targets"]
    assert (go["verdict"], php["verdict"]) == ("too few", "enough")
    assert "each language needs 3 concepts and 20 prompts" in go["shortfall"]
    assert main(["probes", str(poor), "--target", "php", "--min-prompts", "100"]) == 1
    assert "too few" in capsys.readouterr().out


def test_a_folder_a_file_and_a_model_in_the_hubs_cache_are_the_same_tokenizer(
    folder, tmp_path, monkeypatch, capsys
):
    expected = audited(capsys, folder, "--target", "php")["targets"]
    assert audited(capsys, folder / "tokenizer.json", "--target", "php")["targets"] == expected
    cached = tmp_path / "hub" / "models--org--name"
    shutil.copytree(folder, cached / "snapshots" / "abc")
    (cached / "refs").mkdir()
    (cached / "refs" / "main").write_text("abc")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(socket.socket, "connect", lambda *_: pytest.fail("the network was used"))
    assert audited(capsys, "org/name", "--target", "php")["targets"] == expected


def test_the_context_beside_a_tokenizer_counts(folder, capsys):
    (folder / "config.json").write_text('{"n_positions": 20}')
    document = audited(capsys, folder, "--target", "php")
    assert document["context"] == 20
    assert document["targets"][0]["excluded"]["too long"] > 0


def test_users_probes_are_added_and_their_language_is_a_target(folder, tmp_path, capsys):
    (tmp_path / "cobol.toml").write_text(OWN)
    document = audited(capsys, folder, "--probes", tmp_path / "cobol.toml", code=1)
    assert document["targets"][-1]["target"] == "cobol"
    assert document["targets"][-1]["prompts"]["given"] == 1


def test_another_pivot_may_have_no_distinguishable_pairs(folder, capsys):
    document = audited(capsys, folder, "--pivot", "javascript", "--target", "typescript", code=1)
    assert document["targets"][0]["verdict"] == "no distinguishable pairs"


def test_tables_can_be_read_at_a_hundred_columns(folder, monkeypatch, capsys):
    monkeypatch.setattr(stdout, "width", 100)
    assert main(["probes", str(folder), "--target", "php"]) == 0
    printed = capsys.readouterr().out
    assert all(len(line) <= 100 for line in printed.splitlines() if str(folder) not in line)
    assert "16 of 16" in printed
    row = next(line for line in printed.splitlines() if " len " in line)
    assert [cell.strip() for cell in row.split("│")[1:-1]] == [
        *("length", "python", "len", "␣len, len", "1", "11 of 11", ""),
    ]
    assert next(line for line in printed.splitlines() if "InvalidArgument" in line).count("│") == 8


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere/here"], "'nowhere/here' is not a folder, a tokenizer.json or a model on the hub: "),
        (["a/b/c"], "'a/b/c' is not a folder"),
        (["{empty}"], "has no tokenizer; give the folder of a checkpoint or a tokenizer"),
        (["{broken}"], "no tokenizer can be read from"),
        (["{folder}", "--pivot", "cobol"], "no probes come with 'cobol'; they come with cpp, "),
        (["{folder}", "--target", "basic", "--target", "php"], "no probes come with 'basic'"),
        (["{folder}", "--target", "python"], "--target python is the pivot"),
        (["{folder}", "--probes", "nowhere.toml"], "nowhere.toml does not exist"),
    ],
)
def test_what_cannot_be_used_is_refused_in_one_line(arguments, message, folder, tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    (tmp_path / "broken.json").write_text("{")
    places = {"folder": folder, "empty": tmp_path / "empty", "broken": tmp_path / "broken.json"}
    assert main(["probes", *(argument.format(**places) for argument in arguments)]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("error: ")
    assert printed.err.count("\n") == 1
    assert message in printed.err
