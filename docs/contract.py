"""The tables, files, decisions and environment variables of docs/reference, in Markdown."""

from __future__ import annotations

from collections.abc import Mapping

from pipelines.artifacts import FILES, LEDGER_KINDS, TABLES, Table
from pipelines.health.exposition import FAMILIES

# What is read from the environment, by whom it is set; a new variable has to be written down here.
ENVIRONMENT = {
    "EVERGREEN_STORE_URI": "where tables and files are kept: `s3://bucket/prefix` or `file:///folder`",
    "MLFLOW_TRACKING_URI": "where runs and models are kept: `http://host:port`, or `sqlite:////folder/mlflow.db`",
    "EVERGREEN_MLFLOW_URL": "where people reach MLflow, for links to its pages; default: `MLFLOW_TRACKING_URI`",
    "AWS_ENDPOINT_URL": "address of the S3 server; unset: Amazon's. Keys and region come from AWS's own variables, "
    "`AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY`, `AWS_REGION`",
    "EVERGREEN_PROBLEMS": "folders with a folder for each problem, separated as in PATH; `package:NAME` is that of an "
    "installed package; default: `include/problems`",
    "EVERGREEN_ROOT": "folder with `airflow.cfg`, `dags/` and `plugins/`; default: the repository",
    "EVERGREEN_HOME": "folder of the embedded services: databases, objects, secrets, logs; default: `.evergreen`",
    "EVERGREEN_AIRFLOW_URL": "Airflow's address, for `evergreen replay` and `demo`; `evergreen up` sets it for others",
    "EVERGREEN_AIRFLOW_USERNAME": "who logs in there",
    "EVERGREEN_AIRFLOW_PASSWORD": "with which password",
    "EVERGREEN_AIRFLOW_PORT": "port of the embedded Airflow; default: 8080, or a free one",
    "EVERGREEN_MLFLOW_PORT": "port of the embedded MLflow; default: 5000, or a free one",
    "EVERGREEN_STORE_PORT": "port of the embedded object store; default: 9000 (of the full stack 8333), or a free one",
    "EVERGREEN_POSTGRES_PORT": "port of the full stack's PostgreSQL without root; default: 5432, or a free one",
    "EVERGREEN_REDIS_PORT": "port of its Redis; default: 6379, or a free one",
    "EVERGREEN_COPIES_MB": "MB of rows that a machine keeps of what its tasks read or wrote on S3; default 512",
    "EVERGREEN_METRICS_TOKEN": "what a Prometheus sends to read `/evergreen/metrics`; unset, as the file: no such page",
    "EVERGREEN_METRICS_TOKEN_FILE": "file that holds it",
    "EVERGREEN_DUCKDB_MEMORY": "memory of a task's queries, such as `4GB`; beyond it DuckDB goes on on disk",
}


def tables() -> str:
    """The contract's tables and files, in Markdown."""
    rows = ["| table | one row per | written by |", "| --- | --- | --- |"]
    rows += [f"| [`{table.name}`](#{table.name}) | {table.grain} | {table.writer} |" for table in TABLES.values()]
    return "\n\n".join(["\n".join(rows), *map(_columns, TABLES.values())])


def _columns(table: Table) -> str:
    rows = [f"## `{table.name}`", "", f"One row per {table.grain}. {_write(table)}"]
    rows += ["", "| column | type | may be null | meaning |", "| --- | --- | --- | --- |"]
    if table.keyed:
        rows.append("| *the key* | string | no | names the event; called as `key` of problem.yaml says |")
    for field in table.fields:
        kind = "as the task asks" if field.type == "label" else field.type.replace("<", "&lt;")
        rows.append(f"| `{field.name}` | {kind} | {'yes' if field.nullable else 'no'} | {field.meaning} |")
    more = {"events": "what `columns` of problem.yaml declares", "features": "the features, in the model's order"}
    if table.name in more:
        rows.append(f"| ... | | | {more[table.name]} |")
    return "\n".join(rows)


def _write(table: Table) -> str:
    if table.name in ("ledger", "runs", "topics"):
        return "A row is appended once, and never changed."
    replaced = f"{table.partition_by}` and `{table.within}" if table.within else table.partition_by
    return f"A write replaces all rows of a `{replaced}`."


def files() -> str:
    """The files beside the tables, in Markdown."""
    return _table("file", "what it is", FILES)


def ledger_kinds() -> str:
    """The kinds of decisions, in Markdown."""
    return _table("kind", "what a row says", LEDGER_KINDS)


def environment() -> str:
    """The environment variables, in Markdown."""
    return _table("variable", "what it says", ENVIRONMENT)


def metric_families() -> str:
    """The metrics for a Prometheus, in Markdown."""
    return _table("metric", "what it says", FAMILIES)


def _table(name: str, about: str, rows: Mapping[str, str]) -> str:
    lines = [f"| {name} | {about} |", "| --- | --- |", *(f"| `{key}` | {text} |" for key, text in rows.items())]
    return "\n".join(lines)
