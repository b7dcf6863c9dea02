"""Folders of real pairs: `images/` and `masks/` with equal file names, and perhaps a `manifest.csv` with `name,patient`."""

import csv
import warnings
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from tqdm import tqdm

from .pairs import Pairs

SUFFIXES = {".png", ".tif", ".tiff", ".bmp", ".pgm", ".jpg", ".jpeg"}
ORIENTATION = 0x0112  # the EXIF tag: 1 is upright, 2 to 8 are turned or mirrored


class PairFolder(Pairs):
    """All pairs under `root`, checked and read into memory at `size` (height, width); None keeps the files' own size.

    Images: 8 or 16 bit, grey or colour; masks: of the same name (the ending may differ), two values, lesion the larger one.
    A mask of one value is empty if that value is 0 and full otherwise; both are allowed and told in `notes`. Patients come
    from manifest.csv, else each name is its own patient. Raises FileNotFoundError, or ValueError that names the file.
    """

    def __init__(self, root: str | Path, size: tuple[int, int] | None = None):
        root = Path(root)
        images, masks = _listing(root / "images"), _listing(root / "masks")
        for stem in sorted(images.keys() ^ masks.keys()):
            alone, lacks = (images[stem], "masks") if stem in images else (masks[stem], "images")
            raise ValueError(f"{alone} has no partner {root}/{lacks}/{alone.name}; add it, or take {alone.name} away")
        if not images:
            raise ValueError(f"{root}/images and {root}/masks hold no pairs; a pair is two files of one name, one in each")

        names = [path.name for path in images.values()]
        patients = _patients(root / "manifest.csv", names)
        pixels, truths = [], []
        lost = 0
        for stem in tqdm(images, desc=f"reading {root.name}", disable=None):
            image, mask = read_image(images[stem]), read_mask(masks[stem])
            if image.shape != mask.shape:
                raise ValueError(f"{images[stem]} is {_by(image)} but {masks[stem]} is {_by(mask)} (height x width)")
            if size is None and pixels and image.shape != pixels[0].shape:
                raise ValueError(f"{images[stem]} is {_by(image)}, the first image {_by(pixels[0])}; give one size for all")
            pixels.append(fit_into(image, size, fill=image.min()))
            truths.append(fit_into(mask.astype(np.float32), size, fill=0) >= 0.5)
            lost += bool(mask.any() and not truths[-1].any())

        masks, images_ = np.stack(truths)[:, None], np.stack(pixels)[:, None]
        super().__init__(torch.from_numpy(masks), torch.from_numpy(images_ * 2 - 1), names, patients)
        full, empty = (int((masks.mean((1, 2, 3)) == share).sum()) for share in (1, 0))
        for count, what in ((empty - lost, "empty"), (full, "full"), (lost, "too small to be seen")):
            self.notes += [f"{count} of {len(self)} masks are {what} at {_by(masks[0, 0])}"] if count else []
        if images_.max() < 0.25:
            self.notes.append(f"the brightest pixel is {images_.max():.1%} of the files' range; rescale files of fewer bits")


def _listing(folder: Path) -> dict[str, Path]:
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder} is not a folder; pairs are expected in images/ and masks/ with equal file names")
    found: dict[str, Path] = {}
    for path in sorted(folder.glob("[!.]*")):  # without hidden files, such as the ._a.png that some archives leave behind
        if path.suffix.lower() in SUFFIXES and found.setdefault(path.stem, path) != path:
            raise ValueError(f"{path} and {found[path.stem].name} have one name; a pair has one image and one mask")
    return found


