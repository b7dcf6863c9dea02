"""Breast phantoms: the built-in data, random slices with a known mask.

A breast slice is a half-ellipse against the chest wall. Its glandular tissue is a random field
whose power spectrum falls as 1/f^3 (Burgess, Jacobson & Judy 2001, doi:10.1118/1.1355308). A mass
is a lobulated body about as bright as the brighter patches of the tissue, so it is hard to see, as
are the lesions of the paper's Fig. 1. The slices of one patient share the anatomy and cut the mass
at different depths.
"""

import numpy as np
import torch

from minipig.data.pairs import Pairs

SLICES = 4  # slices of each patient


def phantoms(
    n: int,
    size: tuple[int, int] = (32, 32),
    seed: int = 0,
    healthy: bool = False,
    slices: int = SLICES,
) -> Pairs:
    """Draw n pairs of `size` (height, width), `slices` of each patient (the last may have fewer).

    Patient p depends only on `seed` and p, so a larger n only appends pairs. healthy: draw the same
    breasts, with the same noise, without the mass; the masks are empty. slices: fewer than SLICES
    are the first of the SLICES; with 1 the pairs are independent. Raises ValueError if n < 1 or a
    side is below 16.
    """
    if n < 1 or min(size) < 16:
        problem = f"not {n=}, size {size[0]}x{size[1]}"
        raise ValueError(f"phantoms need n >= 1 and sides of at least 16 pixels, {problem}")
    drawn = []
    for p in range(-(-n // slices)):
        drawn += draw_patient(np.random.default_rng([seed, p]), size, healthy, slices)
    masks, images = (torch.from_numpy(np.stack(part)[:n, None]) for part in zip(*drawn))
    patients = [f"S{seed}P{i // slices:04d}" for i in range(n)]
    names = [f"{patient}_{i % slices}.png" for i, patient in enumerate(patients)]
    return Pairs(masks, images.float(), names, patients, sources=list(names))


def draw_patient(
    rng: np.random.Generator, size: tuple[int, int], healthy: bool = False, slices: int = SLICES
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Draw a patient's first slices as (mask bool, image in [-1, 1]), both (H, W)."""
    # u: distance from the chest wall; v: height above the centre; both in image widths
    height, width = size
    v, u = np.mgrid[0:height, 0:width] + 0.5
    u = u / width
    v = (v - height / 2) / width
    tall = height / width

    # the breast with semi-axes depth and half; inside: 1 mid chest wall, 0 on the skin
    depth, half = rng.uniform(0.65, 0.95), rng.uniform(0.36, 0.48) * tall
    centre = rng.uniform(-0.05, 0.05) * tall
    inside = 1 - np.hypot(u / depth, (v - centre) / half)
    breast = np.clip(inside * min(depth, half) * width / 1.5, 0, 1)
    gland = np.exp(-(((u - 0.4 * depth) / (0.5 * depth)) ** 2) - ((v - centre) / (0.6 * half)) ** 2)
    density, level = rng.uniform(0.09, 0.17), rng.uniform(0.25, 0.4)
    near, far = power_law(rng, size), power_law(rng, size)

    # the mass, well inside the breast
    angle = rng.uniform(-1, 1) * np.pi / 2
    reach = 0.68 * rng.uniform(0.1, 1) ** 0.5
    mass_u = 0.12 + 0.85 * depth * reach * np.cos(angle)
    mass_v = centre + half * reach * np.sin(angle)
    radius, contrast = rng.uniform(0.08, 0.16), rng.uniform(0.16, 0.3)
    lobes = rng.normal(0, 0.1, 4), rng.uniform(0, 2 * np.pi, 4)
    stretch, tilt = rng.uniform(1, 1.5), rng.uniform(0, np.pi)

    drawn = []
    for z in rng.uniform(-0.7, 0.7, max(slices, SLICES))[:slices]:  # height, in radii
        tissue = np.cos(0.6 * z) * near + np.sin(0.6 * z) * far
        edge = mass_edge(u - mass_u, v - mass_v, radius * np.sqrt(1 - z**2), lobes, stretch, tilt)
        body = 1 / (1 + np.exp(np.clip(edge * width / 0.6, -50, 50)))  # soft over about a pixel
        skin = 0.1 * np.exp(-((inside * half * width / 1.2) ** 2))
        mass = np.zeros(size) if healthy else contrast * body
        image = breast * (level + density * (0.4 + gland) * tissue + 0.15 * gland + skin + mass)
        image = image + rng.normal(0, 0.015, size)
        drawn.append(((edge < 0) & (not healthy), 2 * np.clip(image, 0, 1) - 1))
    return drawn


def power_law(rng: np.random.Generator, size: tuple[int, int], exponent: float = 3.0) -> np.ndarray:
    """Draw a Gaussian random field (H, W) of unit variance whose power falls as 1/f^exponent."""
    height, width = size
    # in cycles per image width
    f = np.hypot(np.fft.fftfreq(height)[:, None] * width, np.fft.rfftfreq(width)[None] * width)
    f[0, 0] = np.inf  # no mean
    field = np.fft.irfft2(np.fft.rfft2(rng.normal(size=size)) * f ** (-exponent / 2), s=size)
    return field / field.std()


def mass_edge(u, v, radius: float, lobes, stretch: float, tilt: float) -> np.ndarray:
    """Distance from the outline of a lobulated, stretched body at the origin; negative inside.

    In the unit of u and v. lobes: amplitudes and phases of the harmonics 2, 3, ... of the outline.
    """
    along = (u * np.cos(tilt) + v * np.sin(tilt)) / np.sqrt(stretch)
    across = (v * np.cos(tilt) - u * np.sin(tilt)) * np.sqrt(stretch)
    angle = np.arctan2(across, along)
    harmonics = enumerate(zip(*lobes), start=2)
    outline = 1 + sum(a * np.cos(k * angle + phase) for k, (a, phase) in harmonics)
    return np.hypot(along, across) - radius * outline
