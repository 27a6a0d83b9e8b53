from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import skops.io

from pipelines.errors import ConfigError
from pipelines.training.heuristic import Heuristic
from pipelines.training.model import TRUSTED_TYPES

ROWS = pa.table(
    {"shelf": ["top", None, "bottom", "top"], "litres": [1.0, 2.0, 4.0, None], "hot": [True, False, None, True]}
)
Y, WEIGHT = np.array([0, 1, 1, 0]), np.array([1.0, 1.0, 1.0, 1.0])


def heuristic(expression: str, task: str = "binary", classes: tuple[str, ...] = ("0", "1")) -> Heuristic:
    return Heuristic(expression, task, list(classes), ["shelf", "litres", "hot"], "problem.yaml, rule")


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("litres / 4", [0.25, 0.5, 1, 0.5]),
        ("CASE shelf WHEN 'top' THEN 0.9 END", [0.9, 0.5, 0.5, 0.9]),
        ("hot", [1, 0, 0.5, 1]),
        ("0.25 -- a remark", [0.25] * 4),
        ("NULL", [0.5] * 4),
    ],
)
def test_it_gives_the_probability_of_1_and_where_it_is_silent_the_prior(expression: str, expected: list[float]) -> None:
    fitted = heuristic(expression).fit(ROWS, Y, WEIGHT)
    assert fitted.scores(ROWS) == pytest.approx(expected)
    assert fitted.scores(ROWS.to_pandas()) == pytest.approx(expected)
    assert fitted.scores(ROWS.slice(2, 1)) == pytest.approx(expected[2:3]) and len(fitted.scores(ROWS.slice(0, 0))) == 0
    again = skops.io.loads(skops.io.dumps(fitted), trusted=TRUSTED_TYPES)
    assert np.array_equal(again.scores(ROWS), fitted.scores(ROWS))


def test_of_several_classes_it_names_one_and_of_a_regression_the_value() -> None:
    named = heuristic(
        "CASE WHEN litres > 3 THEN 'over' WHEN litres < 2 THEN 'calm' END", "multiclass", ("calm", "so", "over")
    )
    found = named.fit(ROWS, np.array([0, 1, 2, 2]), WEIGHT).scores(ROWS)
    assert found.tolist() == [[1, 0, 0], [0.25, 0.25, 0.5], [0, 0, 1], [0.25, 0.25, 0.5]]
    value = heuristic("10 * litres", "regression", ()).fit(ROWS, np.array([1.0, 2.0, 3.0, 6.0]), WEIGHT)
    assert value.scores(ROWS) == pytest.approx([10, 20, 40, 3])


def test_rows_come_back_in_their_order() -> None:
    count = 300_000
    rows = pa.table({"shelf": ["top"] * count, "litres": np.arange(count) / count, "hot": [True] * count})
    fitted = heuristic("litres").fit(rows.slice(0, 10), np.zeros(10), np.ones(10))
    assert np.array_equal(fitted.scores(rows), np.arange(count) / count)


@pytest.mark.parametrize(
    ("expression", "said"),
    [
        ("litre / 4", "litres"),
        ("litres +", "fails"),
        ("litres", "2 is no probability"),
        ("-litres", "-1 is no probability"),
        ("shelf", "fails"),
        ("'nan'::DOUBLE", "nan is no number"),
        ("avg(litres)", "fails"),
        ("row_number() OVER () / 100", "fails"),
    ],
)
def test_a_wrong_expression_is_told_with_place_and_features(expression: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said) as refused:
        heuristic(expression).fit(ROWS, Y, WEIGHT)
    assert refused.value.where == "problem.yaml, rule"
    if "is no" not in said:
        assert "shelf, litres, hot" in refused.value.cure


def test_an_unknown_class_is_told_with_those_that_are_known() -> None:
    with pytest.raises(ConfigError, match=r"'boiling' is no class[\s\S]*calm, over"):
        heuristic("'boiling'", "multiclass", ("calm", "over")).fit(ROWS, Y, WEIGHT)


def test_it_reads_no_file(tmp_path: Path) -> None:
    """The expression is part of the model's file, which may come from anywhere."""
    secret = tmp_path / "secret.csv"
    secret.write_text("chance\n0.5\n")
    with pytest.raises(ConfigError, match="fails"):
        heuristic(f"(SELECT chance FROM read_csv('{secret}'))").fit(ROWS, Y, WEIGHT)
