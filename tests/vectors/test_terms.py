from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.feature_extraction.text import CountVectorizer, TfidfTransformer

from pipelines.vectors import terms as module
from pipelines.vectors.terms import among, batches, counts, hashed, weighted

TEXTS = [
    "Struck birds, birds!",
    "NO DAMAGE",
    None,
    "",
    "  ?! ",
    "no damage: birds in no. 2 engine",
    "Straße \uff25\uff4egine",  # two letters of full width, which mean the same
]
COLUMN = pa.chunked_array([TEXTS[:3], TEXTS[3:]])


def counted(texts: pa.ChunkedArray, by: str, shortest: int, longest: int) -> list[dict[str, int]]:
    found = counts(texts, by, shortest, longest)  # type: ignore[arg-type]
    names = found.terms.to_pylist()
    return [
        {names[place]: int(row[place]) for place in np.flatnonzero(row)}
        for row in np.atleast_2d(found.matrix.toarray())
    ]


@pytest.mark.parametrize(
    ("by", "ngrams", "analyzer"),
    [("words", (1, 1), "word"), ("words", (1, 3), "word"), ("characters", (2, 4), "char_wb")],
)
def test_terms_are_those_of_scikit_learn(by: str, ngrams: tuple[int, int], analyzer: str) -> None:
    plain = ["no damage birds in no 2 engine", "struck birds birds", "no", ""]
    theirs = CountVectorizer(analyzer=analyzer, ngram_range=ngrams, token_pattern=r"\w+" if by == "words" else None)
    matrix = theirs.fit_transform(plain).toarray()
    names = theirs.get_feature_names_out()
    expected = [{names[place]: int(row[place]) for place in np.flatnonzero(row)} for row in matrix]
    found = counted(pa.chunked_array([plain]), by, *ngrams)
    if by == "characters":  # theirs gives a word that is shorter than its pieces once for each length
        short = {" 2 ", " no "}
        expected, found = (
            [{term: count for term, count in row.items() if term not in short} for row in side]
            for side in (expected, found)
        )
    assert found == expected


def test_neither_capitals_nor_marks_nor_ways_of_writing_make_a_difference() -> None:
    assert counted(COLUMN, "words", 1, 1) == [
        {"struck": 1, "birds": 2},
        {"no": 1, "damage": 1},
        {},
        {},
        {},
        {"no": 2, "damage": 1, "birds": 1, "in": 1, "2": 1, "engine": 1},
        {"straße": 1, "engine": 1},
    ]


def test_runs_of_words_stay_within_a_text() -> None:
    assert counted(pa.chunked_array([["a b", "c"]]), "words", 2, 2) == [{"a b": 1}, {}]


def test_a_row_is_the_same_alone_and_in_any_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(0)
    words = [f"w{n}" for n in range(200)]
    column = pa.chunked_array([[" ".join(random.choice(words, random.integers(0, 40))) for _ in range(60)]])
    known = pa.array(sorted(words)[:150], pa.large_string())
    weights = random.random(150).astype(np.float32)

    def rows() -> np.ndarray:
        parts = [weighted(among(counts(part, "words", 1, 1), known), weights).toarray() for _, part in batches(column)]
        return np.vstack(parts)

    whole = rows()
    monkeypatch.setattr(module, "BATCH_ROWS", 1)
    assert np.array_equal(rows(), whole)
    monkeypatch.setattr(module, "BATCH_ROWS", 7)
    assert np.array_equal(rows(), whole)


def test_weights_are_those_of_scikit_learn() -> None:
    matrix = counts(COLUMN, "words", 1, 1).matrix
    theirs = TfidfTransformer(sublinear_tf=True, use_idf=False).fit_transform(matrix.copy())
    assert np.allclose(weighted(matrix).toarray(), theirs.toarray())


def test_hashes_need_no_vocabulary_and_may_cancel_out() -> None:
    found = hashed(counts(COLUMN, "words", 1, 1), 8)
    alone = hashed(counts(COLUMN.slice(5, 1), "words", 1, 1), 8)
    assert np.array_equal(found.toarray()[5], alone.toarray()[0])
    assert not found.toarray()[2].any()
    assert hashed(counts(pa.chunked_array([[None]], pa.string()), "words", 1, 1), 8).shape == (1, 8)


@given(st.lists(st.one_of(st.none(), st.text(max_size=20)), max_size=5))
def test_any_text_has_terms_without_blanks_in_them(texts: list[str | None]) -> None:
    column = pa.chunked_array([pa.array(texts, pa.string())])
    words = counts(column, "words", 1, 1)
    assert words.matrix.shape == (len(texts), len(words.terms))
    assert not any(term == "" or " " in term or "\n" in term for term in words.terms.to_pylist())
    assert counts(column, "characters", 3, 4).matrix.shape[0] == len(texts)
