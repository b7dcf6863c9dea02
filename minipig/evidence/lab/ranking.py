"""The rows of the lab, best first, and as text; runner.py explains their keys."""

import numpy as np
from scipy import stats

from minipig.evidence.metrics import BETTER
from minipig.evidence.tables.text import columns
from minipig.worlds.verdict import WORLDS

RANKED = ("fd", "fd_lesion", "agreement", "dice")
EACH = (*RANKED, "nearer")  # what a trained row has for each seed


def ranked(rows: dict[str, dict]) -> dict[str, dict]:
    """The rows, best first.

    Trained rows by their mean rank in RANKED, of means over the seeds that all of them have; then
    the others by their total variation at most steps.
    """
    trained = {name: row for name, row in rows.items() if "seeds" in row}
    common = set()
    if trained:
        common = set.intersection(*(set(row["seeds"]) for row in trained.values()))

    def mean(row: dict, key: str) -> float:
        values = zip(row["seeds"], row[key])
        return np.mean([value for seed, value in values if seed in common or not common])

    ranks = []
    for key in RANKED:
        values = [-BETTER[key] * mean(row, key) for row in trained.values()]
        ranks.append(stats.rankdata(values))
    score = dict(zip(trained, np.mean(ranks, axis=0)))
    for name in rows.keys() - trained.keys():
        verdicts = [list(found.values())[-1] for found in rows[name].get("exact", {}).values()]
        score[name] = len(rows) + (np.mean(verdicts) if verdicts else 1)
    return {name: rows[name] for name in sorted(rows, key=lambda name: (score[name], name))}


def show(rows: dict[str, dict]) -> str:
    """The rows as text: total variation in the exact worlds, mean ± standard error, and costs."""
    lines = [["", *(f"exact, {world}" for world in WORLDS), *EACH, "seeds", "calls", "parameters"]]
    for name, row in rows.items():
        line = [name]
        for world in WORLDS:
            line.append(f"{[*row['exact'][world].values()][-1]:.3f}" if "exact" in row else "")
        for key in EACH:
            values = np.array(row.get(key, []))
            error = f" ± {stats.sem(values):.3f}" if values.size > 1 else ""
            line.append(f"{values.mean():.3f}{error}" if values.size else "")
        counts = [len(row.get("seeds", [])), row.get("calls"), row.get("parameters")]
        lines.append([*line, *(f"{count:,}" if count else "" for count in counts)])
    filled = [column for column in zip(*lines) if any(column[1:])]
    return "\n".join(columns(list(zip(*filled))))
