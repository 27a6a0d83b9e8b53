"""What `detect` finds: distances of each column to what is usual, and how good labelled partitions turned out."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    field_serializer,
    field_validator,
    model_serializer,
)

POOLED = "pooled "  # distances of a small partition together with its neighbours
Which = Literal["far", "step"]


class Measured(BaseModel):
    """Numbers of which not all can be measured of everything: its JSON has those that were.

    What a version of this code wrote before or after this one is read too.
    """

    model_config = ConfigDict(frozen=True, extra="ignore", populate_by_name=True, serialize_by_alias=True)

    @model_serializer(mode="wrap")
    def _measured(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        fields = type(self).model_fields
        unset = {fields[name].alias or name for name in fields if name not in self.model_fields_set}
        return {name: value for name, value in dump(self).items() if name not in unset}


class Level(Measured):
    """A distance of one column, and the alarm level that goes with it; None where too little is known.

    `far`: to what the model learnt from, pooled. `step`: to the nearest of the partitions just before.
    """

    far: float | None = None
    far_level: float | None = None
    step: float | None = None
    step_level: float | None = None

    def of(self, which: Which) -> tuple[float | None, float | None]:
        """A distance, and its level."""
        return (self.far, self.far_level) if which == "far" else (self.step, self.step_level)

    def times(self, which: Which) -> float | None:
        """How many times its level a distance is, where it is beyond it; None: it is not."""
        distance, level = self.of(which)
        if distance is None or level is None or distance <= level:
            return None
        return distance / level


class Measure(NamedTuple):
    """What a name in `levels` stands for."""

    distance: str
    is_pooled: bool
    """Of the partition and its neighbours together."""


def measure_of(name: str) -> Measure:
    """
    >>> measure_of("pooled js")
    Measure(distance='js', is_pooled=True)
    """
    return Measure(name.removeprefix(POOLED), name.startswith(POOLED))


class ColumnDrift(Measured):
    """One column of a partition beside the reference's partitions; shares are of all rows."""

    psi: float
    js: float
    wasserstein: float | None = None
    """Of numbers."""
    ks: float | None = None
    """Of numbers."""
    cramers_v: float | None = None
    """Of categories."""
    new: dict[str, int] = Field(default_factory=dict)
    """Rows by category, of the most frequent ones that training lacks."""
    null_share: float = 0.0
    usual_null_share: float = 0.0
    """The largest of any usual partition, as with the others."""
    unseen_share: float = 0.0
    usual_unseen_share: float = 0.0
    non_finite_share: float = 0.0
    usual_non_finite_share: float = 0.0
    edge_share: float = 0.0
    """Of scores that are probabilities: at exactly 0 or 1."""
    usual_edge_share: float = 0.0
    std: float | None = None
    usual_std: float | None = None
    """The smallest of any usual partition; None where all values are where many of them are anyway."""
    levels: dict[str, Level] = Field(default_factory=dict)
    """By distance: js, wasserstein or relation; of the pool `pooled js` and so on."""
    mean: float | None = None
    mean_before: float | None = None
    """Of the newest earlier partition that has any."""
    other_unit: str | None = None
    """The change of units that would explain how far it moved."""
    is_of_calendar: bool = False
    """Told by the partition alone, as the weekday is by a day: how far it lies from others says nothing, and it has no
    levels."""

    def step_over_level(self) -> float | None:
        """The greatest step as a multiple of its alarm level; None where it has no such level."""
        steps = [(level.step or 0) / level.step_level for level in self.levels.values() if level.step_level]
        return max(steps, default=None)

    def is_beyond(self, which: Which) -> bool:
        return any(level.times(which) is not None for level in self.levels.values())


class ScoreDrift(ColumnDrift):
    """The scores of a partition."""

    reference_mean: float | None = None
    """On the test split."""
    moved: float | None = None
    """By how much they differ on average from those of the earlier partition that is most like this one."""
    pooled_moved: float | None = Field(default=None, alias=f"{POOLED}moved")
    """The same of the pool."""


class Drift(Measured):
    """How far a partition lies from what is usual, column by column."""

    rows: int
    judged_rows: int | None = None
    """Of the partition and the neighbours that it is judged with; None of what was measured before there were pools."""
    columns: dict[str, ColumnDrift]
    prediction: ScoreDrift | None
    """None of no rows."""
    same_as: str | None
    """An earlier partition with the very same counts in most columns: the same rows again."""

    @field_validator("prediction", mode="before")
    @classmethod
    def _of_no_rows(cls, prediction: Any) -> Any:
        return prediction or None

    @field_serializer("prediction", mode="wrap")
    def _as_object(self, prediction: ScoreDrift | None, dump: SerializerFunctionWrapHandler) -> Any:
        return {} if prediction is None else dump(prediction)

    @property
    def rows_judged(self) -> int:
        return self.rows if self.judged_rows is None else self.judged_rows


class Performance(Measured):
    """How good scores turned out, given their labels; beside these fields each metric of the task by its name.

    What the task does not have, or is not defined (AUC of one class, anything of no rows), is None.
    """

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, float | None]

    rows: int
    auc: float | None = None
    positive_rate: float | None = None
    mean_score: float | None = None
    """Of several classes: of those decided for."""
    calibration_gap: float | None = None
    """Mean score less positive rate."""
    class_rates: dict[str, float] | None = None
    mean_label: float | None = None
    errors: dict[str, float] = Field(default_factory=dict)
    """Standard errors of auc, r2, calibration_gap and bias, as far as they are defined."""

    def value(self, metric: str) -> float | None:
        """A metric, or a rate or mean; None where the task has none of the name, or it is not defined."""
        if metric in self.__pydantic_extra__:
            return self.__pydantic_extra__[metric]
        number: float | None = getattr(self, metric, None)
        return number

    def measured(self) -> dict[str, float | None]:
        """All that have been measured, by name."""
        names = ("rows", "auc", "positive_rate", "mean_score", "calibration_gap", "mean_label")
        return {name: self.value(name) for name in names if name in self.model_fields_set} | self.__pydantic_extra__

    def at(self, partition: str, **where: Any) -> LabelledPartition:
        """The same, of a partition; `where`: the other fields of a `LabelledPartition`."""
        return LabelledPartition.model_validate({**self.model_dump(), "partition": partition, **where})


class LabelledPartition(Performance):
    """How good the scores of a partition, or of a pool of small neighbours, turned out."""

    partition: str
    """The newest of the pool."""
    partitions: tuple[str, ...] = ()
    """All of the pool."""
    version: str = ""
    """That scored it."""
    unknown_labels: dict[str, int] = Field(default_factory=dict)
    """Labels of each class that the model does not know: no metric can take them."""
    is_held_out: bool = False
    """From the test rows that went with the version."""


class Detection(Measured):
    """What the stage `detect` has found."""

    detected: Drift
    realised: tuple[LabelledPartition, ...]
    """The newest labelled partitions, by whatever version scored each, the oldest first."""
    waiting: tuple[str, ...] = ()
    """Earlier partitions too many of whose labels are still on their way for them to tell anything."""


NOTHING = Drift(rows=0, columns={}, prediction=None, same_as=None)
"""Of a partition without rows."""
