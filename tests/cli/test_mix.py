"""`babelscope mix` on analyses that are already made: options, what is written, what is refused."""

import json
from types import SimpleNamespace

import pytest

from babelscope.cli import main, mix_command
from tests.analyses.test_best_mix import csharp, evidence

KNOWN = {"python": 11 * 10**9, "php": 23 * 10**9}


@pytest.fixture(scope="module")
def known():
    found = {"php": evidence(loss=1.6875), "csharp": csharp(), "scratch": csharp(continues=False)}
    return found | {"bare": SimpleNamespace(run=None)}


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
        reading = SimpleNamespace(
            series=SimpleNamespace(pivot="python", target="php", available_tokens={}),
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
        (["php", "--budget", "-1"], "budget"),
        (["php", "--available", "php=0"], "--available php=0: give a number of tokens"),
        (["php", "--available", "php=nan"], "--available php=nan"),
        (["php", "--present", "python=0.5"], "the present mix is of python"),
        (["php", "--present", "none.json"], "none.json does not exist"),
        (["php", "--against", "none.json"], "none.json does not exist"),
        (["php", "--budget", "900e9"], "a budget of 900 B tokens cannot be filled"),
        (["php", "bare"], "No proportion by loss: it is flat."),
    ],
)
def test_what_cannot_be_used_is_refused_in_one_line(refused, arguments, says):
    assert says in refused(*arguments)


def test_limits_that_no_mix_meets_are_refused_before_anything_is_measured(refused, series):
    assert "a budget of 900 B tokens cannot be filled" in refused("php", "--budget", "900e9")
    assert not series
