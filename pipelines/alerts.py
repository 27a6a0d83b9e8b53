"""What an alert says, and whether it is told again.

The same thing (problem, kind, `same`) is told once in `alerts.repeat_after`; what happens meanwhile is counted. The
state is on the ledger, as decisions of kind alert: `claimed` (somebody is about to tell), `sent`, `suppressed`. A claim
has a number, and the ledger takes each number once: of several tasks that fail in the same second, one tells.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from html import escape
from typing import Literal, NamedTuple, TypedDict

from pipelines.config import Severity
from pipelines.html.render import render
from pipelines.problem import Problem

Kind = Literal[
    "task failed",
    "data refused",
    "gate refused",
    "monitoring alert",
    "partition quarantined",
    "version switched",
    "retraining requested",
    "promoted",
    "release",
    "approval wanted",
    "release ended",
]


class AboutKind(NamedTuple):
    """What there is to say of a kind of alert; docs/alerts.md has its table from here."""

    severity: Severity
    when: str
    """What happened, in the words of the table."""
    page: str | None
    """Name of the page that the alert links: a button of include/links.py. None: it links the task alone."""


KINDS: dict[Kind, AboutKind] = {
    "task failed": AboutKind(
        "error", "a task failed and its retries are used up, or its process was killed", page=None
    ),
    "data refused": AboutKind(
        "error",
        "`ingest.validate` failed with *DataError* or *SchemaError*: nothing was published; or `ingest.publish` went "
        "on without refused partitions",
        page="Validation",
    ),
    "gate refused": AboutKind(
        "warning",
        "`train.gate`, or `train.refit` after it, failed with *GateFailed*: the champion goes on serving",
        page="Evaluation",
    ),
    "monitoring alert": AboutKind("warning", "the monitor decided *alert*: people are to know", page="Monitoring"),
    "partition quarantined": AboutKind(
        "error", "the monitor's `act` keeps a partition out of every training set", page="Monitoring"
    ),
    "version switched": AboutKind(
        "warning", "the monitor's `act` lets the version before serve again, or the baseline", page="Monitoring"
    ),
    "retraining requested": AboutKind(
        "info", "the monitor's `act` has asked for a training, of whichever kind", page="Monitoring"
    ),
    "promoted": AboutKind("info", "`train.promote` has made a version the champion", page="Model card"),
    "release": AboutKind("info", "a version's release has begun, waits, or has gone on to its next rung", page=None),
    "approval wanted": AboutKind(
        "warning", "`release.ask` waits for people: see Airflow's *Required Actions*", page="Release"
    ),
    "release ended": AboutKind(
        "warning", "`release.step` has ended a release: promoted, rolled back, rejected, expired", page="Release"
    ),
}
IN_FLIGHT = timedelta(
    minutes=1
)  # an older claim that never became `sent`: whoever made it has died, or nobody answered
SUBJECT_LENGTH, REASON_LENGTH = 200, 2000
SECRET = re.compile(
    r"(?i)((?:\b|[a-z]*_)pass[\"']?\s*[=:]\s*|[a-z_]*(?:passw|passphrase|pwd|secret|token|api_?key|access_?key|signature|authorization)[a-z_]*[\"']?\s*[=:]\s*)"
    r"(\"[^\"]*\"|'[^']*'|(?:basic |bearer )?[^\s\"'&,;]+)"
)
LOGIN = re.compile(r"(?<=://)[^/\s\"'<>]+@")
HASH = r"\b(?=[0-9a-f]*\d)(?=[0-9a-f]*[a-f])[0-9a-f]{8,}\b"
NUMBER = re.compile(rf"0x[0-9a-f]+|{HASH}|\d[\d.,:]*(?:e[+-]?\d+)?", re.IGNORECASE)


@dataclass(frozen=True)
class Alert:
    """`event` names what happened, once; `same` is what it has in common with other times of the same trouble."""

    kind: Kind
    problem: str
    partition: str | None
    verdict: str
    reason: str
    event: str
    same: tuple[str, ...]
    links: Mapping[str, str] = field(default_factory=dict)

    @property
    def severity(self) -> Severity:
        return KINDS[self.kind].severity

    @property
    def fingerprint(self) -> str:
        """Equal for the same trouble."""
        return hashlib.sha256(json.dumps([self.problem, self.kind, *self.same]).encode()).hexdigest()[:16]

    @property
    def subject(self) -> str:
        """One line.

        >>> alert = Alert("task failed", "kettle", "2024-01-01", "train failed", "no memory", "run 1", ("train",))
        >>> alert.subject
        '[error] kettle 2024-01-01: train failed'
        """
        about = " ".join(part for part in (self.problem, self.partition) if part)
        return _cut(" ".join(_printable(f"[{self.severity}] {about}: {self.verdict}").split()), SUBJECT_LENGTH)


@dataclass(frozen=True)
class Told:
    """One row of an alert's past: `claim` is the claim's number, 0 of what was suppressed."""

    action: Literal["claimed", "sent", "suppressed"]
    event: str
    at: datetime
    claim: int = 0


@dataclass(frozen=True)
class Judgement:
    """Whether to tell, as which claim; how often the same was suppressed since it was last told, at `since`."""

    tells: bool
    claim: int = 0
    suppressed: int = 0
    since: datetime | None = None

    @property
    def note(self) -> str:
        """What to add to the alert; empty when nothing was suppressed."""
        if not self.suppressed:
            return ""
        times = "once more" if self.suppressed == 1 else f"{self.suppressed} more times"
        since = f" since it was told at {self.since.astimezone(UTC):%Y-%m-%d %H:%M} UTC" if self.since else " before"
        return f"The same happened {times}{since}, and was not told."


# Text -----------------------------------------------------------------------------------------------------


def body(alert: Alert, judged: Judgement) -> str:
    """The alert in plain text: reason, what was suppressed, links."""
    links = [f"{name}: {url}" for name, url in alert.links.items()]
    return "\n\n".join(part for part in (_reason(alert), judged.note, "\n".join(links)) if part)


class Mail(NamedTuple):
    reason: str
    note: str
    links: Mapping[str, str]


def html(alert: Alert, judged: Judgement) -> str:
    """The same as HTML; nothing of what came out of the data is markup."""
    mail = Mail(_reason(alert), judged.note, alert.links)
    return render("alert.html", alert.subject, mail).decode()


def slack(alert: Alert, judged: Judgement) -> str:
    """The same for Slack, where <!channel> would call everybody: its three control characters are escaped."""
    links = "\n".join(f"<{_slack_text(url)}|{_slack_text(name)}>" for name, url in alert.links.items())
    lines = [f"*{_slack_text(alert.subject)}*", _slack_text(_reason(alert)), judged.note, links]
    return "\n".join(part for part in lines if part)


class Payload(TypedDict):
    """What a webhook receives; `text` is the whole of it, for receivers that show just that."""

    severity: str
    kind: str
    problem: str
    partition: str | None
    verdict: str
    reason: str
    suppressed: int
    links: dict[str, str]
    fingerprint: str
    subject: str
    text: str


def payload(alert: Alert, judged: Judgement) -> Payload:
    """The same as JSON for a webhook."""
    return {
        "severity": alert.severity,
        "kind": alert.kind,
        "problem": alert.problem,
        "partition": alert.partition,
        "verdict": alert.verdict,
        "reason": _reason(alert),
        "suppressed": judged.suppressed,
        "links": dict(alert.links),
        "fingerprint": alert.fingerprint,
        "subject": alert.subject,
        "text": f"{alert.subject}\n\n{body(alert, judged)}",
    }


def scrub(text: str, secrets: Iterable[str] = ()) -> str:
    """The text without logins in addresses, without what follows words such as password, and without `secrets`.

    >>> scrub("postgresql://me:pw@db/x refused; token=abc&page=2")
    'postgresql://***@db/x refused; token=***&page=2'
    >>> scrub("sqlserver://me:p@ss@db; pwd=abc pass=abc DB_PASS: abc, bypass=2")
    'sqlserver://***@db; pwd=*** pass=*** DB_PASS: ***, bypass=2'
    """
    for secret in sorted(secrets, key=len, reverse=True):
        text = text.replace(secret, "***")
    return SECRET.sub(r"\1***", LOGIN.sub("***@", text))


def without_numbers(text: str) -> str:
    """The first line without numbers, dates and hashes: what two messages about the same trouble have in common.

    >>> without_numbers("too many bad events in 2024-01-01 (20.0% of 30 rows)")
    'too many bad events in #-#-# (#% of # rows)'
    """
    return NUMBER.sub("#", text.strip().partition("\n")[0])


# De-duplication -------------------------------------------------------------------------------------------


def judge(event: str, past: Sequence[Told], now: datetime, repeat_after: timedelta) -> Judgement:
    """Whether to tell of `event`, after all that the ledger knows of the same trouble (in any order).

    Not when this very event was told; not within `repeat_after` of the last time that it was told, or is just being
    told. A claim that nobody carried out counts for a minute.
    """
    sent = {row.claim for row in past if row.action == "sent"}
    claims = [row for row in past if row.action == "claimed"]
    holding = [row for row in claims if row.claim in sent or now - row.at < IN_FLIGHT]
    last = max((row.at for row in holding), default=None)
    suppressed = sum(row.action == "suppressed" and (last is None or row.at >= last) for row in past)
    is_told = any(row.event == event for row in holding)
    if is_told or (last is not None and now - last < repeat_after):
        return Judgement(False, suppressed=suppressed, since=last)
    return Judgement(True, max((row.claim for row in claims), default=0) + 1, suppressed, last)


def claim(problem: Problem, alert: Alert, now: datetime) -> Judgement:
    """Judge by the ledger, and note there what came of it; of several that tell at once, one may."""
    past = _past(problem, alert)
    judged = judge(alert.event, past, now, problem.alerts.repeat_after)
    if judged.tells and _note(problem, alert, "claimed", judged.claim):
        return judged
    is_told = any(row.event == alert.event and row.action == "claimed" for row in past)
    is_new = not is_told and _note(problem, alert, "suppressed", 0)
    return Judgement(False, suppressed=judged.suppressed + is_new, since=judged.since)


def settle(problem: Problem, alert: Alert, judged: Judgement) -> None:
    """Note that a claim was carried out: at least one channel took it."""
    _note(problem, alert, "sent", judged.claim)


def _note(problem: Problem, alert: Alert, action: Literal["claimed", "sent", "suppressed"], number: int) -> bool:
    from pipelines import ledger

    return ledger.record(
        problem,
        decision=f"alert:{alert.fingerprint}:{number or alert.event}:{action}",
        kind="alert",
        partition=alert.partition or "",
        verdict=alert.verdict,
        action=action,
        reason=_reason(alert),
        evidence={
            "fingerprint": alert.fingerprint,
            "event": alert.event,
            "claim": number,
            "kind": alert.kind,
            "severity": alert.severity,
            "subject": alert.subject,
        },
    )


def _past(problem: Problem, alert: Alert) -> list[Told]:
    import pyarrow.compute as pc

    from pipelines import store

    is_same = (pc.field("kind") == "alert") & pc.starts_with(pc.field("decision"), f"alert:{alert.fingerprint}:")
    rows = store.dataset(problem, "ledger").to_table(["action", "evidence", "decided_time"], filter=is_same)
    noted_rows = ((row, json.loads(row["evidence"])) for row in rows.to_pylist())
    return [Told(row["action"], noted["event"], row["decided_time"], noted["claim"]) for row, noted in noted_rows]


def _reason(alert: Alert) -> str:
    return _cut(_printable(alert.reason).strip(), REASON_LENGTH)


def _printable(text: str) -> str:
    """Without control characters, which a mail's header and a terminal take for commands."""
    return "".join(char for char in text if char.isprintable() or char in "\n\t")


def _cut(text: str, length: int) -> str:
    return text if len(text) <= length else f"{text[: length - 1]}…"


def _slack_text(text: str) -> str:
    return escape(text, quote=False)
