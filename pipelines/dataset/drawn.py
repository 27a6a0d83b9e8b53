"""drawn: which side of a training the rows of deliveries stand on, where no time could say.

Burkov (Machine Learning Engineering, ch. 3.12) asks of a random split that what belongs together stays together, and
that each side has its share of each label. And whoever compares a new model with the one that serves needs rows that
neither has learnt from: a row has to stay where it is when more rows come, or labels are corrected. Hence nothing is
drawn anew: what counts is the label by which a row first came, and the rows that came at the same moment with the same
label. Both are facts of the past, which `labels` keeps.
"""

from __future__ import annotations

from pipelines import sql
from pipelines.config import Drawn
from pipelines.problem import Problem

DRAWN = "drawn"  # planned split of a partition whose rows are drawn one by one
STRATA = 4  # of a number: as many equal parts of its range
WHOLE = f"{2.0**64!r}"  # one more than the largest number that md5_number_lower gives


def unit_sql(problem: Problem, of: str) -> str:
    """SQL for what stands on one side as a whole: the group of a row of the table `of`, or else its key."""
    group, alone = problem.dataset.split.group_by, unit_of_key(problem, of)
    if group is None:
        return alone
    column = f"{of}.{sql.quote(group)}"
    return f"CASE WHEN {column} IS NULL THEN {alone} ELSE concat('group ', {column}) END"


def unit_of_key(problem: Problem, of: str) -> str:
    """SQL for what stands on one side where there is no group."""
    return f"concat('key ', {of}.{sql.quote(problem.key)})"


def sides_sql(problem: Problem, drawn: Drawn) -> str:
    """SQL query over the tables `labels` and `all_events`, with the parameter `as_of`: `unit` and its `side`.

    Units are those that had a label by then. Of those whose first label came at the same moment and was the same, the
    shares of validation and test are exact but for one; which units they are is drawn by a hash that depends on
    nothing but the unit and the seed, and is the same in every version of every library (MD5). Of a group with several
    first labels the one counts that a hash chooses.
    """
    key, group = sql.quote(problem.key), problem.dataset.split.group_by
    sources = ", ".join(sql.literal(source) for source in problem.labels.use)
    stated = "labels"
    if group is not None:
        newest = f"arg_max({sql.quote(group)}, known_time) AS {sql.quote(group)}"
        known = f"SELECT {key}, event_time, {newest} FROM all_events WHERE known_time < $as_of GROUP BY ALL"
        stated = f"(SELECT * FROM labels LEFT JOIN ({known}) USING ({key}, event_time))"
    stratum = "label::VARCHAR"
    if problem.task == "regression":
        stratum = f"(ntile({STRATA}) OVER (PARTITION BY since ORDER BY label, chance))::VARCHAR"
    return f"""
        WITH said AS (
            SELECT {unit_sql(problem, "l")} AS unit,
                l.known_time, l.label, {_hash(drawn, f"l.{key}")} AS pick
            FROM {stated} AS l WHERE l.known_time < $as_of AND l.source IN ({sources})
        ),
        firsts AS (
            SELECT unit, min(known_time) AS since, arg_min(label, (known_time, pick, label)) AS label,
                {_hash(drawn, "unit")} AS chance
            FROM said GROUP BY unit
        ),
        strata AS (SELECT *, {stratum} AS stratum FROM firsts),
        placed AS (
            SELECT unit, (row_number() OVER same - 1
                    + {_hash(drawn, "concat(epoch_us(since), ' ', stratum)")} / {WHOLE}::DOUBLE)
                / count(*) OVER (PARTITION BY since, stratum) AS place
            FROM strata WINDOW same AS (PARTITION BY since, stratum ORDER BY chance, unit)
        )
        SELECT unit, CASE WHEN place % 1.0 < {drawn.test!r} THEN 'test'
            WHEN place % 1.0 < {drawn.test + drawn.validation!r} THEN 'validation' ELSE 'train' END AS side
        FROM placed
    """


def _hash(drawn: Drawn, text: str) -> str:
    return f"md5_number_lower(concat('{drawn.seed} ', {text}))"
