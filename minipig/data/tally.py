"""What `prepare` found in a set: the counts of its report, and the report in words."""

from collections import defaultdict
from pathlib import Path

import numpy as np

from minipig.data.convert import Unusable
from minipig.data.doubts import Doubts
from minipig.data.layouts import Layout
from minipig.data.manifest import identity
from minipig.data.pair_table import PairTable
from minipig.data.pairs import hash_of


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
        self.same = defaultdict(list)  # names by the hash of their image
        self.doubts = Doubts(layout.size)

    def use(
        self,
        row: tuple[str, str, str],
        image: np.ndarray,
        coloured: bool,
        mask: np.ndarray,
        small: np.ndarray,
        values: list[np.ndarray],
    ) -> None:
        """Count a pair: its image and mask as they were read, and the mask as it is written.

        values: those of its masks, where the larger of two was taken for the lesion.
        """
        self.doubts.see(image, coloured, mask, small)
        for each in values:
            self.doubts.see_values(each)
        if image.min() < image.max():  # not blank
            self.same[hash_of(image)].append(row[0])
        self.rows.append(row)

    def leave_out(self, path: str, error: Unusable) -> None:
        """Count a pair that cannot be used."""
        self.left_out[str(error)].append(path)
        self.details.setdefault(str(error), error.detail)

    def report(self) -> dict:
        """What report.json holds."""
        least, median, most = np.quantile(self.doubts.areas, (0, 0.5, 1)).tolist()
        patients = {who if who == name else identity(who) for name, who, _ in self.rows}
        named = self.layout.patient or self.table.names_patients
        return {
            "pairs": len(self.rows),
            "patients": len(patients) if named else None,
            "left_out": dict(self.left_out),
            "details": self.details,
            "mask_area": {"least": least, "median": median, "most": most},
            "identical": [group for group in self.same.values() if len(group) > 1],
            "notes": self.table.notes + self.doubts.notes(),
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
    lines += [f"note: {note}" for note in report["notes"]]
    lines += [f"left out {line}" for line in reasons(report["left_out"], report["details"])]
    if report["identical"]:
        some = " and ".join(report["identical"][0][:2])
        count = f"{len(report['identical'])} images occur more than once, such as {some}"
        lines.append(f"{count}; all copies are trained on, or all are held out")
    return "\n".join(lines)
