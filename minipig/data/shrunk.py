"""Lesions made smaller: what is left of them, and at which size they would survive."""

import numpy as np
from PIL import Image
from scipy import ndimage

from minipig.data.images import fit_mask, place_of


def share_kept(mask: np.ndarray, small: np.ndarray) -> float:
    """The share of a lesion's area that is left in `small`, the mask fitted into another size."""
    scale = min(new / old for new, old in zip(small.shape, mask.shape))
    return float(small.sum() / (mask.sum() * scale**2))


class Shrunk:
    """Counts what masks lose that are fitted into `size` (height, width); None: nothing."""

    def __init__(self, size: tuple[int, int] | None):
        self.size = size
        self.lost = 0  # lesions of which nothing is left
        self.worn: list[tuple[int, int]] = []  # for each that loses half: the size that keeps it
        self.specks: list[int] = []  # lesions lost of each mask that keeps others

    def count(self, mask: np.ndarray, small: np.ndarray) -> None:
        """Take a mask (H, W) bool, and the same in this size."""
        self.lost += bool(mask.any() and not small.any())
        if small.any() and share_kept(mask, small) < 0.5:
            self.worn.append(survives(mask, self.size))
        if self.size and small.any() and (lost := lesions_lost(mask, small)):
            self.specks.append(lost)

    def notes(self, n: int) -> list[str]:
        """What the user should know of n masks."""
        if self.size is None:
            return []
        at, notes = by(self.size), []
        if self.lost:
            small = f"{self.lost} of {n} masks are too small to be seen at {at}"
            notes.append(f"{small}; raise the size")
        if self.worn:
            lose = f"{len(self.worn)} of {n} masks lose more than half of their area at {at}"
            notes.append(f"{lose}; raise the size: {by(max(self.worn))} would keep more")
        if self.specks:
            some = f"{sum(self.specks)} lesions of {len(self.specks)} masks that have several"
            notes.append(f"{some} are too small to be seen at {at}; raise the size")
        return notes


def lesions_lost(mask: np.ndarray, small: np.ndarray) -> int:
    """How many separate lesions of a mask have no pixel in `small`, the mask in another size."""
    lesions, count = ndimage.label(mask)
    if count < 2:
        return 0
    seen = Image.fromarray(small[place_of(mask.shape, small.shape)])
    seen = np.asarray(seen.resize(mask.shape[::-1], Image.Resampling.NEAREST))
    return count - np.count_nonzero(np.unique(lesions[seen]))


def survives(mask: np.ndarray, size: tuple[int, int]) -> tuple[int, int]:
    """The size, doubled until it keeps half of the mask's area or is no smaller than the file."""
    smaller = size[0] < mask.shape[0] or size[1] < mask.shape[1]
    if smaller and share_kept(mask, fit_mask(mask, size)) < 0.5:
        return survives(mask, (2 * size[0], 2 * size[1]))
    return size


def by(size: tuple[int, int]) -> str:
    """Height by width, as text."""
    return f"{size[0]}x{size[1]}"
