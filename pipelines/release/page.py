"""page: how far a release has come, on what evidence, and what comes next, for whoever has to decide."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Literal, NamedTuple

from markupsafe import Markup

from pipelines.config import Loss, Rung, plural
from pipelines.config.release import share_in_words
from pipelines.handoffs.releases import Assignment
from pipelines.html.columns import Table, number, share, text
from pipelines.html.render import render
from pipelines.html.wording import METRIC_WORDS, figure, interval_text, percent
from pipelines.ledger import Decision
from pipelines.problem import Problem
from pipelines.release.evidence import Comparison, Coverage
from pipelines.release.ladder import Rollout
from pipelines.release.page_plots import effects
from pipelines.release.recount import UNLIKELY, Recount

MINOR = {"assigned", "looked"}  # actions of every partition: folded away
STEPS = {
    "promote": "Go on",
    "roll back": "Take it back",
    "hold": "Wait",
    "expire": "Out of time",
}
Place = Literal["done", "here", "to come", "ended here"]


class PathStep(NamedTuple):
    """A rung: what happens on it, what it asks for, and where the release is."""

    title: str
    what: str
    asks: str
    place: Place


class Standing(NamedTuple):
    """The verdict, and what follows from it."""

    title: str
    reason: str
    next_step: str
    latest: str
    notes: list[str]
    box: Literal["good", "bad", ""]


class EvidencePart(NamedTuple):
    picture: Markup | None
    how: str
    margin: str
    looks: Table
    left_out: list[tuple[str, str]]
    waiting: str


class MetricsPart(NamedTuple):
    rows: str
    table: Table
    auc_gain: str
    """Empty where there is none."""


class AssignmentPart(NamedTuple):
    is_broken: str | None
    checks: list[tuple[str, str]]
    partitions: Table


class HistoryPart(NamedTuple):
    turns: Table
    everything: Table


class ReleasePage(NamedTuple):
    champion: str
    challenger: str
    every: str
    standing: Standing
    path: list[PathStep]
    evidence: EvidencePart
    metrics: MetricsPart
    assignment: AssignmentPart
    history: HistoryPart


def page(problem: Problem, rollout: Rollout, comparison: Comparison, next_step: str) -> bytes:
    """The page of a release at the end of a partition; equal facts give equal bytes.

    Args:
        next_step: what is done now, in a sentence.
    """
    every = problem.partitions.every
    parts = ReleasePage(
        champion=rollout.champion,
        challenger=rollout.challenger,
        every=every,
        standing=_standing(problem, rollout, comparison, next_step),
        path=[_path_step(rollout, place, every) for place in range(len(rollout.settings.rungs))],
        evidence=_evidence(problem, rollout, comparison),
        metrics=_metrics(comparison),
        assignment=_assignment(rollout, comparison),
        history=_history(rollout),
    )
    return render("release.html", f"Release v{rollout.champion} to v{rollout.challenger}", parts)


def _standing(problem: Problem, rollout: Rollout, comparison: Comparison, next_step: str) -> Standing:
    is_bad = comparison.step in ("roll back", "expire") or comparison.is_broken is not None
    notes = []
    if rollout.is_held:
        notes.append(f"Somebody holds the release: it stays where it is until it is resumed. {rollout.reason}")
    if rollout.question is not None:
        approval = problem.release.approval  # who is asked is what problem.yaml says now
        notes.append(
            f"People have been asked since {rollout.question.partition} ({rollout.question.verdict}). Without an "
            f"answer within {approval.hours} hours it counts as {approval.otherwise}."
        )
    if comparison.is_broken:
        notes.append(f"The assignment is broken: {comparison.is_broken}. Nothing is promoted on it.")
    return Standing(
        title=STEPS[comparison.step],
        reason=_sentence(comparison.reason),
        next_step=next_step,
        latest=_latest(problem, rollout, comparison),
        notes=notes,
        box="bad" if is_bad else "good" if comparison.step == "promote" else "",
    )


def _sentence(words: str) -> str:
    """
    >>> _sentence("shown: z 2.1 of 2.0")
    'Shown: z 2.1 of 2.0.'
    """
    return f"{words[:1].upper()}{words[1:].rstrip('.')}."


def _latest(problem: Problem, rollout: Rollout, comparison: Comparison) -> str:
    """When the step that the release is on ends at the latest."""
    if rollout.state != "under way":
        return f"The release has ended: {rollout.state}."
    if comparison.step != "hold":
        return "No more labels are waited for on this step."
    parts = problem.partitions
    needed = comparison.minimum - comparison.at_this_step
    if comparison.maximum is not None:
        needed = comparison.maximum - len(comparison.looks)
    if needed < 1:
        return "It goes on as soon as what is in its way is mended."
    waiting = comparison.waiting
    last = waiting[needed - 1] if needed <= len(waiting) else parts.shift(comparison.partition, needed - len(waiting))
    known = parts.end(last) + timedelta(days=problem.labels.mature_after_days)
    labels = f"the labels of {last}" if needed == 1 else f"the labels of {needed} more {parts.plural}, up to {last}"
    due = "whenever that comes" if parts.by_delivery else f"which are due on {known:%Y-%m-%d}"
    if comparison.maximum is None:
        return f"It goes on with {labels}, {due}, if they show no harm."
    return (
        f"At the latest it is decided with {labels}, {due}: if nothing is shown by then, version {rollout.champion} "
        f"stays and version {rollout.challenger} goes."
    )


def _path_step(rollout: Rollout, place: int, every: str) -> PathStep:
    settings, rung = rollout.settings, rollout.settings.rungs[place]
    asks = ""
    if rung.kind != "full":
        looks = settings.looks_of(rung.kind)
        asks = f"labelled {plural(every)}: at least {looks.partitions}"
        if settings.feedback == "outcome" or rung.kind == settings.path[0]:
            asks += f", at most {looks.max_partitions}" + " at all shares together" * (rung.kind == "canary")
    return PathStep(_rung_title(rung), _rung_words(rollout, rung), asks, _place(rollout, place))


def _rung_title(rung: Rung) -> str:
    return {
        "shadow": "Shadow",
        "canary": f"Canary {share_in_words(rung.share)}",
        "ab": f"A/B {share_in_words(rung.share)}",
        "bandit": "Bandit",
        "full": "Serves",
    }[rung.kind]


def _rung_words(rollout: Rollout, rung: Rung) -> str:
    champion, challenger = rollout.champion, rollout.challenger
    match rung.kind:
        case "shadow":
            return f"version {challenger} scores every row beside version {champion} and serves none"
        case "bandit":
            return "whichever version looks better serves more"
        case "full":
            return f"version {challenger} serves every row"
    units = "rows" if rollout.settings.unit == "key" else f"values of {rollout.settings.unit}"
    return f"version {challenger} serves {share_in_words(rung.share)} of the {units}"


def _place(rollout: Rollout, place: int) -> Place:
    if rollout.state == "promoted" or place < rollout.rung:
        return "done"
    if place > rollout.rung:
        return "to come"
    return "here" if rollout.state == "under way" else "ended here"


def _evidence(problem: Problem, rollout: Rollout, comparison: Comparison) -> EvidencePart:
    loss = _loss_words(problem, comparison.loss)
    how = (
        "Both versions scored the same rows, and are compared on every one of them"
        if comparison.is_paired
        else "Decisions change labels here: each version counts by the rows that it served, weighted by the odds with "
        "which it got them"
    )
    if comparison.has_to_show:
        asked = (
            f"It has to be shown, within {comparison.maximum} labelled {problem.partitions.plural}, that version "
            f"{rollout.challenger} is {_allowed(comparison)}: z has to reach its bound at one of the looks."
        )
    else:
        asked = (
            f"That version {rollout.challenger} is {_allowed(comparison)} was shown on the first step. Here it is "
            "asked only whether it does harm."
        )
    lines = [
        [
            look.partition,
            f"{look.effect:+.5f}" if look.effect is not None else "no label",
            f"{look.lower:+.5f} to {look.upper:+.5f}" if look.lower is not None else "unknown",
            look.rows,
            look.units,
            f"{look.z:.2f}" if look.lower is not None else "unknown",
            f"{look.bound:.2f}" if look.bound is not None else "none",
            STEPS[look.step].lower(),
        ]
        for look in comparison.looks
    ]
    columns = [
        text(f"{problem.partitions.every}"),
        number("effect"),
        number("sure to be"),
        number("labelled rows"),
        number("units"),
        number("z"),
        number("its bound"),
        text("that look says"),
    ]
    picture = effects("effects", comparison.looks, comparison.margin, f"difference in {loss}")
    unknown = len(comparison.waiting)
    waiting = f"{', '.join(comparison.waiting)} wait{'s' * (unknown == 1)} for labels." if unknown else ""
    return EvidencePart(
        picture,
        f"{how}. The effect is version {rollout.challenger}'s mean {loss} less version {rollout.champion}'s: below 0 "
        f"version {rollout.challenger} is better. {asked}",
        figure(comparison.margin),
        Table(columns, lines),
        sorted(comparison.left_out.items()),
        waiting,
    )


def _allowed(comparison: Comparison) -> str:
    return f"not worse by more than {figure(comparison.margin)}" if comparison.margin else "better"


def _loss_words(problem: Problem, loss: Loss) -> str:
    units = {"absolute_error": problem.labels.unit, "cost": problem.costs.unit}
    words = {
        "log_loss": "log loss",
        "squared_error": "squared error",
        "absolute_error": "absolute error",
        "cost": "cost",
    }
    unit = units.get(loss)
    return f"{words[loss]} per row" + f" ({unit})" * bool(unit)


def _metrics(comparison: Comparison) -> MetricsPart:
    champion, challenger = comparison.metrics["champion"], comparison.metrics["challenger"]
    rows = (
        f"Both versions on the same {comparison.labelled_rows:,} labelled rows."
        if comparison.is_paired
        else f"Each version on the rows that it served, weighted by the odds of getting them: version "
        f"{comparison.champion} on {comparison.coverage['champion'].labelled:,}, version {comparison.challenger} on "
        f"{comparison.coverage['challenger'].labelled:,} labelled rows."
    )
    lines = [
        [name, champion[name], challenger.get(name), METRIC_WORDS[name]] for name in METRIC_WORDS if name in champion
    ]
    columns = [
        text("metric"),
        number(f"version {comparison.champion}"),
        number(f"version {comparison.challenger}"),
        text("what it says"),
    ]
    gain = ""
    if comparison.auc_gain is not None:
        gain = (
            f"Version {comparison.challenger}'s AUC less version {comparison.champion}'s, with its interval from "
            f"blocks of rows drawn again: {interval_text(comparison.auc_gain)}."
        )
    return MetricsPart(rows, Table(columns, lines), gain)


def _assignment(rollout: Rollout, comparison: Comparison) -> AssignmentPart:
    champion, challenger = comparison.champion, comparison.challenger
    events = sum(counted.events for counted in comparison.recounts)
    wrong = sum(sum(counted.faults.values()) for counted in comparison.recounts)
    lost = comparison.lost
    checks = [
        (
            "Rows without a score",
            f"version {champion}: {lost['champion']:,}, version {challenger}: {lost['challenger']:,}; of {events:,}",
        ),
        (
            "Recount",
            f"each of {events:,} rows has both scores, and was served by the version that the hash of its unit names"
            if not wrong
            else f"{wrong:,} of {events:,} rows are wrong",
        ),
        (
            "Units shared out as planned",
            _tested(comparison.assigned_p, "on this step every row is scored by both versions and nothing is drawn"),
        ),
        ("Labels for both versions alike", _tested(comparison.labelled_p, "no labelled row was drawn for a version")),
    ]
    checks += [
        (f"Rows served by version {champion} with a label", _covered(comparison.coverage["champion"])),
        (f"Rows served by version {challenger} with a label", _covered(comparison.coverage["challenger"])),
    ]
    counted = {each.partition: each for each in comparison.recounts}
    lines = [
        _partition_line(key, assignment, rollout, comparison, counted.get(key))
        for key, assignment in sorted(rollout.assigned.items())
        if key <= comparison.partition
    ]
    columns = [
        text("partition"),
        text("step"),
        share("share planned"),
        share("share of units"),
        number(f"rows served by {champion}"),
        number(f"rows served by {challenger}"),
        text("labels"),
    ]
    is_broken = comparison.is_broken and _sentence(comparison.is_broken)
    return AssignmentPart(is_broken, checks, Table(columns, lines))


def _covered(coverage: Coverage) -> str:
    if not coverage.rows:
        return "it served none of the judged ones"
    return f"{coverage.labelled:,} of {coverage.rows:,} ({percent(coverage.labelled / coverage.rows)})"


def _tested(p: float | None, otherwise: str) -> str:
    if p is None:
        return f"not tested: {otherwise}"
    return f"{'no' if p < UNLIKELY else 'yes'} (p {p:.2g}; below {UNLIKELY} it would be called broken)"


def _partition_line(
    key: str, assignment: Assignment, rollout: Rollout, comparison: Comparison, counted: Recount | None
) -> Sequence[str | float | None]:
    units = counted.champion_units + counted.challenger_units if counted else 0
    labels = comparison.left_out.get(key, "does not count on this step")
    if key in comparison.judged:
        labels = "judged"
    elif key in comparison.waiting:
        labels = "waited for"
    return [
        key,
        _rung_title(rollout.settings.rungs[assignment.rung]),
        assignment.share,
        counted.challenger_units / units if counted and units else "",
        counted.champion_rows if counted else "",
        counted.challenger_rows if counted else "",
        labels,
    ]


def _history(rollout: Rollout) -> HistoryPart:
    columns = [text("when"), text("partition"), text("what"), text("verdict"), text("why"), text("who")]
    turns = [row for row in rollout.rows if row["action"] not in MINOR]
    return HistoryPart(
        Table(columns, [_turn(row) for row in turns]), Table(columns, [_turn(row) for row in rollout.rows])
    )


def _turn(row: Decision) -> list[str]:
    evidence = row["evidence"]
    who = evidence.get("user") or ""
    answer = evidence.get("answer")
    verdict = f"{row['verdict']}: {answer}" if answer else row["verdict"]
    return [
        f"{row['decided_time']:%Y-%m-%d %H:%M} UTC",
        row["partition"],
        row["action"],
        verdict,
        row["reason"],
        str(who),
    ]
