"""What an alert says, what it never says, and that the same is told once in a while."""

from __future__ import annotations

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines import alerts, ledger
from pipelines.alerts import IN_FLIGHT, KINDS, Alert, Judgement, Told, judge, scrub, without_numbers
from pipelines.config import Alerts, Channel
from pipelines.errors import ConfigError
from pipelines.problem import Problem, load_problem
from pipelines.problem_folders import folder_of

NOW = datetime(2024, 5, 6, 7, 8, tzinfo=UTC)
DAY = timedelta(days=1)
ALERT = Alert(
    "monitoring alert",
    "kettle",
    "2024-05-05",
    "covariate shift",
    "PSI 0.31 of litres",
    "monitoring:1",
    ("litres",),
    {"Task": "http://airflow/task", "Drift report": "http://airflow/page"},
)
FIRST = Judgement(True, 1)
TEXTS = st.text(max_size=3000)


# Text -----------------------------------------------------------------------------------------------------


def test_an_alert_in_words() -> None:
    told = alerts.body(ALERT, Judgement(True, 2, 3, NOW - DAY))
    assert ALERT.subject == "[warning] kettle 2024-05-05: covariate shift"
    assert told == (
        "PSI 0.31 of litres\n\n"
        "The same happened 3 more times since it was told at 2024-05-05 07:08 UTC, and was not told.\n\n"
        "Task: http://airflow/task\nDrift report: http://airflow/page"
    )
    assert "not told" not in alerts.body(ALERT, FIRST)
    assert replace(ALERT, partition=None).subject == "[warning] kettle: covariate shift"


def test_the_payload_is_json_and_says_it_all() -> None:
    sent = json.loads(json.dumps(alerts.payload(ALERT, Judgement(True, 2, 1, None))))
    assert sent["severity"] == "warning" and sent["partition"] == "2024-05-05" and sent["suppressed"] == 1
    assert sent["links"]["Task"] == "http://airflow/task"
    assert ALERT.subject in sent["text"] and "once more before" in sent["text"]


def test_what_came_out_of_the_data_is_text_everywhere() -> None:
    evil = replace(ALERT, reason="<script>x</script> <!channel> & co", verdict="a\r\nBcc: all@example.com")
    assert "<script>" not in alerts.html(evil, FIRST) and "&lt;script&gt;" in alerts.html(evil, FIRST)
    mail = alerts.html(ALERT, Judgement(True, 2, 1, None))
    assert '<a href="http://airflow/task">Task</a>' in mail and "<p>The same happened once more" in mail
    assert "<!channel>" not in alerts.slack(evil, FIRST) and "&lt;!channel&gt;" in alerts.slack(evil, FIRST)
    assert evil.subject == "[warning] kettle 2024-05-05: a Bcc: all@example.com"


@given(TEXTS, TEXTS)
def test_a_subject_is_one_short_printable_line(verdict: str, reason: str) -> None:
    alert = replace(ALERT, verdict=verdict, reason=reason)
    assert alert.subject.isprintable() and len(alert.subject) <= 200
    assert len(alerts.body(alert, FIRST)) < 2200


@pytest.mark.parametrize(
    ("text", "scrubbed"),
    [
        ("postgresql://me:pa55word@db:5432/x", "postgresql://***@db:5432/x"),
        ("https://s3/x?X-Amz-Signature=0af3&part=2", "https://s3/x?X-Amz-Signature=***&part=2"),
        ('{"api_key": "abc def", "rows": 3}', '{"api_key": ***, "rows": 3}'),
        ("AWS_SECRET_ACCESS_KEY=abc/def+1 refused", "AWS_SECRET_ACCESS_KEY=*** refused"),
        ("Authorization: Bearer ey.J.x sent", "Authorization: *** sent"),
        ("column 'key' of 30 rows at 04:00", "column 'key' of 30 rows at 04:00"),
    ],
)
def test_secrets_are_scrubbed(text: str, scrubbed: str) -> None:
    assert scrub(text) == scrubbed


@given(TEXTS, st.text(st.characters(exclude_characters="*"), min_size=8, max_size=40), TEXTS)
def test_a_known_secret_never_passes(before: str, secret: str, after: str) -> None:
    assert secret not in scrub(f"{before}*{secret}*{after}", [secret])


@given(st.integers(0, 10**9), st.integers(0, 10**9))
def test_the_same_trouble_in_other_numbers_is_the_same(one: int, other: int) -> None:
    first, second = (f"too many bad events in 2024-01-{n % 28 + 1:02} ({n / 7:.1f}% of {n} rows)" for n in (one, other))
    assert without_numbers(first) == without_numbers(second)
    assert without_numbers("column 'dest' is gone") != without_numbers("column 'origin' is gone")


