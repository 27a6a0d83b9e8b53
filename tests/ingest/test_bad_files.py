"""Files that claim, or become, more than they are: each is read in bounded memory, or refused by name."""

from __future__ import annotations

import io
import os
import struct
import subprocess
import sys
import tempfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import write_deltalake

from benchmarks.bad_files import avro, parquet
from benchmarks.bad_files.__main__ import problem_folder, read_through
from benchmarks.bad_files.kinds import Kind, in_file, jsonl_text
from benchmarks.bad_files.outcomes import Outcome
from benchmarks.bad_files.page import page
from pipelines.errors import DataError
from pipelines.ingest.sources import opened
from pipelines.ingest.sources.avro_sizes import bytes_per_byte, check_schema
from pipelines.ingest.sources.limits import MAX_DAMAGED_LINES, MAX_RECORD_BYTES, MAX_RESCANS
from pipelines.ingest.sources.lines import TOO_LONG
from pipelines.ingest.sources.pages import pages
from pipelines.ingest.sources.records import Dialect, cut_text, cuts
from pipelines.problem import ROOT, load_problem
from pipelines.propose import origin
from pipelines.temporary import hold, temporary_folder

KINDS = [
    "a block of 2\\^40 records",
    "2\\^40 nulls in an array",
    "avro schema: a record 200,000 deep",
    "deflate: 300 MB of records",
    "csv: 10,000 more columns",
    "csv, undeclared: 10,000 more columns",
    "csv: a quoted value of 20 MB",
    "jsonl: 50,000 keys$",
    "jsonl: 5,000,000 deep and not closed",
    "jsonl: another key in each line",
    "csv.zip: 1 GB by bzip2",
    "csv.zip: 100,000 members",
    "csv.gz: 2 GB of one line",
]


@pytest.mark.slow
def test_files_that_would_fill_memory(tmp_path: Path) -> None:
    """A file each for what was once read without a bound; `python -m benchmarks.bad_files` has hundreds."""
    kept = tmp_path / "outcomes.jsonl"
    command = [sys.executable, "-m", "benchmarks.bad_files", "--by", "read", "--of", "avro,text"]
    command += ["--only", "|".join(KINDS), "--keep", str(kept)]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout + run.stderr
    assert len(kept.read_text().splitlines()) >= len(KINDS)


def test_what_a_schema_lets_a_byte_become() -> None:
    assert check_schema(avro.SCHEMA, "k.avro") == 1 + 1 + 1 + 1 + 1
    assert bytes_per_byte(avro.SCHEMA) == 1, "it has no arrays"
    many = {"type": "record", "name": "r", "fields": [{"name": f"c{i}", "type": "null"} for i in range(1_000)]}
    assert bytes_per_byte(avro.with_field({"type": "array", "items": ["null", many]})) > 100_000


def dialect(fields: int) -> Dialect:
    return Dialect(",", fields, (), lambda values: True)


def test_quotes_that_are_wrong_all_over_cost_a_line_each() -> None:
    lines = MAX_DAMAGED_LINES + 500
    cut = cut_text(b'x"y"z,1\n"open,1\ngood,1\n' * lines, 2, dialect(2), is_last=True)
    assert cut.count + len(cut.bad) == 3 * lines
    assert cut.taken == len(b'x"y"z,1\n"open,1\ngood,1\n' * lines)


def test_records_over_several_lines_are_looked_at_again_a_limited_number_of_times() -> None:
    records = 3 * MAX_RESCANS
    cut = cut_text(b'"a\nb"\n' * records, 2, dialect(2), is_last=True)
    assert (cut.count, len(cut.bad)) == (0, 2 * records)
    assert {bad.line for bad in cut.bad} == set(range(2, 2 + 2 * records))


def test_a_row_that_is_too_long_is_set_aside_and_the_next_is_read() -> None:
    cut = cut_text(b"x" * MAX_RECORD_BYTES + b",1\na,1\n", 2, dialect(2), is_last=True)
    assert cut.count == 1
    assert [(bad.line, bad.reason) for bad in cut.bad] == [(2, TOO_LONG)]


