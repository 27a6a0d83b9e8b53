from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from pipelines.config import Partitions
from pipelines.errors import ConfigError
from pipelines.problem import Problem, load_problem, parse_problem
from pipelines.problem_folders import problem_names
from tests.required import OF_TASK, REQUIRED

ToyProblem = Callable[..., Problem]
DAYS = st.dates(date(2000, 1, 1), date(2040, 1, 1))


def test_every_problem_in_the_tree_loads() -> None:
    assert "flight_delay" in problem_names()
    for name in problem_names():
        problem = load_problem(name)
        assert problem.name == name
        as_pyyaml_reads_it = yaml.safe_load((problem.folder / "problem.yaml").read_text())
        assert problem == parse_problem(as_pyyaml_reads_it, problem.folder)


@pytest.mark.parametrize(("task", "loss"), [("binary", "log_loss"), ("multiclass", "log_loss"), ("regression", "rmse")])
def test_the_defaults_fit_the_task(task: str, loss: str, tmp_path: Path) -> None:
    """A problem.yaml with nothing in it but what is required is right, and no default names another task's metric."""
    problem = parse_problem(REQUIRED | OF_TASK[task], tmp_path)
    assert problem.gate.slices is not None
    assert (problem.training.select_by, problem.gate.slices.metric) == (loss, loss)
    own = {"training": {"select_by": None}}
    with pytest.raises(ConfigError, match=r"training.select_by"):
        parse_problem(REQUIRED | OF_TASK[task] | own, tmp_path)
    strict = {"gate": {"slices": {"max_loss": 0.1}}}
    slices = parse_problem(REQUIRED | OF_TASK[task] | strict, tmp_path).gate.slices
    assert slices is not None and (slices.metric, slices.max_loss) == (loss, 0.1)
    assert parse_problem(REQUIRED | OF_TASK[task] | {"gate": {"slices": None}}, tmp_path).gate.slices is None


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"fetures": {}}, "fetures: unknown key; did you mean 'features'?"),
        ({"partitions.evry": "day"}, "partitions.evry: unknown key; did you mean 'every'?"),
        ({"columns.shelf.nulable": True}, "columns.shelf.nulable: unknown key; did you mean 'nullable'?"),
        ({"gate.min_rows": "many"}, "gate.min_rows: Input should be a valid integer"),
        ({"gate.min_rows": 0}, "(value: 0)"),
        (
            {"features.columns": ["litrs"]},
            "features.columns: column 'litrs' is not declared under columns; did you mean 'litres'?",
        ),
        (
            {"features.history.shelf_rate_3d.by": ["shelv"]},
            "features.history.shelf_rate_3d.by: column 'shelv' is not declared",
        ),
        ({"features.history.litres": {"by": ["shelf"], "window_days": 1}}, "'litres' is a column already"),
        ({"columns.label": {"type": "float"}}, "'label' is a name that Evergreen gives itself"),
        ({"columns.boiled": {"type": "timestamp"}, "features.columns": ["boiled"]}, "'boiled' is a timestamp"),
        ({"columns.shelf.min": 1}, "min and max are for integer and float columns"),
        ({"columns.age.allowed": ["1"]}, "allowed is for string columns"),
        ({"columns.litres.min": 9}, "min (9.0) is above max (5.0)"),
        ({"training.baselines": ["piror"]}, "'piror' is not one of the candidates; did you mean 'prior'?"),
        ({"training.candidates": {"prior": {"model": "prior"}}}, "the baselines stand alone"),
        ({"partitions.timezone": "Europe/Berlim"}, "unknown time zone; did you mean 'Europe/Berlin'?"),
        ({"partitions.every": "week", "partitions.first": "2024-01-02"}, "2024-01-02 is not one; use 2024-01-01"),
        ({"partitions.last": "2023-01-01"}, "last (2023-01-01) is before first (2024-01-01)"),
        ({"dataset.sampling": {"method": "all", "fraction": 0.5}}, "fraction has no effect with method 'all'"),
        ({"dataset.sampling": {"method": "random"}}, "method 'random' needs one of fraction and rows"),
        ({"dataset.sampling": {"method": "stratified", "rows": 5}}, "method 'stratified' needs by"),
        (
            {"dataset.sampling": {"method": "stratified", "rows": 5, "by": ["shelf"], "shares": {"top": 0.7}}},
            "shares are not negative and sum to 1, not 0.7",
        ),
        (
            {"dataset.sampling": {"method": "cluster", "rows": 5, "by": ["shelv"]}},
            "dataset.sampling.by: column 'shelv' is not declared under columns; did you mean 'shelf'?",
        ),
        ({"dataset.sampling": {"method": "weighted", "rows": 5}}, "needs one of weight_column and half_life_days"),
        ({"labels.use": ["weak"]}, "use: weak needs labels.weak"),
        ({"labels.maturity_days": 1, "labels.delay_days": 2}, "maturity_days (1) ends before labels arrive (2 days)"),
        ({"labels.self_training": {"candidate": "xgbost"}}, "'xgbost' is not one of the candidates; did you mean"),
        ({"labels.weak": {"functions": {"f": {}}}}, "a labeling function has one of sql and python"),
        ({"sources.kettles": {"path": "a.csv", "package": "b"}}, "one of package, path, database and topic"),
        ({"sources.kettles": {"path": "kettles"}}, "format: cannot be told from the name"),
        ({"sources.kettles": {"database": "oracle://x", "table": "t"}}, "a postgresql:// or sqlite:/// URI"),
        ({"sources.kettles": {"database": "sqlite:///x"}}, "database goes with one of table and query"),
        ({"sources.events": {"path": "a.csv"}}, "'events' is a table of Evergreen's own"),
        (
            {"features.history.h": {"by": [], "of": "shelf", "window_days": 1}},
            "mean needs numbers, and 'shelf' is string",
        ),
        ({"features.crosses.c": {"of": ["shelf"]}}, "features.crosses.c.of: List should have at least 2 items"),
        ({"features.datetime.d": {"of": "age", "part": "hour"}}, "features.datetime.d.of: 'age' is integer"),
        ({"features.datetime.d": {"part": "year", "cyclical": True}}, "a year does not come again"),
        ({"monitoring.policy.at_least": 4}, "at_least (4) can never be reached in of_last (3)"),
        ({"replay": {"history_until": "2024-02-01", "until": "2024-01-02"}}, "replay: wanted partitions.first"),
        (
            {"partitions.every": "month", "replay": {"history_until": "2024-02-01", "until": "2024-03-02"}},
            "replay.until: a month starts on its first day and 2024-03-02 is not one; use 2024-03-01",
        ),
        ({"gate.limits.auc": {}}, "a limit needs min or max"),
        ({"owner": " "}, "owner: String should have at least 1 character"),
        ({"tags": ["brewing", "t" * 101]}, "tags.1: String should have at most 100 characters"),
        ({"training.engine": "processes"}, "training.engine: a section with settings of its own; write engine: {kind:"),
        ({"training.calibration": "platt"}, "write calibration: {method: platt} (value: 'platt')"),
        ({"training.candidates.xgboost": "xgboost"}, "write xgboost: {model: xgboost}"),
        ({"training.candidates.prior.parameters": {"strategy": "uniform"}}, "a prior has no use for parameters"),
        (
            {"training.candidates.guess": {"model": "random", "calibration": {"method": "platt"}}},
            "training.candidates.guess: a random has no use for calibration: remove them",
        ),
        (
            {"training.candidates.both": {"model": "voting", "of": ["xgboost"], "preprocessing": {}}},
            "a voting has no use for preprocessing: remove them, or give them to xgboost",
        ),
        (
            {"training.candidates.line": {"model": "logistic", "preprocessing": {"encoding": "one_hot"}}},
            "training.candidates.line: logistic cannot take litres as it is: missing.method is native; set",
        ),
        (
            {"training.candidates.line": {"model": "logistic", "preprocessing": {"missing": {"method": "mean"}}}},
            "logistic cannot take shelf as it is: encoding is native",
        ),
        ({"training.search": 5}, "training.search: a section with settings of its own; known: trials, seconds, "),
    ],
)
def test_a_wrong_setting_is_told_with_file_field_value_and_cure(toy: ToyProblem, change: dict, told: str) -> None:
    with pytest.raises(ConfigError) as caught:
        toy(**change)
    assert told in str(caught.value)
    assert "problem.yaml" in caught.value.where
    assert "evergreen check" in caught.value.cure


