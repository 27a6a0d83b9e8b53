"""lineage: which columns of which source a column of a query is made of, read from the query's text."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NotRequired, Required, TypedDict, cast

import pyarrow as pa

from pipelines import sql

Outputs = dict[str, list[str]]
"""Columns that a query gives, and of each the source columns in its expression, as source.column."""


def lineage(text: str, sources: Mapping[str, Sequence[str]]) -> Outputs:
    """The source columns of each column that the SELECT `text` gives, through joins, subqueries and WITH.

    `sources` has the columns of each source as far as they are declared. A name without a table stays as it is where
    several tables might have it. Only values are followed: a table that is joined to, and what it is joined by, leave
    no trace. What DuckDB's parser cannot read, or is no plain SELECT, gives nothing.

    >>> lineage("SELECT f.day + 1 AS next, p.year FROM flights AS f JOIN planes AS p USING (tail)", {})
    {'next': ['flights.day'], 'year': ['planes.year']}
    >>> lineage("WITH late AS (SELECT delay > 15 AS is_late FROM flights) SELECT * FROM late", {})
    {'is_late': ['flights.delay']}
    """
    parsed = sql.query("SELECT json_serialize_sql(text) AS tree FROM q", {"q": pa.table({"text": [text]})})
    tree = json.loads(parsed["tree"][0].as_py())
    if tree["error"] or len(tree["statements"]) != 1:
        return {}
    return _outputs(tree["statements"][0]["node"], sources, {})


Relation = str | Outputs  # a source, by name, or what a subquery gives


class SubqueryNode(TypedDict, total=False):
    """A query inside another one in DuckDB's tree; which key it has depends on where it stands."""

    query_node: WrappedNode
    """Below WITH."""
    subquery: WrappedNode
    """Below FROM, or in an expression."""


class FromTable(SubqueryNode, total=False):
    """What stands after FROM in DuckDB's tree."""

    type: Required[str]
    """BASE_TABLE, JOIN, SUBQUERY, or one of those that are not followed."""
    alias: str
    table_name: str
    """Of a table."""
    left: FromTable
    """Of a join."""
    right: FromTable
    """Of a join."""


class CommonTable(TypedDict):
    """One query below WITH in DuckDB's tree."""

    key: str
    """Its name."""
    value: SubqueryNode


class CommonTables(TypedDict):
    """WITH in DuckDB's tree."""

    map: list[CommonTable]


# The first key is a keyword of Python, which a class cannot have as a field.
Expression = TypedDict(
    "Expression",
    {
        "class": str,
        "alias": str,
        "relation_name": NotRequired[str],  # of a star
        "column_names": NotRequired[list[str]],  # of a column: the table that was named before it comes first
    },
)


class SelectNode(TypedDict):
    """A SELECT in DuckDB's tree, as far as it is followed."""

    type: str
    """SELECT_NODE, or one of those that are not followed."""
    cte_map: CommonTables
    from_table: FromTable
    select_list: list[Expression]


class WrappedNode(SelectNode, total=False):
    """A SELECT, or what has it as its `node`."""

    node: SelectNode


def _outputs(node: SelectNode, sources: Mapping[str, Sequence[str]], known: dict[str, Outputs]) -> Outputs:
    if node["type"] != "SELECT_NODE":
        return {}
    named = dict(known)
    for entry in node["cte_map"]["map"]:
        named[entry["key"].lower()] = _outputs(_node(entry["value"]), sources, named)
    scope = dict(_relations(node["from_table"], sources, named))
    outputs: Outputs = {}
    for expression in node["select_list"]:
        if expression["class"] == "STAR":
            for alias, relation in scope.items():
                if expression["relation_name"].lower() in ("", alias):
                    outputs |= {name: _of(relation, name) for name in _columns(relation, sources)}
            continue
        name = expression["alias"] or (expression.get("column_names") or [""])[-1]
        leaves = [leaf for ref in _references(expression) for leaf in _resolve(ref, scope, sources, outputs)]
        for inner in _subqueries(expression):
            leaves += [leaf for column in _outputs(inner, sources, named).values() for leaf in column]
        outputs[name] = sorted(set(leaves))
    return outputs


def _node(holder: SubqueryNode) -> SelectNode:
    """A query below WITH or FROM; DuckDB wraps some in `node`."""
    query = holder["query_node"] if "query_node" in holder else holder["subquery"]
    return query.get("node", query)


def _relations(
    table: FromTable, sources: Mapping[str, Sequence[str]], named: dict[str, Outputs]
) -> Iterator[tuple[str, Relation]]:
    """What FROM brings in, by the name under which columns call it."""
    match table["type"]:
        case "BASE_TABLE":
            name = table["table_name"]
            yield (table["alias"] or name).lower(), named.get(name.lower(), name)
        case "JOIN":
            yield from _relations(table["left"], sources, named)
            yield from _relations(table["right"], sources, named)
        case "SUBQUERY":
            yield table["alias"].lower(), _outputs(_node(table), sources, named)


def _references(tree: Any) -> Iterator[list[str]]:
    """Names of all columns in an expression, without those in queries inside it."""
    if isinstance(tree, dict):
        if tree.get("class") == "COLUMN_REF":
            yield tree["column_names"]
        elif tree.get("class") == "LAMBDA":
            own = list(_references(tree["lhs"]))
            yield from (names for names in _references(tree["expr"]) if names[:1] not in own)
        elif tree.get("class") != "SUBQUERY":
            for value in tree.values():
                yield from _references(value)
    elif isinstance(tree, list):
        for value in tree:
            yield from _references(value)


def _subqueries(tree: Any) -> Iterator[SelectNode]:
    if isinstance(tree, dict):
        if tree.get("class") == "SUBQUERY":
            yield _node(cast(SubqueryNode, tree))
        else:
            for value in tree.values():
                yield from _subqueries(value)
    elif isinstance(tree, list):
        for value in tree:
            yield from _subqueries(value)


def _resolve(
    names: list[str], scope: dict[str, Relation], sources: Mapping[str, Sequence[str]], before: Outputs
) -> list[str]:
    """Source columns of one name; `before` are the columns to its left in the SELECT, which it may mean too."""
    if len(names) > 1 and names[0].lower() in scope:
        return _of(scope[names[0].lower()], names[1])
    name = names[0]
    having = [relation for relation in scope.values() if name in _columns(relation, sources)]
    if having:
        return _of(having[0], name)
    if name in before:
        return before[name]
    undeclared = [relation for relation in scope.values() if isinstance(relation, str) and not sources.get(relation)]
    return _of(undeclared[0], name) if len(undeclared) == 1 else [name]


def _columns(relation: Relation, sources: Mapping[str, Sequence[str]]) -> Sequence[str]:
    return sources.get(relation, ()) if isinstance(relation, str) else list(relation)


def _of(relation: Relation, name: str) -> list[str]:
    return [f"{relation}.{name}"] if isinstance(relation, str) else relation.get(name, [])
