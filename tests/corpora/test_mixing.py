"""Token-true mixing: shares exact at the end and close on the way, rows reproducible, nothing lost."""

import json
from collections import Counter
from fractions import Fraction
from itertools import groupby

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from babelscope.core.errors import InputError
from babelscope.corpora.mixing import MixedRows, apportion, check_until
from babelscope.corpora.token_files import open_tokens, token_counts, tokenise

WEIGHTS = st.lists(st.integers(0, 50), min_size=1, max_size=5).filter(any)


def rows_of(weights, *, rows, length=4, unique_rows=7, seed=0):
    """Tokens that say where they are from: language * 1000 + row in the source."""
    tokens = {
        str(k): np.repeat(1000 * k + np.arange(unique_rows), length).astype(np.uint16)
        for k in range(len(weights))
    }
    shares = {str(k): weight / sum(weights) for k, weight in enumerate(weights)}
    return MixedRows(tokens, proportions=shares, rows=rows, length=length, seed=seed)


@given(weights=WEIGHTS, total=st.integers(0, 500))
def test_largest_remainder_gives_whole_numbers_within_one_of_the_exact_ones(weights, total):
    counts = apportion([weight / sum(weights) for weight in weights], total=total)
    assert counts.sum() == total
    for weight, count in zip(weights, counts, strict=True):
        assert abs(count - Fraction(weight * total, sum(weights))) < 1


def test_largest_remainder_agrees_with_the_textbook():
    # Hamilton's apportionment of 10 seats to 1,500, 1,500, 900, 500, 500, 200 votes of 5,100.
    assert apportion(np.array([1500, 1500, 900, 500, 500, 200]) / 5100, total=10).tolist() == [
        3,
        3,
        2,
        1,
        1,
        0,
    ]


@settings(max_examples=50)
@given(weights=WEIGHTS, rows=st.integers(1, 300))
def test_any_beginning_is_close_to_the_shares(weights, rows):
    mixed = rows_of(weights, rows=rows)
    due = apportion([weight / sum(weights) for weight in weights], total=rows)
    seen = np.zeros(len(weights))
    for index in range(rows):
        seen[int(mixed[index][0])] += 1
        assert np.all(np.abs(seen - due * (index + 1) / rows) <= len(weights) / 2 + 1)
    assert seen.tolist() == due.tolist()


def test_a_language_read_in_the_first_part_of_the_run_has_its_whole_share_there():
    tokens = {name: np.zeros(400, np.uint16) for name in ("ended", "a", "b")}
    shares, rows = {"ended": 0.1, "a": 0.6, "b": 0.3}, 1000
    mixed = MixedRows(tokens, proportions=shares, rows=rows, length=4, until={"ended": 0.25})
    names = np.array([mixed[index][0] for index in range(rows)])
    quarter = {name: (names[:250] == name).sum() for name in shares}
    assert quarter == pytest.approx({"ended": 100, "a": 100, "b": 50}, abs=2)
    assert (names[252:] != "ended").all()
    half = names[:125]  # evenly, as long as it is read
    assert [(half == name).sum() for name in shares] == pytest.approx([50, 50, 25], abs=2)
    assert [(names == name).sum() for name in shares] == [100, 600, 300]


def test_languages_read_to_the_end_are_mixed_as_without_until():
    tokens = {name: np.arange(400, dtype=np.uint16) for name in ("a", "b")}
    both = [
        MixedRows(tokens, proportions={"a": 0.7, "b": 0.3}, rows=99, length=4, until=until)
        for until in (None, {"a": 1.0})
    ]
    assert [both[0][i][0] for i in range(99)] == [both[1][i][0] for i in range(99)]


@pytest.mark.parametrize(
    ("until", "words"), [({"a": 0.5, "b": 0.9}, "nothing is read to the end"), ({"a": 0.5}, "a 140%")]
)
def test_parts_of_the_run_that_cannot_hold_their_shares_are_refused(until, words):
    with pytest.raises(InputError, match=words):
        check_until({"a": 0.7, "b": 0.3}, until)


