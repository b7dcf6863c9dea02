"""Classical augmentation: each training pair flipped, shifted, turned, stretched, bent, and lit anew.

The yardstick that needs no generator at all. Mask and slice go through one and the same deformation (Simard et al. 2003 for
the elastic part); grey levels change in the slice alone. What comes from outside the frame is the nearest pixel.
"""

import numpy as np
import torch
from scipy import ndimage

from ..pairs import Pairs

TURN, STRETCH, SHIFT = 15.0, 0.1, 0.06  # degrees; share; share of the side: the largest of each
BEND, ROUGH = 0.03, 0.12  # root mean square of the elastic shift, and the length over which it varies, as shares of the side
CONTRAST, BRIGHTNESS, GAMMA = 0.15, 0.08, 0.15  # the largest change of each


def augment(pairs: Pairs, n: int, seed: int, flip: int) -> Pairs:
    """n new pairs: pair i is a deformed copy of pair i modulo their number. flip: the axis along which half of them are
    mirrored, -2 up and down, -1 left and right; one under which the data look alike."""
    masks, images = [], []
    for i in range(n):
        k, rng = i % len(pairs), np.random.default_rng([seed, i])
        places = deformation(rng, pairs.size)
        mask, image = pairs.masks[k, 0].numpy().astype(np.float32), (pairs.images[k, 0].numpy() + 1) / 2
        if rng.random() < 0.5:
            mask, image = np.flip(mask, flip), np.flip(image, flip)
        masks.append(ndimage.map_coordinates(mask, places, order=1, mode="nearest") > 0.5)
        bent = ndimage.map_coordinates(image, places, order=3, mode="nearest")
        gain, offset, gamma = (rng.uniform(-a, a) for a in (CONTRAST, BRIGHTNESS, GAMMA))
        images.append(2 * np.clip((1 + gain) * np.clip(bent, 0, 1) ** np.exp(gamma) + offset * (bent > 0.02), 0, 1) - 1)
    names = [f"classical_{i:05d}.png" for i in range(n)]
    patients = [pairs.patients[i % len(pairs)] for i in range(n)]
    masks, images = (torch.from_numpy(np.stack(part)[:, None]) for part in (masks, images))
    return Pairs(masks, images.float(), names, patients)


def deformation(rng: np.random.Generator, size: tuple[int, int]) -> np.ndarray:
    """For each pixel of the result the place in the original that it shows, (2, H, W) in pixels: affine, then elastic."""
    height, width = size
    centre = np.array([[[(height - 1) / 2]], [[(width - 1) / 2]]])
    angle = np.radians(rng.uniform(-TURN, TURN))
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    stretch = np.diag(1 + rng.uniform(-STRETCH, STRETCH, 2))
    places = np.einsum("ij,jhw->ihw", turn @ stretch, np.mgrid[0:height, 0:width] - centre) + centre
    bend = ndimage.gaussian_filter(rng.normal(size=(2, height, width)), (0, ROUGH * width, ROUGH * width), mode="wrap")
    return places + rng.uniform(-SHIFT, SHIFT, (2, 1, 1)) * width + bend / bend.std() * BEND * width
