"""The first screen of a monitoring page: what happened, whether it is bad, what was done, what a person has to do."""

from __future__ import annotations

from typing import NamedTuple

from markupsafe import Markup

from pipelines.config import Action, plural
from pipelines.html.wording import figure, is_number
from pipelines.monitoring.diagnose.finding import Diagnosis
from pipelines.monitoring.explain.series import NAMES, SKILLS
from pipelines.monitoring.page.evidence import Judged, PageFacts
from pipelines.profiles.profile import SCORE

NOT_JUDGED = "not judged"
# What waits for a person after each action; `problem` and `partition` are filled in.
ASKED = {
    Action.NONE: "Nothing.",
    Action.ALERT: "Find out, from what is below, whether the source or the world has changed. Mend the source; or, "
    "where the world has changed for good and no training comes by itself, trigger {problem}.train.",
    Action.QUARANTINE: "Mend the source and ingest {partition} again. Where its data is right: evergreen quarantine "
    "readmit {problem} {partition} --reason '...'",
    Action.RECALIBRATE: "Nothing now. The gate of {problem}.train decides whether the calibrated model may serve.",
    Action.RETRAIN: "Nothing now. The gate of {problem}.train decides whether the new model may serve.",
    Action.CONTINUE: "Nothing now. The gate of {problem}.train decides whether the continued model may serve.",
    Action.ROLL_BACK: "Find out why the version that was left did harm, before the next training.",
    Action.FALL_BACK: "See that a training passes its gate ({problem}.train): until then the baseline serves.",
}


class BriefPart(NamedTuple):
    """`happened`, `harm`, `done`, `asked`: answers in a sentence or three. `why`: the whole paragraph, empty where
    `happened` says as much. `rows`: scored, None if not known. `since`: when it began."""

    verdict: str
    action: str
    is_good: bool
    happened: str
    harm: str
    done: str
    asked: str
    why: str
    picture: Markup | None
    since: str | None
    rows: int | None
    notes: tuple[str, ...]


def brief(facts: PageFacts, judged: Judged, picture: Markup | None) -> BriefPart:
    """`picture`: the series that matters."""
    decision, explanation, findings = judged.decision, judged.explanation, judged.diagnosis.findings
    happened, why = explanation.paragraph, ""
    if findings:
        happened, why = _happened(facts, judged), explanation.paragraph
    # No finding speaks for the action: what does stands among the reasons alone.
    elif decision is not None and decision.verdict == "staleness":
        happened = f"Nothing drifted, but a fresher model is expected to pay: {decision.reason}."
    scored = facts.profiles.get(facts.partition)
    is_quiet = decision is not None and decision.action == Action.NONE and decision.verdict != NOT_JUDGED
    return BriefPart(
        verdict=decision.verdict if decision else "none given",
        action=decision.action if decision else "none taken",
        is_good=is_quiet,
        happened=happened,
        harm=" ".join([_harm(facts.every, judged.diagnosis), *_metric(facts, judged)]),
        done=_done(judged),
        asked=_asked(facts, judged),
        why=why,
        picture=picture,
        since=explanation.since,
        rows=scored[SCORE].rows if scored else None,
        notes=explanation.notes,
    )


def _happened(facts: PageFacts, judged: Judged) -> str:
    """The most harmful finding, and what else there is."""
    first, *others = judged.diagnosis.findings
    words = f"{first.evidence}."
    if judged.explanation.since is not None:
        words += f" Since the {facts.every} of {judged.explanation.since}."
    if others:
        words += f" Beside it: {', '.join(dict.fromkeys(finding.kind for finding in others))}."
    return words


def _harm(every: str, diagnosis: Diagnosis) -> str:
    labelled, bad = len(diagnosis.labelled), len(diagnosis.bad)
    if any(finding.kind == "data fault" for finding in diagnosis.findings):
        return f"The data of this {every} is at fault: do not rely on its scores."
    if not labelled:
        return "Not known yet: too few labels have come."
    of = f"the newest labelled {every}" if labelled == 1 else f"the newest {labelled} labelled {plural(every)}"
    if not bad:
        return f"No: scores are as good as they should be in {of}." if labelled == 1 else f"No: none of {of} is off."
    if labelled == 1:
        return f"Yes: {of} is off."
    are_off = f"{bad} of {of} {'is' if bad == 1 else 'are'} off"
    return f"Yes: {are_off}, the newest too." if diagnosis.is_newest_bad else f"It was: {are_off}, but not the newest."


def _metric(facts: PageFacts, judged: Judged) -> list[str]:
    """How good scores were, the newest that are known; what is expected of this partition's."""
    realised = {part.partition: part.measured() for part in judged.explanation.performance}
    estimated = {row["metric"]: row for row in facts.estimates if row["partition"] == facts.partition}
    measured = {name for row in realised.values() for name in row} | set(estimated)
    skill = next((name for name in SKILLS if name in measured), None)
    if skill is None:
        return []
    known = [key for key in sorted(realised) if is_number(realised[key].get(skill))]
    tested = facts.reference.metrics.get(skill)
    sentences = []
    if known:
        newest = f"{NAMES[skill]} was {figure(realised[known[-1]][skill])} in {known[-1]}, the newest with labels"
        sentences.append(newest + (f"; {figure(tested)} when the version was tested." if is_number(tested) else "."))
    expected = estimated.get(skill)
    if expected and facts.partition not in known:
        ends = f"{figure(expected['low'])} to {figure(expected['high'])}"
        sentences.append(f"Of this {facts.every} {figure(expected['value'])} is expected ({ends}).")
    return sentences


def _asked(facts: PageFacts, judged: Judged) -> str:
    if judged.decision is None:
        return "Nothing: the decision is still to come."
    return ASKED[judged.decision.action].format(problem=facts.problem, partition=facts.partition)


def _done(judged: Judged) -> str:
    """The action, and why: what shows the verdict stands above it already."""
    decision = judged.decision
    if decision is None:
        return "No decision was taken."
    reason = decision.reason
    for finding in judged.diagnosis.findings[:1]:
        reason = reason.removeprefix(f"{finding.evidence}, ")
    return f"{decision.action.done} Why: {reason}." if reason else decision.action.done
