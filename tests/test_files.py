"""Atomic writes, locks, and checkpoints that cannot execute code."""

import errno
import json
import os
from pathlib import Path

import pytest
import torch

from minipig.data.files import claim_folder, load_checkpoint, locked, save_checkpoint


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
