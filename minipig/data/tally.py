"""What `prepare` found in a set: the counts of its report, and the report in words."""

from collections import defaultdict
from pathlib import Path

import numpy as np

from minipig.data.convert import Unusable
from minipig.data.images import CHANNELS
from minipig.data.layouts import Layout
from minipig.data.manifest import identity
from minipig.data.pair_table import PairTable
from minipig.data.pairs import hash_of
from minipig.data.shrunk import Shrunk


class Tally:
    """Counts the pairs of `table` as they are used or left out.

    rows: (name, patient, path of the image) of each that is used; left_out: paths by reason;
    details: for each reason, what is wrong with the first.
    """

    def __init__(self, layout: Layout, table: PairTable):
        self.layout = layout
        self.table = table
        self.rows: list[tuple[str, str, str]] = []
        self.left_out = table.left_out
        self.details: dict[str, str] = {}
        self.areas: list[float] = []
        self.same = defaultdict(list)  # names by the hash of their image
        self.coloured = 0
        self.shrunk = Shrunk(layout.size)

    def use(
        self, row: tuple[str, str, str], image: np.ndarray, mask: np.ndarray, small: np.ndarray
    ) -> None:
        """Count a pair: its image and mask as they were read, and the mask as it is written."""
        self.shrunk.count(mask, small)
        self.areas.append(float(small.mean()))
        self.same[hash_of(image)].append(row[0])
        self.rows.append(row)

    def leave_out(self, path: str, error: Unusable) -> None:
        """Count a pair that cannot be used."""
        self.left_out[str(error)].append(path)
        self.details.setdefault(str(error), error.detail)

    def report(self) -> dict:
        """What report.json holds."""
        least, median, most = np.quantile(self.areas, (0, 0.5, 1)).tolist()
        patients = {who if who == name else identity(who) for name, who, _ in self.rows}
        named = self.layout.patient or self.table.names_patients
        notes = self.table.notes + self.shrunk.notes(len(self.rows))
        if empty := self.areas.count(0) - self.shrunk.lost:
            remedy = "; correct --threshold or --label" if empty == len(self.rows) else ""
            notes.append(f"{empty} of {len(self.rows)} masks have no lesion{remedy}")
        if self.coloured and not self.layout.channel:
            grey = f"{self.coloured} of {len(self.rows)} images are in colour and become grey"
            notes.append(f"{grey} (luminance); --channel {'|'.join(CHANNELS)} takes one channel")
        return {
            "pairs": len(self.rows),
            "patients": len(patients) if named else None,
            "left_out": dict(self.left_out),
            "details": self.details,
            "mask_area": {"least": least, "median": median, "most": most},
            "over_half": sum(area > 0.5 for area in self.areas),
            "identical": [group for group in self.same.values() if len(group) > 1],
            "notes": notes,
        }


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
