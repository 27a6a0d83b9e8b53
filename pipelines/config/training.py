"""The models that compete, and how each is prepared, searched and fitted."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import ConfigDict, Field, model_validator

from pipelines.config.base import ClassName, Config, Metric, Name, did_you_mean, is_none, may_be_left_out

Encoding = Literal["native", "one_hot", "ordinal", "target", "hashing"]
Parameter = bool | int | float | str | list[Any] | dict[str, Any] | None
"""What a model's library may be told: a value; lists and mappings are constraints on columns, or those of a part."""
Parameters = dict[str, Parameter]

ModelKind = Literal[
    "random", "prior", "heuristic", "logistic", "linear", "forest", "xgboost", "hist_boosting", "stacking", "voting"
]
# Their leaves have quantiles, of which each of several workers would know only its own rows'.
NOT_SHARED_OBJECTIVES = ("reg:absoluteerror", "reg:quantileerror")
BASELINES = ("random", "prior", "heuristic")  # they learn next to nothing, and are never the challenger
ENSEMBLES = ("stacking", "voting")


class Missing(Config):
    """What a model gets instead of a missing number. (A missing category is a category of its own, or native.)"""

    method: Literal["native", "drop", "constant", "mean", "median", "most_frequent"] = Field(
        "native",
        description="native: left to the model, which has to take it. drop: such rows are not learnt from; when scored "
        "they get the median",
    )
    value: float = Field(0.0, description="for constant")
    indicator: bool = Field(False, description="one more feature per column with gaps: 1 where it was missing")


class Discretise(Config):
    """A number as one of several ranges."""

    bins: int = Field(10, ge=2, le=255, description="how many ranges a number is cut into")
    strategy: Literal["uniform", "quantile", "kmeans"] = Field(
        "quantile", description="ranges of the same width, of as many rows, or around means"
    )


class TextEncoding(Config):
    """How a text becomes numbers: counts of its terms, weighted and brought down to a few columns."""

    method: Literal["svd", "hashing"] = Field(
        "svd",
        description="svd: TF-IDF of the training rows' terms, brought down to their leading directions (latent "
        "semantic analysis). hashing: terms counted in so many buckets, signed; nothing is learnt",
    )
    components: int = Field(50, ge=2, le=1000, description="columns that a text becomes, at most")
    by: Literal["words", "characters"] = Field(
        "words", description="characters: pieces of words, which forgive slips and know parts of new words"
    )
    ngrams: tuple[int, int] | None = Field(
        None, description="shortest and longest run of words or characters; null: 1 word, 3 to 4 characters"
    )
    max_terms: int = Field(10_000, ge=2, le=200_000, description="of svd, those that most training rows have")
    min_rows: int = Field(2, ge=1, description="training rows that a term has to be in, for svd to know it")

    @model_validator(mode="after")
    def _has_terms(self) -> TextEncoding:
        shortest, longest = self.lengths
        if not 1 <= shortest <= longest <= 10:
            raise ValueError(f"ngrams: 1 <= shortest <= longest <= 10, not {shortest}, {longest}")
        return self

    @property
    def lengths(self) -> tuple[int, int]:
        """The shortest and the longest term, in words or in characters."""
        return self.ngrams or ((1, 1) if self.by == "words" else (3, 4))


class ColumnPreparation(Config):
    """How one feature differs from the others; null: as they do."""

    missing: Missing | None = None
    scaling: Literal["none", "standard", "min_max", "robust", "log"] | None = Field(
        None, description="of a number; null: as the other features"
    )
    discretise: Discretise | None = None
    encoding: Encoding | None = Field(None, description="of a category; null: as the other features")
    min_frequency: int | None = Field(
        None, ge=1, exclude_if=is_none, description="of a category; null: as the other features"
    )
    min_share: float | None = Field(
        None, gt=0, lt=1, exclude_if=is_none, description="of a category; null: as the other features"
    )
    text: TextEncoding | None = Field(None, exclude_if=is_none, description="of a text; null: as the other features")


