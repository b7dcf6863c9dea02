"""Table 2: what is a segmenter worth that learns from a fold's real pairs and from pairs of one source besides?"""

from functools import cache

from ..pairs import Pairs
from ..phantoms import phantoms
from ..train import Training
from .classical import augment
from .metrics import score_pairs, train_segmenter
from .protocol import Fold
from .units import digest
from .workshop import Workshop

FRESH, TEST = 5001, 5101  # seeds of phantoms that no generator sees; the fold's number is added to the first

BESIDES = "classical+"  # a method's pairs beside classical augmentation

many = cache(phantoms)  # the test phantoms, which all segmenters share


def row_name(source: str, n: int) -> str:
    """The row of Table 2: real, real+classical, real+PIG_2048, real+classical+PIG_2048, ..."""
    return {"real": "real", "classical": "real+classical"}.get(source, f"real+{source}_{n}")


def source_key(workshop: Workshop, fold: Fold, source: str) -> str:
    """The hash of what decides the pairs that are added."""
    method = source.removeprefix(BESIDES)
    return source[: -len(method)] + workshop.samples_key(fold, method)


def training_set(workshop: Workshop, fold: Fold, source: str, n: int) -> Pairs:
    """The fold's real pairs and n more: of a method, "classical", "fresh" (other phantoms), or "real" (no more); of
    "classical+PIG", n of either."""
    p = workshop.protocol
    if source.startswith(BESIDES):
        return training_set(workshop, fold, "classical", n) + workshop.samples(fold, source.removeprefix(BESIDES), n)
    if source == "real":
        return fold.train
    if source == "classical":
        return fold.train + augment(fold.train, n, p.seed, p.mirror_axis)
    if source == "fresh":
        return fold.train + phantoms(n, p.size, FRESH + fold.number)
    return fold.train + workshop.samples(fold, source, n)


def segment_unit(workshop: Workshop, fold: Fold, source: str, n: int, seed: int) -> tuple[str, str]:
    """The name and the key of one segmenter's record."""
    p = workshop.protocol
    own = dict(steps=p.segmenter_steps, batch=p.segmenter_batch, rate=p.segmenter_rate, seed=seed, test=p.test)
    own |= dict(source=source_key(workshop, fold, source), n=n, data=workshop.data_key(fold))
    return f"segment/{row_name(source, n)}/{seed}", digest(own)


def segment(workshop: Workshop, fold: Fold, source: str, n: int, seed: int) -> dict:
    """The record of one segmenter: its mean scores over the fold's test patients, and, for phantoms, over many fresh ones.

    All rows have equally many steps; the segmenters of one fold and seed start from the same weights.
    """
    p, records = workshop.protocol, workshop.records[fold.number]
    name, key = segment_unit(workshop, fold, source, n, seed)
    if record := records.find(name, key):
        return record
    pairs, checkpoint = training_set(workshop, fold, source, n), workshop.checkpoint(fold, name, key)

    def work() -> dict:
        own_seed = (p.seed * p.folds + fold.number) * p.segmenter_seeds + seed
        training = Training(p.segmenter_steps, p.segmenter_batch, p.segmenter_rate, seed=own_seed)
        label = f"fold {fold.number}: segmenter {seed} on {row_name(source, n)}"
        net = train_segmenter(pairs, training, workshop.device, checkpoint, label)
        return score_pairs(net, fold.test) | ({"fresh": score_pairs(net, many(p.test, p.size, TEST))} if p.phantom else {})

    return records.make(name, key, work, checkpoint=checkpoint)
