"""Gradient-boosted trees by XGBoost: in memory or out of core, resumable, with log loss or focal loss."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypedDict

import numpy as np
from sklearn.base import BaseEstimator

from pipelines.config import Parameters
from pipelines.errors import ConfigError, DataError
from pipelines.temporary import temporary_folder
from pipelines.training.boost_parameters import BoostSettings, boost_settings, plainly
from pipelines.training.checkpoint import Checkpoint as Checkpoint
from pipelines.training.checkpoint import key_of
from pipelines.training.device import device_of
from pipelines.training.external import Batch, Fingerprint, matrix_on_disk
from pipelines.training.focal import first_score, focal_objective
from pipelines.training.rounds import Boosted, boosted


class MatrixOptions(TypedDict):
    """How XGBoost reads a matrix."""

    feature_types: list[str]
    enable_categorical: bool
    nthread: int


class BoostedTrees(BaseEstimator):  # type: ignore[misc]
    """Boosted trees over a float32 matrix (n, d) in which NaN is missing and categories are codes.

    Args:
        parameters: scikit-learn's names for XGBoost's, see docs/training.md.
        task: binary, multiclass or regression.
        classes: how many there are; of no meaning for a regression.
        device: auto, cpu or cuda.
        is_category: of each column of the matrix, (d,).
        focal: {"gamma", "alpha"}: focal loss in place of log loss; binary only.
        names: of the columns, (d,); parameters may then name columns.

    Attributes (fitted):
        booster_: the rounds up to the best one, and no more; predicts on the CPU.
        rounds_: how many these are.
        history_: metric on the held-out rows after each round, where there is early stopping.
        device_: what it was trained on.
    """

    def __init__(
        self,
        parameters: Parameters,
        task: str,
        classes: int,
        seed: int,
        threads: int,
        device: str,
        is_category: list[bool],
        focal: dict[str, float | None] | None = None,
        names: list[str] | None = None,
    ) -> None:
        self.parameters = parameters
        self.task = task
        self.classes = classes
        self.seed = seed
        self.threads = threads
        self.device = device
        self.is_category = is_category
        self.focal = focal
        self.names = names

    def fit(
        self,
        matrix: np.ndarray,
        y: np.ndarray,
        weight: np.ndarray,
        held_out: Batch | None = None,
        checkpoint: Checkpoint | None = None,
        start: Any = None,
    ) -> BoostedTrees:
        """Learn from a matrix in memory; `held_out` says when to stop, and nothing is learnt from it.

        `start`: a booster that these rows add rounds to, n_estimators at most; of early stopping it is what the first
        round has to be better than, so none may come. It keeps no checkpoint: such fits are short.

        Raises:
            ValueError: a parameter is wrong.
            DataError: nothing can be learnt from such rows.
            ConfigError: device cuda, and there is none.
        """
        import xgboost

        with plainly():
            settings = self.settings()
            self._require(len(matrix) > 0, "there is no row to learn from")
            device = device_of(self.device)
            fingerprint = Fingerprint().add(matrix, y, weight) if checkpoint else None
            train = xgboost.QuantileDMatrix(
                matrix, label=y, weight=weight, max_bin=settings.max_bin, **self._matrix_options()
            )
            return self._boost(settings, device, train, held_out, checkpoint, fingerprint, start)

    def fit_batches(
        self,
        batches: Callable[[], Iterator[Batch]],
        held_out: Batch | None = None,
        checkpoint: Checkpoint | None = None,
    ) -> BoostedTrees:
        """Learn from batches that are read several times and never held together; the same model as `fit` gives, up
        to the last digits of its bin edges. On the CPU. The pages' folder is TMPDIR's, and removed.

        Raises:
            ValueError, DataError: as `fit`.
            ConfigError: device cuda: XGBoost would hold the pages in the host's memory, which is what is short.
        """
        if self.device == "cuda":
            raise ConfigError(
                "a training set above the memory limit is learnt from on the CPU",
                where="problem.yaml, training.device: cuda",
                cure="set device: auto, or raise training.memory_limit_mb",
            )
        with plainly(), temporary_folder() as folder:
            try:
                self._fit_on_disk(Path(folder), batches, held_out, checkpoint)
            except BaseException as error:
                traceback.clear_frames(error.__traceback__)  # they hold the matrix, which reads from the folder
                raise
        return self

    def scores(self, matrix: np.ndarray) -> np.ndarray:
        """Binary (n,): probability of class 1; multiclass (n, k): probabilities; regression (n,): values; float64."""
        if len(matrix) == 0:
            return np.zeros((0, self.classes) if self.task == "multiclass" else 0)
        return np.asarray(self.booster_.inplace_predict(np.asarray(matrix, np.float32)), dtype=np.float64)

    @property
    def leaves(self) -> int:
        """Leaves of all trees together, which is what a row's contributions cost."""
        return sum(tree.count("leaf=") for tree in self.booster_.get_dump())

    def contributions(self, matrix: np.ndarray) -> np.ndarray:
        """SHAP values of the margin, float32 (n, d), multiclass (n, k, d): exact TreeSHAP (Lundberg et al. 2020).

        A row's values and the mean margin (which is left out) add up to its margin.
        """
        import xgboost

        shape = (self.classes, len(self.is_category)) if self.task == "multiclass" else (len(self.is_category),)
        if len(matrix) == 0:
            return np.zeros((0, *shape), dtype=np.float32)
        rows = xgboost.DMatrix(np.asarray(matrix, np.float32), **self._matrix_options())
        by_feature = self.booster_.predict(rows, pred_contribs=True, strict_shape=True)[..., :-1]
        return np.ascontiguousarray(by_feature.reshape(len(matrix), *shape), dtype=np.float32)

    def settings(self) -> BoostSettings:
        """What the parameters ask for, without defaults; raises ValueError where one is wrong."""
        self._require(len(self.is_category) > 0, "there is no feature to learn from")
        return boost_settings(
            self.parameters,
            self.task,
            classes=self.classes,
            is_category=self.is_category,
            names=self.names,
            is_focal=self.focal is not None,
        )

    def require_values(self) -> None:
        """Raises:
        ValueError: XGBoost refuses a parameter, whatever the rows: it reads them all before it boosts.
        """
        import xgboost

        settings = self.settings().on(1, len(self.is_category), has_held_out=True)
        row = xgboost.DMatrix(np.zeros((1, len(self.is_category)), np.float32), [0], **self._matrix_options())
        with plainly():
            xgboost.Booster(self.native(settings, "cpu"), [row]).save_config()

    @property
    def kinds(self) -> list[str]:
        """XGBoost's word for the kind of each column."""
        return ["c" if category else "q" for category in self.is_category]

    def native(self, settings: BoostSettings, device: str) -> Parameters:
        """What XGBoost is told, under its names."""
        return settings.native | {
            "tree_method": "hist",
            "device": device,
            "nthread": self.threads,
            "seed": self.seed,
            "seed_per_iteration": True,
        }

    def keep(self, learnt: Boosted, device: str) -> BoostedTrees:
        """Be fitted by these rounds."""
        import xgboost

        self.rounds_ = learnt.rounds
        self.history_ = learnt.history
        self.device_ = device
        # From the bare model: the state of two boosters differs where their lives did, and a GPU may be gone.
        self.booster_ = xgboost.Booster({"nthread": self.threads}, model_file=bytearray(learnt.model))
        return self

    def _fit_on_disk(
        self,
        folder: Path,
        batches: Callable[[], Iterator[Batch]],
        held_out: Batch | None,
        checkpoint: Checkpoint | None,
    ) -> None:
        settings = self.settings()
        fingerprint = Fingerprint() if checkpoint else None
        train = matrix_on_disk(
            batches,
            folder,
            feature_types=self.kinds,
            max_bin=settings.max_bin,
            threads=self.threads,
            fingerprint=fingerprint,
        )
        self._boost(settings, "cpu", train, held_out, checkpoint, fingerprint)

    def _matrix_options(self) -> MatrixOptions:
        return {"feature_types": self.kinds, "enable_categorical": True, "nthread": self.threads}

    def _require(self, is_there: bool, what: str) -> None:
        if not is_there:
            raise DataError(
                what, where="training rows of the model xgboost", cure="look at the training set's datasheet"
            )

    def _boost(
        self,
        settings: BoostSettings,
        device: str,
        train: Any,
        held_out: Batch | None,
        checkpoint: Checkpoint | None,
        fingerprint: Fingerprint | None,
        start: Any = None,
    ) -> BoostedTrees:
        has_held_out = held_out is not None and len(held_out[0]) > 0
        settings = settings.on(train.num_row(), train.num_col(), has_held_out)
        self._require(float(train.get_weight().sum()) > 0, "all rows weigh nothing")
        native = self.native(settings, device)
        objective = None
        if self.focal is not None:
            y, weight = train.get_label(), train.get_weight()
            gamma, alpha = self.focal["gamma"] or 0.0, self.focal.get("alpha")
            objective = focal_objective(y, weight, gamma, alpha)
            if start is None:  # a booster brings its own
                native.setdefault("base_score", first_score(y, weight, alpha))
        held_out_matrix, held_out_digest, key = None, list[str](), ""
        if settings.patience is not None:
            if held_out is None or not has_held_out:
                raise ValueError("early_stopping_rounds needs held-out rows, and there are none")
            held_out_matrix = self._held_out(held_out, settings, train)
        if checkpoint is not None and fingerprint is not None:
            if held_out_matrix is not None and held_out is not None:
                held_out_digest = Fingerprint().add(*held_out).digest()
            key = key_of(settings, native, self.focal, checkpoint.every, fingerprint.digest(), held_out_digest)
        learnt = boosted(settings, native, train, held_out_matrix, objective, checkpoint, key, start)
        return self.keep(learnt, device)

    def _held_out(self, held_out: Batch, settings: BoostSettings, train: Any) -> Any:
        import xgboost

        matrix, y, weight = held_out
        return xgboost.QuantileDMatrix(
            matrix, label=y, weight=weight, ref=train, max_bin=settings.max_bin, **self._matrix_options()
        )
