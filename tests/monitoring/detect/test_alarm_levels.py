"""Alarm levels follow what the past did: seasons pass, steps do not, and neither chance nor one bad week decides."""

from __future__ import annotations

import json
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pytest

from pipelines.config import Policy
from pipelines.monitoring.detect.alarm_levels import FLOOR, levels
from pipelines.monitoring.detect.detect import detect
from pipelines.monitoring.diagnose.diagnose import diagnose
from pipelines.profiles.profile import Profiles, Reference, profile, reference
from tests.profiles.conftest import binary

ROWS = 400


def week(place: int, *, rows: int = ROWS, warmer: float = 0.0, share: float = 0.3, wind: float = 0.0) -> pa.Table:
    """A week of a year: temp warms by .3 sd a week, wind changes at random, carriers stay as they are."""
    random = np.random.default_rng(place)
    gust = random.normal(0, 0.4)
    temp = random.normal(3 * place + warmer, 10, rows)
    return pa.table(
        {
            "temp": temp,
            "wind": random.normal(gust + wind, 1, rows),
            "carrier": np.where(random.random(rows) < share, "AA", random.choice(["UA", "B6", "DL"], rows)),
            "score": np.clip(0.4 + 0.004 * (temp - 3 * place) + random.normal(0, 0.1, rows), 0, 1),
        }
    )


def without_wind(rows: pa.Table) -> pa.Table:
    return rows.set_column(1, "wind", pa.nulls(rows.num_rows, pa.float64()))


def made_from(weeks: Sequence[int], *, no_wind: Sequence[int] = ()) -> Reference:
    parts = {f"w{place:03}": without_wind(week(place)) if place in no_wind else week(place) for place in weeks}
    every = pa.concat_tables(parts.values())
    history = pa.concat_tables(
        part.append_column("partition", pa.array([key] * part.num_rows)) for key, part in parts.items()
    )
    test = binary(every["score"].to_numpy(), np.arange(every.num_rows) % 2)
    return reference(every.drop_columns(["score"]), np.arange(every.num_rows) % 2, test, history=history)


@pytest.fixture(scope="module")
def known() -> Reference:
    return made_from(range(10))


@pytest.fixture(scope="module")
def since(known: Reference) -> dict[str, Profiles]:
    return {f"w{place:03}": look(known, week(place)) for place in range(10, 18)}


def look(known: Reference, rows: pa.Table) -> Profiles:
    return profile(rows.to_batches(), known)[0]


def kinds(known: Reference, since: dict[str, Profiles], rows: pa.Table, **policy: object) -> dict[str, list[str]]:
    """{kind: columns} of one partition after those of `since`."""
    settings = Policy.model_validate({"min_labels": 50, "false_alarm_rate": 0.05, **policy})
    found = detect(known, look(known, rows), since, settings.false_alarm_rate, settings.trailing_partitions)
    json.dumps(found.model_dump(mode="json"), allow_nan=False)
    return {one.kind: list(one.numbers) for one in diagnose(settings, known, found, []).findings}


def test_a_season_is_no_alarm_but_told(known: Reference, since: dict[str, Profiles]) -> None:
    found = kinds(known, since, week(18))
    assert set(found) == {"feature change"} and found["feature change"] == ["temp"]


def test_the_same_season_all_at_once_is_a_shift(known: Reference) -> None:
    assert kinds(known, {}, week(18))["covariate shift"] == ["temp"]


@pytest.mark.parametrize(
    ("rows", "column"),
    [(week(18, warmer=-40), "temp"), (week(18, share=0.7), "carrier"), (week(18, wind=6), "wind")],
)
def test_a_planted_step_names_its_column_first(
    known: Reference, since: dict[str, Profiles], rows: pa.Table, column: str
) -> None:
    found = kinds(known, since, rows)["covariate shift"]
    assert found[0] == column and len(found) == 1


def test_a_step_of_the_scores_is_prediction_drift(known: Reference, since: dict[str, Profiles]) -> None:
    rows = week(18)
    moved = rows.set_column(3, "score", pa.array(np.clip(rows["score"].to_numpy() + 0.4, 0, 1)))
    assert "prediction drift" in kinds(known, since, moved)
    assert "prediction drift" not in kinds(known, since, rows)


def test_a_feature_that_the_calendar_tells_is_measured_and_not_judged() -> None:
    def day(place: int) -> pa.Table:
        random = np.random.default_rng(place)
        temp, score = random.normal(20, 5, ROWS), np.clip(random.normal(0.4, 0.1, ROWS), 0, 1)
        return pa.table({"temp": temp, "weekday": [1.0 + place % 7] * ROWS, "score": score})

    parts = {f"d{place:03}": day(place) for place in range(40)}
    every = pa.concat_tables(parts.values())
    history = [rows.append_column("partition", pa.array([key] * rows.num_rows)) for key, rows in parts.items()]
    labels = np.arange(every.num_rows) % 2
    test = binary(every["score"].to_numpy(), labels)
    known = reference(every.drop_columns(["score"]), labels, test, history=pa.concat_tables(history))
    made_from = {key: part for key, part in known.partitions.items() if key != "d033"}  # in quarantine
    known = known.model_copy(update={"partitions": made_from})
    newest, settings = look(known, day(40)), Policy.model_validate({"min_labels": 50})
    judged, left_out = (detect(known, newest, of_calendar=names) for names in ((), {"weekday"}))
    assert "covariate shift" in [finding.kind for finding in diagnose(settings, known, judged, []).findings]
    assert judged.columns["weekday"].is_beyond("step")
    for fixed in ({}, {"max_column_psi": 0.5}):
        settings = Policy.model_validate({"min_labels": 50, **fixed})
        assert diagnose(settings, known, left_out, []).findings == ()
    weekday = left_out.columns["weekday"]
    assert weekday.is_of_calendar and weekday.psi > 0.5 and weekday.levels == {}


