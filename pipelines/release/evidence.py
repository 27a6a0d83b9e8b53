"""What the labels that are in say of a release: is the challenger to go on, to go back, or to wait?

Where decisions do not change labels (`release.feedback: none`) both versions are compared on every row, in every rung;
what the first rung has shown need not be shown again, and later ones ask only whether the challenger does harm. Where
they do change them (`outcome`), a row tells only of the version that served it: each rung whose rows are drawn is
judged by itself, weighted by the odds of the draw.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from pipelines import quarantine, store
from pipelines.config import Loss, RungKind
from pipelines.dataset.waiting import Judgeable
from pipelines.documents.measures import Interval
from pipelines.handoffs.releases import Variant
from pipelines.metrics.bootstrap import blocks_of, gains
from pipelines.metrics.effects import Effect, beyond_expected, paired, weighted
from pipelines.metrics.metric_sums import LOSSES
from pipelines.metrics.metrics import measure
from pipelines.metrics.scored import Scored, shown
from pipelines.paths import manifest_uri
from pipelines.problem import Problem
from pipelines.release import bandit
from pipelines.release.judge import Judgement, Step, judge
from pipelines.release.ladder import Rollout
from pipelines.release.recount import Recount, broken, ratio_p, recount
from pipelines.release.scored_twice import ScoredTwice, scored_twice, side, unit_codes
from pipelines.release.versions import learnt_by

COMPARED_ROWS = 200_000  # of which the difference in AUC gets its interval, at most
NEARLY_NOTHING = 1e-24  # variance of a difference between versions that say the same of every row
VARIANTS: tuple[Variant, ...] = ("champion", "challenger")
Array = NDArray[np.float64]


class EffectLook(BaseModel):
    """What all labelled partitions up to one say together."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    partition: str
    effect: float | None
    """The challenger's mean loss less the champion's; None: no row has a label."""
    variance: float | None
    rows: int
    units: int
    z: float
    """How far the effect is below the margin, in standard errors."""
    bound: float | None
    """What z has to reach; None: nothing has to be shown here."""
    lower: float | None
    """Ends of the confidence sequence: the effect was between them at every look, but with the error that roll-backs
    are allowed on either side."""
    upper: float | None
    step: Step


class Coverage(NamedTuple):
    """Of the rows that a version served, in the judged partitions."""

    rows: int
    labelled: int


class Comparison(BaseModel):
    """A release at the end of a partition."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    release: str
    champion: str
    challenger: str
    rung: int
    kind: RungKind
    partition: str
    judged: list[str]
    """Partitions whose labels are in, in the order of the looks."""
    waiting: list[str]
    """Partitions whose labels are not, or of which no row has both a label and both scores: they are no look."""
    left_out: dict[str, str]
    """Partitions that do not count, and why."""
    loss: Loss
    margin: float
    is_paired: bool
    """Whether both versions are compared on every row; else each on those that it served."""
    has_to_show: bool
    """Whether this rung has to show that the challenger is not worse; else only that it does no harm."""
    looks: list[EffectLook]
    minimum: int
    """Labelled partitions of this step, at least."""
    at_this_step: int
    """Labelled partitions of this step: of a canary, of its share."""
    maximum: int | None
    """Labelled partitions, at most; None: no limit, as nothing has to be shown."""
    labelled_rows: int
    metrics: dict[Variant, dict[str, float | None]]
    auc_gain: Interval | None
    """The challenger's AUC less the champion's, by a block bootstrap; shown, never decided by."""
    recounts: list[Recount]
    assigned_p: float | None
    """Of the units that each version got; None: nothing was drawn."""
    coverage: dict[Variant, Coverage]
    labelled_p: float | None
    lost: dict[Variant, int]
    """Rows without a score by the version."""
    share: float | None
    """Of a bandit: what the challenger is to serve next."""
    step: Step
    reason: str
    is_broken: str | None
    """What is wrong with the assignment."""


class Concluded(NamedTuple):
    """What is to be done."""

    step: Step
    reason: str


def concluded(rollout: Rollout, effects: Sequence[Effect], judged: Sequence[str]) -> Concluded:
    """What is to be done, by the effect at each look alone; `judged` are the looks' partitions."""
    maximum = _maximum(rollout)
    return _verdict(rollout, _judgements(rollout, effects, maximum), _at_this_step(rollout, judged), maximum, None)


