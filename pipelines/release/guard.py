"""What shows of a challenger before any label: whether it scores at all, and how far from its champion.

Both versions score the same rows, so that nothing but the versions differs. The thresholds rest on no test of theirs: a
challenger that decides otherwise for a twentieth of all rows may be right, but nobody has said so yet.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict

from pipelines import sql
from pipelines.problem import Problem

if TYPE_CHECKING:
    import pyarrow.dataset as ds

ERRORS = 3.0  # standard errors that a gap has to stand out by: of a few rows one makes a large share


class Gap(BaseModel):
    """How far a challenger is from its champion on the same rows, by one measure."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    measure: str
    champion: float
    challenger: float
    difference: float
    """Of a regression's scores in standard deviations of the champion's."""
    error: float
    """Standard error of the difference."""

    def is_beyond(self, allowed: float, before: Sequence[float] = ()) -> bool:
        """Whether they are further apart than is allowed, by more than chance makes of so few rows.

        Args:
            before: what the difference was where it did no harm: what is allowed comes on top of it.

        >>> gap = Gap(measure="mean score", champion=0.2, challenger=0.1, difference=-0.1, error=0.001)
        >>> gap.is_beyond(0.05), gap.is_beyond(0.05, [-0.06]), gap.is_beyond(0.05, [0.06])
        (True, False, True)
        """
        low, high = min(0.0, *before, 0.0) - allowed, max(0.0, *before, 0.0) + allowed
        margin = ERRORS * self.error
        return self.difference - margin > high or self.difference + margin < low

    def line(self) -> str:
        """
        >>> Gap(measure="mean score", champion=0.2, challenger=0.1, difference=-0.1, error=0.001).line()
        'mean score 0.1 where the champion has 0.2'
        """
        return f"{self.measure} {self.challenger:.3g} where the champion has {self.champion:.3g}"


def gaps(
    problem: Problem,
    classes: tuple[Sequence[str], Sequence[str]],
    champion: ds.Dataset,
    challenger: ds.Dataset,
) -> list[Gap]:
    """How far two versions' scores and decisions are apart, over all rows; none of fewer than two rows.

    Args:
        classes: those of the champion's probabilities, and of the challenger's, in their order.
        champion, challenger: the key, score, decision and probabilities that each gave the same rows.
    """
    measured = _measures(problem, classes)
    columns = []
    for number, (_, of_champion, of_challenger) in enumerate(measured):
        columns += [
            f"avg({of_champion}) AS a{number}",
            f"avg({of_challenger}) AS b{number}",
            f"avg({of_challenger} - {of_champion}) AS d{number}",
            f"stddev_samp({of_challenger} - {of_champion}) / sqrt(count(*)) AS e{number}",
        ]
    query = f"""SELECT count(*) AS rows, stddev_samp(a.score) AS spread, stddev_samp(b.score) AS other_spread,
            {", ".join(columns)}
        FROM a JOIN b USING ({sql.quote(problem.key)})"""
    (row,) = sql.query(query, {"a": champion, "b": challenger}).to_pylist()
    if row["rows"] < 2:
        return []
    # A champion that gives every row the same has no spread: then the challenger's is the unit.
    unit = (row["spread"] or row["other_spread"] or 1.0) if problem.task == "regression" else 1.0
    return [
        Gap(
            measure=measure,
            champion=row[f"a{number}"],
            challenger=row[f"b{number}"],
            difference=row[f"d{number}"] / unit,
            error=row[f"e{number}"] / unit,
        )
        for number, (measure, _, _) in enumerate(measured)
    ]


def _measures(problem: Problem, classes: tuple[Sequence[str], Sequence[str]]) -> list[tuple[str, str, str]]:
    """What is compared, and SQL for it over the champion's row `a` and the challenger's `b`."""
    if problem.task == "regression":
        return [("mean score", "a.score", "b.score")]
    if problem.task == "binary":
        return [("mean score", "a.score", "b.score"), _decided("1")]
    before, now = ({name: place for place, name in enumerate(names, 1)} for names in classes)
    measured = []
    for name in {**before, **now}:
        of_champion, of_challenger = (
            f"{row}.probabilities[{places[name]}]" if name in places else "0.0"
            for row, places in (("a", before), ("b", now))
        )
        measured += [(f"mean probability of {name}", of_champion, of_challenger), _decided(name)]
    return measured


def _decided(name: str) -> tuple[str, str, str]:
    of_champion, of_challenger = (f"({row}.decision = {sql.literal(name)})::DOUBLE" for row in "ab")
    return f"share of rows decided {name}", of_champion, of_challenger


def unseen_gaps(
    features: Iterable[str], champion: Mapping[str, int], challenger: Mapping[str, int], rows: int
) -> list[Gap]:
    """Features of which the challenger does not know the categories of more rows than the champion.

    Args:
        features: those of both versions.
        champion, challenger: rows by feature with a category that the version did not see in training.
        rows: of the partition.

    >>> [gap.line() for gap in unseen_gaps(["carrier"], {"carrier": 1}, {"carrier": 40, "dest": 9}, 100)]
    ['share of rows with an unknown carrier 0.4 where the champion has 0.01']
    """
    measured = []
    for name in sorted(features):
        before, now = (counts.get(name, 0) / max(rows, 1) for counts in (champion, challenger))
        if now > before:
            share = now - before
            measured.append(
                Gap(
                    measure=f"share of rows with an unknown {name}",
                    champion=before,
                    challenger=now,
                    difference=share,
                    error=(share * (1 - share) / rows) ** 0.5,
                )
            )
    return measured
