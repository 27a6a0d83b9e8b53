"""What monitoring costs: profile and verdict against Evidently's drift preset, and the memory of a long stream.

    python -m benchmarks.monitoring [--rows N] [--columns N] [--stream-rows N] [--stream-columns N] [--no-evidently]

Numbers with gaps, every tenth column a category; the reference is made before the clock starts (it is made once a
model). Each way runs in a process of its own on the same Parquet file. `ours` reads it, profiles it, measures distances
and alarm levels and names the shifts; `evidently` reads it and the reference's rows into pandas and runs
DataDriftPreset with its own choice of tests. `stream` profiles batches that are made as it goes.
"""

from __future__ import annotations

import argparse
import pickle
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pipelines.config import Policy
from pipelines.metrics.scored import Scored
from pipelines.monitoring.detect.detect import detect
from pipelines.monitoring.diagnose.diagnose import diagnose
from pipelines.profiles.profile import SCORE, Reference, profile, reference

BATCH_ROWS, PAST, PAST_ROWS = 65_536, 10, 50_000
CODES = pa.array([f"c{number:02}" for number in range(40)])


def batch(seed: int, rows: int, columns: int) -> pa.RecordBatch:
    """`columns` features, one of them 0.05 standard deviations off, and a score."""
    random = np.random.default_rng(seed)
    found: dict[str, pa.Array] = {}
    for number in range(columns):
        if number % 10 == 9:
            found[f"f{number}"] = CODES.take(pa.array(random.zipf(1.5, rows) % len(CODES)))
        else:
            values = random.normal(0.05 * (number == 0), 1, rows)
            found[f"f{number}"] = pa.array(values, mask=random.random(rows) < 0.02)
    found[SCORE] = pa.array(random.beta(2, 6, rows))
    return pa.record_batch(found)


def batches(rows: int, columns: int) -> Iterator[pa.RecordBatch]:
    for seed, start in enumerate(range(0, rows, BATCH_ROWS)):
        yield batch(seed, min(BATCH_ROWS, rows - start), columns)


def known(columns: int) -> Reference:
    """Made from ten partitions of fifty thousand rows."""
    parts = [pa.Table.from_batches([batch(10_000 + part, PAST_ROWS, columns)]) for part in range(PAST)]
    history = pa.concat_tables(
        part.append_column("partition", pa.array([f"{key:02}"] * PAST_ROWS)) for key, part in enumerate(parts)
    )
    scores = parts[-1][SCORE].to_numpy()
    labels = (np.random.default_rng(0).random(PAST_ROWS) < scores).astype(np.int64)
    test = Scored("binary", ("0", "1"), labels, scores, np.ones(PAST_ROWS))
    return reference(history.drop_columns(["partition", SCORE]), labels, test, history=history)


def ours(folder: Path) -> None:
    its = pickle.loads((folder / "reference.pkl").read_bytes())  # noqa: S301 - written by this benchmark
    rows = pq.ParquetFile(folder / "current.parquet").iter_batches(batch_size=BATCH_ROWS, use_threads=False)
    found = detect(its, profile(rows, its)[0])
    kinds = diagnose(Policy(), its, found, []).kinds
    print(f"verdict: {', '.join(kinds) or 'stable'}")


def evidently(folder: Path) -> None:
    from evidently import Dataset, Report
    from evidently.presets import DataDriftPreset

    sides = (pq.read_table(folder / name).to_pandas() for name in ("current.parquet", "reference.parquet"))
    report = Report([DataDriftPreset()]).run(*(Dataset.from_pandas(side) for side in sides))
    print(f"drifted columns: {report.dict()['metrics'][0]['value']['count']:.0f}")


def stream(folder: Path, rows: int, columns: int) -> None:
    its = pickle.loads((folder / "stream.pkl").read_bytes())  # noqa: S301 - written by this benchmark
    found, _ = profile(batches(rows, columns), its)
    print(f"rows: {found[SCORE].rows:,}")


def process(*arguments: object) -> None:
    """Run one way in a process of its own; print its CPU seconds and peak memory, imports included."""
    start, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    code = (
        "import sys; from benchmarks import monitoring as m; from pathlib import Path; "
        "getattr(m, sys.argv[1])(Path(sys.argv[2]), *map(int, sys.argv[3:])); "
        "print(next(line.split()[1] for line in open('/proc/self/status') if line.startswith('VmHWM')))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)], check=True, capture_output=True, text=True
    ).stdout.split("\n")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    told = "; ".join(line for line in done[:-2] if line.startswith(("verdict", "drifted", "rows")))
    peak = int(done[-2]) / 1024
    print(
        f"{arguments[0]}: {cpu:.1f} CPU s, {time.perf_counter() - start:.1f} s, peak {peak:,.0f} MB; {told}", flush=True
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--columns", type=int, default=20)
    parser.add_argument("--stream-rows", type=int, default=10_000_000)
    parser.add_argument("--stream-columns", type=int, default=30)
    parser.add_argument("--no-evidently", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for path, seeds in (("current", 0), ("reference", 500)):
            with pq.ParquetWriter(folder / f"{path}.parquet", batch(0, 1, options.columns).schema) as writer:
                for number, start in enumerate(range(0, options.rows, BATCH_ROWS)):
                    size = min(BATCH_ROWS, options.rows - start)
                    writer.write_batch(batch(seeds + number, size, options.columns))
        (folder / "reference.pkl").write_bytes(pickle.dumps(known(options.columns)))
        (folder / "stream.pkl").write_bytes(pickle.dumps(known(options.stream_columns)))
        process("ours", folder)
        if not options.no_evidently:
            process("evidently", folder)
        process("stream", folder, options.stream_rows, options.stream_columns)


if __name__ == "__main__":
    main()
