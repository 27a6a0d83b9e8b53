"""What the stages of `<problem>.train` hand each other."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from pipelines.config import How
from pipelines.documents.dataset import Detectable, Power
from pipelines.documents.evaluation import LeakCheck
from pipelines.documents.lineage import Lineage
from pipelines.handoffs.base import HandOff


class Moment(HandOff):
    """What was known: the versions of the tables at one moment."""

    as_of: str
    """ISO 8601; what became known later is not there."""
    events_version: int | None
    labels_version: int | None


class TrainingSet(Moment):
    """Where the rows of a training set are, with their features."""

    training_set: str
    training_set_version: int | None
    features_version: int | None = None
    """None: the newest, or none have been computed yet."""


class HeldOut(BaseModel):
    """How many partitions measure a model and teach it nothing."""

    model_config = ConfigDict(frozen=True)

    validation: int
    test: int


class BuildsOn(BaseModel):
    """The champion that a training goes on from."""

    model_config = ConfigDict(frozen=True)

    version: str
    run_id: str
    """Of the very model that is updated."""
    candidate: str
    learnt_until: str
    """The newest partition that it has learnt from."""
    sets: list[str]
    """Training sets that it has learnt from."""


class Planned(BaseModel):
    """What a training was asked for, and what that comes to."""

    model_config = ConfigDict(frozen=True)

    how: How = "scratch"
    window_from: str | None = None
    """First partition to learn from; None: as far back as dataset.window_partitions allows."""
    held: list[str] = []
    """Partitions in quarantine that are passed over."""
    held_out: HeldOut | None = None
    builds_on: BuildsOn | None = None


class Labelled(Planned, Moment):
    """Rows that a model may learn from, with their labels, wait in the staging of `training`."""

    partition: str
    training: str
    """Id of this attempt."""
    trained_until: str
    """Last partition before the test split."""
    waiting: list[str] = []
    """Partitions whose labels take longer than anybody said."""
    rows: int
    left_out: dict[str, int]
    """Rows by the reason why they teach nothing."""
    too_young: list[str]

    def line(self) -> str:
        return f"{self.rows:,} events"


class Sampled(Labelled, TrainingSet):
    """The training set is written."""

    training_set_version: int
    splits: dict[str, int]
    """Rows of each split."""
    not_drawn: int

    def line(self) -> str:
        return f"training set {self.training_set}, {self.splits.get('train', 0):,} rows to learn from"


class Share(Sampled):
    """Partitions of a training set, the features of whose events are one task's."""

    partitions: list[str] = []
    """None of a run that began before there were shares: all."""


class FeaturizedShare(Share):
    """The features of a share are computed: the table's version has them."""

    feature_set: str

    def line(self) -> str:
        return f"feature set {self.feature_set}, {len(self.partitions):,} partitions"


class Featurized(Sampled):
    """The features of every event in its partitions are computed."""

    feature_set: str

    def line(self) -> str:
        return f"feature set {self.feature_set}"


class Leaks(BaseModel):
    """What was found when leaks were looked for, and is accepted."""

    model_config = ConfigDict(frozen=True)

    checked: bool
    findings: list[str]

    def document(self) -> LeakCheck:
        """As evaluation.json keeps it."""
        return {"checked": self.checked, "findings": self.findings}


class SplitPower(BaseModel):
    """How small a difference between two models the rows of a split can show."""

    model_config = ConfigDict(frozen=True)

    rows: int
    blocks: int
    detectable: dict[str, float]
    """Difference that is shown in four of five tests, by metric."""

    def document(self) -> Detectable:
        return {"rows": self.rows, "blocks": self.blocks, "detectable": self.detectable}


class HeldOutPower(BaseModel):
    """What the held-out rows can show; `warnings` say where that is less than the gate asks for."""

    model_config = ConfigDict(frozen=True)

    validation: SplitPower
    test: SplitPower
    warnings: list[str]

    def document(self) -> Power:
        """As the facts of a datasheet and evaluation.json keep it."""
        return {
            "validation": self.validation.document(),
            "test": self.test.document(),
            "warnings": self.warnings,
        }


class Checked(Featurized):
    """No leak was found, and the datasheet is written."""

    datasheet: str
    """URI of the page."""
    leaks: Leaks
    power: HeldOutPower | None = None
    """None of a set that was checked before there was any."""

    def line(self) -> str:
        return "no leak found"


class Trained(HandOff):
    """A fitted candidate, in its MLflow run."""

    candidate: str
    run_id: str
    validation: dict[str, float | None]
    """Metrics on the validation split."""
    model_sha256: str | None = None
    """Of the model's file, as it was logged; None of a run of before it was handed on."""

    def line(self) -> str:
        return f"{self.candidate}: {headline(self.validation)} on validation"


class Evaluated(HandOff):
    """The challenger, and where its evaluation is."""

    training: str
    partition: str
    training_set: str
    candidate: str
    tied_with: list[str] = Field(default_factory=list)
    """Candidates that the validation rows cannot tell from it."""
    run_id: str
    evaluation: str
    """URI of what `gate` judges."""
    page: str
    """URI."""
    test_rows: int
    metrics: dict[str, float | None]
    models_sha256: dict[str, str] = Field(default_factory=dict)
    """Of the files of all candidates' models, as they were logged, by run."""

    def line(self) -> str:
        return f"{self.candidate} is the challenger, {headline(self.metrics)} on test"


class Gated(HandOff):
    """A challenger that has passed its gate."""

    partition: str
    run_id: str
    candidate: str
    training_set: str
    evaluation: str
    """URI."""
    verdict: str
    reason: str
    models_sha256: dict[str, str] = Field(default_factory=dict)
    """As `evaluate` handed them on; of a model that was fitted again too."""

    def line(self) -> str:
        return self.verdict


class Refitted(Gated):
    """`run_id` is that of the model which is to serve."""

    tested_run: str
    refit: str
    """What the check of the refitted model found, or that there was none."""

    def line(self) -> str:
        return self.refit


class Registered(Refitted):
    """A version of the registry."""

    version: str
    card: str
    """URI of the model card's page."""

    def line(self) -> str:
        return f"version {self.version}"


class Promoted(HandOff):
    """The version that serves now, and the one that it replaced; or whose release has begun, or waits."""

    version: str
    replaced: str | None
    how: Literal["serves", "released", "waits"] = "serves"
    release: str | None = None
    """That has begun, or that it waits for."""

    def line(self) -> str:
        return {
            "serves": f"version {self.version} serves now",
            "released": f"the release of version {self.version} begins",
            "waits": f"version {self.version} waits for the end of release {self.release}",
        }[self.how]


def headline(metrics: Mapping[str, float | None]) -> str:
    """The metric that says most about a task, in words.

    >>> headline({"log_loss": 0.5, "auc": 0.6789}), headline({"rmse": 2.0, "r2": 0.25})
    ('AUC 0.679', 'R2 0.250')
    """
    name = next((name for name in HEADLINES if metrics.get(name) is not None), None)
    return f"{HEADLINES[name]} {metrics[name]:.3f}" if name else "nothing measured"


HEADLINES: dict[str, str] = {"auc": "AUC", "r2": "R2", "log_loss": "log loss", "rmse": "RMSE"}


def training_set_of(lineage: Lineage) -> TrainingSet:
    """The training set of a model, from its lineage."""
    tables = {f"{name}_version": version for name, version in lineage["tables"].items()}
    return TrainingSet.model_validate({**lineage, **tables, "training_set_version": tables["training_sets_version"]})
