"""What is wrong with a series: each finding can fake a phase transition, so flagged checkpoints are left out.

    duplicate           the same weights as an earlier step's
    foreign tensors     some tensors are those of another step, byte for byte (a shard from elsewhere)
    non-finite weights  NaN or infinity
    misplaced           folders have changed places, as the path of the weights shows
    norm                the norm of all weights leaps and comes back
    outlier             off the path between its neighbours: another run's weights, rescaled ones
    tokenizer drift     not the tokenizer of most checkpoints           } found by `Series.open`, as is
    history of another step   its trainer_state.json is another step's  } most of what is unreadable
    unreadable          no whole weights
    not fetched         a revision that the hub does not give
    not fetched         not on this machine, and the hub does not give it
    missing steps       a gap in a regular spacing; nothing to leave out

Misplaced, norm and outlier are judged in `trajectory`, on checkpoints whose weights have nothing else wrong.
Everything comes from one pass over the weights (`contents`), which is remembered; nothing here needs torch.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

import numpy as np

from babelscope.checkpoints.checkpoint import Checkpoint
from babelscope.checkpoints.contents import Contents, ContentsCache
from babelscope.checkpoints.findings import Finding
from babelscope.checkpoints.foreign import foreign_tensors
from babelscope.checkpoints.series import Series
from babelscope.checkpoints.spacing import gaps
from babelscope.checkpoints.trajectory import norm_jumps, outliers, true_order
from babelscope.checkpoints.weights import BrokenWeightsError
from babelscope.core.errors import InputError
from babelscope.core.progress import progress

LEFT_OUT = {
    *("duplicate", "foreign tensors", "non-finite weights", "misplaced", "norm", "outlier"),
    *("tokenizer drift", "history of another step", "unreadable", "not fetched"),
}


def audit(series: Series) -> tuple[Finding, ...]:
    """Everything that is wrong with a series, by step; what `Series.open` found included.

    Reads the weights of checkpoints that it does not know yet, and those only.
    """
    return judge(series, *survey(series))


def flagged(findings: Iterable[Finding]) -> set[int]:
    """Steps that should not be concluded from."""
    return {f.step for f in findings if f.kind in LEFT_OUT and f.step is not None}


def unread(series: Series) -> list[Checkpoint]:
    """Checkpoints whose weights an audit would read."""
    cache = ContentsCache(series.state)
    return [checkpoint for checkpoint in series if not _known(cache, checkpoint)]


def survey(series: Series) -> tuple[dict[int, Contents], list[Finding]]:
    """The contents of every checkpoint by step, and which could not be read; fetches what is not here."""
    cache = ContentsCache(series.state)
    found, findings = {}, []
    total = sum(checkpoint.n_bytes for checkpoint in unread(series) if checkpoint.is_here) / 1e6
    with progress() as display:
        task = display.add_task("reading weights, MB", total=total)

        def advance(n_bytes: int) -> None:
            display.advance(task, n_bytes / 1e6)

        for checkpoint in series:
            if not checkpoint.is_here:
                if failure := _fetch(checkpoint):
                    findings.append(failure)
                    continue
                total += checkpoint.n_bytes / 1e6
                display.update(task, total=total)
            try:
                found[checkpoint.step] = cache.of(checkpoint.path, advance=advance)
            except BrokenWeightsError as error:  # changed since the series was opened
                detail = f"{checkpoint.name}: {error}"
                findings.append(Finding(checkpoint.step, "unreadable", detail))
    return found, findings


def judge(
    series: Series, contents: dict[int, Contents], unreadable: Iterable[Finding]
) -> tuple[Finding, ...]:
    """The findings of an audit, from what `survey` returns."""
    names = {checkpoint.step: checkpoint.name for checkpoint in series}
    findings = [*series.findings, *unreadable]
    findings += _duplicates(contents, names, _idle_steps(series))
    findings += _non_finite(contents, names)
    distinct = _distinct(contents)
    findings += foreign_tensors(distinct, names)
    broken = {f.step for f in findings if f.kind in ("foreign tensors", "non-finite weights")}
    findings += _off_the_path({s: one for s, one in distinct.items() if s not in broken}, names)
    left_out = (
        f.step for f in findings if f.kind in ("unreadable", "tokenizer drift") and f.step is not None
    )
    steps = {*series.steps, *left_out}
    findings += [Finding(step, "missing steps", detail) for step, detail in gaps(sorted(steps))]
    return tuple(sorted(findings, key=lambda f: (f.step is None, f.step)))


def _fetch(checkpoint: Checkpoint) -> Finding | None:
    """Download a revision; what prevented it, else None. The other revisions may still come."""
    try:
        _ = checkpoint.path
    except InputError as error:
        return Finding(checkpoint.step, "not fetched", str(error))
    return None


def _known(cache: ContentsCache, checkpoint: Checkpoint) -> bool:
    try:
        return checkpoint.is_here and cache.knows(checkpoint.path)
    except BrokenWeightsError:
        return True  # there is nothing to read, as `survey` will say


def _distinct(contents: dict[int, Contents]) -> dict[int, Contents]:
    """The first of identical checkpoints."""
    first = {one.fingerprint: step for step, one in reversed(contents.items())}
    return {step: one for step, one in contents.items() if first[one.fingerprint] == step}


def _duplicates(
    contents: Mapping[int, Contents], names: Mapping[int, str], idle: set[int]
) -> Iterator[Finding]:
    last: dict[str, int] = {}  # the latest step with these weights
    first: dict[str, int] = {}
    for step, one in contents.items():
        original = first.setdefault(one.fingerprint, step)
        since = last.get(one.fingerprint, step)
        if original != step and not idle.issuperset(range(since + 1, step + 1)):
            yield Finding(step, "duplicate", f"{names[step]} has the very weights of step {original}")
        last[one.fingerprint] = step


def _idle_steps(series: Series) -> set[int]:
    """Steps logged with a learning rate of 0: a warm-up often begins with one, and changes nothing."""
    return {entry["step"] for entry in series.history if entry.get("learning_rate") == 0}


def _non_finite(contents: Mapping[int, Contents], names: Mapping[int, str]) -> Iterator[Finding]:
    for step, one in contents.items():
        broken = [tensor for tensor in one.tensors.values() if tensor.non_finite]
        if broken:
            counts = [f"{t.name} ({t.non_finite} of {t.size} entries)" for t in broken[:5]]
            more = f" and {len(broken) - 5} more tensors" if len(broken) > 5 else ""
            detail = f"{names[step]}: not finite in {', '.join(counts)}{more}"
            yield Finding(step, "non-finite weights", detail)


def _off_the_path(contents: Mapping[int, Contents], names: Mapping[int, str]) -> Iterator[Finding]:
    """The order first: put right, it disturbs no other judgement."""
    steps = list(contents)
    samples = list(_moving(list(contents.values())))
    if not samples:
        return
    order = true_order(samples)
    displaced = [place for place, holder in enumerate(order) if place != holder]
    many = len(displaced) > len(order) / 3  # then the places are no more than a guess
    for place in displaced:
        fits = "are out of order, as those of many here" if many else f"fit at step {steps[place]}"
        step = steps[order[place]]
        yield Finding(step, "misplaced", f"{names[step]} has weights that {fits}")
    samples = [sample[order] for sample in samples]
    norms = np.array([contents[steps[holder]].norm for holder in order])
    leaps = norm_jumps(norms)
    for k in leaps:
        step, beside = steps[order[k]], [steps[order[j]] for j in (k - 1, k + 1) if j < len(order)]
        detail = f"{names[step]} has norm {norms[k]:.4g}; " + ", ".join(
            f"step {other} has {contents[other].norm:.4g}" for other in beside
        )
        yield Finding(step, "norm", detail)
    rest = [k for k in range(len(order)) if k not in leaps]
    for position in outliers([sample[rest] for sample in samples]):
        step = steps[order[rest[position]]]
        yield Finding(step, "outlier", f"{names[step]} is off the path between the checkpoints beside it")


def _moving(checkpoints: list[Contents]) -> Iterator[np.ndarray]:
    """Samples (checkpoint, entry) of every tensor that all have and that training moves."""
    for name in checkpoints[0].samples if checkpoints else ():
        rows = [one.samples[name] for one in checkpoints if name in one.samples]
        if len(rows) == len(checkpoints) and any((row != rows[0]).any() for row in rows):
            yield np.stack(rows)
