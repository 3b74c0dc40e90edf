"""Planted lives are found as they were planted, and random sets come out as chance."""

from itertools import combinations, product

import numpy as np
import pytest
import xarray as xr
from scipy.stats import binomtest, hypergeom, spearmanr

from babelscope.analyses.chance_overlap import LESS, MORE, UNRESOLVED, Chance
from babelscope.analyses.neuron_births import flicker
from babelscope.analyses.neuron_flow import AT_START, EARLIER, ENDS, arrivals, layer_shares, origin
from babelscope.analyses.neuron_identity import identity
from babelscope.analyses.neuron_life import NeuronLife
from babelscope.core.errors import InputError

STEPS = np.array([0, 10, 20, 50, 100, 200, 500, 1000])
LANGUAGES = ["python", "php"]
NAMES = {"pivot": "python", "target": "php"}


def array(values, steps=STEPS, languages=LANGUAGES):
    """(step, language, layer, neuron), with a half before them where there is one dimension more."""
    dims = ("half", "step", "language", "layer", "neuron")[-np.ndim(values) :]
    return xr.DataArray(values, dims=dims, coords={"step": steps, "language": languages})


def nobody(steps=STEPS, layers=4, neurons=200):
    return np.zeros((len(steps), 2, layers, neurons), bool)


def life(members, scores=None, **more):
    scores = np.zeros(members.shape) if scores is None else scores
    return NeuronLife(array(members), array(scores), **NAMES, **more)


def random_sets(rng, checkpoints, *, rate=0.1, layers=3, neurons=100):
    return rng.random((checkpoints, 2, layers, neurons)) < rate


def one(table, **values):
    for name, value in values.items():
        table = table.loc[table[name] == value]
    (row,) = table.to_dict("records")
    return row


# --- chance


def test_chance_is_what_enumerating_all_sets_of_these_sizes_gives():
    neurons, first, second = np.array([4, 5]), np.array([2, 3]), np.array([3, 1])
    layers = [list(combinations(range(n), k)) for n, k in zip(neurons, second, strict=True)]
    overlaps = [
        sum(sum(i < size for i in drawn) for size, drawn in zip(first, both, strict=True))
        for both in product(*layers)
    ]
    chance = Chance.of(neurons, first, second)
    for count in range(5):
        expected = np.mean(np.array(overlaps) == count)
        found = chance.probability[chance.counts == count].sum()
        assert found == pytest.approx(expected), count


@pytest.mark.parametrize(
    ("neurons", "first", "second"), [(3072, 30, 31), (3072, 1500, 2000), (9000, 5, 8000)]
)
def test_chance_of_one_layer_is_scipys_hypergeometric_even_of_large_sets(neurons, first, second):
    chance = Chance.of(*(np.array([size]) for size in (neurons, first, second)))
    reference = hypergeom(neurons, first, second)
    assert chance.mean == pytest.approx(reference.mean())
    assert chance.interval() == (reference.ppf(0.025), reference.ppf(0.975))


def test_a_count_is_beyond_chance_in_at_most_a_twentieth_of_random_draws():
    rng = np.random.default_rng(0)
    neurons, first, second = (
        np.full(6, 200),
        np.array([20, 5, 40, 0, 9, 30]),
        np.array([10, 30, 20, 9, 0, 60]),
    )
    chance = Chance.of(neurons, first, second)
    drawn = rng.hypergeometric(first, neurons - first, second, size=(4000, 6)).sum(1)
    beyond = np.array([chance.verdict(count) != UNRESOLVED for count in drawn])
    assert 0.01 < beyond.mean() < 0.055


# --- identity


