"""How a version that has passed its gate comes to serve: at once, or by steps, each on what has shown itself until then
(Huyen, ch. 9; Burkov, ch. 7 and 8)."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple, get_args

from pydantic import Field, field_validator, model_validator

from pipelines.config.base import Config, Name, Task

RungKind = Literal["shadow", "canary", "ab", "bandit", "full"]
Loss = Literal["log_loss", "squared_error", "absolute_error", "cost"]
LOSSES_OF: dict[Task, frozenset[Loss]] = {
    "binary": frozenset({"log_loss", "squared_error", "cost"}),
    "multiclass": frozenset({"log_loss", "squared_error", "cost"}),
    "regression": frozenset({"squared_error", "absolute_error", "cost"}),
}
ORDER: tuple[RungKind, ...] = get_args(RungKind)
MARGIN = 0.002


def share_in_words(share: float) -> str:
    """A share in words: one that is next to nothing, or next to all, is not rounded away.

    >>> share_in_words(0.05), share_in_words(0.84134), share_in_words(0.001), share_in_words(0.995), share_in_words(1.0)
    ('5%', '84%', '0.1%', '99.5%', '100%')
    """
    is_plain = 0.01 <= share <= 0.99 or share in (0, 1)
    return f"{share:.0%}" if is_plain else f"{share * 100:.3g}%"


class Rung(NamedTuple):
    """One step of a release."""

    kind: RungKind
    share: float
    """Chance that the challenger serves a unit; a bandit's first one."""

    @property
    def in_words(self) -> str:
        """
        >>> Rung("shadow", 0.0).in_words, Rung("canary", 0.05).in_words, Rung("ab", 0.5).in_words
        ('shadow', 'canary of 5%', 'A/B test of 50%')
        >>> Rung("canary", 0.001).in_words
        'canary of 0.1%'
        """
        name = "A/B test" if self.kind == "ab" else self.kind
        return f"{name} of {share_in_words(self.share)}" if 0 < self.share < 1 else name


class _Looks(Config):
    """How long a rung is looked at, in partitions whose labels are in."""

    partitions: int = Field(1, ge=1, description="labelled partitions, at least")
    max_partitions: int = Field(8, ge=1, description="labelled partitions, at most: then the champion stays")

    @model_validator(mode="after")
    def _reachable(self) -> _Looks:
        if self.partitions > self.max_partitions:
            raise ValueError(f"partitions ({self.partitions}) is more than max_partitions ({self.max_partitions})")
        return self


class Shadow(_Looks):
    """The challenger scores every row beside the champion, and serves none."""

    partitions: int = Field(2, ge=1, description="labelled partitions, at least")


class Canary(_Looks):
    """The challenger serves a small share of the units, then a larger one."""

    shares: list[float] = Field([0.05, 0.2, 0.5], min_length=1, description="of the units, one after another, growing")
    partitions: int = Field(1, ge=1, description="labelled partitions at each share, at least")
    max_partitions: int = Field(8, ge=1, description="labelled partitions at all shares together, at most")
    max_decision_gap: float = Field(
        0.05,
        gt=0,
        le=1,
        description="how far apart the two versions' mean scores, or their shares of rows decided for a class, may be "
        "on the same rows (of a regression: in standard deviations of the champion's scores), before the challenger is "
        "taken back at once, without waiting for labels; so of rows with a category that the champion knows and the "
        "challenger does not. On top of what they were apart in the release's own shadow, whose labels have let it "
        "pass, and by three standard errors: of a few rows one makes a large share",
    )

    @field_validator("shares")
    @classmethod
    def _growing(cls, value: list[float]) -> list[float]:
        if any(not 0 < share < 1 for share in value) or sorted(set(value)) != value:
            raise ValueError(f"give shares between 0 and 1, each above the one before; not {value}")
        return value

    @model_validator(mode="after")
    def _enough_partitions(self) -> Canary:
        if self.partitions * len(self.shares) > self.max_partitions:
            raise ValueError(
                f"{len(self.shares)} shares of {self.partitions} partitions each do not fit into max_partitions "
                f"({self.max_partitions})"
            )
        return self


