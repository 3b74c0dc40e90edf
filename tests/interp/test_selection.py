"""Selection and its null: against scipy, against text in which languages do not differ, against the plan."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr
from scipy.stats import ttest_ind, ttest_rel

from babelscope.core.errors import InputError
from babelscope.interp import selection as selection_module
from babelscope.interp.lape import Thresholds
from babelscope.interp.neuron_blocks import cells_of, given_away
from babelscope.interp.one_against_others import FUDGE, OneAgainstOthers
from babelscope.interp.selection import Fdr, Frozen, Lape

LANGUAGES = ["python", "php", "csharp"]
TOKENS = 300
BLOCKS = 8


def counted(rates, rng, *, noise=0.15):
    """Firing counts at these rates, (language, neuron), in blocks with topics that many neurons share."""
    languages, neurons = rates.shape
    topics = rng.standard_normal((languages, BLOCKS, 3)) @ rng.standard_normal((3, neurons)) / 3**0.5
    rate = (rates[:, None] * np.exp(noise * topics)).clip(0, 1)
    return totals(rng.binomial(TOKENS, rate), TOKENS)


def totals(total, tokens, **attrs):
    languages, blocks = total.shape[:2]
    return xr.Dataset(
        {
            "total": (("language", "block", "layer", "neuron"), total.reshape(languages, blocks, 2, -1)),
            "tokens": (("language", "block"), np.broadcast_to(tokens, (languages, blocks)).copy()),
        },
        coords={"language": LANGUAGES[:languages]},
        attrs=attrs,
    )


def alike(rng, *, languages=2, neurons=200):
    return np.tile(rng.beta(2, 4, neurons), (languages, 1))


def of(selection, language):
    return set(np.flatnonzero(selection.members.sel(language=language)).tolist())


@pytest.mark.parametrize("paired", [False, True])
def test_t_is_the_textbooks_with_a_low_quantile_of_the_layers_errors_added(paired):
    rng = np.random.default_rng(0)
    data = totals(rng.normal(3, 2, (2, BLOCKS, 40)) + rng.normal(0, 5, (BLOCKS, 1)), 1.0, paired=int(paired))
    own, other = data["total"].to_numpy().reshape(2, BLOCKS, 40)
    textbook = (ttest_rel if paired else ttest_ind)(own, other).statistic
    error = (own.mean(0) - other.mean(0)) / textbook
    constant = np.repeat(np.quantile(error.reshape(2, 20), FUDGE, axis=1), 20)
    cells = cells_of(data)
    ours = OneAgainstOthers(cells, "gradient_attribution", given_away(cells, draws=3))
    expected = (own.mean(0) - other.mean(0)) / (error + constant)
    np.testing.assert_allclose(ours.t(0)[0], expected, rtol=1e-5)
    np.testing.assert_allclose(ours.t(1)[0], -expected, rtol=1e-5)


def test_the_error_against_two_others_is_how_far_the_difference_varies():
    """Languages weigh the same, though one has half the blocks."""
    rng = np.random.default_rng(0)
    tokens = np.ones((3, BLOCKS))
    tokens[2, BLOCKS // 2 :] = 0
    cells = cells_of(totals(rng.normal(10, 0.5, (3, BLOCKS, 2000)), tokens))
    one = OneAgainstOthers(cells, "gradient_attribution", given_away(cells, draws=0))
    own, others = one._means(0, one.given[0])
    error = (own - others) / one.t(0)[0]  # with its constant, a low quantile of the same
    assert np.median(error) == pytest.approx(np.std(own - others) * 1.8, rel=0.1)


def test_where_languages_do_not_differ_any_neuron_is_rare():
    """Neurons share the blocks' topics: what one says by chance, many say."""
    rng = np.random.default_rng(0)
    some = [bool(Fdr("transferring_neurons")(counted(alike(rng), rng)).count.any()) for _ in range(40)]
    assert sum(some) <= 8  # of two languages at 0.1 each


def test_neurons_of_a_language_are_found_at_the_stated_rate():
    rng = np.random.default_rng(0)
    false, selected = 0, 0
    for _ in range(10):
        rates = alike(rng, languages=3)
        rates[1, :30] = rates[0, :30] * 3
        found = of(Fdr("transferring_neurons")(counted(rates, rng)), "php")
        assert len(found & set(range(30))) >= 24
        false, selected = false + len(found - set(range(30))), selected + len(found)
    assert false / selected <= 0.12


