"""python -m minipig prepare: a published set, laid out as its authors like it, becomes a folder that PairFolder reads.

SRC is searched for images by a glob; the masks of each are found by a pattern, its patient by a regular expression. What
cannot be used is left out, and the report says why. SRC is not touched.

DST/images/NAME.png  grey, 8 bit, or 16 where the source has more; DST/masks/NAME.png: 0 and 255
DST/manifest.csv     name, patient, and the image's path in SRC
DST/report.json      pairs, patients, what was left out and why, mask areas, identical images; contact.png: some of the pairs
"""

import csv
import glob
import hashlib
import io
import os
import re
from collections import defaultdict
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from . import plot
from .data import SUFFIXES, fit_into, open_image, read_image
from .files import write_atomically, write_json, write_png
from .run import claim_folder

SHOWN, THUMBNAIL = 32, (96, 96)  # pairs on the contact sheet, and their size


@dataclass(frozen=True)
class Layout:
    """How a set is laid out; paths are relative to its folder, with / between their parts.

    images: a glob, ** for any folders. masks: the pattern of a mask's path, {folder} and {stem} being its image's; * for what
    differs between several. patient: a regular expression that is searched in the image's path; its first group, if it has
    one, is the patient; None: every image is a patient of its own. threshold: a mask is lesion above it; None: it must have
    two values. merge: several masks of an image are joined.
    """

    images: str
    masks: str
    patient: str | None = None
    threshold: int | None = None
    merge: bool = False


LAYOUTS = {
    # Al-Dhabyani et al. 2020, doi:10.1016/j.dib.2019.104863: benign/benign (1).png, ..._mask.png, ..._mask_1.png
    "busi": Layout("**/*).png", "{folder}/{stem}_mask*.png", merge=True),
    # Vallez et al. 2025, doi:10.1038/s41597-025-04564-2: images/ALWI_000.png; masks/ in colours, green benign, red malignant
    "bus-uclm": Layout("**/images/*.png", "{folder}/../masks/{stem}.png", r"([A-Za-z]+)_\d+\.png$", threshold=127),
    # Codella et al. 2019, arXiv 1902.03368, task 1: ..._Input/ISIC_0000000.jpg, ..._GroundTruth/ISIC_0000000_segmentation.png
    "isic2018": Layout("**/*_Input/ISIC_*.jpg", "{folder}/../*_GroundTruth/{stem}_segmentation.png", threshold=127),
}


def prepare(src: Path, dst: Path, layout: Layout) -> dict:
    """Write every usable pair of `src` into `dst`, with its report, which is returned.

    Raises FileNotFoundError if there is no such folder, and ValueError for a pattern that means nothing, images that are not
    there, or if no pair at all can be used.
    """
    if not src.is_dir():
        raise FileNotFoundError(f"{src} is not a folder")
    paths = map(os.path.normpath, glob.glob(layout.images, root_dir=src, recursive=True))
    found = sorted(path for path in paths if Path(path).suffix.lower() in SUFFIXES)
    patient_of = pattern(layout.patient)
    masks_of = {path: masks(src, path, layout.masks) for path in found}
    every_mask = {mask for several in masks_of.values() for mask in several}
    found = [path for path in found if path not in every_mask]  # a glob may catch masks, too
    if not found:
        raise ValueError(f"{src} has no images {layout.images}; give another --images")
    claim_folder(dst, asdict(layout) | {"src": src.name})

    names = named(found)
    rows, areas, thumbnails = [], [], []
    left_out, same = defaultdict(list), defaultdict(list)
    for i, path in enumerate(tqdm(found, desc=f"preparing {src.name}", disable=None)):
        try:
            patient = patient_of(path)
            image, mask = read_pair(src, path, masks_of[path], layout)
        except ValueError as error:
            left_out[str(error)].append(path)
            continue
        name = names[path]
        write(dst / "images" / name, image)
        write(dst / "masks" / name, mask)
        rows.append((name, patient or name, path))
        areas.append(float(mask.mean()))
        same[hashlib.sha256(image.tobytes() + str(image.shape).encode()).hexdigest()].append(name)
        if i * SHOWN >= len(thumbnails) * len(found):  # the first, and then evenly
            thumbnails.append([fit_into(image, THUMBNAIL, image.min()), fit_into(mask.astype(np.float32), THUMBNAIL, 0)])
    if not rows:
        reason, paths = max(left_out.items(), key=lambda item: len(item[1]))
        raise ValueError(f"none of {len(found)} images can be used; {len(paths)}, such as {paths[0]}: {reason}")

    table = io.StringIO()
    csv.writer(table, lineterminator="\n").writerows([("name", "patient", "source"), *rows])
    write_atomically(dst / "manifest.csv", table.getvalue().encode())
    report = {
        "pairs": len(rows),
        "patients": len({patient for _, patient, _ in rows}),
        "left_out": dict(left_out),
        "mask_area": dict(zip(("least", "median", "most"), np.quantile(areas, (0, 0.5, 1)).tolist())),
        "over_half": sum(area > 0.5 for area in areas),
        "identical": [group for group in same.values() if len(group) > 1],
    }
    write_json(dst / "report.json", report)
    images, outlines = (torch.from_numpy(np.stack(part))[:, None] for part in zip(*thumbnails))
    plot.save(plot.pair_grid(outlines * 2 - 1, images * 2 - 1), dst / "contact.png")
    return report


