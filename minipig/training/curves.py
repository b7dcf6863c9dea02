"""The losses of a run: RUN/losses.csv for a spreadsheet, RUN/losses.png for the eye."""

import csv
from pathlib import Path

from minipig import plot
from minipig.data.files import write_figure, write_table

Curves = dict[str, list[float]]  # the loss of each step, by network
Points = dict[str, dict[int, float]]  # the held-out loss of some steps, by network


def write_curves(folder: Path, losses: Curves, held_out: Points) -> None:
    """Write both files; losses.csv has a row a step, and for each network one or two columns."""
    columns = {"step": list(range(1, 1 + max(map(len, losses.values()))))}
    for name, values in losses.items():
        columns[name] = values + [""] * (len(columns["step"]) - len(values))
        if name in held_out:
            columns[f"{name}_held_out"] = [held_out[name].get(s, "") for s in columns["step"]]
    write_table(folder / "losses.csv", [columns, *zip(*columns.values())])
    write_figure(folder / "losses.png", plot.loss_curves(losses, held_out=held_out))


def read_curves(folder: Path) -> tuple[Curves, Points]:
    """What `write_curves` has written to losses.csv."""
    losses: Curves = {}
    held_out: Points = {}
    with (folder / "losses.csv").open(newline="") as file:
        for row in csv.DictReader(file):
            step = int(row.pop("step"))
            for column, value in row.items():
                name = column.removesuffix("_held_out")
                if value and name == column:
                    losses.setdefault(name, []).append(float(value))
                elif value:
                    held_out.setdefault(name, {})[step] = float(value)
    return losses, held_out
