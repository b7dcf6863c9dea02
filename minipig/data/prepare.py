"""`minipig prepare`: convert a published set in SRC to a folder DST that PairFolder reads.

A `Layout` says where the images, masks and patients are. Pairs that cannot be used are left out,
and the report says why. SRC is not changed; an interrupted command can be repeated.

DST/images/NAME.png  grey, 8 bits, or 16 if the source has more or is made smaller
DST/masks/NAME.png   0 and 255
DST/manifest.csv     name, patient, path of the image in SRC
DST/report.json      pairs, patients, files left out by reason, mask areas, identical images
DST/contact.png      some of the pairs
"""

import csv
import hashlib
import io
import re
import unicodedata
from collections import Counter, defaultdict
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure
from tqdm import tqdm

from minipig import plot
from minipig.data import layouts
from minipig.data.convert import Unusable, read_pair, write_values
from minipig.data.files import claim_folder, write_atomically, write_figure, write_json
from minipig.data.images import CHANNELS, fit_into, fit_mask, grey_values, open_image
from minipig.data.layouts import Layout
from minipig.data.pair_table import PairTable, read_pair_table
from minipig.data.shrunk import Shrunk

SHOWN = 32  # pairs on the contact sheet
THUMBNAIL = (96, 96)


def prepare(src: Path, dst: Path, layout: Layout) -> dict:
    """Write the usable pairs of `src` and a report to `dst`; return the report.

    Raises FileNotFoundError or ValueError, with nothing written, if `src` is not a folder, `dst` is
    inside `src` or contains other files, `layout` is invalid, or no pair is usable.
    """
    check_arguments(src, dst, layout)
    table = read_pair_table(Path(layout.csv), src, layout.split) if layout.csv else PairTable()
    if layout.csv:
        images, masks_of, left_out = table.images, table.masks, table.left_out
    else:
        images, masks_of, left_out = layouts.images_and_masks(src, layout)
    uses = Counter(mask for path in images for mask in masks_of[path])
    names = layouts.unique_names(images)
    patients = {}
    for path in images:
        try:
            if {unicodedata.category(c) for c in path} & {"Cc", "Cs", "Zl", "Zp"}:
                raise ValueError("the name has characters that cannot be printed; rename it")
            told = table.patients.get(path) or layouts.patient_of(path, layout.patient)
            patients[path] = told or names[path]
        except ValueError as error:
            left_out[str(error)].append(path)
    expected = {names[path] for path in patients}

    details: dict[str, str] = {}  # by reason: what is wrong with its first file
    rows, areas, same, coloured, shrunk = [], [], defaultdict(list), 0, Shrunk(layout.size)
    for path in tqdm(patients, desc=f"preparing {src.name}", disable=None):
        try:
            if not layout.csv and any(uses[mask] > 1 for mask in masks_of[path]):
                raise Unusable(f"its mask belongs to another image, too; {layouts.NARROWER}")
            image, mask, colours = read_pair(src, path, masks_of[path], layout)
            small = fit_mask(mask, layout.size)
            if mask.any() and not small.any() and not layout.keep_healthy:
                raise Unusable("the lesion is too small to be seen at --size; raise it")
        except Unusable as error:
            left_out[str(error)].append(path)
            details.setdefault(str(error), error.detail)
            continue
        if not rows:  # the first usable pair: only now is `dst` written
            config = asdict(layout) | {"src": str(src.resolve())}
            config["csv"] = layout.csv and str(Path(layout.csv).resolve())
            claim(dst, config, expected)
            # an interrupted run must not leave pairs without their patients
            write_manifest(dst, [(names[path], patients[path], path) for path in patients])
        name = names[path]
        shrunk.count(mask, small)
        coloured += colours
        areas.append(float(small.mean()))
        same[hashlib.sha256(image.tobytes() + str(image.shape).encode()).hexdigest()].append(name)
        write_values(dst / "images" / name, fit_into(image, layout.size, fill=image.min()))
        write_values(dst / "masks" / name, small)
        rows.append((name, patients[path], path))
    if not rows:
        raise ValueError(f"no image in {src} can be used: {' | '.join(reasons(left_out, details))}")

    known = {*images, *(mask for masks in masks_of.values() for mask in masks)}
    if not layout.csv and (alone := layouts.masks_without_image(src, layout, known)):
        left_out["a mask without an image"] = alone
    # pairs of an earlier run that can no longer be used
    for name in expected - {name for name, *_ in rows}:
        for part in ("images", "masks"):
            (dst / part / name).unlink(missing_ok=True)
    write_manifest(dst, rows)
    least, median, most = np.quantile(areas, (0, 0.5, 1)).tolist()
    named = layout.patient or any(table.patients.values())
    notes = table.notes + shrunk.notes(len(rows))
    if coloured and not layout.channel:
        grey = f"{coloured} of {len(rows)} images are in colour and become grey (luminance)"
        notes.append(f"{grey}; --channel {'|'.join(CHANNELS)} takes one channel")
    report = {
        "pairs": len(rows),
        "patients": len({patient for _, patient, _ in rows}) if named else None,
        "left_out": dict(left_out),
        "details": details,
        "mask_area": {"least": least, "median": median, "most": most},
        "over_half": sum(area > 0.5 for area in areas),
        "identical": [group for group in same.values() if len(group) > 1],
        "notes": notes,
    }
    write_json(dst / "report.json", report)
    write_figure(dst / "contact.png", contact_sheet(dst, [name for name, *_ in rows]))
    return report


