"""Folders of pairs: images/ and masks/ with equal file names, and an optional manifest.csv."""

import csv
import warnings
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from tqdm import tqdm

from minipig.data.pairs import Pairs

SUFFIXES = {".png", ".tif", ".tiff", ".bmp", ".pgm", ".jpg", ".jpeg"}
ORIENTATION = 0x0112  # the EXIF tag: 1 is upright, 2 to 8 are rotated or mirrored


class ImageError(ValueError):
    """An image or mask that cannot be used. detail: the problem with the values of this file.

    kind: problem and remedy, the same for all such files, so that they can be counted.
    """

    def __init__(self, path: Path, problem: str, remedy: str, detail: str = ""):
        super().__init__(f"{path} {detail or problem}; {remedy}")
        self.path = path
        self.kind = f"{problem}; {remedy}"


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
                raise ValueError(f"{path} is {sizes}; give one size for all")
            images.append(fit_into(image, size, fill=image.min()))
            masks.append(fit_into(mask.astype(np.float32), size, fill=0) >= 0.5)
            lost += bool(mask.any() and not masks[-1].any())

        images, masks = np.stack(images)[:, None], np.stack(masks)[:, None]
        super().__init__(torch.from_numpy(masks), torch.from_numpy(images * 2 - 1), names, patients)
        empty = int((~masks.any((1, 2, 3))).sum()) - lost
        full = int(masks.all((1, 2, 3)).sum())
        at = _by(masks[0, 0])
        for what, count in ("empty", empty), ("full", full), ("too small to be seen", lost):
            if count:
                self.notes.append(f"{count} of {len(self)} masks are {what} at {at}")
        if images.max() < 0.25:
            share = f"the brightest pixel is {images.max():.1%} of the files' range"
            self.notes.append(f"{share}; rescale files of fewer bits, such as 12 bits stored as 16")


def _list_images(folder: Path) -> dict[str, Path]:
    """Map stems to paths of the images in `folder`."""
    if not folder.is_dir():
        needs = "pairs are expected in images/ and masks/ with equal file names"
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


def open_image(path: Path) -> Image.Image:
    """Read one upright, opaque image, of mode 1, L, RGB, F or one of I (16 or 32 bits).

    Raises ImageError unless the pixels are those that a viewer shows: image and mask must agree.
    """
    if path.exists() and not path.is_file():  # reading a pipe would never end
        raise ImageError(path, "is not a file", "remove it")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path) as image:
                image.load()
                frames = getattr(image, "n_frames", 1)
                orientation = image.getexif().get(ORIENTATION, 1)
            clear = image.mode[-1] in "Aa" or "transparency" in image.info
            clear = clear and image.convert("RGBA").getchannel("A").getextrema()[0] < 255
            if image.mode in ("P", "PA", "LA", "RGBA", "CMYK", "YCbCr"):
                image = image.convert("RGB")
    except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
        raise ImageError(path, "has more than 89 million pixels", "make it smaller") from error
    # Pillow raises OSError, SyntaxError, ValueError, KeyError, ... for damaged files
    except Exception as error:
        problem = "cannot be read as an image"
        raise ImageError(path, problem, "replace the file", f"{problem} ({error})") from error
    if image.mode not in ("1", "L", "RGB", "F") and not image.mode.startswith("I"):
        raise ImageError(path, f"has colours of type {image.mode}", "save it as grey or RGB")
    if frames > 1:
        remedy = "save only the one that belongs to the pair"
        raise ImageError(path, "contains several images", remedy, f"contains {frames} images")
    if orientation in range(2, 9):
        problem = f"is shown rotated or mirrored (EXIF orientation {orientation})"
        raise ImageError(path, problem, "apply this to its pixels and remove the EXIF tag")
    if clear:
        raise ImageError(path, "is transparent in places", "save it without an alpha channel")
    return image


def read_image(path: Path) -> np.ndarray:
    """(H, W) float32 in [0, 1]: 8 bits over 255, 16 bits over 65535; colours by luminance."""
    image = open_image(path)
    if image.mode.startswith("I"):  # 16 bits are I;16 or, from PGM, 32-bit integers
        values = np.asarray(image).astype(np.float32)
        if values.min() >= 0 and values.max() <= 65535:
            return values / 65535
    if image.mode.startswith(("I", "F")):
        remedy = "save it with 8 or 16 bits"
        raise ImageError(path, "has 32-bit or floating-point values", remedy)
    return np.asarray(image.convert("L")).astype(np.float32) / 255


def read_mask(path: Path) -> np.ndarray:
    """(H, W) bool, True on the lesion."""
    image = open_image(path)
    values = np.asarray(image.convert("L") if image.mode == "RGB" else image)
    levels = np.unique(values)
    if len(levels) > 2:
        some = ", ".join(map(str, levels[:5])) + (", ..." if len(levels) > 5 else "")
        remedy = (
            "a mask must hold two: threshold it first, with minipig prepare --threshold "
            "127 (blurred or JPEG masks) or 0 (labels)"
        )
        detail = f"has {len(levels)} values ({some})"
        raise ImageError(path, "has more than two values", remedy, detail)
    if not (np.isfinite(levels).all() and levels[0] >= 0):
        problem = "has negative or non-finite values"
        detail = f"has the values {' and '.join(map(str, levels))}"
        raise ImageError(path, problem, "save it with 0 and 255", detail)
    if image.mode == "RGB" and len(image.getcolors(2) or "???") > len(levels):
        raise ImageError(path, "has colours of equal brightness", "save it in black and white")
    return values == levels[-1] if levels[-1] > 0 else np.zeros(values.shape, bool)


def fit_into(image: np.ndarray, size: tuple[int, int] | None, fill: float) -> np.ndarray:
    """Resize to fit `size`, aspect kept, centred, padded with `fill`; float32.

    By area average, or bilinear when enlarging.
    """
    if size is None:
        return image
    scale = min(size[0] / image.shape[0], size[1] / image.shape[1])
    height, width = (max(1, round(side * scale)) for side in image.shape)
    method = Image.Resampling.BOX if scale <= 1 else Image.Resampling.BILINEAR
    small = np.asarray(Image.fromarray(image.astype(np.float32)).resize((width, height), method))
    top = (size[0] - height) // 2
    left = (size[1] - width) // 2
    canvas = np.full(size, fill, np.float32)
    canvas[top : top + height, left : left + width] = small
    return canvas


def _by(array: np.ndarray) -> str:
    return f"{array.shape[0]}x{array.shape[1]}"
