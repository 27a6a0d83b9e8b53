"""What a problem.yaml leaves out: written out it means the same, and what cannot be written out is told."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.config import written_out
from pipelines.errors import ConfigError
from pipelines.problem import Problem, parse_problem, resolve

SHORT: dict[str, Any] = {
    "description": "Will this pot crack in the kiln?",
    "owner": "pottery",
    "key": "pot_id",
    "partitions": {"every": "week", "first": "2024-01-01"},
    "sources": {
        "pots": {
            "path": "pots.csv",
            "columns": {
                "pot_id": "string",
                "fired_at": "timestamp",
                "clay": "string",
                "grams": "float",
                "shards": "integer",
                "sold_at": "timestamp",
                "cracked": "boolean",
            },
        }
    },
    "time": "fired_at",
    "label": "cracked",
    "available": "cutoff",
    "columns": {"grams": {"min": 50}, "shards": {"available": "later"}},
    "features": {"columns": "all"},
}
CUTOFF = {"available": "cutoff"}
LONG: dict[str, Any] = {
    **SHORT,
    "columns": {
        "clay": {"type": "string", **CUTOFF},
        "grams": {"type": "float", "min": 50, **CUTOFF},
        "shards": {"type": "integer", "available": "later"},
        "sold_at": {"type": "timestamp", **CUTOFF},
    },
    "features": {"columns": ["clay", "grams"]},
    "training": {
        "baselines": ["prior"],
        "candidates": {"prior": {"model": "prior"}, "logistic": {"model": "logistic"}, "xgboost": {"model": "xgboost"}},
    },
    "gate": {
        "limits": {"auc": {"min": 0.5}},
        "gain_over_baselines": {"auc": 0.0},
        "gain_over_champion": {"auc": -0.02},
    },
}
del LONG["time"], LONG["label"], LONG["available"]
EVENTS = """SELECT
    "pot_id",
    "fired_at" AS event_time,
    "clay",
    "grams",
    "shards",
    "sold_at"
FROM "pots\""""


def pots(**changes: Any) -> Problem:
    return parse_problem(changed(**changes), Path("pots"))


def changed(**changes: Any) -> dict[str, Any]:
    """The short settings; a dotted name changes one, None takes it out."""
    raw = copy.deepcopy(SHORT)
    for path, value in changes.items():
        *parents, last = path.split(".")
        place = raw
        for parent in parents:
            place = place.setdefault(parent, {})
        if value is None:
            place.pop(last, None)
        else:
            place[last] = value
    return raw


def test_a_short_problem_is_its_long_form(tmp_path: Path) -> None:
    short, long = pots(), parse_problem(LONG, tmp_path)
    kept = short.resolved()["settings"]
    assert (kept.pop("time"), kept.pop("label")) == ("fired_at", {"value": "cracked", "known": None})
    assert kept == long.resolved()["settings"]
    assert short.feature_set == long.feature_set
    assert short.sql("events") == EVENTS
    assert short.queries == ("events", "labels")


def test_what_a_run_keeps_of_it_is_whole_and_reads_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EVERGREEN_PROBLEMS", str(tmp_path))
    short = pots()
    kept = json.loads(json.dumps(short.resolved()))
    assert kept["settings"]["columns"]["grams"]["type"] == "float"
    assert kept["queries"]["events"] == EVENTS
    assert kept["queries"]["labels"].endswith('"cracked" AS label\nFROM "pots"\nWHERE "cracked" IS NOT NULL')
    again = resolve(kept, "pots")
    assert again.resolved() == kept
    assert (again.config_hash, again.feature_set) == (short.config_hash, short.feature_set)
    with_a_model = parse_problem(short.model_dump(mode="json"), Path("pots"))
    assert with_a_model.config_hash == short.config_hash
    assert with_a_model.sql("labels") == short.sql("labels")


def test_a_type_that_changes_in_the_source_changes_the_feature_set() -> None:
    assert pots(**{"sources.pots.columns.grams": "integer"}).feature_set != pots().feature_set
    assert pots(**{"columns.grams.type": "integer"}).columns["grams"].type == "integer", "what is said goes first"


