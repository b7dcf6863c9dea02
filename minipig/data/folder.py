"""Folders of pairs: images/ and masks/ with equal file names, and an optional manifest.csv."""

from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from minipig.data.images import (
    SUFFIXES,
    fit_into,
    fit_mask,
    grey_values,
    in_colour,
    lesion_of,
    open_image,
    read_mask_values,
)
from minipig.data.manifest import one_form, read_patients
from minipig.data.pairs import Pairs, hash_of
from minipig.data.shrunk import Shrunk, by


class PairFolder(Pairs):
    """All pairs in `root`, read at `size` (height, width); None keeps the size of the files.

    Images: 8 or 16 bits, grey or colour. Masks: the image's name (the ending may differ) and two
    values, of which the larger is the lesion. A mask of one value is empty if this value is 0, else
    full. `notes` count both, and lesions that `size` makes too small, images that use little of
    their range, and files that are not read. Patients come from manifest.csv, see manifest.py.
    Raises FileNotFoundError or ValueError with the name of the file.
    """

    def __init__(self, root: str | Path, size: tuple[int, int] | None = None):
        root = Path(root)
        image_paths, unread = _list_images(root / "images")
        mask_paths, more = _list_images(root / "masks")
        for stem in sorted(image_paths.keys() ^ mask_paths.keys()):
            if half_prepared(root):
                raise ValueError(f"{root}: minipig prepare was interrupted; repeat it")
            alone = image_paths.get(stem) or mask_paths[stem]
            partner = root / ("masks" if stem in image_paths else "images") / alone.name
            others = mask_paths if stem in image_paths else image_paths
            near = [p.name for other, p in others.items() if other.casefold() == stem.casefold()]
            remedy = f"rename {near[0]}" if near else f"add it, or remove {alone.name}"
            raise ValueError(f"{alone} has no partner {partner}; {remedy}")
        if not image_paths:
            kinds = f"no images ({' '.join(sorted(SUFFIXES))})"
            raise ValueError(f"{root}/images and {root}/masks contain {kinds}; add pairs to them")

        names = [path.name for path in image_paths.values()]
        patients, doubts = read_patients(root, names)
        images, masks, sources, coloured, shrunk = [], [], [], 0, Shrunk(size)
        dim, narrow = [], []  # how much of the range is used, of images that use little
        lows, highs = set(), set()  # values of masks
        for stem in tqdm(image_paths, desc=f"reading {root.name}", disable=None):
            path = image_paths[stem]
            opened = open_image(path)
            image = grey_values(path, opened)
            coloured += in_colour(opened)
            values = read_mask_values(mask_paths[stem])
            mask = lesion_of(values)
            if values.min() < values.max():
                lows.add(values.min())
                highs.add(values.max())
            if image.shape != mask.shape:
                sizes = f"{by(image.shape)} but {mask_paths[stem]} is {by(mask.shape)}"
                remedy = "both must have the same size"
                raise ValueError(f"{path} is {sizes} (height x width); {remedy}")
            if size is None and images and image.shape != images[0].shape:
                sizes = f"{by(image.shape)} but the first image is {by(images[0].shape)}"
                raise ValueError(f"{path} is {sizes}; give size=(height, width)")
            sources.append(hash_of(image))
            images.append(fit_into(image, size, fill=image.min()))
            masks.append(fit_mask(mask, size))
            shrunk.count(mask, masks[-1])
            if image.max() < 0.25:
                dim.append(image.max())
            elif 0 < (used := span(image)) < 0.08:
                narrow.append(used)

        images, masks = np.stack(images)[:, None], np.stack(masks)[:, None]
        values = torch.from_numpy(images * 2 - 1)
        super().__init__(torch.from_numpy(masks), values, names, patients, sources=sources)
        empty = int((~masks.any((1, 2, 3))).sum()) - shrunk.lost
        full = int(masks.all((1, 2, 3)).sum())
        at = by(masks.shape[2:])
        for what, count in (f"empty at {at}", empty), (f"full at {at}", full):
            if count:
                self.notes.append(f"{count} of {len(self)} masks are {what}")
        if over := int((masks.mean((1, 2, 3)) > 0.5).sum()) - full:
            wrong = "if they are inverted, give minipig prepare --invert"
            self.notes.append(f"{over} of {len(self)} masks cover more than half at {at}; {wrong}")
        if both := sorted(lows & highs):
            differ = f"the value {both[0]} is lesion in some masks and background in others"
            self.notes.append(f"{differ}; give minipig prepare --label or --threshold")
        self.notes += shrunk.notes(len(self))
        if coloured:
            grey = f"{coloured} of {len(self)} images are in colour and become grey (luminance)"
            self.notes.append(f"{grey}; minipig prepare --channel takes one channel")
        if dim:
            share = f"the brightest pixel is at most {max(dim):.1%} of the largest possible value"
            remedy = "rescale files of fewer bits, such as 12 bits stored as 16"
            self.notes.append(f"in {len(dim)} of {len(self)} images {share}; {remedy}")
        if narrow:
            share = f"nearly all pixels lie within {max(narrow):.1%} of the possible range"
            remedy = "a marker or an offset may be why: cut it off, and rescale"
            self.notes.append(f"in {len(narrow)} of {len(self)} images {share}; {remedy}")
        if unread := [*unread, *more]:
            some = f"not read: {len(unread)} files or folders, such as {unread[0]}"
            kinds = " ".join(sorted(SUFFIXES))
            self.notes.append(f"{some}; images and masks have one of the endings {kinds}")
        self.notes += doubts


def span(image: np.ndarray) -> float:
    """The range that 98 % of the pixels lie in, from some of them."""
    every = max(1, min(image.shape) // 64)
    return float(np.subtract(*np.percentile(image[::every, ::every], (99, 1))))


def half_prepared(root: Path) -> bool:
    """Whether `minipig prepare` has begun this folder and not finished it."""
    config = root / "config.json"
    begun = config.exists() and '"src"' in config.read_text()
    return begun and not (root / "report.json").exists()


def _list_images(folder: Path) -> tuple[dict[str, Path], list[Path]]:
    """Map stems to paths of the images in `folder`; also list the files that are not images."""
    if not folder.is_dir():
        needs = "give phantom, or a folder with images/ and masks/"
        raise FileNotFoundError(f"{folder} is not a folder; {needs}")
    found: dict[str, Path] = {}
    others = []
    # without hidden files: some archives leave files such as ._a.png
    for path in sorted(folder.glob("[!.]*")):
        if path.suffix.lower() not in SUFFIXES:
            others.append(path)
        elif found.setdefault(one_form(path.stem), path) != path:
            other = found[one_form(path.stem)].name
            raise ValueError(f"{path} and {other} have the same name; keep one of them")
    return found, others
