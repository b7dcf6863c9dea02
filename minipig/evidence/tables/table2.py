"""Table 2: segmenters trained on a fold's real pairs and more pairs of a source, and their scores.

The name of a source, such as "classical+PIG-middle-deformed-half", says: classical augmentation as
well, the method, what is done to its samples, and how real and other pairs are mixed.
"""

from copy import deepcopy
from functools import cache, partial
from typing import Callable

from minipig.data.checks import held_out
from minipig.data.classical import augment
from minipig.data.pairs import Pairs
from minipig.data.phantoms import phantoms
from minipig.evidence.judge import score_pairs, train_segmenter
from minipig.evidence.tables.experiment import Experiment
from minipig.evidence.tables.protocol import Fold, Protocol
from minipig.evidence.tables.records import digest
from minipig.segmentation import predict, scores
from minipig.training.loop import Training

CLASSICAL = "classical+"  # before a method: as many pairs of classical augmentation as well
Drawn = Callable[[int], Pairs]  # a method's first samples


def flipped(experiment: Experiment, fold: Fold, drawn: Drawn, n: int) -> Pairs:
    """Every second sample is mirrored."""
    pairs = drawn(n)
    for part in (pairs.masks, pairs.images):
        part[1::2] = part[1::2].flip(experiment.protocol.mirror_axis)
    return pairs


def deformed(experiment: Experiment, fold: Fold, drawn: Drawn, n: int) -> Pairs:
    """Each sample is changed as classical augmentation changes real pairs."""
    return augment(drawn(n), n, experiment.protocol.seed, experiment.protocol.mirror_axis)


def middle(experiment: Experiment, fold: Fold, drawn: Drawn, n: int) -> Pairs:
    """Of 2n samples the n that agree neither best nor worst with a segmenter of real pairs only."""
    samples = drawn(2 * n)
    dice = scores(predict(real_segmenter(experiment, fold), samples.images), samples.masks)["dice"]
    between = dice.argsort()[n // 2 : n // 2 + n]
    return samples.subset(between.sort().values.tolist())


# after a method: what is done to its samples; last: how real and other pairs are mixed
CHANGES = {"-flipped": flipped, "-deformed": deformed, "-middle": middle}
MIXES = ("-half", "-first")


@cache
def real_segmenter(experiment: Experiment, fold: Fold):
    """A segmenter of the fold's real pairs, which chooses samples; no row is scored by it."""
    p = experiment.protocol
    training = trained_for(p.segmenter_steps, p, p.seed)
    return train_segmenter(fold.train, training, experiment.device, label="a segmenter to choose")


def parts(source: str) -> tuple[str, list[str], str]:
    """The method (or other source), the changes in their order, and the mix of a source's name."""
    mix = next((mix for mix in MIXES if source.endswith(mix)), "")
    method, changes = source.removeprefix(CLASSICAL).removesuffix(mix), []
    while change := next((change for change in CHANGES if method.endswith(change)), ""):
        method = method.removesuffix(change)
        changes.insert(0, change)
    return method, changes, mix


def more_pairs(experiment: Experiment, fold: Fold, source: str, n: int) -> Pairs:
    """The n pairs of a source: a method's samples, changed as CHANGES say, or one of these.

    fresh: other phantoms; classical, classical-more and classical-known: augmented pairs;
    classical-upright: without mirroring.
    """
    p = experiment.protocol
    method, changes, _ = parts(source)
    if method == "fresh":
        own = ("map-fresh", p.seed) if p.replica else ("table2-fresh", fold.number)
        return phantoms(n, p.size, held_out(*own))
    if method in ("classical", "classical-more", "classical-known"):
        return augment(fold.train, n, p.seed, p.mirror_axis)
    if method == "classical-upright":
        return augment(fold.train, n, p.seed, flip=None)
    drawn = partial(experiment.samples, fold, method)
    for change in changes:
        drawn = partial(CHANGES[change], experiment, fold, drawn)
    return drawn(n)


def training_set(experiment: Experiment, fold: Fold, source: str, n: int) -> Pairs:
    """What a segmenter learns from: the fold's real pairs, and n more ("classical+...": 2n more).

    "-half": the real pairs are repeated until they are about as many as the others; "-first": they
    are left out, since they follow in `segment`.
    """
    real = fold.train
    if source == "real":
        return real
    more = more_pairs(experiment, fold, source, n)
    if source.startswith(CLASSICAL):
        more = more_pairs(experiment, fold, "classical", n) + more
    if source.endswith("-first"):
        return more
    times = max(1, len(more) // len(real)) if source.endswith("-half") else 1
    return real.subset(list(range(len(real))) * times) + more


def fresh_test(protocol: Protocol) -> Pairs:
    """The fresh phantoms that all segmenters are tested on."""
    own = ("map-test", protocol.seed) if protocol.replica else ("table2-test",)
    return drawn_once(protocol.test, protocol.size, held_out(*own))


drawn_once = cache(phantoms)


def row_name(source: str, n: int) -> str:
    """The row of Table 2: real, real+classical, real+PIG_2048, real+classical+PIG_2048, ..."""
    return {"real": "real", "classical": "real+classical"}.get(source, f"real+{source}_{n}")


def segment_unit(
    experiment: Experiment, fold: Fold, source: str, n: int, seed: int
) -> tuple[str, str]:
    """The name and the key of one segmenter's record."""
    p = experiment.protocol
    method, _, _ = parts(source)
    added = source.replace(method, experiment.samples_key(fold, method))
    key = dict(steps=p.segmenter_steps, batch=p.segmenter_batch, rate=p.segmenter_rate, seed=seed)
    key |= dict(source=added, n=n, data=experiment.data_key(fold))
    if p.replica:  # records of the default lack it
        key |= dict(replica=True)
    return f"segment/{row_name(source, n)}/{seed}", digest(key | dict(test=p.test))


def trained_for(steps: int, protocol: Protocol, seed: int) -> Training:
    """A segmenter's training: of few steps no more than a third are warm-up."""
    p = protocol
    how = dict(warmup=min(Training.warmup, steps // 3), seed=seed)
    return Training(steps, p.segmenter_batch, p.segmenter_rate, **how)


def segment(experiment: Experiment, fold: Fold, source: str, n: int, seed: int) -> dict:
    """The record of one segmenter. All take equal steps; equal seeds start with equal weights."""
    p = experiment.protocol
    unit = segment_unit(experiment, fold, source, n, seed)
    records = experiment.records[fold.number]
    if record := records.find(*unit):
        return record
    checkpoint = experiment.checkpoint_path(fold, *unit)
    pairs = training_set(experiment, fold, source, n)
    own_seed = (p.seed * p.folds + fold.number) * p.segmenter_seeds + seed
    training = trained_for(p.segmenter_steps, p, own_seed)
    label = f"fold {fold.number}: segmenter {seed} on {row_name(source, n)}"
    with records.making(*unit) as record:
        if source.endswith("-first"):  # then a third of the steps on real pairs
            last = trained_for(p.segmenter_steps // 3, p, own_seed)
            first = trained_for(p.segmenter_steps - last.steps, p, own_seed)
            net = train_segmenter(pairs, first, experiment.device, checkpoint, label)
            net = net.requires_grad_(True)
            net = train_segmenter(fold.train, last, experiment.device, build=partial(deepcopy, net))
        else:
            net = train_segmenter(pairs, training, experiment.device, checkpoint, label)
        record |= score_pairs(net, fold.test)
        if p.phantom:
            record["fresh"] = score_pairs(net, fresh_test(p))
    checkpoint.unlink(missing_ok=True)  # another process may have made the same record
    return record
