"""Files that appear whole, and checkpoints that cannot execute code."""

import errno
import os

import pytest
import torch

from minipig.files import held, load_checkpoint, save_checkpoint


class Evil:
    def __reduce__(self):
        return os.mkdir, ("executed",)


def test_a_checkpoint_cannot_execute_code(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save({"model": Evil()}, tmp_path / "evil.ckpt")
    with pytest.raises(ValueError, match="not a whole checkpoint"):
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


def test_a_file_is_held_by_one_at_a_time_and_no_lock_is_left(tmp_path):
    path = tmp_path / "new" / "net.ckpt"
    with held(path):
        with pytest.raises(ValueError, match="another process is at work on .*net.ckpt; let it finish"), held(path):
            pass
        assert list(path.parent.iterdir())
    assert not list(path.parent.iterdir())
    with held(path), held(path.with_name("other.ckpt")):
        pass
