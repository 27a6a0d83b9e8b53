"""What commands print with --json: a type for each, which the documentation is made of.

`evergreen run` prints what its last stage handed on (`pipelines.handoffs`), `evergreen new` what it chose.
"""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from pydantic import BaseModel, ConfigDict, JsonValue

from pipelines.errors import EvergreenError, NothingToDo


class Result(BaseModel):
    """A result, or a part of one."""

    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)


class Failure(Result):
    """What went wrong; of a command that fails, in one line on standard error."""

    error: str
    """`ConfigError`, `SchemaError`, `DataError`, `GateFailed`, `AccessError` or `ServiceUnavailable`; `UsageError`,
    `Interrupted`, or `Fault` where Evergreen itself is at fault."""
    what: str
    where: str
    next: str

    @classmethod
    def of(cls, error: EvergreenError) -> Failure:
        return cls(error=type(error).__name__, what=error.what, where=error.where, next=error.cure)


class Nothing(Result):
    """Why there is no result, on standard output: there was nothing to do, and no training was asked for."""

    nothing: str
    """`nothing to do` or `no training`."""
    what: str
    where: str
    next: str

    @classmethod
    def of(cls, reason: NothingToDo) -> Nothing:
        return cls(nothing=reason.heading, what=reason.what, where=reason.where, next=reason.cure)


class SourceState(Result):
    """How fresh a source is, as of the newest partition that was read of it."""

    source: str
    newest: datetime | None
    """Of the times that its rows carry; null: it has no columns of times, or no row was read."""
    columns: str | None
    """By which; null: it has none."""
    arrived: datetime | None
    """When its newest file was written, or message sent; null: nobody can say."""
    behind: str | None
    """Since when it has stood still; null: it goes on as is usual for it, or its pace is not known."""


class State(Result):
    """What serves, and how fresh its data is."""

    problem: str
    version: str | None
    """That serves; null: nothing was ever promoted."""
    failed_training: str | None
    """Where nothing serves: how the last training failed, and where to look; null: it did not, or there was none."""
    since: datetime | None
    trained_on: str | None
    """Partition at whose end the version was trained."""
    release: str | None
    """The challenger that is on its way, and how far it has come."""
    newest: dict[str, str | None]
    """Newest partition of events, labels, predictions and profiles."""
    sources: list[SourceState]
    """Those that an ingest has read."""
    missed: str | None
    """Partitions that should have been ingested, and the commands that load them."""
    verdict: str | None
    """Of the newest partition that was monitored."""
    reason: str | None
    cost_a_partition: float | None
    """On average of the newest; null: nobody has counted it."""
    currency: str | None
    """Of the cost."""


class ServedVersion(Result):
    """A version that served rows of a partition."""

    version: str
    variant: str
    """champion or challenger."""
    rows: int
    share: float | None
    """Chance that a row had to be served by it; null: no release was under way."""
    since: str
    """Partition whose decision let it serve."""
    approved_by: str
    reason: str


class Served(Result):
    """Which versions served a partition."""

    problem: str
    partition: str
    versions: list[ServedVersion]


class Remark(Result):
    """One thing that was seen."""

    level: Literal["wrong", "odd", "fact"]
    text: str


class CheckedProblem(Result):
    """What there is to say of a problem."""

    problem: str
    state: Literal["ok", "look", "wrong"]
    """look: it runs, and something is odd."""
    features: int | None
    """null where problem.yaml cannot be read."""
    candidates: int | None
    feature_set: str | None
    faults: list[Failure]
    remarks: list[Remark]


class Checked(Result):
    """All problems that were looked at, and how many are ok, to be looked at, or wrong."""

    problems: list[CheckedProblem]
    places: list[Failure]
    """that EVERGREEN_PROBLEMS names and that are not there, or hold no problem"""
    ok: int
    look: int
    wrong: int


class RebuiltTable(Result):
    """The rows of a table as they were known."""

    table: str
    rows: int
    sha256: str
    """Of the rows' content."""
    file: str | None
    """Where --to has written them."""


class Rebuilt(Result):
    """A partition as it was known at a moment."""

    problem: str
    partition: str
    as_of: datetime
    tables: list[RebuiltTable]


class ReproducedVersion(Result):
    """A version that was made again, and how it compares."""

    problem: str
    version: str
    identical: bool
    rows: int
    """Test rows that both models scored."""
    max_difference: float
    builds_on: str | None
    """Version that it went on from, taken as it is kept."""
    differences: list[str]
    """In data, config, code, packages and machine."""


class CurvePoint(Result):
    """A model fitted on a part of the training rows."""

    kind: Literal["rows", "window"]
    size: float
    """rows: a share of them. window: the newest partitions."""
    rows: int
    value: float | None
    """The metric on the validation rows; null where it is not defined."""


class Curves(Result):
    """Learning curves of a candidate."""

    problem: str
    candidate: str
    metric: str
    run: str
    """MLflow's id of the run that holds the page."""
    points: list[CurvePoint]


class Switched(Result):
    """The version that serves from now on."""

    problem: str
    version: str
    replaced: str
    candidate: str | None
    """Name of the baseline that serves; null: no baseline does."""


class ReleaseRow(Result):
    """A step of a release, from the ledger."""

    release: str
    partition: str
    action: str
    verdict: str
    by: str
    reason: str


class Releases(Result):
    """The releases of a problem."""

    current: str | None
    """The one that is under way."""
    rows: list[ReleaseRow]