@pytest.mark.slow
def test_false_alarms_are_as_rare_as_asked_for(known: Reference) -> None:
    alarms, since = 0, {}
    for place in range(10, 50):
        rows = week(place)
        alarms += bool({"covariate shift", "prediction drift"} & kinds(known, since, rows).keys())
        since[f"w{place:03}"] = look(known, rows)
    assert alarms <= 4  # of 40, at .05 for inputs and scores each


def test_more_false_alarms_allowed_are_lower_levels(known: Reference, since: dict[str, Profiles]) -> None:
    found = look(known, week(18))
    low, high = (levels(known, [*since.values()], found, rate, 8)["temp"]["wasserstein"] for rate in (0.5, 0.001))
    assert low.step == high.step and (low.step_level or 0) < (high.step_level or 0)
    middling = week(18, wind=2)
    assert "covariate shift" in kinds(known, since, middling, false_alarm_rate=0.9)
    assert "covariate shift" not in kinds(known, since, middling, false_alarm_rate=1e-9)


def test_only_the_trailing_partitions_are_neighbours(known: Reference, since: dict[str, Profiles]) -> None:
    back = week(10, warmer=-5)  # the weather of eight weeks ago
    steps = {window: levels(known, [*since.values()], look(known, back), 0.05, window) for window in (2, 30)}
    near, far = (steps[window]["temp"]["wasserstein"].step or 0 for window in (30, 2))
    assert far > near + 0.3


def test_one_bad_week_does_not_raise_the_level_much(known: Reference, since: dict[str, Profiles]) -> None:
    found, bad = look(known, week(19)), look(known, week(18, warmer=1e6))
    usual, after = (
        levels(known, past, found, 0.05, 8)["temp"]["wasserstein"].step_level or 0
        for past in ([*since.values()], [*since.values(), bad])
    )
    assert usual <= after < 2 * usual


def test_few_rows_are_given_more_room(known: Reference, since: dict[str, Profiles]) -> None:
    past = [*since.values()]
    few, many = (levels(known, past, look(known, week(18, rows=rows)), 0.05, 8) for rows in (30, 4_000))
    for name, column in many.items():
        for distance, found in column.items():
            assert FLOOR[distance] <= (found.step_level or 0) <= (few[name][distance].step_level or 0)
    assert "covariate shift" not in kinds(known, since, week(18, rows=60))


@pytest.mark.parametrize("weeks", [[0], [0, 1, 2]])
def test_with_too_little_past_nothing_is_judged(weeks: list[int]) -> None:
    known = made_from(weeks)
    told = levels(known, [], look(known, week(9)), 0.05, 8)
    assert all(found.step_level is None for column in told.values() for found in column.values())
    assert "covariate shift" not in kinds(known, {}, week(40))


def test_a_reference_without_partitions_learns_what_is_usual(known: Reference, since: dict[str, Profiles]) -> None:
    former = known.model_copy(update={"partitions": {}})
    assert kinds(former, {}, week(18, warmer=-40)) == {}
    assert kinds(former, since, week(18, warmer=-40))["covariate shift"] == ["temp"]
    assert kinds(former, since, week(18)) == {}


def test_fixed_limits_take_the_place_of_what_is_usual(known: Reference, since: dict[str, Profiles]) -> None:
    season = kinds(known, since, week(18), max_column_psi=0.25)
    assert season["covariate shift"] == ["temp"] and "feature change" not in season
    assert "covariate shift" not in kinds(known, since, week(18, warmer=-40), max_column_psi=99)
    assert "prediction drift" in kinds(known, since, week(18), max_prediction_psi=1e-4)


def test_columns_of_nothing_are_not_judged() -> None:
    parts = [week(place).append_column("gone", pa.nulls(ROWS, pa.float64())) for place in range(6)]
    parts = [part.append_column("still", pa.array(np.ones(ROWS))) for part in parts]
    every = pa.concat_tables(parts)
    keys = np.repeat([f"w{place}" for place in range(6)], ROWS)
    test = binary(every["score"].to_numpy(), np.arange(every.num_rows) % 2)
    history = every.append_column("partition", pa.array(keys))
    known = reference(every.drop_columns(["score"]), np.arange(every.num_rows) % 2, test, history=history)
    assert kinds(known, {}, parts[-1]).keys() <= {"data fault"}  # the same rows as its own last week
    filled = week(6).append_column("gone", pa.array(np.ones(ROWS))).append_column("still", pa.array(np.ones(ROWS)))
    assert kinds(known, {}, filled)["covariate shift"] == ["gone"]
    slightly = np.ones(ROWS)
    slightly[0] = 2
    other = week(6).append_column("gone", pa.nulls(ROWS, pa.float64())).append_column("still", pa.array(slightly))
    assert "covariate shift" not in kinds(known, {}, other)


def test_what_had_no_value_at_first_may_not_lose_them_again() -> None:
    late = made_from(range(10), no_wind=[0, 1])
    found = kinds(late, {}, without_wind(week(10)))
    assert list(found["data fault"]) == ["wind null share"] and "wind" in found["covariate shift"]
    assert kinds(late, {}, week(10)) == {}


def test_gaps_between_are_usual() -> None:
    assert "data fault" not in kinds(made_from(range(10), no_wind=[4]), {}, without_wind(week(10)))


def test_what_never_had_a_value_and_has_is_a_shift() -> None:
    empty = made_from(range(10), no_wind=range(10))
    assert kinds(empty, {}, week(10))["covariate shift"] == ["wind"]
