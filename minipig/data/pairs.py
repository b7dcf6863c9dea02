"""Pairs of lesion mask and slice in memory: select, join, save, and split by patient."""

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

from minipig.data.files import write_atomically, write_png

ODD = "surrogateescape"  # names of files that are not UTF-8 keep their bytes


@dataclass
class Pairs:
    """N pairs: masks (N, 1, H, W) bool, images (N, 1, H, W) float32 in [-1, 1], names, patients.

    `pairs[i]`, where i is a slice or a list or tensor of indices, gives what networks are trained
    on: (x0 in ±1, y0). notes: what the user should know, such as empty masks. sources: what each
    image is known by, whatever its size: a hash of its file's pixels, or the name of a phantom.
    """

    masks: Tensor
    images: Tensor
    names: list[str]
    patients: list[str]
    notes: list[str] = field(default_factory=list)
    sources: list[str] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index) -> tuple[Tensor, Tensor]:
        return torch.where(self.masks[index], 1.0, -1.0), self.images[index]

    @property
    def counted(self) -> str:
        """How many pairs of how many patients, which are unknown if nobody has named them."""
        if self.patients == self.names:
            return f"{len(self)} pairs of unknown patients (each counts as one of its own)"
        return f"{len(self)} pairs of {len(set(self.patients))} patients"

    @property
    def size(self) -> tuple[int, int]:
        """Height and width."""
        return tuple(self.images.shape[2:])

    def subset(self, index: Iterable[int]) -> "Pairs":
        """Select the pairs at `index`, in that order."""
        index = list(index)
        names = [self.names[i] for i in index]
        patients = [self.patients[i] for i in index]
        sources = [self.sources[i] for i in index] if self.sources else []
        return Pairs(self.masks[index], self.images[index], names, patients, self.notes, sources)

    def __add__(self, other: "Pairs") -> "Pairs":
        masks = torch.cat([self.masks, other.masks])
        images = torch.cat([self.images, other.images])
        names, patients = self.names + other.names, self.patients + other.patients
        notes = list(dict.fromkeys(self.notes + other.notes))  # parts of one folder share notes
        told = self.sources or other.sources
        sources = self.known_by() + other.known_by() if told else []
        return Pairs(masks, images, names, patients, notes, sources)

    def save(self, root: str | Path) -> None:
        """Write 8-bit PNGs to root/images and root/masks, then add them to root/manifest.csv.

        Raises ValueError, with nothing written, if that table does not begin with the columns name
        and patient.
        """
        root = Path(root)
        manifest = root / "manifest.csv"
        old = rows_before(manifest)
        grey = ((self.images[:, 0] + 1) * 127.5).round().clamp(0, 255).byte().numpy()
        for name, mask, image in zip(self.names, self.masks[:, 0].numpy(), grey):
            write_png(root / "images" / name, image)
            write_png(root / "masks" / name, mask.astype(np.uint8) * 255)
        rows = io.StringIO()
        csv.writer(rows, lineterminator="\n").writerows(zip(self.names, self.patients))
        write_atomically(manifest, (old + rows.getvalue()).encode(errors=ODD))

    def known_by(self) -> list[str]:
        """The sources, or a hash of each image: equal for equal images."""
        return self.sources or [hash_of(image.numpy()) for image in self.images]

    def fingerprint(self) -> str:
        """Hash of names, masks and images: equal for equal data."""
        digest = hashlib.sha256("\n".join(self.names).encode(errors=ODD))
        for part in (self.masks, self.images):
            digest.update(part.contiguous().numpy().tobytes())
        return digest.hexdigest()


def rows_before(manifest: Path) -> str:
    """The lines of a manifest that more can be added to. Raises ValueError for other columns."""
    if not manifest.exists():
        return "name,patient\n"
    text = manifest.read_text(encoding="utf-8", errors=ODD)
    columns = next(csv.reader(text.lstrip("\ufeff").splitlines()), [])
    if columns[:2] != ["name", "patient"]:
        found = ",".join(columns) or "none"
        problem = f"{manifest} has the columns {found}, and must begin with name,patient"
        raise ValueError(f"{problem}; correct it, or give a new folder")
    return text if text.endswith("\n") else text + "\n"


