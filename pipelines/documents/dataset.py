"""What is known of a training set, for machines: the facts of its datasheet and the schema of its features."""

from __future__ import annotations

from typing import NotRequired

from typing_extensions import TypedDict


class SplitCount(TypedDict):
    """What a split holds. Of its labels as much as the problem's task asks for."""

    split: str
    partitions: int
    rows: int
    mean_weight: float
    first_event: str
    """ISO 8601, UTC."""
    last_event: str
    """ISO 8601, UTC."""
    positives: NotRequired[int]
    """Binary."""
    positive_rate: NotRequired[float]
    """Binary."""
    classes: NotRequired[dict[str, int]]
    """Rows of each declared class."""
    mean: NotRequired[float]
    """Regression, like what follows."""
    sd: NotRequired[float | None]
    min: NotRequired[float]
    max: NotRequired[float]
    quantiles: NotRequired[list[float]]
    """As many as `facts.QUANTILES`."""


class SourceCount(TypedDict):
    """Labels of one source in one split."""

    split: str
    source: str
    rows: int
    positives: NotRequired[int]
    """Binary."""
    mean_confidence: float


class Feature(TypedDict):
    """What a person needs to know of a feature before using or trusting it."""

    name: str
    type: str
    unit: str
    """Empty: it has none."""
    description: str
    owner: str
    """The problem's, where none is named."""
    available: str | None
    """cutoff, later; None: nobody has said."""
    source_columns: list[str]
    """`source.column`; `label` is the label."""
    definition: str
    coverage: float | None
    """Share of the training rows that have a value; None: there were no rows."""
    min: float | None
    max: float | None
    distinct: int | None
    """Of a category: how many values it has."""


class LeakFinding(TypedDict):
    """What one check for leaks found."""

    name: str
    passed: bool
    reason: str
    cure: str
    """Empty when it passed."""


class Detectable(TypedDict):
    """How small a difference between two models the rows of a split can show."""

    rows: int
    blocks: int
    detectable: dict[str, float]
    """Difference that is shown in four of five tests, by metric."""


class Power(TypedDict):
    """What the held-out rows can show; `warnings` say where that is less than the gate asks for."""

    validation: Detectable
    test: Detectable
    warnings: list[str]


class DatasetFacts(TypedDict, total=False):
    """The facts behind a datasheet, as far as a model card repeats them; `pipelines.dataset.facts` has all of them."""

    splits: list[SplitCount]
    label_sources: list[SourceCount]
    excluded: dict[str, int]
    """Rows that were left out, by reason."""
    findings: list[LeakFinding]
