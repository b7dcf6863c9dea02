"""What makes a training step faster or smaller: number format, memory layout, parts, processes.

Results change by rounding only, so a run may be resumed with other options.
"""

from contextlib import nullcontext
from dataclasses import dataclass
from typing import Callable

import torch
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel

from minipig.extras.frugal import channels_last, recomputing
from minipig.guider import NoisyPair
from minipig.training.devices import rank


@dataclass(frozen=True)
class Speed:
    """Speed and memory options. None: decided for the machine and the step, see choice.py."""

    accumulate: int = 1  # parts in which each process computes its share of a batch
    compiled: bool = False  # torch.compile: minutes of compiling, then faster steps
    bfloat16: bool | None = None  # autocast
    channels_last: bool | None = None  # the memory layout of extras/frugal.py
    recompute: bool | None = None  # of a PairedUNet: less memory, more time

    @property
    def format(self) -> dict[str, bool | None]:
        """Number format and layout, which a trial can decide."""
        return dict(bfloat16=self.bfloat16, channels_last=self.channels_last)


def laid_out(model: nn.Module, speed: Speed) -> nn.Module:
    """The network in the memory layout of `speed`, changed in place."""
    return recomputing(channels_last(model, bool(speed.channels_last)), bool(speed.recompute))


def check_parts(batch: int, accumulate: int) -> None:
    """Raise ValueError if a batch has fewer pairs than parts."""
    parts = accumulate * rank()[1]
    if batch < parts:
        raise ValueError(
            f"{batch} pairs are too few for {parts} parts (processes x --accumulate); "
            "lower --accumulate, or raise --batch"
        )


def prepared(model: nn.Module, speed: Speed) -> nn.Module:
    """The network to call in training: compiled if asked for; gradients averaged over processes."""
    network = torch.compile(model) if speed.compiled else model
    return DistributedDataParallel(network) if rank()[1] > 1 else network


def part_of(pair: NoisyPair, rows: Tensor, device: torch.device) -> NoisyPair:
    """The pairs at these rows, on `device`."""
    tensors = (pair.x0, pair.y0, pair.t, pair.eps_1, pair.eps_2)
    moved = (z[rows].to(device, non_blocking=True) for z in tensors)
    return NoisyPair(*moved, pair.schedule, pair.model_x)


def backward(network: nn.Module, loss: Callable, pair: NoisyPair, speed: Speed) -> Tensor:
    """Add the gradient of the batch's mean loss to the weights' `.grad`; return that loss.

    Every process is given the whole batch, on the CPU, and takes its own rows.
    """
    device = next(network.parameters()).device
    mine, processes = rank()
    batch = len(pair.x0)
    parts = torch.arange(batch).tensor_split(processes * speed.accumulate)[mine::processes]
    value = torch.zeros((), device=device)
    for i, rows in enumerate(parts):
        last = i == len(parts) - 1
        # processes meet once a step
        with nullcontext() if last or processes == 1 else network.no_sync():
            with torch.autocast(device.type, torch.bfloat16, enabled=speed.bfloat16):
                share = loss(network, part_of(pair, rows, device)) * (len(rows) / batch)
            (processes * share).backward()
        value += share.detach()
    if processes > 1:
        distributed.all_reduce(value)
    return value
