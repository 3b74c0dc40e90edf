"""`babelscope mix` on analyses that are already made: options, what is written, what is refused."""

import json
from types import SimpleNamespace

import pytest

from babelscope.cli import main, mix_command
from tests.analyses.test_best_mix import csharp, evidence

KNOWN = {"python": 11 * 10**9, "php": 23 * 10**9, "csharp": 16 * 10**9}


@pytest.fixture(scope="module")
def known():
    found = {"php": evidence(loss=1.6875), "csharp": csharp(), "scratch": csharp(continues=False)}
    return found | {"bare": SimpleNamespace(run=None, pivot="python", target="php")}


@pytest.fixture
def series(monkeypatch, known):
    """Directories that stand for analyses; nothing is read or measured."""
    measured = []

    def measure(**_):
        measured.append(True)

    def read(directory, **_):
        analysis = SimpleNamespace(
            evidence=known[directory.name], notes=("No proportion by loss: it is flat.",)
        )
        one = known[directory.name]
        reading = SimpleNamespace(
            series=SimpleNamespace(
                directory=directory, pivot=one.pivot, target=one.target, available_tokens={}
            ),
            questions=SimpleNamespace(available=KNOWN),
            sweep=measure,
            conclude=lambda _: analysis,
        )
        return SimpleNamespace(audited=lambda **_: reading)

    monkeypatch.setattr(mix_command, "read_directory", read)
    return measured


@pytest.fixture
def mix(series, tmp_path, capsys):
    """Run the command; what it prints as JSON and the mix that it wrote."""

    def run(*arguments, code=0):
        out = tmp_path / "mix.json"
        assert main(["mix", *map(str, arguments), "--out", str(out), "--json"]) == code
        printed = json.loads(capsys.readouterr().out)
        return printed, json.loads(out.read_text()) if out.exists() else None

    return run


@pytest.fixture
def refused(series, tmp_path, capsys):
    def run(*arguments):
        assert main(["mix", *map(str, arguments), "--out", str(tmp_path / "mix.json")]) == 2
        assert not (tmp_path / "mix.json").exists()
        return capsys.readouterr().err

    return run


def test_one_series_gives_a_mix(mix):
    printed, written = mix("php")
    assert printed["mix"] == written
    assert written["languages"]["php"]["weight"] == pytest.approx(0.3125)


def test_several_series_give_one_mix_the_same_in_any_order(mix):
    _, one = mix("php", "csharp")
    _, other = mix("csharp", "php")
    assert one == other
    assert list(one["languages"]) == ["python", "csharp", "php"]


def test_limits_reach_the_mix(mix):
    limits = ["--budget", "32e9", "--epochs", "3", "--floor", "php=0.5", "--ceiling", "python=0.9"]
    _, written = mix("php", *limits, "--available", "php=20e9")
    php = written["languages"]["php"]
    assert (php["weight"], php["processed_tokens"], php["available_tokens"]) == (0.5, 16 * 10**9, 20 * 10**9)
    assert written["provenance"]["limits"]["epochs"] == 3


def test_the_present_mix_is_written_out_or_a_file(mix, tmp_path):
    _, written = mix("php", "--present", "python=0.25,php=0.75")
    assert written["languages"]["php"]["present_weight"] == 0.75
    _, spaced = mix("php", "--present", "python=0.25, php=0.75")
    assert spaced == written
    _, again = mix("php", "--present", tmp_path / "mix.json")
    assert again["decision"] == "keep"
    assert "it is the recommended one" in again["verdict"]


def test_keep_is_no_failure_and_does_not_ask_for_a_run(series, tmp_path, capsys):
    arguments = ["mix", "php", "--minimum-gain", "0.3", "--out", str(tmp_path / "mix.json")]
    assert main(arguments) == 0
    printed = capsys.readouterr().out
    assert printed.startswith("Keep your mix")
    assert "next:" not in printed


def test_what_is_different_from_an_earlier_mix_is_said(mix, tmp_path, series, capsys):
    mix("php")
    old = tmp_path / "old.json"
    (tmp_path / "mix.json").rename(old)
    assert mix("php", "--against", old)[0]["changes"] == []
    assert (
        "PHP, weight: 31.25% before, 50.00% now."
        in mix("php", "--floor", "php=0.5", "--against", old)[0]["changes"]
    )
    assert main(["mix", "php", "--against", str(old), "--out", str(tmp_path / "mix.json")]) == 0
    assert "nothing changed" in capsys.readouterr().out


def test_a_refusal_is_exit_code_1_and_writes_no_mix(mix):
    printed, written = mix("php", "scratch", code=1)
    assert written is None
    assert "does not continue from a model of Python" in printed["verdict"]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["php", "csharp", "--target", "php"], "--target php holds for one series, but 2 are given"),
        (["php", "--epochs", "2"], "--epochs 2 says nothing without the tokens of the run; give --budget"),
        (["php", "--floor", "php=much"], "--floor php=much: give a number"),
        (["php", "--floor", "php=7"], "'floors.php' = 7"),
        (["php", "--floor", "php=0.1", "--floor", "php=0.2"], "gives php twice, as 0.1 and as 0.2"),
        (["php", "--budget", "-1"], "--budget -1: give the tokens of the run"),
        (["php", "--budget", "0.3"], "--budget 0.3: give the tokens of the run"),
        (["php", "--budget", "nan"], "--budget nan: give the tokens of the run"),
        (["php", "--budget", "inf"], "--budget inf: give the tokens of the run"),
        (["php", "--available", "php=0"], "--available php=0: give a number of tokens"),
        (["php", "--available", "php=nan"], "--available php=nan"),
        (["php", "--available", "php=inf"], "--available php=inf"),
        (["php", "--available", "go=5e9"], "tokens are given for 'go', but the mix is of python, php"),
        (["php", "php"], "php and php have the same target, PHP"),
        (["php", "--present", ""], "--present '': write it as LANGUAGE=VALUE"),
        (["php", "--present", "."], "--present '.': write it as LANGUAGE=VALUE"),
        (["php", "--against", "."], ". cannot be read: Is a directory"),
        (["php", "--present", "python=0.5"], "the present mix is of python"),
        (["php", "--present", "none.json"], "none.json does not exist"),
        (["php", "--against", "none.json"], "none.json does not exist"),
        (["php", "--budget", "900e9"], "a budget of 900 B tokens cannot be filled"),
        (["bare"], "No proportion by loss: it is flat."),
    ],
)
def test_what_cannot_be_used_is_refused_in_one_line(refused, arguments, says):
    assert says in refused(*arguments)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["php", "--budget", "900e9"], "a budget of 900 B tokens cannot be filled"),
        (["php", "--present", "python=0.5,php=0.6"], "the weights of the present mix sum to 1.1"),
        (["php", "scratch", "csharp"], "scratch and csharp have the same target, C#"),
        (["php", "--available", "go=1e9"], "tokens are given for 'go'"),
        (["php", "--minimum-gain", "nan"], "--minimum-gain nan: give a difference of scores"),
    ],
)
def test_what_no_mix_meets_is_refused_before_anything_is_measured(refused, series, arguments, says):
    assert says in refused(*arguments)
    assert not series


def test_a_place_that_cannot_be_written_is_refused_in_words(series, tmp_path, capsys):
    assert main(["mix", "php", "--out", str(tmp_path)]) == 2
    assert f"{tmp_path} cannot be written: Is a directory" in capsys.readouterr().err