class Preprocessing(Config):
    """From feature rows to the model's matrix; fitted on the training split alone and kept inside the model."""

    missing: Missing = Missing()
    scaling: Literal["none", "standard", "min_max", "robust", "log"] = Field(
        "none", description="log: sign(x) * log(1 + |x|), then standard"
    )
    discretise: Discretise | None = Field(None, description="numbers become the number of their bin")
    encoding: Encoding = Field(
        "native",
        description="of categories. native: for models that take categories (xgboost, hist_boosting). target: mean of "
        "the label, cross-fitted while training. hashing: for vocabularies without bounds",
    )
    min_frequency: int = Field(
        1, ge=1, description="categories with fewer training rows are one (Burkov, ch. 4: cutting the long tail)"
    )
    min_share: float | None = Field(
        None, gt=0, lt=1, exclude_if=is_none, description="and so are those with a smaller share of the training rows"
    )
    hash_buckets: int = Field(64, ge=2, le=4096, description="features per hashed category")
    target_smoothing: float = Field(20.0, ge=0, description="rows that the overall mean counts for, in target encoding")
    cross_fitting_folds: int = Field(5, ge=2, description="for target encoding")
    text: TextEncoding | None = Field(None, exclude_if=is_none, description="of texts; null: svd, as it is")
    columns: dict[str, ColumnPreparation] = Field({}, description="features that are prepared otherwise")


class Selection(Config):
    """Which prepared features the model sees (Burkov, ch. 4); what was dropped and why is logged."""

    method: Literal["none", "l1", "boruta", "permutation"] = Field(
        "none",
        description="l1: weights of a linear model. boruta: against shuffled copies. permutation: what a shuffle costs",
    )
    strength: float = Field(0.01, gt=0, description="l1: penalty of a unit of weight, the higher the fewer features")
    rounds: int = Field(30, ge=5, description="boruta: forests; permutation: shuffles of each feature")
    significance: float = Field(0.05, gt=0, lt=1, description="of the test that keeps or drops a feature")
    min_gain: float = Field(
        0.0,
        ge=0,
        description="permutation: loss that shuffling a feature has to cost (log loss; variances of the label)",
    )
    max_rows: int = Field(20_000, ge=100, description="rows, drawn by the seed, that selection looks at")
    always: list[str] = Field([], description="features that are kept in any case")


class Imbalance(Config):
    """How rare classes are made to count."""

    method: Literal["none", "class_weight", "class_balanced", "cost_matrix", "focal"] = Field(
        "none",
        description="class_weight: inverse frequency. class_balanced: by the effective number (Cui et al. 2019). "
        "cost_matrix: by what a wrong decision costs (costs.matrix). focal: Lin et al. 2017, for xgboost, binary",
    )
    beta: float = Field(0.999, ge=0, lt=1, description="of class_balanced")
    gamma: float = Field(2.0, ge=0, description="of focal")
    alpha: float | None = Field(None, gt=0, lt=1, description="of focal: weight of the positive class; null: none")


class Calibration(Config):
    """Scores that mean what they say, learnt on rows of their own."""

    method: Literal["none", "platt", "isotonic"] = Field(
        "none", description="platt: a logistic curve. isotonic: steps, for which many rows are wanted"
    )
    partitions: int = Field(
        1, ge=1, description="newest partitions of the training split that calibrate and are not fitted on"
    )


class Range(Config):
    """Values of one parameter that the search may try."""

    low: int | float | None = Field(None, description="smallest value; goes with high")
    high: int | float | None = Field(None, description="largest value")
    log: bool = Field(False, description="search by orders of magnitude")
    step: int | float | None = Field(None, gt=0, description="distance of two values; null: any value between")
    choices: list[Any] | None = Field(None, min_length=1, description="the values themselves, in place of low and high")

    @model_validator(mode="after")
    def _one_kind(self) -> Range:
        if (self.choices is None) == (self.low is None or self.high is None):
            raise ValueError("a range has either low and high, or choices")
        if self.low is not None and self.high is not None and self.low > self.high:
            raise ValueError(f"low ({self.low}) is above high ({self.high})")
        if self.log and (self.low is None or self.low <= 0):
            raise ValueError("log needs a low above 0")
        if self.log and self.step:
            raise ValueError("log and step do not go together")
        return self

    @property
    def tried(self) -> list[Any]:
        """The choices, or both ends."""
        return self.choices if self.choices is not None else [self.low, self.high]


class Search(Config):
    """How parameters are searched: Optuna, on rolling-origin folds inside the training split."""

    trials: int = Field(20, ge=1, description="budget, for each candidate with a search")
    seconds: float | None = Field(None, gt=0, description="budget too: no trial starts after it")
    folds: int = Field(3, ge=1, description="each learns from partitions before those it is measured on")
    fold_partitions: int = Field(1, ge=1, description="partitions that a fold is measured on")
    metric: Metric | None = Field(None, description="what is searched for; null: training.select_by")
    prune: bool = Field(True, description="stop a trial that is below the median of the others after the same folds")