def test_jaccard_counts_the_shared_neurons_and_has_wilsons_interval():
    members = nobody()
    members[:, 1, 2, :30] = True
    members[-1, 1, 2, :30], members[-1, 1, 2, 20:50] = False, True  # 10 of 50 stay
    row = one(life(members).identity_, step=1000, language="php", compared="before")
    low, high = binomtest(10, 50).proportion_ci(method="wilson")
    assert (row["shared"], row["union"], row["other"]) == (10, 50, 500)
    assert (row["jaccard"], row["low"], row["high"]) == pytest.approx((0.2, low, high))
    reference = hypergeom(200, 30, 30)
    for name, shared in (("chance_low", reference.ppf(0.025)), ("chance_high", reference.ppf(0.975))):
        assert row[name] == pytest.approx(shared / (60 - shared))


def test_random_sets_of_the_same_size_per_layer_have_the_expected_jaccard():
    rng = np.random.default_rng(1)
    sizes = np.array([[5, 60, 0], [10, 40, 20]])
    found = []
    for _ in range(3000):
        first, second = (np.array([rng.permutation(100) < size for size in of]) for of in sizes)
        found.append((first & second).sum() / (first | second).sum())
    members = np.zeros((2, 2, 3, 100), bool)
    for at, of in enumerate(sizes):
        for layer, size in enumerate(of):
            members[at, 1, layer, :size] = True
    data = array(members, STEPS[:2])
    row = one(identity(data, data.astype(float), None), language="php", compared="before")
    assert row["chance"] == pytest.approx(np.mean(found), abs=0.003)
    outside = (np.array(found) < row["chance_low"]) | (np.array(found) > row["chance_high"])
    assert outside.mean() < 0.055
    assert row["outside_null"]  # nested sets are not random


def test_sets_drawn_anew_at_every_checkpoint_are_not_the_same_neurons():
    rng = np.random.default_rng(2)
    members = array(random_sets(rng, 40), np.arange(40))
    table = identity(members, array(rng.random(members.shape), np.arange(40)), None)
    beside = table.loc[table["compared"] == "before"]
    assert len(beside) == 2 * 39
    assert beside["outside_null"].mean() <= 0.09
    inside = beside["rank"].between(beside["rank_chance_low"], beside["rank_chance_high"])
    assert inside.mean() >= 0.91


def test_where_a_set_is_empty_identity_is_undefined_and_not_zero():
    members = nobody()
    members[:4, 1, 0, :9] = True
    found = life(members, halves=array(np.stack([members, members])))
    for step, compared in ((100, "before"), (500, "before"), (1000, "first"), (10, "last")):
        row = one(found.identity_, step=step, language="php", compared=compared)
        assert np.isnan(
            [row[name] for name in ("jaccard", "low", "high", "chance", "across", "lost_low")]
        ).all()
        assert not row["outside_null"]
    assert "cannot be compared: one has no neurons of PHP" in found.verdict_


def seen_through_noise(rng, truth):
    """What two halves of a text show of the same sets: each misses a fifth and adds as many others."""
    missed, added = rng.random((2, 2, *truth.shape))
    return (truth & (missed > 0.2)) | (added < 0.2 * truth.mean())


def test_sets_that_stay_are_as_much_alike_across_halves_of_the_text_as_the_halves_allow():
    rng = np.random.default_rng(3)
    truth = nobody()
    truth[:, 1, :, :25] = True
    table = life(truth, halves=array(seen_through_noise(rng, truth))).identity_
    stays = table.loc[(table["language"] == "php")]
    assert (stays["ceiling"] < 0.8).all()
    assert (stays["lost_low"] <= 0).all()
    assert (stays["lost_high"] > 0).all()


def test_sets_that_change_are_less_alike_than_the_halves_of_the_text():
    rng = np.random.default_rng(4)
    truth = nobody()
    for at in range(len(STEPS)):
        truth[at, 1, :, 20 * at : 20 * at + 25] = True
    table = life(truth, halves=array(seen_through_noise(rng, truth))).identity_
    changed = table.loc[(table["language"] == "php") & (table["compared"] == "before")]
    assert (changed["lost_low"] > 0).all()
    assert (changed["across"] < changed["ceiling"]).all()


