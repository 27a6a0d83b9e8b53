"""Kafka's brokers: which messages a topic has, and reading them up to where it ended when one began.

Nothing is told to the brokers of how far one has read: no group is joined, and no offset committed.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

from pipelines.config import SECRET_SETTINGS, Source, did_you_mean
from pipelines.errors import AccessError, ConfigError, DataError, EvergreenError, ServiceUnavailable, TransientError
from pipelines.ingest.sources.files import expand, place
from pipelines.ingest.sources.limits import MAX_MESSAGE_BYTES
from pipelines.problem import Problem

if TYPE_CHECKING:
    from confluent_kafka import Consumer, KafkaError, Message

ANSWER_TIMEOUT_S = 10
STALLED_S = 30  # without a message, before the end
MOST_ASKED = 5_000  # messages at a time; fewer where they are long, and at first, when nobody knows how long they are
FIRST_ASKED = 100
WAIT_S = 1.0
# What the client holds ahead of who reads, of all partitions together; one message may be longer.
FETCH_BYTES = 8 << 20
QUEUED_KB = 16 << 10
ASKED_BYTES = 16 << 20  # that are asked for at a time, by the length of those before


class Span(NamedTuple):
    """Offsets of a partition from `start` to `end`, which is not among them."""

    start: int
    end: int


class Broker:
    """A connection to the brokers of a topic."""

    def __init__(self, consumer: Consumer, topic: str, where: str, brokers: str, errors: list[KafkaError]) -> None:
        self._consumer, self._topic, self._where, self._brokers = consumer, topic, where, brokers
        self._errors = errors

    def there(self) -> dict[int, Span]:
        """From where to where each partition has messages now.

        Raises:
            ConfigError: there is no such topic.
            AccessError: the brokers refuse who asks.
            ServiceUnavailable: they do not answer.
        """
        from confluent_kafka import KafkaError, TopicPartition

        with self._explained():
            topic = self._consumer.list_topics(self._topic, timeout=ANSWER_TIMEOUT_S).topics[self._topic]
            if topic.error is not None and topic.error.code() == KafkaError.UNKNOWN_TOPIC_OR_PART:
                others = self._consumer.list_topics(timeout=ANSWER_TIMEOUT_S).topics
                raise ConfigError(
                    f"there is no topic {self._topic!r}{did_you_mean(self._topic, list(others))}",
                    where=f"{self._brokers} ({self._where})",
                    cure="correct the source's topic or brokers, or make the topic",
                )
            if topic.error is not None:
                raise self._fault(topic.error)
            spans = {}
            for partition in sorted(topic.partitions):
                asked = TopicPartition(self._topic, partition)
                low, high = self._consumer.get_watermark_offsets(asked, timeout=ANSWER_TIMEOUT_S)
                spans[partition] = Span(low, high)
            return spans

    def messages(self, spans: Mapping[int, Span]) -> Iterator[tuple[list[Message], dict[int, int]]]:
        """The messages of the spans, in lists of bounded size, each with the offset of what follows it by partition.

        Raises:
            TransientError: the brokers have deleted messages of a span meanwhile, or have a transaction open in it.
            ServiceUnavailable: they stopped to answer.
        """
        from confluent_kafka import TopicPartition

        left = {partition: span for partition, span in spans.items() if span.start < span.end}
        if not left:
            return
        with self._explained():
            self._consumer.assign([TopicPartition(self._topic, number, span.start) for number, span in left.items()])
        heard, asked = time.monotonic(), FIRST_ASKED
        while left:
            with self._explained():
                answers = self._consumer.consume(min(asked, MOST_ASKED), WAIT_S)
            if answers:
                heard = time.monotonic()
                asked = max(1, ASKED_BYTES * len(answers) // max(1, sum(map(len, answers))))
            elif time.monotonic() - heard > STALLED_S:
                raise self._stalled()
            messages, reached = self._sorted(answers, left)
            if reached:
                yield messages, reached
            if ended := [number for number, offset in reached.items() if offset >= left[number].end]:
                self._consumer.pause([TopicPartition(self._topic, number) for number in ended])
                left = {number: span for number, span in left.items() if number not in ended}

    def _sorted(self, answers: list[Message], left: Mapping[int, Span]) -> tuple[list[Message], dict[int, int]]:
        """Messages of the spans that are left, and how far their partitions have got."""
        from confluent_kafka import KafkaError

        messages, reached = [], {}
        for answer in answers:
            partition, offset, error = answer.partition(), answer.offset(), answer.error()
            if partition is None or offset is None or partition not in left:
                if error is not None:
                    raise self._fault(error)
                continue
            end = left[partition].end
            if error is None:
                if offset < end:
                    messages.append(answer)
                reached[partition] = min(offset + 1, end)
            elif error.code() != KafkaError._PARTITION_EOF:
                raise self._fault(error)
            elif offset >= end:  # what is missing before it is no message: the brokers' own marks, or compacted
                reached[partition] = end
            else:
                raise TransientError(
                    f"partition {partition} of {self._topic} can be read to {offset}, and not to {end}",
                    where=f"{self._brokers} ({self._where})",
                    cure="a producer has a transaction open; try again when it has ended",
                )
        return messages, reached

    @contextmanager
    def _explained(self) -> Iterator[None]:
        from confluent_kafka import KafkaException

        try:
            yield
        except KafkaException as error:
            self._consumer.poll(0)  # the client tells only then what else went wrong
            raise self._fault(error.args[0]) from None

    def _stalled(self) -> EvergreenError:
        if self._errors:
            return self._fault(self._errors[-1])
        return ServiceUnavailable(
            f"no message of {self._topic} for {STALLED_S} s, before its end",
            where=f"{self._brokers} ({self._where})",
            cure="are all of the topic's brokers running?",
        )

    def _fault(self, error: KafkaError) -> EvergreenError:
        from confluent_kafka import KafkaError

        where = f"{self._brokers} ({self._where})"
        refused = {
            KafkaError._AUTHENTICATION,
            KafkaError.SASL_AUTHENTICATION_FAILED,
            KafkaError.TOPIC_AUTHORIZATION_FAILED,
            KafkaError.GROUP_AUTHORIZATION_FAILED,
            KafkaError.CLUSTER_AUTHORIZATION_FAILED,
        }
        # Of a refused login the call itself says only that it took too long.
        for other in [error, *self._errors]:
            if other.code() in refused:
                return AccessError(
                    f"the brokers refused: {other.str()}",
                    where=where,
                    cure="check the source's security, its variables, and what the user may read",
                )
        ssl = next((other for other in [error, *self._errors] if other.code() == KafkaError._SSL), None)
        if ssl is not None:
            return ConfigError(
                f"no encrypted connection: {ssl.str()}",
                where=where,
                cure="correct security.protocol and ssl.ca.location; is this port one of TLS?",
            )
        if error.code() in (KafkaError._AUTO_OFFSET_RESET, KafkaError.OFFSET_OUT_OF_RANGE):
            return TransientError(
                "the brokers have deleted messages while they were read", where=where, cure="try again"
            )
        if error.code() == KafkaError.MSG_SIZE_TOO_LARGE:
            return DataError(
                f"a message is longer than {MAX_MESSAGE_BYTES >> 20} MB: {error.str()}",
                where=where,
                cure="send smaller messages",
            )
        unreachable = (KafkaError._TRANSPORT, KafkaError._RESOLVE)
        reason = next((other for other in self._errors if other.code() in unreachable), error)
        return ServiceUnavailable(
            f"the brokers do not answer: {reason.str()}",
            where=where,
            cure="are they running, and reachable? Correct the source's brokers",
        )


@contextmanager
def connected(problem: Problem, name: str, source: Source) -> Iterator[Broker]:
    """A connection to the brokers of a source's topic.

    Raises:
        ConfigError: the client is not installed, an environment variable is not set, or a setting is wrong.
    """
    where = place(problem, name)
    try:
        from confluent_kafka import Consumer, KafkaException
    except ImportError as error:
        raise ConfigError(
            "a topic needs the package confluent-kafka, which is not installed",
            where=where,
            cure="install the extra `kafka`: `.venv-uv/bin/uv sync --frozen --extra kafka`",
        ) from error
    assert source.topic and source.brokers
    brokers = expand(source.brokers, where)
    errors: list[KafkaError] = []
    settings: dict[str, Any] = {str(name): expand(value, where) for name, value in (source.security or {}).items()}
    settings |= {
        "bootstrap.servers": brokers,
        "client.id": "evergreen",
        "group.id": "evergreen",  # the client asks for one; nobody joins it
        "enable.auto.commit": False,
        "enable.auto.offset.store": False,
        "enable.partition.eof": True,
        "auto.offset.reset": "error",
        "allow.auto.create.topics": False,
        "isolation.level": "read_committed",
        "socket.connection.setup.timeout.ms": ANSWER_TIMEOUT_S * 1000,
        "fetch.max.bytes": FETCH_BYTES,
        "message.max.bytes": FETCH_BYTES,
        "receive.message.max.bytes": MAX_MESSAGE_BYTES,
        "queued.max.messages.kbytes": QUEUED_KB,
        "error_cb": errors.append,
        "log_level": 2,  # what goes wrong is told by errors; the log would repeat it at each try to connect
    }
    try:
        consumer = Consumer(settings)
    except KafkaException as error:
        text = error.args[0].str()
        for secret in SECRET_SETTINGS:
            text = text.replace(settings.get(secret) or "\0", "***")
        raise ConfigError(
            f"the client of Kafka refuses the source's settings: {text}",
            where=where,
            cure="correct its security; https://github.com/confluentinc/librdkafka/blob/master/CONFIGURATION.md has "
            "what each setting may be",
        ) from None
    try:
        yield Broker(consumer, source.topic, where, brokers, errors)
    finally:
        consumer.close()
