"""Which rows a model learns from: splits, sampling, resampling, augmentation, leaks."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from pipelines.config.base import Config, is_none


class Drawn(Config):
    """Rows are held out by chance, those with one key, or of one group, all on the same side.

    For deliveries: what has no time cannot be split by it. Each label, or quarter of a number's range, is split by
    itself (Burkov, Machine Learning Engineering, ch. 3.12), and a row stays where it is when more deliveries come.
    """

    validation: float = Field(0.15, gt=0, lt=1, description="share of the labelled rows")
    test: float = Field(0.15, gt=0, lt=1, description="share of the labelled rows")
    seed: int = Field(0, description="another one draws other rows: what a model has learnt from may test the next one")

    @model_validator(mode="after")
    def _some_are_left(self) -> Drawn:
        if self.validation + self.test >= 1:
            raise ValueError(
                f"validation and test take {self.validation + self.test:g} of the rows: none is left to learn from"
            )
        return self


class Split(Config):
    """Newest labelled partitions are held out: test is the newest, validation lies before it. Not of deliveries, which
    have no time: their rows are `drawn`."""

    validation_partitions: int = Field(1, ge=1, description="at least")
    test_partitions: int = Field(2, ge=1, description="at least")
    min_rows: int = Field(
        1_000,
        ge=1,
        description="rows with a label that validation and test each are to have: smaller ones take more "
        "partitions until then, up to a fifth of the mature ones each",
    )
    embargo: bool = Field(
        True, description="leave out rows whose label was not known yet when the next split's first prediction was due"
    )
    group_by: str | None = Field(
        None, description="column of a group that may stand in one split only; the newest split keeps it"
    )
    drawn: Drawn | None = Field(
        None, exclude_if=is_none, description="of deliveries, and there always: how rows are held out by chance"
    )


class Sampling(Config):
    """Which rows of the training split are used (validation and test always keep all of theirs)."""

    method: Literal["all", "random", "systematic", "stratified", "cluster", "weighted", "reservoir", "importance"] = (
        Field("all", description="how rows are drawn; all: none is left out")
    )
    fraction: float | None = Field(None, gt=0, le=1, description="share of rows to draw")
    rows: int | None = Field(None, ge=1, description="rows to draw, instead of fraction")
    by: list[str] = Field([], description="columns (or label) that form the strata, the clusters or the groups")
    shares: dict[str, float] = Field(
        {},
        description="share of each stratum in the sample; or, for importance, in the world that is learnt for. "
        "Values of several columns are joined by |. Empty: as in the population",
    )
    weight_column: str | None = Field(None, description="column that the chance to be drawn is proportional to")
    half_life_days: float | None = Field(None, gt=0, description="a row's chance halves with so many days of age")
    correct: bool = Field(
        False, description="weigh each row by one over its chance to be drawn, so that the sample speaks for the whole"
    )
    seed: int = Field(0, description="of the random draws")

    @model_validator(mode="after")
    def _settings_are_used(self) -> Sampling:
        if self.method == "all":
            for name in ("fraction", "rows"):
                if getattr(self, name) is not None:
                    raise ValueError(f"{name} has no effect with method 'all'; use method 'random'")
        elif (self.fraction is None) == (self.rows is None):
            raise ValueError(f"method {self.method!r} needs one of fraction and rows")
        if self.method == "reservoir" and self.rows is None:
            raise ValueError("method 'reservoir' needs rows: the size of the reservoir")
        if (self.method in ("stratified", "cluster")) and not self.by:
            raise ValueError(f"method {self.method!r} needs by: the columns that form the groups")
        if self.by and self.method not in ("stratified", "cluster", "importance"):
            raise ValueError(f"by has no effect with method {self.method!r}")
        if self.shares and (self.method not in ("stratified", "importance") or not self.by):
            raise ValueError("shares are for the methods 'stratified' and 'importance', with by")
        if self.shares and not (
            all(share >= 0 for share in self.shares.values()) and abs(sum(self.shares.values()) - 1) < 1e-6
        ):
            raise ValueError(f"shares are not negative and sum to 1, not {sum(self.shares.values()):g}")
        proposal = (self.weight_column is not None) + (self.half_life_days is not None)
        if proposal and self.method not in ("weighted", "importance"):
            raise ValueError("weight_column and half_life_days are for the methods 'weighted' and 'importance'")
        if self.method == "weighted" and proposal != 1:
            raise ValueError("method 'weighted' needs one of weight_column and half_life_days")
        if self.method == "importance" and not (self.shares or proposal):
            raise ValueError("method 'importance' needs shares (with by), weight_column or half_life_days")
        if proposal > 1:
            raise ValueError("weight_column or half_life_days, not both")
        if self.correct and self.method == "all":
            raise ValueError("correct has no effect with method 'all'")
        return self


class Resampling(Config):
    """Balance of the classes in the training split, at the fit (imbalanced-learn)."""

    method: Literal["none", "undersample", "oversample", "smote", "tomek"] = Field(
        "none", description="smote is SMOTENC where there are categories"
    )
    ratio: float = Field(1.0, gt=0, le=1, description="minority rows per majority row afterwards; not for tomek")
    neighbours: int = Field(5, ge=1, description="for smote")
    seed: int = Field(0, description="of the random draws")


class Augmentation(Config):
    """More rows for the training split, at the fit, made from those it has (Huyen, ch. 4)."""

    method: Literal["none", "perturb", "mixup"] = Field(
        "none", description="perturb: copies with noise. mixup: weighted means of two rows and of their labels"
    )
    share: float = Field(0.2, gt=0, le=10, description="made rows per row")
    noise: float = Field(0.05, gt=0, description="perturb: standard deviation, in those of each column")
    alpha: float = Field(0.2, gt=0, description="mixup: of the Beta distribution of the mixing weight")
    seed: int = Field(0, description="of the random draws")


class Leaks(Config):
    """What is looked for in a training set before anything learns from it."""

    max_single_feature_auc: float = Field(
        0.85, gt=0.5, le=1, description="task binary: a feature that alone predicts the label better is suspicious"
    )
    max_single_feature_share: float = Field(
        0.7,
        gt=0,
        le=1,
        description="task multiclass: share of the uncertainty about the class (Theil's U); a feature "
        "that alone removes more of it is suspicious",
    )
    max_class_overlap: float = Field(
        0.8,
        gt=0,
        le=1,
        description="task multiclass: rows that have one value of a feature and one class, over rows "
        "that have either; beyond it the value is suspected to be that class in other words",
    )
    max_single_feature_r2: float = Field(
        0.9,
        gt=0,
        le=1,
        description="task regression: a feature that alone explains more of the label is suspicious, "
        "unless the other features together explain it as well",
    )
    accepted: list[str] = Field([], description="features that may: somebody has looked, and it is no leak")
    entities: list[str] = Field([], description="columns of which no value may stand in two splits")
    duplicates: bool = Field(False, description="whether equal feature rows may not stand in two splits")
    max_copied_share: float | None = Field(
        0.05,
        ge=0,
        le=1,
        description="share of held-out rows that may have the features of a training row, beyond the "
        "share of training rows that have those of another one",
    )
    max_unlabelled_rise: float | None = Field(
        0.25,
        ge=0,
        le=1,
        description="share of a held-out partition's events without a label, beyond what training partitions have",
    )
    audit_rows: int | None = Field(
        2_000,
        ge=1,
        description="events whose labels and features are made a second time, from the tables, and compared",
    )


class Dataset(Config):
    """Which rows a training set has, and how they are parted."""

    window_partitions: int | None = Field(None, ge=1, description="newest partitions to learn from; null for all")
    split: Split = Split()
    sampling: Sampling = Sampling()
    resampling: Resampling = Resampling()
    augmentation: Augmentation = Augmentation()
    leaks: Leaks = Leaks()
