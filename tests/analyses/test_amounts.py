"""Numbers of tokens for a reader."""

import pytest

from babelscope.analyses.amounts import amount


@pytest.mark.parametrize(
    ("tokens", "said"),
    [
        (0, "0"),
        (999, "999"),
        (1e3, "1 k"),
        (671_318, "671 k"),
        (999_499, "999 k"),
        (999_600, "1 M"),
        (999.9e6, "1 B"),
        (23e9, "23 B"),
        (15e12, "15 T"),
    ],
)
def test_a_number_of_tokens_has_three_digits_and_the_largest_unit_that_it_fills(tokens, said):
    assert amount(tokens) == said
