"""Locks and folders on disks that are full, read-only, or cannot lock."""

import errno
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from diml_nb._internal.download import fetch_file, file_lock
from diml_nb._internal.paths import data_dir
from diml_nb.datasets.archives import atomic_directory


def test_locks_without_a_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("DIML_CACHE", "/dev/null/x")
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    with file_lock(tmp_path / "a"), file_lock(tmp_path / "b"):
        assert len(list(tmp_path.glob("diml_nb-*/locks/*"))) == 2


def test_locks_that_the_disk_does_not_have(tmp_path, monkeypatch):
    import fcntl

    def refuse(*args):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    with file_lock(tmp_path / "a"):
        pass


def test_file_lock_passes_errors_of_its_block_on(tmp_path):
    with pytest.raises(OSError, match="disk full"):
        with file_lock(tmp_path / "a"):
            raise OSError("disk full")


def test_two_processes_without_a_cache_wait_for_each_other(tmp_path):
    code = (
        "import sys, time; from diml_nb._internal.download import file_lock\nwith"
        " file_lock(sys.argv[1]): print('in', flush=True); time.sleep(.4); print('out', flush=True)"
    )
    environment = os.environ | {"DIML_CACHE": "/dev/null/x", "TMPDIR": str(tmp_path)}
    with (tmp_path / "said").open("w") as said:
        both = [
            subprocess.Popen(
                [sys.executable, "-c", code, str(tmp_path / "x")], stdout=said, env=environment
            )
            for _ in range(2)
        ]
        assert [p.wait() for p in both] == [0, 0]
    assert (tmp_path / "said").read_text().split() == ["in", "out", "in", "out"]


def test_a_folder_that_cannot_be_renamed_is_copied(tmp_path, monkeypatch):
    "As in a lower layer of a container."
    rename = Path.rename

    def layered(self, target):
        if self.name == "set" or self.name == "old":
            raise OSError(errno.EXDEV, "Invalid cross-device link")
        return rename(self, target)

    for n in (1, 2):
        with atomic_directory(tmp_path / "set") as new:
            (new / str(n)).write_text("")
        monkeypatch.setattr(Path, "rename", layered)
    assert [p.name for p in (tmp_path / "set").iterdir()] == ["2"]
    assert [p.name for p in tmp_path.iterdir()] == ["set"]


def test_a_disk_that_cannot_be_written_is_named(tmp_path, monkeypatch):
    def refuse(**options):
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr("tempfile.TemporaryDirectory", refuse)
    with pytest.raises(
        OSError, match=f"{tmp_path} cannot be written .*Read-only file system.*--root"
    ):
        with atomic_directory(tmp_path / "set"):
            pass


def test_archives_without_a_cache(monkeypatch):
    from diml_nb._internal.download import RemoteFile

    monkeypatch.setenv("DIML_CACHE", "/dev/null/x")
    with pytest.raises(OSError, match="x.zip: there is no folder to look for it .*--archives"):
        fetch_file(RemoteFile("x.zip"))


def test_a_set_that_is_there_needs_no_disk_to_write_on(tmp_path, monkeypatch):
    from diml_nb.datasets.prepare import prepare_dataset

    shutil.copytree(data_dir() / "emoji", tmp_path / "emoji")
    monkeypatch.setenv("DIML_CACHE", "/dev/null/x")
    monkeypatch.setattr(
        "tempfile.TemporaryDirectory", lambda **options: pytest.fail("it was made again")
    )
    before = sorted(tmp_path.rglob("*"))
    assert prepare_dataset("emoji", root=tmp_path) == tmp_path / "emoji"
    assert sorted(tmp_path.rglob("*")) == before
