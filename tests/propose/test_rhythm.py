from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pyarrow as pa
import pytest

from pipelines.propose.rhythm import Rhythm, reaching_labels
from pipelines.propose.table import Clock
from pipelines.propose.target import Known
from pipelines.propose.times import EventTime
from tests.propose.table_of import table_of

BERLIN = ZoneInfo("Europe/Berlin")
SPRING, AUTUMN = datetime(2024, 3, 31, 12), datetime(2024, 10, 27, 12)  # on whose nights clocks change


@pytest.mark.parametrize("clock", ["zoned", "local"])
@pytest.mark.parametrize(
    ("every", "newest", "last"),
    [
        ("day", AUTUMN.replace(hour=23, minute=45), "2024-10-27"),
        ("day", AUTUMN.replace(day=28, hour=0, minute=15), "2024-10-28"),
        ("day", SPRING.replace(hour=23, minute=45), "2024-03-31"),
        ("day", SPRING.replace(month=4, day=1, hour=0, minute=15), "2024-04-01"),
        ("hour", AUTUMN, "2024-10-27T11Z"),
        ("hour", SPRING, "2024-03-31T10Z"),
    ],
)
def test_the_last_partition_is_that_of_the_newest_label_though_clocks_change_on_the_way(
    tmp_path: Path, every: str, newest: datetime, last: str, clock: Clock
) -> None:
    before = newest.replace(hour=6) - timedelta(days=2)
    events = [before - timedelta(hours=12 * number) for number in range(20)][::-1]
    known = [*(moment + timedelta(days=1) for moment in events[:-1]), newest]

    def written(moments: list[datetime]) -> pa.Array:
        aware = [moment.replace(tzinfo=BERLIN).astimezone(UTC) for moment in moments]
        return pa.array(aware, pa.timestamp("s", "UTC")) if clock == "zoned" else pa.array(moments, pa.timestamp("s"))

    rows = pa.table({"placed_at": written(events), "closed_at": written(known), "returned": [n % 2 for n in range(20)]})
    keys = [key_of(every, moment) for moment in (events[0], events[-1])]
    with table_of(tmp_path, rows) as table:
        made = reaching_labels(
            Rhythm(every, keys[0], keys[1], 1, "", last_events=keys[1]),
            table,
            EventTime(("placed_at",), "placed_at", "placed_at", clock, ""),
            Known("closed_at", "closed_at", "", of_rows="closed_at", clock=clock),
            "returned",
            "Europe/Berlin",
        )
    assert (made.last, made.last_events, made.later_labels) == (last, keys[1], 0)


def key_of(every: str, moment: datetime) -> str:
    if every == "day":
        return f"{moment:%Y-%m-%d}"
    return f"{moment.replace(tzinfo=BERLIN).astimezone(UTC):%Y-%m-%dT%HZ}"
