"""Minimally broken code: one operator, constant or returned value changed.

Two uses: tests of problems must notice such changes, and a model that knows a language should find the right
solution likelier than its broken copies. What may change is read off the syntax tree, so that `<` of a
comparison changes and `<` of a type does not, and nothing in comments or strings.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple, cast

if TYPE_CHECKING:
    from tree_sitter import Node, Parser

# To the neighbour that a slip would give: comparisons by their end, arithmetic by its direction.
OPERATORS = {
    "+": "-",
    "-": "+",
    "*": "+",
    "/": "*",
    "//": "*",
    "%": "*",
    "<": "<=",
    "<=": "<",
    ">": ">=",
    ">=": ">",
    "==": "!=",
    "!=": "==",
    "===": "!==",
    "!==": "===",
    "~=": "==",
    "&&": "||",
    "||": "&&",
    "and": "or",
    "or": "and",
    "&": "|",
    "|": "&",
    "<<": ">>",
    ">>": "<<",
    "+=": "-=",
    "-=": "+=",
    "*=": "+=",
    "++": "--",
    "--": "++",
}
CONSTANTS = {"true": "false", "false": "true", "True": "False", "False": "True"}
_OPERATION = re.compile(
    r"binary|comparison|boolean|augmented|compound|operator_assignment|update|fix_unary|assignment|inc_|dec_"
)
_NUMBER = re.compile(r"integer|number|int_literal")
_RETURN = re.compile(r"return(_statement|_expression)?")


class Mutant(NamedTuple):
    """A broken copy.

    Attributes
    ----------
    text
        The whole of it.
    line
        Where it was changed, from 1.
    was, became
        The change.
    kind
        "operator", "constant" or "return".
    """

    text: str
    line: int
    was: str
    became: str
    kind: str


def mutants(language: str, text: str, *, start: int = 0, returned: tuple[str, ...] = ()) -> list[Mutant]:
    """Every one-place change of `text` from character `start` on, in order.

    Parameters
    ----------
    language
        As in `babelscope.core.languages`.
    text
        Code that parses.
    start
        Before it nothing is changed: the prompt.
    returned
        Values to return instead, written in the language; the first that differs from what is there is used.
    """
    code = text.encode()
    first = len(text[:start].encode())
    found = []
    for node, became, kind in _changes(_parser(language).parse(code).root_node, returned):
        if node.start_byte >= first:
            was = code[node.start_byte : node.end_byte].decode()
            changed = code[: node.start_byte] + became.encode() + code[node.end_byte :]
            found.append(Mutant(changed.decode(), node.start_point[0] + 1, was, became, kind))
    return found


def _changes(node: Node, returned: tuple[str, ...]) -> Iterator[tuple[Node, str, str]]:
    text = (node.text or b"").decode()
    parent = node.parent
    if node.child_count == 0 and parent is not None:
        if not node.is_named and text in OPERATORS and _OPERATION.search(parent.type):
            yield node, OPERATORS[text], "operator"
        elif text in CONSTANTS:
            yield node, CONSTANTS[text], "constant"
        elif node.is_named and _NUMBER.search(node.type) and text.isdigit():
            yield node, str(int(text) + 1), "constant"
    elif _RETURN.fullmatch(node.type):
        value = next((child for child in node.children if child.is_named), None)
        instead = [one for one in returned if value is not None and one != (value.text or b"").decode()]
        if value is not None and instead:
            yield value, instead[0], "return"
    for child in node.children:
        yield from _changes(child, returned)


@cache
def _parser(language: str) -> Parser:
    from tree_sitter_language_pack import get_parser

    return get_parser(cast(Any, language))