def contact_sheet(dst: Path, names: list[str]) -> Figure:
    """SHOWN of the written pairs, evenly spaced, with their names."""
    places = np.linspace(0, len(names) - 1, min(SHOWN, len(names))).round().astype(int)
    chosen = [names[i] for i in places]
    images, masks = [], []
    for name in chosen:
        image, mask = (open_image(dst / part / name) for part in ("images", "masks"))
        image = grey_values(dst / name, image)
        images.append(fit_into(image, THUMBNAIL, image.min()) * 2 - 1)
        masks.append(fit_into(np.asarray(mask) / np.float32(255), THUMBNAIL, 0) * 2 - 1)
    masks, images = (torch.from_numpy(np.stack(part))[:, None] for part in (masks, images))
    return plot.pair_grid(masks, images, names=[Path(name).stem for name in chosen])


def check_arguments(src: Path, dst: Path, layout: Layout) -> None:
    """Raise FileNotFoundError or ValueError for arguments of `prepare` that are invalid."""
    if not src.is_dir():
        remedy = "unpack it first" if src.is_file() else "correct SRC"
        raise FileNotFoundError(f"{src} is not a folder; {remedy}")
    if dst.resolve().is_relative_to(src.resolve()):
        raise ValueError(f"{dst} is inside {src}, which must not change; give a DST outside it")
    for name in ("threshold", "label"):
        if (value := getattr(layout, name)) is not None and value < 0:
            raise ValueError(f"--{name} must be at least 0, not {value}")
    if layout.threshold is not None and layout.label is not None:
        raise ValueError("--threshold and --label both say what is lesion; give one of them")
    if layout.csv and (layout.images or layout.masks):
        raise ValueError("--csv says which images and masks; leave --images and --masks out")
    if layout.split and not layout.csv:
        raise ValueError("--split chooses rows of a table; give --csv")
    try:
        re.compile(layout.patient or "")
    except re.error as error:
        problem = f"--patient {layout.patient} is not a regular expression ({error}); correct it"
        raise ValueError(problem) from error


def claim(dst: Path, config: dict, names: set[str]) -> None:
    """Write or compare dst/config.json. Raises ValueError if `dst` contains other files."""
    if dst.is_dir() and any(dst.iterdir()) and not (dst / "config.json").exists():
        raise ValueError(f"{dst} is not empty; give a new DST")
    claim_folder(dst, config, option="DST", defaults=asdict(Layout()))
    for path in sorted([*dst.glob("images/*.png"), *dst.glob("masks/*.png")]):
        if path.name not in names:
            remedy = "remove it or give a new DST"
            raise ValueError(f"{path} does not come from {config['src']}; {remedy}")


def write_manifest(dst: Path, rows: list[tuple[str, str, str]]) -> None:
    """Write manifest.csv with rows of name, patient, source."""
    table = io.StringIO()
    csv.writer(table, lineterminator="\n").writerows([("name", "patient", "source"), *rows])
    write_atomically(dst / "manifest.csv", table.getvalue().encode())


def reasons(left_out: dict[str, list[str]], details: dict[str, str]) -> list[str]:
    """One line for each reason: how many files, the first of them, and what is wrong with it."""
    found = []
    for reason, paths in sorted(left_out.items(), key=lambda item: -len(item[1])):
        detail = f" ({details[reason]})" if details.get(reason) else ""
        found.append(f"{len(paths)} file(s), such as {paths[0]!r}{detail}: {reason}")
    return found


def summary(report: dict, dst: Path) -> str:
    """Describe the report in a few lines."""
    if report["patients"] is None:
        where = "--patient finds them in the path, a column patient of --csv names them"
        whose = f"unknown patients (each counts as one of its own; {where})"
    else:
        whose = f"{report['patients']} patients"
    lines = [f"{report['pairs']} pairs of {whose} in {dst}"]
    area = "lesions cover {least:.1%} to {most:.1%} of an image, median {median:.1%}"
    lines.append(area.format(**report["mask_area"]))
    if report["over_half"]:
        share = "cover more than half of their image; invert them if they are wrong (--invert)"
        lines.append(f"{report['over_half']} masks {share}")
    lines += [f"note: {note}" for note in report["notes"]]
    lines += [f"left out {line}" for line in reasons(report["left_out"], report["details"])]
    if report["identical"]:
        some = " and ".join(report["identical"][0][:2])
        count = f"{len(report['identical'])} images occur more than once, such as {some}"
        lines.append(f"{count}; all copies are trained on, or all are held out")
    return "\n".join(lines)
