"""`babelscope probes TOKENIZER`: which identifier probes a tokenizer lets be asked, and why not others."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape

from babelscope.checkpoints.layouts import shown
from babelscope.checkpoints.tokenizer import open_tokenizer
from babelscope.cli.output import Json, emit, say, show
from babelscope.core.errors import InputError
from babelscope.probes.placement import ENOUGH, Minimum
from babelscope.probes.probe_audit import ConceptAudit, ProbeAudit
from babelscope.probes.probe_files import probed_languages, probes_of, read_probe_files


def command(
    tokenizer: Annotated[
        str,
        typer.Argument(
            help="The folder of a checkpoint or tokenizer, a tokenizer.json, or a model on the hub."
        ),
    ],
    pivot: Annotated[str, typer.Option(help="The language that others are told from.")] = "python",
    target: Annotated[
        list[str] | None,
        typer.Option(
            help="A language to tell from it; each by an option of its own. Default: all with probes."
        ),
    ] = None,
    probes: Annotated[
        list[Path] | None,
        typer.Option(help="A TOML file of your own probes, beside those that come with the languages."),
    ] = None,
    min_prompts: Annotated[
        int, typer.Option(min=1, help="Prompts that must be left of each language.")
    ] = ENOUGH.prompts,
    as_json: Json = False,
) -> int:
    """Audit identifier probes in one tokenizer: tokens, exclusions, coverage; 1 if a language has too few."""
    own = probes or []
    every = [*probed_languages(), *(probe.language for probe in read_probe_files(own))]
    targets = list(dict.fromkeys(target or [language for language in every if language != pivot]))
    if pivot in targets:
        raise InputError(f"--target {pivot} is the pivot; give another language or another --pivot")
    given = probes_of([pivot, *targets], own)
    opened = open_tokenizer(tokenizer)
    minimum = Minimum(prompts=min_prompts)
    audits = [
        ProbeAudit(given, opened.tokenizer, pivot=pivot, target=one, context=opened.context, minimum=minimum)
        for one in targets
    ]
    if as_json:
        emit(
            {
                "tokenizer": tokenizer,
                "vocabulary": len(opened.tokenizer),
                "context": opened.context,
                "pivot": pivot,
                "minimum": asdict(minimum),
                "targets": [audit.to_document() for audit in audits],
            }
        )
    else:
        context = f"{opened.context:,}" if opened.context else "not known"
        say(f"{shown(tokenizer)}: {len(opened.tokenizer):,} tokens, context {context}")
        show(escape(f"probes against {pivot}"), [_language(audit) for audit in audits])
        if len(audits) == 1 and audits[0].concepts_:
            show("concepts", [_concept(audits[0], one) for one in audits[0].concepts_])
        say(*(f"! {audit.target}: {audit.shortfall_}" for audit in audits if audit.shortfall_))
    return 0 if all(audit.verdict_ == "enough" for audit in audits) else 1


def _language(audit: ProbeAudit) -> dict[str, Any]:
    return {
        "target": escape(audit.target),
        "concepts": "{} of {}".format(*audit.concepts),
        "prompts": "{} of {}".format(*audit.prompts),
        "coverage": "" if audit.coverage is None else f"{audit.coverage:.0%}",
        "verdict": audit.verdict_,
        "prompts left out": _counts(audit.excluded),
    }


def _concept(audit: ProbeAudit, one: ConceptAudit) -> dict[str, Any]:
    fewest, most = one.n_tokens
    return {
        "concept": escape(one.concept) if one.language == audit.pivot else "",
        "language": escape(one.language),
        "identifier": escape(", ".join(one.identifiers)),
        "first token": escape(", ".join(map(_visible, dict.fromkeys(one.tokens.values())))),
        "tokens": str(most) if fewest == most else f"{fewest}–{most}",
        "prompts": f"{one.usable} of {one.prompts}",
        "left out": _counts(one.excluded),
    }


def _visible(token: str) -> str:
    """A token in one piece, its spaces seen."""
    return shown(token.replace(" ", "␣"))


def _counts(kinds: Mapping[Any, int]) -> str:
    return ", ".join(f"{count} {kind}" for kind, count in kinds.items())
