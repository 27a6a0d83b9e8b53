"""Registers the timetables of ingest with Airflow, so that the scheduler can read them."""

from __future__ import annotations

from airflow.plugins_manager import AirflowPlugin

from include.timetable import ClosedPartitions, NewDeliveries


class EvergreenTimetable(AirflowPlugin):
    """Registers them."""

    name = "evergreen_timetable"
    timetables = [ClosedPartitions, NewDeliveries]  # noqa: RUF012 (Airflow declares it so)
