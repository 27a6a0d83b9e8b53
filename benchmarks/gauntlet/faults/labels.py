"""Faults of the labels as they arrive, or as they are assembled for a training."""

from __future__ import annotations

from benchmarks.gauntlet.faults.fault import Fault, Site, chance, in_labelled, in_sources, restage
from benchmarks.gauntlet.faults.sources import FLIGHT, flights

ROW = ("flight_id",)
FLIPPED = "arr_delay = CASE WHEN arr_delay >= 15 THEN 0 ELSE 30 END"
SHUFFLED = """UPDATE flights SET arr_delay = other.arr_delay FROM (
    SELECT a.row, b.arr_delay FROM
        (SELECT row, row_number() OVER (ORDER BY row) AS n FROM flights WHERE is_new AND arr_delay IS NOT NULL) AS a
        JOIN (SELECT arr_delay, row_number() OVER (ORDER BY hash(row)) AS n FROM flights
            WHERE is_new AND arr_delay IS NOT NULL) AS b USING (n)) AS other
    WHERE flights.row = other.row"""

GUESSED = "CASE WHEN split = 'train' AND label IS NOT NULL THEN (hash(flight_id) % 4 = 0)::TINYINT ELSE label END"


def _early(site: Site) -> None:
    """Labels that say they were known before the flight: the history features then count the flight itself."""
    path = site.folder / "labels.sql"
    text = path.read_text()
    begin = text.index("    f.time_hour + to_minutes(f.minute) + to_minutes(CAST(f.dep_delay")
    end = text.index(" AS known_time")
    path.unlink()
    path.write_text(text[:begin] + "    f.time_hour + to_minutes(f.minute) - to_days(9)" + text[end:])


def _few(site: Site) -> None:
    restage(site, "SELECT * FROM rows WHERE split != 'test' OR hash(flight_id) % 20 = 0")


def _without_positives(site: Site) -> None:
    restage(
        site,
        f"""SELECT * REPLACE (CASE WHEN split = 'test' AND label = 1 AND {chance(0.5, *ROW)} THEN NULL
        ELSE label END AS label) FROM rows""",
    )


FAULTS = [
    Fault(name, "labels", state, harm, is_critical)
    for name, state, harm, is_critical in (
        ("labels flipped in the new weeks", "history", in_sources(flights(FLIPPED, "arr_delay IS NOT NULL")), True),
        (
            "labels flipped in the test rows",
            "labelled",
            in_labelled("CASE WHEN split = 'test' THEN 1 - label ELSE label END"),
            True,
        ),
        (
            "labels flipped in the training rows",
            "labelled",
            in_labelled("CASE WHEN split = 'train' THEN 1 - label ELSE label END"),
            True,
        ),
        ("labels known before the event", "history", _early, True),
        ("labels shuffled", "history", in_sources(SHUFFLED), False),
        ("labels shuffled in the training rows", "labelled", in_labelled(GUESSED), False),
        (
            "30 % of the labels wrong",
            "history",
            in_sources(flights(FLIPPED, f"arr_delay IS NOT NULL AND {chance(0.3, *FLIGHT)}")),
            False,
        ),
        ("half of the labels missing", "history", in_sources(flights("arr_delay = NULL", chance(0.5, *FLIGHT))), False),
        ("only late flights have a label", "history", in_sources(flights("arr_delay = NULL", "arr_delay < 15")), False),
        ("half of the late flights have no label", "labelled", _without_positives, False),
        ("no labels", "history", in_sources(flights("arr_delay = NULL")), False),
        ("delays in hours", "history", in_sources(flights("arr_delay = arr_delay // 60")), False),
        ("late means half an hour", "history", in_sources(flights("arr_delay = arr_delay - 15")), False),
        (
            "30 % of the test rows' labels wrong",
            "labelled",
            in_labelled(f"CASE WHEN split = 'test' AND {chance(0.3, *ROW)} THEN 1 - label ELSE label END"),
            False,
        ),
        ("too few test rows", "labelled", _few, False),
    )
]
