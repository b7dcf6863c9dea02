"""Where a set of pairs lies on the map: what was gained where about as many patients had masks."""

from math import log

from minipig.evidence.map.design import PATIENTS, RECIPE, SEEDS
from minipig.evidence.map.verdicts import difference, gains
from minipig.evidence.tables.text import columns, points

TOLD = (("classical", "real"), ("PIG", "real"), ("classical+PIG", "classical-more"))
FURTHEST = 2  # times as many patients, or as few, are still told of


def place_text(values: dict, patients: int) -> str:
    """What the map's Dice says near `patients` patients to learn from, as lines of text.

    values: {source: {patients: {seed: Dice}}}. Only numbers of patients with all replicas count.
    """
    whole = [
        count
        for count in PATIENTS
        if all(len(difference(values, *pair, count)) == len(SEEDS) for pair in TOLD)
    ]
    nearest = min(whole, key=lambda count: abs(log(count / patients)), default=None)
    if nearest is None or not nearest / FURTHEST <= patients <= nearest * FURTHEST:
        known = " and ".join(map(str, whole)) or "no number"
        return f"the map (notebook 13) knows {known} of patients, none near your {patients}"
    lines = []
    for source, base in TOLD:
        gain = gains(values, base, (source,))[source][str(nearest)]
        lines.append([f"  {source} over {base}", points(*gain)])
    recipe = f"--deformed {RECIPE['deformed']} --steps {RECIPE['steps']}"
    return "\n".join(
        [
            f"on the map (notebook 13), drawn images of {nearest} patients; yours are {patients}:",
            *columns(lines),
            f"  in points of Dice, generators trained with {recipe}; on two sets of real images",
            "  generators gained less (notebook 13)",
        ]
    )
