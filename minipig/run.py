"""A run: one folder with a configuration, the training of both networks, and the finished pair model.

RUN/config.json      what was asked for: enough to repeat it
RUN/model_x.ckpt     the guider's training state, resumed if the run was interrupted; model_y.ckpt likewise
RUN/losses.json      both loss curves; losses.png, a picture of them, grows while they are learnt
RUN/pair.pt          the averaged weights of both networks in half precision: all that sampling needs
"""

import hashlib
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Iterator

import torch

from . import plot
from .claim import claim_folder
from .data import PairFolder
from .devices import meet, rank
from .files import load_checkpoint, save_checkpoint, write_json
from .guider import guider_loss
from .pairs import Pairs, split
from .phantoms import phantoms
from .rules import RULES, TRAINED_AS, asked, loss_of
from .sampler import PairModel
from .schedule import Schedule
from .seeds import seeded_network
from .train import Progress, Speed, Training, finish, fit
from .unet import PRESETS, PairedUNet

LOOK = 200  # steps from one picture of the losses to the next
SETTINGS = {
    # preset: the size it is meant for, and how long, in what batches and how fast its two networks learn
    "tiny": dict(size=(32, 32), steps=300, batch=32, rate=2e-3),
    "cpu": dict(size=(32, 32), steps=1000, batch=64, rate=1e-3),
    "gpu": dict(size=(128, 128), steps=40_000, batch=32, rate=4e-4),
    "paper": dict(size=(512, 512), steps=186_000, batch=6, rate=2e-4),  # 128 epochs of 8,723 slices
}


@dataclass(frozen=True)
class Config:
    """Everything that decides what a run learns. data: "phantom" or a folder; pairs: how many phantoms."""

    data: str = "phantom"
    pairs: int = 400
    size: tuple[int, int] = (32, 32)
    preset: str = "cpu"
    rule: str = "clean"
    steps: int = 1000  # of each network
    batch: int = 64
    rate: float = 1e-3
    holdout: float = 0.0
    mirror: bool = False
    seed: int = 0

    def __post_init__(self):
        require(1, steps=self.steps, batch=self.batch)
        require(0, seed=self.seed)
        if not self.rate > 0:
            raise ValueError(f"rate must be above 0, not {self.rate}")
        if not 0 <= self.holdout < 1:
            raise ValueError(f"holdout must be at least 0 and below 1, not {self.holdout}")


def network(config: Config, seed: int) -> PairedUNet:
    """A new PairedUNet of the preset, initialised by `seed`. Raises ValueError if it cannot take the configured size."""
    net = seeded_network(lambda: PairedUNet(**PRESETS[config.preset]), seed)
    net.check_size(*config.size)
    return net


def load_data(config: Config) -> tuple[Pairs, Pairs | None]:
    """The pairs to train on, and the held-out patients' (None if holdout is 0). Raises ValueError for what cannot be used."""
    network(config, config.seed)  # refuses a size before anything is read or written
    if config.data == "phantom":
        pairs = phantoms(config.pairs, config.size, config.seed)
    else:
        pairs = PairFolder(config.data, config.size)
    if config.holdout == 0:
        return pairs, None
    return tuple(split(pairs, (1 - config.holdout, config.holdout), config.seed))


def require(low: int, **counts: int) -> None:
    """Raise ValueError that names the first of `counts` below `low` (or too large for a seed)."""
    for name, value in counts.items():
        if not low <= value < 2**31:
            raise ValueError(f"{name} must be at least {low}, not {value}" if value < low else f"{name} {value} is too large")


