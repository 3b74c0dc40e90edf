"""What `analyze`, `stages`, `mix` and `demo` have in common: a directory, its questions, its analysis."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from babelscope.analyses.problem_sources import CodeAsked
from babelscope.analyses.questions import Extra, Lens, Questions
from babelscope.analyses.sharding import WHOLE, Shard
from babelscope.checkpoints.audit import audit, flagged
from babelscope.checkpoints.series import Series
from babelscope.cli.output import emit, pairs, say
from babelscope.core.errors import InputError
from babelscope.core.files import write_json

if TYPE_CHECKING:
    from babelscope.analyses.analysis import Analysis
    from babelscope.analyses.neuron_analysis import NeuronAnalysis
    from babelscope.analyses.neuron_questions import NeuronQuestions
    from babelscope.analyses.sweep import Results
    from babelscope.interp.measure import Measure


@dataclass(frozen=True)
class Reading:
    """A series and what it is asked."""

    series: Series
    questions: Questions
    lens: Lens = Lens.LOGIT
    also: tuple[Extra, ...] = ()

    def audited(self, *, keep_flagged: bool) -> Reading:
        """Without the checkpoints that the audit flags, unless they are to be kept; with its findings."""
        return replace(self, series=audited(self.series, keep_flagged=keep_flagged))

    def _measures(self) -> list[Measure[Any]]:
        return self.questions.measures(self.series, lens=self.lens, also=self.also)

    def plan(self, *, device: str | None, dtype: str, shard: Shard) -> dict[str, Any]:
        """What `sweep` would cost, and `neurons` where they are asked for."""
        from babelscope.analyses.planning import plan

        how: dict[str, Any] = {"device": device, "dtype": dtype}
        cost = plan(self.series, self._measures(), shard=shard, **how)
        # All of them, whatever the shard: the one that ends last measures them.
        return cost | ({"neurons": self._about_neurons().plan(**how)} if Extra.NEURONS in self.also else {})

    def sweep(
        self,
        *,
        device: str | None,
        dtype: str = "float32",
        shard: Shard = WHOLE,
        prefetch: bool = True,
    ) -> Results:
        """Measure what is missing of this shard's part."""
        from babelscope.analyses.sweep import sweep

        return sweep(
            self.series, self._measures(), device=device, dtype=dtype, shard=shard, prefetch=prefetch
        )

    def conclude(self, results: Results) -> Analysis:
        """What the results of the whole series show."""
        from babelscope.analyses.analysis import analyse

        return analyse(results, self.questions)

    def neurons(self, **how: Any) -> NeuronAnalysis:
        """What the neurons show, by the paper's rule; `how` is as for `sweep`."""
        from babelscope.analyses.neuron_analysis import analyse_neurons, measure_neurons

        asked = self._about_neurons()
        return analyse_neurons(asked, measure_neurons(asked, **how))

    def _about_neurons(self) -> NeuronQuestions:
        from babelscope.analyses.neuron_questions import NeuronQuestions

        return NeuronQuestions(self.series, self.questions)


def audited(series: Series, *, keep_flagged: bool) -> Series:
    """The series without what the audit flags, unless that is to be kept; with its findings."""
    findings = audit(series)
    return series.without(set() if keep_flagged else flagged(findings), findings)


def owed_by_others(results: Results, shard: Shard, *, as_json: bool) -> int:
    """Say what this process did and what is missing; not a failure, which would stop the other ranks."""
    failed = [asdict(finding) for finding in results.findings if finding.kind == "not measured"]
    steps = {finding["step"] for finding in failed}
    done = [c.name for c in shard.of(results.series.checkpoints) if c.step not in steps]
    if as_json:
        emit({"shard": str(shard), "done": done, "not_measured": failed, "owed": list(results.owed)})
        return 0
    say(f"shard {shard}: done with {', '.join(done) or 'nothing, since it has no checkpoint'}")
    say(*(f"! {finding['kind']}: {finding['detail']}" for finding in failed))
    say(
        f"owed by other shards: {', '.join(results.owed)}",
        "no report yet: the shard that ends last writes it, or afterwards the same command without --shard",
    )
    return 0


def read_directory(
    directory: Path,
    *,
    pivot: str | None = None,
    target: str | None = None,
    text: list[str] | None = None,
    questions: Path | None = None,
    available: list[str] | None = None,
    tokens: int | None = None,
    probes: list[Path] | None = None,
    problems: list[str] | None = None,
    sandbox: str = "bubblewrap",
    lens: Lens = Lens.LOGIT,
    also: list[Extra] | None = None,
) -> Reading:
    """Open a series and find its questions, refusing what cannot work before anything is computed."""
    counts = token_counts(available)
    series = Series.open(directory, pivot=pivot, target=target)
    texts = {name: Path(path) for name, path in pairs(text, option="--text").items()}
    code = (
        CodeAsked.parse({"problems": problems, "sandbox": sandbox}, origin="--problems") if problems else None
    )
    asked = Questions.of(
        series,
        texts=texts,
        file=questions,
        tokens=tokens,
        available=counts,
        probes=probes or (),
        code=code,
    )
    return Reading(series, asked, lens, tuple(also or ()))


def write_analysis(analysis: Analysis, out: Path) -> dict[str, Path]:
    """`report.html`, `analysis.json` and, where there is one, `mix.json`."""
    from babelscope.analyses.report import report

    written = {"analysis": out / "analysis.json", "report": out / "report.html"}
    write_json(written["analysis"], analysis.to_document())
    report(analysis, written["report"])
    if analysis.recommendation and analysis.recommendation.mix:
        written["mix"] = out / "mix.json"
        analysis.recommendation.mix.save(written["mix"])
    return written


def token_counts(available: list[str] | None) -> dict[str, int]:
    """Tokens that exist, by language, as `--available` gives them."""
    counts = {}
    for name, value in pairs(available, option="--available").items():
        try:
            counts[name] = int(float(value))
        except (ValueError, OverflowError):  # no number, or infinity
            counts[name] = 0
        if counts[name] < 1:
            raise InputError(f"--available {name}={value}: give a number of tokens, for example {name}=23e9")
    return counts
