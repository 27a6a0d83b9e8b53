from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.config import Selection
from pipelines.errors import DataError
from pipelines.training.select import select

pytestmark = pytest.mark.slow

SIGNAL = ["slope", "group", "gaps"]
NOISE = [f"noise {n}" for n in range(7)]
NAMES = SIGNAL + NOISE
IS_CATEGORY = [name in ("group", "noise 0") for name in NAMES]
METHODS: list[dict[str, Any]] = [
    {"method": "l1", "strength": 0.04},
    {"method": "boruta", "rounds": 12},
    {"method": "permutation", "rounds": 5},
]
by_method = pytest.mark.parametrize("options", METHODS, ids=lambda options: options["method"])
by_task = pytest.mark.parametrize("task", ["binary", "multiclass", "regression"])


def drawn(seed: int, task: str, rows: int = 1000) -> tuple[np.ndarray, np.ndarray]:
    """A slope, a native category, a number of which only the gaps say something; noise of the same kinds."""
    random = np.random.default_rng(seed)
    matrix = random.normal(size=(rows, len(NAMES))).astype(np.float32)
    matrix[:, 1], matrix[:, 3] = random.integers(0, 6, rows), random.integers(0, 8, rows)
    matrix[random.random(rows) < 0.3, 2] = np.nan
    matrix[random.random(rows) < 0.3, 4] = np.nan
    of_group = np.array([1.2, -1.2, 0.4, -1.6, 0, 1.2])[matrix[:, 1].astype(int)]
    value = 1.2 * matrix[:, 0] + of_group + 2 * np.isnan(matrix[:, 2]) + random.logistic(size=rows)
    if task == "regression":
        return matrix, 100 * value
    return matrix, np.digitize(value, [0.5] if task == "binary" else [-0.5, 1.5])


def kept(
    options: dict[str, Any], matrix: np.ndarray, y: np.ndarray, task: str = "binary", seed: int = 0, **more: Any
) -> list[str]:
    weight = more.pop("weight", np.ones(len(y)))
    found, _ = select(Selection(**options | more), matrix, y, weight, NAMES, NAMES, IS_CATEGORY, task, seed)
    return [NAMES[n] for n in found]


@by_method
@by_task
def test_signal_stays_and_most_noise_goes(options: dict[str, Any], task: str) -> None:
    noise = []
    for seed in range(2):
        found = kept(options, *drawn(seed, task), task=task, seed=seed)
        assert set(SIGNAL) <= set(found)
        noise += [name for name in found if name in NOISE]
    assert len(noise) <= 2 * len(NOISE) / 4


def test_none_keeps_all() -> None:
    matrix, y = drawn(0, "binary", 50)
    assert select(Selection(), matrix, y, np.ones(50), NAMES, NAMES, IS_CATEGORY, "binary", 0) == (list(range(10)), {})


@by_method
def test_each_dropped_column_has_a_reason(options: dict[str, Any]) -> None:
    matrix, y = drawn(0, "binary")
    found, dropped = select(Selection(**options), matrix, y, np.ones(len(y)), NAMES, NAMES, IS_CATEGORY, "binary", 0)
    assert [n for n, name in enumerate(NAMES) if name not in dropped] == found == sorted(found)
    assert all(why.startswith(f"{options['method']}: ") for why in dropped.values())
    if options["method"] == "l1":
        assert set(dropped.values()) == {"l1: weight 0 at strength 0.04"}


@by_method
def test_always_keeps_all_columns_of_a_feature(options: dict[str, Any]) -> None:
    matrix, y = drawn(0, "binary")
    origin = ["shelf" if name in NOISE[3:5] else name for name in NAMES]
    found, dropped = select(
        Selection(**options, always=["shelf"]), matrix, y, np.ones(len(y)), NAMES, origin, IS_CATEGORY, "binary", 0
    )
    assert {6, 7} <= set(found)
    assert dropped
    assert not set(NOISE[3:5]) & set(dropped)


def test_the_seed_decides() -> None:
    matrix, y = drawn(0, "binary")
    options = {"method": "permutation", "rounds": 5}
    arguments = (Selection(**options), matrix, y, np.ones(len(y)), NAMES, NAMES, IS_CATEGORY, "binary")
    assert select(*arguments, 0) == select(*arguments, 0)
    assert select(*arguments, 0) != select(*arguments, 1)


def test_rows_without_weight_say_nothing() -> None:
    """In the second half, which weighs nothing, the slope goes the other way."""
    matrix, y = drawn(0, "binary")
    double = np.vstack([matrix, matrix * np.where(np.arange(10) == 0, -1, 1).astype(np.float32)])
    weight = np.repeat([1.0, 0.0], len(y))
    options = {"method": "l1", "strength": 0.04}
    assert kept(options, double, np.tile(y, 2), weight=weight) == kept(options, matrix, y)
    assert "slope" not in kept(options, double, np.tile(y, 2))


