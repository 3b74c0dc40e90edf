"""Answers of the small Babel are marked by value, and nothing else counts."""

import ast
from contextlib import suppress
from random import Random

import pytest

from babelscope.corpora.babel import BabelWorld
from babelscope.corpora.babel_expressions import (
    BUILTINS,
    INPUTS,
    OPERATORS,
    VARIABLES,
    Binary,
    Call,
    Variable,
    evaluate,
    signature,
)
from babelscope.corpora.babel_languages import LANGUAGES, PYTHON, MalformedError
from babelscope.corpora.babel_problems import BabelProblems
from babelscope.probes.problems import Attempt

TRUTH = Binary("+", Call("length", Variable("a")), Call("total", Variable("b")))


def marked(language, answer, truth=TRUTH):
    problems = BabelProblems("test", LANGUAGES[language], (("bago", "both", truth),))
    return problems.mark([Attempt(problems.problems[0], answer)])[0].solved


RIGHT = {
    "python": "len ( a ) + sum ( b ) \n",
    "php": "count ( $ a ) + array_sum ( $ b ) ; } \n",
    "racket": "( + ( length a ) ( foldl b ) ) ) \n",
    "ocaml": "List.length a + List.fold_left b \n",
}
RIGHT_OTHERWISE = {
    "python": [
        "sum(b)+len(a)",
        " len(reversed(a)) + (sum(b))\nanything after the line",
        "sum(reversed(b)) + len(a)",
    ],
    "php": ["array_sum($b) + count($a); }", "(count($a)) + array_sum(array_reverse($b)); }\nfunction"],
    "racket": ["(+ (foldl b) (length a)))", "(+ (length (reverse a)) (foldl b)))\n"],
    "ocaml": ["List.fold_left b + List.length a", "List.length (List.rev a) + (List.fold_left b)\n"],
}
WRONG = {
    "python": [
        "",
        "len(a) - sum(b)",
        "len(b) + sum(a)",
        "len(a) + sum(b",
        "len a + sum b",
        "count(a) + sum(b)",
        "len(a) + sum(b) len",
        "len(a) + sum(b) +",
        "len(a) + sum($b)",
        "len(c) + sum(b)",
        "__import__('os') + sum(b)",
        "\nlen(a) + sum(b)",
    ],
    "php": [
        "count($a) + array_sum($b)",
        "count($a) + array_sum($b);",
        "count(a) + array_sum(b); }",
        "len($a) + sum($b); }",
        "count($a) + array_sum($b); } }",
        "; }",
    ],
    "racket": [
        "(+ (length a) (foldl b))",
        "(length a) + (foldl b))",
        "(+ (length a) (foldl b) (foldl b)))",
        "(+ a))",
        ")",
    ],
    "ocaml": [
        "List.length(a + List.fold_left b",
        "length a + fold_left b",
        "List.length a List.fold_left b",
        "+",
    ],
}


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_true_expression_is_right(language):
    assert marked(language, RIGHT[language])


@pytest.mark.parametrize(
    ("language", "answer"), [(k, a) for k, found in RIGHT_OTHERWISE.items() for a in found]
)
def test_another_expression_of_the_same_value_is_right(language, answer):
    assert marked(language, answer)


@pytest.mark.parametrize(("language", "answer"), [(k, a) for k, found in WRONG.items() for a in found])
def test_another_value_or_a_malformed_answer_is_wrong(language, answer):
    assert not marked(language, answer)


def test_a_product_binds_before_a_sum_as_in_python():
    """Against Python's own parser, on scalars, where these operators are Python's."""
    rng = Random(0)  # noqa: S311
    for _ in range(200):
        text = " ".join(
            part for _ in range(4) for part in (rng.choice(VARIABLES), rng.choice(list(OPERATORS)))
        ).rsplit(" ", 1)[0]
        a, b = rng.randrange(1, 50), rng.randrange(1, 50)
        numbers = ast.unparse(ast.parse(text.replace("a", str(a)).replace("b", str(b))))
        assert evaluate(PYTHON.parse(text), {"a": (a,), "b": (b,)}) == (
            _value(ast.parse(numbers, mode="eval").body),
        )


