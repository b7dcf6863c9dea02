"""The device, and several processes under torchrun: the same training, with files from one."""

import os
import platform
import subprocess
import sys

import pytest
import torch

from minipig.cli import main
from minipig.data.phantoms import phantoms
from minipig.guider import model_x_loss
from minipig.training import loop, memory, run
from minipig.training.config import Config, load_data
from minipig.training.curves import read_curves
from minipig.training.devices import machine, pick_device, rank, several_processes
from minipig.training.loop import Training, finish, fit
from minipig.training.memory import free_memory
from minipig.training.speed import Speed
from minipig.unet import PRESETS, PairedUNet

PAIRS = phantoms(4, (16, 16))
SHORT = Training(steps=1, batch=2)
TRAIN = "train --preset tiny --steps 20 --batch 6 --pairs 12 --holdout 0 --size 16".split()
TRAIN += "--rule matched --format float32".split()


def torchrun(*arguments, processes=2):
    """Run minipig in several processes on this machine's CPU, one thread each, joined by gloo."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command += [f"--nproc-per-node={processes}", "-m", "minipig", *map(str, arguments)]
    env = os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    return subprocess.run(command, capture_output=True, text=True, env=env, timeout=300)


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """The losses of one process."""
    out = tmp_path_factory.mktemp("alone")
    assert main([*TRAIN, "--device", "cpu", "--out", str(out)]) == 0
    return read_curves(out)[0]


def test_two_processes_learn_what_one_learns_with_the_whole_batch(tmp_path, alone):
    """20 steps of each network, to 1e-5 in every loss; 6 pairs in parts of 2 + 1 and 2 + 1."""
    done = torchrun(*TRAIN, "--accumulate", 2, "--out", tmp_path)
    assert done.returncode == 0, done.stderr
    together = read_curves(tmp_path)[0]
    for name in ("model_x", "model_y"):
        assert len(alone[name]) == 20
        assert max(abs(a - b) for a, b in zip(alone[name], together[name])) < 1e-5
    assert done.stdout.count("next: minipig sample") == 1 and "Warning" not in done.stderr
    assert not list(tmp_path.glob("*.part"))


def test_a_run_of_two_processes_goes_on_in_one(tmp_path, alone):
    """The number of processes is no part of the configuration."""
    assert torchrun(*TRAIN, "--out", tmp_path).returncode == 0
    (tmp_path / "pair.pt").unlink()
    (tmp_path / "model_y.ckpt").unlink()
    assert main([*TRAIN, "--device", "cpu", "--out", str(tmp_path)]) == 0
    resumed = read_curves(tmp_path)[0]
    assert max(abs(a - b) for a, b in zip(alone["model_y"], resumed["model_y"])) < 1e-5


def test_only_training_is_shared(tmp_path):
    done = torchrun("phantoms", "--out", tmp_path / "p")
    line = "only train runs in several processes; start phantoms without torchrun"
    assert done.returncode != 0
    assert not [said for said in done.stderr.splitlines() if said.startswith("minipig:")]
    last = done.stderr.partition("Root Cause")[2].splitlines()  # torchrun's report ends with it
    assert last[-2].endswith(f"traceback : minipig: {line}") and set(last[-1]) == {"="}
    assert done.stderr.count("Traceback") == 1 and not (tmp_path / "p").exists()  # torchrun's own


def test_the_machine_is_described(monkeypatch):
    flags = {"amx_bf16": False, "avx512_bf16": True, "avx2": True}
    # older versions of torch lack it
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: flags, raising=False)
    monkeypatch.delenv("ONEDNN_MAX_CPU_ISA", raising=False)
    found = machine(torch.device("cpu"))
    assert found["bfloat16"] == ["avx512_bf16"] and found["threads"] == torch.get_num_threads()
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "AVX2")  # trials under it are kept apart
    limited = machine(torch.device("cpu"))["bfloat16"]
    assert limited == ["avx512_bf16", "limited to AVX2"]
    assert found["torch"] == torch.__version__ and found["name"]


def test_free_memory_is_shared_by_the_processes_of_a_machine(monkeypatch):
    alone = free_memory(torch.device("cpu"))
    assert 1e6 < alone < float("inf")
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "4")
    assert free_memory(torch.device("cpu")) < alone / 2


def test_a_containers_own_limit_counts(monkeypatch):
    files = {"memory.max": "3000", "memory.current": "1600", "meminfo": "MemAvailable:  900 kB"}
    files["memory.stat"] = "anon 900\nactive_file 200\ninactive_file 400\n"  # of files: given back
    monkeypatch.setattr(memory.Path, "read_text", lambda path: files[path.name])
    assert free_memory(torch.device("cpu")) == 2000
    files["memory.max"] = "max\n"
    assert free_memory(torch.device("cpu")) == 900 * 1024


MEMORY = """
import resource, torch
from pathlib import Path
from minipig.training.memory import free_memory, keep_freed_memory

