"""What every signal of a series says of a transition: a vote each, and when.

"The Rise and Down of Babel Tower" (arXiv 2412.07298, section 3) tells three stages by several signals:

    stage           score       pivot's knowledge  working language  target's neurons  pivot's score
    translation     rises       high               the pivot's       many              slight decline
    transition      declines    falls too          pivot → target    fewer             strong decline
    stabilization   flat or up  about none         the target's      still fewer       flat

Nobody should have to believe one noisy curve. Each signal has a fit of its own and votes *for* a transition
where its rises and falls are resolved and as expected, *against* where they are resolved and otherwise, and
abstains where they are not. Neurons of the pivot are expected to grow (section 3 of the paper), and its
held-out loss to rise as its score declines, which is inferred. What changes alike in every run that learns
the target, its loss and the choice of its identifiers, cannot vote for anything; the bend of the loss can say
when.

Votes are counted and never multiplied: signals of one series see the same checkpoints and often the same
problems, so there is no joint p-value. The stages are those of the score's detector; votes only corroborate.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from itertools import combinations
from typing import Any, Literal, NamedTuple, Protocol, Self

import numpy as np
import pandas as pd
from jaxtyping import Float

from babelscope.analyses.score_curve import ScoreCurve
from babelscope.analyses.shapes import UNRESOLVED, Stage
from babelscope.analyses.signal_curve import SignalCurve
from babelscope.analyses.stages import Break
from babelscope.core.errors import InputError

FOR, AGAINST, ABSTAINS = "for", "against", "abstains"
SIGNS = {
    **{"rising": "+", "falling": "-", "flat": "0"},
    **{"translation": "+", "transition": "-", "stabilization": "0"},
}


class Expected(NamedTuple):
    """What the paper expects of a signal.

    `pattern` is of rises, falls and flat stretches, and "" where any run shows the same; `transition` is the
    sign of the stretch that is the transition.
    """

    words: str
    pattern: str
    transition: str = "-"


_PEAK, _FALL, _RISE = r"0?\+0?-0?", r"[0+]*-0?", r"[0-]*\+0?"
EXPECTED = {
    "score": Expected("rises to a peak, declines, then is flat or gains slowly", _PEAK),
    "pivot knowledge": Expected("rises with translation, then falls to about none", _PEAK),
    "knowledge transferred": Expected("high, falls with the score, then about none", _FALL),
    "working language": Expected("the pivot's, then falls towards the target's", _FALL),
    "target neurons": Expected("many, then fewer", _FALL),
    "pivot neurons": Expected("few, then more", _RISE, "+"),
    "pivot score": Expected("declines, most in the transition, then is flat", _FALL),
    "pivot loss": Expected("rises as the pivot's score declines, then is flat", _RISE, "+"),
    "target loss": Expected("falls in any run that learns the target; its bend says when", ""),
    "identifier choice": Expected("rises in any run that learns the target", ""),
}


class Found(Protocol):
    """A fitted detector of one signal: `StageDetector` or `SignalDetector`."""

    curve_: Any
    breaks_: list[Break]
    stages_: list[Stage]
    shape_: str
    resolved_: bool
    fitted_: Float[np.ndarray, " n"]
    band_: Float[np.ndarray, "n 2"]

    @property
    def verdict_(self) -> str:
        """The shape in a sentence."""
        ...


@dataclass(frozen=True)
class Vote:
    """What one signal says of a transition.

    Attributes
    ----------
    begins, ends
        Of the transition, with their intervals. None where it begins before the first fitted checkpoint or
        ends after the last, and where the signal does not say when.
    first, last
        The fitted checkpoints that stand in for those; None where the signal does not say when.
    """

    signal: str
    vote: Literal["for", "against", "abstains"]
    reason: str
    expected: str
    shape: str
    begins: Break | None = None
    ends: Break | None = None
    first: int | None = None
    last: int | None = None

    @property
    def when(self) -> tuple[int, int] | None:
        """First and last step of the transition, by the estimates."""
        if self.first is None or self.last is None:
            return None
        return self.begins.step if self.begins else self.first, self.ends.step if self.ends else self.last

    @property
    def widest(self) -> tuple[int, int] | None:
        """The same by the outer ends of the intervals: all steps that may be in the transition."""
        if self.first is None or self.last is None:
            return None
        return self.begins.low if self.begins else self.first, self.ends.high if self.ends else self.last


class StageVotes:
    """Votes of all signals of one series.

    Attributes
    ----------
    found_ : dict
        The fitted detectors by signal, in the order of `EXPECTED`.
    votes_ : list of Vote
        One per signal, those that were not measured included.
    table_ : DataFrame
        signal, vote, shape, begins, begins_low, begins_high, ends, ends_low, ends_high (steps; NaN where
        there is none), expected, reason.
    common_ : (int, int) or None
        Steps that every signal which votes for a transition puts into it, by the estimates; None where there
        are none, or fewer than two such signals.
    apart_ : list of (str, str)
        Pairs of signals whose transitions do not meet even at the outer ends of their intervals: the first is
        over before the second begins. Of all that say when.
    verdict_ : str
        One paragraph.
    """

    def fit(self, found: Mapping[str, Found], *, missing: Mapping[str, str]) -> Self:
        """Count the votes.

        Parameters
        ----------
        found
            A fitted detector by signal.
        missing
            Why each other signal was not measured or could not be fitted.

        Raises
        ------
        InputError
            If a signal is not one of `EXPECTED`, or has neither a detector nor a reason.
        """
        if strange := set(found) - set(EXPECTED):
            raise InputError(
                f"no expectation is known of {min(strange)!r}; signals are {', '.join(EXPECTED)}"
            )
        if lost := [signal for signal in EXPECTED if signal not in found and signal not in missing]:
            raise InputError(f"{lost[0]!r} has neither a fit nor a reason why not; give one of them")
        self.found_ = {signal: found[signal] for signal in EXPECTED if signal in found}
        self.votes_ = [
            _vote(signal, found[signal]) if signal in found else _absent(signal, missing[signal])
            for signal in EXPECTED
        ]
        self.table_ = pd.DataFrame([_row(vote) for vote in self.votes_])
        spans = [vote.when for vote in self.of(FOR) if vote.when]
        shared = max((span[0] for span in spans), default=0), min((span[1] for span in spans), default=0)
        self.common_ = shared if len(spans) > 1 and shared[0] < shared[1] else None
        self.apart_ = [
            (first.signal, second.signal)
            for one, other in combinations([vote for vote in self.votes_ if vote.widest], 2)
            for first, second in ((one, other), (other, one))
            if first.widest and second.widest and first.widest[1] < second.widest[0]
        ]
        self.verdict_ = self._in_words()
        return self

    def of(self, vote: str) -> list[Vote]:
        """Those that vote so."""
        return [one for one in self.votes_ if one.vote == vote]

    def to_document(self) -> dict[str, Any]:
        """Everything, ready for JSON."""
        return {
            "verdict": self.verdict_,
            "votes": [asdict(vote) for vote in self.votes_],
            "common": self.common_,
            "apart": self.apart_,
        }

    def _in_words(self) -> str:
        count = "; ".join(
            f"{len(votes)} {phrase}" + (f" ({', '.join(vote.signal for vote in votes)})" if votes else "")
            for phrase, votes in (
                ("for a transition", self.of(FOR)),
                ("against", self.of(AGAINST)),
                ("abstaining", self.of(ABSTAINS)),
            )
        )
        stages = f"By the score, which alone decides the stages, the shape is {self.votes_[0].shape}."
        own = "Signals of one series are not independent, so votes are counted and not multiplied."
        return " ".join(part for part in (f"Votes: {count}.", self._when(), stages, own) if part)

    def _when(self) -> str:
        votes = [vote for vote in self.of(FOR) if vote.when]
        parts = []
        if self.common_:
            low, high = self.common_
            parts.append(f"All that vote for it are in transition from step {low:,} to {high:,}.")
        elif len(votes) > 1:
            parts.append("No step is in the transition of all that vote for it.")
        elif votes and votes[0].when:
            low, high = votes[0].when
            parts.append(f"It puts the transition at steps {low:,} to {high:,}.")
        for first in dict.fromkeys(first for first, _ in self.apart_):
            later = " and ".join(second for one, second in self.apart_ if one == first)
            parts.append(f"They disagree on when: by {first} it is over before it begins by {later}.")
        return " ".join(parts)


def _absent(signal: str, reason: str) -> Vote:
    return Vote(signal, ABSTAINS, reason, EXPECTED[signal].words, "")


def _vote(signal: str, found: Found) -> Vote:
    words, pattern, transition = EXPECTED[signal]
    if not found.resolved_:
        return Vote(signal, ABSTAINS, UNRESOLVED, words, found.shape_)
    if not pattern:
        when = _bend(found) if signal == "target loss" else {}
        return Vote(signal, ABSTAINS, "any run shows it", words, found.shape_, **when)
    signs = "".join(SIGNS[stage.name] for stage in found.stages_)
    if not re.fullmatch(pattern, signs):
        return Vote(signal, AGAINST, f"{found.shape_}, and not as expected", words, found.shape_)
    stage = found.stages_[signs.rindex(transition)]
    begins, ends = (_break_at(found, step) for step in (stage.start_step, stage.end_step))
    first, last = _fitted(found)[[0, -1]].tolist()
    return Vote(signal, FOR, "as expected", words, found.shape_, begins, ends, first, last)


def _bend(found: Found) -> dict[str, Any]:
    """Where a falling loss turns from its steepest fall to a slower one, and where that turns again."""
    steps = _fitted(found)
    edges = [steps[0], *(one.step for one in found.breaks_), steps[-1]]
    fitted = np.log(found.fitted_[np.isfinite(found.fitted_)])
    values = np.interp(np.log10(edges), np.log10(steps), fitted)
    steepest = int((np.diff(values) / np.diff(np.log10(edges))).argmin())
    after = [*found.breaks_, None, None][steepest : steepest + 2]
    if after[0] is None:
        return {}
    return {"begins": after[0], "ends": after[1], "first": int(steps[0]), "last": int(steps[-1])}


def _break_at(found: Found, step: int) -> Break | None:
    return next((one for one in found.breaks_ if one.step == step), None)


def _fitted(found: Found) -> np.ndarray:
    curve: ScoreCurve | SignalCurve = found.curve_
    return curve.steps[np.isfinite(found.fitted_)]


def _row(vote: Vote) -> dict[str, Any]:
    nowhere = (np.nan, np.nan, np.nan)
    begins = (vote.begins.step, vote.begins.low, vote.begins.high) if vote.begins else nowhere
    ends = (vote.ends.step, vote.ends.low, vote.ends.high) if vote.ends else nowhere
    return {
        "signal": vote.signal,
        "vote": vote.vote,
        "shape": vote.shape,
        **dict(zip(("begins", "begins_low", "begins_high"), begins, strict=True)),
        **dict(zip(("ends", "ends_low", "ends_high"), ends, strict=True)),
        "expected": vote.expected,
        "reason": vote.reason,
    }