def test_a_config_that_says_none_of_it_keeps_its_hash() -> None:
    """Versions and runs of before know nothing of these settings."""
    kept = parse_problem(LONG, Path("pots")).model_dump(mode="json")
    assert not {"time", "label", "available"} & set(kept)
    assert set(kept["features"]) == {"columns", "history", "crosses", "datetime"}


@pytest.mark.parametrize(
    ("label", "value", "known", "events"),
    [
        ("cracked", '"cracked"', '"fired_at"', ["clay", "grams", "shards", "sold_at"]),
        ("shards > 1", "(shards > 1)", '"fired_at"', ["clay", "grams", "shards", "sold_at", "cracked"]),
        ({"value": "cracked", "known": "sold_at"}, '"cracked"', '"sold_at"', ["clay", "grams", "shards"]),
        (
            {"value": "cracked", "known": "fired_at + INTERVAL 2 DAY"},
            '"cracked"',
            "(fired_at + INTERVAL 2 DAY)",
            ["clay", "grams", "shards", "sold_at"],
        ),
    ],
)
def test_the_label_is_a_column_or_an_expression(label: Any, value: str, known: str, events: list[str]) -> None:
    problem = pots(label=label)
    assert f"{known} AS known_time,\n    {value} AS label" in problem.sql("labels")
    assert problem.sql("labels").endswith(f"WHERE {value} IS NOT NULL")
    assert list(problem.columns) == events, "what the label is made of is there where `columns` says so"


def test_all_columns_but_times_what_is_known_later_and_what_is_excluded_are_features() -> None:
    assert pots().feature_names == ["clay", "grams"]
    assert pots(**{"features.exclude": ["clay"]}).feature_names == ["grams"]
    careful = {"available": "later", "columns": {"clay": CUTOFF}}
    assert pots(**careful).feature_names == ["clay"]


def test_availability_is_said_of_all_or_of_each() -> None:
    """Without it a feature has none, which stops a training."""
    unsaid = pots(available=None, **{"features.columns": ["grams"]})
    assert unsaid.columns["grams"].available is None
    assert pots().columns["grams"].available == "cutoff"
    assert pots().columns["shards"].available == "later"


def test_a_column_of_events_sql_takes_the_type_that_sources_agree_on() -> None:
    sources = {"pots": SHORT["sources"]["pots"], "kilns": {"path": "kilns.csv", "columns": {"grams": "float"}}}
    written = {"time": None, "label": None, "sources": sources, "columns": {"grams": {"min": 50}}}
    assert pots(**written).columns["grams"].type == "float"
    sources["kilns"]["columns"] = {"grams": "integer"}
    with pytest.raises(ConfigError, match=r"columns.grams.type: missing: add it, or declare a column of this name"):
        pots(**written)


def test_baselines_are_the_candidates_that_learn_nothing() -> None:
    rule = {"model": "heuristic", "sql": "grams / 1000"}
    training = pots(training={"candidates": {"rule": rule, "trees": {"model": "xgboost"}}}).training
    assert training.baselines == ["rule"]
    with pytest.raises(ConfigError, match=r"training.baselines: missing: add it"):
        pots(training={"candidates": {"trees": {"model": "xgboost"}}})


