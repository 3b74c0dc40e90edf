"""What the audit counts, against counting; and that the documented table is what comes with the project."""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path

from babelscope.core.languages import shown
from babelscope.probes.placement import Minimum, Placement
from babelscope.probes.probe_audit import ProbeAudit
from babelscope.probes.probe_files import known_probes, probed_languages, probes_of
from tests.probes.byte_pairs import GPT4, bpe

DOCS = Path(__file__).parents[2] / "docs" / "probes.md"


def audited(target: str, **options) -> ProbeAudit:
    given = probes_of(["python", "php", target])
    return ProbeAudit(given, bpe("python", "php", pattern=GPT4), pivot="python", target=target, **options)


def test_concepts_and_prompts_are_counted_as_they_are_placed():
    audit = audited("java")
    probes = known_probes("python", "java")
    placement = Placement(probes, bpe("python", "php", pattern=GPT4))
    usable = [p for p in placement.usable if p.probe.language == "java"]
    assert audit.concepts == (len({p.probe.concept for p in usable}), len(probes.concepts))
    assert audit.prompts == (len(usable), len(probe_texts(probes, "java")))
    assert audit.coverage == len(usable) / len(probe_texts(probes, "java"))
    kinds = Counter(p.kind for p in placement.excluded if p.probe.language == "java")
    assert audit.excluded == kinds
    assert sum(kinds.values()) + len(usable) == audit.prompts[1]


def probe_texts(probes, language):
    return [probe.prompt for probe in probes.probes if probe.language == language]


def test_each_concept_says_its_identifier_tokens_and_prompts_in_both_languages():
    tokenizer = bpe("python", "php", pattern=GPT4)
    audit = audited("php")
    assert [one.language for one in audit.concepts_[:2]] == ["python", "php"]
    row = next(one for one in audit.concepts_ if (one.concept, one.language) == ("length", "php"))
    assert row.identifiers == ("count",)
    assert set(row.tokens.values()) == {"count", " count", "(count"}
    assert {tokenizer.decode([i]): text for i, text in row.tokens.items()} == {
        t: t for t in row.tokens.values()
    }
    assert (row.n_tokens, row.prompts, row.usable) == ((1, 1), 11, 10)
    assert row.excluded == {"merge": 1}
    assert row.reasons == {"merge": "the token '(count' holds more than the beginning of 'count'"}
    constructor = next(one for one in audit.concepts_ if one.identifiers == ("init__",))
    assert constructor.n_tokens == (2, 2)


def test_the_verdict_follows_the_minimum():
    usable, _ = audited("php").prompts
    of_both = min(usable, sum(one.usable for one in audited("php").concepts_ if one.language == "python"))
    assert audited("php", minimum=Minimum(prompts=of_both)).verdict_ == "enough"
    too_few = audited("php", minimum=Minimum(prompts=of_both + 1))
    assert too_few.verdict_ == "too few"
    assert f"{of_both} of 16" in too_few.shortfall_
    concepts, _ = audited("php").concepts
    assert audited("php", minimum=Minimum(concepts=concepts + 1)).verdict_ == "too few"


def test_prompts_that_do_not_fit_are_listed_with_the_context():
    audit = audited("php", context=20)
    assert audit.excluded["too long"] > 0
    assert any("the model takes 20" in one.reasons.get("too long", "") for one in audit.concepts_)


def test_languages_that_name_everything_alike_are_said_to_have_no_distinguishable_pairs():
    given = probes_of(["javascript", "typescript"])
    audit = ProbeAudit(given, bpe("python", "php"), pivot="javascript", target="typescript")
    assert audit.verdict_ == "no distinguishable pairs"
    assert (audit.concepts, audit.prompts, audit.coverage, audit.concepts_) == ((0, 0), (0, 0), None, ())
    assert "javascript and typescript give the same names to all 17 concepts" in audit.shortfall_


def test_the_document_is_json_and_holds_what_the_audit_says():
    audit = audited("java")
    document = json.loads(json.dumps(audit.to_document(), allow_nan=False))
    assert document["verdict"] == audit.verdict_
    assert document["prompts"] == dict(zip(("usable", "given"), audit.prompts, strict=True))
    of_java = [one for one in document["by_concept"] if one["language"] == "java"]
    assert sum(one["usable"] for one in of_java) == audit.prompts[0]
    assert all(isinstance(token["id"], int) for one in of_java for token in one["tokens"])


def test_the_documented_table_is_what_comes_with_the_project():
    rows = re.findall(r"^\| (\S+) \| (\d+) \| (\d+) \| (\d+) \|", DOCS.read_text(), re.MULTILINE)
    documented = {name: tuple(map(int, counts)) for name, *counts in rows}
    expected = {}
    for name in set(probed_languages()) - {"python"}:
        probes = known_probes("python", name)
        counts = Counter(probe.language for probe in probes.probes)
        expected[shown(name)] = len(probes.concepts), counts[name], counts["python"]
    assert documented == expected
