"""Graded scores against sums done by hand."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

from babelscope.analyses.grades import graded, grades, translation_losses

SOLUTIONS = {
    "python": {"a": ("def a():\n", "    return 1\n"), "b": ("def b():\n", "    return 2\n")},
    "php": {"a": ("function a() {\n", "    return 1;\n}\n")},
}
BROKEN = {"python": {"a": ["    return 2\n", "    return 0\n"]}}


def test_every_solution_its_broken_copies_and_every_ordered_pair_of_languages_are_asked():
    asked = graded(SOLUTIONS, BROKEN)
    roles = [(one.id, one.language, one.role, one.source) for one in asked]
    assert roles == [
        ("a", "python", "solution", ""),
        ("a", "python", "broken", ""),
        ("a", "python", "broken", ""),
        ("a", "python", "alone", ""),
        ("a", "python", "translation", "php"),
        ("b", "python", "solution", ""),
        ("b", "python", "alone", ""),
        ("a", "php", "solution", ""),
        ("a", "php", "alone", ""),
        ("a", "php", "translation", "python"),
    ]
    translation = asked[-1]
    assert translation.context == "def a():\n    return 1\n\n"
    assert translation.text == "function a() {\n    return 1;\n}\n"
    assert asked[-2].text == translation.text


def losses(nll, asked, steps=(0,)):
    """`nll`: (step, text)."""
    labels = {
        name: ("text", [getattr(one, name) for one in asked]) for name in ("id", "language", "role", "source")
    }
    sizes = np.array([len(one.text.encode()) for one in asked])
    return xr.Dataset(
        {
            "nll": (("step", "text"), np.asarray(nll, float)),
            "bytes": (("step", "text"), np.tile(sizes, (len(steps), 1))),
        },
        coords={"step": list(steps), "text": range(len(asked))} | labels,
    )


def test_bits_are_per_byte_of_all_solutions_and_preference_is_a_mean_over_problems():
    asked = graded(SOLUTIONS, BROKEN)
    nll = [[10.0, 12.0, 9.0, 30.0, 20.0, 14.0, 40.0, 8.0, 25.0, 15.0]]
    found = grades(losses(nll, asked)).set_index(["language", "score"])["estimate"]
    size = len(b"    return 1\n")
    assert found["python", "bits per byte"] == pytest.approx((10 + 14) / np.log(2) / (2 * size))
    assert found["php", "bits per byte"] == pytest.approx(8 / np.log(2) / len(b"    return 1;\n}\n"))
    assert found["python", "preference"] == 0.5  # one copy of two is less likely; b has no copies
    assert ("php", "preference") not in found.index


def test_translation_is_held_against_the_same_program_after_nothing():
    asked = graded(SOLUTIONS, BROKEN)
    nll = [[10.0, 12.0, 9.0, 30.0, 20.0, 14.0, 40.0, 8.0, 25.0, 15.0]]
    found = translation_losses(losses(nll, asked)).set_index(["source", "language", "score"])
    assert found.loc[("php", "python", "nats"), "estimate"] == 20
    assert found.loc[("php", "python", "gain"), "estimate"] == 10
    assert found.loc[("python", "php", "gain"), "estimate"] == 10
    assert found.loc[("python", "php", "nats"), "problems"] == 1


def test_intervals_resample_problems():
    many = {"python": {str(n): (f"def f{n}():\n", "    return 1\n") for n in range(50)}}
    asked = graded(many, {"python": {str(n): ["    return 2\n"] for n in range(50)}})
    rng = np.random.default_rng(0)
    nll = rng.normal(10, 1, (2, len(asked)))
    found = grades(losses(nll, asked, steps=(0, 5)))
    preferred = found[found["score"] == "preference"]
    assert (preferred["low"] < preferred["estimate"]).all()
    assert (preferred["high"] - preferred["low"]).mean() == pytest.approx(
        2 * 1.96 * np.sqrt(0.25 / 50), rel=0.2
    )
