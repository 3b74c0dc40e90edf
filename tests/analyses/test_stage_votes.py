"""Votes of signals on a transition: for, against or none, when, and what they have in common."""

from types import SimpleNamespace

import numpy as np
import pytest

from babelscope.analyses.figures.stage_votes import stage_votes_figure
from babelscope.analyses.shapes import Stage
from babelscope.analyses.stage_signals import (
    held_out_loss,
    knowledge_transferred,
    neuron_counts,
    stage_votes,
    transferred_share,
)
from babelscope.analyses.stage_votes import EXPECTED, StageVotes
from babelscope.analyses.stages import Break
from babelscope.analyses.tables import neurons
from babelscope.core.errors import InputError
from tests.analyses.synthetic import babel, measured

STEPS = np.array([0, 10, 30, 100, 200, 300, 600, 1000])


def shaped(signs, *breaks, resolved=True, fitted=None):
    """What a detector says of a signal whose trend has these signs between these breaks (step, low, high)."""
    edges = [10, *(one[0] for one in breaks), 1000]
    names = {"+": "rising", "-": "falling", "0": "flat"}
    return SimpleNamespace(
        curve_=SimpleNamespace(steps=STEPS),
        breaks_=[Break(*one) for one in breaks],
        stages_=[
            Stage(names[sign], start, end)
            for sign, start, end in zip(signs, edges, edges[1:], strict=False)
            if resolved
        ],
        shape_=signs if resolved else "not resolvable",
        resolved_=resolved,
        fitted_=np.array([np.nan, *(fitted or range(7))], float),
    )


def count(**found):
    named = {name.replace("_", " "): one for name, one in found.items()}
    return StageVotes().fit(
        named, missing={signal: "not asked for" for signal in EXPECTED if signal not in named}
    )


def vote(votes, signal):
    return next(one for one in votes.votes_ if one.signal == signal)


PEAK = shaped("+-0", (100, 30, 200), (600, 300, 600))


@pytest.mark.parametrize(
    ("signal", "signs", "expected"),
    [
        ("score", "+-0", "for"),
        ("score", "0+-", "for"),
        ("score", "+", "against"),
        ("score", "+-+", "against"),
        ("score", "0", "against"),
        ("knowledge transferred", "-0", "for"),
        ("knowledge transferred", "+-0", "for"),
        ("knowledge transferred", "+", "against"),
        ("working language", "0-0", "for"),
        ("working language", "-+", "against"),
        ("target neurons", "+-", "for"),
        ("pivot neurons", "0+0", "for"),
        ("pivot neurons", "0-", "against"),
        ("pivot score", "0-0", "for"),
        ("pivot loss", "0+", "for"),
        ("target loss", "-0", "abstains"),
        ("identifier choice", "+0", "abstains"),
    ],
)
def test_a_resolved_signal_votes_by_what_the_paper_expects(signal, signs, expected):
    inner = [(step, step, step) for step in (100, 300)[: len(signs) - 1]]
    votes = count(**{signal: shaped(signs, *inner, fitted=[3, 2, 1, 0.9, 0.8, 0.7, 0.6])})
    assert vote(votes, signal).vote == expected


def test_a_signal_that_is_not_resolvable_abstains():
    assert vote(count(score=shaped("0", resolved=False)), "score").vote == "abstains"


def test_a_signal_that_is_missing_abstains_with_the_reason():
    votes = count(score=PEAK)
    assert vote(votes, "working language").vote == "abstains"
    assert vote(votes, "working language").reason == "not asked for"
    assert len(votes.table_) == len(EXPECTED)


def test_the_common_range_is_where_all_that_vote_for_it_overlap():
    votes = count(score=PEAK, knowledge_transferred=PEAK)
    assert votes.common_ == (100, 600)
    wider = count(score=PEAK, pivot_score=shaped("0-", (300, 200, 600)))
    assert wider.common_ == (300, 600)
    assert "from step 300 to 600" in wider.verdict_


def test_transitions_that_do_not_meet_are_named_in_their_order():
    late = shaped("0-", (1000, 1000, 1000))
    late.stages_ = [Stage("flat", 10, 1000), Stage("falling", 1000, 1000)]
    votes = count(score=PEAK, working_language=late)
    assert votes.common_ is None
    assert votes.apart_ == [("score", "working language")]
    assert "by score it is over before it begins by working language" in votes.verdict_


def test_transitions_whose_intervals_meet_are_not_called_apart():
    near = shaped("0-", (600, 300, 1000))
    votes = count(score=shaped("+-0", (100, 30, 200), (300, 200, 600)), pivot_score=near)
    assert votes.common_ is None
    assert votes.apart_ == []


