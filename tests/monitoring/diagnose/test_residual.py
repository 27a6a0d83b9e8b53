"""What labels leave to learn, feature by feature: nothing of a changed level, something of a changed meaning."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.metrics.scored import Scored
from pipelines.monitoring.diagnose.residual import cut, errors, gained, pooled, residual, totals
from pipelines.training.calibrate import sigmoid

NAMES = ("kind", "size", "empty")


def world(rows: int, seed: int, *, days: int = 7, level: float = 0.0, off: float = 0.0) -> tuple[pa.Table, Scored, Any]:
    """`level`: standard deviation of the days' own levels; `off`: how far labels of kind a are from their scores."""
    random = np.random.default_rng(seed)
    day = np.arange(rows) * days // rows
    kind = random.choice(["a", "b", "c"], rows)
    margin = random.normal(-1, 1, rows)
    real = margin + random.normal(0, level, days)[day] + off * (kind == "a")
    labels = random.random(rows) < sigmoid(real)
    table = pa.table({"kind": kind, "size": random.normal(0, 1, rows), "empty": pa.nulls(rows, pa.float64())})
    return table, Scored("binary", ("0", "1"), labels, sigmoid(margin), np.ones(rows)), day


def gains(table: pa.Table, truth: Scored, days: Any, scale: float = 1.0) -> dict[str, float]:
    """Share of the loss, over nothing usual."""
    cuts = cut(table, NAMES)
    found = residual(cuts, table, truth, days, scale)
    return {
        name: float(gained(sums, np.zeros_like(totals(found)[name])).sum()) / found.loss
        for name, sums in found.sums.items()
    }


def test_a_column_with_one_value_is_left_out_and_bins_have_names() -> None:
    table, _, _ = world(900, 0)
    table = table.append_column("still", pa.array([3.0] * 900))
    cuts = cut(table, [*NAMES, "still"])
    assert set(cuts) == {"kind", "size"}
    assert {cuts["kind"].label(code) for code in cuts["kind"].codes(table)} == {"kind=a", "kind=b", "kind=c"}
    assert len(np.unique(cuts["size"].codes(table))) == 8
    assert cuts["size"].label(0).startswith("size in (-inf, ")
    other = pa.table({"kind": ["z", None], "size": [np.nan, np.inf]})
    assert [cuts["kind"].label(code) for code in cuts["kind"].codes(other)] == ["kind=(other)", "kind missing"]
    assert {cuts["size"].label(code) for code in cuts["size"].codes(other)} == {"size missing"}


def test_a_changed_level_leaves_nothing_to_learn() -> None:
    assert max(gains(*world(6_000, 1, level=1.5)).values()) < 0.002


def test_a_changed_meaning_is_learnt_by_its_feature() -> None:
    found = gains(*world(6_000, 2, level=1.0, off=1.5))
    assert found["kind"] > 0.03 and found["size"] < 0.002


def test_what_is_usual_is_not_gained_again() -> None:
    now, before = world(6_000, 3, off=1.5), world(6_000, 4, off=1.5)
    cuts = cut(now[0], NAMES)
    found, known = (residual(cuts, *one, 1.0) for one in (now, before))
    fresh = gained(found.sums["kind"], np.zeros_like(totals(known)["kind"])).sum()
    assert gained(found.sums["kind"], totals(known)["kind"]).sum() < fresh / 10


def test_several_classes_and_numbers() -> None:
    random = np.random.default_rng(5)
    table, _, day = world(6_000, 5)
    margins = random.normal(0, 1, (6_000, 3))
    chances = np.exp(margins) / np.exp(margins).sum(axis=1, keepdims=True)
    labels = (np.cumsum(chances, axis=1)[:, :-1] < random.random((6_000, 1))).sum(axis=1)
    is_a = table["kind"].to_numpy(zero_copy_only=False) == "a"
    three = Scored("multiclass", ("x", "y", "z"), np.where(is_a, (labels + 1) % 3, labels), chances, np.ones(6_000))
    found = gains(table, three, day)
    assert found["kind"] > 0.05 and found["size"] < found["kind"] / 3
    assert errors(three, day).shape == (6_000, 3)

    scores = random.normal(0, 1, 6_000)
    values = scores + random.normal(0, 2, 7)[day] + random.normal(0, 0.5, 6_000)
    for unit in (1.0, 1e6):
        number = Scored("regression", (), (values + is_a) * unit, scores * unit, np.ones(6_000))
        found = gains(table, number, day, 0.5 * unit)
        assert found["kind"] > 0.2 and found["size"] < 0.002


def test_rows_are_folded_where_blocks_are_too_small() -> None:
    table, truth, _ = world(3_000, 6, off=1.5)
    for blocks in (np.arange(3_000), np.zeros(3_000, np.int64)):
        assert gains(table, truth, blocks)["kind"] > 0.03


@settings(max_examples=20)
@given(
    rows=st.integers(1, 60),
    seed=st.integers(0, 99),
    days=st.integers(1, 5),
    edge=st.sampled_from([0.0, 0.5, 1.0]),
    positives=st.sampled_from([0.0, 0.3, 1.0]),
)
def test_sums_are_finite_and_add_up(rows: int, seed: int, days: int, edge: float, positives: float) -> None:
    """One row, one class, saturated scores: numbers, and the sums of parts are those of the whole."""
    table, _, _ = world(rows, seed, days=1)
    labels = np.random.default_rng(seed).random(rows) < positives
    truth = Scored("binary", ("0", "1"), labels, np.full(rows, edge), np.ones(rows))
    cuts = cut(table, NAMES)
    found = residual(cuts, table, truth, np.arange(rows) % days, 1.0)
    assert np.isfinite(found.loss) and found.loss > 0
    both = pooled([found, found])
    for name, sums in found.sums.items():
        assert np.isfinite(sums).all()
        assert totals(both)[name] == pytest.approx(2 * totals(found)[name])
        assert np.isfinite(gained(sums, totals(found)[name])).all()
