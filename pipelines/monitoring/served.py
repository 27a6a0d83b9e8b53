"""What a version that served has done and has learnt: one past, for the monitor DAG and for a replay.

The DAG finds it in the store and the registry (`pipelines.stages.monitor.past`), a replay has it from the recipes of
its models (`pipelines.policies.played`); what is measured of it and decided by it is measured and decided here and in
`pipelines.monitoring.decide.measure`, for both.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from pipelines.config import Action, Way
from pipelines.dataset.drawn import DRAWN
from pipelines.dataset.label import mature, pooled, splits
from pipelines.errors import EvergreenError
from pipelines.features.schema import calendar_features, feature_units
from pipelines.monitoring.detect.detect import detect, performance
from pipelines.monitoring.detect.detection import Drift, LabelledPartition
from pipelines.profiles.pooled import windows
from pipelines.profiles.profile import KEPT_PARTITIONS, Profiles, Reference

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

    from pipelines.dataset.waiting import Judgeable
    from pipelines.monitoring.estimate.realised import Realised
    from pipelines.problem import Problem

LEARNABLE_ROWS = 60_000  # of each side that small models learn from: about half a CPU second

Value = TypeVar("Value")
Scores = Callable[["pa.Table"], "np.ndarray"]
"""What a model gives rows with features."""

NO_MORE = "the version that served here does not serve any more, or has other features"
NONE_BEFORE = "there is no version before"
NO_BASELINE = "no baseline that could serve is known"


class Lesson(NamedTuple):
    """A training that taught a version."""

    as_of: str
    """Partition at whose end it began."""
    partitions: tuple[str, ...]
    """What it taught: of a version that was fitted again after its gate, what that fit learnt from."""


class Alternatives(NamedTuple):
    """Models that serve, or could serve at once."""

    keep: Scores
    """Of rows that what serves has learnt from, its tested twin's scores."""
    others: Mapping[Way, Scores]
    """By the action that would let them serve."""
    unmeasured: Mapping[Way, str]
    """Why another action has no model."""


class ServedVersion(ABC):
    """A version, as all of it was known at the end of a partition.

    What is asked for is looked up when it is asked for; nothing of what came after `partition` is in it.
    """

    version: str
    problem: Problem
    """As it is configured today."""
    labels_in: Judgeable
    """Which partitions' labels are in."""

    @property
    def partition(self) -> str:
        """At whose end this is known."""
        return self.labels_in.partition

    @property
    @abstractmethod
    def trained_problem(self) -> Problem:
        """As it was configured when the version was trained."""

    @property
    @abstractmethod
    def candidate(self) -> str:
        """Candidate that the version is a model of."""

    @property
    @abstractmethod
    def as_of(self) -> str:
        """Partition at whose end it was made: trained, continued or calibrated."""

    @property
    @abstractmethod
    def trained_until(self) -> str:
        """Last partition before its test split."""

    @property
    @abstractmethod
    def lessons(self) -> Sequence[Lesson]:
        """Trainings that taught it: from scratch first, then each by which it was continued."""

    @property
    @abstractmethod
    def learnt(self) -> frozenset[str]:
        """Partitions that it was fitted or calibrated on: what it says of them tells nothing of how good it is."""

    @property
    @abstractmethod
    def held(self) -> frozenset[str]:
        """Partitions in quarantine."""

    @property
    @abstractmethod
    def ingested(self) -> Sequence[str]:
        """Partitions with events, oldest first."""

    @property
    @abstractmethod
    def featured(self) -> Sequence[str]:
        """Partitions with features, oldest first: those that were scored, or are in a training set."""

    @property
    @abstractmethod
    def predicted(self) -> Sequence[str]:
        """Partitions that were scored, by whatever version, oldest first."""

    @property
    @abstractmethod
    def reference(self) -> Reference:
        """What its partitions are held against."""

    @abstractmethod
    def profiles(self) -> dict[str, Profiles]:
        """By partition, oldest first: of those that the version was made from, then of those that it scored."""

    @abstractmethod
    def scorers(self, keys: Sequence[str]) -> list[tuple[ServedVersion, list[str]]]:
        """Neighbouring partitions of `keys` that one version scored, oldest first, with that version."""

    @abstractmethod
    def realised(self, keys: Sequence[str]) -> list[Realised]:
        """How the scores that it gave each of these partitions turned out."""

    @abstractmethod
    def labelled_counts(self) -> Mapping[str, int]:
        """Labelled rows of each partition."""

    @abstractmethod
    def learnable_rows(self, keys: Sequence[str]) -> pa.Table:
        """Rows of some partitions with features, `label` as known at the end of `partition`, and `weight` 1, in time's
        order; of many rows 60,000 (`LEARNABLE_ROWS`), as many of each partition, drawn by a hash of the key."""

    @abstractmethod
    def alternatives(self, newest: str) -> Alternatives | str:
        """What could serve in its place, to be measured on the partition `newest`; or why nothing can be."""

    def measured_once(self, what: str, kind: type[Value], measure: Callable[[], Value]) -> Value:
        """What `measure` gives, of the type `kind`; a past that is played again may know it by its name, `what`."""
        return measure()

    @property
    def labelled(self) -> list[str]:
        """Partitions with features whose labels are in and that are not in quarantine, oldest first."""
        return self.labels_in.among(key for key in self.featured if key not in self.held)