def test_the_loss_of_the_target_says_when_it_bends_and_votes_for_nothing():
    falling = shaped("-", fitted=[8, 4, 1, 0.9, 0.85, 0.8, 0.8])
    falling.breaks_ = [Break(100, 30, 200), Break(600, 300, 600)]
    found = vote(count(target_loss=falling), "target loss")
    assert found.vote == "abstains"
    assert found.when == (100, 600)


def test_a_signal_without_an_expectation_or_a_reason_is_refused():
    with pytest.raises(InputError, match="no expectation is known of 'mood'"):
        StageVotes().fit({"mood": PEAK}, missing={})
    with pytest.raises(InputError, match="'pivot knowledge' has neither a fit nor a reason"):
        StageVotes().fit({"score": PEAK}, missing={})


def test_knowledge_transferred_is_the_share_of_what_the_pivot_knew_and_undefined_without_any_solved():
    known = np.array([True, True, False, False])
    solved = np.array([[0, 1, 1], [0, 0, 1], [0, 1, 1], [0, 1, 0]], bool)
    values, draws = transferred_share(known, solved)
    assert np.isnan(values[0])
    assert values[1:].tolist() == [1 / 3, 2 / 3]
    assert np.isnan(draws[:, 0]).all()
    assert np.nanmax(draws) <= 1


def test_none_of_few_is_less_certain_than_none_of_many():
    solved = np.zeros((1000, 2), bool)
    solved[:5, 0], solved[:900, 1] = True, True
    _, draws = transferred_share(np.zeros(1000, bool), solved)
    spread = np.nanstd(draws, axis=0)
    assert spread[0] > 10 * spread[1] > 0


def test_knowledge_needs_problems_a_step_0_and_ids_that_both_languages_share():
    data = measured()["problem_scores"]
    with pytest.raises(InputError, match="no problems were asked"):
        knowledge_transferred(None, pivot="python", target="php")
    with pytest.raises(InputError, match="no checkpoint at step 0"):
        knowledge_transferred(data.isel(step=slice(1, None)), pivot="python", target="php")
    apart = data.assign_coords(id=("problem", [str(i) for i in range(data.sizes["problem"])]))
    with pytest.raises(InputError, match="no problem is asked in both Python and PHP"):
        knowledge_transferred(apart, pivot="python", target="php")


def test_counts_of_neurons_are_those_of_the_frozen_rule():
    data = measured()["transferring_neurons"].isel(step=slice(0, 8))
    table = neurons({"transferring_neurons": data}).query("rule == 'frozen'")  # pyright: ignore[reportArgumentType]
    for language, curve in neuron_counts(data).items():
        expected = table[table["language"] == language]["count"]
        assert curve.values.tolist() == expected.tolist()


def test_loss_is_per_token_not_per_document():
    data = measured()["language_loss"]
    mine = data["language"].to_numpy() == "php"
    nll, tokens = data["nll"].to_numpy()[:, mine], data["tokens"].to_numpy()[0, mine]
    np.testing.assert_allclose(held_out_loss(data, "php").values, nll.sum(1) / tokens.sum())


@pytest.fixture(scope="module")
def transferring():
    return stage_votes(measured(), babel().stages, babel().working)  # pyright: ignore[reportArgumentType]


def test_in_a_small_babel_score_and_knowledge_vote_for_a_transition_and_overlap(transferring):
    assert [vote(transferring, one).vote for one in list(EXPECTED)[:3]] == ["for"] * 3
    assert transferring.common_ is not None
    first, last = transferring.common_
    assert 150 <= first <= 400 <= last


def test_where_nothing_transfers_neither_score_nor_knowledge_votes_for_a_transition():
    analysis = babel(transfers=False)
    votes = stage_votes(measured(transfers=False), analysis.stages, analysis.working)  # pyright: ignore[reportArgumentType]
    assert all(vote(votes, one).vote != "for" for one in [*list(EXPECTED)[:3], "working language"])


def test_the_figure_has_a_panel_and_a_vote_for_every_signal_that_was_fitted(transferring):
    figure = stage_votes_figure(transferring, pivot="python", target="php")
    written = [annotation.text for annotation in figure.layout.annotations]
    assert sum(text.startswith(("<b>✓ for", "<b>✗ against", "<b>– abstains")) for text in written) == 10
    assert any(shape.yref == "paper" for shape in figure.layout.shapes)


def test_the_figure_leaves_out_what_was_not_measured(transferring):
    some = {signal: transferring.found_[signal] for signal in ("score", "target loss")}
    votes = StageVotes().fit(some, missing={signal: "none" for signal in EXPECTED if signal not in some})
    figure = stage_votes_figure(votes, pivot="python", target="php")
    assert {trace.yaxis for trace in figure.data} == {"y", "y2"}
