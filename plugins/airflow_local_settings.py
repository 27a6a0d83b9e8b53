"""Airflow imports this by its name, early in every component: the place to load what forked tasks share."""

from __future__ import annotations

import sys

from include.preload import preload

if __name__ == "airflow_local_settings":  # and not once more as one of the plugins, under another name
    preload(sys.argv)

__all__: list[str] = []  # no setting of Airflow's is overridden
