"""The lab's rows in order, best first, and as text. Their keys are those of lab.py."""

import numpy as np
from scipy import stats

from .worlds import WORLDS

MEASURES = {"fd": -1, "fd_lesion": -1, "agreement": 1, "dice": 1}  # of a trained variant, and which way is better
EACH = (*MEASURES, "nearer")  # what a row has once a seed


def ranked(rows: dict[str, dict]) -> dict[str, dict]:
    """The rows, best first: the trained by the mean of their ranks in each of MEASURES, of the mean over the seeds that all
    of them have; then the untrained by their total variation."""
    trained = {name: row for name, row in rows.items() if "seeds" in row}
    common = set.intersection(*(set(row["seeds"]) for row in trained.values())) if trained else set()

    def of(row: dict, key: str) -> float:
        return np.mean([value for seed, value in zip(row["seeds"], row[key]) if seed in common or not common])

    columns = [[-sign * of(row, key) for row in trained.values()] for key, sign in MEASURES.items()]
    score = dict(zip(trained, np.mean([stats.rankdata(column) for column in columns], axis=0)))
    for name in rows.keys() - trained.keys():
        verdicts = rows[name].get("exact", {}).values()
        score[name] = len(rows) + (np.mean([list(found.values())[-1] for found in verdicts]) if verdicts else 1)
    return {name: rows[name] for name in sorted(rows, key=lambda name: (score[name], name))}


def show(rows: dict[str, dict]) -> str:
    """The ranking: total variation in the exact worlds at most steps, mean ± standard error of the trained, and costs."""
    lines = [["", *(f"exact, {world}" for world in WORLDS), *EACH, "seeds", "calls", "parameters"]]
    for name, row in rows.items():
        exact = [f"{[*row['exact'][world].values()][-1]:.3f}" if "exact" in row else "" for world in WORLDS]
        cells = [np.array(row.get(key, [])) for key in EACH]
        trained = [f"{c.mean():.3f}" + (f" ± {stats.sem(c):.3f}" if c.size > 1 else "") if c.size else "" for c in cells]
        counts = [len(row["seeds"]) if "seeds" in row else "", *(row.get(key, "") for key in ("calls", "parameters"))]
        lines.append([name, *exact, *trained, *(f"{count:,}" if count else "" for count in counts)])
    lines = list(zip(*(column for column in zip(*lines) if any(column[1:]))))  # no column without a value
    widths = [max(map(len, column)) for column in zip(*lines)]
    return "\n".join(
        "  ".join(f"{cell:{'<' if i == 0 else '>'}{w}}" for i, (cell, w) in enumerate(zip(line, widths))) for line in lines
    )
