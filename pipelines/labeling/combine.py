"""From many votes on an event to one label, and what that tells of the voters: functions and people alike.

A vote matrix has shape (events, voters) and dtype int8: 1, 0, and ABSTAINS where a voter says nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

ABSTAINS = -1
Votes = npt.NDArray[np.int8]
Floats = npt.NDArray[np.float64]


def majority(votes: Votes) -> tuple[Votes, Floats]:
    """Label and confidence per event: what more voters say, and their share of the votes cast.

    An event that nobody voted on, or as many for as against, has no label (ABSTAINS) and the confidence NaN.

    >>> majority(np.array([[1, 1, 0], [0, -1, -1], [1, 0, -1]], np.int8))
    (array([ 1,  0, -1], dtype=int8), array([0.66666667, 1.        ,        nan]))
    """
    positive, cast = (votes == 1).sum(axis=1), (votes != ABSTAINS).sum(axis=1)
    share = np.divide(positive, cast, out=np.full(len(votes), 0.5), where=cast > 0)
    return _labelled(share)


def _labelled(positive: Floats) -> tuple[Votes, Floats]:
    """Label and its probability from that of the positive class; a half, like NaN, decides nothing."""
    is_decided = np.isfinite(positive) & (positive != 0.5)
    label = np.where(is_decided, positive > 0.5, ABSTAINS).astype(np.int8)
    return label, np.where(is_decided, np.maximum(positive, 1 - positive), np.nan)


@dataclass(frozen=True)
class DawidSkene:
    """`posterior`: probability of the positive class per event, NaN where nobody voted.

    `confusion[voter, truth, vote]`: how often the voter, where it votes on an event of that class, gives that vote.
    `accuracy[voter]`: the expected share of its votes that are right. `prior`: share of the positive class.
    """

    posterior: Floats
    confusion: Floats
    accuracy: Floats
    prior: float

    def labels(self) -> tuple[Votes, Floats]:
        """Label and confidence per event, as `majority` gives them."""
        return _labelled(self.posterior)


def dawid_skene(
    votes: Votes, *, silence_speaks: bool = False, smoothing: float = 1.0, tolerance: float = 1e-6, rounds: int = 500
) -> DawidSkene:
    """Weigh each voter by how often it agrees with what all together make of the events.

    Dawid & Skene (1979), Maximum Likelihood Estimation of Observer Error-Rates Using the EM Algorithm: expectation
    and maximisation in turn over each voter's confusion matrix and the classes' shares, from the majority's answer
    on, until no posterior moves by more than `tolerance`. An abstention is a missing vote and speaks for neither
    class. Two additions keep it from answers that fit and are wrong: `smoothing` votes in each cell (Laplace), so
    that no voter is taken as infallible; and no voter is taken to mean the opposite of what it says, which is what
    happens when the model finds another division of the events than that by class: one that looks so says nothing.

    `silence_speaks` is for labeling functions, which see every event and of which most know one class only: without
    their silences such votes carry no information in this model (see `_with_silences`). Not for people, who are
    silent about what they were not asked.

    It assumes that voters err independently of each other, given the class. From three voters on, that vote both
    ways or on each other's events, accuracies can be told.
    """
    patterns, inverse, counts = np.unique(votes, axis=0, return_inverse=True, return_counts=True)
    has_votes = (patterns != ABSTAINS).any(axis=1)
    weight = np.where(has_votes, counts, 0).astype(np.float64)
    heard = _with_silences(patterns, weight) if silence_speaks else patterns
    voters = votes.shape[1]
    # (patterns, voters and vote): as a matrix, whose products cost a fraction of those over three axes.
    said = np.stack([heard == 0, heard == 1], axis=2).astype(np.float64).reshape(len(heard), 2 * voters)
    label, confidence = majority(patterns)
    positive = np.select([label == 1, label == 0], [confidence, 1 - confidence], 0.5)
    for _ in range(rounds):
        truth = np.stack([1 - positive, positive], axis=1) * weight[:, None]  # (patterns, class), in events
        cells = (truth.T @ said).reshape(2, voters, 2).transpose(1, 0, 2) + smoothing  # (voter, class, vote)
        confusion = cells / cells.sum(axis=2, keepdims=True)
        is_upside_down = confusion[:, 1, 1] < confusion[:, 0, 1]
        pooled = cells.sum(axis=1) / cells.sum(axis=(1, 2))[:, None]
        confusion[is_upside_down] = pooled[is_upside_down][:, None, :]
        share = (truth.sum(axis=0) + smoothing) / (weight.sum() + 2 * smoothing)
        evidence = said @ np.log(confusion).transpose(0, 2, 1).reshape(2 * voters, 2) + np.log(share)
        updated = 0.5 * (1 + np.tanh(0.5 * (evidence[:, 1] - evidence[:, 0])))  # logistic, and never overflows
        moved = float(np.abs(updated - positive)[has_votes].max(initial=0.0))
        positive = updated
        if moved <= tolerance:
            break
    right = np.select([patterns == 1, patterns == 0], [positive[:, None], 1 - positive[:, None]], 0.0)
    cast = (weight[:, None] * (patterns != ABSTAINS)).sum(axis=0)
    accuracy = np.divide(weight @ right, cast, out=np.full(votes.shape[1], np.nan), where=cast > 0)
    posterior = np.where(has_votes, positive, np.nan)[inverse.reshape(-1)]
    return DawidSkene(posterior, confusion, accuracy, float(share[1]))


def _with_silences(patterns: Votes, weight: Floats) -> Votes:
    """The patterns in which a voter that only ever says one thing says the other by its silence, in its own field.

    Its field is where voters speak that it meets: which vote on an event together with it at least a tenth as often
    as if the two were independent. Elsewhere its silence says nothing of the class, only of the field: taking it for
    an answer would make the model tell fields apart instead of classes.
    """
    casts = (patterns != ABSTAINS).astype(np.float64)
    together = (casts * weight[:, None]).T @ casts  # (voter, voter), in events
    alone = together.diagonal()
    lift = together * max(weight.sum(), 1.0) / np.maximum(np.outer(alone, alone), 1.0)
    meets = (lift > 0.1) & ~np.eye(len(alone), dtype=bool)
    is_in_field = casts @ meets > 0
    heard = patterns.copy()
    for vote in (0, 1):
        is_one_sided = (patterns != 1 - vote).all(axis=0) & (alone > 0)
        heard[is_one_sided & (patterns == ABSTAINS) & is_in_field] = 1 - vote
    return heard


def combine(
    votes: Votes, method: Literal["majority", "dawid_skene"], *, silence_speaks: bool = False
) -> tuple[Votes, Floats]:
    """Label and confidence per event by the method that a problem names."""
    if method == "majority":
        return majority(votes)
    return dawid_skene(votes, silence_speaks=silence_speaks).labels()


@dataclass(frozen=True)
class VoterReport:
    """How much a voter says, how much of that others say too, and how often it is right. Shares are of all events."""

    voter: str
    positive: int
    """Votes for the positive class."""
    negative: int
    """Votes for the negative class."""
    coverage: float
    """Share on which it votes."""
    overlap: float
    """Share on which it and another vote."""
    conflict: float
    """Share on which it and another vote differently."""
    accuracy_estimated: float | None
    """Without the truth (`dawid_skene`); None below three voters, which cannot be told apart, and without votes."""
    accuracy: float | None
    """On the checked events; None where there are none."""
    checked: int
    """Events that it votes on and of which the truth is known."""


def report(
    votes: Votes, names: Sequence[str], truth: Votes | None = None, *, silence_speaks: bool = False
) -> list[VoterReport]:
    """One record per voter, with Snorkel's definitions of coverage, overlap and conflict.

    `truth`: 1, 0, ABSTAINS where it is not known.
    """
    rows = max(len(votes), 1)
    casts = votes != ABSTAINS
    others_cast = casts.sum(axis=1, keepdims=True) - casts
    ones = (votes == 1).sum(axis=1, keepdims=True)
    zeros = (votes == 0).sum(axis=1, keepdims=True)
    conflicts = np.where(votes == 1, zeros > 0, np.where(votes == 0, ones > 0, False))
    estimated = dawid_skene(votes, silence_speaks=silence_speaks).accuracy if len(names) > 2 else None
    known = np.full(len(votes), ABSTAINS, np.int8) if truth is None else truth
    checked = casts & (known != ABSTAINS)[:, None]
    right = (checked & (votes == known[:, None])).sum(axis=0)
    return [
        VoterReport(
            voter=name,
            positive=int((votes[:, voter] == 1).sum()),
            negative=int((votes[:, voter] == 0).sum()),
            coverage=float(casts[:, voter].sum() / rows),
            overlap=float((casts & (others_cast > 0))[:, voter].sum() / rows),
            conflict=float(conflicts[:, voter].sum() / rows),
            accuracy_estimated=None if estimated is None or not casts[:, voter].any() else float(estimated[voter]),
            accuracy=float(right[voter] / checked[:, voter].sum()) if checked[:, voter].any() else None,
            checked=int(checked[:, voter].sum()),
        )
        for voter, name in enumerate(names)
    ]