def test_a_gate_has_all_its_thresholds_from_the_file_or_none() -> None:
    gate = pots(gate={"min_rows": 50}).gate
    assert (gate.min_rows, gate.gain_over_baselines, gate.gain_over_champion) == (50, {"auc": 0.0}, {"auc": -0.02})
    with pytest.raises(ConfigError, match="2 wrong settings") as caught:
        pots(gate={"limits": {"auc": {"min": 0.6}}})
    assert "gate.gain_over_baselines: missing: add it" in caught.value.what
    assert "gate.gain_over_champion: missing: add it" in caught.value.what


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"time": None}, "label: goes with `time`"),
        ({"time": "fired"}, "time: source 'pots' has no column 'fired'; did you mean 'fired_at'?"),
        ({"time": "clay"}, "time: 'clay' is string; declare it as a timestamp under sources.pots.columns"),
        ({"key": "pot"}, "key: source 'pots' has no column 'pot'; did you mean 'pot_id'?"),
        ({"label": "craked"}, "label: 'craked' names no column of source 'pots'; did you mean 'cracked'?"),
        ({"label": {"value": "cracked", "known": "soldat"}}, "label.known: 'soldat' names no column of source 'pots'"),
        ({"label": {"value": "cracked", "knwn": "sold_at"}}, "label.knwn: unknown key; did you mean 'known'?"),
        ({"sources.pots.columns": None}, "sources.pots.columns: missing: declare them, such as {pot_id: string, fired"),
        ({"sources.kilns": {"path": "kilns.csv"}}, "time: events are the rows of one source, and there are 2 (pots, k"),
        ({"columns.grms": {"min": 1}}, "columns.grms: source 'pots' has no such column; did you mean 'grams'?"),
        ({"sources.pots.columns.Kiln No": "string"}, "sources.pots.columns: 'Kiln No' cannot be the name of a column"),
        ({"sources.pots.columns.weight": "float"}, "sources.pots.columns: 'weight' cannot be the name of a column"),
        ({"columns.cracked": {"min": None}}, "columns.cracked.available: the label is made of 'cracked'; say `cutoff`"),
        ({"available": "cutof"}, "available: Input should be 'cutoff' or 'later' (value: 'cutof')"),
        ({"available": None}, "features.columns: all: nothing says when clay, grams is known; say `available: cutoff`"),
        ({"available": "later"}, "features.columns: all: none is left"),
        ({"features.exclude": ["gram"]}, "features.exclude: there is no column 'gram'; did you mean 'grams'?"),
        ({"features": {"columns": ["grams"], "exclude": ["clay"]}}, "features.exclude: goes with `columns: all`"),
        ({"columns.grams.min": "low"}, "columns.grams.min: Input should be a valid number"),
    ],
)
def test_what_cannot_be_written_out_is_told_with_field_value_and_cure(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        pots(**change)
    assert f"  {message}" in caught.value.what
    assert caught.value.what.startswith("1 wrong setting\n"), "and nothing that only follows from it"
    assert caught.value.where == "pots/problem.yaml"


def test_what_is_wrong_elsewhere_is_told_along_with_it() -> None:
    with pytest.raises(ConfigError) as caught:
        pots(**{"time": "fired", "gate": {"min_rows": 0}, "columns.clay.nulable": True})
    for fault in ("time: source 'pots' has no column", "gate.min_rows: ", "columns.clay.nulable: unknown key"):
        assert fault in caught.value.what


WORDS = st.sampled_from(["all", "cutoff", "grams", "cracked", "timestamp"])
KEYS = st.sampled_from(["grams", "columns", "value", "known", "exclude", "model", "x"])
ODD = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 2) | WORDS,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(KEYS, inner, max_size=2),
    max_leaves=4,
)
PLACES = [
    "task",
    "key",
    "time",
    "label",
    "available",
    "sources",
    "sources.pots",
    "sources.pots.columns",
    "sources.pots.columns.grams",
    "columns",
    "columns.grams",
    "columns.grams.type",
    "columns.grams.available",
    "features",
    "features.columns",
    "features.exclude",
    "training",
    "training.candidates",
    "training.candidates.prior",
    "training.baselines",
    "gate",
    "gate.slices",
    "gate.limits",
]


@given(st.dictionaries(st.sampled_from(PLACES), ODD, max_size=3))
def test_any_shape_is_read_or_told_as_wrong_and_what_is_written_out_stays_as_it_is(places: dict[str, Any]) -> None:
    raw = copy.deepcopy(SHORT)
    for path in sorted(places):
        *parents, last = path.split(".")
        place: Any = raw
        for parent in parents:
            place = place.setdefault(parent, {}) if isinstance(place, dict) else {}
        if isinstance(place, dict):
            place[last] = places[path]
    before = copy.deepcopy(raw)
    try:
        problem = parse_problem(raw, Path("pots"))
    except ConfigError as error:
        assert "problem.yaml" in error.where
    else:
        kept = problem.model_dump(mode="json")
        assert parse_problem(kept, Path("pots")).model_dump(mode="json") == kept
        assert written_out(kept) == kept
    assert raw == before, "the settings that were read are left alone"
