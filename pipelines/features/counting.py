"""counting: running sums and extremes of statements along the cut-offs that they count for.

A statement of the table `_past` counts for the cut-offs numbered `_first` up to, and without, `_end_<days>` of its
window. Both ways of counting take O(n log n) work, whether all events of a day share a cut-off or each has its own:

- sums (count, sum, mean, std, distinct): add a statement's value where its interval begins, take it away where it
  ends, and add up along the cut-offs of a group (a sweep);
- extremes (min, max, last, time_since), from which nothing can be taken away: cut the interval into blocks of 1, 2, 4,
  8 ... cut-offs, keep each block's extreme, and look at the blocks around a cut-off (a segment tree; Bentley 1977).

Sums are of 128-bit integers, so that no order of addition, no other target and no row of the future can change so
much as the last digit of a feature.
"""

from __future__ import annotations

from pipelines import sql
from pipelines.config import History
from pipelines.problem import Problem

DAY_US = 86_400_000_000
FRACTION = f"{2.0**90!r}"  # a float is an integer and so many parts of one: from 1e-11 on no digit is lost


def widened(problem: Problem, name: str, feature: History, cutoffs: int) -> str:
    """Query for the table `history` with one more column: the feature. `cutoffs` is how many there are."""
    same = [f"h.{column} = r.{column}" for column in map(sql.quote, feature.by)]
    if feature.function in _EXTREMES:
        match = "LEFT JOIN ({}) AS r ON {}".format(
            _extremes(problem, feature, cutoffs), " AND ".join([*same, "h._turn = r._turn"])
        )
    else:
        match = "ASOF LEFT JOIN ({}) AS r ON {}".format(
            _sums(problem, feature, cutoffs), " AND ".join([*same, "h._turn >= r._turn"])
        )
    return f"SELECT h.*, CAST({_VALUES[feature.function]} AS DOUBLE) AS {sql.quote(name)} FROM history AS h {match}"


def _sums(problem: Problem, feature: History, cutoffs: int) -> str:
    """Query for the running sums of each group, at every cut-off where one of them changes."""
    terms, groups, end = _terms(problem, feature), comma(feature.by), f"_end_{feature.window_days}"
    value, first = sql.quote(feature.of), "_first"
    if feature.function in ("sum", "mean", "std"):
        value = f"CAST({value} AS {'DOUBLE' if _is_float(problem, feature) else 'HUGEINT'})"
    if feature.function == "distinct":  # a value counts from where it is not counted yet
        first = f"""greatest(_first, max({end}) OVER (PARTITION BY {groups} _x ORDER BY _first, {end}
            ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING)) AS _first"""
    made = "".join(f", {term} AS {name}" for name, term in terms.items())
    counted = f"""SELECT {groups} {first}, {end} AS _end {made} FROM (SELECT *, {value} AS _x FROM _past)
        WHERE _x IS NOT NULL AND _first < {end}"""
    plus, minus = (", ".join(f"{sign}{name} AS {name}" for name in terms) for sign in ("", "-"))
    total = ", ".join(f"sum({name}) AS {name}" for name in terms)
    running = ", ".join(f"sum({name}) OVER along AS {name}" for name in terms)
    return f"""
        WITH counted AS MATERIALIZED (SELECT * FROM ({counted}) WHERE _first < _end),
        steps AS (
            SELECT {groups} _turn, {total} FROM (
                SELECT {groups} _first AS _turn, {plus} FROM counted
                UNION ALL SELECT {groups} _end, {minus} FROM counted WHERE _end < {cutoffs}
            ) GROUP BY ALL
        )
        SELECT {groups} _turn, {running} FROM steps
        WINDOW along AS ({f"PARTITION BY {groups.rstrip(', ')}" if feature.by else ""} ORDER BY _turn)
    """


def _terms(problem: Problem, feature: History) -> dict[str, str]:
    """What a statement of value x adds: how many (n), x and its square, each an integer and parts of one."""
    terms = {"_n": "1"}
    is_float = _is_float(problem, feature)
    if feature.function in ("sum", "mean", "std"):
        terms["_whole"] = "CAST(round(_x) AS HUGEINT)" if is_float else "_x"
        terms["_parts"] = f"CAST(round((_x - round(_x)) * {FRACTION}) AS HUGEINT)" if is_float else "0"
    if feature.function == "std":  # of x = a + f: a * a, an integer, and the rest, a float
        rest = "(2 * round(_x) * (_x - round(_x)) + (_x - round(_x)) * (_x - round(_x)))"
        square = f"{terms['_whole']} * {terms['_whole']}"
        terms["_square"] = f"{square} + CAST(round({rest}) AS HUGEINT)" if is_float else square
        terms["_square_parts"] = f"CAST(round(({rest} - round({rest})) * {FRACTION}) AS HUGEINT)" if is_float else "0"
    return terms


