"""Table 1: how like the truth are a method's samples, do mask and slice belong together, and what is only remembered?"""

from functools import cache, partial

import numpy as np

from ..files import load_checkpoint, save_checkpoint
from ..pairs import Pairs
from ..phantoms import SLICES, phantoms
from ..seeds import seeded_network
from ..segmentation import SegmentationUNet
from ..train import Training
from .features import crops, learnt_features, mask_statistics, plain_slice_features, where_a_lesion_seems
from .metrics import (
    frechet_distance,
    kernel_distance,
    neighbour_ratio,
    pair_agreement,
    resampled,
    share_nearer,
    train_segmenter,
)
from .protocol import Fold
from .units import digest
from .workshop import Workshop

# seeds of phantoms that no generator sees; the fold's number is added to the first two, and judge_seed to the last
FLOOR, UNKNOWN, REFERENCE, JUDGE = 5201, 5301, 5401, 5402


@cache
def judge(workshop: Workshop, fold: Fold | None) -> SegmentationUNet:
    """A segmenter that has never seen a sample: the judge of pairs, and the network of the learnt features.

    Of phantoms (fold None) it has learnt from many fresh ones, and lies in RESULTS/judge.pt, in half precision, from where it
    is loaded if it is there. Of real data it has learnt from the fold's training pairs, so copies of them score well.
    """
    p = workshop.protocol
    if fold is None:
        path, own = workshop.results / "judge.pt", dict(pairs=p.judge_pairs, size=list(p.size))
    else:
        path, own = workshop.work / f"fold_{fold.number}" / "judge.pt", dict(data=workshop.data_key(fold))
    seed = JUDGE + p.judge_seed
    own |= dict(steps=p.judge_steps, seed=seed)
    if not path.exists():
        pairs = phantoms(p.judge_pairs, p.size, seed) if fold is None else fold.train
        training = Training(p.judge_steps, batch=32, rate=3e-3, seed=seed)
        checkpoint = workshop.work / f"{path.parent.name}-judge.ckpt"
        made = train_segmenter(pairs, training, workshop.device, checkpoint, "training the judge")
        weights = {name: w.half() if w.is_floating_point() else w for name, w in made.state_dict().items()}
        save_checkpoint(path, {"made": own, "weights": weights})
    saved = load_checkpoint(path, {"made", "weights"})
    if saved["made"] != own:
        raise ValueError(f"{path} was made with {saved['made']}, not {own}; delete it, or give other folders")
    net = seeded_network(SegmentationUNet, JUDGE)
    net.load_state_dict(saved["weights"])
    return net.to(workshop.device).eval().requires_grad_(False)


def measured(workshop: Workshop, fold: Fold, source: str) -> Pairs:
    """What is measured of a source: a method's samples; of "training", the pairs that all methods of the fold learn from; of
    "real", the floor, phantoms of as many strangers."""
    p = workshop.protocol
    if source in workshop.methods:
        return workshop.samples(fold, source, p.measured)
    return fold.train if source == "training" else strangers(p.measured, p.size, FLOOR + fold.number)


def strangers(n: int, size: tuple[int, int], seed: int) -> Pairs:
    """n phantoms of n patients: independent, as a generator's samples are, and as slices of one patient are not."""
    return phantoms(n * SLICES, size, seed).subset(range(0, n * SLICES, SLICES))


def features(workshop: Workshop, pairs: Pairs, masked: bool) -> dict[str, np.ndarray]:
    """Feature sets by the distance that is taken of them.

    Phantoms: learnt features of the slice, and of the crop around where the judge sees a lesion (all methods alike, with
    masks or without); and plain ones. Real data: plain ones, of the slice and of the crop around its own mask.
    """
    side = min(workshop.protocol.size) // 2
    if workshop.protocol.phantom:
        net = judge(workshop, None)
        side = max(side // net.multiple, 1) * net.multiple
        lesions = crops(pairs.images, where_a_lesion_seems(net, pairs.images), side)
        found = {"fd": learnt_features(net, pairs.images), "fd_lesion": learnt_features(net, lesions)}
        return found | {"fd_plain": plain_slice_features(pairs.images)}
    lesions = {"fd_lesion": plain_slice_features(crops(pairs.images, pairs.masks, side))} if masked else {}
    return {"fd": plain_slice_features(pairs.images)} | lesions


@cache
def truth(workshop: Workshop, fold: Fold | None) -> dict[str, np.ndarray]:
    """The features that samples are compared with: of fresh phantoms (fold None), or of the fold's test patients."""
    p = workshop.protocol
    return features(workshop, strangers(p.reference, p.size, REFERENCE) if fold is None else fold.test, masked=True)


@cache
def yardsticks(workshop: Workshop) -> dict[str, np.ndarray]:
    """The standard deviation of each plain feature, by which it is measured: over the reference phantoms, or the folder."""
    if workshop.protocol.phantom:
        return {"fd_plain": truth(workshop, None)["fd_plain"].std(0)}
    first = workshop.folds[0]
    return {name: found.std(0) for name, found in features(workshop, first.train + first.test, masked=True).items()}


def measure_unit(workshop: Workshop, fold: Fold, source: str) -> tuple[str, str]:
    """The name and the key of a source's record."""
    p = workshop.protocol
    own = dict(source=workshop.samples_key(fold, source), data=workshop.data_key(fold))
    own |= dict(measured=p.measured, reference=p.reference, judge=[p.judge_pairs, p.judge_steps])
    own |= {"judge_seed": p.judge_seed} if p.judge_seed else {}
    return f"measure/{source}", digest(own)


def measure(workshop: Workshop, fold: Fold, source: str) -> dict:
    """The record of a source: Fréchet and kernel distances to the truth, of equally many samples for every method; how much
    of them is remembered; and, if there are masks, pair agreement and the masks' statistics."""
    p, records = workshop.protocol, workshop.records[fold.number]
    name, key = measure_unit(workshop, fold, source)
    if record := records.find(name, key):
        return record
    pairs = measured(workshop, fold, source)
    masked = bool(pairs.masks.any())
    known = None if p.phantom else fold  # whose truth, whose judge

    def work() -> dict:
        found = {}
        for distance, values in features(workshop, pairs, masked).items():
            real = truth(workshop, known)[distance]
            scale = yardsticks(workshop).get(distance, 1)  # plain features are each in units of their own
            found[distance] = frechet_distance(values / scale, real / scale)
            if distance == "fd":
                found["kd"] = kernel_distance(values / scale, real / scale)
                found["fd_interval"] = resampled(partial(frechet_distance, features_b=real / scale), values / scale, seed=0)
        if source != "training" and p.phantom:
            unknown = phantoms(len(fold.train), p.size, UNKNOWN + fold.number)
            found["nearer"] = share_nearer(pairs.images, fold.train.images, unknown.images)
        elif source != "training":  # there are not as many real slices that are unknown
            found["neighbour"] = neighbour_ratio(pairs.images, fold.train.images, fold.test.images)
        if masked:
            yardstick = source == "training" and not p.phantom  # this judge knows the training pairs
            found["agreement"] = pair_agreement(judge(workshop, known), fold.test if yardstick else pairs)
            shapes = mask_statistics(pairs.masks)
            found["masks"] = {"mean": shapes.mean(0).tolist(), "spread": shapes.std(0).tolist()}
        return found

    return records.make(name, key, work)
