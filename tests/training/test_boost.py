from __future__ import annotations

import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import skops.io
from sklearn.base import clone

from pipelines.errors import ConfigError, DataError
from pipelines.training import boost
from pipelines.training.boost import Batch, BoostedTrees, Checkpoint
from pipelines.training.device import device_of

ROWS, COLUMNS = 900, 5
IS_CATEGORY = [False, False, False, False, True]
SMALL = {"n_estimators": 12, "max_depth": 3, "learning_rate": 0.3}
SAMPLED = {"subsample": 0.7, "colsample_bytree": 0.6, "colsample_bynode": 0.7}
CLASSES = {"binary": 2, "multiclass": 3, "regression": 0}
TASKS = list(CLASSES)


def _rows(task: str, seed: int = 0, rows: int = ROWS) -> Batch:
    random = np.random.default_rng(seed)
    matrix = random.normal(size=(rows, COLUMNS)).astype(np.float32)
    matrix[:, 4] = random.integers(0, 9, rows)
    margin = 2 * matrix[:, 0] + matrix[:, 1] * matrix[:, 2] + np.where(matrix[:, 4] > 5, 1, -1)
    matrix[random.random(matrix.shape) < 0.05] = np.nan
    noisy = margin + random.normal(size=rows)
    y = {"binary": noisy > 1, "multiclass": np.digitize(noisy, [-1, 1]), "regression": noisy}[task]
    return matrix, np.asarray(y, dtype=np.float64 if task == "regression" else np.int64), random.random(rows) + 0.5


def _trees(task: str = "binary", parameters: dict[str, Any] | None = None, **settings: Any) -> BoostedTrees:
    arguments = {"seed": 1, "threads": 1, "device": "cpu", "is_category": IS_CATEGORY} | settings
    return BoostedTrees(SMALL | (parameters or {}), task, CLASSES[task], **arguments)


def _bytes(model: BoostedTrees) -> bytes:
    return bytes(model.booster_.save_raw("ubj"))


def _cut(rows: Batch, size: int = 250) -> Any:
    def batches() -> Iterator[Batch]:
        for start in range(0, len(rows[0]), size):
            yield tuple(array[start : start + size] for array in rows)  # type: ignore[misc]

    return batches


def _loss(model: BoostedTrees, rows: Batch) -> float:
    scores, y = model.scores(rows[0]), rows[1]
    if model.task == "regression":
        return float(np.mean((scores - y) ** 2))
    chance = np.where(y == 1, scores, 1 - scores) if model.task == "binary" else scores[np.arange(len(y)), y]
    return float(-np.mean(np.log(chance)))


# --- scores


@pytest.mark.parametrize("task", TASKS)
def test_scores_have_the_shape_of_the_task_and_beat_the_start(task: str) -> None:
    train, test = _rows(task), _rows(task, 1)
    model, stump = _trees(task).fit(*train), _trees(task, {"n_estimators": 1, "learning_rate": 0.0}).fit(*train)
    scores = model.scores(test[0])
    assert scores.dtype == np.float64
    assert scores.shape == ((ROWS, 3) if task == "multiclass" else (ROWS,))
    if task != "regression":
        assert ((scores >= 0) & (scores <= 1)).all()
    if task == "multiclass":
        np.testing.assert_allclose(scores.sum(axis=1), 1, atol=1e-6)
    assert _loss(model, test) < 0.8 * _loss(stump, test)
    np.testing.assert_array_equal(model.scores(test[0][7:8]), scores[7:8])
    assert model.scores(test[0][:0]).shape == ((0, 3) if task == "multiclass" else (0,))


def test_the_same_seed_gives_the_same_model_and_another_one_another() -> None:
    train = _rows("binary")
    one, same, other = (_trees(parameters=SAMPLED, seed=seed).fit(*train) for seed in (1, 1, 2))
    assert _bytes(one) == _bytes(same) != _bytes(other)


