"""The training loop: one for every network, a generator that yields after each step.

The losses are in the paper's files: model_x_loss and model_y_loss in guider.py, a rule's own in
rules.py. The other files of this folder are beside it, each readable alone.
"""

import copy
import sys
from contextlib import closing
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Callable, Iterator

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn
from tqdm import tqdm

from minipig.data.checks import check_counts
from minipig.data.heartbeat import Heartbeat
from minipig.data.pairs import Pairs
from minipig.guider import Denoiser, NoisyPair
from minipig.schedule import Schedule, check_schedule
from minipig.seeds import generator
from minipig.training.checkpoint import Checkpoint
from minipig.training.choice import Seconds, decided
from minipig.training.devices import rank
from minipig.training.loss_log import LossLog
from minipig.training.memory import keep_freed_memory
from minipig.training.pace import Pace
from minipig.training.speed import Speed, backward, check_parts, laid_out, prepared


@dataclass(frozen=True)
class Training:
    """How a network is trained: Adam, linear warm-up, cosine decay, an average of the weights."""

    steps: int = 2000
    batch: int = 64
    rate: float = 1e-3  # the learning rate at its peak
    warmup: int = 100  # steps
    clip: float = 1.0  # largest norm of the gradient
    ema: float = 0.995  # share of itself that the average of the weights keeps each step
    mirror: bool = False  # show each pair left-right mirrored half of the time
    seed: int = 0

    def __post_init__(self):
        for name, value in asdict(self).items():
            if isinstance(value, np.generic):  # it would be saved, and not be read again
                object.__setattr__(self, name, value.item())
        check_counts(1, steps=self.steps, batch=self.batch)


@dataclass
class Progress:
    """What the loop yields: steps done, the loss of each, the network and its average."""

    step: int
    steps: int  # in all
    losses: list[float]
    model: nn.Module
    average: nn.Module
    speed: Speed | None = None  # as it was decided; None if no step was left to take
    seconds: Seconds = field(default_factory=dict)  # the trial that decided it, if one did
    held_out: float | None = None  # the latest loss on held-out pairs: training/held_out.py

    @property
    def recent(self) -> float:
        """Mean loss of the last 100 steps."""
        return sum(self.losses[-100:]) / max(1, len(self.losses[-100:]))


def fit(
    model: nn.Module,
    loss: Callable[[nn.Module, NoisyPair], Tensor],
    pairs: Pairs,
    training: Training = Training(),
    checkpoint: Path | None = None,
    every: int = 200,
    guider: Denoiser | None = None,
    speed: Speed = Speed(),
    schedule: Schedule | None = None,
) -> Iterator[Progress]:
    """Train `model` in place, on its own device; yield a Progress after each step.

    loss(model, pair) -> mean over a NoisyPair, such as model_x_loss. guider: the frozen model_x
    that gives x0_hat. schedule: that of the network and of the PairModel; default: linear. The
    batch and noise of step k depend on the seed and k alone. (Dropout, which no network of the
    package has, would draw on.)

    checkpoint: a file where the state is saved every `every` steps, at the end, and on
    interruption. If it exists, the training is resumed (and a Progress is yielded first), in the
    number format and layout that it began in unless `speed` says another: on a CPU with the same
    number of threads, the weights end bit-equal to those of an undisturbed run. Under torchrun the
    processes share each batch, and process 0 writes.

    speed: see training/choice.py, which may call `loss` on copies of `model` before the first step.

    Raises ValueError if the checkpoint is damaged, in use, or of other settings, pairs, schedule or
    layers; FloatingPointError if a loss or gradient is not finite.
    """
    schedule = schedule or Schedule.linear()
    check_parts(training.batch, speed.accumulate)
    check_schedule(model, schedule)
    average = copy.deepcopy(model).eval().requires_grad_(False)
    optimiser = torch.optim.Adam(model.parameters(), lr=training.rate, fused=True)
    progress = Progress(0, training.steps, [], model, average)

    def names(step: int) -> list[str]:
        return [pairs.names[i] for i in batch_indices(len(pairs), training, step)]

    losses = LossLog(progress.losses, names, training.rate)
    settings = (asdict(training), pairs, schedule)
    with Checkpoint(checkpoint, *settings, progress, optimiser, losses).kept() as saved:
        if progress.step > 0:  # resumed
            yield replace(progress)  # a copy, whose step stays as it is
        speed = saved.as_before(speed)
        if progress.step < training.steps:
            first = noisy_batch(pairs, training, 0, schedule, guider)
            keep_freed_memory()
            speed, progress.seconds = decided(speed, model, loss, first, training.steps)
            keep_freed_memory(not speed.recompute)
            progress.speed = speed
        laid_out(model, speed)
        laid_out(average, speed)
        saved.lay_out_moments()
        network = prepared(model, speed)
        while progress.step < training.steps:
            step = progress.step
            pair = noisy_batch(pairs, training, step, schedule, guider)
            for group in optimiser.param_groups:
                group["lr"] = rate(training, step)
            optimiser.zero_grad()
            model.train()  # whoever looked at it may have left it in evaluation mode
            value = backward(network, loss, pair, speed)
            norm = nn.utils.clip_grad_norm_(model.parameters(), training.clip)
            losses.add(step, value, norm)  # raises if not finite; a GPU's, before the next save
            due = (step + 1) % every == 0 or step + 1 == training.steps
            if due:
                losses.read()
            with saved.update():
                optimiser.step()
                update_average(average, model, min(training.ema, (step + 1) / (step + 11)))
                progress.step += 1
            if due:
                saved.save()
            yield replace(progress)