def test_what_only_one_half_of_the_text_shows_is_no_identity():
    halves = np.stack([nobody(), nobody()])
    halves[:, :, 1, 0, :10] = True
    halves[0, :, 1, 1, :30] = halves[1, :, 1, 2, :30] = True
    row = one(
        life(halves.any(0), halves=array(halves)).identity_,
        **{"step": 10, "language": "php", "compared": "before"},
    )
    assert row["jaccard"] == 1
    assert (row["across"], row["ceiling"]) == pytest.approx((1 / 7, 1 / 7))


def test_one_lost_neuron_is_no_evidence_of_change():
    members = nobody()
    members[0, 1, 0, 0] = members[1:, 1, 0, 1] = True
    row = one(
        life(members, halves=array(np.stack([members, members]))).identity_,
        **{"step": 10, "language": "php", "compared": "before"},
    )
    assert (row["across"], row["ceiling"]) == (0, 1)
    assert row["lost_low"] < 0


def layered_scores(rng):
    """Two checkpoints whose scores agree because layers differ, and a little within layers."""
    level = 2 * np.arange(4)[:, None] + np.zeros((4, 200))
    first = level + rng.normal(size=(4, 200))
    return first, level + 0.5 * first + rng.normal(size=(4, 200))


def ranked(first, second):
    scores = np.zeros((2, 2, *first.shape))
    scores[0, 1], scores[1, 1] = first, second
    table = identity(array(scores > 9, STEPS[:2]), array(scores, STEPS[:2]), None)
    return one(table, language="php", compared="before")


def test_rank_correlation_is_scipys_with_the_interval_of_a_bootstrap_of_neurons():
    rng = np.random.default_rng(5)
    first, second = layered_scores(rng)
    row = ranked(first, second)
    assert row["rank"] == pytest.approx(spearmanr(first.ravel(), second.ravel())[0])
    drawn = []
    for _ in range(400):
        again = rng.integers(0, first.size, first.size)
        drawn.append(spearmanr(first.ravel()[again], second.ravel()[again])[0])
    np.testing.assert_allclose(
        [row["rank_low"], row["rank_high"]], np.quantile(drawn, [0.025, 0.975]), atol=0.01
    )


def test_rank_chance_is_that_of_neurons_permuted_within_layers():
    rng = np.random.default_rng(6)
    first, second = layered_scores(rng)
    row = ranked(first, second)
    drawn = [spearmanr(first.ravel(), rng.permuted(second, axis=1).ravel())[0] for _ in range(400)]
    assert row["rank_chance"] == pytest.approx(np.mean(drawn), abs=0.003)
    np.testing.assert_allclose(
        [row["rank_chance_low"], row["rank_chance_high"]], np.quantile(drawn, [0.025, 0.975]), atol=0.005
    )
    assert row["rank_chance"] > 0.5


def test_neurons_without_a_score_have_no_rank():
    rng = np.random.default_rng(7)
    first, second = layered_scores(rng)
    first[1, :50] = np.nan
    known = ~np.isnan(first)
    assert ranked(first, second)["rank"] == pytest.approx(spearmanr(first[known], second[known])[0])
    assert np.isnan(ranked(np.full_like(first, np.nan), second)["rank"])


# --- births and deaths


@pytest.fixture(scope="module")
def planted():
    """Some lives of PHP neurons of layer 2, each of another kind, and three neurons of Python."""
    members = nobody()
    php, python = members[:, 1, 1], members[:, 0, 1]
    php[:, 0] = True  # always
    php[2:6, 1] = True  # from 20, gone at 500
    php[[1, 2, 4, 5], 2] = True  # with a gap at 50
    php[[0, 3, 5], 3] = True  # never twice in a row
    php[[3, 7], 4] = True  # a visit, then there at the last
    php[6:, 5] = True  # from 500
    python[0, 1] = python[1, 5] = python[4, 2] = True
    scores = np.tile(np.arange(8.0)[:, None, None, None], (1, 2, 4, 200))
    scores[3, 1, 1, 1] = 99
    scores[7, 1, 1, 1] = np.nan
    halves = np.stack([members, members])
    halves[1, :, 1, 1, 5] = False
    return life(members, scores, halves=array(halves))


