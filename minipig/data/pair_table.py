"""A table of pairs in a CSV file: which mask and which patient belong to each image."""

import csv
import os
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path

COLUMNS = ("image", "mask", "patient", "split")


@dataclass
class PairTable:
    """images, the masks of each, and the patients that are named; paths relative to SRC, with /.

    left_out: paths of rows whose files are not there, by reason.
    """

    images: list[str] = field(default_factory=list)
    masks: dict[str, list[str]] = field(default_factory=dict)
    patients: dict[str, str] = field(default_factory=dict)
    left_out: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))


def read_pair_table(path: Path, src: Path, split: str | None = None) -> PairTable:
    """Read the columns image and mask, and patient and split if they are there.

    An image may have several rows, one a mask. split: only the rows with this word in that column.
    Raises FileNotFoundError, or ValueError that names the line.
    """
    table = PairTable()
    splits = set()
    with path.open(newline="", encoding="utf-8-sig") as file:
        try:
            rows = csv.DictReader(file, restval="")
            columns = set(rows.fieldnames or ())
            needed = {"image", "mask"} | ({"split"} if split else set())
            if not needed <= columns:
                found = f"has the columns {rows.fieldnames}, separated by commas"
                raise ValueError(f"{path} {found}; it needs {' and '.join(sorted(needed))}")
            for row in rows:
                cells = {name: row[name].strip() for name in COLUMNS if name in columns}
                splits.add(cells.get("split", ""))
                if not split or cells["split"] == split:
                    add_row(table, cells, src, f"{path}, line {rows.line_num}")
        except (csv.Error, UnicodeDecodeError) as error:
            raise ValueError(f"{path} is not a CSV table in UTF-8 ({error}); correct it") from error
    if not table.images:
        there = f"with split {split}; there are {', '.join(sorted(splits))}" if split else "at all"
        left = "; ".join(f"{paths[0]}: {why}" for why, paths in table.left_out.items())
        raise ValueError(f"{path} has no usable row {there}" + f" ({left})" * bool(left))
    return table


def add_row(table: PairTable, cells: dict[str, str], src: Path, place: str) -> None:
    """Add one row; raises ValueError at `place` if it lacks a path, or two rows disagree."""
    image, mask = (relative(cells[name], src) for name in ("image", "mask"))
    if not cells["image"] or not cells["mask"]:
        raise ValueError(f"{place} has no image or no mask; complete it, or remove it")
    for name in (image, mask):
        if not (src / name).is_file():
            table.left_out["the file is not there; correct --csv"].append(name)
            return
    if image not in table.masks:
        table.images.append(image)
    table.masks.setdefault(image, []).append(mask)
    patient = cells.get("patient", "")
    before = table.patients.setdefault(image, patient)
    if before != patient:
        both = f"{before or 'nobody'} and {patient or 'nobody'}"
        raise ValueError(f"{place} gives {image} to two patients, {both}; correct it")


def relative(path: str, src: Path) -> str:
    """A path as in a table, absolute or with \\, relative to `src` and with /."""
    path = path.replace("\\", "/")
    if os.path.isabs(path):
        path = os.path.relpath(path, src)
    return os.path.normpath(path).replace(os.sep, "/")