def test_each_wrong_setting_has_a_line_of_its_own(toy: ToyProblem) -> None:
    with pytest.raises(ConfigError, match="2 wrong settings"):
        toy(**{"gate.min_rows": -1, "scoring.batch_rows": 0})


def test_what_is_wrong_is_told_in_one_round_and_not_in_layers(toy: ToyProblem) -> None:
    changes = {
        "columns.shelf.nulable": True,  # a key
        "columns.boiled": {"type": "timestamp"},
        "features.columns": ["litrs", "boiled"],  # a name, and a type
        "features.history.litres": {"by": ["shelf"], "window_days": 1},
        "labels.classes": ["a", "b"],  # of another task
        "training.candidates.line": {"model": "logistic", "preprocessing": {"encoding": "one_hot"}},  # of its features
        "evaluation.slices.by": ["shelv"],  # a feature
    }
    with pytest.raises(ConfigError) as caught:
        toy(**changes)
    message = str(caught.value)
    for fault in (
        "columns.shelf.nulable: unknown key; did you mean 'nullable'?",
        "features.columns: column 'litrs' is not declared under columns; did you mean 'litres'?",
        "features.columns: 'boiled' is a timestamp",
        "features: 'litres' is a column already",
        "labels.classes: name all of them for the task multiclass, and none for binary",
        "evaluation.slices.by: 'shelv' is not a feature",
        "training.candidates.line: logistic cannot take litrs as it is",
    ):
        assert fault in message
    assert message.startswith("7 wrong settings\n")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("a: [1", "not valid YAML: expected ',' or ']', but got '<stream end>'"),
        ("- 1", "expected settings, found list"),
        ("", "expected settings, found NoneType"),
    ],
)
def test_a_file_that_is_no_config_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, told: str
) -> None:
    monkeypatch.setenv("EVERGREEN_PROBLEMS", str(tmp_path))
    (tmp_path / "odd").mkdir()
    (tmp_path / "odd" / "problem.yaml").write_text(text)
    with pytest.raises(ConfigError, match=told):
        load_problem("odd")
    with pytest.raises(ConfigError, match="did you mean 'odd'"):
        load_problem("od")


