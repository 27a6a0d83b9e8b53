"""A text in every place that treats a column by its kind: what is allowed, and what is never done with a text."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from pipelines.artifacts import table_schema
from pipelines.config import Column
from pipelines.dataset.single_feature import (
    beyond_the_others,
    single_feature_aucs,
    single_feature_r2s,
    single_feature_shares,
)
from pipelines.errors import ConfigError
from pipelines.evaluation.report.slices import slices
from pipelines.features.schema import feature_schema
from pipelines.ingest.extract import extracted_schema
from pipelines.ingest.shape.measure import shapes
from pipelines.metrics.scored import Scored
from pipelines.monitoring.estimate.domain import domain
from pipelines.problem import Problem
from pipelines.training.fit import fit
from tests.ingest.set_aside import expectations

ToyProblem = Callable[..., Problem]
NOON = datetime(2024, 1, 1, 12, tzinfo=UTC)
ROWS = 600
IS_LATE = np.random.default_rng(5).random(ROWS) < 0.5
WORDS = ["blade", "hull", "gate", "tail", "nose"]


def told(seed: int = 6) -> list[str]:
    """A text a row, of which most of the late ones have a word that no other has."""
    random = np.random.default_rng(seed)
    return [
        " ".join([*random.choice(WORDS, 4), "steam" if late and random.random() < 0.9 else "calm"]) for late in IS_LATE
    ]


TEXTS = told()


@pytest.fixture
def noted(toy: ToyProblem) -> Callable[..., Problem]:
    """The toy problem with a text among its features."""

    def build(**changes: Any) -> Problem:
        note = {"type": "text", "available": "cutoff", **changes.pop("note", {})}
        features = {"columns": ["shelf", "note"]}
        return toy(**{"columns.note": note, "features": features, **changes})

    return build


def rows_of(texts: list[str | None], labels: Any) -> pa.Table:
    count = len(texts)
    return pa.table(
        {
            "shelf": ["top", "bottom"] * (count // 2),
            "note": pa.array(texts, pa.string()),
            "label": labels,
            "weight": np.ones(count),
            "partition": ["2024-01-01"] * count,
            "event_time": pa.array([NOON] * count, pa.timestamp("us", "UTC")),
        }
    )


def test_a_config_without_texts_keeps_its_hash(toy: ToyProblem) -> None:
    dumped = toy().model_dump(mode="json")
    assert "min_length" not in dumped["columns"]["shelf"]
    assert "text" not in (dumped["training"]["candidates"]["xgboost"]["preprocessing"] or {})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"features.history": {"x": {"by": ["note"], "window_days": 2}}}, "features.history.x.by: 'note' is a text"),
        ({"features.crosses": {"x": {"of": ["note", "shelf"]}}}, "features.crosses.x.of: 'note' is a text"),
        ({"evaluation": {"slices": {"by": ["note"]}}}, "evaluation.slices.by: 'note' is a text"),
        ({"evaluation": {"fairness": {"groups": ["note"]}}}, "evaluation.fairness.groups: 'note' is a text"),
        ({"dataset.sampling": {"method": "cluster", "rows": 9, "by": ["note"]}}, "dataset.sampling.by: 'note'"),
        ({"dataset.resampling": {"method": "smote"}}, "smote goes by how far rows are apart"),
        (
            {"features.history": {"x": {"by": [], "of": "note", "function": "mean", "window_days": 2}}},
            "mean needs numbers, and 'note' is text",
        ),
        (
            {
                "evaluation": {
                    "behaviours": {"b": {"kind": "invariance", "columns": ["note"], "add": 1, "max_change": 1}}
                }
            },
            "'note' is a text, and add, multiply and noise are for numbers",
        ),
    ],
)
def test_no_groups_are_made_of_texts(noted: Callable[..., Problem], changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message.replace("(", r"\(")):
        noted(**changes)


def test_rules_of_texts_are_for_texts() -> None:
    with pytest.raises(ValueError, match="max_length is for text columns, not string"):
        Column(type="string", max_length=3)
    with pytest.raises(ValueError, match=r"min_length \(3\) is above max_length \(2\)"):
        Column(type="text", min_length=3, max_length=2)
    with pytest.raises(ValueError, match="unique"):
        Column(type="text", unique=True)


def test_lengths_and_scripts_are_checked_by_duckdb_and_great_expectations(noted: Callable[..., Problem]) -> None:
    problem = noted(note={"min_length": 2, "max_length": 12, "scripts": ["Latin", "Greek"]})
    texts = ["ok", "x", "", "much too long for it", "птица", "\u03b7, naïve 1!", "日本", None]
    usual = {"event_time": NOON, "known_time": NOON, "cutoff_time": NOON, "shelf": "top", "partition": "2024-01-01"}
    rows = [
        {**usual, "kettle_id": f"k{n}", "note": text, "faults": [], "number": n, "raw": None}
        for n, text in enumerate(texts)
    ]
    staged = pa.Table.from_pylist(rows, schema=extracted_schema(problem, "events"))
    found = {rule.rule: rule.unexpected for rule in expectations(problem, "events", staged)}
    assert found["note: not of 2..12 characters"] == 3
    assert found["note: letters of another script than Latin, Greek"] == 2
    assert found["note: of type text"] == 0


def test_shapes_see_the_length_of_a_text(noted: Callable[..., Problem]) -> None:
    problem = noted()
    columns = {field.name: pa.nulls(40, field.type) for field in table_schema(problem, "events")}
    columns |= {
        "kettle_id": pa.array([f"k{n}" for n in range(40)]),
        "partition": pa.array(["2024-01-01"] * 40),
        "event_time": pa.array([NOON] * 40, pa.timestamp("us", "UTC")),
        "note": pa.array(TEXTS[:40]),
    }
    (shape,) = shapes(problem, "events", pa.table(columns)).values()
    assert shape.columns["note (characters)"].kind == "number"
    assert shape.columns["note (characters)"].distinct == len({len(text) for text in TEXTS[:40]})
    assert "note" not in shape.columns


def test_words_that_tell_the_label_are_a_leak_like_any_other() -> None:
    table = rows_of(TEXTS, IS_LATE.astype(np.int8))
    found = single_feature_aucs(table, ["shelf", "note"], 0, {"note": "text"})["note"]
    assert found.by == "its words"
    assert found.value > 0.9
    names = pa.array(np.where(IS_LATE, "late", "on time"))
    found = single_feature_shares(rows_of(TEXTS, names), ["note"], 0, {"note": "text"})["note"]
    assert (found.by, found.value > 0.5) == ("its words", True)
    numbers = IS_LATE * 10.0 + np.random.default_rng(9).random(ROWS)
    found = single_feature_r2s(rows_of(TEXTS, numbers), ["note"], 0, {"note": "text"})["note"]
    assert (found.by, found.value > 0.6) == ("its words", True)
    assert beyond_the_others(rows_of(TEXTS, numbers), ["shelf", "note"], "note", 0, {"note": "text"}) > 0.5


def test_a_text_a_row_is_learnt_by_heart_by_nobody() -> None:
    texts = [f"word{n}" for n in range(ROWS)]
    found = single_feature_aucs(rows_of(texts, IS_LATE.astype(np.int8)), ["note"], 0, {"note": "text"})["note"]
    assert found.value == 0.5


def test_the_schema_tells_of_a_text_how_long_it_is(noted: Callable[..., Problem]) -> None:
    schema = feature_schema(noted(), rows_of(TEXTS, IS_LATE))
    (note,) = (feature for feature in schema if feature["name"] == "note")
    assert (note["type"], note["unit"], note["distinct"]) == ("text", "characters", None)
    assert (note["min"], note["max"]) == (min(map(len, TEXTS)), max(map(len, TEXTS)))


def test_slices_go_by_the_length_of_a_text(noted: Callable[..., Problem]) -> None:
    problem = noted(evaluation={"slices": {"min_rows": 30}})
    is_long = np.array([len(text) for text in TEXTS]) > np.median([len(text) for text in TEXTS])
    scores = np.where(is_long, 1 - IS_LATE, IS_LATE) * 0.8 + 0.1
    scored = Scored("binary", ("0", "1"), IS_LATE.astype(np.int64), scores, np.ones(ROWS))
    found = slices(problem, rows_of(TEXTS, IS_LATE), scored, np.arange(ROWS) % 20)["found"]
    assert {condition["feature"] for part in found for condition in part["conditions"]} >= {"note (characters)"}


@pytest.mark.parametrize("model", ["logistic", "forest", "xgboost", "hist_boosting"])
def test_every_kind_of_model_learns_from_words(noted: Callable[..., Problem], model: str) -> None:
    small = {"forest": {"n_estimators": 20}, "xgboost": {"n_estimators": 20}, "hist_boosting": {"max_iter": 20}}
    candidate = {"model": model, "parameters": small.get(model, {})}
    candidates = {"prior": {"model": "prior"}, "worded": candidate}
    problem = noted(training={"candidates": candidates, "baselines": ["prior"]})
    rows = rows_of(TEXTS, IS_LATE.astype(np.int64))
    made = fit(problem, "worded", rows.slice(0, 400), rows.slice(400))
    assert ((made.scores(rows.slice(400)) > 0.5) == IS_LATE[400:]).mean() > 0.8


def test_rows_with_other_words_are_told_from_held_out_ones(noted: Callable[..., Problem]) -> None:
    problem = noted()
    held_out = rows_of(TEXTS, IS_LATE)
    other = rows_of([text.replace("blade", "invoice").replace("hull", "paid") for text in TEXTS], IS_LATE)
    blocks = np.arange(ROWS) // 30
    rule = problem.evaluation.bootstrap
    moved = domain(problem, held_out, blocks, other, blocks, rule)
    same = domain(problem, held_out, blocks, rows_of(TEXTS[::-1][1:] + TEXTS[:1], IS_LATE), blocks, rule)
    assert moved is not None and same is not None
    assert moved.auc["value"] is not None and moved.auc["value"] > 0.8
    assert not same.has_moved
