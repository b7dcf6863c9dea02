"""What makes it run: one training loop for every network, as a generator, with checkpoints from which it resumes exactly."""

import copy
import math
from contextlib import closing, nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Callable, Iterator

import torch
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel
from tqdm import tqdm

from .devices import fast_bfloat16, rank, waits_for_results
from .files import held, load_checkpoint, save_checkpoint
from .guider import Denoiser, NoisyPair
from .pairs import Pairs
from .schedule import Schedule
from .seeds import generator


@dataclass(frozen=True)
class Training:
    """How one network is trained: Adam with linear warm-up and cosine decay of its rate, and an average of its weights."""

    steps: int = 2000
    batch: int = 64
    rate: float = 1e-3
    warmup: int = 100
    clip: float = 1.0  # the gradient's norm is held to this
    ema: float = 0.995  # the average keeps this share of itself each step
    mirror: bool = False  # show each pair left-right mirrored half of the time
    seed: int = 0


@dataclass(frozen=True)
class Speed:
    """What costs or saves time and memory, and changes no result beyond rounding: a run may be resumed with another."""

    accumulate: int = 1  # parts in which each process computes its share of a batch
    compiled: bool = False  # by torch.compile: minutes of compiling, then faster steps
    bfloat16: bool | None = None  # autocast; None: where the device is fast at it


@dataclass
class Progress:
    """What the loop yields: the step just done (1-based), its loss, and the networks as they stand."""

    step: int
    losses: list[float]
    model: nn.Module
    average: nn.Module

    @property
    def recent(self) -> float:
        """Mean loss of the last 100 steps."""
        return sum(self.losses[-100:]) / max(1, len(self.losses[-100:]))


def fit(
    model: nn.Module,
    loss: Callable[[nn.Module, NoisyPair], Tensor],
    pairs: Pairs,
    training: Training,
    checkpoint: Path | None = None,
    every: int = 200,
    guider: Denoiser | None = None,
    speed: Speed = Speed(),  # noqa: B008
) -> Iterator[Progress]:
    """Train `model` in place on its own device; yield a Progress after each step, and one first if a checkpoint is resumed.

    loss(model, pair) is the mean over a NoisyPair, such as guider_loss; `guider` is the frozen model_x of its x0_hat. Batch
    and noise of step k follow from the seed and k alone, on the levels of the default Schedule. With `checkpoint`, the state
    is saved there every `every` steps, at the end, and when the loop is left early or interrupted; an existing file is
    resumed: on a CPU with equal threads the weights end bit-equal to an undisturbed run's. Raises ValueError for a checkpoint
    that is damaged, of other settings, pairs or layers, or that another process is at work on, and FloatingPointError if the
    loss or its gradient is not finite: on a CPU before that step is taken, on a GPU, whose losses are read every `every`
    steps, before it is saved.

    Under torchrun (devices.process_group) the processes share each batch, and process 0 writes.
    """
    device, (mine, processes) = next(model.parameters()).device, rank()
    if training.batch < speed.accumulate * processes:
        parts = f"{processes} processes in {speed.accumulate} parts each"
        raise ValueError(f"a batch of {training.batch} cannot be shared by {parts}; lower --accumulate, or raise --batch")
    average = copy.deepcopy(model).eval().requires_grad_(False)
    optimiser = torch.optim.Adam(model.parameters(), lr=training.rate, fused=True)
    told = {"training": asdict(training), "data": pairs.fingerprint() if checkpoint else ""}
    step, losses, unread, schedule = 0, [], [], Schedule()

    def read() -> None:
        """The losses that were left on the device."""
        for (index, _), (now, slope) in zip(unread, torch.stack([both for _, both in unread]).tolist() if unread else []):
            losses.append(now)
            if not math.isfinite(now + slope):
                names = [pairs.names[i] for i in batch_indices(len(pairs), training, index)]
                batch = ", ".join(names[:8]) + (f" and {len(names) - 8} others" if len(names) > 8 else "")
                what = f"the loss is {now}, its gradient {slope} at step {index + 1}, rate {rate(training, index):.2g}"
                raise FloatingPointError(f"{what}, on {batch}; try a lower rate, in another folder")
        unread.clear()

    def save() -> None:
        """The state after `step` steps."""
        state = dict(step=step, losses=losses[:step], model=model.state_dict(), average=average.state_dict())
        save_checkpoint(checkpoint, told | state | {"optimiser": optimiser.state_dict()})

    writes = checkpoint is not None and mine == 0
    with held(checkpoint) if writes else nullcontext():
        if checkpoint and checkpoint.exists():
            step, losses = resume(checkpoint, told, model, average, optimiser)
            yield Progress(step, losses, model, average)
        model.train()
        network, saved, whole = torch.compile(model) if speed.compiled else model, step, True
        buffers = [buffer.clone() for buffer in model.buffers()]  # a forward pass moves the statistics of batches
        if processes > 1:
            network = DistributedDataParallel(network)  # averages the gradients of all processes
        try:
            while step < training.steps:
                # every process draws the whole batch, and takes its rows
                pair = noisy_batch(pairs, training, step, schedule, guider)
                for group in optimiser.param_groups:
                    group["lr"] = rate(training, step)
                optimiser.zero_grad()
                value = backward(network, loss, pair, training.batch, speed, device)
                norm = nn.utils.clip_grad_norm_(model.parameters(), training.clip)
                unread.append((step, torch.stack([value, norm])))
                due = (step + 1) % every == 0 or step + 1 == training.steps
                if due or waits_for_results(device):
                    read()
                whole = False
                optimiser.step()
                update_average(average, model, min(training.ema, (step + 1) / (step + 11)))
                buffers = [buffer.clone() for buffer in model.buffers()]
                step += 1
                whole = True
                if due and writes:
                    save()
                    saved = step
                yield Progress(step, losses, model, average)
        except (KeyboardInterrupt, GeneratorExit):
            if writes and whole and saved < step:
                read()
                for buffer, before in zip(model.buffers(), buffers):
                    buffer.copy_(before)
                save()
            raise