def test_max_rows_is_all_that_is_looked_at() -> None:
    matrix, y = drawn(0, "binary")
    few = {"method": "permutation", "rounds": 5, "max_rows": 100, "always": ["group"]}
    assert "gaps" not in kept(few, matrix, y)
    assert "gaps" in kept(few | {"max_rows": 1000}, matrix, y)


# Settings of one method


def test_l1_is_stricter_the_higher_its_strength() -> None:
    matrix, y = drawn(0, "binary")
    counts = [len(kept({"method": "l1", "strength": strength}, matrix, y)) for strength in (1e-5, 0.02, 0.06)]
    assert counts[0] == len(NAMES) > counts[1] > counts[2] > 0


@by_task
def test_l1_is_the_same_for_more_of_the_same_rows_and_other_units(task: str) -> None:
    matrix, y = drawn(0, task)
    options = {"method": "l1", "strength": 0.04}
    once = kept(options, matrix, y, task=task)
    assert kept(options, np.tile(matrix, (2, 1)), np.tile(y, 2), task=task) == once
    if task == "regression":
        assert kept(options, matrix, y / 1000, task=task) == once


def test_boruta_needs_rounds_to_drop_and_drops_earlier_at_a_laxer_significance() -> None:
    matrix, y = drawn(0, "binary")
    reasons = [
        select(
            Selection(method="boruta", rounds=14, significance=level),
            matrix,
            y,
            np.ones(len(y)),
            NAMES,
            NAMES,
            IS_CATEGORY,
            "binary",
            0,
        )[1]
        for level in (0.01, 0.3)
    ]
    forests = [min(int(why.split(" forests")[0].split()[-1]) for why in found.values()) for found in reasons]
    assert forests[0] > forests[1]


def test_permutation_asks_for_min_gain() -> None:
    matrix, y = drawn(0, "binary")
    gains = [kept({"method": "permutation", "rounds": 5, "min_gain": gain}, matrix, y) for gain in (0, 0.1)]
    assert set(gains[1]) < set(gains[0])
    assert "slope" in gains[1]


def test_permutation_measures_on_the_newest_fifth() -> None:
    """A column that is the label among the older rows and noise among the newest is none to learn from."""
    matrix, y = drawn(0, "binary")
    matrix[:800, 9] = y[:800]
    assert "noise 6" not in kept({"method": "permutation", "rounds": 5}, matrix, y, always=["slope"])
    assert "noise 6" in kept({"method": "permutation", "rounds": 5}, matrix[::-1], y[::-1])


@by_method
def test_rounds_are_spent(options: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    if options["method"] == "l1":
        return
    import importlib

    module = importlib.import_module("pipelines.training.select")
    spent = []
    for name in ("_forest_gain", "_losses"):
        inner = getattr(module, name)
        monkeypatch.setattr(module, name, lambda *args, inner=inner: (spent.append(args[-1]), inner(*args))[1])
    matrix, y = drawn(0, "binary", 400)
    counts = []
    for rounds in (5, 8):
        spent.clear()
        kept(options | {"rounds": rounds, "significance": 1e-9}, matrix, y, always=NAMES)
        counts.append(len(spent) if options["method"] == "boruta" else sum(len(one) for one in spent))
    assert counts == ([5, 8] if options["method"] == "boruta" else [80 + 5 * 800, 80 + 8 * 800])


# Bad input


@by_method
def test_pure_noise_is_told(options: dict[str, Any]) -> None:
    matrix, _ = drawn(0, "regression", 500)
    strict = options | {"l1": {"strength": 0.5}, "boruta": {}, "permutation": {"min_gain": 0.5}}[options["method"]]
    with pytest.raises(DataError, match="finds no feature worth keeping"):
        kept(strict, matrix, np.random.default_rng(1).normal(size=500), task="regression")


@by_method
@settings(max_examples=6)
@given(
    task=st.sampled_from(["binary", "multiclass", "regression"]),
    rows=st.integers(1, 30),
    classes=st.integers(1, 3),
    constant=st.sampled_from([np.nan, 0.0, 5.0]),
    seed=st.integers(0, 99),
)
def test_odd_rows_are_no_fault(
    options: dict[str, Any], task: str, rows: int, classes: int, constant: float, seed: int
) -> None:
    matrix, _ = drawn(seed, task, rows)
    matrix[:, 5] = constant
    y = np.random.default_rng(seed).integers(0, min(classes, 2) if task == "binary" else classes, rows)
    found = kept(options | {"rounds": 5, "always": ["slope"]}, matrix, y, task=task)
    assert "slope" in found
