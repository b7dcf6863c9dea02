"""What makes a training step faster or smaller: parts, bfloat16, torch.compile, processes.

Results change by rounding only, so a run may be resumed with other options.
"""

from contextlib import nullcontext
from dataclasses import dataclass
from typing import Callable

import torch
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel

from minipig.guider import NoisyPair
from minipig.training.devices import fast_bfloat16, rank


@dataclass(frozen=True)
class Speed:
    """Speed and memory options; they may change when a run is resumed."""

    accumulate: int = 1  # parts in which each process computes its share of a batch
    compiled: bool = False  # torch.compile: minutes of compiling, then faster steps
    bfloat16: bool | None = None  # autocast; None: where the device is fast at it


def prepared(model: nn.Module, batch: int, speed: Speed) -> nn.Module:
    """The network to call in training: compiled if asked for; gradients averaged over processes.

    Raises ValueError if the batch has fewer pairs than parts.
    """
    _, processes = rank()
    if batch < speed.accumulate * processes:
        parts = f"{speed.accumulate * processes} parts (processes x --accumulate)"
        raise ValueError(
            f"{batch} pairs are too few for {parts}; lower --accumulate, or raise --batch"
        )
    network = torch.compile(model) if speed.compiled else model
    return DistributedDataParallel(network) if processes > 1 else network


def backward(network: nn.Module, loss: Callable, pair: NoisyPair, speed: Speed) -> Tensor:
    """Add the gradient of the batch's mean loss to the weights' `.grad`; return that loss.

    Every process is given the whole batch, on the CPU, and takes its own rows.
    """
    device = next(network.parameters()).device
    mine, processes = rank()
    bfloat16 = fast_bfloat16(device) if speed.bfloat16 is None else speed.bfloat16
    batch = len(pair.x0)
    parts = torch.arange(batch).tensor_split(processes * speed.accumulate)[mine::processes]
    value = torch.zeros((), device=device)
    for i, rows in enumerate(parts):
        last = i == len(parts) - 1
        # processes meet once a step
        with nullcontext() if last or processes == 1 else network.no_sync():
            with torch.autocast(device.type, torch.bfloat16, enabled=bfloat16):
                share = loss(network, pair.part(rows, device)) * (len(rows) / batch)
            (processes * share).backward()
        value += share.detach()
    if processes > 1:
        distributed.all_reduce(value)
    return value
