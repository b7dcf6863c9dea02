"""`minipig prepare`: convert a published set in SRC to a folder DST that PairFolder reads.

A `Layout` says where the images, masks and patients are. Pairs that cannot be used are left out,
and the report says why. SRC is not changed; an interrupted command can be repeated.

DST/images/NAME.png  grey, 8 bits, or 16 if the source has more or is resized
DST/masks/NAME.png   0 and 255
DST/manifest.csv     name, patient, path of the image in SRC
DST/report.json      pairs, patients, files left out by reason, mask areas, identical images
DST/contact.png      some of the pairs
"""

import os
import re
from collections import Counter, defaultdict
from dataclasses import asdict
from pathlib import Path, PurePosixPath

import numpy as np
import torch
from matplotlib.figure import Figure

from minipig import plot
from minipig.data import layouts
from minipig.data.convert import Unusable, read_pair, write_values
from minipig.data.doubts import Doubts
from minipig.data.files import claim_folder, files_in, write_figure, write_json, write_table
from minipig.data.heartbeat import watched
from minipig.data.images import fit_into, fit_mask, read_image
from minipig.data.layouts import Layout
from minipig.data.manifest import identity, one_form, rows_of
from minipig.data.pair_table import find_pairs, find_patients
from minipig.data.pairs import hash_of
from minipig.data.tree import unreadable

SHOWN = 32  # pairs on the contact sheet
THUMBNAIL = (96, 96)
COLUMNS = ("name", "patient", "source")  # of manifest.csv


def prepare(src: Path, dst: Path, layout: Layout) -> dict:
    """Write the usable pairs of `src` and a report to `dst`; return the report.

    Raises FileNotFoundError or ValueError, with nothing written, if `src` is not a folder, `dst` is
    inside `src` or contains other files, `layout` is invalid, or no pair is usable.
    """
    check_arguments(src, dst, layout)
    table = find_pairs(src, layout)
    names = layouts.unique_names(table.images)
    patients = find_patients(table, names, layout)
    expected = {names[path] for path in patients}
    uses = Counter(mask for path in table.images for mask in table.masks[path])
    rows, copies, doubts = [], defaultdict(list), Doubts(layout.size)
    left_out, details = table.left_out, {}
    for path in watched(patients, f"preparing {src.name}"):
        try:
            if not layout.csv and any(uses[mask] > 1 for mask in table.masks[path]):
                remedy = layouts.mirrored(layout) or "; or name the pairs in a table, --csv"
                reason = f"its mask belongs to another image, too; {layouts.NARROWER}{remedy}"
                raise Unusable(reason)
            image, mask, coloured, levels = read_pair(src, path, table.masks[path], layout)
            small = fit_mask(mask, layout.size)
            if mask.any() and not small.any() and not layout.keep_healthy:
                raise Unusable("the lesion is too small to be seen at --size; raise it")
        except Unusable as error:
            left_out[str(error)].append(path)
            details.setdefault(str(error), error.detail)
            continue
        if not rows:  # the first usable pair: only now is `dst` written
            claim(src, dst, layout, expected)
            # an interrupted run must not leave pairs without their patients
            whose = [(names[path], patients[path], path) for path in patients]
            keep_corrections(dst, {name: who for name, who, _ in whose})
            write_table(dst / "manifest.csv", [COLUMNS, *whose])
        name = names[path]
        write_values(dst / "images" / name, fit_into(image, layout.size, fill=image.min()))
        write_values(dst / "masks" / name, small)
        doubts.see(image, coloured, mask, small, levels)
        if image.min() < image.max():  # not blank
            copies[hash_of(image)].append(name)
        rows.append((name, patients[path], path))
    if not rows:
        why = " | ".join(reasons(left_out, details))
        raise ValueError(f"no image in {src} can be used: {why}")

    used = [name for name, *_ in rows]
    known = {*table.masks, *(mask for masks in table.masks.values() for mask in masks)}
    if not layout.csv and (alone := layouts.masks_without_image(src, layout, known)):
        left_out["a mask without an image"] = alone
    for name in expected - set(used):  # pairs of an earlier run that can no longer be used
        for part in ("images", "masks"):
            (dst / part / name).unlink(missing_ok=True)
    write_table(dst / "manifest.csv", [COLUMNS, *rows])
    people = {who if who == name else identity(who) for name, who, _ in rows}
    least, median, most = np.quantile(doubts.areas, (0, 0.5, 1)).tolist()
    report = {
        "pairs": len(rows),
        "patients": len(people) if any(who != name for name, who, _ in rows) else None,
        "left_out": dict(left_out),
        "details": details,
        "mask_area": {"least": least, "median": median, "most": most},
        "identical": [group for group in copies.values() if len(group) > 1],
        "notes": [*unreadable(src), *table.notes, *doubts.notes()],
    }
    write_json(dst / "report.json", report)
    write_figure(dst / "contact.png", contact_sheet(dst, used))
    return report


