"""Pairs of lesion mask and slice: folders of PNGs in and out, and splits that keep a patient on one side.

A folder holds `images/` and `masks/` with equal file names, and may hold a `manifest.csv` with the columns `name,patient`.
"""

import csv
import hashlib
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Iterable

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor
from tqdm import tqdm

SUFFIXES = {".png", ".tif", ".tiff", ".bmp", ".pgm", ".jpg", ".jpeg"}


@dataclass
class Pairs:
    """N pairs in memory. masks: (N, 1, H, W) bool; images: (N, 1, H, W) float32 in [-1, 1]; a name and a patient each.

    `pairs[i]` with a slice or a list or tensor of indices gives the tensors a network is trained on: (x0 in ±1, y0).
    """

    masks: Tensor
    images: Tensor
    names: list[str]
    patients: list[str]
    notes: list[str] = field(default_factory=list)  # what a reader should know: empty masks, downscaled lesions

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
        return Pairs(masks, images, self.names + other.names, self.patients + other.patients, self.notes + other.notes)

    def save(self, root: str | Path) -> None:
        """Write 8-bit PNGs into root/images and root/masks, and add the rows to root/manifest.csv, last."""
        root = Path(root)
        for part in ("images", "masks"):
            (root / part).mkdir(parents=True, exist_ok=True)
        grey = ((self.images[:, 0] + 1) * 127.5).round().clamp(0, 255).byte().numpy()
        for name, mask, image in zip(self.names, self.masks[:, 0].numpy(), grey):
            Image.fromarray(image).save(root / "images" / name)
            Image.fromarray(mask.astype(np.uint8) * 255).save(root / "masks" / name)
        manifest = root / "manifest.csv"
        fresh = not manifest.exists()
        with manifest.open("a", newline="") as file:
            rows = csv.writer(file)
            rows.writerows([("name", "patient")] if fresh else [])
            rows.writerows(zip(self.names, self.patients))


class PairFolder(Pairs):
    """All pairs under `root`, checked and read into memory at `size` (height, width); None keeps the files' own size.

    Images: 8 or 16 bit, grey or colour; masks: files of the same name with at most two values, lesion the larger one.
    A mask of one value is empty if that value is 0 and full otherwise; both are allowed and told in `notes`. Patients come
    from manifest.csv, else each name is its own patient. Raises FileNotFoundError, or ValueError that names the file.
    """

    def __init__(self, root: str | Path, size: tuple[int, int] | None = None):
        root = Path(root)
        images, masks = _listing(root / "images"), _listing(root / "masks")
        for name in sorted(images.keys() ^ masks.keys()):
            has, lacks = ("images", "masks") if name in images else ("masks", "images")
            raise ValueError(f"{root}/{has}/{name} has no partner {root}/{lacks}/{name}; add it, or take {name} away")
        if not images:
            raise ValueError(f"{root}/images and {root}/masks hold no pairs; a pair is two files of one name, one in each")

        patients = _patients(root / "manifest.csv", list(images))
        pixels, truths = [], []
        for name in tqdm(images, desc=f"reading {root.name}", disable=None):
            image, mask = _read_image(images[name]), _read_mask(masks[name])
            if image.shape != mask.shape:
                raise ValueError(f"{images[name]} is {_by(image)} but {masks[name]} is {_by(mask)} (height x width)")
            if size is None and pixels and image.shape != pixels[0].shape:
                raise ValueError(f"{images[name]} is {_by(image)}, the first image {_by(pixels[0])}; give one size for all")
            pixels.append(_fit(image, size, fill=image.min()))
            truths.append(_fit(mask.astype(np.float32), size, fill=0) >= 0.5)

        masks, images_ = np.stack(truths)[:, None], np.stack(pixels)[:, None]
        super().__init__(torch.from_numpy(masks), torch.from_numpy(images_ * 2 - 1), list(images), patients)
        for count, what in ((sum(not m.any() for m in masks), "empty"), (sum(m.all() for m in masks), "full")):
            self.notes += [f"{count} of {len(self)} masks are {what} at {_by(masks[0, 0])}"] if count else []


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
    return [sorted(set(roots)).index(root) for root in roots]


def _listing(folder: Path) -> dict[str, Path]:
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder} is not a folder; pairs are expected in images/ and masks/ with equal file names")
    return {p.name: p for p in sorted(folder.iterdir()) if p.suffix.lower() in SUFFIXES}


def _patients(manifest: Path, names: list[str]) -> list[str]:
    if not manifest.exists():
        return names
    with manifest.open(newline="", encoding="utf-8-sig") as file:
        rows = csv.DictReader(file)
        if not {"name", "patient"} <= set(rows.fieldnames or ()):
            raise ValueError(f"{manifest} has the columns {rows.fieldnames}; it needs name and patient")
        patient = {row["name"]: row["patient"] for row in rows}
    for name in names:
        if not patient.get(name):
            raise ValueError(f"{manifest} names no patient for {name}; add the row {name},PATIENT or remove the manifest")
    return [patient[name] for name in names]


def _open(path: Path) -> Image.Image:
    try:
        with Image.open(path) as image:
            image.load()
    except (UnidentifiedImageError, OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise ValueError(f"{path} cannot be read as an image ({error}); replace the file") from error
    return image


def _read_image(path: Path) -> np.ndarray:
    """(H, W) float32 in [0, 1]: 8 bit over 255, 16 bit over 65535, colour by its luminance."""
    image = _open(path)
    if image.mode.startswith("I"):  # 16 bit arrives as I;16 or, from PGM, as 32-bit integers
        return np.asarray(image).astype(np.float32) / 65535
    return np.asarray(image.convert("L")).astype(np.float32) / 255


def _read_mask(path: Path) -> np.ndarray:
    """(H, W) bool, True on the lesion."""
    image = _open(path)
    values = np.asarray(image if image.mode in ("1", "L") or image.mode.startswith("I") else image.convert("L"))
    levels = np.unique(values)
    if len(levels) > 2:
        some = ", ".join(str(v) for v in levels[:5]) + (", ..." if len(levels) > 5 else "")
        raise ValueError(f"{path} has {len(levels)} values ({some}); a mask must hold two: threshold it first")
    return values == levels[-1] if levels[-1] > 0 else np.zeros(values.shape, bool)


def _fit(image: np.ndarray, size: tuple[int, int] | None, fill: float) -> np.ndarray:
    """Resize (area average or bicubic) to fit into `size` with the aspect kept, centred, the rest `fill`. float32."""
    if size is None:
        return image
    scale = min(size[0] / image.shape[0], size[1] / image.shape[1])
    height, width = (max(1, round(side * scale)) for side in image.shape)
    method = Image.Resampling.BOX if scale <= 1 else Image.Resampling.BILINEAR
    small = np.asarray(Image.fromarray(image.astype(np.float32)).resize((width, height), method))
    top, left = (size[0] - height) // 2, (size[1] - width) // 2
    canvas = np.full(size, fill, np.float32)
    canvas[top : top + height, left : left + width] = small
    return canvas


def _by(array: np.ndarray) -> str:
    return f"{array.shape[0]}x{array.shape[1]}"