def test_recorded_tokens_are_those_in_the_rows():
    mixed = rows_of([5, 3, 1], rows=40, length=4)
    for rows in (0, 1, 17, 40):
        counted = Counter(mixed[index][0] for index in range(rows))
        assert mixed.tokens_by_language(rows) == {name: 4 * counted[name] for name in ("0", "1", "2")}
        assert mixed.epochs(rows) == {name: counted[name] / 7 for name in ("0", "1", "2")}


def test_each_epoch_visits_every_row_of_the_source_once_in_a_new_order():
    mixed = rows_of([1], rows=21, unique_rows=7)
    visited = [int(mixed[index][1][0]) for index in range(21)]
    epochs = [visited[start : start + 7] for start in (0, 7, 14)]
    assert all(sorted(epoch) == list(range(7)) for epoch in epochs)
    assert epochs[0] != epochs[1] != epochs[2]


def test_a_row_is_one_unbroken_piece_of_one_language():
    tokens = {"a": np.arange(50, dtype=np.uint16), "b": np.arange(100, 150, dtype=np.uint16)}
    mixed = MixedRows(tokens, proportions={"a": 0.5, "b": 0.5}, rows=10, length=6)
    for index in range(10):
        language, row = mixed[index]
        assert row.dtype == np.int64
        assert np.array_equal(row, np.arange(row[0], row[0] + 6))
        assert (row[0] >= 100) == (language == "b")


def test_rows_depend_on_the_seed_and_on_nothing_else():
    one, same, other = (rows_of([2, 1], rows=60, unique_rows=50, seed=seed) for seed in (0, 0, 1))
    order = np.random.default_rng(0).permutation(60)
    for index in order:  # in any order: a row does not depend on those read before
        assert np.array_equal(one[int(index)][1], same[int(index)][1])
    assert any(not np.array_equal(one[index][1], other[index][1]) for index in range(60))


def test_another_language_leaves_the_order_within_a_language_as_it_was():
    tokens = {name: np.arange(200, dtype=np.uint16) for name in ("python", "php", "go")}
    two = MixedRows(tokens, proportions={"python": 0.5, "php": 0.5}, rows=40, length=4)
    three = MixedRows(tokens, proportions={"go": 0.2, "php": 0.4, "python": 0.4}, rows=50, length=4)
    first = [row.tolist() for language, row in (two[i] for i in range(40)) if language == "php"]
    again = [row.tolist() for language, row in (three[i] for i in range(50)) if language == "php"]
    assert first == again


def test_a_batch_is_its_rows():
    mixed = rows_of([3, 2], rows=20)
    languages, tokens = mixed.__getitems__([4, 0, 19])
    assert [mixed.languages[k] for k in languages] == [mixed[i][0] for i in (4, 0, 19)]
    assert np.array_equal(tokens, np.stack([mixed[i][1] for i in (4, 0, 19)]))


def test_a_source_shorter_than_a_row_is_refused_unless_nothing_is_asked_of_it():
    tokens = {"a": np.arange(50), "b": np.arange(3)}
    with pytest.raises(InputError, match="'b' has 3 tokens, fewer than one row of 8"):
        MixedRows(tokens, proportions={"a": 0.5, "b": 0.5}, rows=10, length=8)
    unasked = MixedRows(tokens, proportions={"a": 1.0, "b": 0.0}, rows=10, length=8)
    assert unasked.tokens_by_language(10) == {"a": 80, "b": 0}
    assert unasked.epochs(10)["b"] == 0


