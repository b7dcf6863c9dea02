"""Table 2: scores of segmenters trained on a fold's real pairs and on pairs of one source."""

from functools import cache, partial

from minipig.data.checks import held_out
from minipig.data.pairs import Pairs
from minipig.data.phantoms import phantoms
from minipig.evidence.judge import score_pairs, train_segmenter
from minipig.evidence.methods.classical import augment, half_mirrored
from minipig.evidence.tables.experiment import Experiment
from minipig.evidence.tables.protocol import Fold, Protocol
from minipig.evidence.tables.records import digest
from minipig.training.loop import Training

CLASSICAL = "classical+"  # before the name of a method: classical augmentation as well
# after it: every second sample is mirrored, or all are deformed like classical augmentation
FLIPPED, DEFORMED = "-flipped", "-deformed"


@cache
def fresh_test(protocol: Protocol) -> Pairs:
    """The fresh phantoms that all segmenters are tested on."""
    return phantoms(protocol.test, protocol.size, held_out("table2-test"))


def row_name(source: str, n: int) -> str:
    """The row of Table 2: real, real+classical, real+PIG_2048, real+classical+PIG_2048, ..."""
    return {"real": "real", "classical": "real+classical"}.get(source, f"real+{source}_{n}")


def training_set(experiment: Experiment, fold: Fold, source: str, n: int) -> Pairs:
    """The fold's real pairs and n more, of a method or of one of these sources.

    "real": no more; "classical" and "classical-more": augmented pairs; "classical-upright": without
    mirroring; "fresh": other phantoms; "classical+PIG": n augmented pairs and n of PIG;
    "PIG-flipped": every second sample is mirrored; "PIG-deformed": all are augmented.
    """
    p = experiment.protocol
    if source == "real":
        return fold.train
    if source in ("classical", "classical-more"):
        return fold.train + augment(fold.train, n, p.seed, p.mirror_axis)
    if source == "classical-upright":
        return fold.train + augment(fold.train, n, p.seed, flip=None)
    if source == "fresh":
        return fold.train + phantoms(n, p.size, held_out("table2-fresh", fold.number))
    method = method_of(source)
    with_classical = source.startswith(CLASSICAL)
    real = training_set(experiment, fold, "classical", n) if with_classical else fold.train
    samples = experiment.samples(fold, method, n)
    if source.endswith(FLIPPED):
        samples = half_mirrored(samples, p.mirror_axis)
    elif source.endswith(DEFORMED):
        samples = augment(samples, n, p.seed, p.mirror_axis)
    return real + samples


def method_of(source: str) -> str:
    """The method whose samples a source needs: "PIG" for "classical+PIG-deformed"."""
    return source.removeprefix(CLASSICAL).removesuffix(FLIPPED).removesuffix(DEFORMED)


def segment_unit(
    experiment: Experiment, fold: Fold, source: str, n: int, seed: int
) -> tuple[str, str]:
    """The name and the key of one segmenter's record."""
    p = experiment.protocol
    method = method_of(source)
    added = source.replace(method, experiment.samples_key(fold, method))
    key = dict(steps=p.segmenter_steps, batch=p.segmenter_batch, rate=p.segmenter_rate, seed=seed)
    key |= dict(source=added, n=n, data=experiment.data_key(fold))
    return f"segment/{row_name(source, n)}/{seed}", digest(key | dict(test=p.test))


def segment(experiment: Experiment, fold: Fold, source: str, n: int, seed: int) -> dict:
    """The record of one segmenter. All take equal steps; equal seeds start with equal weights."""
    p = experiment.protocol
    unit = segment_unit(experiment, fold, source, n, seed)
    checkpoint = experiment.checkpoint_path(fold, *unit)

    def work(pairs: Pairs) -> dict:
        own_seed = (p.seed * p.folds + fold.number) * p.segmenter_seeds + seed
        training = Training(p.segmenter_steps, p.segmenter_batch, p.segmenter_rate, seed=own_seed)
        label = f"fold {fold.number}: segmenter {seed} on {row_name(source, n)}"
        net = train_segmenter(pairs, training, experiment.device, checkpoint, label)
        found = score_pairs(net, fold.test)
        return found | {"fresh": score_pairs(net, fresh_test(p))} if p.phantom else found

    pairs = partial(training_set, experiment, fold, source, n)
    return experiment.records[fold.number].make(*unit, work, checkpoint=checkpoint, pairs=pairs)
