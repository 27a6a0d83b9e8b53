"""The page stands whatever it is given: no findings, long names, bad input; and it needs nothing but itself."""

from __future__ import annotations

import json
import re
from html import unescape
from html.parser import HTMLParser
from typing import Any

import numpy as np
import pyarrow as pa

from pipelines.config import Action
from pipelines.metrics.scored import Scored
from pipelines.monitoring.decide.decide import Decision, Option
from pipelines.monitoring.detect.detect import detect
from pipelines.monitoring.detect.detection import NOTHING, Drift
from pipelines.monitoring.diagnose.finding import Diagnosis, Finding
from pipelines.monitoring.explain.root_cause import Explanation, nothing_to_explain
from pipelines.monitoring.page.brief import ASKED
from pipelines.monitoring.page.columns import shown_bins
from pipelines.monitoring.page.evidence import Judged, PageFacts
from pipelines.monitoring.page.page import page
from pipelines.profiles.profile import Reference, profile, reference
from tests.monitoring.explain.test_root_cause import changed, part, series, shift

EVIL = "<script>alert('x')</script> & a name that goes on and on and on without an end, as names do"
NO_FINDING = Diagnosis(findings=(), labelled=(), bad=())
WEEKS = ("2013-05-06", "2013-05-13", "2013-05-20", "2013-05-27")


