"""lineage.json: what a fitted model is made of. The stage `train` writes it to the model's run, `register` keeps it
with the version."""

from __future__ import annotations

from typing import Literal, NotRequired

from typing_extensions import TypedDict

from pipelines.config import Parameters
from pipelines.documents.measures import Interval


class Fingerprint(TypedDict, total=False):
    """Which rows a fit was given, in a line that says whether others are the same. Empty: it does not say."""

    rows: int
    partitions: list[str]
    """Sorted."""
    hash: str
    """SHA-256 of partition, features, label and weight, in the order of the rows."""


class Surroundings(TypedDict, total=False):
    """Code, machine and packages that a fit ran on; what could not be found out is None."""

    git_commit: str | None
    """With `-dirty` at its end where files differed from it."""
    lock_file: str | None
    """SHA-256 of uv.lock."""
    python: str
    system: str
    machine: str
    cpus: int | None
    packages: dict[str, str]
    """Version of each distribution that decides over bits of a model."""


PinnedTable = Literal["events", "labels", "features", "training_sets"]


class Tables(TypedDict):
    """Versions of the tables that a training set was made of; None: the table was not written yet."""

    events: int | None
    labels: int | None
    features: int | None
    training_sets: int | None


class Seeds(TypedDict):
    """Seed of each step that draws at random."""

    sampling: int
    resampling: int
    augmentation: int
    training: int
    bootstrap: int


class HeldOutSizes(TypedDict):
    """Partitions that measured a model and taught it nothing."""

    validation: int
    test: int


class RefitVerdict(TypedDict):
    """Whether a model that was fitted again was sound."""

    passed: bool
    reason: str
    metric: str
    gain: Interval | None
    """Of the refitted model over the tested one on the test rows; None: it gave scores that are no numbers."""


class Refit(TypedDict):
    """How a model was fitted again after its gate."""

    of: str
    """MLflow run of the tested model."""
    base: str | None
    """MLflow run of the model that was updated; None: it was trained from scratch."""
    after: str | None
    """Newest partition that the updated model had learnt from; None: it was trained from scratch."""
    rows: Fingerprint
    """What the refitted model has learnt from."""
    check: RefitVerdict


class Lineage(TypedDict):
    """What one candidate's model is made of."""

    problem: str
    candidate: str
    model: str
    """Kind of the candidate's estimator."""
    parameters: Parameters
    """Those that were searched; they stand over the candidate's own. Which there are depends on the estimator."""
    how: NotRequired[Literal["scratch", "continue", "recalibrate", "fallback"]]
    parent: NotRequired[str | None]
    """Version that it went on from; None of one from scratch."""
    parent_run: NotRequired[str | None]
    """MLflow run of the very model that it went on from."""
    replaces: NotRequired[str]
    """Of a baseline that serves as a fallback: the version in whose place it does."""
    refit: NotRequired[Refit | None]
    """None: it was not fitted again."""
    window_from: NotRequired[str | None]
    """First partition that it was to learn from; None: as far back as dataset.window_partitions allows."""
    held: NotRequired[list[str]]
    """Partitions in quarantine that were passed over."""
    waiting: NotRequired[list[str]]
    """Partitions whose labels took longer than anybody said."""
    held_out: NotRequired[HeldOutSizes | None]
    """None: as dataset.split says."""
    is_streamed: bool
    """The training rows were read from disk, batch by batch, which gives other bits than rows in memory."""
    training: str
    """Id of the training."""
    training_set: str
    partition: str
    """Newest partition that it may know of."""
    as_of: str
    """ISO 8601; what became known later is not in it."""
    trained_until: str
    """Last partition before the test split."""
    feature_set: str
    config_hash: str
    queries: dict[str, str]
    """SHA-256 of the text of each query."""
    seeds: Seeds
    tables: Tables
    splits: dict[str, Fingerprint]
    surroundings: Surroundings


class VersionLineage(Lineage):
    """Lineage of a version of the registry, as the store keeps it."""

    version: str
    run_id: str
    """MLflow run of the model that serves as this version."""
    model_sha256: NotRequired[str]
    """Of the model's file when it was registered; versions of before it was kept have none."""
    beside_sha256: NotRequired[dict[str, str]]
    """As `model_sha256`, by MLflow run: of the model that its gate tested, and of the baselines of its training."""
