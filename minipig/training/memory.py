"""Memory: what becomes of freed blocks, and how much is free."""

import ctypes
from contextlib import suppress
from pathlib import Path

import torch

from minipig.training.devices import told_by_torchrun


def keep_freed_memory(keep: bool = True) -> None:
    """Keep freed memory for the next tensor; False: give large blocks back to the system at once.

    Of this process, by glibc's mallopt (the numbers are of malloc.h); elsewhere nothing happens.
    By default glibc gives most large blocks back, and the system then has to clear each page of the
    next one: at 512x512 up to half of the time of a step. Kept blocks leave holes, so more memory
    is in use.
    """
    never, block = -1, 16 * 2**20  # bytes: smaller blocks are kept either way
    M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_MMAP_MAX = -1, -3, -4
    with suppress(AttributeError, OSError, TypeError):  # there is no such function
        libc = ctypes.CDLL(None)
        mallopt = libc.mallopt
        mallopt(M_TRIM_THRESHOLD, never if keep else block)
        mallopt(M_MMAP_THRESHOLD, block)
        mallopt(M_MMAP_MAX, 0 if keep else 65536)
        if not keep:
            libc.malloc_trim(0)  # what was kept until now


def free_memory(device: torch.device) -> float:
    """Bytes that this process may still take on the device; infinite if the system does not say."""
    if device.type == "cuda":  # what torch keeps for itself is free for the next tensor
        own = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return torch.cuda.mem_get_info(device)[0] + own
    with suppress(AttributeError, OSError, TypeError):
        ctypes.CDLL(None).malloc_trim(0)  # what keep_freed_memory kept, and nothing uses now
    free = [float("inf")]
    with suppress(OSError, StopIteration):
        lines = Path("/proc/meminfo").read_text().splitlines()
        line = next(line for line in lines if line.startswith("MemAvailable"))
        free.append(1024 * int(line.split()[1]))
    with suppress(OSError, ValueError, KeyError):  # a container's own limit; "max" if it has none
        names = ("max", "current", "stat")
        limit, used, stat = (Path(f"/sys/fs/cgroup/memory.{name}").read_text() for name in names)
        used_for = dict(line.split() for line in stat.splitlines())
        files = int(used_for["active_file"]) + int(used_for["inactive_file"])  # copies; they yield
        free.append(int(limit) - int(used) + files)
    return min(free) / told_by_torchrun("LOCAL_WORLD_SIZE")