def _maximum(rollout: Rollout) -> int | None:
    """Partitions within which it has to be shown that the challenger is not worse; None: that was shown before."""
    settings, kind = rollout.settings, rollout.here.kind
    has_to_show = settings.feedback == "outcome" or kind == settings.path[0]
    return settings.looks_of(kind).max_partitions if has_to_show else None


def _at_this_step(rollout: Rollout, judged: Iterable[str]) -> int:
    return sum(rollout.assigned[key].rung == rollout.rung for key in judged)


class _Partitions(NamedTuple):
    judged: list[str]
    waiting: list[str]
    left_out: dict[str, str]


def compare(problem: Problem, rollout: Rollout, labels_in: Judgeable) -> Comparison:
    """What is known of a release at the end of `labels_in.partition`, with labels as they were known then."""
    settings, kind = rollout.settings, rollout.here.kind
    chosen = _partitions(problem, rollout, labels_in)
    is_paired = settings.feedback == "none" or kind == "shadow"
    champion, challenger = side(problem, rollout.champion), side(problem, rollout.challenger)
    as_of = problem.partitions.end(labels_in.partition)
    rows = [scored_twice(problem, rollout.assigned[key], champion, challenger, key, as_of) for key in chosen.judged]
    rows = [part for part in rows if len(part.by_challenger)]
    judged = [part.partition for part in rows]
    chosen = _Partitions(judged, sorted({*chosen.judged, *chosen.waiting} - {*judged}), chosen.left_out)
    effects = _effects(rollout, problem, rows, is_paired)
    maximum = _maximum(rollout)
    judgements = _judgements(rollout, effects, maximum)
    assignments = {key: rollout.assigned[key] for key in [*chosen.judged, *chosen.waiting]}
    recounts = recount(
        problem,
        assignments,
        _scored(problem, assignments),
        store.dataset(problem, "predictions"),
        store.dataset(problem, "shadow_predictions"),
    )
    shares = [counted.share for counted in recounts]
    assigned_p = ratio_p([(counted.champion_units, counted.challenger_units) for counted in recounts], shares)
    labelled_p = _labelled_p(rollout, rows)
    is_broken = broken(rollout.champion, rollout.challenger, recounts, assigned_p, labelled_p)
    here = _at_this_step(rollout, chosen.judged)
    verdict = _verdict(rollout, judgements, here, maximum, is_broken)
    return Comparison(
        release=rollout.name,
        champion=rollout.champion,
        challenger=rollout.challenger,
        rung=rollout.rung,
        kind=kind,
        partition=labels_in.partition,
        judged=chosen.judged,
        waiting=chosen.waiting,
        left_out=chosen.left_out,
        loss=settings.loss(problem.task),
        margin=settings.allowed,
        is_paired=is_paired,
        has_to_show=maximum is not None,
        looks=[_look(key, judgement) for key, judgement in zip(chosen.judged, judgements, strict=True)],
        minimum=settings.looks_of(kind).partitions,
        at_this_step=here,
        maximum=maximum,
        labelled_rows=sum(len(part.by_challenger) for part in rows),
        metrics=_metrics(rollout, rows, is_paired),
        auc_gain=_auc_gain(problem, rows) if is_paired else None,
        recounts=recounts,
        assigned_p=assigned_p,
        coverage=_coverage(chosen.judged, recounts, rows),
        labelled_p=labelled_p,
        lost={
            "champion": sum(counted.champion_missing for counted in recounts),
            "challenger": sum(counted.challenger_missing for counted in recounts),
        },
        share=bandit.share(effects[-1] if effects else None, settings.bandit) if kind == "bandit" else None,
        step=verdict.step,
        reason=verdict.reason,
        is_broken=is_broken,
    )


