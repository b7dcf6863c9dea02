"""What a user should know of pairs that were read: nothing here is an error."""

from typing import Iterator

import numpy as np
from PIL import Image
from scipy import ndimage

from minipig.data.images import CHANNELS, fit_mask, place_of

DIM = 0.25  # of the largest possible value: all pixels of an image below it use two bits fewer
FEW = 7  # pixels: more of them without a block of 2x2 are a line, not a small lesion
GAIN = 0.1  # of their area, that lesions may gain or lose by resizing
NARROW = 0.08  # of the possible range, which nearly all pixels of an image lie in


class Doubts:
    """Counts what is doubtful in pairs; size: what they are fitted into, None: they are not."""

    def __init__(self, size: tuple[int, int] | None):
        self.size = size
        self.lost = self.thin = 0  # masks of which nothing, or a line one pixel wide, is left
        self.worn: list[tuple[int, int]] = []  # for each that loses half: the size that keeps it
        self.specks: list[int] = []  # lesions lost of each mask that keeps others
        self.before = self.after = 0.0  # the area of all lesions in pixels of this size
        self.shapes: set[tuple[int, ...]] = set()
        self.areas: list[float] = []  # of each mask as it is used, as a share of its slice
        self.coloured = self.blank = 0  # images that lose colours, or have one value
        self.dim: list[float] = []  # the brightest pixel of each image that has dim ones alone
        self.bright: list[float] = []  # the darkest pixel of each that has bright ones alone
        self.narrow: list[float] = []  # the range used by each image that uses little
        self.lows: set[float] = set()
        self.highs: set[float] = set()

    def see(
        self,
        image: np.ndarray,
        coloured: bool,
        mask: np.ndarray,
        small: np.ndarray,
        levels: list[np.ndarray],
    ) -> None:
        """Count a pair: image in [0, 1] and mask as read, if colours are lost, the mask as used.

        levels: the values of each of its masks of which the larger was taken for the lesion.
        """
        self.lost += bool(mask.any() and not small.any())
        if self.size:
            area = area_at(mask, self.size)
            self.before += area
            self.after += small.sum()
            if 0 < small.sum() < area / 2:
                self.worn.append(survives(mask, self.size))
            if small.any() and (lost := lesions_lost(mask, small)):
                self.specks.append(lost)
            blocks = ndimage.binary_erosion(small, np.ones((2, 2)))
            self.thin += bool(small.sum() > FEW and not blocks.any())
        self.shapes.add(small.shape)
        self.areas.append(float(small[place_of(mask.shape, small.shape)].mean()))  # no padding
        self.coloured += coloured
        self.blank += bool(image.min() == image.max())
        if 0 < image.max() < DIM:  # a black one is blank, and nothing else
            self.dim.append(float(image.max()))
        elif 0 < (used := span(image)) < NARROW:
            self.narrow.append(used)
        elif used and image.min() > 1 - DIM:
            self.bright.append(float(image.min()))
        for values in levels:
            if len(values) == 2:
                self.lows.add(float(values[0]))
                self.highs.add(float(values[1]))

    def notes(self) -> Iterator[str]:
        """Each doubt as a sentence with its remedy."""
        n = len(self.areas)
        at = f" at {by(*self.shapes)}" if len(self.shapes) == 1 else ""
        if empty := self.areas.count(0) - self.lost:
            remedy = "; correct --threshold or --label of minipig prepare" if empty == n else ""
            yield f"{empty} of {n} masks are empty{at}{remedy}"
        if full := self.areas.count(1):
            yield f"{full} of {n} masks are full{at}"
        if over := sum(area > 0.5 for area in self.areas) - full:
            wrong = "if they are inverted, give minipig prepare --invert"
            yield f"{over} of {n} masks cover more than half{at}; {wrong}"
        if both := sorted(self.lows & self.highs):
            differ = f"the value {both[0]:g} is lesion in some masks and background in others"
            yield f"{differ}; give minipig prepare --label or --threshold"
        if self.lost:
            yield f"{self.lost} of {n} masks are too small to be seen{at}; raise the size"
        if self.worn:
            lose = f"{len(self.worn)} of {n} masks lose more than half of their area{at}"
            yield f"{lose}; raise the size: {by(max(self.worn))} would keep more"
        if self.specks:
            some = f"{sum(self.specks)} lesions of {len(self.specks)} masks that have several"
            yield f"{some} are too small to be seen{at}; raise the size"
        if self.thin:
            lesions = f"the lesions of {self.thin} of {n} masks"
            yield f"{lesions} are at most one pixel wide{at}; raise the size"
        if self.after and abs(gain := self.after / self.before - 1) > GAIN:
            change = f"{'gain' if gain > 0 else 'lose'} {abs(gain):.0%} of their area{at}"
            yield f"all lesions together {change}, as details are merged or lost; raise the size"
        if self.coloured:
            grey = f"{self.coloured} of {n} images are in colour and become grey (luminance)"
            yield f"{grey}; minipig prepare --channel {'|'.join(CHANNELS)} takes one channel"
        if self.dim:
            share = f"the brightest pixel is at most {max(self.dim):.1%} of the largest possible"
            remedy = "rescale files of fewer bits, such as 12 bits stored as 16"
            yield f"in {len(self.dim)} of {n} images {share} value; {remedy}"
        if self.bright:
            share = f"the darkest pixel is at least {min(self.bright):.1%} of the largest possible"
            remedy = "rescale files of fewer bits, such as 14 bits stored as 16"
            yield f"in {len(self.bright)} of {n} images {share} value; {remedy}"
        if self.narrow:
            share = f"nearly all pixels lie within {max(self.narrow):.1%} of the possible range"
            remedy = "a marker or an offset may be why: cut it off, and rescale"
            yield f"in {len(self.narrow)} of {n} images {share}; {remedy}"
        if self.blank:
            yield f"{self.blank} of {n} images have one grey value everywhere; remove them"


def span(image: np.ndarray) -> float:
    """The range that 98 % of the pixels lie in, from some of them."""
    every = max(1, min(image.shape) // 64)
    return float(np.subtract(*np.percentile(image[::every, ::every], (99, 1))))


def area_at(mask: np.ndarray, size: tuple[int, int]) -> float:
    """The area of a lesion in pixels of another size, which its mask is fitted into."""
    return mask.sum() * min(new / old for new, old in zip(size, mask.shape)) ** 2


def lesions_lost(mask: np.ndarray, small: np.ndarray) -> int:
    """How many separate lesions of a mask have no pixel in `small`, the mask in another size."""
    lesions, count = ndimage.label(mask, np.ones((3, 3)))  # pixels touch by a corner, too
    if count < 2:
        return 0
    seen = Image.fromarray(small[place_of(mask.shape, small.shape)])
    seen = np.asarray(seen.resize(mask.shape[::-1], Image.Resampling.NEAREST))
    return count - np.count_nonzero(np.unique(lesions[seen]))


def survives(mask: np.ndarray, size: tuple[int, int]) -> tuple[int, int]:
    """The size, doubled until it keeps half of the mask's area or is no smaller than the file."""
    smaller = size[0] < mask.shape[0] or size[1] < mask.shape[1]
    if smaller and fit_mask(mask, size).sum() < area_at(mask, size) / 2:
        return survives(mask, (2 * size[0], 2 * size[1]))
    return size


def by(size: tuple[int, int]) -> str:
    """Height by width, as text."""
    return f"{size[0]}x{size[1]}"
