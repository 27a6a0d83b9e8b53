"""Registers Evergreen's pages with Airflow's UI; include/evidence_app.py makes them."""

from __future__ import annotations

from functools import cached_property
from typing import Any

from airflow.plugins_manager import AirflowPlugin


class EvergreenUI(AirflowPlugin):
    """*Health* on the left: how every problem stands. An *Evidence* tab on every run: its verdicts, and its page."""

    name = "evergreen"
    external_views = [  # noqa: RUF012 (Airflow declares it so)
        {
            "name": "Health",
            "href": "/evergreen/health",
            "destination": "nav",
            "url_route": "health",
            "nav_top_level": True,
        },
        {
            "name": "Evidence",
            "href": "/evergreen/runs/{DAG_ID}/{RUN_ID}",
            "destination": "dag_run",
            "url_route": "evidence",
        },
    ]

    @cached_property
    def fastapi_apps(self) -> list[Any]:  # type: ignore[override]
        """Built on demand: every component loads this plugin, only the api-server serves pages."""
        from include.evidence_app import app

        return [{"app": app, "url_prefix": "/evergreen", "name": "Evergreen"}]