def _partitions(problem: Problem, rollout: Rollout, labels_in: Judgeable) -> _Partitions:
    """Those that tell of this rung, of all that were scored.

    A look that was taken stays where it was: partitions come in the order in which they were first judged, and only
    then oldest first.
    """
    settings, kind = rollout.settings, rollout.here.kind
    is_one_sequence = settings.feedback == "none"
    own = [
        key
        for key, assignment in sorted(rollout.assigned.items())
        if key <= labels_in.partition and (is_one_sequence or assignment.kind == kind)
    ]
    predicted = set(store.partition_keys(problem, "predictions"))
    lost = {key for key, rows in _scored(problem, [key for key in own if key not in predicted]).items() if rows}
    keys = [key for key in own if key in predicted or key in lost]
    left_out = _left_out(problem, rollout, keys)
    keys = [key for key in keys if key not in left_out]
    looked_at = [
        key
        for look in rollout.looks
        if look.partition < labels_in.partition and (is_one_sequence or settings.rungs[look.rung].kind == kind)
        for key in look.judged
        if key in keys
    ]
    judged = in_order(looked_at, labels_in.among(keys))
    return _Partitions(judged, [key for key in keys if key not in judged], left_out)


def in_order(looked_at: Sequence[str], ready: Sequence[str]) -> list[str]:
    """Partitions in the order of their looks: as they were first judged, then those that are ready now, oldest first.

    >>> in_order(["2024-01-02", "2024-01-03"], ["2024-01-01", "2024-01-02", "2024-01-04"])
    ['2024-01-02', '2024-01-03', '2024-01-01', '2024-01-04']
    """
    return list(dict.fromkeys([*looked_at, *sorted(ready)]))


def _scored(problem: Problem, partitions: Iterable[str]) -> dict[str, int]:
    """How many events each partition had when it was scored."""
    manifests = {key: store.find_json(manifest_uri(problem, key)) for key in partitions}
    return {key: int(manifest["rows"]) for key, manifest in manifests.items() if manifest}


def _left_out(problem: Problem, rollout: Rollout, keys: Sequence[str]) -> dict[str, str]:
    reasons: dict[str, str] = {}
    held = quarantine.held(problem)
    unlabelled = quarantine.unlabelled(problem)
    learnt = {version: learnt_by(problem, version) for version in (rollout.champion, rollout.challenger)}
    for key in keys:
        taught = [version for version, partitions in learnt.items() if key in partitions]
        if key in held:
            reasons[key] = "it is in quarantine"
        elif key in unlabelled:
            reasons[key] = "its labels came in a delivery that was refused"
        elif taught:
            reasons[key] = " and ".join(f"version {version} has learnt from it" for version in taught)
    return reasons


def _effects(rollout: Rollout, problem: Problem, parts: list[ScoredTwice], is_paired: bool) -> list[Effect]:
    """At each look, of all partitions up to it: how far the challenger's loss is above the champion's.

    Rows of one unit are compared as one: of pairs over all partitions, wherever the unit is more than a row; of rows
    that are drawn, over all for which it is drawn once.
    """
    if not parts:
        return []
    settings = rollout.settings
    loss = LOSSES[settings.loss(problem.task)]
    champion, challenger = (
        np.concatenate([loss(getattr(part, variant)) for part in parts]).astype(np.float64) for variant in VARIANTS
    )
    are_lasting = settings.sticky or (is_paired and settings.unit != "key")
    units = unit_codes(parts, are_lasting=are_lasting)
    ends = np.cumsum([len(part.by_challenger) for part in parts])
    if is_paired:
        return [_told_apart(paired(challenger[:end], champion[:end], units[:end])) for end in ends]
    by_challenger = np.concatenate([part.by_challenger for part in parts])
    propensity = np.concatenate([_propensity(rollout, part) for part in parts])
    covariate = np.concatenate([shown(part.champion.scores, part.champion.decisions) for part in parts])
    losses = np.where(by_challenger, challenger, champion)
    return [
        weighted(
            beyond_expected(losses[:end], covariate[:end]) if end else losses[:end],
            by_challenger[:end],
            propensity[:end],
            units[:end],
        )
        for end in ends
    ]


