import errno
import os
import stat
from pathlib import Path

import pytest

from geoattn import _files
from geoattn._files import atomic_path, atomic_write_bytes, atomic_write_text, remove_leftovers
from geoattn.errors import InputError


def names(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir())


def test_writes_and_replaces(tmp_path):
    target = tmp_path / "a.txt"
    atomic_write_text(target, "één\n")
    assert target.read_bytes() == "één\n".encode()
    atomic_write_bytes(target, b"two")
    assert target.read_bytes() == b"two"
    assert names(tmp_path) == ["a.txt"]


def test_the_old_file_stands_until_the_block_ends(tmp_path):
    target = tmp_path / "a.csv"
    target.write_text("old")
    with atomic_path(target) as temporary:
        assert temporary.parent == tmp_path
        assert temporary.suffix == ".csv"
        temporary.write_text("new")
        assert target.read_text() == "old"
    assert target.read_text() == "new"


def test_an_error_in_the_block_leaves_the_old_file_and_no_temporary(tmp_path):
    target = tmp_path / "a.txt"
    target.write_text("old")
    with pytest.raises(ZeroDivisionError), atomic_path(target) as temporary:
        temporary.write_text("half")
        raise ZeroDivisionError
    assert target.read_text() == "old"
    assert names(tmp_path) == ["a.txt"]


@pytest.mark.parametrize("step", ["write", "fsync", "replace"])
def test_disk_full(tmp_path, monkeypatch, step):
    target = tmp_path / "a.txt"
    target.write_text("old")

    def full(*args, **kwargs):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    if step == "write":
        monkeypatch.setattr(Path, "write_bytes", full)
    else:
        monkeypatch.setattr(_files.os, step, full)
    with pytest.raises(InputError, match=r"a\.txt cannot be written: No space left on device"):
        atomic_write_text(target, "new")
    monkeypatch.undo()
    assert target.read_text() == "old"
    assert names(tmp_path) == ["a.txt"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="/dev/full is a Linux device")
def test_a_really_full_device(tmp_path):
    target = tmp_path / "a.txt"
    target.write_text("old")
    with pytest.raises(InputError, match="No space left"), atomic_path(target) as temporary:
        temporary.symlink_to("/dev/full")
        temporary.write_bytes(b"x" * 100_000)
    assert target.read_text() == "old"
    assert names(tmp_path) == ["a.txt"]


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(InputError, match=r"No such file or directory\. Make the folder .*nowhere first"):
        atomic_write_text(tmp_path / "nowhere" / "a.txt", "x")


def test_a_new_file_has_the_usual_permissions(tmp_path):
    ordinary = tmp_path / "ordinary"
    ordinary.write_text("x")
    atomic_write_text(tmp_path / "ours", "x")
    mode = stat.S_IMODE((tmp_path / "ours").stat().st_mode)
    assert mode == stat.S_IMODE(ordinary.stat().st_mode)


def test_remove_leftovers(tmp_path):
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / ".part-1234-a.ckpt").write_text("half")
    (tmp_path / "sub" / "a.ckpt").write_text("whole")
    remove_leftovers(tmp_path)
    assert names(tmp_path / "sub") == ["a.ckpt"]