def train_pair(
    folder: Path,
    config: Config,
    pairs: Pairs,
    device: torch.device,
    speed: Speed = Speed(),  # noqa: B008
) -> PairModel:
    """Train the guider, then model_y under the configured guide rule; resumes, and returns at once if all is done.

    Every stage prints one line; `folder` receives the files named above, from process 0 if there are several.
    """
    first = rank()[0] == 0
    if first:
        claim_folder(folder, asdict(config))
    meet()
    # 2 seed and 2 seed + 1: the two networks must not share their noise
    both = [Training(config.steps, config.batch, config.rate, mirror=config.mirror, seed=2 * config.seed + i) for i in (0, 1)]
    losses = {}

    def drawn(steps: Iterator[Progress], name: str) -> Iterator[Progress]:
        """The same steps, with a picture of the losses so far every LOOK of them."""
        for progress in steps:
            if first and progress.losses and progress.step % LOOK == 0:  # a GPU's are read now and then
                plot.save(plot.loss_curves(losses | {name: progress.losses}), folder / "losses.png")
            yield progress

    def learn(name: str, training: Training, loss, guider=None) -> PairedUNet:
        start = time.monotonic()
        net = network(config, training.seed).to(device)
        steps = fit(net, loss, pairs, training, folder / f"{name}.ckpt", guider=guider, speed=speed)
        last = finish(drawn(steps, name), training, f"training {name}")
        losses[name] = last.losses
        print(f"{name}: {training.steps} steps, loss {last.recent:.4f}, {time.monotonic() - start:.0f} s")
        return last.average

    guider = learn("model_x", both[0], guider_loss)
    model_y = learn("model_y", both[1], loss_of(RULES[config.rule]()), guider)
    if first:
        write_json(folder / "losses.json", losses)
        plot.save(plot.loss_curves(losses), folder / "losses.png")
        half = {name: {k: v.half() for k, v in m.state_dict().items()} for name, m in (("x", guider), ("y", model_y))}
        save_checkpoint(folder / "pair.pt", {"config": asdict(config), "model_x": half["x"], "model_y": half["y"]})
    meet()
    return load_pair(folder, device)[0]


def weights_of(run: Path) -> str:
    """The hash of a finished run's weights: a run that is trained anew is another, one by another path is not."""
    return hashlib.sha256((run / "pair.pt").read_bytes()).hexdigest()


def load_pair(folder: Path, device: torch.device | str = "cpu", rule: str | None = None) -> tuple[PairModel, Config]:
    """The pair model of a finished run and its configuration.

    rule: sample by this one instead of the run's, if it trains model_y alike: `sign` for a run of `clean`. Raises
    FileNotFoundError or ValueError that says what to do.
    """
    path = folder / "pair.pt"
    if not path.exists():
        if (folder / "pair").is_dir():
            raise FileNotFoundError(f"{folder} is a demo's folder; its run is {folder / 'pair'}")
        why = "does not exist: train it first"
        if folder.exists():
            begun = (folder / "config.json").exists()
            why = "has not finished training: repeat its train command" if begun else "is none: it has no config.json"
        raise FileNotFoundError(f"{path} is not there; the run {folder} {why}")
    if rule and rule not in RULES:
        raise ValueError(f"there is no rule {rule}; there are {', '.join(RULES)}")
    saved = load_checkpoint(path, {"config", "model_x", "model_y"})
    try:
        config = Config(**saved["config"])
        nets = [network(config, config.seed) for _ in range(2)]
        chosen = RULES[rule or config.rule]()
        for net, name in zip(nets, ("model_x", "model_y")):
            net.load_state_dict(saved[name])
    except (RuntimeError, TypeError, KeyError) as error:
        raise ValueError(f"{path} holds a configuration or networks that this version does not know; train anew") from error
    if rule and TRAINED_AS.get(rule, rule) != TRAINED_AS.get(config.rule, config.rule):
        raise ValueError(
            f"{folder} was trained by the rule {config.rule}; {rule} needs another training: train --rule {rule}"
        )
    nets = [net.to(device, memory_format=torch.channels_last).eval().requires_grad_(False) for net in nets]  # samples faster
    return PairModel(nets[0], asked(chosen, nets[1]), Schedule(), chosen), config
