"""Registers the timetable of ingest with Airflow, so that the scheduler can read it."""

from __future__ import annotations

from airflow.plugins_manager import AirflowPlugin

from include.timetable import ClosedPartitions


class EvergreenTimetable(AirflowPlugin):
    """Registers it."""

    name = "evergreen_timetable"
    timetables = [ClosedPartitions]  # noqa: RUF012 (Airflow declares it so)
