"""gate: may the challenger serve? Numbers and thresholds in, a verdict with a reason per check out."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from pipelines.config import Gate
from pipelines.documents.evaluation import Evaluation, GateVerdict
from pipelines.evaluation.gate.champion_checks import Check, gain, over_champion
from pipelines.evaluation.gate.safe_read import at, entries, moment, number, show, span, text, texts

SECONDS_PER_DAY = 86_400
BYTES_PER_MB = 1_000_000


@dataclass(frozen=True)
class Verdict:
    checks: list[Check]

    @property
    def passed(self) -> bool:
        return all(check.passed for check in self.checks)

    @property
    def reason(self) -> str:
        """The checks that failed, or all of them when none did, in one line."""
        failed = [check.reason for check in self.checks if not check.passed]
        return "; ".join(failed or [check.reason for check in self.checks])

    def document(self) -> GateVerdict:
        """As gate.json and the ledger keep it."""
        return {"passed": self.passed, "reason": self.reason, "checks": [check.document() for check in self.checks]}


def gate(evaluation: Evaluation, thresholds: Gate) -> Verdict:
    """Judge an evaluation, as `evaluate` gives it. Evidence that is missing or not a number fails its check.

    All is of the test split: challenger, baselines and champion on the same rows. A gain is positive where the
    challenger is better, whichever way its metric runs, and counts by the lower bound of its interval. A threshold
    that is not set makes no check. `champion` None says that none serves yet; `serves` is the version that does, by the
    registry, at this moment; `judged` are the training and the run that wait for the verdict.
    """
    report = at(evaluation, "challenger")
    checks = [
        _is_about_it(evaluation, report),
        _enough_rows(evaluation, thresholds.min_rows),
        _no_leaks(evaluation),
        _learns(evaluation, report),
        _tells_rows_apart(report),
        *_limits(report, thresholds),
        *_over_baselines(evaluation, report, thresholds),
        *_keeps_rows(evaluation, thresholds),
        *over_champion(evaluation, report, thresholds),
        _behaves(report),
        *_fair(report, thresholds),
        *_bounds(evaluation, report, thresholds),
    ]
    return Verdict(checks)


def _is_about_it(evaluation: Any, report: Any) -> Check:
    """The evidence was found out about what is to be registered, and about nothing else."""
    pairs = [
        (text(evaluation, "judged", "training"), text(evaluation, "training"), "training"),
        (text(evaluation, "judged", "run_id"), text(report, "run_id"), "run"),
    ]
    wrong = [
        f"{name} {wanted}, not {actual or 'known'}"
        for wanted, actual, name in pairs
        if wanted is None or wanted != actual
    ]
    message = (
        f"the evidence has to be about {' and '.join(wrong)}" if wrong else "the evidence is about this challenger"
    )
    return Check("evidence", not wrong, message)


def _enough_rows(evaluation: Any, wanted: int) -> Check:
    rows = number(evaluation, "test_rows") or 0
    return Check("test rows", rows >= wanted, f"{rows:.0f} test rows, wanted at least {wanted}")


def _no_leaks(evaluation: Any) -> Check:
    findings = entries(evaluation, "leaks", "findings")
    if at(evaluation, "leaks", "checked") is not True or findings is None:
        return Check("leaks", False, "nobody looked for leaks")
    message = ", ".join(map(str, findings[:3]))
    return Check("leaks", not findings, f"{len(findings)} leaks: {message}" if findings else "no leak was found")


def _learns(evaluation: Any, report: Any) -> Check:
    name, baselines = text(report, "candidate"), _named(report, "baselines", at(evaluation, "baselines"))
    if name is None or text(report, "run_id") is None or not baselines:
        return Check("challenger", False, "no evidence about the challenger")
    message = f"the challenger {name} is {'a' if name in baselines else 'no'} baseline"
    return Check("challenger", name not in baselines, message)


def _named(report: Any, kind: str, entries_of: Any) -> list[str]:
    """What the problem declares, and what else was found; nothing where it does not say what it declares."""
    declared = texts(report, "declared", kind)
    if declared is None:
        return []
    return (
        [*declared, *(name for name in entries_of if name not in declared)]
        if isinstance(entries_of, dict)
        else declared
    )


def _tells_rows_apart(report: Any) -> Check:
    distinct = number(report, "distinct_scores")
    message = "number of different scores missing" if distinct is None else f"{distinct:.0f} different scores"
    return Check("scores", distinct is not None and distinct >= 2, f"{message}, wanted at least 2")


def _keeps_rows(evaluation: Any, thresholds: Gate) -> Iterator[Check]:
    """The model has learnt from the training split, and from all of it as it is."""
    learnt = at(evaluation, "learnt")
    if not isinstance(learnt, dict) or "bias" not in learnt:
        yield Check("training rows", False, "what the challenger makes of its training rows is missing")
        return
    yield _the_same_rows(evaluation, learnt)
    fitted, there = number(learnt, "fitted_rows"), number(evaluation, "train_split", "rows")
    makes, known = at(evaluation, "makes_rows"), fitted is not None and there is not None
    message = f"the challenger learnt from {show(fitted)} rows, the training split has {show(there)}".replace(
        ".0000", ""
    )
    is_more = fitted is not None and there is not None and fitted > there and makes is not True
    yield Check("training rows", known and isinstance(makes, bool) and not is_more, message)
    bias = number(learnt, "bias")
    if thresholds.max_bias is not None and learnt["bias"] is not None:
        message = f"mean score less mean label on training rows {show(bias)}, wanted within {thresholds.max_bias:g}"
        yield Check("bias on training rows", bias is not None and abs(bias) <= thresholds.max_bias, message)


def _the_same_rows(evaluation: Any, learnt: Any) -> Check:
    """What the fit was given is the training split as the tables hold it: not less, not more, and not changed."""
    name, parts = "training split", ("rows", "hash")
    given, there = (
        [at(tree, *path, part) for part in parts]
        for tree, path in ((learnt, ("from",)), (evaluation, ("train_split",)))
    )
    if None in given or None in there:
        return Check(name, False, "which rows the challenger was given, or the training split has, is missing")
    is_same = given == there
    message = f"the challenger was given {given[0]} rows, the training split has {there[0]}"
    return Check(name, is_same, message + ("" if is_same or given[0] != there[0] else ", with other values"))


def _limits(report: Any, thresholds: Gate) -> Iterator[Check]:
    for metric, limit in thresholds.limits.items():
        value = number(report, "metrics", metric, "value")
        bounds = {"at least": limit.min, "at most": limit.max}
        wanted = " and ".join(f"{side} {bound:g}" for side, bound in bounds.items() if bound is not None)
        low = -math.inf if limit.min is None else limit.min
        high = math.inf if limit.max is None else limit.max
        is_inside = value is not None and low <= value <= high
        yield Check(f"{metric} limit", is_inside, f"{metric} {show(value)}, wanted {wanted}")


def _over_baselines(evaluation: Any, report: Any, thresholds: Gate) -> Iterator[Check]:
    names = _named(report, "baselines", at(evaluation, "baselines"))
    if not names:
        yield Check("baselines", False, "no evidence about the baselines")
    for name in names:
        for metric, least in thresholds.gain_over_baselines.items():
            yield gain(name, metric, least, report, at(evaluation, "baselines", name))


def _behaves(report: Any) -> Check:
    declared, behaviours = texts(report, "declared", "behaviours"), entries(report, "behaviours")
    if declared is None or behaviours is None:
        return Check("behaviours", False, "no evidence about behaviours")
    passed = {text(behaviour, "name") for behaviour in behaviours if at(behaviour, "passed") is True}
    failed = [
        text(behaviour, "name") or "one without a name"
        for behaviour in behaviours
        if at(behaviour, "passed") is not True
    ]
    failed += [name for name in declared if name not in passed and name not in failed]
    message = f"behaviours that failed: {', '.join(failed)}" if failed else f"{len(passed)} behaviours as wanted"
    return Check("behaviours", not failed, message)


def _fair(report: Any, thresholds: Gate) -> Iterator[Check]:
    """Each measure of each group column, by the upper bound."""
    if not thresholds.max_unfairness:
        return
    groups = _named(report, "groups", at(report, "fairness"))
    if not groups:
        yield Check("fairness", False, "no evidence about fairness")
    for column in groups:
        for measure, most in thresholds.max_unfairness.items():
            gap, name = span(report, "fairness", column, measure), f"{measure} of {column}"
            message = f"{name} {'missing' if gap is None else f'at most {gap.high:.4f}'}, wanted at most {most:g}"
            yield Check(name, gap is not None and gap.high <= most, message)


def _bounds(evaluation: Any, report: Any, thresholds: Gate) -> Iterator[Check]:
    """Numbers that may not be above what was set."""
    size = number(report, "size_bytes")
    tested, now = moment(evaluation, "test_end"), moment(evaluation, "as_of")
    age = (now - tested).total_seconds() / SECONDS_PER_DAY if tested and now else None
    measured = [
        ("calibration error", number(report, "calibration", "ece"), thresholds.max_calibration_error),
        ("latency in ms", number(report, "latency_ms"), thresholds.max_latency_ms),
        ("size in MB", None if size is None else size / BYTES_PER_MB, thresholds.max_size_mb),
        ("days since the test rows", age, thresholds.max_age_days),
        ("shift of the scores (PSI)", number(report, "drift", "prediction"), thresholds.max_prediction_shift),
    ]
    for name, value, most in measured:
        if most is not None:
            passed = value is not None and 0 <= value <= most
            yield Check(name, passed, f"{name} {show(value)}, wanted at most {most:g}")