class Checked(HTMLParser):
    """Every tag that is opened is closed, and nothing is fetched or run."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: set[str | None] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        of_page = {value for name, value in attrs if name == "id"}
        assert not of_page & self.ids, "each id once"
        self.ids |= of_page
        assert tag not in ("script", "iframe", "link", "img", "object"), tag
        assert not any(name.startswith("on") or name == "src" for name, _ in attrs)
        assert all(not value or value.startswith("#") for name, value in attrs if name in ("href", "xlink:href"))
        if tag not in ("meta", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def named(rows: pa.Table, evil: bool) -> pa.Table:
    return rows.rename_columns([EVIL if name == "carrier" and evil else name for name in rows.column_names])


def facts(rows: Any, *, evil: bool = False, **more: Any) -> tuple[PageFacts, Drift]:
    tables = {key: named(rows(400, seed), evil) for seed, key in enumerate(WEEKS)}
    first = tables[WEEKS[0]]
    scores = first["score"].to_numpy()
    test = Scored("binary", ("0", "1"), (scores > 0.5).astype(np.int64), scores, np.ones(400))
    history = pa.concat_tables([tables[key].append_column("partition", pa.array([key] * 400)) for key in WEEKS[:2]])
    known: Reference = reference(first.drop_columns(["score"]), test.labels, test, history=history)
    profiles = {key: profile(table.to_batches(), known)[0] for key, table in tables.items()}
    found = detect(known, profiles[WEEKS[3]], {WEEKS[2]: profiles[WEEKS[2]]})
    values = {
        "problem": "kettle",
        "every": "week",
        "partition": WEEKS[3],
        "version": "1",
        "reference": known,
        "profiles": profiles,
        "estimates": [],
        "unlabelled": [WEEKS[3]],
        "labels_until": "2013-06-03T00:00:00+00:00",
        "units": {"temp": "degF"},
    }
    return PageFacts(**{**values, **more}), found


def text_of(html: bytes) -> str:
    body = html.decode()
    Checked().feed(body)
    drawn = re.sub(r"<(svg|style).*?</\1>", " ", body, flags=re.DOTALL)
    return unescape(re.sub(r"\s+", " ", re.sub(r"\s*<[^>]+>\s*", " ", drawn)))


def numbers_of(html: bytes) -> list[dict[str, Any]]:
    found = re.search(r'<pre id="numbers">(.*?)</pre>', html.decode(), re.DOTALL)
    assert found is not None
    told: list[dict[str, Any]] = json.loads(unescape(found.group(1)))
    return told


def a_whole(evil: bool, rows: Any) -> tuple[PageFacts, Judged]:
    name = EVIL if evil else "carrier"
    estimate = {"partition": WEEKS[2], "metric": "auc", "value": 0.7, "low": 0.6, "high": 0.8}
    of, found = facts(rows, evil=evil, estimates=[estimate])
    finding = Finding(kind="covariate shift", evidence=f"{name} by 3", numbers={name: 3.0}, features=(name,))
    decision = Decision(
        verdict="covariate shift",
        action=Action.RETRAIN,
        reason=f"because {name}",
        options=(
            Option(action=Action.RETRAIN, gain=0.02, low=-0.01, high=0.05, cost=0.01),
            Option(action=Action.ROLL_BACK, cost=0.0, why_not=f"worse {name}"),
        ),
    )
    explanation = Explanation(
        since=WEEKS[2],
        shape="step",
        changes=({"series": series(), "change": changed()},),
        before=WEEKS[:2],
        after=WEEKS[2:],
        shift=shift(),
        contributions=(part(name, 0.6, category="AA", before=0.5, after=0.2), part("temp", 0.3)),
        performance=({"partition": WEEKS[2], "is_held_out": False, "rows": 380, "auc": 0.65, "log_loss": 0.6},),
        slices=(
            {
                "name": name,
                "conditions": (),
                "rows_before": 9,
                "rows": 8,
                "loss_before": 0.1,
                "loss": 0.2,
                "excess": 0.1,
                "low": 0.05,
                "high": 0.2,
            },
        ),
        slices_looked_at=77,
        labelled_before=WEEKS[:1],
        labelled_after=WEEKS[2:3],
        has_held_out=True,
        notes=(f"note {name}",),
        paragraph=f"paragraph {name}",
    )
    diagnosis = Diagnosis(findings=(finding,), labelled=(WEEKS[2],), bad=())
    return of, Judged(found, diagnosis, explanation, decision)


def test_a_whole_page_tells_all_first_things_first(rows: Any) -> None:
    of, judged = a_whole(False, rows)
    html = page(of, judged)
    assert html == page(of, judged), "equal inputs give equal bytes"
    text = text_of(html)
    parts = (
        "Verdict: covariate shift: carrier by 3. Since the week of 2013-05-20.",
        "Is it bad? No: scores are as good as they should be in the newest labelled week.",
        "AUC was 0.65 in 2013-05-20, the newest with labels; 1 when the version was tested.",
        f"Action: retrain. {Action.RETRAIN.done} Why: because carrier.",
        "What you have to do Nothing now. The gate of kettle.train decides",
        "paragraph carrier",
        "What shifted The most",
        "Features, now and before Those of the findings come first.",
        "Since when The newest",
        "Does it matter Realised",
        "why not",
    )
    assert [part for part in parts if part not in text] == []
    assert [text.index(part) for part in parts] == sorted(text.index(part) for part in parts)
    assert html.count(b"<svg") >= 5 and b"no labels yet" in html and b"estimated, before labels" in html
    assert (
        "worse carrier" in text
        and "0.02 (-0.01 to 0.05)" in text
        and "not measured" in text
        and "chosen" in text
        and "0.7 (0.6 to 0.8)" in text
    )
    whats = {one["what"] for one in numbers_of(html)}
    assert {"option retrain: gain", "auc, 2013-05-20, estimated: low", "part of temp: score", "temp: psi"} <= whats
    assert all(one["from"] and all(each["table"] for each in one["from"]) for one in numbers_of(html))


def test_long_names_and_markup_in_names(rows: Any) -> None:
    text = text_of(page(*a_whole(True, rows)))
    assert EVIL in text


def test_a_partition_without_findings(rows: Any) -> None:
    of, found = facts(rows)
    decision = Decision(verdict="stable", action=Action.NONE, reason="no shift")
    quiet = Judged(found, NO_FINDING, nothing_to_explain(), decision)
    html = page(of, quiet)
    text = text_of(html)
    assert "Action: none. Nothing is done. Why: no shift." in text
    assert "Verdict: stable. Nothing in this partition is beyond the policy's limits" in text
    assert "Is it bad? Not known yet: too few labels have come." in text and "What you have to do Nothing." in text
    assert b"box good" in html and html.count(b"<svg") >= 2
    sections = re.findall(r"<h2[^>]*>(.*?)</h2>", html.decode())
    assert sections == ["In short", "Features, now and before", "All 5 columns", "Where each number comes from"]
    assert html.count(b"<details>") == 3, "what is below the first screen is there for who asks"
    stale = Decision(verdict="staleness", action=Action.RETRAIN, reason="a training is expected to gain 0.2")
    old = text_of(page(of, quiet._replace(decision=stale)))
    assert "expected to pay: a training is expected to gain 0.2." in old


def test_next_to_nothing_is_known(rows: Any) -> None:
    of, _ = facts(rows, profiles={}, units={})
    text = text_of(page(of, Judged(NOTHING, NO_FINDING, nothing_to_explain(), None)))
    assert "none given" in text and "the decision is still to come" in text
    assert "In short" in text and "What shifted" not in text


def test_whether_it_is_bad_and_how_good_scores_are(rows: Any) -> None:
    estimate = {"partition": WEEKS[3], "metric": "auc", "value": 0.7, "low": 0.6, "high": 0.8}
    of, _ = facts(rows, estimates=[estimate])
    bad = Diagnosis(findings=(), labelled=WEEKS[:3], bad=WEEKS[2:3])
    text = text_of(page(of, Judged(NOTHING, bad, nothing_to_explain(), None)))
    assert "Yes: 1 of the newest 3 labelled weeks is off, the newest too." in text
    assert "Of this week 0.7 is expected (0.6 to 0.8)." in text
    fault = Finding(kind="data fault", evidence="temp is empty", numbers={}, features=("temp",))
    faulty = Diagnosis(findings=(fault,), labelled=(), bad=())
    decision = Decision(verdict="data fault", action=Action.QUARANTINE, reason="temp is empty, mend the data")
    text = text_of(page(of, Judged(NOTHING, faulty, nothing_to_explain(), decision)))
    assert "The data of this week is at fault: do not rely on its scores." in text
    assert f"{Action.QUARANTINE.done} Why: mend the data." in text, "what shows it stands above"
    assert f"evergreen quarantine readmit kettle {WEEKS[3]} --reason" in text


def test_the_columns_of_the_finding_are_drawn_first_with_their_unit(rows: Any) -> None:
    of, found = facts(rows)
    drift = Finding(kind="prediction drift", evidence="scores moved", numbers={})
    shifted = Finding(kind="covariate shift", evidence="temp by 3", numbers={"temp": 3.0}, features=("temp",))
    diagnosis = Diagnosis(findings=(shifted, drift), labelled=(), bad=())
    html = page(of, Judged(found, diagnosis, nothing_to_explain(), None)).decode()
    captions = re.findall(r"<figcaption>(.*?)</figcaption>", html)
    assert captions[:3] == ["Mean of the scores, by week", "temp (degF)", "the scores"]
    assert len(captions) == 5


def test_every_action_is_put_into_words(rows: Any) -> None:
    of, _ = facts(rows)
    for action in Action:
        decision = Decision(verdict="stable", action=action, reason="no shift")
        text = text_of(page(of, Judged(NOTHING, NO_FINDING, nothing_to_explain(), decision)))
        assert action.done in text
        asked = ASKED[action].format(problem="kettle", partition=WEEKS[3])
        assert f"What you have to do {asked}" in text


def test_only_bins_with_rows_are_drawn(trained: Reference) -> None:
    for column in trained.columns.values():
        labels, shares = shown_bins(column.bins, {"training": column.profile})
        assert len(labels) == len(set(labels)) == len(shares["training"])
        assert min(shares["training"]) >= 0.005