def test_what_makes_it_the_same() -> None:
    others = [
        replace(ALERT, same=("age",)),
        replace(ALERT, problem="toaster"),
        replace(ALERT, kind="task failed"),
        replace(ALERT, same=("litres", "age")),
    ]
    again = replace(ALERT, partition="2024-05-06", reason="PSI 0.32 of litres", event="monitoring:2")
    assert again.fingerprint == ALERT.fingerprint
    assert len({ALERT.fingerprint, *(one.fingerprint for one in others)}) == 5


def test_every_kind_has_its_severity() -> None:
    assert {kind: about.severity for kind, about in KINDS.items()} == {
        "task failed": "error",
        "data refused": "error",
        "gate refused": "warning",
        "monitoring alert": "warning",
        "partition quarantined": "error",
        "version switched": "warning",
        "retraining requested": "info",
        "promoted": "info",
        "release": "info",
        "approval wanted": "warning",
        "release ended": "warning",
    }


# De-duplication -------------------------------------------------------------------------------------------


def told(number: int, event: str, at: datetime) -> list[Told]:
    return [Told("claimed", event, at, number), Told("sent", event, at, number)]


def test_judgements() -> None:
    assert judge("a", [], NOW, DAY) == Judgement(True, 1)
    hour_ago = NOW - timedelta(hours=1)
    assert judge("b", told(1, "a", hour_ago), NOW, DAY) == Judgement(False, 0, 0, hour_ago)
    assert judge("b", told(1, "a", NOW - DAY), NOW, DAY) == Judgement(True, 2, 0, NOW - DAY)
    assert not judge("a", told(1, "a", NOW - 9 * DAY), NOW, DAY).tells, "the same event is told once"
    assert judge("b", told(1, "a", hour_ago), NOW, timedelta(0)).tells, "0 days: every time"
    counted = [*told(1, "a", NOW - 2 * DAY), Told("suppressed", "b", NOW - 1.5 * DAY)]
    assert judge("c", counted, NOW, DAY) == Judgement(True, 2, 1, NOW - 2 * DAY)


def test_a_claim_that_nobody_carried_out_counts_for_a_minute() -> None:
    claimed = [Told("claimed", "a", NOW, 1)]
    assert not judge("b", claimed, NOW + IN_FLIGHT / 2, DAY).tells
    assert not judge("a", claimed, NOW + IN_FLIGHT / 2, DAY).tells
    assert judge("a", claimed, NOW + IN_FLIGHT, DAY) == Judgement(True, 2)


@settings(max_examples=60)
@given(
    st.lists(st.tuples(st.integers(1, 30), st.integers(0, 5), st.booleans()), max_size=40),
    st.integers(0, 48),
)
def test_however_often_it_happens(happenings: list[tuple[int, int, bool]], repeat_hours: int) -> None:
    """Hours since the one before, event, and whether a channel took it: told times are far enough apart, all counts
    add up, and nothing that happens for the first time in long enough is swallowed."""
    repeat_after, now = timedelta(hours=repeat_hours), NOW
    past: list[Told] = []
    sent: dict[str, datetime] = {}
    swallowed = 0
    for hours, number, is_taken in happenings:
        now, event = now + timedelta(hours=hours), f"event {number}"
        judged = judge(event, past[::-1], now, repeat_after)
        last = max(sent.values(), default=None)
        assert judged.tells == (event not in sent and (last is None or now - last >= repeat_after))
        assert judged.suppressed == swallowed and judged.since == last
        if judged.tells:
            past.append(Told("claimed", event, now, judged.claim))
            if is_taken:
                past.append(Told("sent", event, now, judged.claim))
                sent[event], swallowed = now, 0
        else:
            past.append(Told("suppressed", event, now))
            swallowed += 1
    numbers = [row.claim for row in past if row.action == "claimed"]
    assert numbers == list(range(1, len(numbers) + 1)), "each claim has its own number"


def test_the_ledger_keeps_the_state(toy: Callable[..., Problem], store_folder: Path) -> None:
    problem = toy()
    first = alerts.claim(problem, ALERT, datetime.now(UTC))
    assert first == FIRST
    alerts.settle(problem, ALERT, first)
    assert not alerts.claim(problem, ALERT, datetime.now(UTC) + 9 * DAY).tells, "told once, however often it is cleared"
    for number in (2, 3, 3):
        again = alerts.claim(problem, replace(ALERT, event=f"monitoring:{number}"), datetime.now(UTC))
        assert (again.tells, again.suppressed) == (False, number - 1)
    assert alerts.claim(problem, replace(ALERT, same=("age",)), datetime.now(UTC)).tells, "another column"
    later = alerts.claim(problem, replace(ALERT, event="monitoring:4"), datetime.now(UTC) + DAY)
    assert (later.tells, later.claim, later.suppressed) == (True, 2, 2)
    rows = ledger.decisions(problem, "alert")
    assert [row["action"] for row in rows] == ["claimed", "sent", "suppressed", "suppressed", "claimed", "claimed"]
    assert rows[0]["evidence"]["subject"] == ALERT.subject


