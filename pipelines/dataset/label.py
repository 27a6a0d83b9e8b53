"""label: which events have a label, as known at a moment, and in which split they belong."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Collection, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING, Any, NamedTuple
from zoneinfo import ZoneInfo

import pyarrow as pa
import pyarrow.compute as pc

from pipelines import sql
from pipelines.artifacts import arrow_type, table_schema
from pipelines.asof.as_known import TRUTH, labels_as_known, labels_of, targets
from pipelines.dataset.drawn import DRAWN, sides_sql, unit_sql
from pipelines.errors import DataError
from pipelines.problem import Problem

if TYPE_CHECKING:
    import pyarrow.dataset as ds

BY_THEMSELVES = ("natural", "none")  # sources of labels that come with time, and so bound what could be learnt when
SPLITS = ("train", "validation", "test")  # oldest first; rows of any other split are left out
USUAL_SHARE = 0.99  # of the labels: those that took longer come after a partition is held to be mature
MOST_HELD_OUT = 5  # of so many mature partitions one may validate and one may test
LAST_MOMENT = timedelta(microseconds=1)  # what is known at a moment was learnt before it, by so much at least


def mature(problem: Problem, partition: str, available: list[str]) -> list[str]:
    """The partitions of `available` that may be learnt from at the end of `partition`, oldest first.

    A partition is mature once so many days have passed since its end that its labels are taken to be in.
    """
    parts, as_of, wait = problem.partitions, problem.partitions.end(partition), _wait(problem)
    keys = sorted(key for key in available if key <= partition)
    # In the order of their keys partitions end one after the other: few of them have to be asked.
    return keys[: bisect_right(keys, as_of, key=lambda key: parts.end(key) + wait)]


def young(problem: Problem, partition: str, available: list[str]) -> list[str]:
    """The partitions of `available`, up to `partition`, whose labels still have time to come in."""
    known = set(mature(problem, partition, available))
    return [key for key in sorted(available) if key <= partition and key not in known]


def usual_wait(problem: Problem, labels: Any, as_of: datetime) -> timedelta:
    """How long after their event nearly all labels (`USUAL_SHARE`) are here: none, where none has come."""
    waits = sql.query(
        f"""SELECT quantile_cont(epoch(known_time) - epoch(event_time), {USUAL_SHARE}) AS seconds
            FROM ({labels_as_known(problem, problem.labels.use)}) WHERE source = 'natural'""",
        {"labels": labels},
        {"as_of": as_of},
    )
    return timedelta(seconds=waits["seconds"][0].as_py() or 0.0, days=problem.labels.delay_days)


def awaiting(problem: Problem, targets: Any, labels: Any, as_of: datetime, wait: timedelta) -> list[str]:
    """The partitions of `targets` too many of whose labels still have time to come in, oldest first.

    Only where labels.maturity_days leaves it open when a partition is mature: labels then take as long as nearly all of
    them took (`USUAL_SHARE`, from the event to when its label was known) and labels.delay_days. An event without a
    label that is younger than that waits for it, and a partition of which a greater share waits than
    dataset.leaks.max_unlabelled_rise allows is not whole yet: what it has are the labels that came fast.

    Args:
        targets: one row per event; of partitions that ended no longer than `wait` ago is enough.
        labels: the table `labels`, of the same events.
        wait: how long labels take, as older partitions tell (`usual_wait`).
    """
    allowed = problem.dataset.leaks.max_unlabelled_rise
    is_open = problem.labels.maturity_days is None and "natural" in problem.labels.use
    if not is_open or allowed is None:
        return []
    key = sql.quote(problem.key)
    waiting = sql.query(
        f"""WITH known AS ({labels_as_known(problem, problem.labels.use)}),
            of_events AS ({labels_of(problem, "events")}),
            waiting AS (
                SELECT e.partition, o.label IS NULL AND epoch(e.event_time) + $wait_s > epoch($as_of) AS waits
                FROM events AS e
                LEFT JOIN of_events AS o ON o.{key} = e.{key} AND o.event_time = e.event_time
            )
            SELECT partition FROM waiting GROUP BY partition HAVING avg(waits::INT) > $allowed ORDER BY partition""",
        {"events": targets, "labels": labels},
        {"as_of": as_of, "allowed": allowed, "wait_s": wait.total_seconds()},
    )
    keys: list[str] = waiting["partition"].to_pylist()
    return keys


class Sizes(NamedTuple):
    """Partitions that are held out."""

    validation: int
    test: int


def pooled(
    problem: Problem,
    partition: str,
    available: list[str],
    rows: Mapping[str, int],
    window_from: str | None = None,
    held: Collection[str] = (),
    after: str | None = None,
) -> Sizes:
    """How many partitions validation and test take to have `dataset.split.min_rows` rows each, where there are enough.

    Small partitions are pooled: a choice or a gate on a handful of rows is a lottery. `rows` counts the labelled rows
    of each partition. Never fewer than dataset.split says, and no more than a fifth of the mature partitions each
    unless it does; the training split keeps at least as many as are held out, and test takes none up to `after`, the
    last that the champion has learnt from, beyond what dataset.split says. The other arguments are those of `splits`.
    """
    rule = problem.dataset.split
    least = Sizes(rule.validation_partitions, rule.test_partitions)
    if rule.drawn:
        return least
    known = [key for key in mature(problem, partition, available) if key not in held]
    most = len(known) // MOST_HELD_OUT

    def enough(keys: list[str], fewest: int) -> int:
        counts = accumulate(rows.get(key, 0) for key in reversed(keys))
        needed = next((n for n, count in enumerate(counts, 1) if count >= rule.min_rows), len(keys))
        return max(fewest, min(needed, most))

    newer = [key for key in known if after is None or key > after]
    test = enough(newer, least.test) if len(newer) >= least.test else least.test
    wanted = Sizes(enough(_learnable_before(problem, known, known[-test:]), least.validation), test)
    while wanted != least and not _leaves_enough(problem, partition, available, window_from, held, wanted):
        wanted = Sizes(*((small + large) // 2 for small, large in zip(least, wanted, strict=True)))
    return wanted


def _leaves_enough(
    problem: Problem,
    partition: str,
    available: list[str],
    window_from: str | None,
    held: Collection[str],
    sizes: Sizes,
) -> bool:
    try:
        names = list(splits(problem, partition, available, window_from, held, sizes=sizes).values())
    except DataError:
        return False
    return names.count("train") >= sum(sizes)


def splits(
    problem: Problem,
    partition: str,
    available: list[str],
    window_from: str | None = None,
    held: Collection[str] = (),
    are_cut: bool = True,
    sizes: Sizes | None = None,
) -> dict[str, str]:
    """Split of each partition that may be learnt from at the end of `partition`: the newest are held out.

    Nothing before `window_from` is learnt from. Partitions that are `held` in quarantine are in no split: validation
    and test are of the newest partitions that are not. `sizes`: how many they have (`pooled`); None: as few as
    dataset.split says.

    Of the mature partitions the newest are test, those before them validation, the rest train (no more of it
    than the window allows): never a random split, which on data that moves reports what no future will show
    (Huyen, ch. 4; Burkov, ch. 3.12). With an embargo there is a gap before validation and before test: a model that
    had to predict the next split's first partition could not have learnt from what was not mature by then. That is
    `embargo` (López de Prado, Advances in Financial Machine Learning, 2018, ch. 7.4, calls it purging). The gap is as
    long as labels take: a partition in which it begins belongs to the older split, and `label` cuts it there. With
    `are_cut` off such a partition is embargo as a whole, as it is where events without a label are negative: that is
    known of a whole partition at once.

    Where rows are drawn (`Drawn`) all partitions are `drawn`, each row of them to a split of its own.

    Raises:
        DataError: too few partitions for all three.
    """
    parts, rule = problem.partitions, problem.dataset.split
    known = [key for key in mature(problem, partition, available) if key not in held]
    if rule.drawn:
        return _all_drawn(problem, partition, known, window_from)
    sizes = sizes or Sizes(rule.validation_partitions, rule.test_partitions)
    test = known[-sizes.test :]
    whole = _learnable_before(problem, known, test)[-sizes.validation :]
    validation = whole + _cut_before(problem, known, test, whole, are_cut)
    learnable = _learnable_before(problem, known, validation)
    learnable += _cut_before(problem, known, validation, learnable, are_cut)
    learnable = learnable[-(problem.dataset.window_partitions or 0) :]
    train = [key for key in learnable if window_from is None or key >= window_from]
    if learnable and not train and len(whole) == sizes.validation:
        raise DataError(
            f"the newest partition that may be learnt from is {learnable[-1]}, and none from {window_from} on",
            where=f"problem {problem.name}, at the end of {partition}",
            cure="begin the window earlier, or wait until more labels are in",
        )
    if not train or len(whole) < sizes.validation:
        held_out = sum(sizes)
        gap = parts.as_many_as(_wait(problem)) if rule.embargo else 0
        aside = f" ({len(held)} are in quarantine)" if held else ""
        gaps = f", and {2 * gap} lie in the embargo before validation and before test" if gap else ""
        raise DataError(
            f"{len(known)} partitions have their labels at the end of {partition}{aside}; {held_out} are held out for "
            f"validation and test{gaps}, which leaves none to train on: {held_out + 2 * gap + 1} are needed",
            where=f"problem {problem.name}, table events",
            cure=f"ingest earlier {parts.plural} first, or shorten dataset.split in problem.yaml",
        )
    chosen = {key: name for name, keys in zip(SPLITS, (train, validation, test), strict=True) for key in keys}
    return {key: chosen.get(key, "embargo") for key in known if key >= train[0]}


def _all_drawn(problem: Problem, partition: str, known: list[str], window_from: str | None) -> dict[str, str]:
    keys = known[-(problem.dataset.window_partitions or 0) :]
    keys = [key for key in keys if window_from is None or key >= window_from]
    if not keys:
        after = f" from {window_from} on" if window_from else ""
        raise DataError(
            f"no delivery{after} may be learnt from",
            where=f"problem {problem.name}, at the end of {partition}",
            cure="ingest one, or readmit one that is held (evergreen quarantine partitions)",
        )
    return dict.fromkeys(keys, DRAWN)


def all_mature(
    problem: Problem,
    partition: str,
    available: list[str],
    window_from: str | None = None,
    held: Collection[str] = (),
) -> dict[str, str]:
    """As `splits`, with nothing held out and no embargo: all mature partitions at the end of `partition` are train.

    The window has the length of dataset.window_partitions, and so begins later than that of `splits` does.
    """
    known = [key for key in mature(problem, partition, available) if key not in held]
    newest = known[-(problem.dataset.window_partitions or 0) :]
    return {key: "train" for key in newest if window_from is None or key >= window_from}


def label(problem: Problem, events: Any, labels: Any, as_of: datetime, split: dict[str, str]) -> pa.Table:
    """One row per event of the partitions in `split`, sorted by event_time and key.

    Columns: key, partition, event_time, split, label, source, confidence, label_known_time, and those that sampling,
    groups and leak checks ask for. Events are taken as they are predicted from, labels as they were known before
    `as_of`, from the sources of labels.use. An event without a label has null in the label's columns; where
    labels.after_maturity is `negative` it has label 0, source `none`, confidence 1, known at the last moment before
    its partition matured (or when its label was taken back, if that came later).

    `split` holds for whole partitions and is changed for single rows. An event so young that labels take longer than
    until the start of the next split's first partition becomes `embargo`, labelled or not: those whose label came early
    are not like the rest. So does a row whose label came by itself, and only after that start (labels that do not keep
    to their delay). A label that people or functions gave afterwards to an old
    event stays: that they were asked late says nothing about what a model can know. Of a partition that is `drawn`
    each row has the split of its unit (`pipelines.dataset.drawn`). With split.group_by a labelled
    row becomes `grouped_out` if its group has labelled rows in a newer split; rows without a group stay. `events` and
    `labels` are Arrow datasets or tables.

    Raises:
        DataError: that leaves a split without a labelled row although its partitions have some; or a label is of a
            class that is not declared any more.
    """
    in_split = targets(events.filter(sql.is_among("partition", split)), as_of)
    rows = labelled(problem, in_split, events, labels, as_of, split)
    require_usable(problem, rows, split)
    return rows


def label_batches(
    problem: Problem, events: Any, labels: Any, as_of: datetime, split: dict[str, str]
) -> tuple[pa.Schema, Iterator[pa.RecordBatch]]:
    """As `label`, batch by batch, for more rows than fit in memory; whether they will do `require_usable` says, once
    they lie somewhere."""
    in_split = targets(events.filter(sql.is_among("partition", split)), as_of)
    text, tables = _label_query(problem, in_split, events, labels, split)
    return label_schema(problem), sql.stream(text, tables, {"as_of": as_of})


def label_schema(problem: Problem) -> pa.Schema:
    """Of the rows that `label` gives."""
    time, of_events = pa.timestamp("us", "UTC"), table_schema(problem, "events")
    columns: dict[str, pa.DataType] = {
        problem.key: pa.string(),
        "partition": pa.string(),
        "event_time": time,
        "split": pa.string(),
        "label": arrow_type(problem.label_type),
        "source": pa.string(),
        "confidence": pa.float64(),
        "label_known_time": time,
    }
    return pa.schema(columns | {name: of_events.field(name).type for name in carried(problem)})


def require_usable(problem: Problem, rows: pa.Table | ds.Dataset, split: dict[str, str]) -> None:
    """Whether the rows of `label` will do.

    Raises:
        DataError: a split has no labelled row although its partitions have some; or a label is of a class that is not
            declared any more.
    """
    _require_declared(problem, rows)
    _require_rows(problem, rows, split)


def labelled(
    problem: Problem, targets: Any, events: Any, labels: Any, as_of: datetime, split: dict[str, str]
) -> pa.Table:
    """As `label`, of `targets`, one row per event of the table `events`, and however few of them have a label.

    Events and labels are read of the partitions of `split` and of `validation.lookback_partitions` around them: so far
    events move where their time is corrected. After them it is as many more as labels take, should those that come
    late give the time at which they came.
    """
    text, tables = _label_query(problem, targets, events, labels, split)
    return sql.query(text, tables, {"as_of": as_of})


def _label_query(
    problem: Problem, targets: Any, events: Any, labels: Any, split: dict[str, str]
) -> tuple[str, dict[str, Any]]:
    """Query, with the parameter `as_of`, and tables of what `labelled` gives."""
    if split and not problem.dataset.split.drawn:
        parts, around = problem.partitions, problem.validation.lookback_partitions
        start, end = parts.start(parts.shift(min(split), -around)), parts.end(parts.shift(max(split), around))
        time = pc.field("event_time")
        may_count = (time >= pc.scalar(start)) & (time < pc.scalar(end + _wait(problem)))
        events, labels = events.filter(may_count), labels.filter(may_count)
    tables = {"events": targets, "all_events": events, "labels": labels, "splits": moments(problem, split)}
    return _label_sql(problem), tables


def label_number(problem: Problem, column: str) -> str:
    """SQL for a label, in the SQL expression `column`, as the number that models and metrics take it for.

    Of several classes that is the position in labels.classes, from 0 on, and null for a class that is not there.
    """
    if problem.task != "multiclass":
        return column
    return f"CAST(list_position([{', '.join(map(sql.literal, problem.classes))}], {column}) - 1 AS BIGINT)"


def labelled_counts(problem: Problem, events: Any, labels: Any, as_of: datetime) -> dict[str, int]:
    """Events of each partition that have a label which may measure a model, as known before `as_of`; all events where
    having none means negative. `events` and `labels` are Arrow datasets or tables."""
    measuring = [source for source in problem.labels.use if source in TRUTH] or problem.labels.use
    counted = f"labels WHERE source IN ({', '.join(map(sql.literal, measuring))}) AND"
    if problem.labels.after_maturity == "negative":
        counted = "events WHERE"
    text = f"""SELECT partition, count(DISTINCT {sql.quote(problem.key)}) AS rows
        FROM {counted} known_time < $as_of GROUP BY partition"""
    per_partition = sql.query(text, {"events": events, "labels": labels}, {"as_of": as_of})
    return dict(zip(per_partition["partition"].to_pylist(), per_partition["rows"].to_pylist(), strict=True))


def excluded(rows: pa.Table | ds.Dataset) -> dict[str, int]:
    """How many rows of `label`'s do not get into a training set, by reason; each row has one reason.

    >>> rows = pa.table({"split": ["train", "train", "embargo", "grouped_out"], "label": [1, None, None, 0]})
    >>> excluded(rows)
    {'embargo': 1, 'grouped_out': 1, 'unlabelled': 1}
    """
    counts = {name: f"count(*) FILTER (split = {sql.literal(name)})" for name in ("embargo", "grouped_out")}
    counts["unlabelled"] = f"count(*) FILTER (split IN ({', '.join(map(sql.literal, SPLITS))}) AND label IS NULL)"
    named = ", ".join(f"{count} AS {name}" for name, count in counts.items())
    (found,) = sql.query(f"SELECT {named} FROM rows", {"rows": rows}).to_pylist()
    return dict(found)


def carried(problem: Problem) -> list[str]:
    """Event columns that `label` carries along for what comes after it, each once."""
    dataset = problem.dataset
    names = [*dataset.sampling.by, dataset.sampling.weight_column, dataset.split.group_by, *dataset.leaks.entities]
    return list(dict.fromkeys(name for name in names if name and name != "label"))


def _by_themselves() -> str:
    return ", ".join(map(sql.literal, BY_THEMSELVES))


def _wait(problem: Problem) -> timedelta:
    return timedelta(days=problem.labels.mature_after_days)


def _learnable_before(problem: Problem, keys: list[str], following: list[str]) -> list[str]:
    """Those of `keys` that a model could have learnt from when the first partition of `following` began."""
    if not following:
        return []
    parts, begun = problem.partitions, problem.partitions.start(following[0])
    if problem.dataset.split.embargo:
        begun = _cut(problem, begun)
    keys = sorted(keys)
    return keys[: bisect_right(keys, begun, key=parts.end)]


def _cut_before(
    problem: Problem, keys: list[str], following: list[str], learnable: list[str], are_cut: bool
) -> list[str]:
    """Those of `keys`, newer than `learnable`, in which the gap before `following` begins; none where nothing whole
    lies before it."""
    is_whole = problem.labels.after_maturity == "negative" or not problem.dataset.split.embargo or not are_cut
    if is_whole or not following or not learnable:
        return []
    parts = problem.partitions
    begun = _cut(problem, parts.start(following[0]))
    return [key for key in keys if key > learnable[-1] and parts.start(key) < begun]


def _cut(problem: Problem, deadline: datetime) -> datetime:
    """The first moment whose events are too young for their labels to be in by `deadline`; days are those of the
    problem's zone, so that a change of its clocks cuts no hour off a week."""
    return (deadline.astimezone(ZoneInfo(problem.partitions.timezone)) - _wait(problem)).astimezone(UTC)


