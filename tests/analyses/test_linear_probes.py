"""What is concluded from linear probes leaves its nulls or is not said; the figure shows those numbers."""

from functools import cache

import numpy as np
import pytest
import xarray as xr

from babelscope.analyses.figures.linear_probes import RANDOM_MODEL, linear_probes_figure
from babelscope.analyses.linear_probes import LanguageIdentity
from babelscope.analyses.sweep import sweep
from babelscope.checkpoints.series import Series
from babelscope.core.errors import InputError
from babelscope.interp.activations import Activations
from babelscope.interp.language_identity import LanguageProbes, language_identity
from babelscope.interp.streams import TextStream

FILES, EACH, LAYERS, WIDTH = 30, 8, 3, 6


def activations(*, strength, seed):
    """Noise, and PHP's positions shifted by `strength` in each layer."""
    rng = np.random.default_rng(seed)
    file = np.repeat(np.arange(FILES), EACH)
    php = file % 2 == 1
    values = rng.standard_normal((LAYERS, FILES * EACH, WIDTH))
    values[:, php] += np.reshape(strength, (LAYERS, 1, 1))
    return xr.Dataset(
        {"activation": (("layer", "position", "d_model"), values)},
        coords={
            "layer": np.arange(1, LAYERS + 1),
            "token": ("position", np.random.default_rng(0).integers(0, 12, len(file)) + 3 * php),
            "language": ("position", np.where(php, "php", "python")),
            "document": ("position", file),
        },
    )


class Measured(dict):
    def __init__(self, strengths, at_random):
        steps = [
            language_identity(activations(strength=strength, seed=step), permutations=1)
            for step, strength in enumerate(strengths)
        ]
        if steps:
            index = xr.IndexVariable("step", range(len(steps)))
            super().__init__(language_identity=xr.concat(steps, dim=index))
        self.at_random = activations(strength=at_random, seed=99)

    def null(self, measure):
        assert measure == "activations"
        return self.at_random


@cache
def learnt():
    """Layer 2 tells the language from step 1 on; layer 3 does so in the random model too."""
    results = Measured([[0, 0, 2], [0, 2, 2]], at_random=[0, 0, 2])
    return results, LanguageIdentity(results)


def test_the_layer_that_learnt_the_language_is_named_and_no_other():
    _, found = learnt()
    beyond = found.beyond_nulls()
    assert list(zip(beyond["step"], beyond["layer"], strict=True)) == [(1, 2)]
    assert "1 of 6 layers" in found.verdict_
    assert "after layer 2" in found.verdict_


def test_a_language_that_a_random_model_tells_as_well_is_no_finding():
    found = LanguageIdentity(Measured([[2, 2, 2]], at_random=[2, 2, 2]))
    assert (found.of("matched")["low"] > 0.9).all()  # far above chance
    assert found.beyond_nulls().empty
    assert "do not tell the language better" in found.verdict_


def test_noise_is_no_finding():
    found = LanguageIdentity(Measured([[0, 0, 0]] * 2, at_random=[0, 0, 0]))
    assert found.beyond_nulls().empty


def test_estimates_are_means_over_positions_and_matched_ones_over_the_matched():
    results, found = learnt()
    data = results["language_identity"].sel(step=1, layer=2)
    at = {name: found.of(name).query("step == 1 and layer == 2").iloc[0] for name in ("matched", "accuracy")}
    matched = data["matched"].to_numpy()
    assert 0 < matched.sum() < len(matched)
    assert at["matched"]["estimate"] == pytest.approx(data["matched_correct"].to_numpy()[matched].mean())
    assert at["accuracy"]["estimate"] == pytest.approx(data["correct"].mean().item())
    selectivity = found.of("selectivity").query("step == 1 and layer == 2")["estimate"].item()
    assert selectivity == pytest.approx((data["correct"].mean() - data["control"].mean()).item())
    gain = found.of("gain").query("step == 1 and layer == 2")["estimate"].item()
    assert gain == pytest.approx(data["correct"].mean().item() - found.by_token_)


def test_intervals_are_those_of_whole_files():
    results, _ = learnt()
    right = np.arange(FILES) % 3 > 0  # a file is right throughout, or wrong
    data = results["language_identity"].copy()
    data["correct"] = xr.full_like(data["correct"], True) & xr.DataArray(
        np.repeat(right, EACH), dims="position"
    )
    whole = Measured([], at_random=[0, 0, 2])
    whole["language_identity"] = data
    row = LanguageIdentity(whole).of("accuracy").iloc[0]
    assert row["estimate"] == pytest.approx(2 / 3)
    assert row["high"] - row["low"] == pytest.approx(2 * 1.96 * right.std() / np.sqrt(FILES), rel=0.1)


def test_a_refused_text_is_an_error_with_its_reason():
    results = {"language_identity": xr.Dataset(attrs={"refused": "of php there are 1"})}
    with pytest.raises(InputError, match="of php there are 1"):
        LanguageIdentity(results)  # pyright: ignore[reportArgumentType]


def test_the_figure_maps_the_distance_from_the_random_model_and_marks_what_is_not_outside():
    _, found = learnt()
    matched = found.of("matched")
    figure = linear_probes_figure(matched, chance=found.chance_)
    heat, dots = figure.data[:2]
    for row in matched.itertuples():
        assert heat.z[row.layer - 1][row.step] == pytest.approx(row.above_random)
    assert set(zip(dots.x, dots.y, strict=True)) == {
        (row.step, row.layer) for row in matched.itertuples() if not row.outside_null
    }
    null = next(trace for trace in figure.data if trace.name == RANDOM_MODEL)
    np.testing.assert_allclose(null.y, matched.query("step == 0")["random_model"])
    last = next(trace for trace in figure.data if (trace.name or "").startswith("step 1"))
    np.testing.assert_allclose(last.y, matched.query("step == 1")["estimate"])
    np.testing.assert_allclose(
        last.y - np.asarray(last.error_y.arrayminus), matched.query("step == 1")["low"]
    )


def test_a_sweep_stores_the_probes_and_a_text_of_few_files_stops_nothing(make_run):
    lines = ("total = sum(prices)", "return a + b", "while n > 0: n -= 1", "print(names)", "n = len(xs)")
    texts = {
        "python": [f"{line}\n{other}\n" for line in lines for other in lines[:2]],
        "php": [f"${line};\n${other};\n" for line in lines for other in lines[:2]],
    }
    series = Series.open(make_run(steps=[0]), pivot="python", target="php")
    enough = Activations(TextStream(texts, tokens=200, window=24), positions=60)
    found = LanguageIdentity(sweep(series, [enough, LanguageProbes(enough)]))
    assert found.table_["step"].unique().tolist() == [0]
    assert found.of("matched")["estimate"].between(0, 1).all()
    few = Activations(TextStream(texts | {"php": texts["php"][:2]}, tokens=200, window=24), positions=60)
    results = sweep(series, [few, LanguageProbes(few)])
    with pytest.raises(InputError, match="of php there are 2"):
        LanguageIdentity(results)