def ages(served: ServedVersion) -> dict[Way, int]:
    """Partitions since a version was trained from scratch, and since it last learnt: by so many would a training of
    either kind know more."""
    since: dict[Way, str] = {Action.RETRAIN: served.lessons[0].as_of, Action.CONTINUE: served.lessons[-1].as_of}
    return {way: partitions_since(served, as_of) for way, as_of in since.items()}


def partitions_since(served: ServedVersion, partition: str) -> int:
    return max(len(served.problem.partitions.between(partition, served.partition)) - 1, 0)


def fresh(served: ServedVersion, newest: str) -> list[str]:
    """Partitions with features that a training would teach what serves, so that `newest` can still measure it; none
    where too few partitions are there.

    Without training.refit: what a training that is asked for now would learn from, in whose test split `newest` is.
    With it nothing is held out in the end: what could be learnt from when `newest` began.
    """
    problem = served.problem
    whole = [key for key in served.ingested if key not in served.labels_in.late]
    if problem.training.refit:
        sound = [key for key in whole if key not in served.held]
        keys = mature(problem, problem.partitions.shift(newest, -1), sound)
        keys = keys[-(problem.dataset.window_partitions or 0) :]
    else:
        sizes = pooled(
            problem, served.partition, whole, served.labelled_counts(), None, served.held, served.trained_until
        )
        try:
            split = splits(problem, served.partition, whole, None, served.held, are_cut=False, sizes=sizes)
        except EvergreenError:
            return []
        # Of a delivery whose rows are drawn some are learnt from: it cannot measure what it taught.
        keys = [key for key, name in split.items() if name == "train" or (name == DRAWN and key < newest)]
    return sorted({*keys} & {*served.featured})


def waiting(served: ServedVersion) -> list[str]:
    """Earlier partitions that were scored, and too many of whose labels are still on their way for them to tell
    anything."""
    late = served.labels_in.late.intersection(mature(served.problem, served.partition, _told_by(served)))
    return sorted(late - {served.partition})


def detected(served: ServedVersion) -> Drift:
    """How far `served.partition` lies from what is usual; see `detect`.

    What is usual is told by the reference's partitions and by those that the same version scored since. Partitions in
    quarantine do not tell it: a fault that stays is found in each of its partitions.
    """
    policy, partition = served.problem.monitoring.policy, served.partition
    # One that a new version learnt from is no repetition of itself.
    made_from = {key: part for key, part in served.reference.partitions.items() if key != partition}
    reference = served.reference.model_copy(update={"partitions": made_from})
    aside = {*made_from, *served.held} - {partition}
    profiles = {key: part for key, part in served.profiles().items() if key not in aside}
    itself = profiles.pop(partition)
    # A unit that was declared after the version was made counts at once.
    units = feature_units(served.trained_problem) | feature_units(served.problem)
    return detect(
        reference,
        itself,
        profiles,
        policy.false_alarm_rate,
        policy.trailing_partitions,
        policy.min_labels,
        units,
        calendar_features(served.trained_problem),
    )


def newest_realised(served: ServedVersion) -> list[LabelledPartition]:
    """How the newest labelled partitions turned out, oldest first: `monitoring.policy.of_last` of them, by whatever
    version scored each. What a version has learnt from is left out: it scores that well whatever it is worth. So are
    partitions in quarantine.

    Neighbouring partitions of one version with fewer than `monitoring.policy.min_labels` labels are pooled. A pool may
    still have too few rows: at most 60 partitions are looked at.
    """
    policy = served.problem.monitoring.policy
    keys = served.labels_in.among(_told_by(served))[-KEPT_PARTITIONS:]
    wanted = policy.of_last
    while True:
        pools = _realised_pools(served, keys[-wanted:])
        is_enough = sum(pool.rows >= policy.min_labels for pool in pools) >= policy.of_last
        if is_enough or wanted >= len(keys):
            return pools[-policy.of_last :]
        wanted *= 2  # small partitions: it takes more of them


def _told_by(served: ServedVersion) -> list[str]:
    """Scored partitions that are not in quarantine; the one that is looked at may be, as of an earlier run."""
    aside = served.held - {served.partition}
    return [key for key in served.predicted if key not in aside]


def _realised_pools(served: ServedVersion, keys: Sequence[str]) -> list[LabelledPartition]:
    pools: list[LabelledPartition] = []
    for scorer, scored_keys in served.scorers(keys):
        judged = [key for key in scored_keys if key not in scorer.learnt]
        parts = [part for part in scorer.realised(judged) if len(part.scored.labels)] if judged else []
        rows = [len(part.scored.labels) for part in parts]
        for window in windows(rows, served.problem.monitoring.policy.min_labels):
            first, *others = [parts[place] for place in window]
            unknown: dict[str, int] = {}
            for part in (first, *others):
                for label, count in part.unknown_labels.items():
                    unknown[label] = unknown.get(label, 0) + count
            pool = performance(first.scored.joined([part.scored for part in others]))
            partitions = tuple(parts[place].partition for place in window)
            pools.append(pool.at(partitions[-1], partitions=partitions, version=scorer.version, unknown_labels=unknown))
    return pools
