"""The device, and the processes that train together."""

import os
import warnings
from contextlib import contextmanager

import torch
from torch import distributed


def pick_device(name: str | None = None) -> torch.device:
    """The device asked for; by default cuda if there is one, else cpu.

    Under torchrun each process gets its own GPU. Raises ValueError for a device
    that this machine does not have.
    """
    if name in (None, "cuda") and torch.cuda.is_available():
        name = f"cuda:{os.environ.get('LOCAL_RANK', 0)}" if several_processes() else "cuda"
    name = name or "cpu"
    try:
        device = torch.empty(0, device=name).device
    except (RuntimeError, AssertionError):
        device = None
    if device is None or device.type not in ("cpu", "cuda"):
        raise ValueError(
            f"device {name!r} cannot be used here; give --device cpu, or leave the option out"
        )
    return device


def fast_bfloat16(device: torch.device) -> bool:
    """Whether bfloat16 autocast pays: on a recent GPU, and on a CPU with bfloat16 tiles (AMX).

    At 32x32 a CPU with AVX-512 BF16 alone takes 1.3 to 1.4 times as long a step as in float32.
    """
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    flags = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    return bool(flags.get("amx_bf16"))


def waits_for_results(device: torch.device) -> bool:
    """Whether the device is synchronous (a CPU), so that reading a number costs no waiting."""
    return device.type == "cpu"


def several_processes() -> bool:
    """Whether torchrun started several processes."""
    return int(os.environ.get("WORLD_SIZE", 1)) > 1


@contextmanager
def process_group(device: torch.device):
    """Join the processes that torchrun started, if any: by NCCL on GPUs, by gloo on CPUs."""
    if not several_processes():
        yield
        return
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