class Option(Result):
    """A way to act that was weighed."""

    action: str
    gain: float | None = None
    """Expected over the horizon, in the unit of `cost`; null: not measured."""
    low: float | None = None
    """Of the gain's interval."""
    high: float | None = None
    cost: float
    cost_from: str = ""
    """Where a measured cost comes from; empty: the policy says what it is."""
    why_not: str = ""
    """Why it was not taken; empty: it was."""
    window_from: str | None = None
    """First partition that a training should learn from."""


class Decision(Result):
    """What was decided at a partition's end."""

    partition: str
    model_version: str | None
    verdict: str
    action: str
    reason: str
    options: list[Option]


class Replayed(Result):
    """Policies that were played."""

    policies: list[dict[str, JsonValue]]
    """A row per policy: trainings, refused, metrics, paid, lost, cost, saved."""
    decisions: list[dict[str, JsonValue]]
    """Of the policy of problem.yaml: a row per partition."""


class Waiting(Result):
    """A row in quarantine."""

    id: str
    partition: str
    source: str
    rules: list[str]
    """Those that it broke."""
    row: str
    """How it begins, as JSON."""


class Quarantined(Result):
    """The rows that wait; `total` of them, of which --limit lets these be seen."""

    problem: str
    total: int
    rows: list[Waiting]


class WaitingWhole(Result):
    """A row in quarantine, whole."""

    id: str
    partition: str
    source: str
    row: dict[str, JsonValue]
    """As it came."""
    rules: list[str]
    """Those that it broke."""


class ReleasedRow(Result):
    """A row that was let in."""

    id: str
    query: str
    partition: str


class Hold(Result):
    """A partition that no training set has rows of."""

    partition: str
    since: datetime
    verdict: str
    reason: str


class Holds(Result):
    """The partitions that are held."""

    problem: str
    partitions: list[Hold]


class Turned(Result):
    """A partition that was held, or let in."""

    problem: str
    partition: str
    changed: bool
    """false: it was so before."""


class Found(Result):
    """Something that is out of step."""

    name: str
    """What kind of fault it is; the same words each time."""
    problem: str | None
    """null: it is of the services, or of their folder."""
    where: str
    what: str
    next: str
    """The cure; a command where there is one."""


class NotLookedAt(Result):
    """Something that could not be looked at, and what to do so that it can."""

    where: str
    what: str
    next: str


class Examined(Result):
    """What is out of step, and what could not be looked at."""

    findings: list[Found]
    unchecked: list[NotLookedAt]


class Archive(Result):
    """A folder of embedded services, and the backup of it."""

    home: str
    file: str
    files: int
    bytes: int
    """Of the files; the archive is a little larger."""


class CostSum(Result):
    """Tries of tasks, and what they came to together."""

    name: str
    """A DAG, a partition, or a run with its DAG."""
    began: datetime
    tries: int
    failed: int
    killed: int
    wall_s: float
    cpu_s: float
    """With child processes."""
    peak_bytes: int
    """The most that one of them held."""
    requests: int
    """To the store."""
    cost: float


class KilledTry(Result):
    """A try that was ended from without."""

    stage: str
    run: str
    try_number: int
    partition: str | None
    host: str
    started: datetime
    wall_s: float
    """Until it was last heard of, as are all its numbers."""
    cpu_s: float
    peak_bytes: int
    reason: str


class Costs(Result):
    """What a problem's tasks have used, and what that cost."""

    problem: str
    currency: str
    prices: dict[str, float]
    """By what they are of: cpu_hour, gib_hour, thousand_requests, gib_moved."""
    cost: float
    """Of all that was measured."""
    partition: float | None
    """From its ingest to its page, on average of the newest; null: none was scored by itself."""
    thousand_predictions: float | None
    """All that partitions took, each by itself; null: none was made."""
    thousand_predictions_all_in: float | None
    """With histories, trainings and labels."""
    dags: list[CostSum]
    partitions: list[CostSum]
    """The newest."""
    runs: list[CostSum]
    """The newest."""
    killed_tries: list[KilledTry]
    """The newest."""


class Leftover(Result):
    """Something that no registered version rests on, and that nobody has written to for long."""

    kind: str
    """`table files`, `features`, `staging`, `model files`, `trial`, `unfinished run`, `reports` or `runs`."""
    where: str
    files: int
    bytes: int
    reason: str


class Vacuumed(Result):
    """What has gone; of a dry run, what would go."""

    problem: str
    dry_run: bool
    leftovers: list[Leftover]
    files: int
    bytes: int


RESULTS: dict[str, type[Result] | list[type[Result]]] = {
    "status": [State],
    "status --on": [Served],
    "check": Checked,
    "rebuild": Rebuilt,
    "reproduce": ReproducedVersion,
    "curves": Curves,
    "roll-back": Switched,
    "fall-back": Switched,
    "release": Releases,
    "cost": Costs,
    "doctor": Examined,
    "vacuum": Vacuumed,
    "backup": Archive,
    "restore": Archive,
    "decide": [Decision],
    "decide --replay": Replayed,
    "quarantine list": Quarantined,
    "quarantine show": WaitingWhole,
    "quarantine release": ReleasedRow,
    "quarantine partitions": Holds,
    "quarantine hold": Turned,
    "quarantine readmit": Turned,
}
"""What each command prints, several of it where it stands in a list."""
