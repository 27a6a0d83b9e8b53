"""Topics on librdkafka's mock cluster: the real protocol, on loopback."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pyarrow as pa
import pytest
from confluent_kafka import KafkaError, Producer

from pipelines import store
from pipelines.errors import AccessError, ConfigError, DataError, ServiceUnavailable, TransientError
from pipelines.handoffs.ingestion import Reach
from pipelines.health.document import SourceReach
from pipelines.health.freshness import freshness, with_reach
from pipelines.ingest.sources import described, opened, topic
from pipelines.ingest.sources.broker import Broker, Span, connected
from pipelines.ingest.sources.reach import marks
from pipelines.problem import Problem, parse_problem

DAY = ("2024-01-01", "2024-01-01")
NOON = datetime(2024, 1, 1, 12, tzinfo=UTC)
COLUMNS = {
    "id": "string",
    "litres": "float",
    "at": "timestamp",
    "message_partition": "integer",
    "message_offset": "integer",
    "message_time": "timestamp",
    "message_key": "string",
}


class Topic:
    """A topic of the mock cluster."""

    def __init__(self, brokers: str, name: str) -> None:
        self.brokers, self.name = brokers, name
        self._producer = Producer(
            {"bootstrap.servers": brokers, "linger.ms": 1, "message.max.bytes": 4 << 20, "log_level": 0}
        )

    def send(self, value: Any, key: str | bytes | None = None, partition: int = 0, at: datetime = NOON) -> None:
        payload = value if isinstance(value, bytes | None) else json.dumps(value)
        time = int(at.timestamp() * 1000)
        self._producer.produce(self.name, value=payload, key=key, partition=partition, timestamp=time)

    def flush(self) -> None:
        assert self._producer.flush(20) == 0


@pytest.fixture(scope="session")
def brokers() -> Iterator[str]:
    holder = Producer({"bootstrap.servers": "none", "test.mock.num.brokers": 1, "log_level": 0})
    brokers = holder.list_topics(timeout=10).brokers.values()
    yield ",".join(f"{broker.host}:{broker.port}" for broker in brokers)


@pytest.fixture
def pots(brokers: str) -> Topic:
    return Topic(brokers, f"pots-{uuid4().hex}")


@pytest.fixture
def problem(toy: Callable[..., Problem], tmp_path: Path, store_folder: Path, pots: Topic) -> Callable[..., Problem]:
    """The toy problem with one source, a topic: problem(time_column="at")."""

    def build(**source: Any) -> Problem:
        settings = {"topic": pots.name, "brokers": pots.brokers, "columns": COLUMNS} | source
        return parse_problem(toy().model_dump(mode="json") | {"sources": {"pots": settings}}, tmp_path)

    return build


def pot(number: int, at: datetime = NOON, litres: Any = 1.5) -> dict[str, Any]:
    return {"id": f"p{number}", "litres": litres, "at": at.isoformat()}


def rows(problem: Problem, first: str = DAY[0], last: str = DAY[1]) -> list[dict[str, Any]]:
    with opened(problem, first, last) as sources:
        query = "SELECT * FROM pots ORDER BY message_partition, message_offset"
        read: list[dict[str, Any]] = sources.database.sql(query).to_arrow_table().to_pylist()
    return read


def reach(problem: Problem, first: str, last: str) -> Reach:
    """How far the topic reaches, as an ingest of these days learns it."""
    topic.land_topics(problem)
    asked = marks(problem, problem.partitions.between(first, last), datetime.now(UTC))
    with opened(problem, first, last, asked=asked) as sources:
        return sources.reach["pots"]


def newest(told: Reach) -> list[datetime | None]:
    """The newest time before each reading's end."""
    return [reading.newest for reading in told.readings]


def places(problem: Problem) -> list[tuple[int, int]]:
    landed = store.dataset(problem, "topics").to_table(columns=["message_partition", "message_offset"])
    return sorted((row["message_partition"], row["message_offset"]) for row in landed.to_pylist())


