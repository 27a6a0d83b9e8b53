"""The report is drawn from whatever a partition may hold, without a network."""

from __future__ import annotations

import re
import socket
import warnings
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from pipelines.dataset.draw import sample
from pipelines.errors import DataError
from pipelines.monitoring.page.evidently import evidently_report
from pipelines.problem import load_problem


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("the report went to the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


@pytest.mark.slow
def test_a_report_of_faulty_columns_says_nothing_but_the_html(capfd: pytest.CaptureFixture[str]) -> None:
    random = np.random.default_rng(0)
    training = pa.table(
        {
            "temp": random.normal(50, 10, 300),
            "pressure": random.normal(1_000, 5, 300),
            "precip": np.zeros(300),
            "seats": pa.array([None, 100, 180] * 100),
            "carrier": pa.array(["AA", "UA", None] * 100),
        }
    )
    current = pa.table(
        {
            "temp": np.where(random.random(200) < 0.1, np.inf, random.normal(80, 10, 200)),
            "pressure": pa.nulls(200, pa.float64()),  # empty: left out
            "precip": np.zeros(200),
            "seats": pa.array([None, 100] * 100),
            "carrier": pa.array(["AA", "</script><script>alert(1)", "<!-- <script", "\u2028\x1b[31m"] * 50),
            "score": random.random(200),  # the training side has none: left out
        }
    )
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        html = evidently_report(current, training, load_problem("flight_delay"))
    assert set(re.findall(rb'"column_name": "(\w+)"', html)) == {b"temp", b"precip", b"seats", b"carrier"}
    # A category is no markup, wherever the page writes it.
    assert rb"\u2039/script\u203a\u2039script\u203aalert(1)" in html
    assert b"</script><script>alert" not in html and b"<!-- <script" not in html and rb"\u001b[31m" not in html
    assert html.index(b"Content-Security-Policy") < html.index(b"<script")
    assert capfd.readouterr() == ("", "")


def test_nothing_to_compare() -> None:
    empty = pa.table({"temp": pa.nulls(3, pa.float64())})
    with pytest.raises(DataError, match="no column has values on both sides"):
        evidently_report(empty, empty, load_problem("flight_delay"))


def test_a_sample_is_seeded_ordered_and_without_replacement() -> None:
    table = pa.table({"x": range(1_000)})
    drawn = sample(table, 50, seed=3)["x"].to_pylist()
    assert drawn == sample(table, 50, seed=3)["x"].to_pylist() == sorted(set(drawn)) and len(drawn) == 50
    assert drawn != sample(table, 50, seed=4)["x"].to_pylist()


def test_a_small_table_is_its_own_sample() -> None:
    table = pa.table({"x": [1, 2]})
    assert sample(table, 2, seed=0) is table
