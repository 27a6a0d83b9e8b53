"""Look at the pages that the demo ends with, as a person does, and take the pictures of the documentation.

python -m docs.screenshots [--check] [--axe axe.min.js]

It goes by the services of EVERGREEN_HOME (`.evergreen`), which `evergreen demo` has played, and starts them where they
are not up. Each page is opened in headless Chromium at 1400 x 900 and at 390 x 844, light and dark; an error in the
console, a request to another host, a sideways scroll of the whole page, or what axe-core calls serious fails. Of
Airflow's and MLflow's own UI axe-core's faults are counted, as nobody here can mend them. With --check no picture is
written. axe-core comes from the npm registry, unless --axe names its file.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple
from urllib.parse import urlsplit

import httpx
from PIL import Image

from docs.browser import Browser, BrowserError, Tab, browser, fetched_axe
from pipelines import ledger, store
from pipelines.config import Action
from pipelines.embedded import Embedded, Endpoint, default_home, load_environment
from pipelines.embedded.processes.home import supervisor_of
from pipelines.health.links import Links
from pipelines.paths import version_uri
from pipelines.problem import ROOT, Problem, load_problem
from pipelines.tracking.pages import comparison

IMAGES = ROOT / "docs" / "images"
SIZES = ((1400, 900), (390, 844))
LARGEST_PICTURE = 150_000  # bytes
HAS_RUNS = "document.querySelectorAll('[role=row]').length > 3"
HAS_TEXT = "document.body && document.body.innerText.length > 200"


class Page(NamedTuple):
    """A page that is looked at.

    `until`: JavaScript that holds once it is there. `is_ours`: it is all of our making, and axe-core's word counts.
    `picture`: name of its file in docs/images; empty: none is taken.
    """

    name: str
    address: str
    until: str = HAS_TEXT
    is_ours: bool = True
    picture: str = ""


class Visitor(NamedTuple):
    """What lets a tab in: the token of a session in Airflow, a login for MLflow."""

    airflow: Endpoint
    token: str
    mlflow: Endpoint

    def let_in(self, tab: Tab, page: Page) -> None:
        if page.address.startswith(self.airflow.url):
            tab.cookie(self.airflow.url, "_token", self.token)
        else:
            tab.log_in(self.mlflow.user, self.mlflow.password)


def pages(problem: Problem, airflow: str) -> Iterator[Page]:
    """The pages that the demo's end leads to.

    Raises:
        BrowserError: the demo has not been played far enough to have them.
    """
    quiet, harmed = _weeks(problem)
    runs = comparison(problem.name)
    gates = ledger.decisions(problem, "gate")
    versions = [row["model_version"] for row in ledger.decisions(problem, "promotion") if row["model_version"]]
    if runs is None or not gates or not versions:
        raise BrowserError("MLflow has no runs of it, or no version serves: play `evergreen demo` first")
    training = gates[-1]["decision"].removeprefix("gate:")
    training_set = store.read_json(version_uri(problem, versions[-1], "lineage.json"))["training_set"]
    of_problem = f"{airflow}/evergreen/pages/{problem.name}"
    frame = "document.querySelector('iframe')?.contentDocument?.querySelector('table.problems')"
    yield Page("Health", f"{airflow}/evergreen/health")
    yield Page("Health in Airflow", f"{airflow}/plugin/health", until=frame, is_ours=False, picture="health.png")
    yield Page("problem", f"{airflow}/evergreen/health/{problem.name}", picture="problem.png")
    for name, partition, picture in (("quiet", quiet, "monitoring_quiet.png"), ("harmed", harmed, "monitoring.png")):
        yield Page(f"{name} week", f"{of_problem}/reports/{partition}/monitoring.html", picture=picture)
    yield Page("MLflow's comparison", runs, until=HAS_RUNS, is_ours=False, picture="mlflow.png")
    version = Links("", runs.partition("/#")[0]).model(problem.name, versions[-1])
    yield Page("MLflow's version", version or "", is_ours=False)
    yield Page("model card", f"{of_problem}/models/{versions[-1]}/card.html")
    yield Page("evaluation", f"{of_problem}/evaluations/{training}.html")
    yield Page("datasheet", f"{of_problem}/datasheets/{training_set}.html")
    yield Page("validation", f"{of_problem}/reports/{harmed}_{harmed}/validation.html")


def _weeks(problem: Problem) -> tuple[str, str]:
    """The newest partition in which nothing was found, and the newest with a finding that something was done about."""
    decided = list(reversed(ledger.decisions(problem, "monitoring")))
    quiet = [row["partition"] for row in decided if row["verdict"] == "stable"]
    harmed = [
        row["partition"]
        for row in decided
        if row["action"] != Action.NONE and row["verdict"] not in ("staleness", "not judged")
    ]
    if not quiet or not harmed:
        raise BrowserError("there is no quiet and no harmed week yet: play `evergreen demo` first")
    return quiet[0], harmed[0]


def look(chromium: Browser, visitor: Visitor, page: Page, axe: str) -> tuple[bytes, list[str]]:
    """A picture of the page's first screen, and what is wrong with it, a line each."""
    picture, wrong = b"", []
    for width, height in SIZES:
        for is_dark in (False, True):
            with chromium.tab(width, height, is_dark=is_dark) as tab:
                visitor.let_in(tab, page)
                tab.open(page.address, page.until)
                picture = picture or _small(tab.picture())
                wrong += [f"{width} x {height}{', dark' * is_dark}: {fault}" for fault in _faults(tab, page, axe)]
    return picture, wrong


