"""Classical augmentation: training pairs flipped, shifted, rotated, stretched, bent, and relit.

The baseline without a generator, or more for a generator to learn from (--deformed). Mask and slice
get the same deformation (its elastic part is that of Simard et al. 2003); the grey levels change in
the slice alone. Pixels from outside the image repeat its border.
"""

import numpy as np
import torch
from scipy import ndimage

from minipig.data.heartbeat import watched
from minipig.data.pairs import Pairs

# largest rotation (degrees), stretch, and shift (share of the width)
TURN, STRETCH, SHIFT = 15.0, 0.1, 0.06
# elastic shift: its root mean square, and the length over which it varies, as shares of the width
BEND, ROUGH = 0.03, 0.12
CONTRAST, BRIGHTNESS, GAMMA = 0.15, 0.08, 0.15  # largest changes
DEFORMED = "classical_"  # how the names of deformed pairs begin


def with_deformed(pairs: Pairs, n: int, seed: int, flip: int | None) -> Pairs:
    """The pairs, and n deformed ones; see `augment`."""
    return pairs + augment(pairs, n, seed, flip) if n else pairs


def augment(pairs: Pairs, n: int, seed: int, flip: int | None) -> Pairs:
    """n new pairs; pair i is a deformed copy of pair i modulo their number.

    flip: the axis along which half of them are mirrored, -2 up-down, -1 left-right; None: no copy
    is mirrored, and the rest is the same.
    """
    masks, images = [], []
    for i in watched(range(n), "deforming pairs"):
        k = i % len(pairs)
        rng = np.random.default_rng([seed, i])
        places = deformation(rng, pairs.size)
        mask = pairs.masks[k, 0].numpy().astype(np.float32)
        image = (pairs.images[k, 0].numpy() + 1) / 2
        if rng.random() < 0.5 and flip is not None:
            mask = np.flip(mask, flip)
            image = np.flip(image, flip)
        masks.append(ndimage.map_coordinates(mask, places, order=1, mode="nearest") > 0.5)
        bent = ndimage.map_coordinates(image, places, order=3, mode="nearest")
        gain, offset, gamma = (rng.uniform(-a, a) for a in (CONTRAST, BRIGHTNESS, GAMMA))
        lit = (1 + gain) * np.clip(bent, 0, 1) ** np.exp(gamma) + offset * (bent > 0.02)
        images.append((2 * np.clip(lit, 0, 1) - 1).astype(np.float32))
    names = [f"{DEFORMED}{i:05d}.png" for i in range(n)]
    patients = [pairs.patients[i % len(pairs)] for i in range(n)]
    masks, images = (torch.from_numpy(np.stack(part)[:, None]) for part in (masks, images))
    return Pairs(masks, images, names, patients)


def deformation(rng: np.random.Generator, size: tuple[int, int]) -> np.ndarray:
    """The place in the original of each new pixel, (2, H, W) in pixels: affine, then elastic."""
    height, width = size
    centre = np.array([[[(height - 1) / 2]], [[(width - 1) / 2]]])
    angle = np.radians(rng.uniform(-TURN, TURN))
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    stretch = np.diag(1 + rng.uniform(-STRETCH, STRETCH, 2))
    places = np.einsum("ij,jhw->ihw", turn @ stretch, np.mgrid[0:height, 0:width] - centre) + centre
    sigma = (0, ROUGH * width, ROUGH * width)
    bend = ndimage.gaussian_filter(rng.normal(size=(2, height, width)), sigma, mode="wrap")
    return places + rng.uniform(-SHIFT, SHIFT, (2, 1, 1)) * width + bend / bend.std() * BEND * width
