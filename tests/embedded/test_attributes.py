"""A store whose files lost their extended attributes is noticed."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pipelines.embedded.object_store import attributes
from pipelines.embedded.object_store.attributes import METADATA, refuse_without_attributes
from pipelines.errors import ConfigError


def add_object(home: Path, partition: int, number: int, has_metadata: bool) -> Path:
    folder = home / "object_store" / "devices" / "d1" / "objects" / str(partition) / "abc" / f"{number:032x}"
    folder.mkdir(parents=True)
    path = folder / "1700000000.00000.data"
    path.write_bytes(b"x")
    if has_metadata:
        os.setxattr(path, METADATA, b"x")
    return path


def test_nothing_to_look_at_is_right(tmp_path: Path) -> None:
    refuse_without_attributes(tmp_path)
    (tmp_path / "object_store" / "devices" / "d1" / "objects").mkdir(parents=True)
    refuse_without_attributes(tmp_path)


def test_whole_files_are_right(tmp_path: Path) -> None:
    for number in range(3):
        add_object(tmp_path, number, number, has_metadata=True)
    refuse_without_attributes(tmp_path)


def test_a_bare_file_is_named_and_the_cure_told(tmp_path: Path) -> None:
    add_object(tmp_path, 1, 1, has_metadata=True)
    bare = add_object(tmp_path, 2, 2, has_metadata=False)
    with pytest.raises(ConfigError, match="1 of 2 looked at") as refusal:
        refuse_without_attributes(tmp_path)
    assert refusal.value.where == str(bare)
    for way in ("cp -a", "rsync -aX", "tar --xattrs --xattrs-include='user.*'"):
        assert way in refusal.value.cure


def test_each_partition_is_looked_at_and_no_more_than_need_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attributes, "LOOKED_AT", 2)
    for number in range(5):
        add_object(tmp_path, 1, number, has_metadata=True)
    add_object(tmp_path, 9, 9, has_metadata=False)
    with pytest.raises(ConfigError, match="1 of 3 looked at"):
        refuse_without_attributes(tmp_path)


def test_a_file_system_without_attributes_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    add_object(tmp_path, 1, 1, has_metadata=True)

    def refuse(*_: object) -> bytes:
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(os, "getxattr", refuse)
    with pytest.raises(ConfigError, match="lost their extended attributes"):
        refuse_without_attributes(tmp_path)