def test_weights_count() -> None:
    matrix, y, weight = _rows("binary")
    heavy = _trees().fit(matrix, y, np.where(y == 1, 10.0, 1.0))
    assert heavy.scores(matrix).mean() > _trees().fit(matrix, y, weight).scores(matrix).mean() + 0.1
    half = np.arange(ROWS) < 450
    wrong = np.where(half, y, 1 - y)
    ignored, believed = (_trees().fit(matrix, wrong, used) for used in (weight * half, weight))
    assert _loss(ignored, (matrix, y, weight)) < 0.5 < 0.65 < _loss(believed, (matrix, y, weight))


def test_columns_marked_as_categories_are_split_as_such() -> None:
    random = np.random.default_rng(0)
    matrix = random.integers(0, 12, (ROWS, 1)).astype(np.float32)
    y = np.isin(matrix[:, 0], [1, 4, 6, 9]).astype(np.int64)  # no threshold separates them
    stump = {"n_estimators": 1, "max_depth": 1, "learning_rate": 1.0, "max_cat_to_onehot": 1}
    losses = [
        _loss(_trees(parameters=stump, is_category=[kind]).fit(matrix, y, np.ones(ROWS)), (matrix, y, y))
        for kind in (True, False)
    ]
    assert losses[0] < 0.2 < losses[1]


def test_a_round_trip_through_skops_keeps_the_scores() -> None:
    train = _rows("multiclass")
    model = _trees("multiclass", {"early_stopping_rounds": 3}).fit(*train, held_out=_rows("multiclass", 1))
    raw = skops.io.dumps(model)
    trusted = ["pipelines.training.boost.BoostedTrees", "xgboost.core.Booster"]
    assert set(skops.io.get_untrusted_types(data=raw)) <= set(trusted)
    again = skops.io.loads(raw, trusted=trusted)
    np.testing.assert_array_equal(again.scores(train[0]), model.scores(train[0]))
    np.testing.assert_array_equal(again.contributions(train[0][:5]), model.contributions(train[0][:5]))
    assert again.rounds_ == model.rounds_
    np.testing.assert_array_equal(
        clone(again).fit(*train, held_out=_rows("multiclass", 1)).scores(train[0]), model.scores(train[0])
    )


@pytest.mark.parametrize("task", TASKS)
def test_contributions_add_up_to_the_margin_less_the_bias(task: str) -> None:
    import xgboost

    matrix, y, weight = _rows(task)
    model = _trees(task).fit(matrix, y, weight)
    found = model.contributions(matrix[:50])
    assert found.shape == ((50, 3, COLUMNS) if task == "multiclass" else (50, COLUMNS))
    assert found.dtype == np.float32
    rows = xgboost.DMatrix(matrix[:50], feature_types=["q"] * 4 + ["c"], enable_categorical=True)
    margin = model.booster_.predict(rows, output_margin=True)
    bias = model.booster_.predict(rows, pred_contribs=True)[..., -1]
    np.testing.assert_allclose(found.sum(axis=-1), margin - bias, atol=1e-4)
    assert np.abs(found).mean(axis=tuple(range(found.ndim - 1))).argmax() == 0
    assert model.contributions(matrix[:0]).shape == (0, *found.shape[1:])


# --- early stopping


@pytest.mark.parametrize("task", TASKS)
def test_early_stopping_keeps_the_rounds_up_to_the_best(task: str) -> None:
    train, held_out = _rows(task, rows=200), _rows(task, 1)
    long = {"n_estimators": 200, "learning_rate": 0.5, "max_depth": 6}
    model = _trees(task, long | {"early_stopping_rounds": 5}).fit(*train, held_out=held_out)
    assert len(model.history_) == model.rounds_ + 5 < 200
    assert model.history_[model.rounds_ - 1] == min(model.history_)
    fixed = _trees(task, long | {"n_estimators": model.rounds_}).fit(*train)
    np.testing.assert_array_equal(model.scores(train[0]), fixed.scores(train[0]))
    assert _bytes(model) == _bytes(fixed)


def test_the_metric_may_be_one_that_rises() -> None:
    settings = {"n_estimators": 60, "learning_rate": 0.5, "early_stopping_rounds": 5, "eval_metric": "auc"}
    model = _trees(parameters=settings).fit(*_rows("binary", rows=200), held_out=_rows("binary", 1))
    assert model.history_[model.rounds_ - 1] == max(model.history_) > model.history_[0]


