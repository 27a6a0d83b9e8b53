"""Scoring, monitoring, and the demo's replay."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator, model_validator

from pipelines.config.action import Action, Way
from pipelines.config.base import Config, Metric
from pipelines.config.partitions import DayOrHour

# What a way to act costs, compute and risk together, in points of the metrics and partitions: a model that is worse
# by 0.01 for 4 partitions has lost 0.04.
COSTS: dict[Way, float] = {
    Action.RECALIBRATE: 0.02,
    Action.RETRAIN: 0.04,
    Action.CONTINUE: 0.03,
    Action.ROLL_BACK: 0.04,
    Action.FALL_BACK: 0.1,
}


class Scoring(Config):
    """How a partition is cut for scoring."""

    shard_rows: int = Field(250_000, ge=1, description="rows a scoring task takes")
    batch_rows: int = Field(65_536, ge=1, description="rows in memory at once")


class Policy(Config):
    """When monitoring alarms and when it asks for a new model."""

    false_alarm_rate: float = Field(
        0.01,
        gt=0,
        lt=1,
        description="share of partitions that may alarm for a covariate shift although nothing happened, by what was "
        "usual so far; the same for prediction drift",
    )
    trailing_partitions: int = Field(
        8, ge=1, description="a partition that is like one of so many before it has moved with the season"
    )
    max_column_psi: float | None = Field(
        None, gt=0, description="a fixed limit for covariate shift, in place of what is usual"
    )
    max_prediction_psi: float | None = Field(
        None, gt=0, description="a fixed limit for prediction drift, in place of what is usual"
    )
    max_label_rate_shift: float = Field(0.1, gt=0, le=1, description="absolute change of the positive rate")
    max_auc_drop: float = Field(0.05, gt=0, le=1, description="below the champion's own test AUC")
    max_calibration_gap: float = Field(0.05, gt=0, le=1, description="|mean score - positive rate|")
    max_r2_drop: float = Field(0.1, gt=0, description="of a regression: below the champion's own test R2")
    max_bias_sd: float = Field(
        0.25, gt=0, description="of a regression: |mean score - mean label| in standard deviations of training labels"
    )
    max_concept_shift: float = Field(
        4.5,
        gt=0,
        description="how many times the usual a feature's own error may be, once labels are there; beyond it they came "
        "otherwise than the same inputs used to mean",
    )
    max_coverage_gap: float = Field(
        0.2,
        gt=0,
        le=1,
        description="difference of the share of rows with a label between scores; more, with scores that concentrate, "
        "is a feedback loop",
    )
    max_concentration: float = Field(
        0.2, gt=0, le=1, description="fall of the scores' entropy over partitions, as a share of the reference's"
    )
    min_labels: int = Field(
        200,
        ge=1,
        description="fewer labels than this prove nothing; partitions with fewer rows or labels are judged together "
        "with those before them",
    )
    at_least: int = Field(2, ge=1, description="so many bad partitions ...")
    of_last: int = Field(3, ge=1, description="... of so many newest labelled ones ask for a retraining")
    cool_down_partitions: int = Field(4, ge=0, description="partitions to wait after a request for the next")
    quarantine: bool = Field(
        True, description="hold a partition with a data fault back from every training set, until somebody readmits it"
    )
    updates: Literal["manual", "scheduled", "scheduled_stateful", "continual"] = Field(
        "continual",
        description="who says when the model learns (Huyen, ch. 9). manual: people; monitoring only alerts. scheduled: "
        "trained from scratch every so often. scheduled_stateful: continued every so often. continual: whenever a way "
        "to act is expected to gain more than it costs",
    )
    every_partitions: int = Field(4, ge=1, description="scheduled: partitions from one training to the next")
    scratch_every: int = Field(
        4, ge=1, description="of so many trainings in a row one is from scratch, where others continue the champion"
    )
    while_training: Literal["none", "one"] = Field(
        "one", description="requests while a training runs: none; or one more, and a newer one takes its place"
    )
    worth: dict[Metric, float] = Field(
        {},
        description="of one unit of a metric for one partition, in the unit of `costs` (money, say); empty: 1 for auc "
        "and log_loss, of a regression for r2",
    )
    horizon_partitions: int = Field(8, ge=1, description="partitions for which an action is expected to pay")
    costs: dict[Way, float | Literal["measured"]] = Field(
        dict(COSTS),
        description="of acting, compute and risk together; what is not named here keeps its default. measured, of a "
        "training: what the last trainings cost by the project's prices; the default until one was measured",
    )
    prior_readings: float = Field(
        4, ge=0, description="measured partitions that 'no gain' counts for: one is noisy, and the next shares its rows"
    )

    @property
    def measured(self) -> list[Way]:
        """Ways whose cost is what the last trainings of their kind cost."""
        return [way for way, cost in self.costs.items() if cost == "measured"]

    def cost(self, way: Way) -> float:
        """Of acting so; of a cost that is to be measured the default, which holds until it was."""
        cost = self.costs[way]
        return COSTS[way] if cost == "measured" else cost

    @model_validator(mode="after")
    def _reachable(self) -> Policy:
        if self.at_least > self.of_last:
            raise ValueError(f"at_least ({self.at_least}) can never be reached in of_last ({self.of_last})")
        return self

    @field_validator("costs")
    @classmethod
    def _costs_are_costs(cls, value: dict[Way, float | Literal["measured"]]) -> dict[Way, float | Literal["measured"]]:
        if below := [way for way, cost in value.items() if cost != "measured" and cost < 0]:
            raise ValueError(f"{', '.join(below)}: a cost is not below 0")
        if untrained := [way for way, cost in value.items() if cost == "measured" and not way.trains]:
            raise ValueError(f"{', '.join(untrained)}: only what a training costs is measured; give a number")
        return COSTS | value

    @field_validator("worth")
    @classmethod
    def _no_worth_is_negative(cls, value: dict[Metric, float]) -> dict[Metric, float]:
        if below := [metric for metric, worth in value.items() if worth < 0]:
            raise ValueError(f"{', '.join(below)}: a worth is not below 0, also where less of the metric is better")
        return value


class Monitoring(Config):
    """What is looked at once a partition is scored, and what is done about it."""

    bins: int = Field(10, ge=2, le=100, description="quantile bins of a numeric column's profile")
    report_rows: int | None = Field(
        5_000,
        ge=100,
        description="rows of each side in the Evidently report; null: it is not drawn, which saves 8 CPU seconds",
    )
    policy: Policy = Policy()


class Replay(Config):
    """How `evergreen demo` and `evergreen replay` play the problem's past as if it happened now."""

    history_until: DayOrHour = Field(
        description="first day of the last partition that is ingested in bulk, as history; of hours, the day that ends "
        "with it, or its key"
    )
    until: DayOrHour = Field(description="the last partition that the demo plays one by one, named in the same way")
