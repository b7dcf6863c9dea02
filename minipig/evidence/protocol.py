"""The paper's Sec. 3.1 as plain values: the data, five folds of patients, and how long everything is trained."""

from dataclasses import asdict, dataclass

import numpy as np

from ..data import PairFolder
from ..pairs import Pairs, split
from ..phantoms import phantoms
from ..run import SETTINGS, require


@dataclass(frozen=True)
class Protocol:
    """Everything that decides the tables. data: "phantom", or a folder of real pairs; pairs: how many phantoms are "real".

    The phantoms, their number, the segmenter and its training were fixed by freeze.py before any generator was compared.
    """

    data: str = "phantom"
    pairs: int = 500
    size: tuple[int, int] = (32, 32)
    folds: int = 5
    seed: int = 0
    # generators: every network alike, deformed: from so many classical deformations too; synthetic: pairs of each for Table 2
    preset: str = "cpu"
    steps: int = SETTINGS["cpu"]["steps"]
    batch: int = SETTINGS["cpu"]["batch"]
    rate: float = SETTINGS["cpu"]["rate"]
    deformed: int = 0
    synthetic: int = 2048
    # segmenters
    segmenter_steps: int = 300
    segmenter_batch: int = 32
    segmenter_rate: float = 1e-2
    segmenter_seeds: int = 2
    # measurement
    measured: int = 512  # samples of each method in Table 1
    reference: int = 4096  # fresh phantoms, each of another patient, that they are compared with
    test: int = 2000  # fresh phantoms that every segmenter is tested on, besides its fold's patients
    judge_pairs: int = 8000
    judge_steps: int = 1500
    judge_seed: int = 0

    def __post_init__(self):
        counts = {name: value for name, value in asdict(self).items() if isinstance(value, int)}
        require(0, **{name: counts.pop(name) for name in ("seed", "deformed", "judge_seed")})
        require(2, **{name: counts.pop(name) for name in ("folds", "measured", "reference", "synthetic")})
        require(1, **counts)

    @property
    def phantom(self) -> bool:
        """Whether the data are phantoms, whose true law is at hand."""
        return self.data == "phantom"

    @property
    def mirror_axis(self) -> int:
        """A mirror under which the data look alike: up and down for phantoms, whose chest wall is on the left."""
        return -2 if self.phantom else -1


@dataclass(frozen=True, eq=False)
class Fold:
    """One fold: all that its methods may learn from, and what they are tested on."""

    number: int
    train: Pairs
    test: Pairs


def folds_of(protocol: Protocol) -> list[Fold]:
    """The folds, each tested on what the others learn from: no patient and no identical image is on both sides.

    Raises ValueError if the data are too few for that.
    """
    if protocol.phantom:
        pairs = phantoms(protocol.pairs, protocol.size, protocol.seed)
    else:
        pairs = PairFolder(protocol.data, protocol.size)
        mixed = np.random.default_rng(protocol.seed).permutation(len(pairs))  # a folder goes patient by patient,
        pairs = pairs.subset(mixed.tolist())  # so its first pairs, or masks, would be those of a few
    if (patients := len(set(pairs.patients))) < protocol.folds:
        raise ValueError(f"{protocol.data}: {protocol.folds} folds need as many patients, not {patients}")
    parts = split(pairs, (1 / protocol.folds,) * protocol.folds, protocol.seed)
    if (fewest := min(map(len, parts))) < 2:
        raise ValueError(f"{protocol.data}: a fold has {fewest} pair to be tested on, of {len(pairs)}; it takes at least 2")
    rest = [sum(parts[:k] + parts[k + 1 :], start=pairs.subset([])) for k in range(len(parts))]
    return [Fold(k, train, test) for k, (train, test) in enumerate(zip(rest, parts))]