def test_repeat_after_is_the_problems(toy: Callable[..., Problem], store_folder: Path) -> None:
    problem = toy(**{"alerts.repeat_after": "2 hours"})
    alerts.settle(problem, ALERT, alerts.claim(problem, ALERT, datetime.now(UTC)))
    again = replace(ALERT, event="again")
    assert not alerts.claim(problem, again, datetime.now(UTC) + timedelta(hours=1)).tells
    assert alerts.claim(problem, again, datetime.now(UTC) + timedelta(hours=3)).tells


def test_of_many_at_once_one_tells(toy: Callable[..., Problem], store_folder: Path) -> None:
    problem, now = toy(), datetime.now(UTC)
    shards = [replace(ALERT, event=f"shard {number}") for number in range(4)]
    with ThreadPoolExecutor(4) as pool:
        judged = list(pool.map(lambda alert: alerts.claim(problem, alert, now), shards))
    assert sum(one.tells for one in judged) == 1
    assert [row["action"] for row in ledger.decisions(problem, "alert")].count("suppressed") == 3


# Config ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"channels": [{"webhook": "ops", "slack": "ops"}]}, "given: webhook and slack"),
        ({"channels": [{"min_severity": "info"}]}, "given: none"),
        ({"channels": [{"webhook": "ops", "min_severity": "fatal"}]}, "min_severity"),
        ({"channels": [{"email": []}]}, "alerts.channels.0.email"),
        ({"channels": [{"email": ["nobody"]}]}, "alerts.channels.0.email.0"),
        ({"channels": [{"email": ["a@b, c@d"]}]}, "alerts.channels.0.email.0"),
        ({"channels": [{"webhok": "ops"}]}, "did you mean 'webhook'?"),
        ({"repeat_after": "-1 days"}, "alerts.repeat_after"),
        ({"repeat_after": "soon"}, "alerts.repeat_after: give a number and a unit"),
        ({"repeat_after": 1}, "alerts.repeat_after: give a number and a unit"),
        ({"repeat_after": "99999999999 days"}, "alerts.repeat_after: give a number and a unit"),
    ],
)
def test_wrong_settings(toy: Callable[..., Problem], settings: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ConfigError, match="next:") as caught:
        toy(alerts=settings)
    assert complaint in str(caught.value)


def test_an_address_in_the_file_is_refused_and_not_told(toy: Callable[..., Problem]) -> None:
    with pytest.raises(ConfigError, match="id of an Airflow connection") as caught:
        toy(alerts={"channels": [{"slack": "https://hooks.example.com/T000/B000/s3cr3t"}]})
    assert "s3cr3t" not in str(caught.value)


def test_defaults() -> None:
    assert Alerts().channels == [] and Alerts().repeat_after == DAY
    took = {
        least: [one for one in ("info", "warning", "error") if Channel(webhook="w", min_severity=least).takes(one)]
        for least in ("info", "warning", "error")
    }
    assert took == {"info": ["info", "warning", "error"], "warning": ["warning", "error"], "error": ["error"]}
    assert Channel(webhook="w").min_severity == "warning"


@pytest.mark.parametrize(
    ("text", "wanted"), [("30 minutes", DAY / 48), ("1 hour", DAY / 24), ("2 weeks", 14 * DAY), ("0 days", 0 * DAY)]
)
def test_durations_survive_being_kept(text: str, wanted: timedelta) -> None:
    found = Alerts(repeat_after=text)  # type: ignore[arg-type]
    assert found.repeat_after == wanted
    assert Alerts.model_validate(found.model_dump(mode="json")) == found


def test_who_is_told_is_no_part_of_a_model(toy: Callable[..., Problem]) -> None:
    assert toy(alerts={"channels": [{"webhook": "ops"}]}).config_hash == toy().config_hash


def test_a_package_that_is_missing_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Slack's provider is not one of Airflow's own dependencies; SMTP's is."""
    folder = tmp_path / "kettle"
    folder.mkdir()
    text = (folder_of("flight_delay") / "problem.yaml").read_text()
    path = folder / "problem.yaml"
    monkeypatch.setenv("EVERGREEN_PROBLEMS", str(tmp_path))
    path.write_text(text + "\nalerts: {channels: [{email: [a@example.com]}, {webhook: ops}]}\n")
    assert load_problem("kettle").alerts.channels[1].webhook == "ops"
    path.write_text(text + "\nalerts: {channels: [{webhook: ops}, {slack: chat}]}\n")
    with pytest.raises(ConfigError) as caught:
        load_problem("kettle")
    assert "alerts.channels.1.slack needs the package apache-airflow-providers-slack" in caught.value.what
    assert "every Airflow component" in caught.value.cure