def test_every_neuron_is_born_and_dies_when_it_was_planted_to(planted):
    mine = planted.table_.query("language == 'php'").set_index("neuron")
    assert mine["born"].to_dict() == {0: 0, 1: 20, 2: 10, 4: 1000, 5: 500}
    assert mine["died"].dropna().to_dict() == {1: 500, 2: 500}
    assert mine["from_start"].to_dict() == {0: True, 1: False, 2: False, 4: False, 5: False}
    assert (mine["layer"] == 2).all()


def test_a_gap_is_no_death_but_shows_in_the_share_of_checkpoints(planted):
    gap = one(planted.table_, language="php", neuron=2)
    assert (gap["present"], gap["share_present"]) == (4, 4 / 5)
    assert one(planted.table_, language="php", neuron=1)["share_present"] == 1


def test_what_is_never_there_twice_in_a_row_flickers(planted):
    assert one(planted.flicker_, language="php")["passing"] == 1
    assert one(planted.flicker_, language="php")["ever"] == 6
    assert 3 not in planted.table_.query("language == 'php'")["neuron"].to_numpy()
    assert one(planted.flicker_, language="python")["passing"] == 3


def test_flicker_by_chance_is_that_of_sets_drawn_anew():
    rng = np.random.default_rng(8)
    many = rng.random((6, 2, 1, 40_000)) < np.array([0.3, 0.1, 0.2, 0.4, 0.05, 0.2])[:, None, None, None]
    found = flicker(array(many, STEPS[:6]))
    np.testing.assert_allclose(found["chance"], found["share"], atol=0.01)


def test_scores_are_those_of_the_first_the_best_and_the_last_step(planted):
    row = one(planted.table_, language="php", neuron=1)
    assert (row["score_first"], row["score_best"], row["best"]) == (0, 99, 50)
    assert np.isnan(row["score_last"])


def test_a_neuron_knows_whether_it_was_the_pivots_before_its_birth(planted):
    mine = planted.table_.query("language == 'php'").set_index("neuron")
    assert mine["was_pivot_at_start"].to_dict() == {0: False, 1: True, 2: False, 4: False, 5: False}
    # 2 becomes the pivot's after its birth.
    assert mine["was_pivot_before"].to_dict() == {0: False, 1: True, 2: False, 4: False, 5: True}


def test_neurons_that_one_half_of_the_text_does_not_show_are_marked(planted):
    mine = planted.table_.query("language == 'php'").set_index("neuron")["both_halves"]
    assert mine.to_dict() == {0: True, 1: True, 2: True, 4: True, 5: False}


def test_births_and_deaths_are_counted_at_their_steps(planted):
    counts = planted.counts_.query("language == 'php'").set_index("step")
    assert counts["births"].dropna().to_dict() == {10: 1, 20: 1, 50: 0, 100: 0, 200: 0, 500: 1, 1000: 1}
    assert counts["deaths"].dropna().to_dict() == {10: 0, 20: 0, 50: 0, 100: 0, 200: 0, 500: 2, 1000: 0}
    assert counts["members"].to_list() == [2, 2, 3, 4, 3, 4, 2, 3]
    assert counts["settled"].to_list() == [1, 2, 3, 2, 3, 3, 2, 3]


def test_neurons_of_a_layer_born_after_a_step_are_one_query(planted):
    found = planted.table_.query("language == 'php' and layer == 2 and born > 100")
    assert found["neuron"].to_list() == [4, 5]


# --- layers