def _patients(manifest: Path, names: list[str]) -> list[str]:
    if not manifest.exists():
        return names
    patient: dict[str, str] = {}
    with manifest.open(newline="", encoding="utf-8-sig") as file:
        rows = csv.DictReader(file)
        try:
            if not {"name", "patient"} <= set(rows.fieldnames or ()):
                raise ValueError(f"{manifest} has the columns {rows.fieldnames}; it needs name and patient")
            for row in rows:
                name, mine = row["name"], (row["patient"] or "").strip()
                if patient.setdefault(name, mine) != mine:
                    raise ValueError(f"{manifest} gives {name} to two patients, {patient[name]} and {mine}; keep one row")
        except (csv.Error, UnicodeDecodeError) as error:
            raise ValueError(f"{manifest} is not a table in UTF-8 ({error}); save it anew or remove it") from error
    for name in names:
        if not patient.get(name):
            raise ValueError(f"{manifest} names no patient for {name}; add the row {name},PATIENT or remove the manifest")
    return [patient[name] for name in names]


def open_image(path: Path) -> Image.Image:
    """One image, whole, upright and opaque; its mode is 1, L, RGB, F or one that begins with I (16 or 32 bit).

    Raises ValueError that names the file: what is decoded must be what a viewer shows, or a mask would not fit.
    """
    if path.exists() and not path.is_file():  # to read a pipe is to wait for ever
        raise ValueError(f"{path} is not a file; take it away")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a damaged file is an error or it is none,
            warnings.simplefilter("error", Image.DecompressionBombWarning)  # and over 89 million pixels are one
            with Image.open(path) as image:
                image.load()
                frames, turn = getattr(image, "n_frames", 1), image.getexif().get(ORIENTATION, 1)
            clear = image.mode[-1] in "Aa" or "transparency" in image.info
            clear = clear and image.convert("RGBA").getchannel("A").getextrema()[0] < 255
            if image.mode in ("P", "PA", "LA", "RGBA", "CMYK", "YCbCr"):
                image = image.convert("RGB")
            if image.mode not in ("1", "L", "RGB", "F") and not image.mode.startswith("I"):
                raise ValueError(f"its colours are {image.mode}")
    except Exception as error:  # Pillow raises OSError, SyntaxError, ValueError, KeyError, ... for the many ways to be broken
        raise ValueError(f"{path} cannot be read as an image ({error}); replace the file") from error
    if frames > 1:
        raise ValueError(f"{path} holds {frames} images; save the one that belongs to the pair alone")
    if turn in range(2, 9):
        raise ValueError(
            f"{path} is to be shown turned (EXIF orientation {turn}); turn its pixels, so that image and mask agree"
        )
    if clear:
        raise ValueError(f"{path} is transparent in places; save it without an alpha channel")
    return image


def read_image(path: Path) -> np.ndarray:
    """(H, W) float32 in [0, 1]: 8 bit over 255, 16 bit over 65535, colour by its luminance."""
    image = open_image(path)
    if image.mode.startswith("I"):  # 16 bit arrives as I;16 or, from PGM, as 32-bit integers
        values = np.asarray(image).astype(np.float32)
        if values.min() >= 0 and values.max() <= 65535:
            return values / 65535
    if image.mode.startswith(("I", "F")):
        raise ValueError(f"{path} holds 32-bit or floating-point values; save it with 8 or 16 bits")
    return np.asarray(image.convert("L")).astype(np.float32) / 255


def read_mask(path: Path) -> np.ndarray:
    """(H, W) bool, True on the lesion."""
    image = open_image(path)
    values = np.asarray(image.convert("L") if image.mode == "RGB" else image)
    levels = np.unique(values)
    if len(levels) > 2:
        some = ", ".join(str(v) for v in levels[:5]) + (", ..." if len(levels) > 5 else "")
        raise ValueError(f"{path} has {len(levels)} values ({some}); a mask must hold two: threshold it first")
    if not (np.isfinite(levels).all() and levels[0] >= 0):
        raise ValueError(f"{path} holds {' and '.join(map(str, levels))}; save it as 0 and 255")
    if image.mode == "RGB" and len(image.getcolors(2) or "???") > len(levels):
        raise ValueError(f"{path} has colours that are equally bright; save it in black and white")
    return values == levels[-1] if levels[-1] > 0 else np.zeros(values.shape, bool)


def fit_into(image: np.ndarray, size: tuple[int, int] | None, fill: float) -> np.ndarray:
    """Resize (area average; bilinear when enlarging) into `size`, aspect kept, centred, the rest `fill`. float32."""
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