def resume(checkpoint: Path, told: dict, model: nn.Module, average: nn.Module, optimiser) -> tuple[int, list[float]]:
    """Load a checkpoint into all three; its step and losses. Raises ValueError if it is not that of this training."""
    saved = load_checkpoint(checkpoint, {*told, "model", "average", "optimiser", "step", "losses"})
    if saved["training"] != told["training"]:
        raise ValueError(f"{checkpoint} belongs to {saved['training']}, not to {told['training']}; choose another folder")
    if saved["data"] != told["data"]:
        raise ValueError(f"{checkpoint} was trained on other pairs than these; restore them, or choose another folder")
    try:
        model.load_state_dict(saved["model"]), average.load_state_dict(saved["average"])
    except RuntimeError as error:
        raise ValueError(f"{checkpoint} holds another network than this one; choose another folder") from error
    optimiser.load_state_dict(saved["optimiser"])
    return saved["step"], saved["losses"]


def noisy_batch(pairs: Pairs, training: Training, step: int, schedule: Schedule, guider: Denoiser | None) -> NoisyPair:
    """The batch of step `step`, 0-based, with its levels and noise."""
    draw = generator("step", training.seed, step)
    x0, y0 = pairs[batch_indices(len(pairs), training, step)]
    if training.mirror:
        flip = (torch.rand(len(x0), generator=draw) < 0.5)[:, None, None, None]
        x0, y0 = (torch.where(flip, z0.flip(-1), z0) for z0 in (x0, y0))
    return NoisyPair.draw(x0, y0, schedule, draw, guider)


def backward(network: nn.Module, loss: Callable, pair: NoisyPair, batch: int, speed: Speed, device: torch.device) -> Tensor:
    """Add the gradient of the batch's mean loss to the weights' `.grad`; the loss, which every process is told."""
    mine, processes = rank()
    bfloat16 = fast_bfloat16(device) if speed.bfloat16 is None else speed.bfloat16
    parts = torch.arange(batch).tensor_split(processes * speed.accumulate)[mine::processes]
    value = torch.zeros((), device=device)
    for i, rows in enumerate(parts):
        alone = network.no_sync() if processes > 1 and i < len(parts) - 1 else nullcontext()
        with alone:
            with torch.autocast(device.type, torch.bfloat16, enabled=bfloat16):
                share = loss(network, pair.part(rows, device)) * (len(rows) / batch)
            (processes * share).backward()
        value += share.detach()
    if processes > 1:
        distributed.all_reduce(value)
    return value


def finish(steps: Iterator[Progress], training: Training, label: str) -> Progress:
    """Run a training loop to its end under a progress bar (quiet where there is no terminal); the last Progress."""
    quiet = True if rank()[0] > 0 else None
    with tqdm(total=training.steps, desc=label, disable=quiet, leave=False) as bar, closing(steps):  # interrupted, it saves
        for progress in steps:
            bar.update(progress.step - bar.n)
            if progress.losses and progress.step % 20 == 0:
                bar.set_postfix(loss=f"{progress.recent:.4f}")
    return progress


def batch_indices(n: int, training: Training, step: int) -> Tensor:
    """The indices of step `step`, 0-based: each epoch is a fresh permutation of 0..n-1, and the epochs follow seamlessly."""
    places = torch.arange(step * training.batch, (step + 1) * training.batch)
    epochs = {e: torch.randperm(n, generator=generator("epoch", training.seed, e)) for e in (places // n).unique().tolist()}
    return torch.stack([epochs[int(place) // n][place % n] for place in places])


def rate(training: Training, step: int) -> float:
    """The learning rate of step `step`, 0-based: half a cosine down to zero, times a rise over the first `warmup` steps."""
    warm = min(1.0, (step + 1) / max(1, training.warmup))
    return training.rate * warm * 0.5 * (1 + torch.cos(torch.tensor(torch.pi * step / training.steps)).item())


@torch.no_grad()
def update_average(average: nn.Module, model: nn.Module, keep: float) -> None:
    """Exponential moving average of the weights and of batch statistics; counters are copied."""
    for mean, now in zip(average.state_dict().values(), model.state_dict().values()):
        mean.lerp_(now, 1 - keep) if mean.is_floating_point() else mean.copy_(now)
