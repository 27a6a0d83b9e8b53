"""evaluation.json: what the stage `evaluate` found out about a candidate, and what the gate said of it."""

from __future__ import annotations

from typing import Literal, NotRequired

from typing_extensions import TypedDict

from pipelines.documents.dataset import Power
from pipelines.documents.lineage import Fingerprint
from pipelines.documents.measures import Interval, Measured

Operator = Literal["=", "<=", ">", "missing", "not in"]


class Condition(TypedDict):
    """What the rows of a slice have in common in one feature. All conditions of a slice hold at once."""

    feature: str
    op: Operator
    value: str | float | list[str] | None
    """None of `missing`, a list of categories of `not in`."""


class MeasuredSlice(TypedDict):
    """How good a model is on some of the test rows."""

    name: str
    conditions: list[Condition]
    rows: int
    share: float
    """Of all test rows."""
    metrics: dict[str, Interval]
    loss: Interval
    """Mean loss a row, less that of all other rows: log loss, of a regression the squared error."""


class Slice(MeasuredSlice):
    """A slice, and whether chance explains that it is worse than the rest."""

    p_value: float | None
    """The larger of the tests over rows and over blocks, one-sided and uncorrected; None: too few rows to test."""
    is_significant: bool


class Slices(TypedDict):
    """The worst slice first."""

    declared: list[Slice]
    found: list[Slice]
    """By a search; those alone that stood the test on rows which the search had not seen."""
    looked_at: int
    """Slices that were tested or searched."""


class ComparedSlice(TypedDict):
    """How much better the challenger is than the champion on a slice."""

    name: str
    rows: int
    metric: str
    gain: Interval


class CalibrationBin(TypedDict):
    """What came true of the rows whose scores are alike; None where it is no finite number."""

    mean_score: float | None
    rate: float | None
    """Share that came true; of a regression the mean label."""
    rows: int
    low: float | None
    high: float | None


class Calibration(TypedDict):
    """Whether scores mean what they say."""

    bins: list[CalibrationBin]
    """Lowest scores first."""
    ece: float | None
    """None of a regression."""
    brier: float | None
    """None of a regression."""


class FairnessGroup(TypedDict):
    """How one group is decided about; a rate is None where the group has no rows to take it of."""

    group: str
    rows: int
    is_compared: bool
    selection_rate: float | None
    true_positive_rate: float | None
    false_positive_rate: float | None


# Its first key is a keyword of Python, which a class cannot have as a field.
Fairness = TypedDict(
    "Fairness",
    {
        "class": str,  # the one that is decided for most unequally; the rates are of it
        "groups": list[FairnessGroup],
        "demographic_parity": Interval,
        "equal_opportunity": Interval,
        "equalised_odds": Interval,
    },
)


class BehaviourResult(TypedDict):
    """How one declared test of a model by changing its input came out."""

    name: str
    kind: str
    passed: bool
    value: float | None
    """None: it is not defined on these rows."""
    wanted: str


class Importance(TypedDict):
    """How much the scores depend on a feature."""

    feature: str
    importance: float
    """Mean absolute SHAP value, in units of the method."""
    share: float
    """Of all features."""
    method: str


class Drift(TypedDict):
    """How far the test rows lie from the training rows, in PSI; None where a side has no rows."""

    columns: dict[str, float | None]
    prediction: float | None


class Declared(TypedDict):
    """What the problem asks to be measured."""

    baselines: list[str]
    behaviours: list[str]
    groups: list[str]


class Resampling(TypedDict):
    """How intervals were made."""

    block: str
    """What was drawn: row, day or partition."""
    blocks: int
    resamples: int
    confidence: float


