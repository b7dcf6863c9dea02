"""Where and with whom: the device, the number format that is fast on it, and the processes that train together."""

import os
import warnings
from contextlib import contextmanager

import torch
from torch import distributed


def pick_device(name: str | None = None) -> torch.device:
    """The device asked for, else cuda where there is one, else cpu; under torchrun each process gets a GPU of its own.

    Raises ValueError for a device that is not there.
    """
    if name in (None, "cuda") and torch.cuda.is_available():
        name = f"cuda:{os.environ.get('LOCAL_RANK', 0)}" if together() else "cuda"
    name = name or "cpu"
    try:
        device = torch.empty(0, device=name).device
    except (RuntimeError, AssertionError):
        device = None
    if device is None or device.type not in ("cpu", "cuda"):
        raise ValueError(f"{name!r} is not a device that can be used here; try cpu, or leave --device out")
    return device


def fast_bfloat16(device: torch.device) -> bool:
    """Whether bfloat16 autocast pays: on any recent GPU, and on a CPU that multiplies bfloat16 in tiles (AMX).

    The vector instructions alone (AVX-512 BF16) do not: with them a step takes 1.3 to 1.4 times as long as in float32.
    """
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    flags = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    return bool(flags.get("amx_bf16"))


def waits_for_results(device: torch.device) -> bool:
    """Whether work is done when a call returns (a CPU), so that reading a number costs nothing; a GPU runs behind."""
    return device.type == "cpu"


def together() -> bool:
    """Whether torchrun started several processes."""
    return int(os.environ.get("WORLD_SIZE", 1)) > 1


@contextmanager
def process_group(device: torch.device):
    """Join the processes that torchrun started, if it did: by NCCL on GPUs, by gloo on CPUs."""
    if not together():
        yield
        return
    if device.type == "cuda":
        torch.cuda.set_device(device)
    warnings.filterwarnings("ignore", "Grad strides do not match bucket view strides")  # of 1x1 convolutions; harmless
    distributed.init_process_group("nccl" if device.type == "cuda" else "gloo")
    try:
        yield
    finally:
        distributed.destroy_process_group()


def rank() -> tuple[int, int]:
    """This process's number, and how many train together: (0, 1) if it is alone. Process 0 writes all files."""
    return (distributed.get_rank(), distributed.get_world_size()) if distributed.is_initialized() else (0, 1)


def meet() -> None:
    """Wait until every process is here."""
    if distributed.is_initialized():
        distributed.barrier()