def test_the_feature_set_is_a_hash_of_the_definitions_alone(toy: ToyProblem) -> None:
    assert toy().feature_set == toy(owner="somebody else").feature_set
    assert toy().feature_set != toy(**{"features.history.shelf_rate_3d.window_days": 4}).feature_set
    assert toy().feature_set != toy(**{"features.columns": ["litres"]}).feature_set
    assert toy().config_hash != toy(owner="somebody else").config_hash


def test_words_about_a_feature_do_not_make_another_feature_set(toy: ToyProblem) -> None:
    told = {"columns.litres.description": "how much it holds", "columns.litres.owner": "ada"}
    assert toy(**told).feature_set == toy().feature_set
    crossed = {"features.crosses": {"c": {"of": ["shelf", "age"]}}}
    assert toy(**crossed).feature_set != toy().feature_set
    assert toy(**crossed, **{"columns.age.type": "float"}).feature_set != toy(**crossed).feature_set


def test_a_password_is_used_and_never_kept(toy: ToyProblem) -> None:
    uri = "postgresql://ada:secret@host/shop"
    problem = toy(**{"sources.kettles": {"database": uri, "table": "kettles"}})
    assert problem.sources["kettles"].database == uri
    assert "secret" not in problem.model_dump_json()
    assert "postgresql://ada:***@host/shop" in problem.model_dump_json()


@pytest.mark.parametrize(
    ("uri", "kept"),
    [
        ("postgresql://ada:p@ss@host/shop", "postgresql://ada:***@host/shop"),
        ("postgresql://ada:p/a#s@host/shop?ssl=on", "postgresql://ada:***@host/shop?ssl=on"),
        ("postgresql://host/shop?user=ada&password=p@ss", "postgresql://host/shop?user=ada&password=***"),
        ("postgresql://host/shop?sslpassword=p&ssl=on", "postgresql://host/shop?sslpassword=***&ssl=on"),
    ],
)
def test_a_password_is_kept_in_no_place_of_an_address(toy: ToyProblem, uri: str, kept: str) -> None:
    problem = toy(**{"sources.kettles": {"database": uri, "table": "kettles"}})
    assert problem.sources["kettles"].database == uri
    assert problem.model_dump(mode="json")["sources"]["kettles"]["database"] == kept


def test_a_past_problem_lives_at_the_end_of_its_newest_partition(toy: ToyProblem) -> None:
    now = datetime(2026, 1, 1, tzinfo=UTC)
    past = toy(**{"partitions.last": "2024-06-01"})
    assert past.present("2024-01-05", now) == past.partitions.end("2024-01-05")
    assert toy().present("2024-01-05", now) == now
    hours = {"partitions.every": "hour", "partitions.last": "2026-01-01T00Z"}
    assert toy(**hours).present("2025-12-31T22Z", now) == now, "its last hour has only begun"
    assert toy(**hours).present("2025-12-31T22Z", now + timedelta(hours=1)) == datetime(2025, 12, 31, 23, tzinfo=UTC)


@given(
    day=DAYS, every=st.sampled_from(["day", "week"]), zone=st.sampled_from(["UTC", "America/New_York", "Asia/Kolkata"])
)
def test_partitions_tile_time_without_gap_or_overlap(day: date, every: str, zone: str) -> None:
    parts = Partitions(every=every, first=date(1999, 12, 27), timezone=zone)  # type: ignore[arg-type]
    key = parts.key_of(day)
    assert parts.parse(key) <= day < parts.parse(parts.shift(key, 1))
    assert parts.end(key) == parts.start(parts.shift(key, 1))
    assert parts.between(key, parts.shift(key, 3)) == [parts.shift(key, step) for step in range(4)]
    assert parts.between(key, parts.shift(key, -1)) == []


@given(day=DAYS)
def test_a_day_that_starts_no_week_names_no_partition(day: date) -> None:
    weeks = Partitions(every="week", first=date(1999, 12, 27))
    if day.weekday():
        with pytest.raises(ConfigError, match=str(day - timedelta(days=day.weekday()))):
            weeks.parse(day.isoformat())
    else:
        assert weeks.parse(day.isoformat()) == day
