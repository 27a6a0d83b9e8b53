from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from pipelines.labeling.combine import ABSTAINS, VoterReport, combine, dawid_skene, majority, report

pytestmark = pytest.mark.slow

MATRICES = hnp.arrays(np.int8, st.tuples(st.integers(0, 12), st.integers(1, 4)), elements=st.integers(-1, 1))


def simulate(
    seed: int, *, prior: float, events: int = 3000, kinds: tuple[str, ...] = ("both",) * 8, fields: bool = False
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Truth, votes, and each function's true accuracy on its votes.

    Kinds: `both` votes 1 and 0, `1` and `0` vote for one class only or abstain. With `fields` the first half of the
    functions only ever speaks about one half of the events, the other half about the other.
    """
    rng = np.random.default_rng(seed)
    truth = (rng.random(events) < prior).astype(np.int8)
    field = rng.integers(0, 2, events)
    votes = np.full((events, len(kinds)), ABSTAINS, np.int8)
    for voter, kind in enumerate(kinds):
        accuracy, coverage = rng.uniform(0.6, 0.92), rng.uniform(0.3, 0.8)
        speaks = field == (voter >= len(kinds) // 2) if fields else np.ones(events, bool)
        if kind == "both":
            speaks &= rng.random(events) < coverage
            said = np.where(rng.random(events) < accuracy, truth, 1 - truth)
        else:
            said = np.full(events, int(kind))
            speaks &= rng.random(events) < coverage * np.where(truth == int(kind), accuracy, 1 - accuracy)
        votes[:, voter] = np.where(speaks, said, ABSTAINS)
    accuracies = np.array([(votes[:, one] == truth)[votes[:, one] != ABSTAINS].mean() for one in range(len(kinds))])
    return truth, votes, accuracies


def share_right(label: np.ndarray, truth: np.ndarray, votes: np.ndarray) -> float:
    """Of the events that were voted on; no label counts as half right."""
    voted = (votes != ABSTAINS).any(axis=1)
    return float(np.where(label == ABSTAINS, 0.5, label == truth)[voted].mean())


@pytest.mark.parametrize("prior", [0.5, 0.25, 0.1])
def test_dawid_skene_beats_the_majority_for_every_seed_and_knows_how_good_each_voter_is(prior: float) -> None:
    gains = []
    for seed in range(25):
        truth, votes, accuracies = simulate(seed, prior=prior)
        found = dawid_skene(votes)
        gains.append(share_right(found.labels()[0], truth, votes) - share_right(majority(votes)[0], truth, votes))
        assert found.accuracy == pytest.approx(accuracies, abs=0.06)
        assert found.prior == pytest.approx(prior, abs=0.05)
    assert min(gains) > 0
    assert np.mean(gains) > 0.015


@pytest.mark.parametrize("prior", [0.5, 0.25, 0.1])
@pytest.mark.parametrize("kinds", [("1", "0") * 4, ("1", "0", "1", "0", "both", "both", "both", "both")])
def test_silences_of_functions_that_know_one_class_are_heard(kinds: tuple[str, ...], prior: float) -> None:
    errors = []
    for seed in range(10):
        truth, votes, accuracies = simulate(seed, prior=prior, kinds=kinds)
        found = dawid_skene(votes, silence_speaks=True)
        assert share_right(found.labels()[0], truth, votes) > share_right(majority(votes)[0], truth, votes)
        errors.append(np.abs(found.accuracy - accuracies).mean())
    assert np.mean(errors) < 0.04
    assert max(errors) < 0.12


def test_functions_of_different_fields_are_not_taken_for_classes() -> None:
    gains = []
    for seed in range(10):
        truth, votes, _ = simulate(seed, prior=0.4, kinds=("1", "1", "0", "0") * 2, fields=True)
        found = dawid_skene(votes, silence_speaks=True).labels()[0]
        gains.append(share_right(found, truth, votes) - share_right(majority(votes)[0], truth, votes))
    assert np.mean(gains) > 0
    assert min(gains) > -0.04, "taken for classes, fields would cost thirty points"


def slow_dawid_skene(votes: list[list[int]], smoothing: float = 1.0) -> list[float]:
    """The method word by word: loops over events, classes, voters."""
    voters = range(len(votes[0]))
    positive = []
    for row in votes:
        ones, cast = row.count(1), len(row) - row.count(-1)
        positive.append(ones / cast if cast else 0.5)
    heard = [i for i, row in enumerate(votes) if any(vote != -1 for vote in row)]
    for _ in range(500):
        shares = [smoothing, smoothing]
        cells = [[[smoothing, smoothing], [smoothing, smoothing]] for _ in voters]
        for i in heard:
            for truth, chance in ((0, 1 - positive[i]), (1, positive[i])):
                shares[truth] += chance
                for voter in voters:
                    if votes[i][voter] != -1:
                        cells[voter][truth][votes[i][voter]] += chance
        rates = [[[cell / sum(row) for cell in row] for row in table] for table in cells]
        for voter in voters:
            if rates[voter][1][1] < rates[voter][0][1]:
                both = [cells[voter][0][vote] + cells[voter][1][vote] for vote in (0, 1)]
                rates[voter] = [[one / sum(both) for one in both]] * 2
        updated = list(positive)
        for i in heard:
            chance = [shares[truth] / sum(shares) for truth in (0, 1)]
            for voter in voters:
                if votes[i][voter] != -1:
                    chance = [chance[truth] * rates[voter][truth][votes[i][voter]] for truth in (0, 1)]
            updated[i] = chance[1] / sum(chance)
        moved = max((abs(a - b) for a, b in zip(updated, positive, strict=True)), default=0)
        positive = updated
        if moved <= 1e-6:
            break
    return [positive[i] if i in heard else math.nan for i in range(len(votes))]


@given(MATRICES)
def test_it_is_what_the_method_says_word_by_word(votes: np.ndarray) -> None:
    expected = slow_dawid_skene(votes.tolist()) if len(votes) else []
    assert dawid_skene(votes).posterior == pytest.approx(expected, abs=1e-9, nan_ok=True)


@given(MATRICES, st.booleans())
def test_what_holds_for_all_votes(votes: np.ndarray, silence_speaks: bool) -> None:
    was = votes.copy()
    voted = (votes != ABSTAINS).any(axis=1)
    for method in ("majority", "dawid_skene"):
        label, confidence = combine(votes, method, silence_speaks=silence_speaks)  # type: ignore[arg-type]
        assert set(np.unique(label)) <= {-1, 0, 1}
        assert (label[~voted] == ABSTAINS).all(), "nobody voted: no label"
        assert np.isnan(confidence[label == ABSTAINS]).all()
        assert ((confidence[label != ABSTAINS] > 0.5) & (confidence[label != ABSTAINS] <= 1)).all()
    found = dawid_skene(votes, silence_speaks=silence_speaks)
    assert found.confusion.sum(axis=2) == pytest.approx(np.ones((votes.shape[1], 2)))
    assert np.array_equal(votes, was)
    shuffled = np.random.default_rng(0).permutation(len(votes))
    again = dawid_skene(votes[shuffled], silence_speaks=silence_speaks)
    assert again.posterior == pytest.approx(found.posterior[shuffled], nan_ok=True), "rows have no order"


def test_many_events_are_no_trouble() -> None:
    _, votes, _ = simulate(0, prior=0.3, events=200_000)
    assert np.isfinite(dawid_skene(votes).posterior).sum() == (votes != ABSTAINS).any(axis=1).sum()


def test_the_report_counts_as_snorkel_does() -> None:
    votes = np.array([[1, 1, -1], [1, 0, -1], [-1, -1, 0], [-1, -1, -1]], np.int8)
    truth = np.array([1, 0, -1, 1], np.int8)
    one, two, three = report(votes, ["one", "two", "three"], truth)
    assert replace(one, accuracy_estimated=None) == VoterReport(
        voter="one",
        positive=2,
        negative=0,
        coverage=0.5,
        overlap=0.5,
        conflict=0.25,
        accuracy_estimated=None,
        accuracy=0.5,
        checked=2,
    )
    assert (two.accuracy, two.conflict) == (1.0, 0.25)
    assert (three.coverage, three.overlap, three.conflict) == (0.25, 0.0, 0.0)
    assert (three.accuracy, three.checked) == (None, 0), "of its event no truth is known"


def test_two_voters_are_not_told_apart() -> None:
    votes = np.array([[1, 0], [1, 1]], np.int8)
    assert [voter.accuracy_estimated for voter in report(votes, ["one", "two"])] == [None, None]