def moments(problem: Problem, split: dict[str, str]) -> pa.Table:
    """Per partition its split, when it matured, by when its labels had to be known (null: as_of will do), and from when
    on its events are too young for that (`cut`; where events without a label are negative none is)."""
    parts, deadline = problem.partitions, dict[str, datetime]()
    if problem.dataset.split.embargo:
        for name, following in pairwise(SPLITS):
            keys = [key for key, part in split.items() if part == following]
            if keys:
                deadline[name] = parts.start(min(keys))
    time = pa.timestamp("us", "UTC")
    are_whole = problem.labels.after_maturity == "negative"
    return pa.table(
        {
            "partition": pa.array(split, pa.string()),
            "split": pa.array(split.values(), pa.string()),
            "matured": pa.array([parts.end(key) + _wait(problem) - LAST_MOMENT for key in split], time),
            "deadline": pa.array([deadline.get(name) for name in split.values()], time),
            "cut": pa.array(
                [
                    None if are_whole or name not in deadline else _cut(problem, deadline[name])
                    for name in split.values()
                ],
                time,
            ),
        }
    )


def _label_sql(problem: Problem) -> str:
    key, group = sql.quote(problem.key), problem.dataset.split.group_by
    more = [sql.quote(name) for name in carried(problem)]
    strays = _strays(problem)
    gone, joined = "", ""
    label_columns = "k.label, k.source, k.confidence, k.known_time AS label_known_time"
    if problem.labels.after_maturity == "negative":
        # A label that was taken back makes its event a negative one only from then on.
        sources = ", ".join(sql.literal(source) for source in problem.labels.use)
        ended = "least(superseded_time, withdrawn_time)"
        gone = f""", gone AS MATERIALIZED (
            SELECT {key}, event_time, max({ended}) AS known_time FROM labels
            WHERE {ended} < $as_of AND source IN ({sources}) GROUP BY {key}, event_time
        )"""
        taken_back = labels_of(problem, "events", strays, labels="gone", columns=["known_time"])
        joined = f"LEFT JOIN ({taken_back}) AS gone USING ({key}, event_time)"
        label_columns = """coalesce(k.label, CAST(0 AS TINYINT)) AS label, coalesce(k.source, 'none') AS source,
            CASE WHEN k.label IS NULL THEN 1.0 ELSE k.confidence END AS confidence,
            coalesce(k.known_time, greatest(s.matured, gone.known_time)) AS label_known_time"""
    groups, by_group, grouped = "", "", "split"
    sides, by_side, planned_split = "", "", "planned"
    if drawn := problem.dataset.split.drawn:
        sides = f", sides AS MATERIALIZED ({sides_sql(problem, drawn)})"
        by_side = f"LEFT JOIN sides ON sides.unit = {unit_sql(problem, 'labelled')}"
        planned_split = f"CASE WHEN planned = '{DRAWN}' THEN coalesce(side, 'train') ELSE planned END"
    elif group:
        rank = f"list_position([{', '.join(map(sql.literal, SPLITS))}], split)"
        groups = f""", newest AS (
            SELECT {sql.quote(group)}, max({rank}) AS rank FROM placed WHERE label IS NOT NULL GROUP BY ALL
        )"""
        by_group = f"LEFT JOIN newest USING ({sql.quote(group)})"
        grouped = f"CASE WHEN label IS NOT NULL AND {rank} < newest.rank THEN 'grouped_out' ELSE split END"
    return f"""
        WITH known AS MATERIALIZED ({labels_as_known(problem, problem.labels.use)}){gone}{sides},
        targets AS (
            SELECT {", ".join([key, "partition", "event_time", *more])} FROM events
        ),
        labelled AS (
            SELECT t.*, s.split AS planned, s.deadline, s.cut, {label_columns}
            FROM targets AS t
            JOIN splits AS s USING (partition)
            LEFT JOIN ({labels_of(problem, "events", strays)}) AS k USING ({key}, event_time)
            {joined}
        ),
        placed AS {"MATERIALIZED" if group else ""} (
            SELECT labelled.* EXCLUDE (planned, deadline, cut),
                CASE WHEN event_time >= cut
                        OR (label_known_time >= deadline AND source IN ({_by_themselves()})) THEN 'embargo'
                    ELSE {planned_split} END AS split
            FROM labelled {by_side}
        ){groups}
        SELECT {key}, partition, event_time, {grouped} AS split,
            {", ".join(["label", "source", "confidence", "label_known_time", *more])}
        FROM placed {by_group}
        ORDER BY event_time, {key}
    """