def _told_apart(effect: Effect) -> Effect:
    """Versions that say the same of every row differ by nothing, for sure."""
    is_same = effect.units > 1 and effect.variance == 0
    return effect._replace(variance=NEARLY_NOTHING) if is_same else effect


def _propensity(rollout: Rollout, part: ScoredTwice) -> Array:
    """The chance that the challenger had of serving each row."""
    return np.full(len(part.by_challenger), rollout.assigned[part.partition].share)


def _judgements(rollout: Rollout, effects: Sequence[Effect], maximum: int | None) -> list[Judgement]:
    """What each look said. Beyond the greatest number of looks nothing can be shown any more, but harm."""
    settings = rollout.settings
    sequences = len(settings.path) - 1 if settings.feedback == "outcome" else 1
    margin, alpha = settings.allowed, settings.alpha
    harm = judge(effects, margin=margin, alpha=alpha, looks=None, sequences=sequences)
    if maximum is None:
        return harm
    proof = judge(effects[:maximum], margin=margin, alpha=alpha, looks=maximum, sequences=sequences)
    return [*proof, *harm[maximum:]]


def _verdict(
    rollout: Rollout, judgements: list[Judgement], here: int, maximum: int | None, is_broken: str | None
) -> Concluded:
    """What is to be done.

    Args:
        here: labelled partitions of this step.
        maximum: labelled partitions, at most, within which it has to be shown that the challenger is not worse; None:
            that was shown before.
        is_broken: what is wrong with the assignment: nothing is promoted on it.
    """
    settings, kind = rollout.settings, rollout.here.kind
    if not judgements:
        return Concluded("hold", "no partition has its labels yet")
    newest, minimum = judgements[-1], settings.looks_of(kind).partitions
    harm = next((judgement for judgement in judgements if judgement.step == "roll back"), None)
    proof = next((judgement for judgement in judgements if judgement.step == "promote"), None)
    is_last_share = rollout.next_rung.kind != kind
    if harm:
        return Concluded("roll back", harm.reason)
    if maximum is not None and not proof and len(judgements) >= maximum:
        return Concluded("expire", f"{newest.reason}; {maximum} labelled partitions are the most that it may take")
    if here < minimum:
        return Concluded("hold", f"{here} of {minimum} labelled partitions are there; {newest.reason}")
    if maximum is not None and is_last_share and not proof:
        return Concluded("hold", f"{newest.reason}; {len(judgements)} of at most {maximum} labelled partitions")
    if is_broken:
        return Concluded("hold", f"it might go on, but the assignment is broken: {is_broken}")
    if proof and is_last_share:
        return Concluded("promote", proof.reason)
    return Concluded(
        "promote", f"no harm is shown: {_bounded(newest)}, after {_partitions_in_words(here)} of this step"
    )


def _bounded(judgement: Judgement) -> str:
    effect = judgement.effect
    if not effect.information:
        return f"{effect.rows:,} rows of {effect.units:,} units are too few to show any"
    return (
        f"effect {effect.value:+.5f} ({judgement.lower:+.5f} to {judgement.upper:+.5f}) on {effect.rows:,} rows of "
        f"{effect.units:,} units"
    )


def _partitions_in_words(count: int) -> str:
    return f"{count} labelled partition{'s' * (count != 1)}"