class Candidate(Config):
    """A model that competes, and how it differs from the others."""

    model: ModelKind = Field(description="what is fitted; random, prior and heuristic are baselines")
    parameters: dict[str, Any] = Field({}, description="of the model's library")
    sql: str | None = Field(
        None,
        description="heuristic: expression over the features. Binary: the probability of 1. Multiclass: the class. "
        "Regression: the value. Null: as the prior",
    )
    of: list[Name] = Field([], description="stacking, voting: the candidates that are combined")
    weights: list[float] = Field([], description="voting: one for each; empty: all the same")
    search: dict[str, Range] = Field({}, description="parameters that are searched, over those above")
    preprocessing: Preprocessing | None = Field(None, description="null: training.preprocessing")
    selection: Selection | None = Field(None, description="null: training.selection")
    imbalance: Imbalance | None = Field(None, description="null: training.imbalance")
    calibration: Calibration | None = Field(None, description="null: training.calibration")

    @model_validator(mode="after")
    def _settings_are_used(self) -> Candidate:
        if (self.model == "heuristic") != (self.sql is not None):
            raise ValueError("sql goes with model 'heuristic', which needs it")
        if (self.model in ENSEMBLES) != bool(self.of):
            raise ValueError("of goes with the models 'stacking' and 'voting', which need it")
        if self.weights and (self.model != "voting" or len(self.weights) != len(self.of)):
            raise ValueError("weights are for the model 'voting', one for each of `of`")
        if self.weights and (min(self.weights) < 0 or sum(self.weights) <= 0):
            raise ValueError(f"weights are not negative and not all 0; given: {self.weights}")
        if self.search and self.model in (*BASELINES, *ENSEMBLES):
            raise ValueError(f"search: a {self.model} has nothing to search; search the candidates it is made of")
        if unused := self._unused:
            instead = f", or give them to {', '.join(self.of)}" if self.of else ""
            raise ValueError(f"a {self.model} has no use for {', '.join(unused)}: remove them{instead}")
        return self

    @property
    def _unused(self) -> list[str]:
        """Settings of its own that nothing would come of: a baseline has no use for any, an ensemble for what only its
        parts can use."""
        settings = ("preprocessing", "selection", "imbalance") if self.is_baseline or self.of else ()
        unused = [name for name in settings if getattr(self, name) is not None]
        if self.is_baseline and self.calibration is not None:
            unused.append("calibration")
        if self.is_baseline and self.parameters:
            unused.append("parameters")
        if self.model == "voting":
            unused += [f"parameters.{name}" for name in self.parameters if name not in self.of]
        return unused

    @property
    def is_baseline(self) -> bool:
        return self.model in BASELINES


class Threshold(Config):
    """From which score on a binary model decides for the positive class; chosen on the validation split."""

    by: Literal["fixed", "cost", "f_beta"] = Field("fixed", description="cost: where costs.matrix is paid least")
    value: float = Field(0.5, ge=0, le=1, description="for fixed")


class Update(Config):
    """How a champion goes on with new rows alone (stateful training; Huyen, ch. 9): continued, which only xgboost can
    be, or recalibrated."""

    rounds: int = Field(
        20, ge=1, description="boosting rounds that one continuation adds, at most; early stopping may take fewer"
    )
    learning_rate: float | None = Field(
        0.02, gt=0, le=1, description="of these rounds; null: the champion's. Fast learners of few rows forget the rest"
    )
    max_rounds: int = Field(
        2_000, ge=1, description="rounds of a model in all: one that has them is trained from scratch again"
    )
    recalibrate_partitions: int = Field(
        4,
        ge=1,
        description="newest partitions of the training split that a recalibration learns from, beside the "
        "validation split",
    )


class Engine(Config):
    """What boosts a model of xgboost: this process, or several workers that each have a share of the rows."""

    kind: Literal["local", "processes", "ray", "auto"] = Field(
        "auto",
        description="processes: workers on this machine, which threads are shared among. ray: workers on a Ray "
        "cluster. auto: processes where the matrix is above memory_limit_mb; else local",
    )
    workers: int = Field(2, ge=1, le=1024, description="of processes and ray")
    address: str | None = Field(
        None,
        exclude_if=is_none,
        pattern=r"^https?://[^/@]+/?$",
        description="of ray: the cluster's dashboard; null: the variable RAY_API_SERVER_ADDRESS, or "
        "http://127.0.0.1:8265",
    )
    checkpoint_rounds: int | None = Field(
        None, ge=1, description="boosting rounds after which the state is kept; null: training.checkpoint_rounds"
    )

    @property
    def workers_in_words(self) -> str:
        return f"{self.workers} {'jobs of Ray' if self.kind == 'ray' else 'processes'}"