def _value(node):
    if isinstance(node, ast.Constant):
        return node.value
    assert isinstance(node, ast.BinOp)
    operator = {ast.Add: "+", ast.Sub: "-", ast.Mult: "*"}[type(node.op)]
    return OPERATORS[operator](_value(node.left), _value(node.right))


def random_expression(rng, depth):
    kind = rng.random()
    if depth == 0 or kind < 0.2:
        return Variable(rng.choice(VARIABLES))
    if kind < 0.6:
        return Call(rng.choice(list(BUILTINS)), random_expression(rng, depth - 1))
    one, other = (random_expression(rng, depth - 1) for _ in range(2))
    return Binary(rng.choice(list(OPERATORS)), one, other)


@pytest.mark.parametrize("language", LANGUAGES)
def test_what_a_language_writes_it_reads_back_as_the_same_expression(language):
    rng = Random(1)  # noqa: S311
    syntax = LANGUAGES[language]
    for _ in range(300):
        expression = random_expression(rng, 4)
        assert syntax.parse(syntax.render(expression)) == expression


@pytest.mark.parametrize("language", LANGUAGES)
def test_arbitrary_tokens_are_malformed_or_an_expression_and_never_another_error(language):
    rng = Random(2)  # noqa: S311
    syntax = LANGUAGES[language]
    words = [*syntax.words, "(", ")", "$", "a", "b", "+", "*", "-", ";", '"', "->"]
    for _ in range(3000):
        text = " ".join(rng.choices(words, k=rng.randrange(8)))
        with suppress(MalformedError):
            signature(syntax.parse(text))


def test_built_ins_and_operators_work_on_vectors_element_by_element():
    inputs = {"a": (3, 0, 3), "b": (2, 1)}
    expected = {
        "len(a)": (3,),
        "sum(a)": (6,),
        "set(a)": (3, 0),
        "sorted(a)": (0, 3, 3),
        "reversed(b)": (1, 2),
        "next(a)": (3,),
        "enumerate(a)": (0, 1, 2),
        "any(a)": (1,),
        "all(a)": (0,),
        "filter(a)": (3, 3),
        "a + b": (5, 1, 5),
        "a * b - a": (3, 0, 3),
        "filter(a - a) + b": (),
    }
    for text, value in expected.items():
        assert evaluate(PYTHON.parse(text), inputs) == value, text


def test_the_inputs_tell_every_built_in_from_every_other():
    values = {signature(Call(concept, Variable(name))) for concept in BUILTINS for name in VARIABLES}
    assert len(values) == len(BUILTINS) * len(VARIABLES)
    assert len({len(values[name]) for values in INPUTS for name in VARIABLES}) > 1


def test_problems_are_aligned_across_languages_and_their_answers_fit():
    world = BabelWorld(7)
    per_language = [world.problems(language) for language in world.languages]
    assert len({tuple((p.id, p.group) for p in problems.problems) for problems in per_language}) == 1
    for problems in per_language:
        assert len(RIGHT[problems.syntax.name].split(" ")) <= problems.max_new_tokens <= 20
    assert len({problems.key for problems in per_language}) == len(per_language)
    assert world.problems("php", groups=("both",)).key != world.problems("php").key
    assert {p.group for p in world.problems("php", groups=("both",)).problems} == {"both"}


def test_the_key_follows_the_truths_as_well_as_the_prompts():
    other = Binary("-", Call("length", Variable("a")), Call("total", Variable("b")))
    keys = {BabelProblems("test", PYTHON, (("bago", "both", truth),)).key for truth in (TRUTH, other)}
    assert len(keys) == 2
