"""Airflow imports this by its name, early in every component: the place to load what forked tasks share.

`dag_policy` is called with each DAG that was read.
"""

from __future__ import annotations

import sys
from typing import Any

from include.preload import preload

if __name__ == "airflow_local_settings":  # and not once more as one of the plugins, under another name
    preload(sys.argv)


def dag_policy(dag: Any) -> None:
    from include.problem_dags import name_source  # which imports Airflow, whose import has this imported

    name_source(dag)


__all__ = ["dag_policy"]  # no setting of Airflow's is overridden
