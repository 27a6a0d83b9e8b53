"""terms: texts as counts of their words or of pieces of these, in Arrow and sparse matrices: no loop over the rows."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

if TYPE_CHECKING:
    from scipy.sparse import csr_array

Array = NDArray[np.int64]
By = Literal["words", "characters"]
BETWEEN_WORDS = r"[^\pL\pN\pM]+"  # all that is no letter, digit or mark of a letter, in any script
BATCH_ROWS = 16_384
LONGEST_WORD = 64  # characters of a word that pieces are cut from
SPACE, NOTHING = pa.scalar(" ", pa.large_string()), pa.scalar("", pa.large_string())


class Counts(NamedTuple):
    """How often each term stands in each text."""

    matrix: csr_array
    """float32, shape (rows, terms)."""
    terms: pa.Array
    """Each once, in no order."""


def counts(texts: pa.ChunkedArray, by: By, shortest: int, longest: int) -> Counts:
    """Terms of each text: runs of `shortest` to `longest` words, or so many characters within a word.

    Capitals and the ways to write a letter in Unicode make no difference (NFKC). A word's beginning and its end count
    as a character for its pieces. A missing text has no terms.

    >>> counted = counts(pa.chunked_array([["Struck birds, birds!", None]]), "words", 1, 2)
    >>> dict(zip(counted.terms.to_pylist(), counted.matrix.toarray()[0].tolist(), strict=True))
    {'struck': 1.0, 'birds': 2.0, 'struck birds': 1.0, 'birds birds': 1.0}
    >>> sorted(counts(pa.chunked_array([["to"]]), "characters", 3, 3).terms.to_pylist())
    [' to', 'to ']
    """
    row, code, words = _words(texts)
    if by == "words":
        runs = list(_runs(row, code, words, shortest, longest))
        return _joined(len(texts), runs)
    of_texts = _matrix(row, code, (len(texts), len(words)))
    of_words = _joined(len(words), list(_pieces(words, shortest, longest)))
    return Counts((of_texts @ of_words.matrix).tocsr(), of_words.terms)


def batches(texts: pa.ChunkedArray) -> Iterator[tuple[slice, pa.ChunkedArray]]:
    """Rows that are counted together, and where they stand."""
    for start in range(0, len(texts), BATCH_ROWS):
        part = texts.slice(start, BATCH_ROWS)
        yield slice(start, start + len(part)), part


class _Run(NamedTuple):
    """Terms of one length: in which row each stands, and which it is."""

    row: Array
    code: Array
    terms: pa.Array


def _words(texts: pa.ChunkedArray) -> _Run:
    plain = pc.fill_null(texts.cast(pa.large_string()), "")
    lists = pc.split_pattern_regex(pc.utf8_lower(pc.utf8_normalize(plain, "NFKC")), BETWEEN_WORDS)
    lists = lists.combine_chunks() if isinstance(lists, pa.ChunkedArray) else lists
    words, row = lists.flatten(), pc.list_parent_indices(lists).to_numpy()
    is_word = pc.not_equal(words, "")
    encoded = pc.dictionary_encode(words.filter(is_word))
    row = row[is_word.to_numpy(zero_copy_only=False)].astype(np.int64)
    return _Run(row, encoded.indices.to_numpy().astype(np.int64), encoded.dictionary)


def _runs(row: Array, code: Array, words: pa.Array, shortest: int, longest: int) -> Iterator[_Run]:
    """Of each length; a run of two words is one of one word and the next word."""
    run, last, terms, base = code, np.arange(len(code)), words, max(len(words), 1)
    for length in range(1, longest + 1):
        if length > 1:
            goes_on = np.zeros(len(last), dtype=bool)
            inside = last + 1 < len(row)
            goes_on[inside] = row[last[inside]] == row[last[inside] + 1]
            last = last[goes_on] + 1
            pairs, first = np.unique(run[goes_on] * base + code[last], return_inverse=True)
            terms = pc.binary_join_element_wise(terms.take(pairs // base), words.take(pairs % base), SPACE)
            run = first.astype(np.int64)
        if length >= shortest:
            yield _Run(row[last], run, terms)


def _pieces(words: pa.Array, shortest: int, longest: int) -> Iterator[_Run]:
    """Pieces of each distinct word, which stand in far fewer places than those of each text."""
    marked = pc.binary_join_element_wise(NOTHING, pc.utf8_slice_codeunits(words, 0, LONGEST_WORD), NOTHING, SPACE)
    lengths = pc.utf8_length(marked).to_numpy()
    for length in range(shortest, longest + 1):
        rows, pieces = [], []
        for start in range(int(lengths.max(initial=0)) - length + 1):
            has_piece = np.flatnonzero(lengths >= start + length)
            rows.append(has_piece)
            pieces.append(pc.utf8_slice_codeunits(marked.take(pa.array(has_piece)), start, start + length))
        if pieces:
            encoded = pc.dictionary_encode(pa.concat_arrays(pieces))
            yield _Run(np.concatenate(rows), encoded.indices.to_numpy().astype(np.int64), encoded.dictionary)


def _joined(rows: int, runs: list[_Run]) -> Counts:
    if not runs:
        return Counts(_matrix(np.zeros(0, np.int64), np.zeros(0, np.int64), (rows, 0)), pa.array([], pa.large_string()))
    starts = np.cumsum([0, *(len(run.terms) for run in runs)])
    code = np.concatenate([run.code + start for run, start in zip(runs, starts, strict=False)])
    matrix = _matrix(np.concatenate([run.row for run in runs]), code, (rows, int(starts[-1])))
    return Counts(matrix, pa.concat_arrays([run.terms.cast(pa.large_string()) for run in runs]))


def _matrix(row: Array, column: Array, shape: tuple[int, int]) -> csr_array:
    from scipy.sparse import coo_array

    return coo_array((np.ones(len(row), dtype=np.float32), (row, column)), shape=shape).tocsr()


def weighted(matrix: csr_array, weights: NDArray[np.float32] | None = None) -> csr_array:
    """Counts as what they say of a text: 1 + log(count), times its term's weight, and each row of length one.

    All is done row by row in the order of the terms, so that a row does not depend, to the last bit, on those that it
    comes with.
    """
    matrix.sort_indices()
    matrix.data = np.sign(matrix.data) * (1 + np.log(np.abs(matrix.data)))
    if weights is not None:
        matrix.data *= weights[matrix.indices]
    squares = matrix.copy()
    squares.data = squares.data**2
    lengths = np.sqrt(squares @ np.ones(matrix.shape[1], dtype=np.float32))
    matrix.data /= np.repeat(np.where(lengths > 0, lengths, 1), np.diff(matrix.indptr))
    return matrix


def hashed(counted: Counts, buckets: int) -> csr_array:
    """The counts in so many buckets, by signed MurmurHash3 of the terms (Weinberger et al. 2009), weighted.

    Terms that cancel each other out in a text leave nothing.
    """
    return _brought(counted, _signed(counted.terms, buckets))


def _signed(terms: pa.Array, buckets: int) -> csr_array:
    """One of the buckets is 1 or -1 for each term, shape (terms, buckets)."""
    from scipy.sparse import csr_array
    from sklearn.feature_extraction import FeatureHasher

    if not len(terms):  # which the hasher does not take
        return csr_array((0, buckets), dtype=np.float32)
    hasher = FeatureHasher(buckets, input_type="string", dtype=np.float32)
    return csr_array(hasher.transform([term] for term in terms.to_pylist()))


def _brought(counted: Counts, of_terms: csr_array) -> csr_array:
    matrix = (counted.matrix @ of_terms).tocsr()
    matrix.eliminate_zeros()
    return weighted(matrix)


class Bucketed(NamedTuple):
    """Texts by the hashes of their words."""

    matrix: csr_array
    """Signed, weighted, each row of length one: shape (rows, buckets)."""
    words: csr_array
    """How often each distinct word stands in each text."""
    slots: Array
    """Where each distinct word is hashed to, in finer steps than `matrix` has."""


def bucketed(counted: Counts, slots: int, buckets: int) -> Bucketed:
    """The counts in few buckets, and each word's slot of many: a multiple of the buckets."""
    from scipy.sparse import csr_array

    fine = _signed(counted.terms, slots)
    shape = (len(counted.terms), buckets)
    coarse = csr_array((fine.data, fine.indices % buckets, np.arange(len(fine.data) + 1)), shape=shape)
    return Bucketed(_brought(counted, coarse), counted.matrix, fine.indices)


def among(counted: Counts, terms: pa.Array) -> csr_array:
    """Counts of the terms that are in a list of them, shape (rows, terms of the list)."""
    from scipy.sparse import csr_array

    position = pc.fill_null(pc.index_in(counted.terms, value_set=terms), -1).to_numpy()[counted.matrix.indices]
    is_known = position >= 0
    upto = np.concatenate([[0], np.cumsum(is_known)])[counted.matrix.indptr]
    shape = (counted.matrix.shape[0], len(terms))
    return csr_array((counted.matrix.data[is_known], position[is_known], upto), shape=shape)
