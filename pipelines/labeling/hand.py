"""What people are asked, and what they said."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

import pyarrow as pa

from pipelines.errors import DataError
from pipelines.handoffs.annotation import Form, Response, User
from pipelines.html.wording import cut
from pipelines.problem import Problem

CANNOT_TELL = "cannot tell"
SHOWN_CHARACTERS = 2_000  # of a value: a text has to be read to be judged, but a form is no book
ANSWERS = {"positive": 1, "negative": 0, CANNOT_TELL: None}


def form(problem: Problem, events: pa.Table) -> Form:
    """A form that asks about `events`.

    The body is a table, one row per event in the order of `events`: the key, then labels.hand.show or, without it, the
    columns that are features. There is one parameter per event, `event_01` and so on, with the key as its title.
    Plain values only, so that it can travel between tasks.
    """
    hand = problem.labels.hand
    assert hand is not None
    shown = hand.show or problem.features.columns
    units = [problem.columns[name].unit for name in shown]
    header = ["", problem.key, *(f"{name} ({unit})" if unit else name for name, unit in zip(shown, units, strict=True))]
    rows = events.select([problem.key, *shown]).to_pylist()
    lines = [_row([escape(cell) for cell in header]), _row(["---"] * len(header))]
    zone = ZoneInfo(problem.partitions.timezone)
    lines += [
        _row([str(number), *(escape(_text(value, zone)) for value in row.values())])
        for number, row in enumerate(rows, start=1)
    ]
    labelled = f"\n\nPositive means: {escape(problem.labels.description)}" if problem.labels.description else ""
    return Form(
        subject=f"{problem.name}: {hand.question}",
        body=f"{escape(hand.question)}{labelled}\n\n" + "\n".join(lines),
        params={
            parameter(number): {
                "default": CANNOT_TELL,
                "type": "string",
                "enum": list(ANSWERS),
                "title": f"{number}. {row[problem.key]}",
            }
            for number, row in enumerate(rows, start=1)
        },
    )


def parameter(number: int) -> str:
    """Name of the parameter that asks about the event in row `number` of the form.

    >>> parameter(7)
    'event_07'
    """
    return f"event_{number:02d}"


def answers(problem: Problem, asked: Sequence[str], responses: Sequence[Response | None]) -> pa.Table:
    """Votes of the people who answered: key, voter, vote; who cannot tell has no row.

    `asked`: keys of the events, in the form's order. `responses`: what each form brought, as Airflow gives it, or None.
    A form that nobody answered in time comes back with its defaults and without a user: it says nothing. Who answered
    two forms counts once, with what he or she said last of each event.

    Raises:
        DataError: an answer is none of ANSWERS.
    """
    answered = [(user, response) for response in responses if response and (user := response.get("responded_by_user"))]
    answered.sort(key=lambda answer: str(answer[1].get("responded_at") or ""))
    said: dict[tuple[str, str], int] = {}
    for user, response in answered:
        voter = person(user)
        given = response.get("params_input") or {}
        for number, key in enumerate(asked, start=1):
            answer = given.get(parameter(number), CANNOT_TELL)
            if answer not in ANSWERS:
                raise DataError(
                    f"{voter} answered {answer!r} about {key}", where="collect", cure=f"answers: {', '.join(ANSWERS)}"
                )
            vote = ANSWERS[answer]
            if vote is None:
                said.pop((key, voter), None)
            else:
                said[key, voter] = vote
    ordered = sorted((asked.index(key), voter, vote) for (key, voter), vote in said.items())
    return pa.table(
        {
            problem.key: pa.array([asked[position] for position, _, _ in ordered], pa.string()),
            "voter": pa.array([voter for _, voter, _ in ordered], pa.string()),
            "vote": pa.array([vote for _, _, vote in ordered], pa.int8()),
        }
    )


def person(user: User) -> str:
    """Who answered, in a word that no other user has.

    >>> person({"id": "7", "name": "ada"}), person({"id": "ada", "name": "ada"})
    ('ada (7)', 'ada')
    """
    number, name = str(user.get("id") or ""), str(user.get("name") or "")
    return f"{name} ({number})" if name and number and name != number else name or number


def escape(text: str) -> str:
    """Text for a cell of a Markdown table, and for a template: nothing in it is markup, nothing is evaluated.

    >>> print(escape("a|b *c*"))
    a\\|b \\*c\\*
    >>> escape("{{ x }}<b>")
    '&#123;&#123; x &#125;&#125;&lt;b&gt;'
    >>> ascii(escape("https://x.org www.x.org me@x.org"))
    "'https\\\\u2060://x.org www\\\\u2060.x.org me\\\\u2060@x.org'"
    """
    flat = re.sub(r"\s+", " ", text).strip()
    flat = flat.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    flat = re.sub(r"([\\`*_\[\]|~])", r"\\\1", flat)
    # A bare address becomes a link whatever is escaped in it: a sign of no width takes it apart.
    flat = re.sub(r"(?i)(?<=http)(?=://)|(?<=https)(?=://)|(?<=www)(?=\.)|(?=@)", "\u2060", flat)
    return flat.replace("{", "&#123;").replace("}", "&#125;")


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _text(value: Any, zone: ZoneInfo) -> str:
    if value is None:
        return ""
    if isinstance(value, datetime):
        return f"{value.astimezone(zone):%Y-%m-%d %H:%M %Z}"
    if isinstance(value, list):
        return f"{len(value)} numbers"
    return f"{value:g}" if isinstance(value, float) and abs(value) < 1e6 else cut(str(value), SHOWN_CHARACTERS)
