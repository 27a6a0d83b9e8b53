"""Lets one writing request at a time into the api-server while its database is SQLite (see the middleware)."""

from __future__ import annotations

from airflow.configuration import conf
from airflow.plugins_manager import AirflowPlugin

from pipelines.embedded.one_writer import OneWriter


class OneWriterPlugin(AirflowPlugin):
    """Registers the middleware."""

    name = "one_writer"
    fastapi_root_middlewares = (
        [{"name": "one writer", "middleware": OneWriter, "args": [], "kwargs": {}}]
        if conf.get("database", "sql_alchemy_conn").startswith("sqlite")
        else []
    )