class SplitTest(_Looks):
    """Each version serves a fixed share of the units until one is shown to be better."""

    share: float = Field(0.5, gt=0, lt=1, description="of the units that the challenger serves")


class Bandit(_Looks):
    """The version that looks better serves more (Thompson sampling); the shares move once a partition."""

    floor: float = Field(0.05, gt=0, lt=0.5, description="share that either version keeps")
    max_partitions: int = Field(20, ge=1, description="labelled partitions, at most")


class Approval(Config):
    """When people are asked, in Airflow's Required Actions."""

    when: Literal["none", "promote", "every_step"] = Field(
        "none", description="never; before a version serves everything; or before each rung of its path"
    )
    users: list[str] = Field([], description="who may answer: user names of Airflow; empty: anybody")
    hours: int = Field(72, ge=1, description="how long an answer is waited for")
    otherwise: Literal["approve", "reject"] = Field("reject", description="what counts when nobody answers")


class Release(Config):
    """How a version that has passed its gate comes to serve."""

    path: list[RungKind] = Field(["full"], min_length=1, description="rungs, in this order; the last is full")
    feedback: Literal["none", "outcome"] = Field(
        "none",
        description="none: decisions do not change labels, so that both versions are compared on every row; outcome: "
        "they do, and only what a version served counts for it",
    )
    unit: Name | Literal["key"] = Field("key", description="what is assigned as a whole: key, or a column")
    sticky: bool = Field(False, description="a unit keeps its version from partition to partition")
    metric: Loss | None = Field(None, description="loss that decides; null: log_loss, of a regression squared_error")
    margin: float | None = Field(
        None, ge=0, description="by how much the challenger may be worse; null: 0.002; a regression names it"
    )
    require: Literal["not_worse", "gain"] = Field("not_worse", description="what has to be shown: not worse, or better")
    alpha: float = Field(0.05, gt=0, lt=0.5, description="chance of a wrong promotion or a wrong roll-back, together")
    newest: bool = Field(False, description="a newer challenger replaces the one under way; else it waits")
    shadow: Shadow = Shadow()
    canary: Canary = Canary()
    ab: SplitTest = SplitTest()
    bandit: Bandit = Bandit()
    approval: Approval = Approval()

    @field_validator("approval", mode="before")
    @classmethod
    def _in_a_word(cls, value: Any) -> Any:
        return {"when": value} if isinstance(value, str) else value

    @model_validator(mode="after")
    def _walkable(self) -> Release:
        if self.path[-1] != "full":
            raise ValueError("path: the last rung is full")
        if sorted(set(self.path), key=ORDER.index) != self.path:
            raise ValueError(f"path: name each rung once, in the order {', '.join(ORDER)}")
        randomised = {"canary", "ab", "bandit"} & {*self.path}
        if self.feedback == "outcome" and self.by_steps and not randomised:
            raise ValueError("feedback: outcome needs a rung that randomises: canary, ab or bandit")
        if self.feedback == "none" and "bandit" in self.path:
            raise ValueError("path: a bandit is for feedback: outcome; without it both versions are seen on every row")
        return self

    @property
    def by_steps(self) -> bool:
        """Whether there is anything between the gate and serving."""
        return self.path != ["full"]

    @property
    def rungs(self) -> list[Rung]:
        """All steps, of a canary one a share."""
        shares = {"shadow": [0.0], "canary": self.canary.shares, "ab": [self.ab.share], "bandit": [0.5], "full": [1.0]}
        return [Rung(kind, share) for kind in self.path for share in shares[kind]]

    def looks_of(self, kind: RungKind) -> _Looks:
        """For how many partitions a rung is looked at; of `full`, for none."""
        looks: dict[RungKind, _Looks] = {
            "shadow": self.shadow,
            "canary": self.canary,
            "ab": self.ab,
            "bandit": self.bandit,
        }
        return looks[kind]

    def loss(self, task: Task) -> Loss:
        return self.metric or ("squared_error" if task == "regression" else "log_loss")

    @property
    def allowed(self) -> float:
        """By how much the challenger may be worse."""
        return 0.0 if self.require == "gain" else MARGIN if self.margin is None else self.margin
