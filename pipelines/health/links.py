"""Addresses on the Health page, as seen from it: where Airflow lies below a path of its own they hold as well."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple
from urllib.parse import quote

from pipelines.config.partitions import KEY
from pipelines.health.document import Turn

DAG_OF = {
    "ingest": "ingest",
    "delivery": "ingest",
    "gate": "train",
    "refit": "train",
    "promotion": "train",
    "rollout": "release",
    "monitoring": "monitor",
}
"""By kind of decision, whose runs decide so."""
TRAINING = re.compile(rf"gate:({KEY}-[0-9a-f]{{8}})")


class Links(NamedTuple):
    """`up`: from the page to Evergreen's pages, such as `../`. `mlflow`: address of its UI; None: it has none."""

    up: str
    mlflow: str | None

    def problem(self, name: str) -> str:
        return f"{self.up}health/{quote(name)}"

    def overview(self) -> str:
        return f"{self.up}health"

    def page(self, problem_name: str, path: str) -> str:
        """A page in the store."""
        return f"{self.up}pages/{quote(problem_name)}/{quote(path)}"

    def evidence(self, problem_name: str, turn: Turn) -> str | None:
        """The page that shows what a decision rests on."""
        path = _evidence(turn)
        return None if path is None else self.page(problem_name, path)

    def monitoring(self, problem_name: str, partition: str) -> str:
        return self.page(problem_name, f"reports/{partition}/monitoring.html")

    def card(self, problem_name: str, version: str) -> str:
        return self.page(problem_name, f"models/{version}/card.html")

    def dag(self, problem_name: str, dag: str) -> str:
        return f"{self.up}../dags/{quote(f'{problem_name}.{dag}')}"

    def run(self, problem_name: str, dag: str, run_id: str) -> str:
        return f"{self.dag(problem_name, dag)}/runs/{quote(run_id, safe='')}"

    def question(self, problem_name: str, dag: str, run_id: str) -> str:
        return f"{self.run(problem_name, dag, run_id)}/required_actions"

    def model(self, problem_name: str, version: str | None = None) -> str | None:
        """A registered model in MLflow, or a version of it."""
        if self.mlflow is None:
            return None
        return f"{self.mlflow}/#/models/{quote(problem_name)}" + (f"/versions/{quote(version)}" if version else "")

    def comparison(self, problem_name: str) -> str | None:
        """A problem's runs side by side in MLflow, those of its newest training first."""
        return None if self.mlflow is None else f"{self.up}comparison/{quote(problem_name)}"


def newest_training(gates: Sequence[Turn]) -> str | None:
    """The training that a gate judged last, by its id; None where there was none."""
    trainings = [TRAINING.fullmatch(turn.decision) for turn in gates]
    return next((training[1] for training in reversed(trainings) if training), None)


def _evidence(turn: Turn) -> str | None:
    match turn.kind:
        case "monitoring":
            return f"reports/{turn.partition}/monitoring.html"
        case "gate":
            training = TRAINING.fullmatch(turn.decision)
            return f"evaluations/{training[1]}.html" if training else None
        case "promotion":
            return f"models/{turn.version}/card.html" if turn.version else None
        case "rollout" if turn.action in ("looked", "asked", "answered", "stepped", "promoted", "rolled back"):
            return f"reports/{turn.partition}/release.html"
    return None