def noisy_batch(
    pairs: Pairs, training: Training, step: int, schedule: Schedule, guider: Denoiser | None
) -> NoisyPair:
    """The batch of step `step`, 0-based, with its levels and noise."""
    draw = generator("step", training.seed, step)
    x0, y0 = pairs[batch_indices(len(pairs), training, step)]
    if training.mirror:
        flip = (torch.rand(len(x0), generator=draw) < 0.5)[:, None, None, None]
        x0 = torch.where(flip, x0.flip(-1), x0)
        y0 = torch.where(flip, y0.flip(-1), y0)
    return NoisyPair.draw(x0, y0, schedule, draw, guider)


def batch_indices(n: int, training: Training, step: int) -> Tensor:
    """The indices of step `step`, 0-based, (batch,): each epoch is a new permutation of 0..n-1."""
    places = torch.arange(step * training.batch, (step + 1) * training.batch)
    epochs = (places // n).unique().tolist()
    order = {e: torch.randperm(n, generator=generator("epoch", training.seed, e)) for e in epochs}
    return torch.stack([order[int(place) // n][place % n] for place in places])


def rate(training: Training, step: int) -> float:
    """The learning rate of step `step`, 0-based: linear warm-up times cosine decay to 0."""
    warm = min(1.0, (step + 1) / max(1, training.warmup))
    decay = 0.5 * (1 + torch.cos(torch.tensor(torch.pi * step / training.steps)).item())
    return training.rate * warm * decay


@torch.no_grad()
def update_average(average: nn.Module, model: nn.Module, keep: float) -> None:
    """Exponential moving average of weights and batch statistics; counters are copied."""
    means, now = ([*net.parameters(), *net.buffers()] for net in (average, model))
    floats = [i for i, mean in enumerate(means) if mean.is_floating_point()]
    move = get_ema_multi_avg_fn(keep)  # all in one call
    move([means[i] for i in floats], [now[i] for i in floats], None)
    for i in set(range(len(means))) - set(floats):
        means[i].copy_(now[i])


def finish(steps: Iterator[Progress], label: str = "training") -> Progress:
    """Run a training to its end; return its last Progress.

    It shows a progress bar in a terminal, and writes lines to a log.
    """
    quiet = True if rank()[0] > 0 else None
    pace, heartbeat = Pace(), Heartbeat(label)
    # closing: an interrupted training is saved
    with closing(steps), tqdm(desc=label, disable=quiet, leave=False) as bar:
        for count, progress in enumerate(steps):
            if count == 0 and 1 < progress.step < progress.steps and not quiet:
                bar.write(f"{label}: goes on from step {progress.step}", file=sys.stderr)
            bar.total = progress.steps
            bar.update(progress.step - bar.n)
            on_cpu = next(progress.model.parameters()).device.type == "cpu"
            if not quiet and on_cpu and (message := pace.step()):
                bar.write(message, file=sys.stderr)
            losses = {"loss": progress.recent} if progress.losses else {}
            if progress.held_out is not None:
                losses["held-out"] = progress.held_out
            if line := heartbeat.step(progress.step, progress.steps, losses):
                print(line, file=sys.stderr, flush=True)
            if progress.step % 20 == 0:
                bar.set_postfix({name: f"{value:.4f}" for name, value in losses.items()})
    return progress
