"""Which page in the store a run is about, and who may read it."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from pipelines.config.partitions import KEY
from pipelines.handoffs.annotation import Voted
from pipelines.handoffs.training import Evaluated, Registered, Sampled

# The page that each DAG's run leaves in the store, by the page's name.
DAG_OF = {
    "validation": "ingest",
    "datasheets": "train",
    "evaluations": "train",
    "models": "train",
    "monitoring": "monitor",
    "drift": "monitor",
    "weak_supervision": "annotate",
    "release": "release",
}
PATH = re.compile(
    rf"reports/(?:{KEY}_)?{KEY}/(validation|monitoring|drift|weak_supervision|release)\.html"
    rf"|(datasheets)/[0-9a-f]{{12}}\.html|(evaluations)/{KEY}-[0-9a-f]{{8}}\.html|(models)/\d+/card\.html"
)


def dag_of(path: str) -> str | None:
    """Which DAG wrote the page at `path` (below the problem's folder in the store); None where pages never are.

    >>> dag_of("reports/2013-04-01/drift.html"), dag_of("datasheets/0123456789ab.html"), dag_of("../secrets.html")
    ('monitor', 'train', None)
    >>> dag_of("reports/2024-03-31T05Z_2024-03-31T07Z/validation.html")
    'ingest'
    """
    found = PATH.fullmatch(path)
    return DAG_OF[next(name for name in found.groups() if name)] if found else None


def path_of(
    dag_id: str, partition: str | None, params: Mapping[str, Any], returned: Callable[[str], Any], page: str = ""
) -> str | None:
    """Where the page of a run lies, below the problem's folder in the store; None for a run that has none (yet).

    A run's partition key and its params are whatever people typed: what makes no path of a page is none.

    `page` says which, of a DAG that leaves several: a key of DAG_OF; without it, the one that says most.
    `returned` gives what a task of the run has returned, by task id; None when it has not.

    >>> path_of("flight_delay.ingest", "2013-04-01", {}, lambda task: None)
    'reports/2013-04-01_2013-04-01/validation.html'
    >>> path_of("flight_delay.monitor", "../../../api/v2/variables?", {}, lambda task: None)
    """
    path = _named(dag_id, partition, params, returned, page)
    return path if path and dag_of(path) else None


def _named(
    dag_id: str, partition: str | None, params: Mapping[str, Any], returned: Callable[[str], Any], page: str
) -> str | None:
    match dag_id.rpartition(".")[2]:
        case "ingest":
            first, last = partition or params.get("first"), partition or params.get("last")
            return f"reports/{first}_{last}/validation.html" if first and last else None
        case "train":
            return _of_training(page, returned)
        case "monitor":
            return f"reports/{partition}/{page or 'monitoring'}.html" if partition else None
        case "release":
            return f"reports/{partition}/release.html" if partition else None
        case "annotate":
            voted = returned("vote")
            return f"reports/{Voted.model_validate(voted).partition}/weak_supervision.html" if voted else None
    return None


def _of_training(page: str, returned: Callable[[str], Any]) -> str | None:
    """A training has three pages: those of its set, of the challenger, of the version; by default the newest."""
    if page == "models":
        registered = returned("register")
        return f"models/{Registered.model_validate(registered).version}/card.html" if registered else None
    evaluated = returned("evaluate") if page in ("", "evaluations") else None
    if evaluated or page == "evaluations":
        return f"evaluations/{Evaluated.model_validate(evaluated).training}.html" if evaluated else None
    shares = returned("sample")
    if not shares:
        return None
    sampled = Sampled.model_validate(shares[0] if isinstance(shares, list) else shares)  # one, before there were shares
    return f"datasheets/{sampled.training_set}.html"
