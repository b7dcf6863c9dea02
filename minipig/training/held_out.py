"""The loss on held-out patients, measured during a training; the weights of its best step."""

from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Callable, Iterator

import torch
from torch import Tensor, nn

from minipig.data.files import load_checkpoint, save_checkpoint
from minipig.data.pairs import Pairs
from minipig.guider import Denoiser, NoisyPair
from minipig.schedule import Schedule
from minipig.seeds import generator
from minipig.training.speed import part_of

MEASURED = 256  # noisy pairs
TIMES = 25  # measurements in a training, at most
RISE = 1.05  # a loss that ends above so many times its lowest has turned


@dataclass
class HeldOut:
    """The loss of a training's averaged weights on held-out pairs, measured now and then.

    known: the pairs trained on; loss, schedule and guider: those of the training. Levels are even
    from 1 to T, and levels and noise are the same each time: only the weights make a difference.

    losses: {step: loss}; weights: those of the best step. Both are kept in the file `path`, and
    read from it again. Raises ValueError if the file is damaged, or of other pairs.
    """

    pairs: Pairs
    known: Pairs
    loss: Callable[[nn.Module, NoisyPair], Tensor]
    path: Path
    schedule: Schedule
    guider: Denoiser | None = None

    def __post_init__(self):
        self.data = self.known.fingerprint() + self.pairs.fingerprint()
        self.losses: dict[int, float] = {}
        self.weights: dict[str, Tensor] = {}
        if self.path.exists():
            saved = load_checkpoint(self.path, {"data", "losses", "weights"})
            if saved["data"] != self.data:
                problem = f"{self.path} was made from other pairs than those given now"
                raise ValueError(f"{problem}; give the former, or another folder")
            self.losses, self.weights = saved["losses"], saved["weights"]

    @property
    def best(self) -> int:
        """The step of the lowest loss."""
        return min(self.losses, key=self.losses.get)

    def noisy(self, numbers: range) -> NoisyPair:
        """These of the MEASURED noisy pairs: the held-out pairs in turn, or some of very many."""
        n = len(self.pairs)
        rows = [i * max(n, MEASURED) // MEASURED % n for i in numbers]
        x0, y0 = self.pairs[rows]
        order = torch.randperm(MEASURED, generator=generator("held-out levels"))
        t = 1 + order[list(numbers)] * self.schedule.T // MEASURED
        draws = [generator("held-out noise", i) for i in numbers]
        eps_1, eps_2 = (
            torch.stack([torch.randn(z.shape[1:], generator=draw) for draw in draws])
            for z in (x0, y0)
        )
        return NoisyPair(x0, y0, t, eps_1, eps_2, self.schedule, self.guider)

    @torch.no_grad()
    def measure(self, model: nn.Module, batch: int) -> float:
        """The mean loss of `model`, computed for `batch` noisy pairs at a time."""
        device = next(model.parameters()).device
        total = 0.0
        for first in range(0, MEASURED, batch):
            numbers = range(first, min(first + batch, MEASURED))
            pair = part_of(self.noisy(numbers), torch.arange(len(numbers)), device)
            total += self.loss(model, pair).item() * len(numbers)
        return total / MEASURED

    def watch(self, steps: Iterator, every: int, batch: int) -> Iterator:
        """The Progress of a training, each with the latest held-out loss.

        It is measured after `every` steps and at the end, for `batch` noisy pairs at a time. Raises
        ValueError if a resumed training has been measured, and the file is gone.
        """
        latest = None
        with closing(steps):
            for progress in steps:
                step = progress.step
                if step > every and not self.losses:
                    checkpoint = self.path.with_suffix(".ckpt").name
                    remedy = f"restore it, or delete {checkpoint} to train again"
                    raise ValueError(f"{self.path} is missing; {remedy}")
                if step not in self.losses and (step % every == 0 or step == progress.steps):
                    self.losses[step] = self.measure(progress.average, batch)
                    if self.best == step:
                        state = progress.average.state_dict()
                        self.weights = {k: w.to("cpu", copy=True) for k, w in state.items()}
                    kept = {"data": self.data, "losses": self.losses, "weights": self.weights}
                    save_checkpoint(self.path, kept)
                latest = self.losses.get(step, latest)
                yield replace(progress, held_out=latest)

    def summary(self, last: int) -> str:
        """The loss at the last step and at the best, and whether it has turned between them."""
        end, lowest = self.losses[last], self.losses[self.best]
        text = f"held-out loss {end:.4f}, lowest {lowest:.4f} at step {self.best}"
        if end <= RISE * lowest:
            return text
        return f"{text}: since then it learns its training pairs by heart (see --keep)"


def steps_between(steps: int, batch: int) -> int:
    """Steps from one measurement to the next, so many that measuring costs a few percent."""
    return max(1, -(-steps // TIMES), 10 * MEASURED // batch)