class Report(TypedDict, total=False):
    """All that was found out about one model on the test rows.

    Of a baseline that serves as a fallback only run_id, task, rows, partitions, metrics (without intervals) and
    threshold.
    """

    candidate: str
    run_id: str
    task: str
    classes: list[str]
    rows: int
    partitions: list[str]
    first_event: str
    last_event: str
    declared: Declared
    metrics: dict[str, Interval]
    bootstrap: Resampling
    threshold: float
    distinct_scores: int
    confusion: list[list[float]] | None
    """Weight of the rows, actual x decided; None of a regression."""
    curves: dict[str, dict[str, list[float]]]
    """Columns of each curve, by its name."""
    calibration: Calibration
    slices: Slices
    fairness: dict[str, Fairness] | None
    """By the column that has the groups; None: none are declared."""
    behaviours: list[BehaviourResult]
    importances: list[Importance]
    """The most important first."""
    drift: Drift
    latency_ms: float
    """Of one row, the median."""
    rows_per_s: float
    size_bytes: int
    dropped: dict[str, str]
    """Features that the model does not see, and why."""
    unseen: dict[str, int]
    """Test rows with a category that training had not, by feature."""


class Rival(TypedDict):
    """A baseline on the same test rows."""

    run_id: str
    metrics: Measured
    gain: dict[str, Interval]
    """Of the challenger over it."""


class PromotedBaseline(TypedDict):
    """A baseline beside which a champion was promoted."""

    metrics: Measured


class Promoted(TypedDict):
    """What was measured when a champion came in."""

    metrics: Measured
    baselines: dict[str, PromotedBaseline]


class Champion(TypedDict):
    """The champion on the same test rows."""

    version: str | None
    run_id: str
    trained_until: str | None
    fitted_rows: int
    metrics: Measured
    promoted: Promoted | None
    gain: dict[str, Interval]
    """Of the challenger over it."""
    slices: list[ComparedSlice]
    is_fallback: NotRequired[bool]
    """It is a baseline."""
    learnt_test_rows: NotRequired[int | None]
    """Test rows that it has learnt from, or was chosen by; where rows are drawn. None: not counted."""


class SharedRows(TypedDict):
    """Training rows that challenger and champion have both learnt from."""

    rows: int
    champion: float | None
    """Its skill on them."""
    gain: Interval


# Its first key is a keyword of Python, which a class cannot have as a field.
Learnt = TypedDict(
    "Learnt",
    {
        "from": Fingerprint,  # the rows that its fit was given
        "fitted_rows": int,
        "bias": float | None,  # mean score less mean label, of the class where it is largest; None: it means nothing
        "shared": SharedRows | None,
    },
)


class LeakCheck(TypedDict):
    """What was found when leaks were looked for, and is accepted."""

    checked: bool
    findings: list[str]


class Selection(TypedDict):
    """How sure the choice among the candidates is, from the validation rows."""

    metric: str
    chosen: str
    values: Measured
    """By candidate."""
    ties: dict[str, Interval]
    """Gain of the chosen candidate over each that it cannot be told from."""


class Judged(TypedDict):
    """What waits for the verdict."""

    training: str
    run_id: str


class Evaluation(TypedDict, total=False):
    """What the gate judges. Evidence that is missing fails the check that asks for it."""

    training: str
    experiment: str
    """Id of the experiment in MLflow that the candidates' runs belong to."""
    partition: str
    as_of: str
    task: str
    test_rows: int
    test_partitions: list[str]
    test_end: str | None
    leaks: LeakCheck
    power: Power | None
    """None of a set that was checked before there was any."""
    selection: Selection
    how: str
    window_from: str | None
    builds_on: str | None
    """Version that the challenger goes on from."""
    train_split: Fingerprint
    """Of the training split, as the tables hold it."""
    is_drawn: bool
    """Test rows are drawn by chance, of each partition some."""
    makes_rows: bool
    """The fit is given more rows than there are: augmentation, or resampling."""
    candidates: dict[str, Measured]
    left_out: dict[str, str]
    """Candidates that could not learn from so many rows, and why."""
    challenger: Report
    learnt: Learnt
    baselines: dict[str, Rival]
    champion: Champion | None
    """None: none serves yet."""
    confidence: float
    """Of all intervals."""
    serves: str | None
    """Version that serves when the gate judges, by the registry."""
    judged: Judged


class CheckVerdict(TypedDict):
    """What one check of the gate said."""

    name: str
    passed: bool
    reason: str
    is_tie: bool
    """It passed because the rows cannot tell the challenger from the champion."""


class GateVerdict(TypedDict):
    """gate.json: what the gate said."""

    passed: bool
    reason: str
    checks: list[CheckVerdict]