def test_a_neuron_of_two_languages_is_a_member_of_both_and_not_of_the_third():
    rng = np.random.default_rng(0)
    rates = alike(rng, languages=3)
    rates[:, :20] = [[0.7], [0.7], [0.05]]
    selection = Fdr("transferring_neurons")(counted(rates, rng))
    assert set(range(20)) <= of(selection, "python") & of(selection, "php")
    assert not set(range(20)) & of(selection, "csharp")


def test_what_the_random_model_does_too_is_not_learnt():
    """All neurons tell languages apart a little; ten times as many as ask for it do so much more."""
    rng = np.random.default_rng(0)
    rates = rng.uniform(0.2, 0.4, (1, 400)) * np.exp(rng.normal(0, 0.15, (2, 400)))
    reference = counted(rates[:, ::-1], rng, noise=0.02)
    rates[1, :40] *= 2.5
    found = counted(rates, rng, noise=0.02)
    assert len(of(Fdr("transferring_neurons")(found), "php")) > 100
    learnt = Fdr("transferring_neurons", reference=reference)(found)
    assert len(of(learnt, "php") & set(range(40))) >= 36
    assert len(of(learnt, "php") - set(range(40))) <= 4
    assert not of(Fdr("transferring_neurons", reference=reference)(reference), "php")


def test_of_too_few_neurons_beyond_the_random_models_none_is_found():
    rng = np.random.default_rng(0)
    reference = counted(alike(rng), rng, noise=0.02)
    counts = []
    for special in (5, 15):
        rates = alike(rng)
        rates[:, :special] = [[0.05], [0.9]]
        selection = Fdr("transferring_neurons", reference=reference)(counted(rates, rng, noise=0.02))
        counts.append(int(selection.count.sel(language="php")))
    assert counts == [0, 15]


def test_a_neuron_that_fired_twice_is_nobodys():
    rng = np.random.default_rng(0)
    total = counted(alike(rng), rng)["total"].to_numpy().reshape(2, BLOCKS, -1)
    total[:, :, :50] = 0
    total[0, [0, 1], :25] = 1
    selection = Fdr("transferring_neurons")(totals(total, TOKENS))
    assert not of(selection, "python") & set(range(50))
    assert np.isfinite(selection.q).all()


def test_neurons_that_never_fire_at_all_are_nobodys():
    selection = Fdr("transferring_neurons")(totals(np.zeros((2, BLOCKS, 20)), TOKENS))
    assert selection.count.to_numpy().tolist() == [0, 0]
    assert np.isnan(selection.false_discovery).all()


def test_blocks_without_tokens_change_nothing():
    rng = np.random.default_rng(0)
    rates = alike(rng)
    rates[1, :20] = 0.9
    data = counted(rates, rng)
    padded = data.pad(block=(0, 3), constant_values=0)
    for rule in (Fdr("transferring_neurons"), Lape(0.1)):
        xr.testing.assert_identical(rule(padded).members, rule(data).members)
        xr.testing.assert_identical(rule(padded).null_count, rule(data).null_count)


def test_signed_scores_in_pairs_lean_to_one_language_or_to_none():
    """Log-odds toward one language are minus those toward the other; concepts are what is resampled."""
    rng = np.random.default_rng(0)
    toward = rng.normal(0, 1, (BLOCKS, 200))
    toward[:, :30] += 4
    found = totals(np.stack([toward, -toward]), 1, paired=1)
    selection = Fdr("direct_effect")(found)
    assert len(of(selection, "python") & set(range(30))) >= 28
    assert len(of(selection, "python")) <= 34
    assert not of(selection, "php")


def test_languages_change_places_only_within_a_pair():
    cells = cells_of(totals(np.ones((3, 5, 2)), 1, paired=1))
    given = given_away(cells, draws=50).reshape(51, 5, 3)
    assert (np.sort(given, axis=2) == [0, 1, 2]).all()
    assert (given[0] == [0, 1, 2]).all()
    assert len(np.unique(given, axis=0)) > 40


def test_most_keeps_the_strongest():
    rng = np.random.default_rng(0)
    rates = alike(rng)
    rates[:, :30] = [np.full(30, 0.1), np.linspace(0.9, 0.3, 30)]
    found = counted(rates, rng, noise=0.02)
    whole = of(Fdr("transferring_neurons")(found), "php")
    some = of(Fdr("transferring_neurons", most=0.05)(found), "php")
    assert len(whole) >= 28
    assert len(some) == 10
    assert some <= set(range(15))