@pytest.mark.parametrize(("rows", "characters"), [(30, 1_000_000), (7_500, 4_000)])
def test_long_rows_are_read_a_few_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rows: int, characters: int
) -> None:
    monkeypatch.setenv("EVERGREEN_PROBLEMS", "")  # is set, and put back
    lines = jsonl_text(1).replace("k0", "x" * characters) * rows
    problem_folder(Kind("long rows", in_file("k.jsonl", lines.encode())), tmp_path)
    assert read_through(tmp_path) == f"{rows} rows, 0 set aside"


def test_a_thousand_groups_of_a_row_are_put_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EVERGREEN_PROBLEMS", str(tmp_path / "problems"))
    content = parquet.written(parquet.table(1_100), row_group_size=1)
    problem_folder(Kind("groups of a row", in_file("k.parquet", content)), tmp_path)
    with opened(load_problem("kettle"), "2024-01-01", "2024-01-01") as sources:
        view = "SELECT sql FROM duckdb_views() WHERE view_name = 'kettles'"
        ((statement,),) = sources.database.sql(view).fetchall()
        assert "kettles-0.parquet" in statement, "a copy is read"
        assert sources.database.sql("SELECT count(DISTINCT id) FROM kettles").fetchall() == [(1_100,)]


def test_a_file_of_a_delta_table_may_not_become_hundreds_of_times_its_size(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EVERGREEN_PROBLEMS", "")
    texts = ["x" * (8 << 20)] * 9

    def write(folder: Path) -> None:
        write_deltalake(folder / "table", parquet.table(9))
        parquet.replace_file(folder / "table", parquet.one_page(texts))

    problem_folder(Kind("a page of 72 MB", write, {"path": "table", "format": "delta"}), tmp_path)
    with pytest.raises(DataError, match="over 200 times as much") as failure:
        read_through(tmp_path)
    assert failure.value.where.endswith(".parquet")


@pytest.mark.parametrize("version", ["1.0", "2.0"])
@pytest.mark.parametrize("codec", ["SNAPPY", "ZSTD", "NONE"])
def test_pages_say_what_an_honest_footer_says(version: str, codec: str) -> None:
    content = parquet.written(parquet.table(5_000), compression=codec, data_page_version=version, data_page_size=4_000)
    group = pq.read_metadata(io.BytesIO(content)).row_group(0)
    for column in map(group.column, range(group.num_columns)):
        start = column.dictionary_page_offset or column.data_page_offset
        found = [*pages(io.BytesIO(content), start, start + column.total_compressed_size)]
        assert sum(page.header + page.packed for page in found) == column.total_compressed_size
        assert sum(page.header + page.unpacked for page in found) == column.total_uncompressed_size


@pytest.mark.parametrize(
    "damaged", [b"", b"\x15", bytes(600), b"\x15\x00\x15\xff\xff\xff\xff\x0f\x15\x10\x00", b"\x1c" * 900]
)
def test_what_is_no_page_is_told(damaged: bytes) -> None:
    with pytest.raises(ValueError, match=r"page|structures"):
        list(pages(io.BytesIO(damaged), 0, max(len(damaged), 1)))


def test_a_page_of_a_delta_table_may_not_become_more_than_its_footer_tells(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EVERGREEN_PROBLEMS", "")

    def write(folder: Path) -> None:
        write_deltalake(folder / "table", parquet.table(9))
        parquet.replace_file(folder / "table", parquet.modest(parquet.one_page(["x" * (8 << 20)] * 9)))

    problem_folder(Kind("a page of 72 MB", write, {"path": "table", "format": "delta"}), tmp_path)
    (file,) = tmp_path.glob("data/table/*.parquet")
    assert pq.read_metadata(file).row_group(0).total_byte_size == 1024
    with pytest.raises(DataError, match=r"id: .* over 200 times as much"):
        read_through(tmp_path)


def test_an_avro_file_that_begins_with_far_more_than_it_may_come_to_is_not_read_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EVERGREEN_PROBLEMS", "")
    block = avro.block(100_000, avro.deflated(avro.record() * 100_000))
    content = avro.header(avro.SCHEMA, b"deflate") + block * 14 + os.urandom(1 << 20)
    problem_folder(Kind("blocks", in_file("k.avro", content)), tmp_path)
    with pytest.raises(DataError, match="over 200 times as much"):
        read_through(tmp_path)


def test_a_footer_is_not_believed_about_times(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EVERGREEN_PROBLEMS", str(tmp_path / "problems"))
    content = parquet.written(parquet.table(), compression="NONE", use_dictionary=False)
    noon = struct.pack("<q", int(parquet.NOON.timestamp() * 1e6))
    place = content.rindex(noon * 9)  # of the values; the statistics stand before and behind them
    late = content[:place] + struct.pack("<q", 1 << 60) + content[place + 8 :]
    problem_folder(Kind("a time that the statistics do not have", in_file("k.parquet", late)), tmp_path)
    with opened(load_problem("kettle"), "2024-01-01", "2024-01-01") as sources:
        (row,) = sources.database.sql('SELECT count(*) FROM kettles WHERE year("at") > 9999').fetchall()
        assert row == (1,)


def test_what_a_killed_process_left_is_removed_by_the_next(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    killed = """
import os, pathlib, signal
from pipelines.temporary import hold
(hold("temporary").folder / "rows.parquet").write_text("people")
os.kill(os.getpid(), signal.SIGKILL)
"""
    environment = os.environ | {"TMPDIR": str(tmp_path)}
    subprocess.run([sys.executable, "-c", killed], env=environment, cwd=ROOT, check=False)
    (left,) = tmp_path.glob("evergreen-copies-*/temporary/*")
    assert left.stat().st_mode & 0o077 == 0, "nobody else reads it meanwhile"
    os.utime(left, (0, 0))
    used = hold("temporary")
    os.utime(used.folder, (0, 0))
    with temporary_folder():
        assert not left.exists()
        assert used.folder.exists(), "it is locked"
    used.remove()
    assert list(tmp_path.glob("evergreen-copies-*/temporary/*")) == []


def test_the_page_holds_what_ran() -> None:
    outcomes = [
        Outcome("csv: a", "CSV", "read", "", 10.2, 0.1),
        Outcome("csv: b", "CSV", "refused", "", 20.4, 0.2),
        Outcome("avro: c|d", "Avro", "large, read", "", 600.0, 3.0),
    ]
    text = page({"ingest": outcomes, "new": []})
    assert "| CSV | 2 | 1 | 1 | 0 | 20 | 0.2 |" in text
    assert "| all | 3 | 1 | 1 | 1 | 600 | 3.0 |" in text
    assert "- avro: c\\|d: large, read" in text
    assert "evergreen new" not in text


def test_lists_that_are_longer_than_a_row_may_be_are_not_looked_at(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EVERGREEN_PROBLEMS", "")
    lists = pa.array([[0] * 200_000] * 3, pa.list_(pa.int64()))
    file = in_file("k.parquet", parquet.written(parquet.table(3, extra=lists)))
    problem_folder(Kind("long lists", file, declares=False), tmp_path)
    with pytest.raises(DataError, match=r"extra\S*: a value of 1,600,000 bytes"):
        read_through(tmp_path)


def test_blank_lines_are_counted_and_passed_over() -> None:
    blocks = [b"\r\n" * 5, b"\n\n", b"a,1\nb\n"]
    parts = list(cuts(iter(blocks), b"", 2, dialect(2), "k.csv"))
    assert [(part.count, [bad.line for bad in part.bad]) for part in parts] == [(1, [10])]


def test_a_delimiter_is_not_looked_for_among_quotes_only() -> None:
    assert origin._delimiter("id;x\n" + '"' * 90_000) == ";"
