from __future__ import annotations

import pytest

from pipelines.features.lineage import lineage


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("SELECT a FROM t", {"a": ["t.a"]}),
        ("SELECT T.a AS b, x.c FROM t JOIN u AS X USING (k)", {"b": ["t.a"], "c": ["u.c"]}),
        ("SELECT a + coalesce(b, a) * 2 AS s FROM t", {"s": ["t.a", "t.b"]}),
        ("SELECT CASE WHEN a > 1 THEN b END AS s, 1 AS one FROM t", {"s": ["t.a", "t.b"], "one": []}),
        ("SELECT sum(a) OVER (PARTITION BY g ORDER BY o) AS s FROM t", {"s": ["t.a", "t.g", "t.o"]}),
        ("SELECT s.x AS y FROM (SELECT a + b AS x FROM t) AS s", {"y": ["t.a", "t.b"]}),
        ("WITH s AS (SELECT a AS x FROM t), r AS (SELECT x AS z FROM s) SELECT z FROM r", {"z": ["t.a"]}),
        ("SELECT (SELECT max(v.b) FROM u AS v) AS m FROM t", {"m": ["u.b"]}),
        ("SELECT list_filter(a, lambda x: x > b) AS f FROM t", {"f": ["t.a", "t.b"]}),
        ("SELECT a FROM t, u", {"a": ["a"]}),
        ("SELECT * FROM t", {}),
        ("SELECT a FROM t UNION ALL SELECT a FROM u", {}),
        ("SELEC a FROM t", {}),
        ("SELECT 1; SELECT 2", {}),
    ],
)
def test_lineage_follows_values_to_their_sources(text: str, expected: dict[str, list[str]]) -> None:
    assert lineage(text, {}) == expected


def test_declared_columns_settle_names_without_a_table() -> None:
    sources = {"t": ["k", "a"], "u": ["k", "b"]}
    assert lineage("SELECT a, b, a + b AS c FROM t JOIN u USING (k)", sources) == {
        "a": ["t.a"],
        "b": ["u.b"],
        "c": ["t.a", "u.b"],
    }
    assert lineage("SELECT u.*, a AS d, d + 1 AS e FROM t JOIN u USING (k)", sources) == {
        "k": ["u.k"],
        "b": ["u.b"],
        "d": ["t.a"],
        "e": ["t.a"],
    }