def _strays(problem: Problem) -> str:
    """Which label with another event_time is an event's (see `labels_of`): its time was corrected, or no event has
    the label's. A label of another event that has the same key is not."""
    key = sql.quote(problem.key)
    return f"""(r.superseded_time IS NOT NULL
        OR NOT EXISTS (FROM all_events AS a WHERE a.{key} = k.{key} AND a.event_time = k.event_time))"""


def _require_declared(problem: Problem, rows: pa.Table | ds.Dataset) -> None:
    """Ingest sets aside what is no class, but labels.classes may have lost one since."""
    if problem.task != "multiclass":
        return
    (strange,) = sql.query(
        f"""SELECT count(*) AS rows, min(label) AS example FROM rows
            WHERE label NOT IN ({", ".join(map(sql.literal, problem.classes))})""",
        {"rows": rows},
    ).to_pylist()
    if strange["rows"]:
        raise DataError(
            f"{strange['rows']} labels are of classes that are not declared, such as {strange['example']!r}",
            where=f"problem {problem.name}, table labels",
            cure=f"declare them in labels.classes ({', '.join(problem.classes)}), or let labels.sql give another class "
            "and ingest those partitions again",
        )


def _require_drawn(problem: Problem, filled: set[str], counts: list[dict[str, Any]]) -> None:
    if empty := [name for name in SPLITS if name not in filled]:
        rows = sum(group["label_count"] for group in counts)
        raise DataError(
            f"of {rows:,} labelled rows none is drawn for {' and '.join(empty)}",
            where=f"problem {problem.name}, dataset.split.drawn",
            cure="deliver more rows with labels, or hold out a greater share; where groups stay together "
            "(dataset.split.group_by), there have to be several of them",
        )


def _require_rows(problem: Problem, rows: pa.Table | ds.Dataset, split: dict[str, str]) -> None:
    counted = "SELECT partition, split, count(label) AS label_count FROM rows GROUP BY ALL"
    counts = sql.query(counted, {"rows": rows}).to_pylist()
    if problem.dataset.split.drawn and DRAWN in split.values():
        _require_drawn(problem, {group["split"] for group in counts if group["label_count"]}, counts)
        return
    for name in SPLITS:
        planned = [group for group in counts if split[group["partition"]] == name and group["label_count"]]
        if planned and not any(group["split"] == name for group in planned):
            lost = {
                reason: sum(group["label_count"] for group in planned if group["split"] == reason)
                for reason in ("embargo", "grouped_out")
            }
            raise DataError(
                f"the {name} split has no labelled row left: the labels of {lost['embargo']} were not known at the "
                f"start of the next split, the groups of {lost['grouped_out']} stand in a newer one",
                where=f"problem {problem.name}, dataset.split",
                cure=f"if labels come later than {_wait(problem).days} days after their partition, say so "
                "(labels.maturity_days); if groups live on, give them more partitions or drop split.group_by",
            )
