"""Folders of pairs: images/ and masks/ with equal file names, and an optional manifest.csv."""

from pathlib import Path

import numpy as np
import torch

from minipig.data.doubts import Doubts, by
from minipig.data.heartbeat import watched
from minipig.data.images import KINDS, SUFFIXES, fit_into, fit_mask, read_image, read_mask
from minipig.data.manifest import one_form, read_patients
from minipig.data.pairs import Pairs, hash_of
from minipig.data.tree import folders_in


class PairFolder(Pairs):
    """All pairs in `root`, read at `size` (height, width); None keeps the size of the files.

    Images: 8 or 16 bits, grey or colour. Masks: the image's name (the ending may differ) and two
    values, of which the larger is the lesion. A mask of one value is empty if this value is 0, else
    full. `notes`: what is doubtful (doubts.py), and files that are not read. Patients come from
    manifest.csv, see manifest.py.
    Raises FileNotFoundError or ValueError with the name of the file.
    """

    def __init__(self, root: str | Path, size: tuple[int, int] | None = None):
        root = Path(root)
        image_paths, unread = _list_images(root / "images")
        mask_paths, more = _list_images(root / "masks")
        unread += more
        for stem in sorted(image_paths.keys() ^ mask_paths.keys()):
            if half_prepared(root):
                raise ValueError(f"{root}: minipig prepare was interrupted; repeat it")
            alone = image_paths.get(stem) or mask_paths[stem]
            partner = root / ("masks" if stem in image_paths else "images") / alone.name
            others = mask_paths if stem in image_paths else image_paths
            near = [p.name for other, p in others.items() if other.casefold() == stem.casefold()]
            remedy = f"rename {near[0]}" if near else f"add it, or remove {alone.name}"
            here = [p for p in unread if p.parent == partner.parent]
            if other := [p.name for p in here if one_form(p.name).startswith(f"{stem}.")]:
                remedy = f"{other[0]} has an ending that is not read: convert it to PNG"
            raise ValueError(f"{alone} has no partner {partner}; {remedy}")
        if not image_paths:
            remedy = "add pairs to them"
            if unread:
                remedy = f"{unread[0]} is not read: convert such files to PNG"
            if folders := [path for path in unread if path.is_dir()]:
                remedy = f"{folders[0]} is a folder: minipig prepare takes images out of folders"
            none = f"{root}/images and {root}/masks contain no images ({KINDS})"
            raise ValueError(f"{none}; {remedy}")

        names = [path.name for path in image_paths.values()]
        patients, remarks = read_patients(root, names)
        images, masks, sources, doubts = [], [], [], Doubts(size)
        for stem in watched(image_paths, f"reading {root.name}"):
            path = image_paths[stem]
            image, coloured = read_image(path)
            mask, levels = read_mask(mask_paths[stem])
            if image.shape != mask.shape:
                sizes = f"{by(image.shape)} but {mask_paths[stem]} is {by(mask.shape)}"
                remedy = "both must have the same size"
                raise ValueError(f"{path} is {sizes} (height x width); {remedy}")
            if size is None and images and image.shape != images[0].shape:
                sizes = f"{by(image.shape)} but the first image is {by(images[0].shape)}"
                raise ValueError(f"{path} is {sizes}; give size=(height, width)")
            blank = image.min() == image.max()  # is equal to other blank ones, and no copy of them
            sources.append(f"blank {stem}" if blank else hash_of(image))
            images.append(fit_into(image, size, fill=image.min()))
            masks.append(fit_mask(mask, size))
            doubts.see(image, coloured, mask, masks[-1], [levels])

        images, masks = np.stack(images)[:, None], np.stack(masks)[:, None]
        values = torch.from_numpy(images * 2 - 1)
        notes = list(doubts.notes())
        if unread:
            some = f"not read: {len(unread)} files or folders, such as {unread[0]}"
            notes.append(f"{some}; images and masks have one of the endings {KINDS}")
        notes += remarks
        super().__init__(torch.from_numpy(masks), values, names, patients, notes, sources)


def half_prepared(root: Path) -> bool:
    """Whether `minipig prepare` has begun this folder and not finished it."""
    config = root / "config.json"
    begun = config.exists() and '"src"' in config.read_text()
    return begun and not (root / "report.json").exists()


def _list_images(folder: Path) -> tuple[dict[str, Path], list[Path]]:
    """Map stems to paths of the images in `folder`; also list the files that are not images."""
    if not folder.is_dir():
        remedy = "give phantom, or a folder with images/ and masks/"
        remedy += folders_in(folder.parent)
        if near := [p.name for p in folder.parent.glob("*") if p.name.casefold() == folder.name]:
            remedy = f"rename {near[0]} to {folder.name}"
        raise FileNotFoundError(f"{folder} is not a folder; {remedy}")
    found: dict[str, Path] = {}
    others = []
    # without hidden files: some archives leave files such as ._a.png
    for path in sorted(path for path in folder.iterdir() if not path.name.startswith(".")):
        if path.suffix.lower() not in SUFFIXES:
            others.append(path)
        elif found.setdefault(one_form(path.stem), path) != path:
            other = found[one_form(path.stem)].name
            raise ValueError(f"{path} and {other} have the same name; keep one of them")
    return found, others
