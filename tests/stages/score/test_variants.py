"""A partition under release: both versions score every row, a hash says which serves it, and nothing changes that."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from itertools import count
from math import sqrt
from typing import Any

import numpy as np
import pyarrow.compute as pc
import pytest
from deltalake import DeltaTable, write_deltalake

from pipelines import ledger, local_run, store, summary, tracking
from pipelines.errors import DataError, NothingToDo, TransientError
from pipelines.monitoring.detect.detection import Detection
from pipelines.paths import manifest_uri, version_uri
from pipelines.problem import Problem, load_problem
from pipelines.release import ladder
from pipelines.release.versions import version_problem
from pipelines.stages import stage
from pipelines.stages.monitor import evidence
from pipelines.store import files
from tests.stages.conftest import HISTORY, WEEKS, Kept, configure, in_shards
from tests.stages.score.conftest import RELEASE, changed, end, scored, step, table, variants

pytestmark = pytest.mark.slow

WEEK = WEEKS[0]
ROWS = 6_236
CANARY = {"path": ["canary", "full"], "canary": {"shares": [0.2, 0.5], "max_decision_gap": 1.0}}
BEFORE = ["flight_id", "partition", "event_time", "score", "decision", "probabilities", "model_version", "variant"]

Released = Callable[..., Problem]


def is_in(unit: str, share: float, partition: str = "") -> bool:
    """As any program can say it."""
    text = "/".join([RELEASE, unit, *([partition] if partition else [])])
    return int.from_bytes(hashlib.md5(text.encode()).digest()[8:], "little") < int(share * 2**64)  # noqa: S324


def manifest(problem: Problem, partition: str = WEEK) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(store.read_bytes(manifest_uri(problem, partition)))
    return content


def rollout(problem: Problem) -> ladder.Rollout:
    (only,) = ladder.read(problem).rollouts
    return only


def test_in_a_shadow_the_champion_serves_every_row_as_without_it(
    released: Released, after: Callable[..., Kept]
) -> None:
    problem = released(1, path=["shadow", "full"])
    published = local_run.score(problem.name, WEEK)
    assert published.line() == f"{ROWS:,} predictions by version 1; version 2 in its shadow"
    served, shadow = table(problem, "predictions", WEEK), table(problem, "shadow_predictions", WEEK)
    alone = DeltaTable(after(1).folder / "store" / problem.name / "predictions").to_pyarrow_table()
    assert served.select(BEFORE).equals(alone.sort_by("flight_id").select(BEFORE).cast(served.select(BEFORE).schema))
    assert alone["experiment"].null_count == alone["propensity"].null_count == alone.num_rows
    assert shadow["flight_id"].equals(served["flight_id"])
    for rows, variant, version, chance in ((served, "champion", "1", 1.0), (shadow, "challenger", "2", 0.0)):
        assert set(rows["variant"].to_pylist()) == {variant} and set(rows["model_version"].to_pylist()) == {version}
        assert set(rows["propensity"].to_pylist()) == {chance} and set(rows["experiment"].to_pylist()) == {RELEASE}
        assert rows["unit"].equals(rows["flight_id"])
    assert not shadow["score"].equals(served["score"])
    kept = manifest(problem)
    assert kept["versions"] == {"1": ROWS} and kept["assignment"]["kind"] == "shadow"
    assert {gap["measure"] for gap in kept["gaps"]} >= {"mean score", "share of rows decided 1"}


def test_in_a_canary_a_hash_says_who_serves_a_row_whenever_it_is_scored(released: Released) -> None:
    problem = released(1, **CANARY)
    in_shards(problem.name)
    published = local_run.score(problem.name, WEEK)
    first = variants(problem, WEEK)
    assert {key: variant == "challenger" for key, variant in first.items()} == {
        key: is_in(key, 0.2, WEEK) for key in first
    }
    served, shadow = table(problem, "predictions", WEEK), table(problem, "shadow_predictions", WEEK)
    assert shadow["flight_id"].equals(served["flight_id"])
    versions = {"champion": "1", "challenger": "2"}
    for rows in (served, shadow):
        assert rows["model_version"].to_pylist() == [versions[variant] for variant in rows["variant"].to_pylist()]
        for variant, chance in (("champion", 0.8), ("challenger", 0.2)):
            own = rows.filter(pc.equal(rows["variant"], variant))
            assert set(own["propensity"].to_pylist()) == {chance}
    assert all(a != b for a, b in zip(served["variant"].to_pylist(), shadow["variant"].to_pylist(), strict=True))
    for chance in (0.8, 0.2):
        total = sum(1 / p for p in served["propensity"].to_pylist() if p == chance)
        assert abs(total - served.num_rows) <= 3 * sqrt(served.num_rows * (1 - chance) / chance)
    assert manifest(problem)["versions"] == {
        "1": list(first.values()).count("champion"),
        "2": list(first.values()).count("challenger"),
    }
    assert published.line() == f"{ROWS:,} predictions by version 1; 20% by version 2"

    step(problem, 1, WEEK)  # what comes next is shared otherwise; what was assigned is not
    local_run.score(problem.name, WEEK)
    assert variants(problem, WEEK) == first
    end(problem, "promoted", WEEK)
    source = f"runs:/{rollout(problem).challenger_run}/model"
    registered = tracking.client.client().create_model_version(problem.name, source, rollout(problem).challenger_run)
    assert registered.version in (2, "2")
    tracking.promote(problem, "2")
    local_run.score(problem.name, WEEK)
    again = table(problem, "predictions", WEEK)
    assert variants(problem, WEEK) == first
    assert again.drop_columns("scored_time").equals(served.drop_columns("scored_time"))


def test_a_release_that_is_gone_from_the_problem_keeps_whom_it_has_served(released: Released) -> None:
    problem = released(1, **CANARY)
    local_run.score(problem.name, WEEK)
    first = variants(problem, WEEK)
    configure(problem.name, lambda raw: raw.pop("release"))
    published = local_run.score(problem.name, WEEK)
    assert variants(problem, WEEK) == first and set(first.values()) == {"champion", "challenger"}
    assert published.challenger == "2"


class Killed(BaseException):
    """As SIGKILL: nobody catches it."""


WRITES = [
    *((store, name) for name in ("write_table", "append_once", "stage", "write_json", "write_bytes", "delete")),
    *((files, name) for name in ("write_json", "delete_folder")),  # as a stage with staging begins and ends
]


@pytest.mark.parametrize("is_done", [False, True], ids=["before a write", "after it"])
def test_whatever_is_killed_and_repeated_gives_the_same_rows_once(
    released: Released, monkeypatch: pytest.MonkeyPatch, is_done: bool
) -> None:
    problem = released(1, **CANARY)
    left = 0

    def dying(write: Callable[..., Any]) -> Callable[..., Any]:
        def killed(*arguments: Any, **named: Any) -> Any:
            nonlocal left
            left -= 1
            is_last = left == 0
            if is_last and not is_done:
                raise Killed
            result = write(*arguments, **named)
            if is_last:
                raise Killed
            return result

        return killed

    for module, name in WRITES:
        monkeypatch.setattr(module, name, dying(getattr(module, name)))

    def until_it_ends(task: Callable[[], Any]) -> tuple[Any, int]:
        nonlocal left
        for number in count(1):
            left = number
            try:
                with store.task():
                    return task(), number - 1
            except Killed:
                continue
        raise AssertionError("unreachable")

    shards, planned = until_it_ends(lambda: stage("score.plan")(problem.name, WEEK))
    handed_on = [until_it_ends(partial(stage("score.score"), problem.name, shard)) for shard in shards]
    published, writes = until_it_ends(lambda: stage("score.publish")(problem.name, WEEK, [one for one, _ in handed_on]))
    assert planned >= 2 and all(kills >= 1 for _, kills in handed_on) and writes >= 6
    served = variants(problem, WEEK)
    assert {key: variant == "challenger" for key, variant in served.items()} == {
        key: is_in(key, 0.2, WEEK) for key in served
    }
    assert len(served) == published.rows == table(problem, "shadow_predictions", WEEK).num_rows == ROWS
    assert [row["action"] for row in ledger.decisions(problem, "rollout")] == ["started", "assigned"]
    assert manifest(problem)["rows"] == ROWS


def unsound(problem: Problem, patch: pytest.MonkeyPatch) -> None:
    changed(problem, patch, lambda score, rows: score(rows) + 2.0)


def celsius(problem: Problem, patch: pytest.MonkeyPatch) -> None:
    def in_celsius(rows: Any) -> Any:
        for name in ("temp", "dewp"):
            values = pc.divide(pc.subtract(rows[name], 32.0), 1.8)
            rows = rows.set_column(rows.schema.get_field_index(name), name, values)
        return rows

    changed(problem, patch, lambda score, rows: score(in_celsius(rows)))


def raised(problem: Problem, patch: pytest.MonkeyPatch, by: float) -> None:
    changed(problem, patch, lambda score, rows: np.minimum(score(rows) + by, 1.0))


def lacking(problem: Problem, patch: pytest.MonkeyPatch) -> None:
    uri = version_uri(problem, "2", "problem.json")
    raw = store.read_json(uri)
    raw["features"]["history"].pop("carrier_late_rate_28d")
    store.write_json(uri, raw)


Break = Callable[[Problem, pytest.MonkeyPatch], None]


@pytest.mark.parametrize(
    ("harm", "reason"),
    [
        (unsound, "it could not score: DataError: the model gave scores that are no probabilities"),
        (lacking, "it could not score: "),
        (celsius, "on the same rows: "),
    ],
)
def test_a_challenger_that_shows_harm_is_taken_back_before_it_serves(
    released: Released, monkeypatch: pytest.MonkeyPatch, after: Callable[..., Kept], harm: Break, reason: str
) -> None:
    problem = released(1, is_twin=harm is celsius, path=["canary", "full"], canary={"max_decision_gap": 0.02})
    with monkeypatch.context() as patch:
        harm(problem, patch)
        published = local_run.score(problem.name, WEEK)
    assert published.taken_back is not None and published.taken_back.startswith(reason)
    assert "version 2 is taken back" in published.line() and published.rows == ROWS
    alone = DeltaTable(after(1).folder / "store" / problem.name / "predictions").to_pyarrow_table()
    columns = [name for name in alone.column_names if name != "scored_time"]
    served = table(problem, "predictions", WEEK).select(columns)
    assert served.equals(alone.sort_by("flight_id").select(columns).cast(served.schema))
    assert store.partition_keys(problem, "shadow_predictions") == []
    ended = rollout(problem)
    assert (ended.state, ended.assigned) == ("rolled back", {})
    (row,) = [row for row in ended.rows if row["action"] == "rolled back"]
    assert (row["verdict"], row["partition"], row["model_version"]) == ("guard", WEEK, "2")
    assert manifest(problem)["assignment"] is None and manifest(problem)["versions"] == {"1": ROWS}

    again = local_run.score(problem.name, WEEK)  # it is mended, and its release is over all the same
    assert again.challenger is None and set(variants(problem, WEEK).values()) == {"champion"}
    assert len(rollout(problem).rows) == len(ended.rows)


def test_a_challenger_is_taken_back_in_a_try_that_is_killed_and_repeated(
    released: Released, monkeypatch: pytest.MonkeyPatch
) -> None:
    problem = released(1, path=["canary", "full"])
    in_shards(problem.name)
    with monkeypatch.context() as patch:
        lacking(problem, patch)
        handed_on = scored(problem, WEEK)

    def killed(*_: Any) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(store, "delete", killed)
        with pytest.raises(Killed):
            stage("score.publish")(problem.name, WEEK, handed_on)
    assert rollout(problem).state == "rolled back" and store.partition_keys(problem, "predictions") == []
    published = stage("score.publish")(problem.name, WEEK, handed_on)
    assert published.taken_back == rollout(problem).rows[-1]["reason"]
    assert set(variants(problem, WEEK).values()) == {"champion"}
    assert [row["action"] for row in rollout(problem).rows] == ["started", "assigned", "rolled back"]


def test_a_shadow_ends_for_a_fault_and_not_for_a_gap(released: Released, monkeypatch: pytest.MonkeyPatch) -> None:
    problem = released(1, path=["shadow", "canary", "full"])
    assert local_run.score(problem.name, WEEK).taken_back is None
    differences = [abs(gap["difference"]) for gap in manifest(problem)["gaps"]]
    assert max(differences) > rollout(problem).settings.canary.max_decision_gap
    assert rollout(problem).state == "under way"
    assert table(problem, "shadow_predictions", WEEK).num_rows == ROWS
    lacking(problem, monkeypatch)
    assert local_run.score(problem.name, WEEK).taken_back is not None
    assert rollout(problem).state == "rolled back"
    assert set(variants(problem, WEEK).values()) == {"champion"}
    assert table(problem, "predictions", WEEK)["experiment"].null_count == ROWS
    assert store.partition_keys(problem, "shadow_predictions") == [], "what is left of it goes"


def test_a_gap_that_the_shadow_has_shown_is_let_pass_in_the_canary_and_a_new_one_is_not(
    released: Released, monkeypatch: pytest.MonkeyPatch
) -> None:
    allowed = {"max_decision_gap": 0.1}
    problem = released(3, is_twin=True, path=["shadow", "canary", "full"], canary=allowed)
    with monkeypatch.context() as patch:
        raised(problem, patch, by=0.15)
        local_run.score(problem.name, WEEK)
        step(problem, 1, WEEK)
        published = local_run.score(problem.name, WEEKS[1])
    assert published.taken_back is None and published.challenger_rows
    differences = {gap["measure"]: gap["difference"] for gap in manifest(problem, WEEKS[1])["gaps"]}
    assert differences["mean score"] > allowed["max_decision_gap"], "by itself it is too much"

    raised(problem, monkeypatch, by=0.4)
    reason = local_run.score(problem.name, WEEKS[2]).taken_back
    assert reason is not None and "mean score" in reason
    assert set(variants(problem, WEEKS[2]).values()) == {"champion"}
    assert set(variants(problem, WEEKS[1]).values()) == {"champion", "challenger"}, "what it has served it has served"


def test_what_a_challenger_has_served_is_not_given_to_the_champion(
    released: Released, monkeypatch: pytest.MonkeyPatch
) -> None:
    problem = released(1, **CANARY)
    local_run.score(problem.name, WEEK)
    before = table(problem, "predictions", WEEK)
    kept = manifest(problem)
    lacking(problem, monkeypatch)
    with pytest.raises(DataError, match="version 2 has served rows of the partition, and cannot score them again"):
        local_run.score(problem.name, WEEK)
    assert table(problem, "predictions", WEEK).equals(before) and manifest(problem) == kept
    assert rollout(problem).state == "under way"


def test_what_may_pass_by_itself_is_tried_again(released: Released, monkeypatch: pytest.MonkeyPatch) -> None:
    problem = released(1, **CANARY)
    in_shards(problem.name)
    shards = stage("score.plan")(problem.name, WEEK)
    assert [(shard.variant, shard.version) for shard in shards] == [("champion", "1")] * 3 + [("challenger", "2")] * 3

    def failing(error: Exception) -> None:
        def failed(*_of: object) -> None:
            raise error

        monkeypatch.setattr(tracking, "load_model", failed)

    for passing in (TransientError("MLflow does not answer"), OSError("no route")):
        failing(passing)
        with pytest.raises(type(passing)):
            stage("score.score")(problem.name, shards[-1])
    failing(FileNotFoundError("model.skops"))
    assert stage("score.score")(problem.name, shards[-1]).failed == "FileNotFoundError: model.skops"
    failing(KeyError("temp"))
    assert stage("score.score")(problem.name, shards[-1]).failed == "KeyError: 'temp'"
    with pytest.raises(KeyError):
        stage("score.score")(problem.name, shards[0])


def test_a_challenger_with_other_features_has_a_table_of_its_own(released: Released) -> None:
    problem = released(1, **CANARY)
    uri = version_uri(problem, "2", "problem.json")
    raw = store.read_json(uri)
    raw["features"]["history"]["carrier_late_rate_28d"]["window_days"] = 7
    store.write_json(uri, raw)
    local_run.score(problem.name, WEEK)
    own, other = (version_problem(problem, version) for version in "12")
    assert own.feature_set != other.feature_set
    for made_for in (own, other):
        assert table(made_for, "features", WEEK).num_rows == ROWS


def test_sticky_units_keep_their_version_and_monitoring_follows_the_champion(released: Released) -> None:
    problem = released(3, scored=1, unit="manufacturer", sticky=True, **CANARY)
    old = store.table_uri(problem, "predictions")  # of a store of before there were releases
    rows = DeltaTable(old).to_pyarrow_table().drop_columns(["experiment", "unit", "propensity"])
    write_deltalake(old, rows, mode="overwrite", schema_mode="overwrite", partition_by=["partition"])
    assert stage("score.plan")(problem.name, WEEK)[-1].variant == "champion", "it was served by the champion alone"
    local_run.score(problem.name, WEEKS[1])
    step(problem, 1, WEEKS[1])
    local_run.score(problem.name, WEEKS[2])
    for week, share in zip(WEEKS[1:3], (0.2, 0.5), strict=True):
        served = table(problem, "predictions", week)
        events = table(problem, "events", week)
        own = dict(zip(events["flight_id"].to_pylist(), events["manufacturer"].to_pylist(), strict=True))
        assert None in own.values()
        for row in served.to_pylist():
            unit = own[row["flight_id"]]
            assert row["unit"] == (row["flight_id"] if unit is None else unit)
            assert (row["variant"] == "challenger") == is_in(row["unit"], share)

    profiled = stage("monitor.profile")(problem.name, WEEKS[2])
    counts = {week: list(variants(problem, week).values()).count("champion") for week in WEEKS[:3]}
    assert (profiled.version, profiled.rows) == ("1", counts[WEEKS[2]])
    detected = stage("monitor.detect")(problem.name, profiled)
    detection = evidence.read(Detection, detected.detection)
    assert {part.version for part in detection.realised} == {"1"}
    for part in detection.realised:
        (week,) = part.partitions
        assert part.rows <= counts[week], "labelled rows of the champion alone"
        assert part.rows > 0.9 * counts[week]
    with suppress(NothingToDo):
        local_run.monitor(problem.name, WEEKS[2])
    lines = {line.partition: line for line in summary.partitions(problem)}
    for week in WEEKS[:3]:
        assert lines[week].scored == lines[week].rows and lines[week].champion == "1"


def test_without_a_release_nobody_asks_for_one(loop_after: Callable[..., str], monkeypatch: pytest.MonkeyPatch) -> None:
    loop = loop_after(1, is_scored=False)

    def asked(*_: Any) -> None:
        raise AssertionError("nobody wants to know")

    monkeypatch.setattr(ladder, "read", asked)
    published = local_run.score(loop, WEEK)
    problem = load_problem(loop)
    rows = table(problem, "predictions", WEEK)
    for name in ("experiment", "unit", "propensity"):
        assert rows[name].null_count == rows.num_rows
    assert published.line() == f"{ROWS:,} predictions by version 1"
    assert manifest(problem)["assignment"] is None and manifest(problem)["versions"] == {"1": ROWS}
    assert not store.exists(store.table_uri(problem, "shadow_predictions") + "/_delta_log/00000000000000000000.json")
    assert HISTORY[1] < WEEK
