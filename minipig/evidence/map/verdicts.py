"""Gains and verdicts from the map's Dice, {source: {patients: {seed: Dice}}}."""

from typing import Iterable

import numpy as np

from minipig.evidence.map.design import HYPOTHESES, PATIENTS, SEEDS
from minipig.evidence.metrics import interval
from minipig.evidence.tables.hypotheses import INDEPENDENT


def difference(values: dict, source: str, base: str, patients: int) -> np.ndarray:
    """The Dice of a source minus that of its base, one a seed that has both."""
    mine, other = (values.get(name, {}).get(str(patients), {}) for name in (source, base))
    return np.array([mine[seed] - other[seed] for seed in mine if seed in other])


def gains(values: dict, base: str, sources: tuple[str, ...]) -> dict[str, dict]:
    """Gains over `base`: {source: {patients: [mean, low, high]}}, 95 % over the seeds."""
    rows: dict[str, dict] = {}
    for source in sources:
        for count in PATIENTS:
            change = difference(values, source, base, count)
            if len(change):
                row = rows.setdefault(source, {})
                row[str(count)] = [float(change.mean()), *interval(change, INDEPENDENT)]
    return rows


def judged(values: dict) -> dict[str, dict]:
    """Each hypothesis: {"claim", "bound", "verdict", "patients": {count: {"over", ...}}, "so_far"}.

    Every number of patients is judged alone, as soon as all replicas are there, and all must hold.
    "over" is the best rival, chosen by the values that PIG is compared with, which favours the
    rival; "interval" is 95 %. "so_far" is the same over the best of the rivals that are complete,
    where others are not: the estimate can only fall.

    shown: the intervals lie above the bound; holds: the estimates reach it, and the intervals lie
    above 0; refuted: an interval lies below the bound; fails: none of these; cannot hold: replicas
    are missing, but an estimate is below the bound already; undecided: replicas are missing.
    """
    results = {}
    for name, (claim, source, bases, bound, counts) in HYPOTHESES.items():
        found: dict[str, dict] = {}
        so_far: dict[str, dict] = {}
        for count in counts:
            over = {base: difference(values, source, base, count) for base in bases}
            over = {base: change for base, change in over.items() if len(change) == len(SEEDS)}
            if over:
                base = min(over, key=lambda base: over[base].mean())
                mean, ends = float(over[base].mean()), interval(over[base], INDEPENDENT)
                part = dict(over=base, estimate=mean, interval=list(ends))
                (found if len(over) == len(bases) else so_far)[str(count)] = part
        results[name] = dict(claim=claim, bound=bound, patients=found, so_far=so_far)
        if len(found) == len(counts):
            results[name]["verdict"] = verdict(found.values(), bound)
        else:
            low = any(part["estimate"] < bound for part in (found | so_far).values())
            results[name]["verdict"] = "cannot hold" if low else "undecided"
    return results


def verdict(found: Iterable[dict], bound: float) -> str:
    """The word for these estimates and intervals; see `judged`."""
    found = list(found)
    low, high = np.transpose([part["interval"] for part in found])
    if (low >= bound).all():
        return "shown"
    if (high < bound).any():
        return "refuted"
    reached = all(part["estimate"] >= bound for part in found)
    return "holds" if reached and (low > 0).all() else "fails"
