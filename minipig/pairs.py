"""Pairs of lesion mask and slice in memory: chosen, joined, written as PNG, and split with a patient on one side."""

import csv
import hashlib
import io
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Iterable

import numpy as np
import torch
from torch import Tensor

from .files import write_atomically, write_png


@dataclass
class Pairs:
    """N pairs in memory. masks: (N, 1, H, W) bool; images: (N, 1, H, W) float32 in [-1, 1]; a name and a patient each.

    `pairs[i]` with a slice or a list or tensor of indices gives the tensors a network is trained on: (x0 in ±1, y0).
    """

    masks: Tensor
    images: Tensor
    names: list[str]
    patients: list[str]
    notes: list[str] = field(default_factory=list)  # what a reader should know: empty masks, lesions lost in resizing

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index) -> tuple[Tensor, Tensor]:
        return torch.where(self.masks[index], 1.0, -1.0), self.images[index]

    @property
    def size(self) -> tuple[int, int]:
        """Height and width."""
        return tuple(self.images.shape[2:])

    def subset(self, index: Iterable[int]) -> "Pairs":
        """The pairs at `index`, in that order."""
        index = list(index)
        names, patients = [self.names[i] for i in index], [self.patients[i] for i in index]
        return Pairs(self.masks[index], self.images[index], names, patients, self.notes)

    def __add__(self, other: "Pairs") -> "Pairs":
        masks, images = torch.cat([self.masks, other.masks]), torch.cat([self.images, other.images])
        notes = list(dict.fromkeys(self.notes + other.notes))  # parts of one folder share theirs
        return Pairs(masks, images, self.names + other.names, self.patients + other.patients, notes)

    def save(self, root: str | Path) -> None:
        """Write 8-bit PNGs into root/images and root/masks, then add their rows to root/manifest.csv, in one move."""
        root = Path(root)
        grey = ((self.images[:, 0] + 1) * 127.5).round().clamp(0, 255).byte().numpy()
        for name, mask, image in zip(self.names, self.masks[:, 0].numpy(), grey):
            write_png(root / "images" / name, image)
            write_png(root / "masks" / name, mask.astype(np.uint8) * 255)
        manifest = root / "manifest.csv"
        table = io.StringIO(manifest.read_text(encoding="utf-8") if manifest.exists() else "name,patient\n")
        table.seek(0, io.SEEK_END)
        csv.writer(table, lineterminator="\n").writerows(zip(self.names, self.patients))
        write_atomically(manifest, table.getvalue().encode())

    def fingerprint(self) -> str:
        """A hash of names, masks and images: equal for equal data."""
        digest = hashlib.sha256("\n".join(self.names).encode())
        for part in (self.masks, self.images):
            digest.update(part.contiguous().numpy().tobytes())
        return digest.hexdigest()


def split(pairs: Pairs, fractions: tuple[float, ...], seed: int = 0) -> list[Pairs]:
    """Parts of about `fractions` of the pairs each, so that no patient and no identical image is in two of them.

    Groups are shuffled by `seed` and dealt, the largest need first. Raises ValueError if there are fewer groups than parts.
    """
    group = groups(pairs)
    sizes = Counter(group)
    if len(sizes) < len(fractions):
        raise ValueError(
            f"cannot split {len(pairs)} pairs of {len(sizes)} patient(s) into {len(fractions)} parts: a patient stays on one "
            "side. Add patients, correct the patient column of manifest.csv, or hold nothing out (--holdout 0)"
        )
    order = sorted(sizes)
    np.random.default_rng(seed).shuffle(order)
    want, parts = [f * len(pairs) for f in fractions], [[] for _ in fractions]
    for i, g in enumerate(order):
        empty = [k for k, part in enumerate(parts) if not part]
        short = empty if len(order) - i <= len(empty) else range(len(parts))  # the last groups go where there are none
        k = max(short, key=lambda k: want[k])
        parts[k].append(g)
        want[k] -= sizes[g]
    return [pairs.subset(i for i, g in enumerate(group) if g in set(part)) for part in parts]


def groups(pairs: Pairs) -> list[int]:
    """For each pair the number of its group: pairs share one if they share a patient or an identical image."""
    leader: dict[str, str] = {}

    def find(key: str) -> str:
        while leader.setdefault(key, key) != key:
            key = leader[key]
        return key

    for patient, image in zip(pairs.patients, pairs.images):
        leader[find(hashlib.sha256(image.numpy().tobytes()).hexdigest())] = find("patient " + patient)
    roots = [find("patient " + patient) for patient in pairs.patients]
    number = {root: i for i, root in enumerate(sorted(set(roots)))}
    return [number[root] for root in roots]