def words_tokenizer(size):
    """`w1 w2` are tokens 1 and 2; token 0 ends a text."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    backend = Tokenizer(models.WordLevel({f"w{number}": number for number in range(size)}, unk_token="w0"))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="w0")


TEXTS = [f"x{number} = {number} + 1\n" * (number % 5 + 1) for number in range(40)]


def test_the_token_file_is_every_document_followed_by_end_of_text(tmp_path, tokenizer):
    counts = tokenise(TEXTS, tokenizer=tokenizer, path=tmp_path / "php.tokens", key="k")
    expected = [
        token
        for text in TEXTS
        for token in [*tokenizer(text, add_special_tokens=False)["input_ids"], tokenizer.eos_token_id]
    ]
    assert open_tokens(tmp_path / "php.tokens").tolist() == expected
    assert (counts.tokens, counts.documents, counts.key) == (len(expected), 40, "k")
    assert counts.source_bytes == sum(len(text.encode()) for text in TEXTS)
    assert token_counts(tmp_path / "php.tokens") == counts


def test_text_that_spells_a_special_token_stays_text(tmp_path, tokenizer):
    text = f"end = '{tokenizer.eos_token}'"
    tokenise([text], tokenizer=tokenizer, path=tmp_path / "a.tokens", key="k")
    tokens = open_tokens(tmp_path / "a.tokens").tolist()
    assert tokens.count(tokenizer.eos_token_id) == 1
    assert tokenizer.decode(tokens[:-1]) == text
    assert tokenizer(tokenizer.eos_token)["input_ids"] == [
        tokenizer.eos_token_id
    ]  # the caller's is as before


@pytest.mark.parametrize("keep", [1, 50, 100, 119])
def test_keeping_some_tokens_keeps_whole_documents_and_at_most_one_beginning(tmp_path, keep):
    words = words_tokenizer(31)
    texts = [" ".join([f"w{number}"] * (number % 5 + 1)) for number in range(1, 31)]  # 120 tokens with ends
    counts = tokenise(texts, tokenizer=words, path=tmp_path / "a.tokens", key="k", keep=keep, seed=3)
    tokens = open_tokens(tmp_path / "a.tokens").tolist()
    assert len(tokens) == counts.tokens == keep
    assert counts.source_tokens == 120
    documents = [list(group) for ends, group in groupby(tokens, key=lambda token: token == 0) if not ends]
    assert all(len(set(document)) == 1 for document in documents)  # none runs into the next
    assert documents == sorted(documents)  # and they keep their order
    assert len([document for document in documents if len(document) < document[0] % 5 + 1]) <= 1


def test_more_tokens_kept_with_one_seed_contain_the_fewer(tmp_path, tokenizer):
    def documents(keep, seed):
        path = tmp_path / f"{keep}-{seed}.tokens"
        tokenise(TEXTS, tokenizer=tokenizer, path=path, key="k", keep=keep, seed=seed)
        text = tokenizer.decode(open_tokens(path).tolist())
        return {part for part in text.split(tokenizer.eos_token) if part in TEXTS}

    assert documents(200, 0) <= documents(400, 0)
    assert documents(200, 0) != documents(200, 1)


def test_a_file_without_its_counts_is_not_taken_for_finished(tmp_path, tokenizer):
    path = tmp_path / "a.tokens"
    tokenise(TEXTS, tokenizer=tokenizer, path=path, key="k")
    path.with_suffix(".json").unlink()
    assert token_counts(path) is None
    with pytest.raises(InputError, match=r"a\.tokens was not written to the end"):
        open_tokens(path)


def test_failing_halfway_leaves_neither_file_nor_counts(tmp_path, tokenizer):
    def failing():
        yield from TEXTS
        raise InputError("line 41 is not JSON")

    tokenise(TEXTS, tokenizer=tokenizer, path=tmp_path / "a.tokens", key="old")
    with pytest.raises(InputError, match="line 41"):
        tokenise(failing(), tokenizer=tokenizer, path=tmp_path / "a.tokens", key="new")
    assert token_counts(tmp_path / "a.tokens") is None
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.tokens"]


def test_a_tokenizer_without_end_of_text_is_refused(tmp_path):
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast

    bare = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.WordLevel({"a": 0}, unk_token="a")))
    with pytest.raises(InputError, match="no end-of-text token"):
        tokenise(["a"], tokenizer=bare, path=tmp_path / "a.tokens", key="k")


def test_large_vocabularies_get_wider_integers(tmp_path):
    tokenise(["w69999"], tokenizer=words_tokenizer(70_000), path=tmp_path / "a.tokens", key="k")
    assert open_tokens(tmp_path / "a.tokens").tolist() == [69_999, 0]
    assert json.loads((tmp_path / "a.json").read_text())["dtype"] == "uint32"
