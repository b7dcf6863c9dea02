"""The map's experiments, and what they should show: fixed before any of them was computed.

The primary measure is the Dice on test phantoms, mean of a row's segmenters; its unit is the seed.
No seed is added after looking. Two real sets follow by the same recipe, in five folds. The map's
estimate of a difference, at the nearest number of patients, comes true if the set's interval, with
shared patients allowed for, contains it and is at most ten points wide; in direction alone if the
set's mean has its sign.
"""

from dataclasses import replace

from minipig.data.phantoms import SLICES
from minipig.evidence.map.cells import Cell
from minipig.evidence.tables.protocol import Protocol

PATIENTS = (10, 25, 50, 100, 200)
FEW = PATIENTS[:2]
SEEDS = (31, 32, 33, 34)
# of every generator, and what changes it, written down when two of the pilot's three seeds were
# known: another setup of `minipig causes` takes its place if its pairs are worth more for both
# generators in all three seeds, and by a point or more on average, of longer training for each
# doubling of the steps; never one with others' phantoms, which have masks. Changes of samples,
# mixes and rules do not enter: they would be other rows than those claimed below.
RECIPE = dict(deformed=8192, steps=3000, replica=True)
OLD_MASKS = ("SegGuidedDif", "ControlNet")  # rivals that are given training masks
BENT_MASKS = tuple(f"{name}-bentmasks" for name in OLD_MASKS)  # and these deformed as well
GENERATORS = (*OLD_MASKS, "SegGuidedDif-newmasks", "joint", "PIG")
BESIDE = {f"classical+{name}": name for name in GENERATORS}
# twice as many pairs, as of a generator and classical; all that the generators learn from
LARGER = ("classical-more", "classical-known")
CLASSICAL = ("classical", "classical-upright", *LARGER)
SHORT = (100, 150)  # steps of further segmenters of few real pairs, which learn them by heart soon

# written down before any of the map was computed:
# claim, the row and those that it is compared with, bound in Dice, numbers of patients
HYPOTHESES = {
    "H4": ("gain of PIG over real only", "PIG", ("real",), 0.0818, (100,)),
    "H5": ("gain of classical and PIG over classical", "classical+PIG", ("classical",), 0.02, FEW),
    "H6": (
        "PIG ahead of the best rival with training masks, or these deformed",
        "PIG",
        OLD_MASKS + BENT_MASKS,
        0.0224,
        FEW,
    ),
}
# told beside them: H4 can come of deformations alone, H5 of 4,096 pairs, H6 of new masks
COMPANIONS = (
    ("PIG", "classical"),
    ("classical+PIG", "classical-more"),
    ("PIG", "SegGuidedDif-newmasks"),
    ("classical+PIG", "classical-known"),  # added when 25 patients and 100 were known
)


def protocol(patients: int, seed: int) -> Protocol:
    """The recipe with so many patients to learn from; the test fold has a quarter as many."""
    pairs = SLICES * -(-5 * patients // 4)
    return replace(Protocol(pairs=pairs, seed=seed), **RECIPE)


def cells(
    patients: tuple[int, ...] = PATIENTS, seeds: tuple[int, ...] = SEEDS
) -> dict[tuple[int, int], Cell]:
    """The experiments of the map by (number of patients, seed), seed after seed."""
    n = Protocol.synthetic
    counts = {"real": 0, "classical-more": 2 * n, "classical-known": RECIPE["deformed"]}
    sources = ("real", "fresh", *CLASSICAL, *GENERATORS, *BENT_MASKS, *BESIDE)
    rows = tuple((source, counts.get(source, n)) for source in sources)
    return {
        (count, seed): Cell(f"patients_{count}", protocol(count, seed), rows)
        for seed in seeds
        for count in patients
    }


def shorter(steps: int) -> str:
    """The name of the row of real pairs alone whose segmenters take so many steps."""
    return f"real, {steps} steps"


def short_cells(seeds: tuple[int, ...] = SEEDS) -> dict[tuple[int, int, int], Cell]:
    """Segmenters of few real pairs alone that take fewer steps, by (patients, seed, steps)."""
    return {
        (count, seed, steps): Cell(
            f"patients_{count}_steps_{steps}",
            replace(protocol(count, seed), segmenter_steps=steps),
            (("real", 0),),
        )
        for seed in seeds
        for count in FEW
        for steps in SHORT
    }
