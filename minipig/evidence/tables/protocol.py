"""The settings of the experiments in place of the paper's, and the five folds of patients."""

from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from minipig.data.checks import HELD_OUT, check_choice, check_counts, check_seed
from minipig.data.folder import PairFolder
from minipig.data.pairs import Pairs, split
from minipig.data.phantoms import phantoms
from minipig.schedule import SCHEDULES, Schedule
from minipig.training.config import SETTINGS

OLDER_PROTOCOL = {"schedule": "linear", "others": 0, "replica": False}  # not in older records
LOWEST = dict(seed=0, deformed=0, others=0, replica=0, judge_seed=0)
LOWEST |= dict(folds=2, measured=2, reference=2, synthetic=2)


@dataclass(frozen=True)
class Protocol:
    """Everything that decides the tables. data: "phantom", or a folder of real pairs.

    data_samples/results/phantom/freeze.py fixed the phantoms, their number and the segmenter's
    training before any generator was compared.
    """

    data: str = "phantom"
    pairs: int = 500  # phantoms used as the real set
    size: tuple[int, int] = (32, 32)
    folds: int = 5
    seed: int = 0
    # generators
    preset: str = "cpu"
    steps: int = SETTINGS["cpu"]["steps"]  # of each network
    batch: int = SETTINGS["cpu"]["batch"]
    rate: float = SETTINGS["cpu"]["rate"]
    deformed: int = 0  # classical deformations that the networks are also trained on
    others: int = 0  # further phantoms that the networks, but no segmenter, are trained on
    synthetic: int = 2048  # pairs of each generator in Table 2
    # segmenters
    segmenter_steps: int = 300
    segmenter_batch: int = 32
    segmenter_rate: float = 1e-2
    segmenter_seeds: int = 2
    # measurement
    measured: int = 512  # samples of each method in Table 1
    reference: int = 4096  # fresh phantoms, one a patient, that the samples are compared with
    test: int = 2000  # fresh phantoms that segmenters are tested on, besides the fold's patients
    replica: bool = False  # its fresh pairs and test phantoms are those of its seed alone
    judge_pairs: int = 8000
    judge_steps: int = 1500
    judge_seed: int = 0
    schedule: str = "linear"

    def __post_init__(self):
        for name, value in asdict(self).items():
            if isinstance(value, int):
                check_counts(LOWEST.get(name, 1), **{name: value})
        for name in ("rate", "segmenter_rate"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be above 0, not {getattr(self, name)}")
        if not self.phantom and Path(self.data).name == "phantom":
            raise ValueError(f"{self.data}: phantom names the built-in data; rename the folder")
        if self.others and not self.phantom:
            raise ValueError(f"others are phantoms, and cannot be added to {self.data}; give 0")
        check_choice("schedule", self.schedule, SCHEDULES)
        if self.phantom:
            check_seed(self.seed)
        most = dict(
            folds=len(HELD_OUT["table2-fresh"]), judge_seed=len(HELD_OUT["table1-judge"]) - 1
        )
        if self.replica or self.others:
            most["seed"] = len(HELD_OUT["map-test"]) - 1
        for name, high in most.items():
            if getattr(self, name) > high:
                given = f"{high}, not {getattr(self, name)}"
                raise ValueError(
                    f"{name} must be at most {given}: so many seeds are held out for it"
                )

    def written(self) -> dict:
        """The settings as written into JSON files: of the data folder, only its name."""
        return asdict(self) | {"data": Path(self.data).name}

    @property
    def noise_schedule(self) -> Schedule:
        """The noise schedule of that name."""
        return SCHEDULES[self.schedule]()

    @property
    def phantom(self) -> bool:
        """Whether the data are phantoms, of which fresh ones can be drawn."""
        return self.data == "phantom"

    @property
    def mirror_axis(self) -> int:
        """The axis to mirror slices along: up-down for phantoms, else left-right."""
        return -2 if self.phantom else -1  # a phantom's chest wall is on the left


@dataclass(frozen=True, eq=False)
class Fold:
    """One fold: the pairs that its methods are trained on, and those that they are tested on."""

    number: int
    train: Pairs
    test: Pairs


def folds_of(protocol: Protocol) -> list[Fold]:
    """The folds: no patient or identical image is on both sides. ValueError for too few data."""
    p = protocol
    if p.phantom:
        pairs = phantoms(p.pairs, p.size, p.seed)
    else:
        pairs = PairFolder(p.data, p.size)
        # a folder is sorted by patient: mixed, the first pairs of a fold come from many of them
        order = np.random.default_rng(p.seed).permutation(len(pairs))
        pairs = pairs.subset(order.tolist())
    patients = len(set(pairs.patients))
    if patients < p.folds:
        raise ValueError(f"{p.data}: {patients} patients are too few for {p.folds} folds; add some")
    parts = split(pairs, (1 / p.folds,) * p.folds, p.seed)
    fewest = min(map(len, parts))
    if fewest < 2:
        raise ValueError(f"{p.data}: a fold has {fewest} of {len(pairs)} pairs; it needs 2 or more")
    rest = [sum(parts[:k] + parts[k + 1 :], start=pairs.subset([])) for k in range(p.folds)]
    return [Fold(k, *both) for k, both in enumerate(zip(rest, parts))]