def contact_sheet(dst: Path, names: list[str]) -> Figure:
    """SHOWN of the written pairs, evenly spaced, with their names."""
    places = np.linspace(0, len(names) - 1, min(SHOWN, len(names))).round().astype(int)
    chosen = [names[i] for i in places]
    images, masks = [], []
    for name in chosen:
        (image, _), (mask, _) = (read_image(dst / part / name) for part in ("images", "masks"))
        images.append(fit_into(image, THUMBNAIL, image.min()) * 2 - 1)
        masks.append(fit_into(mask, THUMBNAIL, 0) * 2 - 1)
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
        if (value := getattr(layout, name)) is not None and np.min(value) < 0:
            raise ValueError(f"--{name} must be at least 0, not {value}")
    if layout.threshold is not None and layout.label is not None:
        raise ValueError("--threshold and --label both say what is lesion; give one of them")
    if layout.csv and (layout.images or layout.masks):
        raise ValueError("--csv says which images and masks; leave --images and --masks out")
    for name in ("images", "masks"):
        if os.path.isabs(value := getattr(layout, name)):
            raise ValueError(f"--{name} {value} is absolute; give it from {src} on, without that")
    if layout.split and not layout.csv:
        raise ValueError("--split chooses rows of a table; give --csv")
    try:
        re.compile(layout.patient or "")
    except re.error as error:
        problem = f"--patient {layout.patient} is not a regular expression ({error}); correct it"
        raise ValueError(problem) from error


def claim(src: Path, dst: Path, layout: Layout, names: set[str]) -> None:
    """Write or compare dst/config.json. Raises ValueError if `dst` contains other files."""
    if any(files_in(dst)) and not (dst / "config.json").exists():
        raise ValueError(f"{dst} is not empty; give a new DST")
    config = asdict(layout) | {"src": str(src.resolve())}
    for part in ("images", "masks"):  # without what changes nothing, as in ./images//*.png
        config[part] = config[part] and PurePosixPath(config[part]).as_posix()
    config["csv"] = layout.csv and str(Path(layout.csv).resolve())
    remedy = f"DST, or remove {dst} if only SRC or its table has moved"
    claim_folder(dst, config, option=remedy)
    for path in sorted([*dst.glob("images/*.png"), *dst.glob("masks/*.png")]):
        if path.name not in names:
            remedy = "remove it or give a new DST"
            raise ValueError(f"{path} does not come from {config['src']}; {remedy}")


def keep_corrections(dst: Path, patients: dict[str, str]) -> None:
    """Raise ValueError if the manifest of a finished `dst` gives an image another patient."""
    manifest = dst / "manifest.csv"
    if not manifest.exists() or not (dst / "report.json").exists():
        return
    theirs = {one_form(name): who.strip() for name, who in patients.items()}
    for name, who in rows_of(manifest).items():
        if theirs.get(name, who) != who:
            problem = f"{manifest} gives {name} the patient {who}, SRC gives {theirs[name]}"
            remedy = "to keep what was corrected by hand, give a new DST; else remove the manifest"
            raise ValueError(f"{problem}; {remedy}")


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
    lines += [f"note: {note}" for note in report["notes"]]
    lines += [f"left out {line}" for line in reasons(report["left_out"], report["details"])]
    if report["identical"]:
        some = " and ".join(report["identical"][0][:2])
        count = f"{len(report['identical'])} images occur more than once, such as {some}"
        lines.append(f"{count}; all copies are trained on, or all are held out")
    return "\n".join(lines)
