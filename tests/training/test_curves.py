from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from pipelines.errors import ConfigError, DataError
from pipelines.problem import Problem
from pipelines.training.curves import CURVE, SHARES, curve_page, learning_curve
from pipelines.training.fit import fit
from pipelines.training.search import measured
from tests.conftest import ToyProblem
from tests.training.kettles import kettles

pytestmark = pytest.mark.slow


@pytest.fixture
def problem(toy: ToyProblem) -> Problem:
    return toy(**{"training.candidates.logistic": {"model": "logistic"}})


@pytest.fixture(scope="module")
def train() -> pa.Table:
    return kettles(7, rows_a_day=30)


VALIDATION = kettles(1, rows_a_day=60, seed=1, first=8)


def points(table: pa.Table, kind: str) -> list[dict[str, Any]]:
    return table.filter(pc.equal(table["kind"], kind)).to_pylist()


def test_shares_and_windows_are_measured_on_the_validation_rows(problem: Problem, train: pa.Table) -> None:
    told: list[tuple[int, int]] = []
    table = learning_curve(problem, "logistic", train, VALIDATION, tell=lambda *counts: told.append(counts))
    assert table.schema == CURVE
    fits = len(SHARES) + 3  # all rows are both the whole share and the whole window
    assert told == [(done, fits) for done in range(fits + 1)]
    shares, windows = points(table, "rows"), points(table, "window")
    assert [(one["size"], one["rows"]) for one in shares] == [(one, round(210 * one)) for one in SHARES]
    assert [(one["size"], one["rows"]) for one in windows] == [(1, 30), (2, 60), (4, 120), (7, 210)]
    newest = train.filter(pc.greater_equal(train["partition"], "2024-01-06"))
    for rows, value in ((newest, windows[1]["value"]), (train, windows[-1]["value"]), (train, shares[-1]["value"])):
        model = fit(problem, "logistic", rows, VALIDATION)
        assert value == measured(problem, model, VALIDATION, "log_loss")
    assert shares[-1]["value"] < shares[0]["value"], "more rows teach more"


def test_each_share_is_part_of_the_next_and_drawn_by_the_seed(
    problem: Problem, toy: ToyProblem, train: pa.Table, monkeypatch: pytest.MonkeyPatch
) -> None:
    import pipelines.training.fit as module

    drawn: list[set[str]] = []

    def watched(problem: Problem, name: str, rows: pa.Table, validation: pa.Table, **more: Any) -> Any:
        keys = rows["kettle_id"].to_pylist()
        assert keys == sorted(keys, key=int), "rows stay in time's order"
        drawn.append(set(keys))
        return fit(problem, name, rows, validation, **more)

    monkeypatch.setattr(module, "fit", watched)
    first = learning_curve(problem, "logistic", train, VALIDATION)
    shares = drawn[1 : len(SHARES)]
    assert all(smaller < larger for smaller, larger in pairwise(shares))
    assert len(drawn) == 1 + len(SHARES) - 1 + 3, "what all rows teach is learnt once"
    assert learning_curve(problem, "logistic", train, VALIDATION) == first
    other = toy(**{"training.candidates.logistic": {"model": "logistic"}, "training.seed": 1})
    assert points(learning_curve(other, "logistic", train, VALIDATION), "rows")[:5] != points(first, "rows")[:5]


def test_parts_that_cannot_be_fitted_have_no_value(problem: Problem, train: pa.Table) -> None:
    newest = pc.equal(train["partition"], "2024-01-07")
    label = pc.if_else(newest, pa.scalar(0, pa.int8()), train["label"])
    rows = train.set_column(train.schema.get_field_index("label"), "label", label)
    table = learning_curve(problem, "logistic", rows, VALIDATION)
    assert [one["value"] is None for one in points(table, "window")] == [True, False, False, False]
    assert b"not measured" in curve_page(table, problem, "logistic")


def test_what_is_wrong_with_every_fit_is_heard_of(problem: Problem, train: pa.Table) -> None:
    with pytest.raises(ConfigError):
        learning_curve(problem, "logistic", train, VALIDATION, parameters={"no_such_parameter": 1})
    zeros = pa.array(np.zeros(len(train), np.int8))
    with pytest.raises(DataError):
        learning_curve(
            problem, "logistic", train.set_column(train.schema.get_field_index("label"), "label", zeros), VALIDATION
        )


def test_parameters_are_set_over_the_candidates_own(problem: Problem, train: pa.Table) -> None:
    loose = learning_curve(problem, "logistic", train, VALIDATION, parameters={"tol": 10.0})
    assert points(loose, "rows")[-1]["value"] == pytest.approx(np.log(2)), "the solver stays where it began"


def test_one_partition_and_few_rows_have_a_curve_of_their_own(problem: Problem) -> None:
    table = learning_curve(problem, "logistic", kettles(1, rows_a_day=12), VALIDATION)
    assert [one["size"] for one in points(table, "window")] == [1]
    assert [one["rows"] for one in points(table, "rows")] == [2, 3, 4, 6, 9, 12]
    assert b"<svg" in curve_page(table, problem, "logistic")


def test_the_page_shows_both_curves_and_needs_nothing_else(problem: Problem, train: pa.Table) -> None:
    table = learning_curve(problem, "logistic", train, VALIDATION)
    page = curve_page(table, problem, "logistic").decode()
    assert page.count("<svg") == 2 and "Newest days" in page and "log_loss" in page
    assert "<script" not in page and 'src="' not in page and "@import" not in page
    assert page.encode() == curve_page(table, problem, "logistic")
    empty = curve_page(table.slice(0, 0), problem, "logistic").decode()
    assert "there are not two points to draw" in empty and "<svg" not in empty
    assert "&lt;b&gt;" in curve_page(table, problem, "<b>").decode()