def hash_of(image: np.ndarray) -> str:
    """A short hash of an image's pixels and shape."""
    form = f"{image.shape} {image.dtype} ".encode()
    return hashlib.sha256(form + image.tobytes()).hexdigest()[:16]


def split(pairs: Pairs, fractions: tuple[float, ...], seed: int = 0) -> list[Pairs]:
    """Split into parts of about `fractions`; no patient and no identical image is in two parts.

    Groups are shuffled by `seed`; each goes to the part that lacks most pairs. If a part is then
    off by more than a twentieth of all pairs, or three tenths of the smallest part, the groups are
    dealt again, the largest first; if it is off even so, there is a note. Raises ValueError if
    there are fewer groups than parts.
    """
    group = groups(pairs)
    sizes = Counter(group)
    if len(sizes) < len(fractions):
        count = f"{len(pairs)} pairs of {len(sizes)} patient(s) into {len(fractions)} parts"
        remedy = "add patients, or correct the patient column of manifest.csv"
        why = "each part needs its own patients, and equal images count as one patient's"
        raise ValueError(f"cannot split {count}: {why}; {remedy}")
    order = sorted(sizes)
    np.random.default_rng(seed).shuffle(order)
    want = [f * len(pairs) for f in fractions]
    most = min(0.05, 0.3 * min(fractions))

    def off(parts: list[set[int]]) -> float:
        """How far the worst part is from what it should be, as a share of all pairs."""
        return max(abs(w - sum(sizes[g] for g in p)) for w, p in zip(want, parts)) / len(pairs)

    parts = deal(order, sizes, want)
    if off(parts) > most:
        largest_first = deal(sorted(order, key=lambda g: -sizes[g]), sizes, want)
        parts = min(parts, largest_first, key=off)
    found = [pairs.subset(i for i, g in enumerate(group) if g in part) for part in parts]
    if off(parts) > most:
        shares = " and ".join(f"{len(part) / len(pairs):.0%}" for part in found)
        asked = " and ".join(f"{fraction:.0%}" for fraction in fractions)
        why = "too few patients, or of unequal size"
        note = f"{why}: the parts hold {shares} of the pairs, not {asked}"
        for part in found:
            part.notes = [*part.notes, note]
    return found


def deal(order: list[int], sizes: Counter, want: list[float]) -> list[set[int]]:
    """Deal groups in this order, each to the part that lacks most pairs; no part stays empty."""
    want = list(want)
    parts = [set() for _ in want]
    for i, g in enumerate(order):
        empty = [k for k, part in enumerate(parts) if not part]
        # the last groups go to empty parts, so that none stays empty
        choice = empty if len(order) - i <= len(empty) else range(len(parts))
        k = max(choice, key=lambda k: want[k])
        parts[k].add(g)
        want[k] -= sizes[g]
    return parts


def groups(pairs: Pairs) -> list[int]:
    """Number the group of each pair; pairs of one patient or with identical images share a group.

    A union-find: `leader` links patients and images to others of their group. Blank images, of one
    grey value, link nobody.
    """
    leader: dict[str, str] = {}

    def find(key: str) -> str:
        while leader.setdefault(key, key) != key:
            key = leader[key]
        return key

    keys = ["patient " + patient for patient in pairs.patients]
    blank = (pairs.images.amin((1, 2, 3)) == pairs.images.amax((1, 2, 3))).tolist()
    for key, image, empty in zip(keys, pairs.images, blank):
        if not empty:
            leader[find(hash_of(image.numpy()))] = find(key)
    roots = [find(key) for key in keys]
    number = {root: i for i, root in enumerate(sorted(set(roots)))}
    return [number[root] for root in roots]