def pattern(patient: str | None):
    """The function path -> patient of a regular expression; None: nobody. Raises ValueError for a bad one."""
    if patient is None:
        return lambda path: None
    try:
        compiled = re.compile(patient)
    except re.error as error:
        raise ValueError(f"--patient {patient} is no regular expression: {error}") from error

    def of(path: str) -> str:
        match = compiled.search(path)
        if match is None or not match[min(1, compiled.groups)]:
            raise ValueError(f"no patient: {patient} is not in its path")
        return match[min(1, compiled.groups)]

    return of


def masks(src: Path, path: str, template: str) -> list[str]:
    """The paths of an image's masks, as they are there. Raises ValueError for a template with other fields."""
    folder, stem = (glob.escape(part) for part in (os.path.dirname(path) or ".", Path(path).stem))
    try:
        wanted = os.path.normpath(template.format(folder=folder, stem=stem))
    except (KeyError, IndexError, ValueError) as error:
        raise ValueError(f"--masks {template} has a field that is neither {{folder}} nor {{stem}}") from error
    return sorted(other for other in glob.glob(wanted, root_dir=src, recursive=True) if other != path)


def named(paths: list[str]) -> dict[str, str]:
    """A file name for each image: its own, or if two are alike those of its folders before it."""
    stems = [Path(path).stem for path in paths]
    if len(set(stems)) < len(stems):
        stems = [str(Path(path).with_suffix("")).replace(os.sep, "_") for path in paths]
    if len(set(stems)) < len(stems):
        stems = [Path(path).as_posix().replace("/", "_") for path in paths]
    return {path: f"{stem}.png" for path, stem in zip(paths, stems)}


def read_pair(src: Path, path: str, masks: list[str], layout: Layout) -> tuple[np.ndarray, np.ndarray]:
    """An image in [0, 1] and its mask, (H, W) float32 and bool. Raises ValueError that says why they cannot be used."""
    if not masks:
        raise ValueError("no mask")
    if not path.isprintable():
        raise ValueError("a name that cannot be printed")
    if len(masks) > 1 and not layout.merge:
        raise ValueError("several masks: to join them, give --merge")
    for part in (path, *masks):
        if not (src / part).resolve().is_relative_to(src.resolve()):
            raise ValueError("a link that leads out of the folder")
    try:
        image, parts = read_image(src / path), [read_levels(src / part, layout.threshold) for part in masks]
    except ValueError as error:
        reason = str(error)
        for part in (path, *masks):
            reason = reason.replace(str(src / part), "its image" if part == path else "its mask")
        raise ValueError(reason.partition(" (")[0]) from error  # without details that differ from file to file
    for mask in parts:
        if mask.shape != image.shape:
            raise ValueError("image and mask differ in size")
    mask = np.any(parts, axis=0)
    if not mask.any() or mask.all():
        raise ValueError("no lesion" if not mask.any() else "the mask is full")
    return image, mask


def read_levels(path: Path, threshold: int | None) -> np.ndarray:
    """A mask (H, W), bool: above the threshold, or the larger of its two values; of colours, their largest channel counts."""
    values = np.asarray(open_image(path))
    values = values.max(2) if values.ndim == 3 else values
    if threshold is not None:
        return values > threshold
    levels = np.unique(values)
    if len(levels) > 2:
        raise ValueError(f"{path} has more than two values: if it is a blurred or a JPEG mask, give --threshold 127")
    return values > levels[0] if len(levels) == 2 else values > 0


def write(path: Path, values: np.ndarray) -> None:
    """A mask as 0 and 255; an image in [0, 1] with 8 bits where they hold it exactly, else with 16."""
    if values.dtype == bool:
        grey = values.astype(np.uint8) * 255
    elif np.abs(values * 255 - (eight := (values * 255).round())).max() < 1e-3:
        grey = eight.astype(np.uint8)
    else:
        grey = (values * 65535).round().astype(np.uint16)
    write_png(path, grey)


def told(report: dict, dst: Path) -> str:
    """The report in a few lines."""
    area = report["mask_area"]
    lines = [f"{report['pairs']} pairs of {report['patients']} patients in {dst}"]
    lines.append("lesions cover {median:.1%} of an image (median; {least:.1%} to {most:.1%})".format(**area))
    if report["over_half"]:
        lines.append(f"{report['over_half']} masks cover more than half of their image: are they inverted?")
    for reason, paths in sorted(report["left_out"].items(), key=lambda item: -len(item[1])):
        lines.append(f"left out {len(paths)}, such as {paths[0]!r}: {reason}")
    if report["identical"]:
        some = " and ".join(report["identical"][0][:2])
        lines.append(
            f"{len(report['identical'])} images are there more than once, such as {some}; a split keeps them together"
        )
    return "\n".join(lines)
