"""Every identifier probe is a whole program: it parses, and where its language is installed, it runs."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from functools import cache
from typing import Any, cast

import pytest
from tree_sitter_language_pack import get_parser

from babelscope.core.languages import language
from babelscope.probes.probe_files import known_probes, probed_languages, read_probes
from tests.probe_programs import failing, program
from tests.probes.sandboxed import needs

LANGUAGES = sorted(probed_languages())
OTHERS = [name for name in LANGUAGES if name != "python"]


@cache
def probes(name):
    return read_probes(probed_languages()[name])


@pytest.mark.parametrize("name", OTHERS)
def test_at_least_eight_concepts_are_named_otherwise_than_in_python(name):
    shared = known_probes("python", name)
    asked = Counter((probe.concept, probe.language) for probe in shared.probes)
    telling = [c for c in shared.concepts if asked[c, "python"] >= 10 and asked[c, name] >= 10]
    assert len(telling) >= 8
    for concept in telling:
        assert not set(shared.identifiers(concept, "python")) & set(shared.identifiers(concept, name))


@pytest.mark.parametrize("name", LANGUAGES)
def test_every_program_parses(name):
    parser = get_parser(cast(Any, language(name).name))
    broken = [program(p) for p in probes(name) if parser.parse(program(p).encode()).root_node.has_error]
    assert broken == []


@pytest.mark.parametrize("name", LANGUAGES)
def test_no_program_is_there_twice(name):
    assert [text for text, times in Counter(map(program, probes(name))).items() if times > 1] == []


@pytest.mark.parametrize("name", OTHERS)
def test_no_prompt_holds_the_answer_in_its_own_language_or_in_python(name):
    answers = defaultdict(set)
    for probe in known_probes("python", name).probes:
        answers[probe.concept].add(probe.identifier)
    for probe in probes(name):
        held = [
            one
            for one in answers[probe.concept]
            if re.search(rf"(?<!\w){re.escape(one)}(?!\w)", probe.prompt)
        ]
        assert held == [], program(probe)


@pytest.mark.sandbox
@pytest.mark.parametrize("name", LANGUAGES)
def test_programs_run(name):
    """One of each concept; `python -m tests.probe_programs` runs all of them."""
    needs(name)
    first = {probe.concept: probe for probe in probes(name)}
    assert failing(name, list(first.values())) == {}