def test_messages_are_landed_once_and_read_by_their_time(problem: Callable[..., Problem], pots: Topic) -> None:
    for number in range(6):
        pots.send(pot(number, NOON + timedelta(days=number // 3)), f"k{number}", partition=number % 3)
    pots.flush()
    whole = problem(time_column="at")
    assert topic.land_topics(whole) == {"pots": (6, 1)}
    assert topic.land_topics(whole) == {"pots": (0, 0)}
    pots.send(pot(6), "k6", partition=1)
    pots.flush()
    assert topic.land_topics(whole) == {"pots": (1, 1)}
    assert places(whole) == [(0, 0), (0, 1), (1, 0), (1, 1), (1, 2), (2, 0), (2, 1)]
    read = rows(whole)
    assert [row["id"] for row in read] == ["p0", "p1", "p6", "p2"]
    assert read[1] == {
        "id": "p1",
        "litres": 1.5,
        "at": NOON,
        "message_partition": 1,
        "message_offset": 0,
        "message_time": NOON,
        "message_key": "k1",
    }
    assert [row["id"] for row in rows(whole, "2024-01-02", "2024-01-02")] == ["p3", "p4", "p5"]
    assert len(rows(problem())) == 7


def test_what_cannot_be_read_is_set_aside_with_its_offset(problem: Callable[..., Problem], pots: Topic) -> None:
    sent = [
        pot(0),
        b"{",
        b"\xff{}",
        b"[1]",
        b'{"id": "p4", "id": "p5"}',
        pot(6, litres="much"),
        b"[" * 200,
        json.dumps({"id": "x" * 2_000_000}).encode(),
        None,
        b"",
        b'{"id": "p\0"}',
        {"id": "p11"},
    ]
    for message in sent:
        pots.send(message, "k")
    pots.flush()
    pots_of_noon = problem(time_column="at")
    topic.land_topics(pots_of_noon)
    with opened(pots_of_noon, *DAY) as sources:
        rejected = sources.rejected().read_all().to_pylist()
        assert (sources.counts["pots"].rows, sources.counts["pots"].rejected) == (11, 9)
        served = [row[0] for row in sources.database.sql("SELECT id FROM pots ORDER BY message_offset").fetchall()]
    assert served == ["p0", "p11"]
    reasons = {json.loads(row["row"])["offset"]: row["rules"] for row in rejected}
    place = f"({pots.name}, partition 0, offset"
    assert reasons == {
        1: [f"not readable: not a JSON object {place} 1)"],
        2: [f"not readable: not valid utf-8 {place} 2)"],
        3: [f"not readable: not a JSON object {place} 3)"],
        4: [f"not readable: a key comes twice {place} 4)"],
        5: ["litres: not of type float: 'much'"],
        6: [f"not readable: deeper than 100 levels {place} 6)"],
        7: [f"not readable: longer than 1 MB {place} 7)"],
        9: [f"not readable: not a JSON object {place} 9)"],
        10: [f"not readable: not valid utf-8 {place} 10)"],
    }
    shown = next(json.loads(row["row"]) for row in rejected if json.loads(row["row"])["offset"] == 5)
    assert shown == {"topic": pots.name, "partition": 0, "offset": 5, "message": json.dumps(pot(6, litres="much"))}
    # Those that say no time come with the partitions in which they were sent.
    with opened(pots_of_noon, "2024-01-02", "2024-01-02") as sources:
        assert sources.rejected().read_all().num_rows == 0


def test_what_a_producer_has_repeated_counts_once_and_a_tombstone_is_no_row(
    problem: Callable[..., Problem], pots: Topic
) -> None:
    pots.send(pot(0), "k0")
    pots.send(pot(0), "k0")
    pots.send(pot(0, litres=2.0), "k0")  # another statement
    pots.send(None, "k0")
    pots.send(pot(1))  # without a key nobody knows whether it is the same message
    pots.send(pot(1))
    pots.flush()
    topic.land_topics(problem())
    assert [row["message_offset"] for row in rows(problem())] == [0, 2, 4, 5]
    assert len(places(problem())) == 6


def test_a_landing_that_is_killed_goes_on_where_its_last_commit_was(
    problem: Callable[..., Problem], pots: Topic, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(40):
        pots.send(pot(number), partition=number % 2)
    pots.flush()
    monkeypatch.setattr("pipelines.ingest.sources.broker.MOST_ASKED", 3)
    monkeypatch.setattr(topic, "COMMIT_MESSAGES", 3)
    append, commits = store.append_from, 0

    def killed(*arguments: Any) -> None:
        nonlocal commits
        append(*arguments)
        commits += 1
        if commits == 4:
            raise KeyboardInterrupt

    monkeypatch.setattr(store, "append_from", killed)
    with pytest.raises(KeyboardInterrupt):
        topic.land_topics(problem())
    assert 12 <= len(places(problem())) < 40
    landed = topic.land_topics(problem())["pots"]
    assert landed.commits > 8  # past a checkpoint of the table's log, which keeps the positions
    assert places(problem()) == [(partition, offset) for partition in range(2) for offset in range(20)]


@pytest.mark.parametrize("in_task", [False, True])
def test_of_two_landings_at_once_one_goes_on_from_where_the_other_has_got(
    problem: Callable[..., Problem], pots: Topic, monkeypatch: pytest.MonkeyPatch, in_task: bool
) -> None:
    for number in range(9):
        pots.send(pot(number), partition=number % 3)
    pots.flush()
    append, others = store.append_from, []

    def overtaken(*arguments: Any) -> None:
        if not others:
            others.append("other")
            with store.task():
                others.append(topic.land_topics(problem())["pots"].messages)
        append(*arguments)

    monkeypatch.setattr(store, "append_from", overtaken)
    if in_task:
        with store.task():
            landed = topic.land_topics(problem())
    else:
        landed = topic.land_topics(problem())
    assert others == ["other", 9]
    assert landed["pots"].messages == 0
    assert places(problem()) == [(partition, offset) for partition in range(3) for offset in range(3)]


def test_messages_that_the_brokers_have_deleted_fail_the_run_with_their_number(
    problem: Callable[..., Problem], pots: Topic, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(10):
        pots.send(pot(number))
    pots.flush()
    there, first = Broker.there, {0: Span(0, 4)}
    monkeypatch.setattr(Broker, "there", lambda self: first)
    assert topic.land_topics(problem())["pots"].messages == 4
    monkeypatch.setattr(Broker, "there", lambda self: there(self) | {0: Span(7, 10)})  # the mock deletes nothing
    with pytest.raises(DataError, match=r"3 messages are lost.*offsets 4 to 6 of partition 0") as error:
        topic.land_topics(problem())
    assert "sources.pots.lost_messages: accept" in error.value.cure
    assert len(places(problem())) == 4
    topic.land_topics(problem(lost_messages="accept"))
    assert [offset for _, offset in places(problem())] == [0, 1, 2, 3, 7, 8, 9]
    monkeypatch.setattr(Broker, "there", lambda self: {0: Span(0, 2)})
    with pytest.raises(DataError, match="deleted and made anew"):
        topic.land_topics(problem(lost_messages="accept"))


def test_what_was_landed_by_another_time_column_is_found_by_the_new_one(
    problem: Callable[..., Problem], pots: Topic
) -> None:
    pots.send(pot(0), at=NOON + timedelta(days=1))
    pots.send(pot(1, NOON + timedelta(days=1)), at=NOON)
    pots.flush()
    topic.land_topics(problem(time_column="message_time"))
    assert [row["id"] for row in rows(problem(time_column="message_time"))] == ["p1"]
    assert [row["id"] for row in rows(problem(time_column="at"))] == ["p0"]


@pytest.mark.parametrize(
    ("time_column", "columns", "hours"),
    [("at", "at", [0, 24]), ("message_time", "message_time", [1, 1]), (None, "at, message_time", [0, 24])],
)
def test_how_far_a_topic_reaches_is_learnt_from_what_is_read_of_it(
    problem: Callable[..., Problem], pots: Topic, time_column: str | None, columns: str, hours: list[int]
) -> None:
    sent_last = NOON + timedelta(days=20)
    pots.send(pot(0), at=sent_last)
    pots.send(pot(1, NOON + timedelta(days=1)), at=NOON + timedelta(hours=1))
    pots.send(pot(2, NOON + timedelta(days=40)), at=NOON, partition=1)  # a plan: it says nothing of today
    pots.flush()
    told = reach(problem(time_column=time_column), "2024-01-01", "2024-01-02")
    assert (told.columns, newest(told)) == (columns, [NOON + timedelta(hours=each) for each in hours])
    # Of a window by when they were sent, what was sent later is not read.
    assert told.arrived == (NOON + timedelta(hours=1) if time_column == "message_time" else sent_last)


def test_a_topic_in_which_nothing_comes_any_more_is_behind_until_something_does(
    problem: Callable[..., Problem], pots: Topic
) -> None:
    whole = problem(time_column="at")
    kept: tuple[SourceReach, ...] = ()
    pots.send(pot(0))
    pots.flush()
    for day, is_behind in (("2024-01-01", False), ("2024-01-20", True), ("2024-01-21", False)):
        if day == "2024-01-21":
            pots.send(pot(1, NOON + timedelta(days=20)), at=NOON + timedelta(days=21))
            pots.flush()
        kept = with_reach(whole, kept, {"pots": reach(whole, day, day)})
        (source,) = freshness(whole, kept)
        assert source.is_behind is is_behind, day
        if is_behind:
            assert (source.newest, source.arrived) == (NOON, NOON), "where it stands is remembered, not read"
    assert (source.newest, source.arrived) == (NOON + timedelta(days=20), NOON + timedelta(days=21))


def test_a_check_asks_the_brokers_and_keeps_nothing(problem: Callable[..., Problem], pots: Topic) -> None:
    pots.send(pot(0))
    pots.flush()
    with described(problem()) as database:
        assert len(database.sql("DESCRIBE pots").fetchall()) == len(COLUMNS)
    assert [row["id"] for row in rows(problem())] == ["p0"]
    assert places(problem()) == []


def test_columns_that_are_not_declared_are_told(problem: Callable[..., Problem], pots: Topic) -> None:
    pots.send(pot(0) | {"glaze": "blue"})
    pots.flush()
    topic.land_topics(problem())
    with pytest.raises(Exception, match="glaze is not declared"):
        rows(problem())
    assert [row["id"] for row in rows(problem(extra_columns="ignore"))] == ["p0"]


def test_errors_say_what_to_do(problem: Callable[..., Problem], pots: Topic, monkeypatch: pytest.MonkeyPatch) -> None:
    pots.send(pot(0))
    pots.flush()
    with pytest.raises(ConfigError, match=f"there is no topic '{pots.name}x'; did you mean '{pots.name}'"):
        topic.land_topics(problem(topic=f"{pots.name}x"))
    monkeypatch.setattr("pipelines.ingest.sources.broker.ANSWER_TIMEOUT_S", 1)
    with pytest.raises(ServiceUnavailable, match=r"the brokers do not answer: .*[Cc]onnect") as away:
        topic.land_topics(problem(brokers="127.0.0.1:1"))
    assert "127.0.0.1:1" in away.value.where
    monkeypatch.setenv("POTS_PASSWORD", "hunter2")
    wrong = problem(security={"security.protocol": "${POTS_PASSWORD}", "sasl.password": "${POTS_PASSWORD}"})
    with pytest.raises(
        ConfigError, match=r'Invalid value "\*\*\*" for configuration property "security.protocol"'
    ) as refusal:
        topic.land_topics(wrong)
    assert "hunter2" not in str(refusal.value)
    monkeypatch.delenv("POTS_PASSWORD")
    with pytest.raises(ConfigError, match="POTS_PASSWORD is not set"):
        topic.land_topics(wrong)
    monkeypatch.setitem(sys.modules, "confluent_kafka", None)
    with pytest.raises(ConfigError, match="confluent-kafka, which is not installed") as missing:
        topic.land_topics(problem())
    assert "--extra kafka" in missing.value.cure


@pytest.mark.parametrize(
    ("codes", "kind", "text"),
    [
        # Of a refused login the call itself says that it took too long.
        ([KafkaError._TIMED_OUT, KafkaError._AUTHENTICATION], AccessError, "refused"),
        ([KafkaError.TOPIC_AUTHORIZATION_FAILED], AccessError, "refused"),
        ([KafkaError._TRANSPORT, KafkaError._SSL], ConfigError, "no encrypted connection"),
        ([KafkaError._ALL_BROKERS_DOWN], ServiceUnavailable, "do not answer"),
        ([KafkaError._AUTO_OFFSET_RESET], TransientError, "deleted messages while they were read"),
        ([KafkaError.MSG_SIZE_TOO_LARGE], DataError, "longer than"),
    ],
)
def test_each_fault_of_the_brokers_is_told_apart(
    problem: Callable[..., Problem], codes: list[int], kind: type[Exception], text: str
) -> None:
    pots = problem()
    with connected(pots, "pots", pots.sources["pots"]) as broker:
        broker._errors += [KafkaError(code) for code in codes[1:]]
        fault = broker._fault(KafkaError(codes[0]))
    assert type(fault) is kind
    assert text in str(fault)


@pytest.mark.parametrize(
    ("settings", "fault"),
    [
        ({"brokers": None}, "topic goes with brokers"),
        ({"columns": {"message_time": "timestamp"}}, "columns are declared"),
        ({"columns": {"id": "string", "message_time": "string"}}, "message_time is the message's own"),
        ({"format": "avro"}, "read as JSON objects"),
        ({"path": "pots.csv"}, "one of package, path, database and topic"),
        ({"security": {"sasl.password": "hunter2"}}, "sasl.password is secret"),
        ({"security": {"sasl.password": 12345}}, "should be a valid string"),
        ({"security": {"plugin.library.paths": "x.so"}}, "Input should be"),
    ],
)
def test_settings_that_are_wrong_are_told_without_their_secrets(
    problem: Callable[..., Problem], settings: dict[str, Any], fault: str
) -> None:
    with pytest.raises(ConfigError, match=fault) as error:
        problem(**settings)
    assert "hunter2" not in str(error.value)
    assert "12345" not in str(error.value)


def test_keys_that_are_no_text_and_times_that_are_none_are_landed(problem: Callable[..., Problem], pots: Topic) -> None:
    pots.send({"id": "p0", "litres": 1.0, "at": "soon"}, key=b"\xff\0")
    pots.send({"id": "p1", "litres": 1.0, "at": "9999-12-31T00:00:00Z"})
    pots.send({"id": "p2", "litres": 1.0, "at": "2024-01-01T12:00"})
    pots.flush()
    topic.land_topics(problem(time_column="at"))
    landed = store.dataset(problem(), "topics").to_table().sort_by("message_offset")
    assert landed["event_time"].to_pylist() == [NOON] * 3
    assert landed["message_key"].to_pylist() == ["\\xff\\0", None, None]
    assert landed["dated_by"].unique().to_pylist() == ["at"]
    assert landed["payload"].type == pa.binary()
