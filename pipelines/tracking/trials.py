"""The trials of a search as runs below their candidate's: to be looked at, and for a killed search to go on from."""

from __future__ import annotations

import json
import time
from typing import Any

from pipelines.tracking.client import client, explained
from pipelines.training.trials import STATES, Trial

# MLflow has a colour for each; KILLED is how it shows what was stopped on purpose.
_STATUS = dict(zip(STATES, ("FINISHED", "KILLED", "FAILED"), strict=True))


class RunTrials:
    """The trials that stand below the run `run_id`. Implements `pipelines.training.trials.Trials`.

    Each is a run with the tags `trial` (its number) and `state`, the parameters that it tried (as JSON, so that they
    come back as they were), and the metrics `search_<metric>_fold_<n>` and `search_<metric>`, their mean.
    """

    def __init__(self, run_id: str, metric: str) -> None:
        self.run_id = run_id
        self.metric = f"search_{metric}"

    def known(self) -> list[Trial]:
        """What earlier tries have left, by number, of each the newest; one that they were killed in is not there."""
        runs, trials, token = client(), dict[int, Trial](), None
        with explained():
            experiment = runs.get_run(self.run_id).info.experiment_id
            mine = f"tags.`mlflow.parentRunId` = '{self.run_id}' AND attributes.status != 'RUNNING'"
            while True:
                page = runs.search_runs([experiment], mine, order_by=["attributes.start_time ASC"], page_token=token)
                trials |= {trial.number: trial for run in page if (trial := self._read(run.data)) is not None}
                token = page.token
                if not token:
                    return [trials[number] for number in sorted(trials)]

    def keep(self, trial: Trial) -> None:
        from mlflow.entities import Metric, Param

        runs, now = client(), int(time.time() * 1000)
        means = {self.metric: trial.value} if trial.values else {}
        folds = {f"{self.metric}_fold_{number}": value for number, value in enumerate(trial.values, 1)}
        tags = {"mlflow.parentRunId": self.run_id, "trial": str(trial.number), "state": trial.state}
        with explained():
            parent = runs.get_run(self.run_id).info
            began = now - int(trial.seconds * 1000)
            title = f"{parent.run_name} trial {trial.number}"
            run = runs.create_run(parent.experiment_id, start_time=began, tags=tags, run_name=title).info.run_id
            runs.log_batch(
                run,
                metrics=[Metric(name, value, now, 0) for name, value in {**means, **folds}.items()],
                params=[Param(name, json.dumps(value)) for name, value in trial.parameters.items()],
            )
            if trial.reason:
                runs.set_tag(run, "reason", trial.reason)
            runs.set_terminated(run, _STATUS[trial.state], end_time=now)

    def _read(self, data: Any) -> Trial | None:
        if "trial" not in data.tags:
            return None
        folds = sum(name.startswith(f"{self.metric}_fold_") for name in data.metrics)
        return Trial(
            number=int(data.tags["trial"]),
            parameters={name: json.loads(value) for name, value in data.params.items()},
            values=tuple(data.metrics[f"{self.metric}_fold_{number}"] for number in range(1, folds + 1)),
            state=data.tags["state"],
            reason=data.tags.get("reason", ""),
        )
