"""Several processes under torchrun: the same training, files from one of them, and one line where it makes no sense."""

import json
import os
import subprocess
import sys

import pytest
import torch

from minipig.__main__ import main
from minipig.devices import fast_bfloat16, rank

TRAIN = "train --preset tiny --steps 20 --batch 6 --pairs 12 --holdout 0 --size 16 --rule matched --float32".split()


def torchrun(*arguments, processes=2):
    """Run minipig in several processes on this machine's CPU, one thread each, joined by gloo."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}", "-m"]
    env = os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    arguments = ["minipig", *map(str, arguments)]
    return subprocess.run(command + arguments, capture_output=True, text=True, env=env, timeout=300)


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    out = tmp_path_factory.mktemp("alone")
    assert main([*TRAIN, "--device", "cpu", "--out", str(out)]) == 0
    return json.loads((out / "losses.json").read_text())


def test_two_processes_learn_what_one_learns_with_the_whole_batch(tmp_path, alone):
    """20 steps of each network, to 1e-5 in every loss; a batch of 6 is computed in parts of 2 + 1 and 2 + 1 pairs."""
    done = torchrun(*TRAIN, "--accumulate", 2, "--out", tmp_path)
    assert done.returncode == 0, done.stderr
    together = json.loads((tmp_path / "losses.json").read_text())
    for name in ("model_x", "model_y"):
        assert len(alone[name]) == 20
        assert max(abs(a - b) for a, b in zip(alone[name], together[name])) < 1e-5
    assert done.stdout.count("done: python -m minipig sample") == 1 and "Warning" not in done.stderr
    assert not list(tmp_path.glob("*.part"))


def test_a_run_of_two_processes_goes_on_in_one(tmp_path, alone):
    """The number of processes is no part of the configuration."""
    assert torchrun(*TRAIN, "--out", tmp_path).returncode == 0
    (tmp_path / "pair.pt").unlink()
    (tmp_path / "model_y.ckpt").unlink()
    assert main([*TRAIN, "--device", "cpu", "--out", str(tmp_path)]) == 0
    resumed = json.loads((tmp_path / "losses.json").read_text())
    assert max(abs(a - b) for a, b in zip(alone["model_y"], resumed["model_y"])) < 1e-5


def test_only_training_is_shared(tmp_path):
    done = torchrun("phantoms", "--out", tmp_path / "p")
    assert done.returncode != 0 and "only train runs in several processes; start phantoms without torchrun" in done.stderr
    assert "Traceback" not in done.stderr.split("minipig:")[0] and not (tmp_path / "p").exists()


@pytest.mark.parametrize("flags, pays", [({"amx_bf16": True, "avx512_bf16": True}, True), ({"avx512_bf16": True}, False)])
def test_bfloat16_is_for_processors_with_tiles(monkeypatch, flags, pays):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: flags, raising=False)  # older torch has none
    assert fast_bfloat16(torch.device("cpu")) is pays


def test_a_process_without_torchrun_is_alone():
    assert rank() == (0, 1)
