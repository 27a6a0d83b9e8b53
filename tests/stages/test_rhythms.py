"""Problems cut into hours and months: a history, a model, and partitions that are played one by one."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest
import yaml

from include.pages import dag_of, path_of
from pipelines import ledger, local_run, store, summary
from pipelines.dataset import shares as shares_module
from pipelines.dataset.assemble import assembled
from pipelines.errors import ConfigError, NothingToDo
from pipelines.problem import Problem, load_problem
from pipelines.stages import function_of
from tests.mlflow_database import mlflow_in
from tests.stages.conftest import judged_by_both

pytestmark = pytest.mark.slow

ROWS = 90  # of a partition
PROBLEM: dict[str, Any] = {
    "description": "Does the kettle boil over?",
    "owner": "kitchen",
    "key": "kettle_id",
    "sources": {"kettles": {"path": "kettles.parquet", "time_column": "filled"}},
    "columns": {
        "litres": {"type": "float", "available": "cutoff"},
        "watts": {"type": "float", "available": "cutoff"},
        "shelf": {"type": "string", "available": "cutoff"},
    },
    "labels": {"description": "it boiled over", "after_maturity": "leave_out"},
    "features": {
        "columns": ["litres", "watts"],
        "history": {"boiled_over_40d": {"by": ["shelf"], "function": "mean", "window_days": 40}},
    },
    "training": {
        "candidates": {"prior": {"model": "prior"}, "logistic": {"model": "logistic"}},
        "baselines": ["prior"],
    },
    "gate": {"limits": {"auc": {"min": 0.5}}, "gain_over_baselines": {"auc": -0.1}, "gain_over_champion": {"auc": 0.0}},
    "evaluation": {"bootstrap": {"resamples": 50}},
    "monitoring": {"report_rows": None, "policy": {"updates": "manual", "min_labels": 80, "max_label_rate_shift": 0.3}},
}


class Played(NamedTuple):
    """A problem with a history, a model that learnt from it, and the partitions that were played after it."""

    problem: Problem
    history: list[str]
    keys: list[str]
    shares: list[list[str]]
    """Partitions that had their features computed together, by each task of the training."""


class Case(NamedTuple):
    """How time is cut, how many partitions are ingested as history, and those that follow."""

    partitions: dict[str, str]
    history: int
    keys: list[str]


CASES = {
    "hours from half past, while clocks go back": Case(
        {"every": "hour", "first": "2024-04-05T1430Z", "timezone": "Australia/Adelaide"},
        25,
        ["2024-04-06T1530Z", "2024-04-06T1630Z", "2024-04-06T1730Z"],
    ),
    "months": Case(
        {"every": "month", "first": "2021-01-01", "timezone": "Europe/Berlin"},
        30,
        ["2023-07-01", "2023-08-01", "2023-09-01"],
    ),
}


def kettles(problem: Problem, keys: list[str]) -> pa.Table:
    return pa.concat_tables([_filled(problem, key, place) for place, key in enumerate(keys)])


def _filled(problem: Problem, key: str, place: int) -> pa.Table:
    """The rows of a partition, from its first moment to its last."""
    random, parts = np.random.default_rng(place), problem.partitions
    litres, watts, noise = random.normal(size=(3, ROWS))
    start, end = (moment.astimezone(UTC) for moment in (parts.start(key), parts.end(key)))
    last = end - timedelta.resolution - start
    times = [start + last * n / (ROWS - 1) for n in range(ROWS)]
    return pa.table(
        {
            "kettle_id": [f"{key} {n}" for n in range(ROWS)],
            "litres": litres,
            "watts": watts,
            "shelf": random.choice(["top", "low"], ROWS),
            "filled": pa.array(times, pa.timestamp("us", "UTC")),
            "label": (litres + watts + noise > 0).astype(np.int8),
        }
    )


@pytest.fixture(scope="module", params=CASES)
def played(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Played]:
    case = CASES[request.param]
    root = tmp_path_factory.mktemp("rhythm")
    folder = root / "problems" / "kettle"
    folder.mkdir(parents=True)
    (folder / "problem.yaml").write_text(yaml.safe_dump(PROBLEM | {"partitions": case.partitions}))
    (folder / "events.sql").write_text("SELECT kettle_id, filled AS event_time, litres, watts, shelf FROM kettles")
    (folder / "labels.sql").write_text(
        "SELECT kettle_id, filled AS event_time, filled + INTERVAL 1 MINUTE AS known_time, label FROM kettles"
    )
    with pytest.MonkeyPatch.context() as patch:
        _enter(patch, root)
        problem = load_problem("kettle")
        parts = problem.partitions
        history = parts.between(parts.first_key, parts.shift(parts.first_key, case.history - 1))
        keys = parts.between(parts.shift(history[-1], 1), parts.shift(history[-1], 3))
        assert keys == case.keys
        pq.write_table(kettles(problem, [*history, *keys, parts.shift(keys[-1], 1)]), folder / "kettles.parquet")
        with judged_by_both():
            local_run.ingest("kettle", history[0], history[-1])
        parted: list[list[str]] = []

        def told(keys: Sequence[str], rows: Mapping[str, int]) -> list[list[str]]:
            parted.extend(made := shares_module.shares(keys, rows))
            return made

        with pytest.MonkeyPatch.context() as small:
            small.setattr(shares_module, "SHARE_ROWS", 8 * ROWS)
            small.setattr(sys.modules[function_of("train.sample").__module__], "shares", told)
            local_run.train("kettle")
        for key in keys:
            local_run.ingest("kettle", key, key)
            local_run.score("kettle", key)
            with pytest.raises(NothingToDo):  # no training is asked for
                local_run.monitor("kettle", key)
        yield Played(problem, history, keys, parted)


def _enter(patch: pytest.MonkeyPatch, root: Path) -> None:
    patch.setenv("EVERGREEN_PROBLEMS", str(root / "problems"))
    patch.setenv("EVERGREEN_STORE_URI", (root / "store").as_uri())
    patch.setenv("MLFLOW_TRACKING_URI", mlflow_in(root))
    patch.chdir(root)  # MLflow keeps artifacts beside its database


def test_each_partition_has_its_own_events_and_is_scored(played: Played) -> None:
    events = store.dataset(played.problem, "events").to_table(columns=["partition", "event_time"])
    counts = {group["values"]: group["counts"] for group in pc.value_counts(events["partition"]).to_pylist()}
    assert counts == dict.fromkeys([*played.history, *played.keys], ROWS)
    for key, time in zip(*(events[name].to_pylist() for name in ("partition", "event_time")), strict=True):
        assert played.problem.partitions.key_of(time) == key
    scored = store.dataset(played.problem, "predictions").to_table(columns=["partition", "score"])
    assert scored.num_rows == 3 * ROWS and scored["score"].null_count == 0
    assert sorted(set(scored["partition"].to_pylist())) == played.keys


def test_each_partition_is_watched_and_nothing_is_found(played: Played) -> None:
    rows = ledger.decisions(played.problem, "monitoring")
    assert [row["partition"] for row in rows] == played.keys
    assert {row["verdict"] for row in rows} <= {"stable"}, [row["reason"] for row in rows]
    summed = {row.partition: row for row in summary.partitions(played.problem)}
    assert all(summed[key].scored == ROWS for key in played.keys)
    assert summed[played.keys[0]].quality is not None, "its labels have come by the partition after it"


def test_features_that_are_computed_in_shares_are_those_of_one_task(played: Played) -> None:
    problem, as_of = played.problem, datetime(2025, 1, 1, tzinfo=UTC)
    *full, last = played.shares
    assert len(full) > 1 and {len(share) for share in full} == {8} and 1 <= len(last) <= 8
    learnt = [key for share in played.shares for key in share]
    assert learnt == [key for key in played.history if key in learnt], "each once, in time's order"
    events, labels = (store.dataset(problem, name) for name in ("events", "labels"))
    whole = assembled(problem, events, labels, as_of, dict.fromkeys(learnt, "train"))["train"]
    columns = ["kettle_id", "boiled_over_40d", "litres"]
    stored = store.dataset(problem, "features").to_table(columns=columns, filter=ds.field("partition").isin(learnt))
    assert stored.sort_by("kettle_id").to_pylist() == whole.select(columns).sort_by("kettle_id").to_pylist()


def test_its_pages_lie_where_the_ui_looks(played: Played) -> None:
    key = played.keys[0]
    for dag in ("ingest", "monitor"):
        path = path_of(f"kettle.{dag}", key, {}, lambda task: None)
        assert path is not None and dag_of(path) == dag
        assert store.exists(store.store_uri("kettle", path))
    evaluations = list((Path.cwd() / "store" / "kettle" / "evaluations").glob("*.html"))
    assert evaluations and all(dag_of(f"evaluations/{path.name}") == "train" for path in evaluations)


def test_what_closed_while_nobody_ran_is_named_with_the_command_that_loads_it(played: Played) -> None:
    problem, parts = played.problem, played.problem.partitions
    missing = parts.between(parts.shift(played.keys[-1], 1), parts.shift(played.keys[-1], 2))
    assert summary.missed(problem, parts.ingested_at(missing[-1])) == missing
    words = summary.missed_in_words(problem, missing)
    assert words is not None and words.startswith(f"2 {parts.every}s closed")
    assert f"--first {missing[0]} --last {missing[1]}" in words
    since, until = (f"{parts.start(key):%Y-%m-%dT%H:%M}" for key in missing)
    bounds = (since, until) if parts.every == "hour" else missing
    assert f"--from-date {bounds[0]} --to-date {bounds[1]};" in words


def test_a_day_is_no_key_of_an_hour_and_an_hour_none_of_a_month(played: Played) -> None:
    wrong = str(date(2024, 11, 3)) if played.problem.partitions.every == "hour" else "2021-01-01T00Z"
    with pytest.raises(ConfigError, match="names no partition"):
        local_run.run("score", "kettle", {"partition": wrong})


def test_how_it_was_known_can_be_built_again(played: Played) -> None:
    from pipelines.dataset.rebuild import rebuild

    problem, key = played.problem, played.keys[0]
    tables = (store.dataset(problem, name) for name in ("events", "labels"))
    rebuilt = rebuild(problem, key, datetime(2025, 1, 1, tzinfo=UTC), *tables)
    assert rebuilt["events"].num_rows == ROWS
    assert set(rebuilt["features"]["boiled_over_40d"].is_valid().to_pylist()) >= {True}
