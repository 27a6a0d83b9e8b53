"""A Delta table on S3, of whose log this machine keeps a copy.

Delta itself asks an S3 server some 22 times to open a table, and a third of that to write: it reads each commit twice,
and the footer of a checkpoint four times. Here each machine fetches the objects of the log once, which never change;
Delta opens the copy, in a folder. It writes there, too, rows and commit; then the files of rows are uploaded, and last
the commit, which the server takes only if nobody has made that version: so do Delta's own writers commit.
"""

from __future__ import annotations

import json
import logging
import random
import re
import shutil
import time
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, TypedDict
from urllib.parse import unquote

import pyarrow as pa
from deltalake import DeltaTable, PostCommitHookProperties
from deltalake.exceptions import CommitFailedError, DeltaError
from deltalake.fs import DeltaStorageHandler
from pyarrow.fs import FileSystem, PyFileSystem

from pipelines.errors import DataError, TransientError
from pipelines.store import objects, traffic
from pipelines.store.address import storage_options
from pipelines.store.copies import LogCopies, RowCopies, log_name
from pipelines.store.files import kept
from pipelines.store.near import LARGE_COMMIT, Table, WriteOptions, is_checkpoint_due
from pipelines.store.objects import Listed
from pipelines.store.reading import WHOLE_BYTES
from pipelines.store.working import working_folder

if TYPE_CHECKING:
    from pipelines.store.scope import Kept

LOG = "_delta_log"
COMMIT = re.compile(r"(\d{20})\.json")
CHECKPOINT = re.compile(r"(\d{20})\.checkpoint\.parquet")
# Other writers' checkpoints: in parts, or of version 2, with what is in this folder. Delta reads them.
OTHER_CHECKPOINT = re.compile(r"\d{20}\.checkpoint\..+|_sidecars/.+")
LAST_CHECKPOINT = "_last_checkpoint"
COMMIT_TRIES = 15  # as Delta

log = logging.getLogger(__name__)


class Log(NamedTuple):
    """What a listing tells of a table's log: the name of each object, by version."""

    commits: dict[int, Listed]
    checkpoints: dict[int, Listed]
    others: list[Listed]
    """what checkpoints of other forms are made of"""

    @property
    def newest(self) -> int | None:
        return max([*self.commits, *self.checkpoints], default=None)

    def needed(self, version: int) -> tuple[int, list[Listed]] | None:
        """Objects to read a version from, and the first version that can be read from them; None: some are gone."""
        base = max((number for number in self.checkpoints if number <= version), default=-1)
        commits = range(base + 1, version + 1)
        if all(number in self.commits for number in commits):
            # Who writes asks for the checkpoint's own commit, too.
            start = [entries[base] for entries in (self.checkpoints, self.commits) if base in entries]
            return max(base, 0), start + [self.commits[number] for number in commits]
        if self.others:
            return version, [*self.others, *(entry for number, entry in self.commits.items() if number <= version)]
        return None


class TableFiles(DeltaStorageHandler):  # type: ignore[misc]
    """The files of a table on S3, whose sizes its log tells: small ones whole, of large ones what is asked for."""

    def __init__(self, uri: str, options: dict[str, str], sizes: dict[str, int], kept: Kept) -> None:
        super().__init__(uri, options, sizes)
        self._uri = uri
        self._sizes = sizes
        self._kept = kept
        self._copies = RowCopies(uri)

    def open_input_file(self, path: str) -> pa.NativeFile:
        size = self._sizes.get(path, WHOLE_BYTES + 1)
        if size > WHOLE_BYTES:
            traffic.count(requests=1, bytes_read=size)  # at least one, and at most so many bytes
            return super().open_input_file(path)
        return pa.BufferReader(self._kept.get(f"{self._uri}/{path}", lambda: self._fetch(path)))

    def _fetch(self, path: str) -> bytes:
        content = self._copies.find(path, self._sizes[path])
        if content is None:
            content = objects.read(f"{self._uri}/{path}")
            self._copies.add(path, content)
        return content


