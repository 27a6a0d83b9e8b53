"""What is found out about a model, and what it has to reach before it may serve."""

from __future__ import annotations

from typing import Literal

from pydantic import ConfigDict, Field, model_validator

from pipelines.config.base import Config, Metric, Name, may_be_left_out

FairnessMeasure = Literal["demographic_parity", "equal_opportunity", "equalised_odds"]


class Bootstrap(Config):
    """Intervals by resampling; whole blocks where rows of the same time depend on each other."""

    resamples: int = Field(400, ge=50, description="how often rows are drawn anew")
    confidence: float = Field(0.95, gt=0.5, lt=1, description="share of the resamples within an interval")
    block: Literal["row", "day", "partition"] = Field("day", description="what is drawn as a whole")
    seed: int = Field(0, description="of the random draws")


class Slices(Config):
    """Parts of the test rows that are measured by themselves."""

    by: list[str] = Field([], description="features; each of their values (or quarters, of a number) is a slice")
    find: bool = Field(True, description="look for the worst slices of one or two features as well")
    max_found: int = Field(10, ge=1, description="slices found by the search that are reported, at most")
    min_rows: int = Field(200, ge=10, description="a slice of fewer test rows is not looked at")
    false_discovery_rate: float = Field(0.05, gt=0, lt=1, description="Benjamini-Hochberg, over all slices looked at")


class Behaviour(Config):
    """A test of the model by changing its input (Huyen, ch. 6; Ribeiro et al., CheckList, 2020).

    perturbation: a little noise moves the scores little. invariance: what should not matter does not.
    directional: a change that should matter moves the scores the right way.
    """

    kind: Literal["perturbation", "invariance", "directional"] = Field(description="what is asked of the scores")
    columns: list[str] = Field(min_length=1, description="features that are changed")
    add: float | None = Field(None, description="added to numbers")
    multiply: float | None = Field(None, description="numbers are multiplied by it")
    set: str | float | None = Field(None, description="all rows get this value")
    noise: float | None = Field(None, gt=0, description="normal noise, in standard deviations of the feature")
    shuffle: bool = Field(False, description="values are shuffled over the rows")
    expect: Literal["up", "down"] | None = Field(None, description="directional: where the scores go")
    max_change: float | None = Field(
        None,
        gt=0,
        description="perturbation, invariance: mean absolute change of the score (regression: in standard "
        "deviations of the label) at most",
    )
    min_share: float = Field(0.9, gt=0, le=1, description="directional: share of rows that do not move the wrong way")

    @model_validator(mode="after")
    def _complete(self) -> Behaviour:
        changes = [self.add, self.multiply, self.set, self.noise, True if self.shuffle else None]
        if sum(change is not None for change in changes) != 1:
            raise ValueError("a behaviour has one of add, multiply, set, noise and shuffle")
        if (self.kind == "directional") != (self.expect is not None):
            raise ValueError("expect goes with kind 'directional', which needs it")
        if (self.kind == "directional") == (self.max_change is not None):
            raise ValueError("max_change goes with the kinds 'perturbation' and 'invariance', which need it")
        return self


class Fairness(Config):
    """Decisions compared between groups (fairlearn)."""

    groups: list[str] = Field(min_length=1, description="features, or columns of events, whose values are the groups")
    min_rows: int = Field(100, ge=10, description="smaller groups are reported and not compared")


class Evaluation(Config):
    """How candidates are measured on rows that they have not learnt from."""

    bootstrap: Bootstrap = Bootstrap()
    beta: float = Field(1.0, gt=0, description="of F-beta: recall counts beta times as much as precision")
    calibration_bins: int = Field(
        10, ge=2, le=100, description="bins of the score in the calibration curve and its error"
    )
    slices: Slices = Slices()
    behaviours: dict[Name, Behaviour] = Field({}, description="tests by changed input")
    fairness: Fairness | None = None
    importance_rows: int = Field(2_000, ge=50, description="test rows whose SHAP values are averaged")


