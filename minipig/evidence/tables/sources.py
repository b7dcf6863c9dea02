"""What a segmenter learns from: a fold's real pairs, and more pairs of a source, by its name.

A name such as "classical+PIG-middle-deformed-half" says: classical augmentation as well, the
method, what is done to its samples, and how real and other pairs are mixed.
"""

from functools import cache, partial
from typing import Callable

from minipig.data.checks import held_out
from minipig.data.pairs import Pairs
from minipig.data.phantoms import phantoms
from minipig.evidence.judge import train_segmenter
from minipig.evidence.methods.classical import augment, half_mirrored
from minipig.evidence.tables.experiment import Experiment
from minipig.evidence.tables.protocol import Fold
from minipig.segmentation import predict, scores
from minipig.training.loop import Training

CLASSICAL = "classical+"  # before a method: as many pairs of classical augmentation as well
Drawn = Callable[[int], Pairs]  # a method's first samples


def flipped(experiment: Experiment, fold: Fold, drawn: Drawn, n: int) -> Pairs:
    """Every second sample is mirrored."""
    return half_mirrored(drawn(n), experiment.protocol.mirror_axis)


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
    """A segmenter of the fold's real pairs, which chooses samples; Table 2 has it in no row."""
    p = experiment.protocol
    training = Training(p.segmenter_steps, p.segmenter_batch, p.segmenter_rate, seed=p.seed)
    return train_segmenter(fold.train, training, experiment.device, label="a segmenter to choose")


def parts(source: str) -> tuple[str, list[str], str]:
    """The method (or other source), the changes in their order, and the mix of a source's name."""
    mix = next((mix for mix in MIXES if source.endswith(mix)), "")
    method, changes = source.removeprefix(CLASSICAL).removesuffix(mix), []
    while change := next((change for change in CHANGES if method.endswith(change)), ""):
        method = method.removesuffix(change)
        changes.insert(0, change)
    return method, changes, mix


def training_set(experiment: Experiment, fold: Fold, source: str, n: int) -> Pairs:
    """The fold's real pairs, and n more of a source ("classical+PIG": 2n more).

    real: no more; classical, classical-more: augmented; classical-upright: without mirroring;
    fresh: other phantoms; or a method's samples, changed as CHANGES say. "-half": the real pairs
    are repeated until they are as many; "-first": the real pairs are left out, since `segment`
    lets them follow.
    """
    p = experiment.protocol
    method, changes, mix = parts(source)
    if method == "real":
        return fold.train
    if method == "fresh":
        more = phantoms(n, p.size, held_out("table2-fresh", fold.number))
    elif method in ("classical", "classical-more", "classical-upright"):
        axis = None if method == "classical-upright" else p.mirror_axis
        more = augment(fold.train, n, p.seed, axis)
    else:
        drawn = partial(experiment.samples, fold, method)
        for change in changes:
            drawn = partial(CHANGES[change], experiment, fold, drawn)
        more = drawn(n)
    if source.startswith(CLASSICAL):
        more = augment(fold.train, n, p.seed, p.mirror_axis) + more
    if mix == "-first":
        return more
    times = max(1, len(more) // len(fold.train)) if mix == "-half" else 1
    return fold.train.subset(list(range(len(fold.train))) * times) + more