def _small(picture: bytes) -> bytes:
    """The same picture in 256 colours, which is all that a page has but for the edges of its letters."""
    drawn, small = Image.open(BytesIO(picture)).convert("RGB"), BytesIO()
    drawn.quantize(256, dither=Image.Dither.NONE).save(small, "PNG", optimize=True)
    return small.getvalue()


def _faults(tab: Tab, page: Page, axe: str) -> Iterator[str]:
    yield from faults_of(tab, page)
    faults = tab.faults(axe)
    if page.is_ours:
        yield from (f"axe-core: {fault}" for fault in faults)
    elif faults:
        print(f"  {len(faults)} faults of a UI that is not ours, by axe-core: {', '.join(_rules(faults))}")


def faults_of(tab: Tab, page: Page) -> Iterator[str]:
    """What is wrong with a page that is open, without axe-core's word, a line each."""
    yield from (f"console: {error}" for error in dict.fromkeys(tab.errors))
    if others := tab.hosts - {urlsplit(page.address).netloc}:
        yield f"asked other hosts: {', '.join(sorted(others))}"
    if page.is_ours and tab.evaluate("document.documentElement.scrollWidth > innerWidth"):
        yield "the whole page scrolls sideways"


def _rules(faults: Sequence[str]) -> list[str]:
    return sorted({fault.partition(":")[0] for fault in faults})


def _visitor() -> Visitor:
    """By the environment that the services left."""
    airflow = Endpoint(*(os.environ[f"EVERGREEN_AIRFLOW_{name}"] for name in ("URL", "USERNAME", "PASSWORD")))
    mlflow = Endpoint(*(os.environ[f"MLFLOW_TRACKING_{name}"] for name in ("URI", "USERNAME", "PASSWORD")))
    login = {"username": airflow.user, "password": airflow.password}
    token = httpx.post(f"{airflow.url}/auth/token", json=login, timeout=30).raise_for_status().json()["access_token"]
    return Visitor(airflow, token, mlflow)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m docs.screenshots")
    parser.add_argument("--check", action="store_true", help="write no picture")
    parser.add_argument("--axe", type=Path, help="file of axe-core; default: from the npm registry")
    asked = parser.parse_args()
    is_wrong = False
    with ExitStack() as stack:
        if supervisor_of(default_home()) is None:
            stack.enter_context(Embedded()).start(print)
        load_environment()
        axe = asked.axe.read_text() if asked.axe else fetched_axe(Path(stack.enter_context(TemporaryDirectory())))
        visitor, chromium = _visitor(), stack.enter_context(browser())
        for page in pages(load_problem("flight_delay"), visitor.airflow.url):
            picture, wrong = look(chromium, visitor, page, axe)
            if page.picture and len(picture) > LARGEST_PICTURE:
                wrong.append(f"its picture has {len(picture):,} bytes, wanted at most {LARGEST_PICTURE:,}")
            print(f"{'✗' if wrong else '✓'} {page.name}  {page.address}", *wrong, sep="\n  ")
            if page.picture and not asked.check:
                (IMAGES / page.picture).write_bytes(picture)
            is_wrong |= bool(wrong)
    return int(is_wrong)


if __name__ == "__main__":
    sys.exit(main())
