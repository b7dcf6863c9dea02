"""`minipig prepare`: convert a published set in SRC to a folder DST that PairFolder reads.

A `Layout` says where the images, masks and patients are. Pairs that cannot be used are left out,
and the report says why. SRC is not changed; an interrupted command can be repeated.

DST/images/NAME.png  grey, 8 bits, or 16 if the source has more or is made smaller
DST/masks/NAME.png   0 and 255
DST/manifest.csv     name, patient, path of the image in SRC
DST/report.json      pairs, patients, files left out by reason, mask areas, identical images
DST/contact.png      some of the pairs
"""

import re
import unicodedata
from collections import Counter
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure

from minipig import plot
from minipig.data import layouts
from minipig.data.convert import Unusable, read_pair, write_values
from minipig.data.files import claim_folder, write_figure, write_json, write_table
from minipig.data.heartbeat import watched
from minipig.data.images import fit_into, fit_mask, grey_values, open_image
from minipig.data.layouts import Layout
from minipig.data.manifest import read_patients, unread_tables
from minipig.data.pair_table import PairTable, read_pair_table
from minipig.data.tally import Tally, reasons

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
    tally = Tally(layout, table)
    for path in watched(patients, f"preparing {src.name}"):
        try:
            if not layout.csv and any(table.uses[mask] > 1 for mask in table.masks[path]):
                remedy = layouts.mirrored(layout) or "; or name the pairs in a table, --csv"
                reason = f"its mask belongs to another image, too; {layouts.NARROWER}{remedy}"
                raise Unusable(reason)
            image, mask, colours, values = read_pair(src, path, table.masks[path], layout)
            small = fit_mask(mask, layout.size)
            if mask.any() and not small.any() and not layout.keep_healthy:
                raise Unusable("the lesion is too small to be seen at --size; raise it")
        except Unusable as error:
            tally.leave_out(path, error)
            continue
        if not tally.rows:  # the first usable pair: only now is `dst` written
            config = asdict(layout) | {"src": str(src.resolve())}
            config |= {part: layouts.plain(config[part]) for part in ("images", "masks")}
            config["csv"] = layout.csv and str(Path(layout.csv).resolve())
            claim(dst, config, expected)
            # an interrupted run must not leave pairs without their patients
            whose = [(names[path], patients[path], path) for path in patients]
            write_table(dst / "manifest.csv", [COLUMNS, *whose])
        name = names[path]
        write_values(dst / "images" / name, fit_into(image, layout.size, fill=image.min()))
        write_values(dst / "masks" / name, small)
        tally.use((name, patients[path], path), image, colours, mask, small, values)
    if not tally.rows:
        why = " | ".join(reasons(tally.left_out, tally.details))
        raise ValueError(f"no image in {src} can be used: {why}")

    used = [name for name, *_ in tally.rows]
    known = {*table.masks, *(mask for masks in table.masks.values() for mask in masks)}
    if not layout.csv and (alone := layouts.masks_without_image(src, layout, known)):
        tally.left_out["a mask without an image"] = alone
    for name in expected - set(used):  # pairs of an earlier run that can no longer be used
        for part in ("images", "masks"):
            (dst / part / name).unlink(missing_ok=True)
    write_table(dst / "manifest.csv", [COLUMNS, *tally.rows])
    report = tally.report()
    write_json(dst / "report.json", report)
    write_figure(dst / "contact.png", contact_sheet(dst, used))
    return report


def find_pairs(src: Path, layout: Layout) -> PairTable:
    """The images and the masks of each, by the table or by the patterns of `layout`."""
    if layout.csv:
        table = read_pair_table(Path(layout.csv), src, layout.split, layout.patient)
        if not (table.names_patients or layout.patient):
            remedy = "patients are in a column patient of --csv"
            table.notes += unread_tables(src, remedy, Path(layout.csv))
        return table
    images, masks_of, left_out = layouts.images_and_masks(src, layout)
    table = PairTable(images, masks_of, left_out=left_out)
    if not layout.patient and not (src / "manifest.csv").exists():
        table.notes += unread_tables(src)
    elif not layout.patient:
        names = [Path(path).name for path in images]
        try:
            if twice := [name for name, count in Counter(names).items() if count > 1]:
                one = f"has one row for {twice[0]}, and several images have this name"
                raise ValueError(f"{src / 'manifest.csv'} {one}; give --patient or --csv")
            told, notes = read_patients(src, names)
            table.patients, table.notes = dict(zip(images, told)), notes
        except ValueError as error:
            table.notes.append(f"manifest.csv is not used: {error}")
    return table


def find_patients(table: PairTable, names: dict[str, str], layout: Layout) -> dict[str, str]:
    """The patient of each image, its own name if nobody tells; without those that have none."""
    patients = {}
    for path in table.images:
        try:
            if {unicodedata.category(c) for c in path} & {"Cc", "Cs", "Zl", "Zp"}:
                raise ValueError("the name has characters that cannot be printed; rename it")
            told = table.patients.get(path) or layouts.patient_of(path, layout.patient)
            patients[path] = told or names[path]
        except ValueError as error:
            table.left_out[str(error)].append(path)
    return patients


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
        if (value := getattr(layout, name)) is not None and np.min(value) < 0:
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
    remedy = f"DST, or remove {dst} if only SRC or its table has moved"
    claim_folder(dst, config, option=remedy, defaults=asdict(Layout()))
    for path in sorted([*dst.glob("images/*.png"), *dst.glob("masks/*.png")]):
        if path.name not in names:
            remedy = "remove it or give a new DST"
            raise ValueError(f"{path} does not come from {config['src']}; {remedy}")
