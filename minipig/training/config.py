"""The configuration of a run, and the networks and pairs that it asks for."""

from dataclasses import dataclass

import torch

from minipig.data.checks import check_choice, check_counts, check_seed
from minipig.data.folder import PairFolder
from minipig.data.pairs import Pairs, split
from minipig.data.phantoms import phantoms
from minipig.schedule import SCHEDULES, Schedule
from minipig.seeds import seeded_network
from minipig.training.memory import free_memory
from minipig.unet import PRESETS, PairedUNet

SETTINGS = {
    # preset: the size it is meant for, and the steps, batch and learning rate of its two networks
    "tiny": dict(size=(32, 32), steps=300, batch=32, rate=2e-3),
    "cpu": dict(size=(32, 32), steps=1000, batch=64, rate=1e-3),
    "cpu128": dict(size=(128, 128), steps=10_000, batch=16, rate=8e-4),
    "gpu": dict(size=(128, 128), steps=40_000, batch=32, rate=4e-4),
    "paper": dict(size=(512, 512), steps=186_000, batch=6, rate=2e-4),  # 128 epochs of 8,723 slices
}


@dataclass(frozen=True)
class Config:
    """Everything that decides what a run learns.

    data: "phantom" or a folder; pairs: the number of phantoms; rule: one of RULES, or a class in a
    file, "my_rule.py:Mine".
    """

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
    schedule: str = "linear"
    keep: str = "last"  # or "best": the weights with the lowest loss on held-out patients
    deformed: int = 0  # deformed pairs to learn from as well; not mirrored, `mirror` turns all
    start: str = ""  # the hash of the weights (training.run.weights_of) that it goes on from

    def __post_init__(self):
        check_counts(1, pairs=self.pairs, steps=self.steps, batch=self.batch)
        check_counts(0, seed=self.seed, deformed=self.deformed)
        if not self.rate > 0:
            raise ValueError(f"rate must be above 0, not {self.rate}")
        if not 0 <= self.holdout < 1:
            raise ValueError(f"holdout must be at least 0 and below 1, not {self.holdout}")
        check_choice("schedule", self.schedule, SCHEDULES)
        if self.keep == "best" and self.holdout == 0:
            raise ValueError("--keep best needs held-out patients; give --holdout 0.1 or so")
        check_choice("keep", self.keep, ("best", "last"))
        if self.data == "phantom":
            check_seed(self.seed)

    @property
    def noise_schedule(self) -> Schedule:
        """The noise schedule by its name."""
        return SCHEDULES[self.schedule]()


def network(config: Config, seed: int) -> PairedUNet:
    """A new network of the preset from `seed`; raises ValueError if the size does not fit it."""
    net = seeded_network(
        lambda: PairedUNet(**PRESETS[config.preset], schedule=config.noise_schedule), seed
    )
    net.check_size(*config.size)
    return net


def content_of(config: Config, pairs: Pairs, held_out: Pairs | None) -> str:
    """The fingerprints of a folder's pairs, trained on and held out; empty for phantoms."""
    if config.data == "phantom":
        return ""
    return "".join(part.fingerprint() for part in (pairs, held_out) if part)


def load_data(config: Config, content: str = "") -> tuple[Pairs, Pairs | None]:
    """The pairs to train on, and those of the held-out patients (None if holdout is 0).

    content: what `content_of` said of them before. Raises ValueError, or FileNotFoundError, for
    data that cannot be used, or that have changed.
    """
    network(config, config.seed)  # raises for a size that it cannot take, before anything is read
    if config.data == "phantom":
        pairs = phantoms(config.pairs, config.size, config.seed)
    else:
        pairs = PairFolder(config.data, config.size)
    known, held_out = pairs, None
    if config.holdout:
        try:
            known, held_out = split(pairs, (1 - config.holdout, config.holdout), config.seed)
        except ValueError as error:
            raise ValueError(f"{error}, or give --holdout 0") from error
    if content not in ("", content_of(config, known, held_out)):
        problem = f"the pairs in {config.data} have changed since the run was trained on them"
        raise ValueError(f"{problem}; restore them, or train again")
    return known, held_out


def check_room(config: Config) -> None:
    """Raise ValueError if memory is too short for the deformed pairs."""
    height, width = config.size
    needed = 15 * config.deformed * height * width  # bytes, while they are joined
    if needed and needed > (free := free_memory(torch.device("cpu"))):
        size = f"{config.deformed:,} deformed pairs of {height}x{width}"
        room = f"{needed / 1e9:.1f} GB, and {free / 1e9:.1f} are free"
        raise ValueError(f"{size} need {room}; give a smaller --deformed")
