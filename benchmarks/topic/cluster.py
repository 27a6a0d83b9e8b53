"""A process that holds a mock cluster: the real protocol on loopback. It sends what it is told.

    python -m benchmarks.topic.cluster

The first line of its output is the brokers' address. Each line of its input is a file of messages, one JSON object a
line: topic, partition, key, value, time (milliseconds). It is answered with how many were sent.
"""

from __future__ import annotations

import base64
import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.arguments import parser


class Cluster:
    """The process, as who started it sees it."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        self._process = process
        self.brokers = process.stdout.readline().strip()

    def send(self, file: Path) -> int:
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(f"{file}\n")
        self._process.stdin.flush()
        return int(self._process.stdout.readline())


@contextmanager
def running() -> Iterator[Cluster]:
    command = [sys.executable, "-m", "benchmarks.topic.cluster"]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        try:
            yield Cluster(process)
        finally:
            process.kill()


def main() -> None:
    from confluent_kafka import Producer

    # Its log of each partition holds 5 MB: they are packed, as producers of many messages do.
    producer = Producer({"test.mock.num.brokers": 1, "bootstrap.servers": "none", "compression.type": "lz4"})
    brokers = producer.list_topics(timeout=10).brokers.values()
    print(",".join(f"{broker.host}:{broker.port}" for broker in brokers), flush=True)
    for line in sys.stdin:
        sent = 0
        with Path(line.strip()).open() as file:
            for text in file:
                message = json.loads(text)
                producer.produce(
                    message["topic"],
                    base64.b64decode(message["value"]),
                    message["key"],
                    message["partition"],
                    timestamp=message["time"],
                )
                sent += 1
                if sent % 1_000 == 0:
                    producer.poll(0)
        left = producer.flush(60)
        print(sent - left, flush=True)


if __name__ == "__main__":
    parser(__doc__).parse_args()
    main()
