"""Which pairs a set has, and whose they are: by the patterns of a layout, or by a CSV table."""

import csv
import os
import re
import unicodedata
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from pathlib import Path

from minipig.data.layouts import Layout, images_and_masks, patient_of
from minipig.data.manifest import identity, one_form, read_patients, unnamed_patients, unread_tables
from minipig.data.tree import find

COLUMNS = ("image", "mask", "patient", "split")
# columns that may name patients, in small letters
PATIENTS = re.compile("patient|subject|participant|person|^case|^pid|[_ ]pid$")


@dataclass
class PairTable:
    """images, the masks of each, and the patients that are named; paths relative to SRC, with /.

    left_out: paths of rows whose files are not there, by reason; notes: what the user should know.
    """

    images: list[str] = field(default_factory=list)
    masks: dict[str, list[str]] = field(default_factory=dict)
    patients: dict[str, str] = field(default_factory=dict)
    left_out: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    notes: list[str] = field(default_factory=list)


def find_pairs(src: Path, layout: Layout) -> PairTable:
    """The images and the masks of each, by the table or by the patterns of `layout`."""
    if layout.csv:
        return read_pair_table(Path(layout.csv), src, layout)
    images, masks_of, left_out = images_and_masks(src, layout)
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
            told = table.patients.get(path) or patient_of(path, layout.patient)
            patients[path] = told or names[path]
        except ValueError as error:
            table.left_out[str(error)].append(path)
    return patients


def read_pair_table(path: Path, src: Path, layout: Layout) -> PairTable:
    """Read the columns image and mask, and patient and split if they are there.

    An image may have several rows, one a mask; if a file of one of them is not there, the image is
    left out. Raises FileNotFoundError, or ValueError that names the line.
    """
    split = layout.split
    if not path.is_file():
        raise FileNotFoundError(f"{path} is not a file; correct --csv")
    table = PairTable()
    splits: dict[str, int] = defaultdict(int)
    incomplete, spelt = set(), {}
    if not path.read_bytes().isascii():  # é may be written otherwise than in the files' names
        spelt = {one_form(file): file for file in find(src, "**/*")}
    with path.open(newline="", encoding="utf-8-sig") as file:
        try:
            rows = csv.DictReader(file, restval="")
            names = {(name or "").strip().lower(): name for name in rows.fieldnames or ()}
            needed = {"image", "mask"} | ({"split"} if split else set())
            if not needed <= names.keys():
                found = ", ".join(names) or "no columns"
                wanted = f"it needs {' and '.join(sorted(needed))}, separated by commas"
                raise ValueError(f"{path} has the columns {found}; {wanted}")
            for row in rows:
                cells = {name: row[names[name]].strip() for name in COLUMNS if name in names}
                if not any(cells.values()):
                    continue
                splits[cells.get("split", "")] += 1
                if not split or cells["split"] == split:
                    incomplete |= add_row(table, cells, src, spelt, f"{path}, line {rows.line_num}")
        except (csv.Error, UnicodeDecodeError) as error:
            raise ValueError(f"{path} is not a CSV table in UTF-8 ({error}); correct it") from error
    table.images = [image for image in table.images if image not in incomplete]
    if not table.images:
        there = f"with split {split}; there are {', '.join(sorted(splits))}" if split else "at all"
        left = "; ".join(f"{paths[0]}: {why}" for why, paths in table.left_out.items())
        raise ValueError(f"{path} has no usable row {there}" + f" ({left})" * bool(left))
    others = ", ".join(
        f"{n} of {name or 'no split'}" for name, n in splits.items() if name != split
    )
    if split and others:
        table.notes.append(f"rows of other splits are left out: {others}")
    elif len(splits) > 1:
        table.notes.append(f"all splits of the table are used: {others}; --split takes one")
    whose = [table.patients[image] for image in table.images]
    alone = whose.count("")
    unread = [name for name in names if PATIENTS.search(name) and name not in COLUMNS]
    if unread and "patient" not in names:
        table.notes.append(f"the column {unread[0]} is not read; patients are in one named patient")
    if "patient" in names and alone and not layout.patient:
        table.notes.append(f"{alone} images name no patient; each counts as one of its own")
    table.notes += unnamed_patients(whose)
    if not (layout.patient or any(whose)):
        table.notes += unread_tables(src, "patients are in a column patient of --csv", path)
    return table


def add_row(
    table: PairTable, cells: dict[str, str], src: Path, spelt: dict[str, str], place: str
) -> set[str]:
    """Add one row; return its image if a file is not there. spelt: files by their `one_form`.

    Raises ValueError at `place` if it lacks a path or names one twice, or two rows disagree.
    """
    if not cells["image"] or not cells["mask"]:
        remedy = "complete it (a black mask for no lesion), or remove it"
        raise ValueError(f"{place} has no image or no mask; {remedy}")
    image, mask = (relative(cells[name], src) for name in ("image", "mask"))
    image, mask = (spelt.get(one_form(path), path) for path in (image, mask))
    if image == mask:
        raise ValueError(f"{place} names {image} as image and as its mask; correct it")
    absent = [name for name in (image, mask) if not (src / name).is_file()]
    if absent:
        table.left_out["the file is not there; correct --csv"].append(absent[0])
        return {image}
    if image not in table.masks:
        table.images.append(image)
    if mask not in table.masks.setdefault(image, []):
        table.masks[image].append(mask)
    patient = cells.get("patient", "")
    before = table.patients.setdefault(image, patient)
    if identity(before) != identity(patient):
        both = f"{before or 'nobody'} and {patient or 'nobody'}"
        raise ValueError(f"{place} gives {image} to two patients, {both}; correct it")
    return set()


def relative(path: str, src: Path) -> str:
    """A path as in a table, absolute or with \\, relative to `src` and with /."""
    path = path.replace("\\", "/")
    if Path(path).is_absolute() and Path(path).resolve().is_relative_to(src.resolve()):
        path = str(Path(path).resolve().relative_to(src.resolve()))
    return os.path.normpath(path).replace(os.sep, "/")
