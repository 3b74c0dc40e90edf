"""Linear probes find what is linear, in files that they never saw; neither files nor tokens fool them."""

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import KFold, cross_val_predict
from sklearn.preprocessing import StandardScaler

from babelscope.core.errors import InputError
from babelscope.probes.linear import (
    FOLDS,
    C,
    control_labels,
    linear_probe,
    majority_by_token,
    matched_by_token,
    out_of_fold,
    permuted_between_files,
    split_by_file,
)

FILES, EACH, WIDTH = 40, 15, 12
N = FILES * EACH
FILE = np.repeat(np.arange(FILES), EACH)


def labels(*names):
    """One language per file, in turn."""
    return np.array(names)[FILE % len(names)]


def accuracy(activations, wanted, folds):
    return np.mean(out_of_fold(activations, wanted, folds) == wanted)


@pytest.fixture
def noise():
    return np.random.default_rng(0).standard_normal((N, WIDTH))


@pytest.mark.parametrize("names", [("python", "php"), ("python", "php", "go", "r")])
def test_a_planted_direction_is_found_and_noise_is_not(noise, names):
    language = labels(*names)
    folds = split_by_file(language, FILE)
    means = 3 * np.random.default_rng(1).standard_normal((len(names), WIDTH))
    planted = noise + means[FILE % len(names)]
    assert accuracy(planted, language, folds) > 0.95
    assert accuracy(noise, language, folds) == pytest.approx(1 / len(names), abs=0.08)


def test_predictions_are_those_of_scikit_learn_by_hand(noise):
    language = labels("python", "php")
    noise[:, 0] += language == "php"
    folds = split_by_file(language, FILE)
    predicted = out_of_fold(noise, language, folds)
    for train, test in folds:
        mean, deviation = noise[train].mean(0), noise[train].std(0)
        model = LogisticRegression(C=C, max_iter=1000).fit((noise[train] - mean) / deviation, language[train])
        assert (predicted[test] == model.predict((noise[test] - mean) / deviation)).all()


def test_the_scale_of_a_dimension_does_not_matter(noise):
    language = labels("python", "php")
    noise[:, 0] += language == "php"
    folds = split_by_file(language, FILE)
    stretched = noise * np.logspace(-3, 3, WIDTH) + 1000  # as massive activations are
    assert (out_of_fold(noise, language, folds) == out_of_fold(stretched, language, folds)).all()


def test_a_file_is_never_on_both_sides_and_every_fold_has_every_language():
    language = labels("python", "php", "go")
    tried = []
    for train, test in split_by_file(language, FILE):
        assert not set(FILE[train]) & set(FILE[test])
        assert set(language[test]) == set(language[train]) == {"python", "php", "go"}
        tried += test.tolist()
    assert sorted(tried) == list(range(N))


def test_what_only_files_have_in_common_is_not_taken_for_language(noise):
    language = labels("python", "php")
    of_file = 3 * np.random.default_rng(2).standard_normal((FILES, 200))
    alike = np.random.default_rng(3).standard_normal((N, 200)) + of_file[FILE]
    leaking = cross_val_predict(
        linear_probe(), alike, language, cv=KFold(FOLDS, shuffle=True, random_state=0)
    )
    assert np.mean(leaking == language) > 0.95  # positions of one file on both sides
    assert accuracy(alike, language, split_by_file(language, FILE)) < 0.65


def test_selectivity_tells_memorised_tokens_from_language(noise):
    rng = np.random.default_rng(4)
    language = labels("python", "php")
    php = language == "php"
    token = np.where(php, rng.integers(0, 10, N), rng.integers(5, 15, N))  # half of the types are one's own
    folds = split_by_file(language, FILE)
    tasks = [language, *(control_labels(token, language, rng=rng) for _ in range(3))]
    codes = rng.standard_normal((15, 40))  # of token types, without any language
    memorised = [accuracy(codes[token], task, folds) for task in tasks]
    assert memorised[0] > 0.7  # which looks like language
    assert memorised[0] - np.mean(memorised[1:]) < 0.05
    known = [accuracy(noise + 3 * php[:, None], task, folds) for task in tasks]
    assert known[0] - np.mean(known[1:]) > 0.3


