"""The device, what it is, and the processes that train together."""

import json
import os
import platform
import signal
import threading
import time
import warnings
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Callable

import torch
from torch import distributed


def pick_device(name: str | None = None) -> torch.device:
    """The device asked for; by default cuda if there is one, else cpu.

    Under torchrun each process gets its own GPU. Raises ValueError for one that is not here.
    """
    if name in (None, "cuda") and torch.cuda.is_available():
        name = f"cuda:{os.environ.get('LOCAL_RANK', 0)}" if several_processes() else "cuda"
    name = name or "cpu"
    try:
        device = torch.empty(0, device=name).device
    except (RuntimeError, AssertionError):
        device = None
    if device is None or device.type not in ("cpu", "cuda"):
        why = " (it has no float64, in which the schedule computes)" if name == "mps" else ""
        remedy = "give --device cpu, or leave the option out"
        if several_processes() and torch.cuda.is_available():
            remedy = f"start no more processes than GPUs, which are {torch.cuda.device_count()}"
        raise ValueError(f"device {name!r} cannot be used here{why}; {remedy}")
    return device


def machine(device: torch.device) -> dict:
    """The device, its name, the platform, processors, threads, and versions."""
    name = platform.processor() or platform.machine()
    if device.type == "cuda":
        name = torch.cuda.get_device_name(device)
    with suppress(OSError, StopIteration):
        if device.type == "cpu":
            lines = Path("/proc/cpuinfo").read_text().splitlines()
            name = next(line.split(": ")[1] for line in lines if line.startswith("model name"))
    info = dict(device=str(device), name=name, platform=platform.platform())
    info |= dict(processors=os.cpu_count(), threads=torch.get_num_threads())
    if device.type == "cpu":  # what it has for bfloat16: tiles (AMX), or vectors alone
        flags = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
        info["bfloat16"] = [flag for flag in ("amx_bf16", "avx512_bf16") if flags.get(flag)]
        if limit := os.environ.get("ONEDNN_MAX_CPU_ISA"):  # torch's convolutions may use no more
            info["bfloat16"].append(f"limited to {limit}")
    return info | dict(python=platform.python_version(), torch=torch.__version__)


def wait_for_device(device: torch.device) -> None:
    """Wait until a GPU has done all that it was asked."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def waits_for_results(device: torch.device) -> bool:
    """Whether the device is synchronous (a CPU), so that reading a number costs no waiting."""
    return device.type == "cpu"


def several_processes() -> bool:
    """Whether torchrun started several processes."""
    return told_by_torchrun("WORLD_SIZE") > 1


def told_by_torchrun(variable: str) -> int:
    """A number of processes in the environment; 1 if there is none. Raises ValueError."""
    text = os.environ.get(variable, "1")
    if not text.strip().isdecimal() or int(text) < 1:
        raise ValueError(f"{variable} is {text!r}, and no number of processes; unset it")
    return int(text)


@contextmanager
def process_group(device: torch.device):
    """Join the processes that torchrun started, if any: by NCCL on GPUs, by gloo on CPUs.

    Raises ValueError if WORLD_SIZE is set, but not by torchrun.
    """
    if not several_processes():
        yield
        return
    if not os.environ.get("RANK", "").isdecimal():
        started = "this process was not started by torchrun, though WORLD_SIZE is set"
        raise ValueError(f"{started} ({os.environ['WORLD_SIZE']}); use torchrun, or unset it")
    if device.type == "cuda":
        torch.cuda.set_device(device)
    # of 1x1 convolutions; harmless
    warnings.filterwarnings("ignore", "Grad strides do not match bucket view strides")
    distributed.init_process_group("nccl" if device.type == "cuda" else "gloo")
    try:
        yield
    finally:
        distributed.destroy_process_group()


def rank() -> tuple[int, int]:
    """This process's number (0 writes all files), and the number of processes."""
    if not distributed.is_initialized():
        return 0, 1
    return distributed.get_rank(), distributed.get_world_size()


def wait_for_all() -> None:
    """Wait until every process is here."""
    if distributed.is_initialized():
        distributed.barrier()


def tell_torchrun(line: str) -> bool:
    """Leave an error to torchrun, if it started this process: its report ends with the first."""
    path = os.environ.get("TORCHELASTIC_ERROR_FILE")
    if not path:
        return False
    more = {"py_callstack": line, "timestamp": str(int(time.time()))}
    Path(path).write_text(json.dumps({"message": {"message": line, "extraInfo": more}}))
    return True


@contextmanager
def handled(handler: Callable, *signals: signal.Signals):
    """Let `handler` have these signals inside this block; only the main thread may."""
    before = {}
    if threading.current_thread() is threading.main_thread():
        before = {each: signal.signal(each, handler) for each in signals}
    try:
        yield
    finally:
        for each, its_own in before.items():
            signal.signal(each, its_own)


class Terminated(KeyboardInterrupt):
    """SIGTERM, by which a cluster ends a job: what Ctrl-C would save is saved."""


def terminable():
    """A block in which SIGTERM raises Terminated."""

    def stop(*_):
        raise Terminated

    return handled(stop, signal.SIGTERM)


@contextmanager
def held_back():
    """Hold SIGINT and SIGTERM back until the end of this block, which is not left half done."""
    came = []
    try:
        with handled(lambda number, _: came.append(number), signal.SIGINT, signal.SIGTERM):
            yield
    finally:
        if came:
            signal.raise_signal(came[0])
