"""Limits failed tries to log in to the api-server (see the middleware)."""

from __future__ import annotations

from airflow.plugins_manager import AirflowPlugin

from pipelines.embedded.login_tries import LoginTries, airflow_try


class LoginTriesPlugin(AirflowPlugin):
    """Registers the middleware."""

    name = "login_tries"
    fastapi_root_middlewares = [  # noqa: RUF012 (Airflow declares it so)
        {"name": "login tries", "middleware": LoginTries, "args": [], "kwargs": {"find_try": airflow_try}}
    ]