def test_thirds_of_the_layers_are_alike_at_both_ends():
    for layers, ends in ((1, 0), (2, 2), (4, 2), (5, 4), (6, 4), (7, 4), (12, 8)):
        members = np.ones((1, 2, layers, 3), bool)
        _, parts = layer_shares(array(members, STEPS[:1]))
        assert one(parts, language="php", part=ENDS)["share"] == pytest.approx(ends / layers)
        bottom, top = (one(parts, language="php", part=part)["count"] for part in ("bottom", "top"))
        assert layers == 1 or bottom == top


def test_neurons_planted_at_the_bottom_and_the_top_are_found_there():
    members = nobody(layers=6)
    members[:, 1, 0, :20], members[:, 1, 5, :15], members[:, 1, 2, :2] = True, True, True
    found = life(members)
    row = one(found.parts_, step=500, language="php", part=ENDS)
    assert (row["count"], row["total"], row["verdict"]) == (35, 37, MORE)
    reference = hypergeom(1200, 800, 37)
    assert row["chance"] == pytest.approx(2 / 3)
    assert row["chance_low"] == pytest.approx(reference.ppf(0.025) / 37)
    assert row["chance_high"] == pytest.approx(reference.ppf(0.975) / 37)
    assert one(found.layers_, step=500, language="php", layer=1)["share"] == pytest.approx(20 / 37)
    assert one(found.layers_, step=500, language="php", layer=4)["verdict"] == LESS
    assert "In the bottom and top thirds of the layers lie 95%" in found.verdict_


def test_sets_anywhere_are_not_said_to_lie_at_the_ends():
    rng = np.random.default_rng(9)
    _, parts = layer_shares(array(random_sets(rng, 60, layers=6), np.arange(60)))
    claims = parts.loc[(parts["part"] == ENDS) & (parts["verdict"] != UNRESOLVED)]
    assert 1 <= len(claims) <= 11  # of 120


# --- flow and origin


def test_neurons_are_counted_where_they_go():
    members = nobody()
    members[:, 0, 0, :10] = True
    members[4:, 1, 0, 5:25] = True  # 5 of them Python's too
    members[7, 0, 0, :8] = False  # of which 3 are both's and become PHP's alone
    flow = life(members).flow_

    def count(step, compared, was, now):
        return one(flow, **{"step": step, "compared": compared, "was": was, "is": now})["count"]

    assert count(100, "before", "pivot", "both") == 5
    assert count(100, "before", "none", "target") == 15
    assert count(1000, "before", "both", "target") == 3
    assert count(1000, "before", "pivot", "none") == 5
    assert count(1000, "first", "pivot", "target") == 3
    assert count(1000, "first", "pivot", "both") == 2
    of_pair = flow.groupby(["step", "compared"])[["count", "expected"]].sum()
    np.testing.assert_allclose(of_pair, 800)  # each neuron once


def test_expected_flow_is_that_of_random_sets_within_layers():
    members = nobody()
    members[0, 0, 0, :50], members[1:, 1, 0, 100:140] = True, True
    members[0, 0, 1, :100], members[1:, 1, 1, 100:110] = True, True
    row = one(life(members).flow_, **{"step": 10, "compared": "first", "was": "pivot", "is": "target"})
    assert row["count"] == 0
    assert row["expected"] == pytest.approx(50 * 40 / 200 + 100 * 10 / 200)


def transfer(shared):
    """40 neurons of Python, and 40 of PHP from step 50 on, `shared` of them Python's before; 9 were PHP's."""
    members = nobody()
    members[:3, 0, 0, :40] = members[:, 1, 0, 150:159] = True
    members[3:, 1, 0, 40 - shared : 80 - shared] = True
    return members


def test_new_neurons_that_were_the_pivots_are_said_to_be():
    found = life(transfer(20))
    row = one(found.origin_, step=200, reference=AT_START)
    reference = hypergeom(191, 40, 40)  # of the layer's 200, 9 were PHP's already
    assert (row["count"], row["total"], row["verdict"]) == (20, 40, MORE)
    assert row["chance"] == pytest.approx(reference.mean() / 40)
    assert row["chance_low"] == pytest.approx(reference.ppf(0.025) / 40)
    assert row["chance_high"] == pytest.approx(reference.ppf(0.975) / 40)
    together = one(found.arrivals_, reference=EARLIER)
    assert (together["count"], together["total"], together["verdict"]) == (20, 40, MORE)
    assert "Of the 40 born after the first checkpoint, 20 were Python's at the first" in found.verdict_
    assert MORE in found.verdict_


