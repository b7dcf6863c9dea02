"""One row of the benchmark, in a process of its own: python -m minipig.evidence.measure ROW DEVICE prints what it cost.

ROW is the JSON of a `Row`; its defaults may be left out. `bench.py` starts these processes, and says what the keys mean.
"""

import json
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Callable

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from ..devices import fast_bfloat16
from ..guider import Clean, NoisyPair, guider_loss
from ..sampler import PairModel, sample
from ..schedule import Schedule
from ..seeds import generator, seeded_network
from .rivals import build


@dataclass(frozen=True)
class Row:
    """What one process measures.

    what: "train", one step; "sample", one call of sample(), `steps` long, for `pairs` pairs, `batch` at a time; "matmul", one
    product of two square matrices of side `size` in the number format `network`. network: ours, SWITCHED_OFF, ours-compiled,
    plain or one of RIVALS. size: the image's side in pixels. budget: seconds after which timing stops (two runs at least).
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
        return "/".join(map(str, [self.what, self.network, self.preset, self.size, self.batch, *walk]))


def uses_bfloat16(row: Row, device: torch.device) -> bool:
    """Whether the row computes in bfloat16: our training step does where that pays, as train.fit; sampling does not."""
    if row.what == "matmul":
        return row.network == "bfloat16"
    return row.what == "train" and row.network.startswith("ours") and "float32" not in row.network and fast_bfloat16(device)


def training(row: Row, net: nn.Module, device: torch.device) -> Callable[[], Tensor]:
    """A function that takes one training step and returns its loss: ours as train.fit does, the others as torch does."""
    net.train()
    ours, low = row.network.startswith("ours"), uses_bfloat16(row, device)
    optimiser = torch.optim.Adam(net.parameters(), lr=2e-4, fused=True if ours else None)
    draw, shape = generator("bench", 0), (row.batch, 1, row.size, row.size)
    x0, y0 = (torch.randn(shape, generator=draw).clamp(-1, 1).to(device) for _ in range(2))
    pair = NoisyPair.draw(x0.sign(), y0, Schedule(), draw)
    if row.network == "ours-compiled":
        net.compile()

    def step() -> Tensor:
        with torch.autocast(device.type, torch.bfloat16, enabled=low):
            loss = guider_loss(net, pair)
        optimiser.zero_grad()
        loss.backward()
        if ours:
            nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimiser.step()
        return loss.detach()

    return step


def sampling(row: Row, net: nn.Module, device: torch.device) -> Callable[[], None]:
    """A function that samples `pairs` pairs by two networks and drops them; ours in the layout that run.load_pair chooses."""
    nets = [net, seeded_network(lambda: build(row.network, row.preset, row.size), 1).to(device)]
    if row.network == "ours":
        nets = [net.to(memory_format=torch.channels_last) for net in nets]
    pair = PairModel(*(net.eval() for net in nets), Schedule(), Clean())

    def run() -> None:
        for _ in sample(pair, row.pairs, (row.size, row.size), row.steps, batch=row.batch, device=device):
            pass

    return run


def product(row: Row, device: torch.device) -> Callable[[], None]:
    """A function that multiplies two (size, size) matrices."""
    if device.type == "cuda":
        torch.backends.cuda.matmul.allow_tf32 = True  # as torch's convolutions do
    a, b = (torch.randn(row.size, row.size, device=device, dtype=getattr(torch, row.network)) for _ in range(2))
    c = torch.empty_like(a)

    def run() -> None:
        torch.mm(a, b, out=c)

    return run


def measure(row: Row, device: torch.device) -> dict:
    """The child's work: build, run once, then time runs until the budget is spent. Keys as in the module's docstring."""
    net = None if row.what == "matmul" else seeded_network(lambda: build(row.network, row.preset, row.size), 0).to(device)
    run = product(row, device) if net is None else {"train": training, "sample": sampling}[row.what](row, net, device)
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
        bfloat16=uses_bfloat16(row, device),
        loss=None if loss is None else loss.item(),
    )


def timed(run: Callable, device: torch.device) -> tuple[float, Tensor | None]:
    """Seconds that run() takes, to the end of its work on the device, and what it returns."""
    wait = torch.cuda.synchronize if device.type == "cuda" else lambda: None
    wait()
    start = time.perf_counter()
    result = run()
    wait()
    return time.perf_counter() - start, result


def memory(device: torch.device) -> tuple[int, int]:
    """Bytes in use now and at the peak: of torch on a GPU, of the whole process on a CPU."""
    if device.type == "cuda":
        return torch.cuda.memory_allocated(device), torch.cuda.max_memory_allocated(device)
    try:  # Linux: unlike getrusage's, this peak starts afresh in a new program
        status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
        return tuple(1024 * int(status[key].split()[0]) for key in ("VmRSS", "VmHWM"))
    except OSError:
        import resource

        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
        return peak, peak


def forward_flops(row: Row) -> int:
    """FLOPs of one call of the row's network on a batch, counted on tensors without content."""
    with torch.device("meta"), torch.no_grad(), FlopCounterMode(display=False) as counter:
        z = torch.zeros(row.batch, 1, row.size, row.size)
        build(row.network, row.preset, row.size)(z, torch.ones(row.batch, dtype=torch.long), z)
    return counter.get_total_flops()


if __name__ == "__main__":
    print(json.dumps(measure(Row(**json.loads(sys.argv[1])), torch.device(sys.argv[2]))))
