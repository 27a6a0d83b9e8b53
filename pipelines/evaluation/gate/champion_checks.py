"""against: the checks of the gate that compare the challenger with another model, the champion above all."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

from pipelines.config import Gate, Metric, SliceGate, is_key
from pipelines.documents.evaluation import CheckVerdict
from pipelines.evaluation.gate.safe_read import at, entries, number, show, span, text, texts
from pipelines.metrics.metrics import SKILL, goodness

SLICE_LOSS = 0.05
WITH_UNIT = ("rmse", "mae", "bias", "cost")
AGREEMENT = 1e-6  # between a gain and the two metrics that it is the difference of


@dataclass(frozen=True)
class Check:
    """`is_tie`: it passed because these rows cannot tell the challenger from the champion, not as better."""

    name: str
    passed: bool
    reason: str
    is_tie: bool = False

    def document(self) -> CheckVerdict:
        """As gate.json and the ledger keep it."""
        return {"name": self.name, "passed": self.passed, "reason": self.reason, "is_tie": self.is_tie}


def gain(over: str, metric: str, least: float, report: Any, other: Any) -> Check:
    """Whether the challenger is so much better than another model, by the lower bound."""
    gained = span(other, "gain", metric)
    ours, theirs = number(report, "metrics", metric, "value"), number(other, "metrics", metric)
    name = f"{metric} over {over}"
    if gained is None or ours is None or theirs is None:
        return Check(name, False, f"{name}: gain missing ({show(ours)} against {show(theirs)})")
    difference = goodness(metric, ours) - goodness(metric, theirs)
    if abs(difference - gained.value) > AGREEMENT * max(1, abs(ours), abs(theirs)):
        return Check(name, False, f"{name}: gain {gained.value:+.4f} is not {ours:.4f} against {theirs:.4f}")
    return Check(name, gained.low >= least, f"{name}: gain {gained}, wanted at least {least:g}")


def over_champion(evaluation: Any, report: Any, thresholds: Gate) -> Iterator[Check]:
    """All checks that need a champion; one that passes where none serves."""
    champion = at(evaluation, "champion")
    if not isinstance(evaluation, dict) or "champion" not in evaluation:
        yield Check("champion", False, "no evidence about the champion")
    elif "serves" not in evaluation or evaluation["serves"] != at(champion, "version"):
        serves, compared = evaluation.get("serves", "not known"), at(champion, "version")
        message = f"version {serves} serves, compared was version {compared}"
        yield Check("champion", False, message.replace("version None", "none"))
    elif champion is None:
        yield Check("champion", True, "no champion serves yet")
    else:
        yield _another_model(champion, report)
        yield _fair_test(evaluation, champion, report)
        yield _other_scores(champion)
        for metric in thresholds.gain_over_champion:
            yield no_worse(evaluation, report, champion, metric, thresholds)
        if thresholds.max_jump is not None:
            yield _no_jump(evaluation, report, champion, thresholds.max_jump)
        if thresholds.max_champion_fall is not None:
            yield _holds_up(evaluation, champion, thresholds.max_champion_fall)
        if thresholds.min_learnt_share is not None:
            yield _learnt_enough(evaluation, champion, thresholds.min_learnt_share)
        if thresholds.max_forgotten is not None:
            yield _not_forgotten(evaluation, champion, thresholds.max_forgotten)
        if thresholds.slices:
            yield _slices(champion, report, thresholds.slices)


def no_worse(evaluation: Any, report: Any, champion: Any, metric: Metric, thresholds: Gate) -> Check:
    """Whether the challenger has the gain that is wanted for sure or, where that is not above 0, ties with the other.

    With few rows the interval of a challenger that is exactly as good is wide, and its lower bound far below 0: to ask
    for the bound alone fails nearly all of them for lack of rows. It is a tie where the challenger is not worse than
    `ties_pass` of such equals would seem by chance (a one-sided test of "as good as the champion"), and its loss is
    at most `max_tie_loss` of what the champion has above the best baseline: rows that can show less than that cannot
    let anything in. What is clearly worse fails on the first count, what few rows cannot tell from a useless model on
    the second. Without the evidence that this takes the interval decides.
    """
    least = thresholds.gain_over_champion[metric]
    strict = gain("champion", metric, least, report, champion)
    gained, allowed = span(champion, "gain", metric), _tie_loss(evaluation, champion, metric, thresholds)
    is_sound = gain("champion", metric, -float("inf"), report, champion).passed
    if strict.passed or not is_sound or least > 0 or gained is None or allowed is None:
        return strict
    if gained.value < -allowed:
        return Check(strict.name, False, f"{strict.reason}, or {-allowed:.4f} for a tie")
    message = f"{strict.name}: gain {gained}, a tie: these rows cannot tell the challenger from the champion"
    return Check(strict.name, True, f"{message} (at least {-allowed:.4f})", is_tie=True)


def _tie_loss(evaluation: Any, champion: Any, metric: str, thresholds: Gate) -> float | None:
    """How much worse than the champion a challenger may be measured and still tie; None where that is not known."""
    gained, confidence = span(champion, "gain", metric), number(evaluation, "confidence")
    theirs, baselines = number(champion, "metrics", metric), at(evaluation, "baselines")
    known = (
        [number(baseline, "metrics", metric) for baseline in baselines.values()] if isinstance(baselines, dict) else []
    )
    if thresholds.ties_pass is None or gained is None or confidence is None or not 0 < confidence < 1:
        return None
    if theirs is None or not known or None in known:
        return None
    normal = NormalDist()
    error = (gained.high - gained.low) / 2 / normal.inv_cdf((1 + confidence) / 2)
    advantage = goodness(metric, theirs) - max(goodness(metric, loss) for loss in known if loss is not None)
    allowed: float = min(normal.inv_cdf(thresholds.ties_pass) * error, thresholds.max_tie_loss * advantage)
    return max(allowed, 0.0)


def _another_model(champion: Any, report: Any) -> Check:
    ours, theirs = text(report, "run_id"), text(champion, "run_id")
    if ours is None or theirs is None:
        return Check("another model", False, "the run of challenger or champion is missing")
    message = f"champion is version {at(champion, 'version')}"
    return Check(
        "another model", ours != theirs, "challenger and champion are the same run" if ours == theirs else message
    )


def _fair_test(evaluation: Any, champion: Any, report: Any) -> Check:
    """The champion has not learnt from the rows that it is measured on."""
    name, until = "champion's test is fair", at(champion, "trained_until")
    tested, measured = texts(evaluation, "test_partitions"), texts(report, "partitions")
    if not tested or not measured or set(tested) != set(measured) or not all(map(is_key, tested)):
        return Check(name, False, "which partitions were tested is missing or contradicts itself")
    if at(evaluation, "is_drawn") is True:
        learnt = number(champion, "learnt_test_rows")
        if learnt is None:
            return Check(name, False, "whether the champion has learnt from test rows is missing")
        message = f"of the test rows, which are drawn, the champion has learnt from {learnt:.0f}"
        cure = "; a changed seed, share or group of dataset.split draws other rows: put it back" if learnt else ""
        return Check(name, learnt == 0, message + cure)
    message = f"champion learnt from data until {until}, the test starts at {min(tested)}"
    return Check(name, is_key(until) and until < min(tested), message)


def _other_scores(champion: Any) -> Check:
    gains = at(champion, "gain")
    spans = [span(gains, name) for name in gains] if isinstance(gains, dict) else []
    known = [gain for gain in spans if gain is not None]
    if not known:
        return Check("other scores", False, "no gain over the champion is known")
    is_same = all(gain == (0, 0, 0) for gain in known)
    message = "challenger and champion give the same scores" if is_same else "the challenger's scores are its own"
    return Check("other scores", not is_same, message)


def _no_jump(evaluation: Any, report: Any, champion: Any, most: float) -> Check:
    """Retraining brings a little; what brings much more is a leak, until somebody has looked."""
    name, metric = "no jump", _skill_metric(evaluation)
    if at(champion, "is_fallback") is True:
        return Check(name, True, "a baseline serves as a fallback: any model that has learnt something jumps")
    gained = gain(f"champion, {metric}", metric, -float("inf"), report, champion)
    over_champion_by = span(champion, "gain", metric)
    if not gained.passed or over_champion_by is None:
        return Check(name, False, gained.reason)
    message = f"{metric} over champion {over_champion_by}: more than {most:g} at once is a leak more often than a find"
    return Check(name, over_champion_by.low <= most, message)


def _holds_up(evaluation: Any, champion: Any, most: float) -> Check:
    """The champion still knows about what it knew when it was promoted.

    A model does not forget. Where it falls far on new rows, their labels or features are to be looked at first: no
    comparison on such rows means anything, whoever wins it.
    """
    name, metric = "champion holds up", _skill_metric(evaluation)
    before, now_known = at(champion, "promoted", "baselines"), at(evaluation, "baselines")
    both = (
        [name for name in before if name in now_known]
        if isinstance(before, dict) and isinstance(now_known, dict)
        else []
    )
    then = _advantage(at(champion, "promoted", "metrics"), before, both, metric)
    now = _advantage(at(champion, "metrics"), now_known, both, metric)
    if then is None or now is None:
        when = "when it was promoted" if then is None else "on these rows"
        return Check(name, False, f"the champion's {metric} {when}, or that of the same baselines, is missing")
    message = f"the champion is {now:+.4f} {metric} above the baselines, at its promotion {then:+.4f}"
    is_up = then <= 0 or now >= (1 - most) * then
    return Check(
        name, is_up, message + ("" if is_up else f": more than {most:.0%} lost, look at the new labels and features")
    )


def _learnt_enough(evaluation: Any, champion: Any, least: float) -> Check:
    """Rows that got lost between the training set and the fit are seen by nobody else.

    A training that was asked to learn from less, does: on top of the champion, or from some partition on.
    """
    name = "learnt from enough"
    if text(evaluation, "how") in ("continue", "recalibrate"):
        return Check(name, True, f"the challenger goes on from version {at(evaluation, 'builds_on')}")
    if is_key(start := at(evaluation, "window_from")):
        return Check(name, True, f"the challenger was to learn from {start} on and from nothing before")
    ours, theirs = number(evaluation, "learnt", "fitted_rows"), number(champion, "fitted_rows")
    if ours is None or theirs is None:
        return Check(name, False, "how many rows challenger and champion learnt from is missing")
    message = f"the challenger learnt from {ours:.0f} rows, the champion from {theirs:.0f}"
    return Check(name, ours >= least * theirs, f"{message}; wanted at least {least:.0%} as many")


def _not_forgotten(evaluation: Any, champion: Any, most: float) -> Check:
    """The challenger knows the rows that both have learnt from about as well as the champion does.

    A small training set is learnt by heart more than a large one is: the champion may be better there by half of what
    it loses on new rows.
    """
    name, metric, shared = "nothing forgotten", _skill_metric(evaluation), at(evaluation, "learnt", "shared")
    if isinstance(evaluation.get("learnt"), dict) and "shared" in evaluation["learnt"] and shared is None:
        return Check(name, True, "there are no rows that challenger and champion have both learnt from")
    gained, then, now = span(shared, "gain"), number(shared, "champion"), number(champion, "metrics", metric)
    if gained is None or then is None or now is None:
        return Check(name, False, f"{metric} over champion on rows that both have learnt from is missing")
    allowed = max(most, (then - now) / 2)
    message = f"{metric} over champion on rows that both have learnt from: {gained}, may lose at most {allowed:.4f}"
    return Check(name, gained.high >= -allowed, message)


def _skill_metric(evaluation: Any) -> str:
    return SKILL.get(text(evaluation, "task") or "", "skill of an unknown task")


def _advantage(metrics: Any, baselines: Any, names: list[str], metric: str) -> float | None:
    """How far a model lies above the best of these baselines."""
    ours, theirs = number(metrics, metric), [number(baselines, name, "metrics", metric) for name in names]
    known = [value for value in theirs if value is not None]
    return None if ours is None or not known or len(known) < len(theirs) else ours - max(known)


def _slices(champion: Any, report: Any, wanted: SliceGate) -> Check:
    """No slice in which the challenger is worse than the champion by more than `max_loss`, for sure.

    A slice counts only where the metric has an interval in it: one class alone has no AUC.
    """
    metric, name = wanted.metric, "slices"
    compared, declared, searched = (
        entries(champion, "slices"),
        entries(report, "slices", "declared"),
        entries(report, "slices", "found"),
    )
    if compared is None or declared is None or searched is None:
        return Check(name, False, "no evidence about slices")
    gains = [
        (text(each_slice, "name"), span(each_slice, "gain") if at(each_slice, "metric") == metric else None)
        for each_slice in compared
    ]
    known = [(name, gain) for name, gain in gains if name is not None and gain is not None]
    own = [(text(each_slice, "name"), span(each_slice, "metrics", metric)) for each_slice in (*declared, *searched)]
    measurable = [name for name, value in own if name is None or value is not None]
    gone = [name for name, gain in gains if name is None or gain is None]
    gone += [slice_name for slice_name in measurable if slice_name not in [name for name, _ in gains]]
    if gone:
        return Check(name, False, f"no {metric} gain over the champion in {len(gone)} slices, such as {gone[0]}")
    if not known:
        return Check(name, True, "no slice to compare with the champion")
    worst, gain = min(known, key=lambda pair: pair[1].high)
    most = _most_lost(champion, wanted)
    if most is None:
        return Check(name, False, f"the champion's {metric}, of which a slice may lose a share, is missing")
    message = f"{metric} over champion in the worst slice, {worst}: {gain}, may lose at most {most:.4g}"
    return Check(name, gain.high >= -most, message)


def _most_lost(champion: Any, wanted: SliceGate) -> float | None:
    """What a slice may lose; of metrics with a unit, where nothing is said, a share of what the champion has."""
    if wanted.max_loss is not None:
        return wanted.max_loss
    if wanted.metric not in WITH_UNIT:
        return SLICE_LOSS
    theirs = number(champion, "metrics", wanted.metric)
    return None if theirs is None else SLICE_LOSS * abs(theirs)