def test_neurons_that_become_the_pivots_later_do_not_come_from_it():
    members = nobody()
    members[3:, 1, 0, :40] = members[5:, 0, 0, :40] = True
    found = life(members)
    assert one(found.arrivals_, reference=EARLIER)["count"] == 0
    assert one(found.origin_, step=200, reference=EARLIER)["count"] == 0
    assert one(found.origin_, step=500, reference=EARLIER)["count"] == 40


def test_new_neurons_that_avoid_the_pivots_are_fewer_than_chance():
    assert one(life(transfer(0)).arrivals_, reference=AT_START)["verdict"] == LESS


def test_as_many_as_chance_gives_are_not_resolvable():
    found = life(transfer(8))
    assert one(found.arrivals_, reference=AT_START)["verdict"] == UNRESOLVED
    assert found.verdict_.count(UNRESOLVED) == 2  # by both references


def test_neurons_that_the_target_had_from_the_start_come_from_nowhere():
    members = nobody()
    members[:, :, 0, :50] = True  # everything is both's, always
    found = life(members)
    assert (found.origin_["total"] == 0).all()
    assert found.origin_["share"].isna().all()
    assert "No neuron of PHP was born after the first checkpoint" in found.verdict_


def test_layers_that_both_languages_prefer_are_no_transfer():
    """All of Python's and PHP's neurons are in one layer: much shared, no more than chance there."""
    rng = np.random.default_rng(10)
    members = nobody()
    members[0, 0, 0, :100] = True
    members[2:, 1, 0, rng.permutation(200)[:60]] = True
    row = one(life(members).arrivals_, reference=AT_START)
    assert row["share"] > 0.4
    assert row["verdict"] == UNRESOLVED


def test_of_random_histories_about_a_twentieth_claim_an_origin():
    rng = np.random.default_rng(11)
    claims = {AT_START: 0, EARLIER: 0}
    for _ in range(100):
        found = arrivals(array(random_sets(rng, 3, layers=2), STEPS[:3]), **NAMES)
        for reference in claims:
            claims[reference] += one(found, reference=reference)["verdict"] != UNRESOLVED
    assert all(count <= 10 for count in claims.values()), claims


def test_of_random_sets_about_a_twentieth_have_an_origin_at_a_step():
    rng = np.random.default_rng(12)
    table = origin(array(random_sets(rng, 100), np.arange(100)), **NAMES)
    beyond = table.loc[table["reference"] == AT_START, "verdict"] != UNRESOLVED
    assert 0 < beyond.mean() <= 0.09


# --- what is given


def test_steps_may_come_in_any_order():
    members, order = transfer(20), [3, 0, 7, 5, 1, 2, 6, 4]
    shuffled = array(members).isel(step=order)
    found = NeuronLife(shuffled, array(np.zeros(members.shape)).isel(step=order), **NAMES)
    assert found.table_.equals(life(members).table_)


def test_series_without_any_neuron_are_said_to_have_none():
    found = life(nobody())
    assert found.table_.empty
    assert "PHP has 0 neurons at step 0 and 0 at step 1,000" in found.verdict_
    assert found.arrivals_["verdict"].eq(UNRESOLVED).all()


def test_what_cannot_be_asked_is_refused_in_words():
    members = nobody()
    with pytest.raises(InputError, match="two checkpoints at least; got 1"):
        NeuronLife(*(array(members[:1], STEPS[:1]),) * 2, **NAMES)
    with pytest.raises(InputError, match="no neurons were selected for 'lua'; the languages are"):
        NeuronLife(array(members), array(members), pivot="python", target="lua")
