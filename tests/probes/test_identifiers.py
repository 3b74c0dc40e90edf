"""What a set of probes promises, and what it refuses."""

from dataclasses import replace

import pytest

from babelscope.core.errors import InputError
from babelscope.probes.identifiers import Probe, ProbeSet

LENGTH = (Probe("length", "python", "n = ", "len", "(xs)"), Probe("length", "php", "$n = ", "count", "($xs)"))
SHOW = (Probe("show", "php", "<?php ", "echo", " 1;"), Probe("show", "python", "\n", "print", "(1)"))


def test_an_empty_set_is_refused():
    with pytest.raises(InputError, match="needs at least one probe"):
        ProbeSet(())


def test_a_concept_of_one_language_is_refused_by_name():
    with pytest.raises(InputError, match=r"'show' is probed in one language only: .*\('echo',\)"):
        ProbeSet((*LENGTH, SHOW[0]))


def test_a_concept_named_alike_everywhere_is_refused_by_name():
    alike = (Probe("absolute", "python", "y = ", "abs"), Probe("absolute", "php", "$y = ", "abs"))
    with pytest.raises(InputError, match="'absolute' has the same identifiers everywhere"):
        ProbeSet((*LENGTH, *alike))


def test_languages_and_concepts_keep_the_order_in_which_they_first_appear():
    probes = ProbeSet((*LENGTH, *SHOW))
    assert probes.languages == ("python", "php")
    assert probes.concepts == ("length", "show")
    assert ProbeSet((*SHOW, *LENGTH)).languages == ("php", "python")


def test_every_spelling_of_a_concept_is_known_once():
    second = Probe("length", "php", "$m = ", "sizeof", "($xs)")
    again = Probe("length", "php", "return ", "count", "($xs)")
    probes = ProbeSet((second, *LENGTH, again))
    assert probes.identifiers("length", "php") == ("count", "sizeof")
    assert probes.identifiers("length", "lua") == ()


def test_a_choice_of_languages_keeps_their_probes_and_no_other():
    third = Probe("length", "ruby", "n = ", "size", "")
    assert ProbeSet((*LENGTH, third)).of("php", "python").probes == LENGTH


def test_choosing_an_unprobed_language_is_refused_by_name():
    with pytest.raises(InputError, match=r"no probes for \['lua'\]; probed are \['python', 'php'\]"):
        ProbeSet(LENGTH).of("python", "lua")


@pytest.mark.parametrize("field", ["concept", "language", "prompt", "identifier", "rest"])
def test_the_key_changes_with_any_field_of_any_probe(field):
    probes = (*LENGTH, Probe("length", "ruby", "n = ", "size", ""), *SHOW)
    renamed = {"concept": "show", "language": "lua"}.get(field, "other")
    changed = (*probes[:2], replace(probes[2], **{field: renamed}), *SHOW)
    assert ProbeSet(changed).key != ProbeSet(probes).key


def test_equal_probes_have_equal_keys():
    assert ProbeSet(tuple(replace(probe) for probe in LENGTH)).key == ProbeSet(LENGTH).key