def test_early_stopping_says_what_it_lacks() -> None:
    train = _rows("binary")
    settings = {"early_stopping_rounds": 5, "eval_metric": "auc"}
    with pytest.raises(ValueError, match="needs held-out rows"):
        _trees(parameters=settings).fit(*train)
    matrix, y, weight = _rows("binary", 1)
    with warnings.catch_warnings(), pytest.raises(DataError, match="auc has no value on the held-out rows"):
        warnings.simplefilter("ignore")
        _trees(parameters=settings).fit(*train, held_out=(matrix, y * 0, weight))


# --- parameters


@pytest.mark.parametrize(
    ("task", "parameters", "message"),
    [
        ("binary", {"max_dept": 3}, "unknown parameter 'max_dept'; did you mean 'max_depth'"),
        ("binary", {"max_depth": "six"}, "^Invalid Parameter format for max_depth expect int but value='six'$"),
        ("binary", {"learning_rate": -1}, "^value -1 for Parameter learning_rate should be greater equal to 0$"),
        ("binary", {"eval_metric": "nosuch", "early_stopping_rounds": 2}, "^Unknown metric function nosuch$"),
        ("binary", {"base_score": 3}, "base_score must be in"),
        ("regression", {"objective": "count:poisson"}, "label must be non"),
    ],
)
def test_a_wrong_parameter_is_named(task: str, parameters: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        _trees(task, parameters).fit(*_rows(task), held_out=_rows(task, 1))


def test_parameters_that_are_null_or_what_they_always_are_are_taken() -> None:
    train = _rows("binary")
    given = {"max_leaves": None, "tree_method": "hist", "booster": "gbtree", "objective": "binary:logistic"}
    assert _bytes(_trees(parameters=given).fit(*train)) == _bytes(_trees().fit(*train))


@pytest.mark.parametrize(
    ("objective", "extra"),
    [
        ("reg:absoluteerror", {}),
        ("reg:pseudohubererror", {"huber_slope": 2.0}),
        ("count:poisson", {}),
        ("reg:tweedie", {"tweedie_variance_power": 1.3}),
        ("reg:gamma", {}),
        ("reg:squaredlogerror", {}),
    ],
)
def test_regression_has_objectives_to_choose_from(objective: str, extra: dict[str, float]) -> None:
    matrix, y, weight = _rows("regression")
    y = np.exp(y / 4)
    model = _trees("regression", {"objective": objective, **extra}).fit(matrix, y, weight)
    scores = model.scores(matrix)
    assert scores.shape == (ROWS,)
    assert np.corrcoef(scores, y)[0, 1] > 0.7
    assert _bytes(model) != _bytes(_trees("regression").fit(matrix, y, weight))


def test_a_quantile_is_exceeded_as_often_as_it_says() -> None:
    matrix, y, weight = _rows("regression")
    settings = {"objective": "reg:quantileerror", "quantile_alpha": 0.9, "n_estimators": 40}
    scores = _trees("regression", settings).fit(matrix, y, weight).scores(matrix)
    assert scores.shape == (ROWS,)
    assert np.average(y <= scores, weights=weight) == pytest.approx(0.9, abs=0.05)


def test_constraints_name_columns() -> None:
    matrix, y, weight = _rows("binary")
    names = [f"f{number}" for number in range(COLUMNS)]
    falling = _trees(parameters={"monotone_constraints": {"f0": -1}}, names=names).fit(matrix, y, weight)
    listed = _trees(parameters={"monotone_constraints": [-1, 0, 0, 0, 0]}).fit(matrix, y, weight)
    assert _bytes(falling) == _bytes(listed)
    higher = matrix.copy()
    higher[:, 0] += 1
    assert (falling.scores(higher) <= falling.scores(matrix)).all()
    assert (_trees().fit(matrix, y, weight).scores(higher) > falling.scores(matrix)).any()
    alone = _trees(parameters={"interaction_constraints": [[name] for name in names]}, names=names)
    trees = alone.fit(matrix, y, weight).booster_.trees_to_dataframe()
    used = trees[trees["Feature"] != "Leaf"].groupby("Tree")["Feature"].nunique()
    assert (used == 1).all()


# --- data that nobody wanted


@pytest.mark.parametrize("task", TASKS)
def test_constant_empty_and_single_rows_are_learnt_from(task: str) -> None:
    matrix, y, weight = _rows(task, rows=50)
    for odd in (np.zeros_like(matrix), np.full_like(matrix, np.nan)):
        scores = _trees(task).fit(odd, y, weight).scores(matrix)
        assert np.isfinite(scores).all()
    assert np.isfinite(_trees(task).fit(matrix[:1], y[:1], weight[:1]).scores(matrix)).all()
    assert np.isfinite(_trees(task).fit(matrix, y * 0, weight).scores(matrix)).all()


@pytest.mark.parametrize("way", ["fit", "fit_batches"])
def test_rows_that_nothing_can_be_learnt_from_are_refused(way: str) -> None:
    matrix, y, weight = _rows("binary", rows=50)

    def learn(model: BoostedTrees, *rows: np.ndarray) -> BoostedTrees:
        return model.fit(*rows) if way == "fit" else model.fit_batches(_cut(rows))  # type: ignore[arg-type]

    with pytest.raises(DataError, match="weigh nothing"):
        learn(_trees(), matrix, y, weight * 0)
    with pytest.raises(DataError, match="no row to learn from"):
        learn(_trees(), matrix[:0], y[:0], weight[:0])
    with pytest.raises(DataError, match="no feature to learn from"):
        learn(_trees(is_category=[]), matrix[:, :0], y, weight)
    with pytest.raises(ValueError, match=r"^Weights must be positive values\.$"):
        learn(_trees(), matrix, y, -weight)


# --- focal loss


def test_focal_loss_with_gamma_0_is_log_loss() -> None:
    train, held_out = _rows("binary"), _rows("binary", 1)
    settings = {"n_estimators": 40, "early_stopping_rounds": 4}
    plain = _trees(parameters=settings).fit(*train, held_out=held_out)
    focal = _trees(parameters=settings, focal={"gamma": 0.0, "alpha": None}).fit(*train, held_out=held_out)
    np.testing.assert_allclose(focal.scores(train[0]), plain.scores(train[0]), atol=1e-4)
    np.testing.assert_allclose(focal.history_, plain.history_, atol=1e-4)


def test_focal_loss_gives_probabilities_and_stops_by_their_log_loss() -> None:
    train, held_out = _rows("binary"), _rows("binary", 1)
    settings = {"n_estimators": 60, "early_stopping_rounds": 5}
    model = _trees(parameters=settings, focal={"gamma": 2.0, "alpha": None}).fit(*train, held_out=held_out)
    matrix, y, weight = held_out
    scores = model.scores(matrix)
    assert ((scores > 0) & (scores < 1)).all()
    loss = -np.average(np.log(np.where(y == 1, scores, 1 - scores)), weights=weight)
    assert model.history_[model.rounds_ - 1] == pytest.approx(loss, rel=1e-4)
    assert loss < 0.55


def test_gamma_and_alpha_of_focal_loss_change_the_model() -> None:
    matrix, y, weight = _rows("binary")
    mean = {
        (gamma, alpha): _trees(focal={"gamma": gamma, "alpha": alpha}).fit(matrix, y, weight).scores(matrix).mean()
        for gamma, alpha in ((0.0, None), (2.0, None), (0.0, 0.9), (2.0, 0.9))
    }
    assert len({round(value, 3) for value in mean.values()}) == 4
    assert mean[0.0, 0.9] > mean[0.0, None] + 0.1
    with pytest.raises(ValueError, match="without focal loss"):
        _trees(parameters={"scale_pos_weight": 2}, focal={"gamma": 2.0, "alpha": None}).fit(matrix, y, weight)


# --- out of core


def left_in(folder: Path) -> list[Path]:
    """What a training has left in TMPDIR, but for the folder that is the user's."""
    return list(folder.glob("evergreen-copies-*/temporary/*")) + [path for path in folder.rglob("*") if path.is_file()]


@pytest.mark.parametrize("task", TASKS)
def test_batches_from_disk_give_the_model_of_the_whole_matrix(task: str, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    train, held_out = _rows(task), _rows(task, 1)
    settings = {"early_stopping_rounds": 5, **SAMPLED}
    whole = _trees(task, settings).fit(*train, held_out=held_out)
    cut = _trees(task, settings).fit_batches(_cut(train), held_out=held_out)
    # Page by page, sums of gradients are rounded in another order.
    np.testing.assert_allclose(cut.scores(held_out[0]), whole.scores(held_out[0]), atol=1e-3)
    np.testing.assert_allclose(cut.history_, whole.history_, rtol=1e-3)
    assert left_in(tmp_path) == []


def test_focal_loss_and_empty_batches_go_out_of_core_as_well() -> None:
    train = _rows("binary")
    focal = {"gamma": 2.0, "alpha": 0.7}

    def batches() -> Iterator[Batch]:
        yield tuple(array[:0] for array in train)  # type: ignore[misc]
        yield from _cut(train, 333)()
        yield tuple(array[:0] for array in train)  # type: ignore[misc]

    whole, cut = _trees(focal=focal).fit(*train), _trees(focal=focal).fit_batches(batches)
    np.testing.assert_allclose(cut.scores(train[0]), whole.scores(train[0]), atol=1e-3)


def test_what_goes_wrong_in_a_batch_comes_out_as_it_is_and_leaves_no_file(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))

    def batches() -> Iterator[Batch]:
        yield _rows("binary")
        raise DataError("a file is damaged")

    with pytest.raises(DataError, match="a file is damaged"):
        _trees().fit_batches(batches)
    assert left_in(tmp_path) == []
    with pytest.raises(ConfigError, match="learnt from on the CPU"):
        _trees(device="cuda").fit_batches(batches)


# --- checkpoints


class Killed(Exception):
    pass


class Kept:
    """A checkpoint in memory that stops the training after some states."""

    def __init__(self, every: int, kill_after: int | None = None) -> None:
        self.every = every
        self.kill_after = kill_after
        self.state: tuple[int, bytes] | None = None
        self.saved: list[int] = []

    def save(self, rounds: int, model: bytes) -> None:
        self.state = (rounds, model)
        self.saved.append(rounds)
        if self.kill_after is not None and len(self.saved) >= self.kill_after:
            raise Killed

    def load(self) -> tuple[int, bytes] | None:
        return self.state


def _learn(model: BoostedTrees, rows: Batch, held_out: Batch, checkpoint: Checkpoint, way: str) -> BoostedTrees:
    if way == "fit":
        return model.fit(*rows, held_out=held_out, checkpoint=checkpoint)
    return model.fit_batches(_cut(rows), held_out=held_out, checkpoint=checkpoint)


@pytest.mark.parametrize("way", ["fit", "fit_batches"])
@pytest.mark.parametrize(
    ("task", "parameters", "settings"),
    [
        ("binary", SAMPLED, {}),
        ("binary", SAMPLED, {"focal": {"gamma": 1.5, "alpha": None}}),
        ("binary", {"num_parallel_tree": 2, "subsample": 0.5}, {}),
        ("multiclass", {"colsample_bylevel": 0.6}, {}),
        ("regression", {}, {}),
        ("regression", {"objective": "reg:absoluteerror"}, {}),
    ],
)
def test_a_killed_training_goes_on_to_the_model_of_the_unbroken_one(
    way: str, task: str, parameters: dict[str, Any], settings: dict[str, Any]
) -> None:
    train, held_out = _rows(task, rows=300), _rows(task, 1, rows=200)
    parameters = {"n_estimators": 20, "learning_rate": 0.6, "early_stopping_rounds": 7} | parameters
    unbroken = Kept(every=4)
    whole = _learn(_trees(task, parameters, **settings), train, held_out, unbroken, way)
    broken = Kept(every=4, kill_after=2)
    with pytest.raises(Killed):
        _learn(_trees(task, parameters, **settings), train, held_out, broken, way)
    broken.kill_after = None
    resumed = _learn(_trees(task, parameters, **settings), train, held_out, broken, way)
    assert broken.saved == unbroken.saved  # it went on after round 8, and did not begin again
    assert resumed.history_ == whole.history_
    assert _bytes(resumed) == _bytes(whole)


def test_without_sampling_a_checkpoint_changes_nothing() -> None:
    train = _rows("binary")
    kept, whole = Kept(every=5), {"subsample": 1.0, "colsample_bynode": 1.0}
    kept_model = _trees(parameters=whole).fit(*train, checkpoint=kept)
    assert _bytes(kept_model) == _bytes(_trees(parameters=whole).fit(*train))
    assert kept.saved == [5, 10]


def test_the_state_of_another_training_or_a_damaged_one_is_not_used() -> None:
    matrix, y, weight = _rows("binary")
    held_out = _rows("binary", 1)
    kept = Kept(every=5)
    _trees().fit(matrix, y, weight, checkpoint=kept)
    assert kept.state is not None
    rounds, state = kept.state

    def begins_again(model: BoostedTrees, *rows: Any, left: bytes = state, every: int = 5) -> bool:
        checkpoint = Kept(every)
        checkpoint.state = (rounds, left)
        model.fit(*rows, checkpoint=checkpoint)
        return every in checkpoint.saved

    assert not begins_again(_trees(), matrix, y, weight)
    assert not begins_again(_trees(threads=2), matrix, y, weight)
    other = matrix.copy()
    other[3, 2] += 1
    assert begins_again(_trees(), other, y, weight)
    assert begins_again(_trees(), matrix, 1 - y, weight)
    assert begins_again(_trees(), matrix, y, weight * 2)
    assert begins_again(_trees(), matrix[:-1], y[:-1], weight[:-1])
    assert begins_again(_trees(parameters={"max_depth": 4}), matrix, y, weight)
    assert begins_again(_trees(seed=2), matrix, y, weight)
    assert begins_again(_trees(focal={"gamma": 1.0, "alpha": None}), matrix, y, weight)
    assert begins_again(_trees(parameters={"early_stopping_rounds": 9}), matrix, y, weight, held_out)
    assert begins_again(_trees(), matrix, y, weight, every=4)
    for left in (b"", b"nonsense", state[:-9], state[:300] + b"x" + state[301:], b"[1]\n", state.split(b"\n")[0]):
        assert begins_again(_trees(), matrix, y, weight, left=left)


def test_rows_in_memory_and_on_disk_are_the_same_rows_to_a_checkpoint() -> None:
    train = _rows("binary")
    kept = Kept(every=5, kill_after=1)
    with pytest.raises(Killed):
        _trees().fit(*train, checkpoint=kept)
    kept.kill_after = None
    _trees().fit_batches(_cut(train), checkpoint=kept)
    assert kept.saved == [5, 10]


# --- device


def test_auto_is_the_cpu_where_there_is_no_gpu_and_cuda_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipelines.training.device._has_gpu", lambda: False)
    assert device_of("auto") == device_of("cpu") == "cpu"
    for is_gpu_build, message in ((True, "sees no GPU"), (False, "built without GPUs.*--extra gpu --no-group cpu")):
        monkeypatch.setattr("pipelines.training.device._is_gpu_build", lambda is_it=is_gpu_build: is_it)
        with pytest.raises(ConfigError, match=f"(?s){message}"):
            _trees(device="cuda").fit(*_rows("binary"))
    monkeypatch.setattr("pipelines.training.device._has_gpu", lambda: True)
    assert device_of("auto") == device_of("cuda") == "cuda"
    assert device_of("cpu") == "cpu"


def test_the_gpu_is_looked_for_and_the_device_is_told() -> None:
    model = _trees(device="auto").fit(*_rows("binary"))
    assert model.device_ == boost.device_of("auto")


# --- defaults


def test_a_regression_without_parameters_does_not_stop_while_it_holds_back_what_it_has_learnt() -> None:
    """By the held-out rows, which all have the mean label, the first rounds are the best ones."""
    matrix, y, weight = _rows("regression")
    held_out = (matrix[:100], np.full(100, np.average(y, weights=weight)), weight[:100])
    arguments: dict[str, Any] = {"seed": 1, "threads": 1, "device": "cpu", "is_category": IS_CATEGORY}
    model = BoostedTrees({}, "regression", 0, **arguments).fit(matrix, y, weight, held_out)
    assert model.rounds_ == 150
    asked = BoostedTrees({"early_stopping_rounds": 5}, "regression", 0, **arguments)
    assert asked.fit(matrix, y, weight, held_out).rounds_ < 20
