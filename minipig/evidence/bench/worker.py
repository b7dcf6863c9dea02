"""Measure one row of the benchmark, in a process that runner.py starts.

python -m minipig.evidence.bench.worker ROW DEVICE prints its measurements as JSON; ROW is the JSON
of a `Row`, whose defaults may be left out. runner.py explains the keys.
"""

import json
import sys
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Callable

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from minipig.evidence.bench.networks import PLAIN, SPEEDS, build, lay_out
from minipig.guider import NoisyPair, model_x_loss
from minipig.rules import Clean
from minipig.sampler import PairModel, sample
from minipig.schedule import Schedule
from minipig.seeds import generator, seeded_network
from minipig.training.choice import CANDIDATES, WORTH, decided, tried
from minipig.training.devices import wait_for_device
from minipig.training.memory import keep_freed_memory
from minipig.training.speed import Speed


@dataclass(frozen=True)
class Row:
    """What one process measures.

    what: "train", one step; "trial", the choice of its number format and layout (choice.py);
    "sample", one call of sample() with `steps` steps for `pairs` pairs, `batch` at a time;
    "matmul", one product of two square matrices of side `size`, whose number format is `network`.
    network: a name in networks.py. size: the image's side in pixels. budget: seconds after which
    timing stops (two runs at least, twenty at most).
    """

    what: str
    network: str
    preset: str = "paper"
    size: int = 512
    batch: int = 1
    steps: int = 0
    pairs: int = 0
    budget: float = 4.0

    @property
    def name(self) -> str:
        """The row's key in the report, such as train/ours/paper/512/1."""
        if self.what == "matmul":
            return f"matmul/{self.network}/{self.size}"
        walk = [self.steps, self.pairs] if self.what == "sample" else []
        parts = [self.what, self.network, self.preset, self.size, self.batch, *walk]
        return "/".join(map(str, parts))

    def build(self) -> nn.Module:
        """A new network of this row."""
        return build(self.network, self.preset, self.size)


def batch_of(row: Row, device: torch.device) -> NoisyPair:
    """A batch of noise of the row's shape."""
    draw = generator("bench", 0)
    shape = (row.batch, 1, row.size, row.size)
    x0, y0 = (torch.randn(shape, generator=draw).clamp(-1, 1).to(device) for _ in range(2))
    return NoisyPair.draw(x0.sign(), y0, Schedule.linear(), draw)


def speed_of(row: Row, net: nn.Module, device: torch.device) -> Speed:
    """How the row computes: our training steps as SPEEDS says, all else in plain float32."""
    if row.what == "matmul":
        return Speed(bfloat16=row.network == "bfloat16")
    if row.what != "train" or row.network not in SPEEDS:
        return Speed(**PLAIN)
    return decided(SPEEDS[row.network], net, model_x_loss, batch_of(row, device), WORTH)[0]


def training(row: Row, net: nn.Module, device: torch.device, speed: Speed) -> Callable[[], Tensor]:
    """A function that takes one training step and returns its loss; ours: as training.loop.fit."""
    net.train()
    ours = row.network in SPEEDS
    network = lay_out(net, row.network, speed)
    optimiser = torch.optim.Adam(net.parameters(), lr=2e-4, fused=True if ours else None)
    pair = batch_of(row, device)

    def step() -> Tensor:
        with torch.autocast(device.type, torch.bfloat16, enabled=speed.bfloat16):
            loss = model_x_loss(network, pair)
        optimiser.zero_grad()
        loss.backward()
        if ours:
            nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimiser.step()
        return loss.detach()

    return step


def sampling(row: Row, net: nn.Module, device: torch.device, speed: Speed) -> Callable[[], None]:
    """A function that samples `pairs` pairs by two networks; ours: in load_pair's memory layout."""
    nets = [net, seeded_network(row.build, 1).to(device)]
    if row.network == "ours":
        nets = [net.to(memory_format=torch.channels_last) for net in nets]
    pair = PairModel(*(net.eval() for net in nets), Schedule.linear(), Clean())
    size = (row.size, row.size)

    def run() -> None:
        for _ in sample(pair, row.pairs, size, row.steps, batch=row.batch, device=device):
            pass

    return run


