"""python -m minipig prepare: a published set, laid out as its authors like it, becomes a folder that PairFolder reads.

A `Layout` (layouts.py) tells images, masks and patients in SRC. What cannot be used is left out, and the report says why.
SRC is not touched. Interrupted and repeated, it ends the same.

DST/images/NAME.png  grey, 8 bit, or 16 where the source has more; DST/masks/NAME.png: 0 and 255
DST/manifest.csv     name, patient, and the image's path in SRC
DST/report.json      pairs, patients, what was left out and why, mask areas, identical images; contact.png: some of the pairs
"""

import csv
import hashlib
import io
import os
import re
import unicodedata
from collections import Counter, defaultdict
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from . import plot
from .claim import claim_folder
from .data import fit_into, open_image, read_image, read_mask
from .files import write_atomically, write_json, write_png
from .layouts import Layout, images_and_masks, named, pattern, unclaimed

SHOWN, THUMBNAIL = 32, (96, 96)  # pairs on the contact sheet, and their size
NO_MASK, NO_IMAGE = "no mask", "it fits --masks, and there is no image for it"
THRESHOLD = "give --threshold, 127 for blurred or JPEG masks, 0 for labels"


def prepare(src: Path, dst: Path, layout: Layout) -> dict:
    """Write every usable pair of `src` into `dst`, a folder outside of it, with its report, which is returned.

    Raises FileNotFoundError if there is no such folder, and ValueError for a pattern that means nothing, images that are not
    there, a `dst` that holds anything else, or if no pair at all can be used; nothing has been written then.
    """
    if not src.is_dir():
        raise FileNotFoundError(f"{src} is not a folder" + ("; unpack it first" if src.is_file() else ""))
    if dst.resolve().is_relative_to(src.resolve()):
        raise ValueError(f"{dst} lies in {src}, which is to stay as it is; give a folder outside of it")
    if layout.threshold is not None and layout.threshold < 0:
        raise ValueError(f"--threshold must be at least 0, not {layout.threshold}")
    left_out, same = defaultdict(list), defaultdict(list)
    found, masks_of = images_and_masks(src, layout, left_out)
    fits = Counter(mask for path in found for mask in masks_of[path])  # how many images a mask is for

    names, patient_of, patients = named(found), pattern(layout.patient), {}
    for path in found:
        try:
            if {unicodedata.category(c) for c in path} & {"Cc", "Cs", "Zl", "Zp"}:
                raise ValueError("a name that cannot be printed")
            patients[path] = patient_of(path) or names[path]
        except ValueError as error:
            left_out[str(error)].append(path)
    rows, areas, thumbnails = [], [], []
    for i, path in enumerate(tqdm(patients, desc=f"preparing {src.name}", disable=None)):
        name = names[path]
        try:
            if any(fits[mask] > 1 for mask in masks_of[path]):
                raise ValueError("its mask fits another image, too: make --masks, or --images, narrower")
            image, mask = read_pair(src, path, masks_of[path], layout)
        except ValueError as error:
            left_out[str(error)].append(path)
            continue
        if not rows:  # now there is something to write
            claim(dst, asdict(layout) | {"src": str(src.resolve())}, {names[path] for path in patients})
            write_manifest(dst, [(names[path], patients[path], path) for path in patients])  # if interrupted, it is there
        write(dst / "images" / name, image)
        write(dst / "masks" / name, mask)
        rows.append((name, patients[path], path))
        areas.append(float(mask.mean()))
        same[hashlib.sha256(image.tobytes() + str(image.shape).encode()).hexdigest()].append(name)
        if i * SHOWN >= len(thumbnails) * len(patients):  # the first, and then evenly
            thumbnails.append([fit_into(image, THUMBNAIL, image.min()), fit_into(mask.astype(np.float32), THUMBNAIL, 0)])
    if not rows:
        reason, paths = max(left_out.items(), key=lambda item: len(item[1]))
        reason += f" {layout.masks}" if reason == NO_MASK else ""
        raise ValueError(f"none of {len(found)} images can be used; {len(paths)}, such as {paths[0]}: {reason}")

    known = {*found, *(mask for several in masks_of.values() for mask in several)}
    if nobodys := unclaimed(src, layout, known):
        left_out[NO_IMAGE] = nobodys
    for name in {names[path] for path in patients} - {name for name, *_ in rows}:
        for part in ("images", "masks"):
            (dst / part / name).unlink(missing_ok=True)  # a pair of an earlier run, whose source has changed since
    write_manifest(dst, rows)
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


def claim(dst: Path, config: dict, names: set[str]) -> None:
    """Make `dst` the home of these pairs, or check that it is. Raises ValueError if it holds anything that is not theirs."""
    if dst.is_dir() and any(dst.iterdir()) and not (dst / "config.json").exists():
        raise ValueError(f"{dst} is not empty; give a new folder")
    claim_folder(dst, config, option="DST")
    for path in sorted([*dst.glob("images/*.png"), *dst.glob("masks/*.png")]):
        if path.name not in names:
            raise ValueError(f"{path} does not come from {config['src']}; take it away, or give a new folder")


def write_manifest(dst: Path, rows: list[tuple[str, str, str]]) -> None:
    """manifest.csv of (name, patient, source)."""
    table = io.StringIO()
    csv.writer(table, lineterminator="\n").writerows([("name", "patient", "source"), *rows])
    write_atomically(dst / "manifest.csv", table.getvalue().encode())


def read_pair(src: Path, path: str, masks: list[str], layout: Layout) -> tuple[np.ndarray, np.ndarray]:
    """An image in [0, 1] and its mask, (H, W) float32 and bool. Raises ValueError that says why they cannot be used."""
    if not masks:
        raise ValueError(NO_MASK)
    if len(masks) > 1 and not layout.merge:
        raise ValueError("several masks: to join them, give --merge")
    for part in (path, *masks):
        if os.path.normpath(part).startswith(".."):
            raise ValueError("outside of SRC: give as SRC a folder that holds images and masks")
        if not (src / part).resolve().is_relative_to(src.resolve()):
            raise ValueError("a link that leads out of the folder")
    try:
        image, parts = read_image(src / path), [read_levels(src / part, layout.threshold) for part in masks]
    except ValueError as error:
        reason = str(error)
        for part in (path, *masks):
            reason = reason.replace(str(src / part), "its image" if part == path else "its mask")
        reason = re.sub(r"\d+(, \d+)*(, \.\.\.)?", "N", reason)  # numbers differ from file to file
        raise ValueError(reason.replace("threshold it first", THRESHOLD)) from error
    for mask in parts:
        if mask.shape != image.shape:
            raise ValueError("image and mask differ in size")
    mask = np.any(parts, axis=0)
    if not mask.any() or mask.all():
        raise ValueError("no lesion" if not mask.any() else "the mask is full")
    return image, mask


def read_levels(path: Path, threshold: int | None) -> np.ndarray:
    """A mask (H, W), bool: the larger of its two values, or above the threshold; of colours, then, their largest channel."""
    if threshold is None:
        return read_mask(path)
    image = open_image(path)
    values = np.asarray(image.convert("L") if image.mode == "1" else image)
    values = values.max(2) if values.ndim == 3 else values
    if values.max() <= threshold and len(np.unique(values)) == 2:
        raise ValueError(f"{path} has two values, and neither is above the threshold: lower it")
    return values > threshold


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