class FarTable(Table):
    """A table on S3 as it was when it was opened, or last refreshed, or as the last write has left it."""

    # A checkpoint is made where the store has the commit. A version that somebody has pinned stays readable.
    _hooks = PostCommitHookProperties(create_checkpoint=False, cleanup_expired_logs=False)

    def __init__(self, uri: str) -> None:
        self._copies = LogCopies(uri)
        self._folder = working_folder(self)
        self._oldest = 0  # version that can be read from the folder
        super().__init__(uri, str(self._folder))

    def refresh(self) -> None:
        """Take in what others have written since: one listing, and each new commit."""
        known = self.version
        if known is None:
            self._handle = self._open()
            return
        listed = self._listed(after=f"{known:020}.json")
        if listed.newest is None:
            return
        if not all(version in listed.commits for version in range(known + 1, listed.newest + 1)):
            self._handle = self._open()
            return
        self._fetch(self._folder, (listed.commits[version] for version in sorted(listed.commits)))
        assert self._handle is not None
        self._handle.update_incremental()

    def _open(self, version: int | None = None) -> DeltaTable | None:
        if version is not None:
            return self._open_old(version)
        start = self._copies.start()
        listed = self._listed(after=start)
        if not self._copies.agree(start, [*listed.checkpoints.values(), *listed.others]):
            self._copies.clear()  # they are of another table, which had this address
            listed = self._listed()
        if listed.newest is None:
            return None
        needed = listed.needed(listed.newest)
        if needed is None:
            raise DataError(
                "commits are missing from the table's log",
                where=self.uri,
                cure=f"bring the objects in {LOG} back, or delete the table and write it anew",
            )
        self._oldest, files = needed
        shutil.rmtree(self._folder / LOG, ignore_errors=True)
        self._fetch(self._folder, files)
        self._copies.drop_all_but(files)
        return DeltaTable(self._place)

    def _open_old(self, version: int) -> DeltaTable | None:
        newest = self.version
        if newest is not None and self._oldest <= version <= newest:
            return DeltaTable(self._place, version=version)
        needed = self._listed().needed(version)
        if needed is None:
            return None
        folder = self._folder / f"{version:020}"  # it does not go on to the newest
        self._fetch(folder, needed[1])
        try:
            return DeltaTable(str(folder), version=version)
        except DeltaError:  # the checkpoints of another form are all of later versions
            return None

    def _files(self, handle: DeltaTable) -> FileSystem:
        sizes = handle._table.get_add_file_sizes()
        return PyFileSystem(TableFiles(self.uri, storage_options(), sizes, kept()))

    def _root(self, handle: DeltaTable) -> str:
        return self.uri

    def _write(
        self,
        rows: pa.Table | pa.RecordBatchReader,
        partition_by: Sequence[str],
        options: WriteOptions,
        replaced: Mapping[str, set[str]] | None = None,
    ) -> None:
        before = self.version
        self._commit(rows, partition_by, options)
        version = self.version
        assert version is not None
        if version == before:
            return  # there was nothing to write
        try:
            self._publish(version, replaced)
        except BaseException:  # here, too, it did not come in
            for number in range(version, version + COMMIT_TRIES):
                (self._folder / LOG / _commit_name(number)).unlink(missing_ok=True)
            self._handle = None if before is None else DeltaTable(self._place)
            raise

    def _publish(self, version: int, replaced: Mapping[str, set[str]] | None) -> None:
        """Upload a version that Delta has written here.

        Raises:
            CommitFailedError: another writer came first, and this write rests on what it has changed.
        """
        content = (self._folder / LOG / _commit_name(version)).read_bytes()
        own = _actions(content)
        added = [unquote(action["path"]) for action in own["add"]]
        large = [path for path in added if (self._folder / path).stat().st_size > WHOLE_BYTES]
        with ThreadPoolExecutor(objects.CONNECTIONS) as pool:
            list(pool.map(self._upload, set(added).difference(large)))
        for path in large:  # each over several connections
            self._upload_large(path)
        others: list[bytes] = []  # commits of writers that came first
        for _ in range(COMMIT_TRIES):
            name = _commit_name(version + len(others))
            try:
                etag = objects.write(f"{self.uri}/{LOG}/{name}", content, is_new=True)
                break
            except FileExistsError as error:
                there = objects.read(f"{self.uri}/{LOG}/{name}")
                if there == content:  # an answer was lost, and the request repeated
                    etag = ""
                    break
                if replaced is None or _is_in_the_way(own, _actions(there), replaced):
                    raise CommitFailedError(f"{name} of {self.uri} is another writer's") from error
                others.append(there)
            except TransientError:  # two writers met, and the server has not said who came first
                time.sleep(random.uniform(0.05, 0.5))  # noqa: S311 - spreads writers, hides nothing
        else:
            raise CommitFailedError(f"other writers came first {COMMIT_TRIES} times")
        if others:
            for number, commit in enumerate([*others, content], version):
                (self._folder / LOG / _commit_name(number)).write_bytes(commit)
            self._handle = DeltaTable(self._place)
        if etag:
            self._copies.add(name, etag, content)
        place = version + len(others)
        if is_checkpoint_due(place) or len(content) > LARGE_COMMIT:
            self._try_checkpoint(place)

    def _upload(self, path: str) -> None:
        """A file of rows; who reads it next is likely to be on this machine."""
        file = self._folder / path
        content = file.read_bytes()
        objects.write(f"{self.uri}/{path}", content)
        RowCopies(self.uri).add(path, content)
        file.unlink()

    def _upload_large(self, path: str) -> None:
        file = self._folder / path
        objects.upload(file, f"{self.uri}/{path}")
        file.unlink()

    def _write_checkpoint(self, version: int) -> None:
        super()._write_checkpoint(version)
        name = f"{version:020}.checkpoint.parquet"
        content = (self._folder / LOG / name).read_bytes()
        self._copies.add(name, objects.write(f"{self.uri}/{LOG}/{name}", content), content)
        objects.write(f"{self.uri}/{LOG}/{LAST_CHECKPOINT}", (self._folder / LOG / LAST_CHECKPOINT).read_bytes())

    def _listed(self, after: str = "") -> Log:
        log = Log({}, {}, [])
        for entry in objects.listing(f"{self.uri}/{LOG}/", after):
            name = log_name(entry)
            if match := COMMIT.fullmatch(name):
                log.commits[int(match[1])] = entry
            elif match := CHECKPOINT.fullmatch(name):
                log.checkpoints[int(match[1])] = entry
            elif OTHER_CHECKPOINT.fullmatch(name):
                log.others.append(entry)
        return log

    def _fetch(self, folder: Path, files: Iterable[Listed]) -> None:
        (folder / LOG).mkdir(parents=True, exist_ok=True)
        with ThreadPoolExecutor(objects.CONNECTIONS) as pool:
            list(pool.map(partial(self._fetch_one, folder), files))

    def _fetch_one(self, folder: Path, listed: Listed) -> None:
        name = log_name(listed)
        content = self._copies.find(name, listed.etag, listed.size)
        if content is None:
            content = objects.read(f"{self.uri}/{LOG}/{name}")
            self._copies.add(name, listed.etag, content)
        place = folder / LOG / name
        place.parent.mkdir(exist_ok=True)
        place.write_bytes(content)


def _commit_name(version: int) -> str:
    return f"{version:020}.json"


class Action(TypedDict, total=False):
    """What a line of a commit does; those keys of Delta's protocol that are read here."""

    path: str
    partitionValues: dict[str, str | None]


def _actions(commit: bytes) -> dict[str, list[Action]]:
    """What a commit does, by kind of action."""
    by_kind: dict[str, list[Action]] = {kind: [] for kind in ("add", "remove", "metaData", "protocol")}
    for line in commit.splitlines():
        for kind, action in json.loads(line).items() if line.strip() else ():
            by_kind.setdefault(kind, []).append(action)
    return by_kind


def _is_in_the_way(
    own: Mapping[str, list[Action]],
    other: Mapping[str, list[Action]],
    replaced: Mapping[str, set[str]],
) -> bool:
    """Whether a commit, had it come before this one was made, would have made it another one: Delta's own rules."""
    if other["metaData"] or other["protocol"]:
        return True
    gone = {action["path"] for action in own["remove"]}
    return any(action["path"] in gone for action in other["remove"]) or any(
        all(action["partitionValues"].get(column) in values for column, values in replaced.items())
        for action in other["add"]
    )