def _is_float(problem: Problem, feature: History) -> bool:
    return (problem.label_type if feature.of == "label" else problem.columns[feature.of].type) == "float"


def _extremes(problem: Problem, feature: History, cutoffs: int) -> str:
    """Query for the greatest (or least) of what counts, for each group and cut-off that is asked for."""
    best = "min" if feature.function == "min" else "max"
    groups, value, end = comma(feature.by), sql.quote(feature.of), f"_end_{feature.window_days}"
    key = sql.quote(problem.key)
    what = {
        "last": f"{{'_t': event_time, '_k': {key}, '_x': CAST({value} AS DOUBLE)}}",
        "time_since": "event_time",
    }.get(feature.function, f"CAST({value} AS DOUBLE)")
    same = " AND ".join([f"a.{column} = b.{column}" for column in map(sql.quote, feature.by)] + ["a._level = b._level"])
    return f"""
        WITH levels AS (SELECT CAST(unnest(range({cutoffs.bit_length()})) AS INTEGER) AS _level),
        counted AS (
            SELECT {groups} _first, {end} AS _end, {best}({what}) AS _x FROM _past
            WHERE {value} IS NOT NULL AND _first < {end} GROUP BY ALL
        ),
        spread AS (
            SELECT {groups} _x, _level, (_first + (1 << _level) - 1) >> _level AS _low, _end >> _level AS _high
            FROM counted, levels WHERE _low < _high
        ),
        blocks AS (
            SELECT {groups} _level, _block, {best}(_x) AS _x FROM (
                SELECT {groups} _x, _level, _low AS _block FROM spread WHERE _low % 2 = 1
                UNION ALL SELECT {groups} _x, _level, _high - 1 FROM spread WHERE _high % 2 = 1
            ) GROUP BY ALL
        ),
        asked AS (SELECT *, _turn >> _level AS _block FROM (SELECT DISTINCT {groups} _turn FROM history), levels)
        SELECT {comma(feature.by, "a.")} a._turn, {best}(b._x) AS _x
        FROM asked AS a JOIN blocks AS b ON {same} AND a._block = b._block GROUP BY ALL
    """


_EXTREMES = ("min", "max", "last", "time_since")
_TOTAL = f"(CAST(r._whole AS DOUBLE) + CAST(r._parts AS DOUBLE) / {FRACTION})"
# Squares around the integer next to the mean: integers lose nothing, so little is left to cancel.
_CENTRE = f"CAST(round({_TOTAL} / r._n) AS HUGEINT)"
_SQUARES = f"""(CAST(r._square - 2 * {_CENTRE} * r._whole + r._n * {_CENTRE} * {_CENTRE} AS DOUBLE)
    + (CAST(r._square_parts AS DOUBLE) - 2 * CAST({_CENTRE} AS DOUBLE) * CAST(r._parts AS DOUBLE)) / {FRACTION})"""
_FIRST = f"(CAST(r._whole - r._n * {_CENTRE} AS DOUBLE) + CAST(r._parts AS DOUBLE) / {FRACTION})"
_SPREAD = f"({_SQUARES} - {_FIRST} * {_FIRST} / r._n)"  # less than rounding makes of nothing is nothing
_VALUES = {
    "count": "coalesce(r._n, 0)",
    "distinct": "coalesce(r._n, 0)",
    "sum": f"coalesce({_TOTAL}, 0)",
    "mean": f"{_TOTAL} / nullif(r._n, 0)",
    "std": f"sqrt(CASE WHEN r._n > 1 THEN if({_SPREAD} > 1e-14 * {_SQUARES}, {_SPREAD} / (r._n - 1), 0) END)",
    "min": "r._x",
    "max": "r._x",
    "last": "r._x._x",
    "time_since": f"(epoch_us(h.cutoff_time) - epoch_us(r._x)) / {DAY_US}",
}


def comma(columns: list[str], prefix: str = "") -> str:
    """Columns for SQL, each with a comma behind it: there may be none."""
    return "".join(f"{prefix}{sql.quote(column)}, " for column in columns)
