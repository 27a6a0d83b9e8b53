"""Scoring, monitoring, and the demo's replay."""

from __future__ import annotations

from datetime import date

from pydantic import Field, model_validator

from pipelines.config.base import Config


class Scoring(Config):
    shard_rows: int = Field(250_000, ge=1, description="rows a scoring task takes")
    batch_rows: int = Field(65_536, ge=1, description="rows in memory at once")


class Policy(Config):
    """When monitoring alarms and when it asks for a new model."""

    false_alarm_rate: float = Field(
        0.05,
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
    min_labels: int = Field(200, ge=1, description="fewer labels than this prove nothing")
    at_least: int = Field(2, ge=1, description="so many bad partitions ...")
    of_last: int = Field(3, ge=1, description="... of so many newest labelled ones ask for a retraining")
    cool_down_partitions: int = Field(4, ge=0, description="partitions to wait after a request for the next")

    @model_validator(mode="after")
    def _reachable(self) -> Policy:
        if self.at_least > self.of_last:
            raise ValueError(f"at_least ({self.at_least}) can never be reached in of_last ({self.of_last})")
        return self


class Monitoring(Config):
    bins: int = Field(10, ge=2, le=100, description="quantile bins of a numeric column's profile")
    report_rows: int = Field(5_000, ge=100, description="rows of each side in the Evidently report")
    policy: Policy = Policy()


class Replay(Config):
    """How `evergreen demo` and `evergreen replay` play the problem's past as if it happened now."""

    history_until: date = Field(description="first day of the last partition that is ingested in bulk, as history")
    until: date = Field(description="first day of the last partition that the demo plays one by one")