def _look(partition: str, judgement: Judgement) -> EffectLook:
    effect = judgement.effect
    return EffectLook(
        partition=partition,
        effect=_finite(effect.value),
        variance=_finite(effect.variance),
        rows=effect.rows,
        units=effect.units,
        z=judgement.z,
        bound=_finite(judgement.bound),
        lower=_finite(judgement.lower),
        upper=_finite(judgement.upper),
        step=judgement.step,
    )


def _finite(value: float) -> float | None:
    """What JSON can say."""
    return value if math.isfinite(value) else None


def _metrics(rollout: Rollout, parts: list[ScoredTwice], is_paired: bool) -> dict[Variant, dict[str, float | None]]:
    """Of pairs on the same rows; else each version's of those that it served, weighted by the odds of the draw."""
    if not any(len(part.by_challenger) for part in parts):
        return {variant: {} for variant in VARIANTS}
    measured: dict[Variant, dict[str, float | None]] = {}
    for variant in VARIANTS:
        own = [_own_rows(rollout, part, variant, is_paired) for part in parts]
        measured[variant] = measure(own[0].joined(own[1:]))
    return measured


def _own_rows(rollout: Rollout, part: ScoredTwice, variant: Variant, is_paired: bool) -> Scored:
    rows: Scored = getattr(part, variant)
    if is_paired:
        return rows
    served = part.by_challenger if variant == "challenger" else ~part.by_challenger
    chance = rollout.assigned[part.partition].chance(variant)
    return replace(rows, weights=np.where(served, 1 / chance, 0.0))


def _auc_gain(problem: Problem, parts: list[ScoredTwice]) -> Interval | None:
    """On the same rows; of very many on some of them, evenly spread. None where there is no AUC to speak of."""
    if not parts or problem.task == "regression" or parts[0].champion.classes != parts[0].challenger.classes:
        return None
    champion = parts[0].champion.joined([part.champion for part in parts[1:]])
    challenger = parts[0].challenger.joined([part.challenger for part in parts[1:]])
    rows = pa.concat_tables([part.rows for part in parts])
    every = -(-rows.num_rows // COMPARED_ROWS) or 1
    some = np.arange(0, rows.num_rows, every)
    blocks = blocks_of(problem, rows.take(some))
    return gains(challenger.take(some), champion.take(some), blocks, problem.evaluation.bootstrap, ["auc"])["auc"]


def _coverage(judged: Sequence[str], recounts: Sequence[Recount], parts: list[ScoredTwice]) -> dict[Variant, Coverage]:
    served = [counted for counted in recounts if counted.partition in judged]
    by_challenger = sum(int(part.by_challenger.sum()) for part in parts)
    labelled = sum(len(part.by_challenger) for part in parts)
    return {
        "champion": Coverage(sum(counted.champion_rows for counted in served), labelled - by_challenger),
        "challenger": Coverage(sum(counted.challenger_rows for counted in served), by_challenger),
    }


def _labelled_p(rollout: Rollout, parts: list[ScoredTwice]) -> float | None:
    """Whether units that have a label are shared out as all units were to be."""
    drawn = sorted(
        (part for part in parts if 0 < rollout.assigned[part.partition].share < 1), key=lambda part: part.partition
    )
    if not drawn:
        return None
    codes = unit_codes(drawn, are_lasting=rollout.settings.sticky)
    first = np.unique(codes, return_index=True)[1]
    is_first = np.zeros(len(codes), bool)
    is_first[first] = True
    counts, start = [], 0
    for part in drawn:
        end = start + len(part.by_challenger)
        by_challenger = part.by_challenger[is_first[start:end]]
        challengers = int(by_challenger.sum())
        counts.append((len(by_challenger) - challengers, challengers))
        start = end
    return ratio_p(counts, [rollout.assigned[part.partition].share for part in drawn])
