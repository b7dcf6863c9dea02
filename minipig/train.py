"""What makes it run: one training loop for every network, as a generator, with checkpoints from which it resumes exactly."""

import copy
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Callable, Iterator

import torch
from torch import Tensor, nn
from tqdm import tqdm

from .files import load_checkpoint, save_checkpoint
from .pairs import Pairs
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
        return sum(self.losses[-100:]) / len(self.losses[-100:])


def pick_device(name: str | None = None) -> torch.device:
    """The device asked for, else cuda where there is one, else cpu. Raises ValueError for a device that is not there."""
    name = name or ("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.empty(0, device=name).device
    except (RuntimeError, AssertionError):
        device = None
    if device is None or device.type not in ("cpu", "cuda"):
        raise ValueError(f"{name!r} is not a device that can be used here; try cpu, or leave --device out")
    return device


def fast_bfloat16(device: torch.device) -> bool:
    """Whether bfloat16 autocast pays: on any recent GPU, and on a CPU that multiplies bfloat16 in hardware."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    flags = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    return bool(flags.get("amx_bf16") or flags.get("avx512_bf16"))


def fit(
    model: nn.Module,
    loss: Callable[[nn.Module, Tensor, Tensor, torch.Generator], Tensor],
    pairs: Pairs,
    training: Training,
    checkpoint: Path | None = None,
    every: int = 200,
) -> Iterator[Progress]:
    """Train `model` in place on its own device; yield a Progress after each step, and one first if a checkpoint is resumed.

    loss(model, x0, y0, generator) is a scalar of a batch (B, 1, H, W) each. Batch and noise of step k follow from the seed
    and k alone. With `checkpoint`, the state is saved there every `every` steps and at the end, and an existing file is
    resumed: on a CPU with equal threads the weights end bit-equal to an undisturbed run's. Raises ValueError for a foreign
    or damaged checkpoint, and FloatingPointError, before the step is taken, if the loss or its gradient is not finite.
    """
    device = next(model.parameters()).device
    average = copy.deepcopy(model).eval().requires_grad_(False)
    optimiser = torch.optim.Adam(model.parameters(), lr=training.rate, fused=True)
    data = pairs.fingerprint() if checkpoint else ""
    step, losses = 0, []
    if checkpoint and checkpoint.exists():
        saved = load_checkpoint(checkpoint, {"training", "data", "model", "average", "optimiser", "step", "losses"})
        if saved["training"] != asdict(training):
            raise ValueError(f"{checkpoint} belongs to {saved['training']}, not to {asdict(training)}; choose another folder")
        if saved["data"] != data:
            raise ValueError(f"{checkpoint} was trained on other pairs than these; restore them, or choose another folder")
        try:
            model.load_state_dict(saved["model"]), average.load_state_dict(saved["average"])
        except RuntimeError as error:
            raise ValueError(f"{checkpoint} holds another network than this one; choose another folder") from error
        optimiser.load_state_dict(saved["optimiser"])
        step, losses = saved["step"], saved["losses"]
        yield Progress(step, losses, model, average)

    model.train()
    while step < training.steps:
        draw = generator("step", training.seed, step)
        x0, y0 = (z0.to(device, non_blocking=True) for z0 in pairs[batch_indices(len(pairs), training, step)])
        if training.mirror:
            flip = (torch.rand(len(x0), generator=draw) < 0.5).to(device)[:, None, None, None]
            x0, y0 = (torch.where(flip, z0.flip(-1), z0) for z0 in (x0, y0))
        for group in optimiser.param_groups:
            group["lr"] = rate(training, step)
        with torch.autocast(device.type, torch.bfloat16, enabled=fast_bfloat16(device)):
            value = loss(model, x0, y0, draw)
        optimiser.zero_grad()
        value.backward()
        norm = nn.utils.clip_grad_norm_(model.parameters(), training.clip)
        losses.append(value.item())
        if not torch.isfinite(value + norm):
            what = f"the loss is {losses[-1]}, its gradient {norm.item()} at step {step + 1}"
            raise FloatingPointError(f"{what}, rate {rate(training, step):.2g}; try a lower rate, in another folder")
        optimiser.step()
        step += 1
        update_average(average, model, min(training.ema, step / (step + 10)))
        if checkpoint and (step % every == 0 or step == training.steps):
            state = dict(step=step, losses=losses, training=asdict(training), data=data, optimiser=optimiser.state_dict())
            save_checkpoint(checkpoint, state | dict(model=model.state_dict(), average=average.state_dict()))
        yield Progress(step, losses, model, average)


def finish(steps: Iterator[Progress], training: Training, label: str) -> Progress:
    """Run a training loop to its end under a progress bar (quiet where there is no terminal); the last Progress."""
    with tqdm(total=training.steps, desc=label, disable=None, leave=False) as bar:
        for progress in steps:
            bar.update(progress.step - bar.n)
            if progress.step % 20 == 0:
                bar.set_postfix(loss=f"{progress.recent:.4f}")
    return progress


def batch_indices(n: int, training: Training, step: int) -> Tensor:
    """The indices of step `step`, 0-based: each epoch is a fresh permutation of 0..n-1, and the epochs follow seamlessly."""
    places = torch.arange(step * training.batch, (step + 1) * training.batch)
    epochs = {e: torch.randperm(n, generator=generator("epoch", training.seed, e)) for e in (places // n).unique().tolist()}
    return torch.stack([epochs[int(place) // n][place % n] for place in places])


def rate(training: Training, step: int) -> float:
    """The learning rate of step `step`, 0-based: linear up over `warmup` steps, then half a cosine down to zero."""
    warm = min(1.0, (step + 1) / training.warmup)
    return training.rate * warm * 0.5 * (1 + torch.cos(torch.tensor(torch.pi * step / training.steps)).item())


@torch.no_grad()
def update_average(average: nn.Module, model: nn.Module, keep: float) -> None:
    """Exponential moving average of the weights and of batch statistics; counters are copied."""
    for mean, now in zip(average.state_dict().values(), model.state_dict().values()):
        mean.lerp_(now, 1 - keep) if mean.is_floating_point() else mean.copy_(now)
