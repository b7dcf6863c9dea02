"""Atomic writes, locks, and checkpoints that cannot execute code."""

import errno
import json
import os
from pathlib import Path

import pytest
import torch

from minipig.data.files import (
    claim_folder,
    files_in,
    load_checkpoint,
    locked,
    save_checkpoint,
    write_atomically,
)


class Evil:
    def __reduce__(self):
        return os.mkdir, ("executed",)


def test_a_checkpoint_cannot_execute_code(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save({"model": Evil()}, tmp_path / "evil.ckpt")
    with pytest.raises(
        ValueError, match=r"evil.ckpt is unreadable \(.*; if it is damaged, delete it"
    ):
        load_checkpoint(tmp_path / "evil.ckpt", set())
    assert not (tmp_path / "executed").exists()


def test_a_full_disk_leaves_the_old_checkpoint(tmp_path, monkeypatch):
    path = tmp_path / "net.ckpt"
    save_checkpoint(path, {"step": 1})

    def full(descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left on device"):
        save_checkpoint(path, {"step": 2})
    assert load_checkpoint(path, set()) == {"step": 1}


def test_processes_that_write_one_file_do_not_meet(tmp_path, monkeypatch):
    path, fsync = tmp_path / "a.json", os.fsync

    def other_process_writes(descriptor):
        monkeypatch.setattr(os, "fsync", fsync)
        write_atomically(path, b"theirs")
        assert path.read_bytes() == b"theirs"
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", other_process_writes)
    write_atomically(path, b"ours")
    assert path.read_bytes() == b"ours" and list(tmp_path.iterdir()) == [path]


def test_an_error_names_the_file_and_not_the_temporary_one(tmp_path):
    (tmp_path / "a.json").mkdir()
    with pytest.raises(OSError, match="a.json'$") as raised:
        write_atomically(tmp_path / "a.json", b"{}")
    assert raised.value.filename == str(tmp_path / "a.json") and raised.value.strerror
    assert not list(tmp_path.glob(".*"))


def test_a_name_as_long_as_a_file_system_takes_is_written(tmp_path):
    write_atomically(tmp_path / ("a" * 255), b"")
    assert len(list(tmp_path.iterdir())) == 1


def test_what_a_killed_process_left_is_no_file_and_is_removed_in_time(tmp_path):
    names = (f".minipig-{'1' * 16}.part", f".minipig-{'a' * 16}.part", "film.part")
    new, old, others = (tmp_path / "work" / name for name in names)
    for path in (new, old, others):
        path.parent.mkdir(exist_ok=True)
        path.touch()
    for path in (old, others):
        os.utime(path, (0, 0))
    assert list(files_in(tmp_path)) == [others]
    claim_folder(tmp_path, {"n": 1})
    assert new.exists() and others.exists() and not old.exists()


def test_one_process_at_a_time_locks_a_file_and_no_lock_is_left(tmp_path):
    path = tmp_path / "new" / "net.ckpt"
    with locked(path):
        busy = "another process is writing .*net.ckpt; wait for it, or use another folder"
        with pytest.raises(ValueError, match=busy), locked(path):
            pass
        assert list(path.parent.iterdir())
    assert not list(path.parent.iterdir())
    with locked(path), locked(path.with_name("other.ckpt")):
        pass


def test_a_claim_names_the_setting_that_differs_and_not_those_around_it(tmp_path):
    claim_folder(tmp_path, {"pair": {"steps": 1000, "batch": 64}, "n": 1})
    claim_folder(tmp_path, {"n": 1, "pair": {"batch": 64, "steps": 1000}})
    with pytest.raises(
        ValueError, match=r"\(pair.steps 1000 there, 300 here\); give another --out"
    ):
        claim_folder(tmp_path, {"pair": {"steps": 300, "batch": 64}, "n": 1})


def test_the_same_pairs_may_have_moved_and_other_pairs_are_refused(tmp_path):
    claim_folder(tmp_path, {"data": "a", "steps": 3}, content="1234")
    claim_folder(tmp_path, {"data": "b", "steps": 3}, content="1234")
    claimed = json.loads((tmp_path / "config.json").read_text())
    assert claimed["config"] == {"data": "b", "steps": 3} and claimed["content"] == "1234"
    with pytest.raises(ValueError, match="made from other pairs than b holds now; restore them"):
        claim_folder(tmp_path, {"data": "b", "steps": 3}, content="5678")
    with pytest.raises(ValueError, match=r"configuration \(data 'b' there, 'c' here\)"):
        claim_folder(tmp_path, {"data": "c", "steps": 3}, content="5678")
    with pytest.raises(ValueError, match=r"configuration \(steps 3 there, 4 here\)"):
        claim_folder(tmp_path, {"data": "a", "steps": 4}, content="1234")
    older = tmp_path / "older"
    claim_folder(older, {"data": "a"})
    claim_folder(older, {"data": "a"}, content="1234")
    with pytest.raises(ValueError, match="data 'a' there, 'b' here"):
        claim_folder(older, {"data": "b"}, content="1234")


def test_a_lock_file_is_removed_where_open_files_cannot_be(tmp_path, monkeypatch):
    """As on Windows: the lock is released first, and a file that another has open is left."""
    unlink, refusals = Path.unlink, []

    def windows(self, missing_ok=False):
        links = (Path(f"/proc/self/fd/{fd}") for fd in os.listdir("/proc/self/fd"))
        if any(os.path.realpath(link) == os.path.realpath(self) for link in links):
            refusals.append(self)
            raise PermissionError(13, "another process has opened the file", str(self))
        unlink(self, missing_ok=missing_ok)

    monkeypatch.setattr(Path, "unlink", windows)
    with locked(tmp_path / "pair.pt"):
        with pytest.raises(ValueError, match="another process is writing"):
            with locked(tmp_path / "pair.pt"):
                pass
    assert refusals and not list(tmp_path.iterdir())
    with locked(tmp_path / "pair.pt"):
        (lock,) = tmp_path.iterdir()
        other = lock.open()  # another process looks at it
    with other:
        assert lock.exists()
    with locked(tmp_path / "pair.pt"):
        pass
    assert not list(tmp_path.iterdir())
