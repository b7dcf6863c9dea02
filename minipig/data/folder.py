"""Folders of pairs: images/ and masks/ with equal file names, and an optional manifest.csv."""

import csv
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from minipig.data.images import SUFFIXES, fit_into, read_image, read_mask
from minipig.data.pairs import Pairs


class PairFolder(Pairs):
    """All pairs in `root`, read at `size` (height, width); None keeps the size of the files.

    Images: 8 or 16 bits, grey or colour. Masks: the image's name (the ending may differ) and two
    values, of which the larger is the lesion. A mask of one value is empty if this value is 0, else
    full; `notes` count both. Patients come from the columns name and patient of manifest.csv;
    without it, each image is its own patient. Raises FileNotFoundError or ValueError with the name
    of the file.
    """

    def __init__(self, root: str | Path, size: tuple[int, int] | None = None):
        root = Path(root)
        image_paths = _list_images(root / "images")
        mask_paths = _list_images(root / "masks")
        for stem in sorted(image_paths.keys() ^ mask_paths.keys()):
            alone = image_paths.get(stem) or mask_paths[stem]
            partner = root / ("masks" if stem in image_paths else "images") / alone.name
            raise ValueError(f"{alone} has no partner {partner}; add it, or remove {alone.name}")
        if not image_paths:
            kinds = f"no images ({' '.join(sorted(SUFFIXES))})"
            raise ValueError(f"{root}/images and {root}/masks contain {kinds}; add pairs to them")

        names = [path.name for path in image_paths.values()]
        patients = _read_patients(root / "manifest.csv", names)
        images, masks, lost = [], [], 0
        for stem in tqdm(image_paths, desc=f"reading {root.name}", disable=None):
            path = image_paths[stem]
            image = read_image(path)
            mask = read_mask(mask_paths[stem])
            if image.shape != mask.shape:
                sizes = f"{_by(image)} but {mask_paths[stem]} is {_by(mask)} (height x width)"
                raise ValueError(f"{path} is {sizes}; both must have the same size")
            if size is None and images and image.shape != images[0].shape:
                sizes = f"{_by(image)} but the first image is {_by(images[0])}"
                raise ValueError(f"{path} is {sizes}; give size=(height, width)")
            images.append(fit_into(image, size, fill=image.min()))
            masks.append(fit_into(mask.astype(np.float32), size, fill=0) >= 0.5)
            lost += bool(mask.any() and not masks[-1].any())

        images, masks = np.stack(images)[:, None], np.stack(masks)[:, None]
        super().__init__(torch.from_numpy(masks), torch.from_numpy(images * 2 - 1), names, patients)
        empty = int((~masks.any((1, 2, 3))).sum()) - lost
        full = int(masks.all((1, 2, 3)).sum())
        at = _by(masks[0, 0])
        lost_at = f"too small to be seen at {at}; raise the size"
        for what, count in (f"empty at {at}", empty), (f"full at {at}", full), (lost_at, lost):
            if count:
                self.notes.append(f"{count} of {len(self)} masks are {what}")
        if images.max() < 0.25:
            share = f"the brightest pixel is {images.max():.1%} of the largest possible value"
            self.notes.append(f"{share}; rescale files of fewer bits, such as 12 bits stored as 16")


def _list_images(folder: Path) -> dict[str, Path]:
    """Map stems to paths of the images in `folder`."""
    if not folder.is_dir():
        needs = "give phantom, or a folder with images/ and masks/"
        raise FileNotFoundError(f"{folder} is not a folder; {needs}")
    found: dict[str, Path] = {}
    # without hidden files: some archives leave files such as ._a.png
    for path in sorted(folder.glob("[!.]*")):
        if path.suffix.lower() in SUFFIXES and found.setdefault(path.stem, path) != path:
            other = found[path.stem].name
            raise ValueError(f"{path} and {other} have the same name; keep one of them")
    return found


def _read_patients(manifest: Path, names: list[str]) -> list[str]:
    """The patient of each name."""
    if not manifest.exists():
        return names
    patient_of: dict[str, str] = {}
    with manifest.open(newline="", encoding="utf-8-sig") as file:
        rows = csv.DictReader(file)
        try:
            if not {"name", "patient"} <= set(rows.fieldnames or ()):
                columns = f"{rows.fieldnames}; it needs name and patient"
                raise ValueError(f"{manifest} has the columns {columns}, separated by commas")
            for row in rows:
                name, new = row["name"], (row["patient"] or "").strip()
                old = patient_of.setdefault(name, new)
                if old != new:
                    patients = f"gives {name} to two patients, {old} and {new}"
                    raise ValueError(f"{manifest} {patients}; keep one row")
        except (csv.Error, UnicodeDecodeError) as error:
            problem = f"{manifest} is not a CSV table in UTF-8 ({error}); correct or remove it"
            raise ValueError(problem) from error
    for name in names:
        if not patient_of.get(name):
            remedy = f"add the row {name},PATIENT or remove the manifest"
            raise ValueError(f"{manifest} names no patient for {name}; {remedy}")
    return [patient_of[name] for name in names]


def _by(array: np.ndarray) -> str:
    return f"{array.shape[0]}x{array.shape[1]}"
