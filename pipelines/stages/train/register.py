"""register: the challenger becomes a registry version, with its lineage and its card."""

from __future__ import annotations

from pipelines import store
from pipelines.documents.dataset import DatasetFacts
from pipelines.documents.evaluation import Evaluation
from pipelines.documents.lineage import VersionLineage
from pipelines.handoffs.config import problem_of
from pipelines.handoffs.training import Refitted, Registered
from pipelines.paths import facts_uri, version_uri
from pipelines.release.versions import model_files, write_version_files


def register(problem_name: str, refitted: Refitted) -> Registered:
    """Make the challenger a registry version, with the alias challenger, its lineage and its model card.

    The version's run is that of the model that serves; what monitoring rests on (reference.json, held_out.parquet) is
    of the model that was tested, on rows that it had not learnt from.

    Raises:
        DataError: the file of one of its models is another than was logged.
    """
    from pipelines import tracking
    from pipelines.release.card import card

    problem = problem_of(problem_name, refitted)
    run_id = refitted.run_id
    made_of = tracking.run_lineage(run_id)
    parent = made_of.get("parent")
    tags = {
        "partition": refitted.partition,
        "candidate": refitted.candidate,
        "gate": refitted.verdict,
        "how": made_of["how"],
        **({"builds_on": parent} if parent else {}),
        **({"tested_run": refitted.tested_run} if refitted.tested_run != run_id else {}),
    }
    evaluation: Evaluation = store.read_json(refitted.evaluation)
    beside = [refitted.tested_run, *(baseline["run_id"] for baseline in evaluation.get("baselines", {}).values())]
    files = model_files(run_id, beside, refitted.models_sha256)
    version = tracking.register(problem, run_id, tags)
    lineage: VersionLineage = {
        **made_of,
        "version": version,
        "run_id": run_id,
        **files,
    }
    facts: DatasetFacts = store.read_json(facts_uri(problem, refitted.training_set))
    about = card(problem, evaluation["challenger"], lineage, facts)
    write_version_files(
        problem,
        version,
        {
            "problem.json": tracking.run_file(run_id, "problem.json"),
            "reference.json": tracking.run_file(run_id, "reference.json"),
            "held_out.parquet": store.read_bytes(refitted.evaluation.removesuffix("json") + "parquet"),
            "lineage.json": lineage,
            "card.md": about.markdown.encode(),
            "card.html": about.html,
        },
    )
    tracking.annotate(run_id, files={"model_card.md": about.markdown.encode(), "model_card.html": about.html})
    tracking.describe(problem, version, about.markdown)
    return Registered(**refitted.model_dump(), version=version, card=version_uri(problem, version, "card.html"))