class Training(Config):
    """Which models compete, and what is done to them all."""

    model_config = ConfigDict(json_schema_extra=may_be_left_out("candidates", "baselines"))

    seed: int = Field(0, description="of the random draws of fits and of the search")
    candidates: dict[Name, Candidate] = Field(
        min_length=1, description="left out: prior, logistic (of a regression linear) and xgboost, as they are"
    )
    baselines: list[Name] = Field(
        min_length=1,
        description="candidates that the challenger has to beat; left out: those whose model is random, prior or "
        "heuristic",
    )
    select_by: Metric = Field(
        "log_loss", description="validation metric that picks the challenger; of a regression rmse, unless it is given"
    )
    preprocessing: Preprocessing | None = Field(
        None, description="null: what each model takes best (linear models: median, standard, one_hot; trees: native)"
    )
    selection: Selection = Selection()
    imbalance: Imbalance = Imbalance()
    calibration: Calibration = Calibration()
    threshold: Threshold = Threshold()
    search: Search = Search()
    update: Update = Update()
    refit: bool = Field(
        True,
        description="once its gate has passed, fit the challenger again on all mature partitions, those that it was "
        "tested on too, and let that model serve: else the newest weeks teach nothing",
    )
    memory_limit_mb: float = Field(
        4096, gt=0, description="a larger training matrix is read from disk, batch by batch; xgboost only"
    )
    checkpoint_rounds: int = Field(100, ge=1, description="boosting rounds after which xgboost's state is kept")
    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="of xgboost; auto: a GPU where there is one")
    threads: int = Field(2, ge=1, description="that a fit may use")
    engine: Engine | None = Field(None, exclude_if=is_none, description="of xgboost; null: local")

    @model_validator(mode="after")
    def _candidates_agree(self) -> Training:
        for name in self.baselines:
            if name not in self.candidates:
                raise ValueError(
                    f"baselines: {name!r} is not one of the candidates{did_you_mean(name, self.candidates)}"
                )
        if set(self.candidates) == set(self.baselines):
            raise ValueError("candidates: the baselines stand alone; add a candidate that may beat them")
        for name, candidate in self.candidates.items():
            for part in candidate.of:
                if part not in self.candidates:
                    close = did_you_mean(part, self.candidates)
                    raise ValueError(f"candidates.{name}.of: {part!r} is not one of the candidates{close}")
                if self.candidates[part].model in (*BASELINES, *ENSEMBLES):
                    raise ValueError(f"candidates.{name}.of: {part!r} is a {self.candidates[part].model}")
        return self

    @property
    def rounds_between_states(self) -> int:
        """Boosting rounds after which xgboost's state is kept."""
        own = self.engine.checkpoint_rounds if self.engine else None
        return own or self.checkpoint_rounds

    def has_workers(self, name: str, is_large: bool) -> bool:
        """Whether several workers fit the candidate `name`. `is_large`: its matrix is above memory_limit_mb."""
        if self.engine is None or self.candidates[name].model != "xgboost":
            return False
        return self.engine.kind in ("processes", "ray") or (self.engine.kind == "auto" and is_large)

    def of(self, name: str) -> Candidate:
        """A candidate, with every setting that it does not have itself taken from here."""
        candidate = self.candidates[name]
        shared = {
            "preprocessing": self.preprocessing or default_preprocessing(candidate.model),
            "selection": self.selection,
            "imbalance": self.imbalance,
            "calibration": self.calibration,
        }
        missing = {name: value for name, value in shared.items() if getattr(candidate, name) is None}
        return candidate.model_copy(update=missing)


def default_preprocessing(model: str) -> Preprocessing:
    """What a model takes best: trees their native categories and gaps, linear models what keeps them stable."""
    if model in ("logistic", "linear"):
        return Preprocessing(
            missing=Missing(method="median", indicator=True), scaling="standard", encoding="one_hot", min_frequency=20
        )
    if model == "forest":
        return Preprocessing(missing=Missing(method="median", indicator=True), encoding="ordinal")
    return Preprocessing()


class Costs(Config):
    """What decisions cost the business, in `unit`; a negative cost is a gain. What is not named costs nothing."""

    unit: str = Field("", description="such as USD, or hours")
    matrix: dict[ClassName, dict[ClassName, float]] = Field(
        {}, description="actual class -> decided class -> cost; of a binary problem the classes are 0 and 1"
    )
    over: float = Field(0.0, description="regression: cost of predicting one unit too much")
    under: float = Field(0.0, description="regression: cost of predicting one unit too little")