def product(row: Row, device: torch.device) -> Callable[[], None]:
    """A function that multiplies two (size, size) matrices."""
    if device.type == "cuda":
        torch.backends.cuda.matmul.allow_tf32 = True  # as torch's convolutions do
    settings = dict(device=device, dtype=getattr(torch, row.network))
    a, b = (torch.randn(row.size, row.size, **settings) for _ in range(2))
    c = torch.empty_like(a)

    def run() -> None:
        torch.mm(a, b, out=c)

    return run


def measure(row: Row, device: torch.device) -> dict:
    """Build, run once, then time runs until the budget is spent; runner.py explains the keys."""
    if row.network in SPEEDS:  # ours: as fit and load_pair set it
        keep_freed_memory(not SPEEDS[row.network].recompute)
    net = None if row.what == "matmul" else seeded_network(row.build, 0).to(device)
    if row.what == "trial":
        return choosing(row, net, device)
    speed = speed_of(row, net, device)
    if row.what == "matmul":
        run = product(row, device)
    else:
        run = {"train": training, "sample": sampling}[row.what](row, net, device, speed)
    base, _ = memory(device)
    first, _ = timed(run, device)
    seconds = []
    while len(seconds) < 2 or (sum(seconds) < row.budget and len(seconds) < 20):
        elapsed, loss = timed(run, device)
        seconds.append(elapsed)
    return dict(
        device=str(device),
        seconds=seconds,
        first_seconds=[first],
        base_bytes=base,
        peak_bytes=memory(device)[1],
        parameters=0 if net is None else sum(p.numel() for p in net.parameters()),
        forward_flops=2 * row.size**3 if net is None else forward_flops(row),
        bfloat16=speed.bfloat16,
        channels_last=bool(speed.channels_last),
        recompute=bool(speed.recompute),
        loss=None if loss is None else loss.item(),
    )


def choosing(row: Row, net: nn.Module, device: torch.device) -> dict:
    """The trial of all candidates: its own seconds, and those of a step by each of them."""
    base, _ = memory(device)
    speeds = {name: Speed(**how) for name, how in CANDIDATES.items()}
    step = (net, model_x_loss, batch_of(row, device), row.batch)
    seconds, candidates = timed(partial(tried, speeds, *step, again=True), device)
    sizes = dict(base_bytes=base, peak_bytes=memory(device)[1], parameters=0, forward_flops=0)
    found = dict(device=str(device), seconds=[seconds], first_seconds=[seconds]) | sizes
    return found | dict(bfloat16=False, loss=None, candidates=candidates)


def timed(run: Callable, device: torch.device) -> tuple:
    """The seconds of run(), until the device has finished, and its result."""
    wait_for_device(device)
    start = time.perf_counter()
    result = run()
    wait_for_device(device)
    return time.perf_counter() - start, result


def memory(device: torch.device) -> tuple[int, int]:
    """Bytes in use now and at the peak: of torch on a GPU, of the whole process on a CPU."""
    if device.type == "cuda":
        return torch.cuda.memory_allocated(device), torch.cuda.max_memory_allocated(device)
    try:  # Linux: this peak is of this program alone, unlike getrusage's
        lines = Path("/proc/self/status").read_text().splitlines()
        status = dict(line.split(":", 1) for line in lines)
        return tuple(1024 * int(status[key].split()[0]) for key in ("VmRSS", "VmHWM"))
    except (OSError, KeyError):  # not Linux, or a container that does not tell
        import resource

        unit = 1 if sys.platform == "darwin" else 1024
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
        return peak, peak


def forward_flops(row: Row) -> int:
    """FLOPs of one call of the row's network on a batch, counted on tensors without content."""
    with torch.device("meta"), torch.no_grad(), FlopCounterMode(display=False) as counter:
        z = torch.zeros(row.batch, 1, row.size, row.size)
        row.build()(z, torch.ones(row.batch, dtype=torch.long), z)
    return counter.get_total_flops()


if __name__ == "__main__":
    print(json.dumps(measure(Row(**json.loads(sys.argv[1])), torch.device(sys.argv[2]))))
