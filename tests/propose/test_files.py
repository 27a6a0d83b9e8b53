"""Files of a draft hold whatever a table says: no name and no value ends a line, a comment or a text."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import duckdb
import pyarrow as pa
import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pipelines import sql
from pipelines.propose.draft import Draft
from pipelines.propose.files import files_of
from tests.propose.table_of import drafted, orders

ODD = "'\"`#:-{}[]%$&*!|>\\,?@;\n\r\t\x00\x85\u2028\u2029\ufeff 💥ä1a"
TEXTS = st.one_of(st.text(max_size=30), st.text(ODD, max_size=30), st.text(ODD, min_size=150, max_size=220))


@cache
def _draft() -> Draft:
    with TemporaryDirectory() as folder:
        return drafted(Path(folder), pa.table(orders(300)), "returned")


def _saying(text: str) -> Draft:
    """The draft of orders with a text from the table wherever one can stand."""
    made = _draft()
    assert made.time is not None and made.rhythm is not None
    column = sql.quote(text.replace("\x00", "") or "empty")
    label = f"CAST({column} = {sql.literal(text)} AS TINYINT)"
    rules = {"allowed": [text, f"{text}x"], "nullable": False}
    features = [replace(made.features[0], expression=column, note=text, rules=rules)]
    columns = [replace(made.table.columns[0], source=text), *made.table.columns[1:]]
    table_origin = replace(made.table.origin, settings={"path": text, "nulls": [text]}, notes=(text,))
    return replace(
        made,
        table=replace(made.table, columns=columns, origin=table_origin),
        target=replace(made.target, expression=label, asks=text, why=text, classes=(text,)),
        known=replace(made.known, why=text),
        key=replace(made.key, why=text, expression=column),
        time=replace(made.time, why=text, expression=column),
        zone=(made.zone[0], text),
        rhythm=replace(made.rhythm, why=text),
        features=features,
        left_out={text: text},
        ignored={text: text},
        near_leaks=[text],
        no_leaks=[text],
    )


@settings(max_examples=60, deadline=None)
@given(TEXTS)
@example("it's {{ 1 / 0 }} {% raw %} # -- */ \n- x: y")
@example("x\u2028- evil: true")
@example("\x85")
def test_what_a_table_says_stays_where_it_is_written(text: str) -> None:
    files = files_of(_saying(text), text)
    assert len(files["problem.yaml"].splitlines()) == len(files["problem.yaml"].split("\n")) - 1
    loaded, plain = yaml.safe_load(files["problem.yaml"]), yaml.safe_load(files_of(_draft(), "shop")["problem.yaml"])
    assert set(loaded) - {"validation"} == set(plain) - {"validation"}
    assert loaded["description"] == loaded["owner"] == text
    assert loaded["labels"]["classes"] == [text]
    assert loaded["columns"]["country"]["allowed"] == [text, f"{text}x"]
    (source,) = loaded["sources"].values()
    assert source["path"] == text and text in source["columns"]
    assert loaded["validation"]["shape"]["ignore"] == [text]
    assert loaded["dataset"]["leaks"]["accepted"] == [text]
    assert loaded["partitions"]["timezone"] == "UTC"


@settings(max_examples=60, deadline=None)
@given(TEXTS.map(lambda text: text.replace("\x00", "")))
@example("it's {{ 1 / 0 }} {% raw %} # -- */ \n; DROP TABLE orders; --")
def test_queries_are_one_statement_each(text: str) -> None:
    files = files_of(_saying(text), "shop")
    for name in ("events.sql", "labels.sql"):
        (statement,) = duckdb.extract_statements(files[name])
        assert statement.type == duckdb.StatementType.SELECT
        assert files[name].startswith("-- ")
        assert files[name].split("\n")[1].startswith("SELECT"), "a comment is one line"