class Limit(Config):
    """Bounds of a metric on the test split; one of them, or both."""

    min: float | None = Field(None, description="the metric has to be as much at least")
    max: float | None = Field(None, description="the metric may be as much at most")

    @model_validator(mode="after")
    def _not_empty(self) -> Limit:
        if self.min is None and self.max is None:
            raise ValueError("a limit needs min or max")
        return self


class SliceGate(Config):
    """How much worse than the champion a challenger may be on a slice."""

    metric: Metric = Field("log_loss", description="of a regression rmse, unless it is given")
    max_loss: float | None = Field(
        None,
        ge=0,
        description="how much worse than the champion a slice may be; it fails when its whole interval is. "
        "null: 0.05; of an error in the label's unit (rmse, mae, bias) or a cost, a twentieth of the champion's on all "
        "test rows",
    )


class Gate(Config):
    """What a challenger has to reach on the test split before it may serve.

    A gain is positive when the challenger is better, whichever way the metric runs; a negative minimum is how much
    worse it may be. A gain counts by the lower bound of its interval, from a paired bootstrap on the same rows; over
    the champion a tie is enough where the minimum is not above 0.
    """

    model_config = ConfigDict(json_schema_extra=may_be_left_out("limits", "gain_over_baselines", "gain_over_champion"))

    limits: dict[Metric, Limit] = Field(
        min_length=1,
        description="absolute bounds. Left out together with both gains: AUC of at least 0.5, of a regression R2 of at "
        "least 0",
    )
    gain_over_baselines: dict[Metric, float] = Field(
        min_length=1, description="at least; where all three are left out 0 of AUC, of a regression of R2"
    )
    gain_over_champion: dict[Metric, float] = Field(
        min_length=1, description="at least; where all three are left out -0.02 of AUC, of a regression of R2"
    )
    ties_pass: float | None = Field(
        0.9,
        ge=0.5,
        lt=1,
        description="share of the challengers exactly as good as the champion that pass a "
        "gain_over_champion of 0 or below, on however few rows; null: the interval alone decides",
    )
    max_tie_loss: float = Field(
        0.25,
        gt=0,
        le=1,
        description="share of the champion's advantage over the best baseline that a challenger may "
        "lie below the champion and still pass as a tie",
    )
    max_jump: float | None = Field(
        0.1,
        gt=0,
        description="AUC (of a regression R2) by which a challenger may beat the champion, for sure, before "
        "somebody looks: a sudden gain is a leak more often than a find",
    )
    max_champion_fall: float | None = Field(
        0.7,
        gt=0,
        le=1,
        description="share of its advantage over the baselines (AUC, of a regression R2) that the "
        "champion may have lost on these rows since it was promoted; beyond, their labels or features are suspect",
    )
    max_forgotten: float | None = Field(
        0.03,
        gt=0,
        description="AUC (of a regression R2) by which a challenger may be worse than the champion on "
        "training rows that both have learnt from; or half of what the champion loses on rows that are new to it, if "
        "that is more. A worse one was not fitted as it should have been",
    )
    min_learnt_share: float | None = Field(
        0.5, gt=0, le=1, description="rows that a challenger learnt from, over those that the champion did, at least"
    )
    max_bias: float | None = Field(
        0.05,
        gt=0,
        le=1,
        description="of the mean score on training rows, against their labels. Not of a regression, "
        "nor where classes are reweighed or resampled, or scores calibrated on later rows",
    )
    slices: SliceGate | None = SliceGate()
    max_calibration_error: float | None = Field(None, gt=0, le=1, description="expected calibration error")
    max_unfairness: dict[FairnessMeasure, float] = Field({}, description="difference between groups, by upper bound")
    max_latency_ms: float | None = Field(None, gt=0, description="median time of scoring one row")
    max_size_mb: float | None = Field(None, gt=0, description="of the model's file")
    max_age_days: float | None = Field(
        None, gt=0, description="between the end of the newest tested partition and the moment of training"
    )
    max_prediction_shift: float | None = Field(
        1.0, gt=0, description="PSI of the test rows' scores against those of the training rows"
    )
    min_rows: int = Field(100, ge=1, description="fewer test rows than this prove nothing")