def used():  # MiB
    line = next(x for x in Path("/proc/self/status").read_text().splitlines() if "VmRSS" in x)
    return int(line.split()[1]) // 1024

def pages(size=64):  # cleared by the system for a tensor of so many MiB, which is freed again
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    torch.ones(size * 2**18)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

for keep in (False, True, False):
    keep_freed_memory(keep)
    pages(), free_memory(torch.device("cpu"))  # gives all back
    before = used()
    again = [pages() for _ in range(20)][10:]  # the first ones make room: tensors are aligned
    kept = used() - before
    free_memory(torch.device("cpu"))
    print(keep, min(again) if not keep else max(again), kept, used() - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="mallopt is a function of glibc")
def test_freed_memory_is_kept_for_the_next_tensor_or_given_back():
    """Kept: soon a tensor needs no new page, and asking what is free gives all back."""
    done = subprocess.run(
        [sys.executable, "-c", MEMORY], capture_output=True, text=True, check=True
    )
    for line in done.stdout.splitlines():
        keep, pages, kept, after = line.split()
        assert (int(pages) < 16) is (keep == "True"), done.stdout
        assert (int(kept) > 60) is (keep == "True") and int(after) < 8, done.stdout


def test_a_training_keeps_freed_memory_unless_it_recomputes(monkeypatch, tmp_path):
    """And sampling from a run keeps it."""
    asked = []
    for module in (loop, run):
        monkeypatch.setattr(module, "keep_freed_memory", lambda keep=True: asked.append(keep))
    for recompute in (False, True):
        speed = Speed(bfloat16=False, channels_last=False, recompute=recompute)
        finish(fit(PairedUNet(**PRESETS["tiny"]), model_x_loss, PAIRS, SHORT, speed=speed))
        assert asked[-1] is not recompute
    config = Config(pairs=4, size=(16, 16), preset="tiny", steps=1, batch=2)
    asked.clear()
    run.train_pair(tmp_path / "run", config, load_data(config)[0], torch.device("cpu"))
    assert asked[-1] is True and len(asked) == 5  # two for each network, and one to sample


def test_a_process_without_torchrun_is_alone(monkeypatch):
    assert rank() == (0, 1) and not several_processes()
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert several_processes()


def test_device_is_chosen_or_given():
    assert pick_device().type == ("cuda" if torch.cuda.is_available() else "cpu")
    assert pick_device("cpu").type == "cpu"
    for name in ("warp", "meta"):
        with pytest.raises(ValueError, match=f"device '{name}' cannot be used here; give --device"):
            pick_device(name)
    with pytest.raises(ValueError, match="'mps' cannot be used here .it has no float64"):
        pick_device("mps")


def test_every_process_takes_the_gpu_of_its_number(monkeypatch):
    asked = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setenv("LOCAL_RANK", "3")

    def empty(n, device):
        asked.append(device)
        return torch.zeros(0)

    monkeypatch.setattr(torch, "empty", empty)
    pick_device()
    monkeypatch.setenv("WORLD_SIZE", "4")
    pick_device()
    pick_device("cuda")
    pick_device("cuda:1")
    assert asked == ["cuda", "cuda:3", "cuda:3", "cuda:1"]