def test_what_the_text_cannot_resolve_is_refused_with_the_lowest_rate_it_can():
    three = totals(np.ones((2, 3, 4)), 1.0, paired=1)
    with pytest.raises(InputError, match=r"rate of 0.1 cannot be resolved: \[3, 3\] blocks .* 0.12"):
        Fdr("direct_effect")(three)
    assert not Fdr("direct_effect", level=0.2)(three).count.any()
    with pytest.raises(InputError, match=r"\[1, 1\] blocks of text"):
        Fdr("plnd_ffn")(totals(np.ones((2, 1, 4)), 1.0))
    other = totals(np.ones((3, 4, 4)), 1.0)
    with pytest.raises(InputError, match="measured on python, php, csharp, the checkpoint on python, php"):
        Fdr("plnd_ffn", reference=other)(totals(np.ones((2, 4, 4)), 1.0))


def test_q_says_at_which_rate_a_neuron_becomes_a_member():
    rng = np.random.default_rng(0)
    rates = alike(rng)
    rates[1, :40] *= np.linspace(1, 3, 40)
    found = counted(rates, rng)
    q = Fdr("transferring_neurons")(found).q
    for level in (0.05, 0.2):
        selection = Fdr("transferring_neurons", level=level)(found)
        xr.testing.assert_equal(selection.members, (q <= level).rename("members"))
        assert selection.count.any()


def test_thresholds_select_as_they_do_alone():
    rng = np.random.default_rng(0)
    rates = alike(rng)
    rates[1, :10] = 0.9
    data = counted(rates, rng)
    rate = (data["total"].sum("block") / data["tokens"].sum("block")).to_numpy()
    thresholds = Thresholds.of(rate, selected=0.05)
    selections = Lape(0.05)(data), Frozen(thresholds)(data)
    for selection in selections:
        assert (selection.members.to_numpy() == thresholds.members(rate)).all()
        assert np.isnan(selection.q).all()
    xr.testing.assert_identical(selections[0].null_count, selections[1].null_count)


@pytest.mark.parametrize("rule", [Lape(0.1), Fdr("transferring_neurons")])
def test_the_null_counts_what_is_selected_where_languages_do_not_differ(rule):
    """As many as chance gives: all that the thresholds keep without a difference, next to none with one."""
    rng = np.random.default_rng(0)
    rates = alike(rng)
    chance = Lape(0.1)(counted(rates, rng)).false_discovery
    assert (chance > 0.3).all()
    rates[:, :10], rates[:, 10:20] = [[0.9], [0.01]], [[0.01], [0.9]]
    selection = rule(counted(rates, rng, noise=0.05))
    assert (selection.false_discovery < 0.1).all()
    assert selection.null_count.dims == ("language", "draw")


def test_a_rules_configuration_tells_it_from_others():
    data = totals(np.ones((2, 4, 4)), 1.0)
    other = data.copy(data={"total": 2 * data["total"].data, "tokens": data["tokens"].data})
    rules = [
        Lape(),
        Lape(0.02),
        Frozen(Thresholds(0.1, 0.5)),
        Frozen(Thresholds(0.1, 0.6)),
        *(Fdr("plnd_ffn", reference=reference) for reference in (None, data, other)),
        Fdr("plnd_ffn", most=0.01),
        Fdr("plnd_ffn", level=0.05),
        Fdr("plnd_value"),
    ]
    assert len({str(rule.config) for rule in rules}) == len(rules)
    assert Fdr("plnd_ffn", reference=data).config == Fdr("plnd_ffn", reference=data.copy(deep=True)).config


def test_a_random_model_is_beside_signed_scores_in_pairs_too():
    rng = np.random.default_rng(0)
    toward = rng.normal(0, 0.2, (12, 200)) + np.where(np.arange(200) < 20, 1.0, 0)  # of concepts
    untrained = rng.normal(0, 0.2, (12, 200))
    found, reference = (totals(np.stack([of, -of]), 1, paired=1) for of in (toward, untrained))
    selection = Fdr("identifier_attribution", reference=reference)(found)
    members = of(selection, "python")
    assert set(range(20)) <= members
    assert len(members) <= 24


def test_the_random_model_is_hashed_once(monkeypatch):
    calls = []
    monkeypatch.setattr(selection_module, "digest", lambda document: calls.append(document) or "hash")
    rule = Fdr("plnd_ffn", reference=totals(np.ones((2, 4, 4)), 1.0))
    assert [rule.config["reference"] for _ in range(3)] == ["hash"] * 3
    assert len(calls) == 1
