"""What the stages of a DAG hand each other: one frozen type a stage, JSON in Airflow's XCom, attributes elsewhere.

A module a DAG. Rows and evidence stay in the store: a hand-off says where, and what a person wants to read of it.
"""

from __future__ import annotations

from typing import Any

from pydantic import ValidationError

from pipelines.handoffs.annotation import Chosen, Collected, SelfTrained, Voted
from pipelines.handoffs.base import HandOff
from pipelines.handoffs.ingestion import Extracted, Published, Validated
from pipelines.handoffs.monitoring import (
    Decided,
    Detected,
    Diagnosed,
    Estimated,
    Explained,
    Profiled,
    Reported,
    Requested,
)
from pipelines.handoffs.releases import Assessed, Stepped
from pipelines.handoffs.scoring import ScoredPartition, ScoredShard, Shard
from pipelines.handoffs.training import (
    Checked,
    Evaluated,
    FeaturizedShare,
    Gated,
    Labelled,
    Promoted,
    Refitted,
    Registered,
    Share,
    Trained,
)

HANDS_ON: dict[str, type[HandOff]] = {
    "ingest.extract": Extracted,
    "ingest.validate": Validated,
    "ingest.publish": Published,
    "train.label": Labelled,
    "train.sample": Share,
    "train.featurize": FeaturizedShare,
    "train.check": Checked,
    "train.train": Trained,
    "train.evaluate": Evaluated,
    "train.gate": Gated,
    "train.refit": Refitted,
    "train.register": Registered,
    "train.promote": Promoted,
    "annotate.vote": Voted,
    "annotate.choose": Chosen,
    "annotate.collect": Collected,
    "annotate.self_train": SelfTrained,
    "score.plan": Shard,
    "score.score": ScoredShard,
    "score.publish": ScoredPartition,
    "monitor.profile": Profiled,
    "monitor.detect": Detected,
    "monitor.estimate": Estimated,
    "monitor.diagnose": Diagnosed,
    "monitor.explain": Explained,
    "monitor.decide": Decided,
    "monitor.act": Requested,
    "monitor.report": Reported,
    "release.assess": Assessed,
    "release.step": Stepped,
}
"""What each stage gives; `train.sample` and `score.plan` give several."""


def line(stage: str, result: Any) -> str:
    """What a stage such as `train.sample` has to say in one line, from what it gave or its JSON; empty if nothing. Of
    several the first one says it.

    >>> line("train.register", {}), line("ingest.publish", None)
    ('', '')
    """
    if stage not in HANDS_ON:
        return ""
    result = result[0] if isinstance(result, list) and result else result
    try:
        return HANDS_ON[stage].model_validate(result, from_attributes=False).line()
    except ValidationError:  # nothing, or a result of before the stage said so
        return ""