def test_a_control_task_gives_a_type_one_label_and_each_label_as_many_types():
    token = np.random.default_rng(0).integers(0, 20, N)
    task = control_labels(token, labels("python", "php"), rng=np.random.default_rng(1))
    of_type = [set(task[token == one]) for one in range(20)]
    assert all(len(found) == 1 for found in of_type)
    assert sum(found == {"php"} for found in of_type) == 10
    again = control_labels(token, labels("python", "php"), rng=np.random.default_rng(2))
    assert (task != again).any()


def test_matched_positions_have_every_type_equally_often_in_every_language_and_none_is_wasted():
    rng = np.random.default_rng(0)
    language = labels("python", "php", "go")
    token = rng.integers(0, 30, N) + 3 * (language == "go")
    chosen = matched_by_token(token, language, rng=rng)
    for one in np.unique(token):
        there = {name: np.sum(language[token == one] == name) for name in ("python", "php", "go")}
        kept = {name: np.sum(language[chosen & (token == one)] == name) for name in there}
        assert set(kept.values()) == {min(there.values())}


def test_on_matched_positions_a_probe_of_the_token_alone_is_at_chance():
    rng = np.random.default_rng(5)
    language = labels("python", "php")
    token = np.where(language == "php", rng.integers(0, 12, N), rng.integers(4, 16, N))
    alone = np.eye(16)[token]
    folds = split_by_file(language, FILE)
    assert accuracy(alone, language, folds) > 0.6
    chosen = matched_by_token(token, language, rng=rng)
    within = split_by_file(language[chosen], FILE[chosen])
    assert accuracy(alone[chosen], language[chosen], within) < 0.55


def test_the_tokens_majority_label_is_counted_in_the_other_files():
    language = np.array(["php"] * 4 + ["python"] * 4)
    token = np.array([1, 1, 2, 3, 1, 2, 2, 9])
    folds = [
        (np.array([0, 1, 4, 5]), np.array([2, 3, 6, 7])),
        (np.array([2, 3, 6, 7]), np.array([0, 1, 4, 5])),
    ]
    # Fitted to 1→php 2 : python 1, 2→python; then to 2→one each, 3→php, 9→python.
    expected = [0.5, 0.5, 0, 0.5, 0.5, 0.5, 1, 0.5]
    assert majority_by_token(token, language, folds).tolist() == expected


def test_permuted_labels_stay_with_their_files_and_leave_chance(noise):
    language = labels("python", "php")
    planted = noise + 3 * (language == "php")[:, None]
    folds = split_by_file(language, FILE)
    rng = np.random.default_rng(0)
    found = []
    for _ in range(10):
        task = permuted_between_files(language, FILE, rng=rng)
        assert all(len(set(task[one == FILE])) == 1 for one in range(FILES))
        assert (task == "php").sum() == (language == "php").sum()
        found.append(accuracy(planted, task, folds))
    assert accuracy(planted, language, folds) > 0.95
    assert np.mean(found) == pytest.approx(0.5, abs=0.12)


def test_too_few_files_are_refused_with_the_language_and_how_many_it_takes():
    language = np.where(FILE < FOLDS - 1, "php", "python")
    with pytest.raises(InputError, match=rf"need {FOLDS} of every language; of php there are {FOLDS - 1}:"):
        split_by_file(language, FILE)


def test_a_task_with_one_answer_is_answered(noise):
    same = np.full(N, "php")
    assert (out_of_fold(noise, same, [(np.arange(10), np.arange(10, N))])[10:] == "php").all()


def test_a_constant_dimension_does_no_harm(noise):
    noise[:, 0] = 7
    language = labels("python", "php")
    assert np.isfinite(StandardScaler().fit_transform(noise)).all()
    assert set(out_of_fold(noise, language, split_by_file(language, FILE))) <= {"python", "php"}
