"""Table 1: distance of samples to real pairs, agreement of mask and slice, copying."""

from functools import cache, partial
from pathlib import Path

import numpy as np

from minipig.data.checks import held_out
from minipig.data.files import load_checkpoint, locked, save_checkpoint
from minipig.data.pairs import Pairs
from minipig.data.phantoms import phantoms
from minipig.evidence import features, metrics
from minipig.evidence.judge import pair_agreement, train_segmenter
from minipig.evidence.tables.experiment import Experiment
from minipig.evidence.tables.protocol import Fold
from minipig.evidence.tables.records import digest
from minipig.seeds import seeded_network
from minipig.segmentation import SegmentationUNet
from minipig.training.loop import Training

SPREAD = 16  # directions of the learnt features that `fd_spread` counts alike


@cache
def load_judge(experiment: Experiment, fold: Fold | None) -> SegmentationUNet:
    """The segmenter that judges pairs and gives the learnt features; trained if there is none yet.

    Phantoms (fold None): trained on fresh ones, and saved in half precision, see Experiment.
    Real data: trained on the fold's training pairs, so that copies of them score well. Raises
    ValueError if the file was made with other settings.
    """
    p = experiment.protocol
    seed = held_out("table1-judge", p.judge_seed)
    if fold is None:
        path = experiment.judge or experiment.results / "judge.pt"
        settings = dict(pairs=p.judge_pairs, size=list(p.size))
    else:
        settings = dict(data=experiment.data_key(fold))
    settings |= dict(steps=p.judge_steps, seed=seed)
    if fold is not None:  # several RESULTS may share one WORK
        path = experiment.work / f"fold_{fold.number}" / f"judge-{digest(settings)}.pt"
    if not path.exists():
        with locked(path, wait=True):
            if not path.exists():  # another process may have made it meanwhile
                make_judge(path, settings, experiment, fold)
    saved = load_checkpoint(path, {"made", "weights"})
    if saved["made"] != settings:
        made = f"{path} was made with {saved['made']}, not {settings}"
        raise ValueError(f"{made}; delete it, or choose another folder")
    net = seeded_network(SegmentationUNet, seed)
    net.load_state_dict(saved["weights"])
    return net.to(experiment.device).eval().requires_grad_(False)


def make_judge(path: Path, settings: dict, experiment: Experiment, fold: Fold | None) -> None:
    """Train the judge of these settings, see `load_judge`, and save it as `path`."""
    p, seed = experiment.protocol, settings["seed"]
    pairs = phantoms(p.judge_pairs, p.size, seed) if fold is None else fold.train
    training = Training(p.judge_steps, batch=32, rate=3e-3, seed=seed)
    checkpoint = experiment.work / f"judge-{digest(settings)}.ckpt"
    net = train_segmenter(pairs, training, experiment.device, checkpoint, "training the judge")
    weights = net.state_dict()
    weights = {k: w.half() if w.is_floating_point() else w for k, w in weights.items()}
    save_checkpoint(path, {"made": settings, "weights": weights})
    checkpoint.unlink()


def source_pairs(experiment: Experiment, fold: Fold, source: str) -> Pairs:
    """The pairs to measure: a method's samples, training pairs ("training"), or fresh ("real")."""
    p = experiment.protocol
    if source in experiment.methods:
        return experiment.samples(fold, source, p.measured)
    if source == "training":
        return fold.train
    return independent_phantoms(p.measured, p.size, held_out("table1-floor", fold.number))


def independent_phantoms(n: int, size: tuple[int, int], seed: int) -> Pairs:
    """n phantoms of n patients, independent as samples are; slices of one patient are not."""
    return phantoms(n, size, seed, slices=1)


def feature_sets(experiment: Experiment, pairs: Pairs, masked: bool) -> dict[str, np.ndarray]:
    """Features of the pairs, by the distance computed from them.

    Phantoms: learnt features of the slice; of the slice and its mirror image, which is as likely;
    of the crop around the lesion that the judge sees (so that methods without masks can be compared
    too); plain features of the slice. Real data: plain features of the slice, and, if `masked`, of
    the crop around its own mask.
    """
    images = pairs.images
    side = min(experiment.protocol.size) // 2
    plain = features.plain_slice_features
    if experiment.protocol.phantom:
        net = load_judge(experiment, None)
        learnt = partial(features.learnt_features, net)
        side = max(side // net.multiple, 1) * net.multiple
        lesions = features.crops(images, features.predicted_lesions(net, images), side)
        upright, turned = learnt(images), learnt(images.flip(experiment.protocol.mirror_axis))
        return {
            "fd": upright,
            "fd_mirrored": np.concatenate([upright, turned]),
            "fd_lesion": learnt(lesions),
            "fd_plain": plain(images),
        }
    if not masked:
        return {"fd": plain(images)}
    lesions = features.crops(images, pairs.masks, side)
    return {"fd": plain(images), "fd_lesion": plain(lesions)}


@cache
def true_features(experiment: Experiment, fold: Fold | None) -> dict[str, np.ndarray]:
    """The features to compare with: of fresh phantoms (fold None), or the fold's test patients."""
    p = experiment.protocol
    if fold is None:
        pairs = independent_phantoms(p.reference, p.size, held_out("table1-reference"))
    else:
        pairs = fold.test
    return feature_sets(experiment, pairs, masked=True)


@cache
def feature_scales(experiment: Experiment) -> dict[str, np.ndarray]:
    """The standard deviation of each plain feature over the reference phantoms, or the folder."""
    if experiment.protocol.phantom:
        return {"fd_plain": true_features(experiment, None)["fd_plain"].std(0)}
    first = experiment.folds[0]
    sets = feature_sets(experiment, first.train + first.test, masked=True)
    return {name: values.std(0) for name, values in sets.items()}


def by_direction(experiment: Experiment, sets: dict[str, np.ndarray]) -> dict:
    """What a source's learnt features say by the main directions of the reference phantoms'.

    dimension: the reference's effective dimension; fd_spread: the source's distance where the first
    SPREAD directions count alike; precision, recall and coverage there.
    """
    real = true_features(experiment, None)
    mirrored, truth = sets["fd_mirrored"], real["fd_mirrored"]
    vectors, variances = metrics.directions(truth, min(SPREAD, truth.shape[1]))
    scaled = vectors / np.sqrt(variances)
    n = min(len(sets["fd"]), len(real["fd"]))
    return {
        "dimension": metrics.effective_dimension(truth),
        "fd_spread": metrics.frechet_distance(mirrored @ scaled, truth @ scaled),
        **metrics.diversity(sets["fd"][:n] @ scaled, real["fd"][:n] @ scaled, k=min(5, n - 1)),
    }


def measure_unit(experiment: Experiment, fold: Fold, source: str) -> tuple[str, str]:
    """The name and the key of a source's record."""
    p = experiment.protocol
    key = dict(source=experiment.samples_key(fold, source), data=experiment.data_key(fold))
    key |= dict(measured=p.measured, reference=p.reference, judge=[p.judge_pairs, p.judge_steps])
    if p.judge_seed:
        key["judge_seed"] = p.judge_seed
    return f"measure/{source}", digest(key)


def measure(experiment: Experiment, fold: Fold, source: str) -> dict:
    """The record of a source: distances, diversity, copying, and, if it has masks, agreement."""
    p = experiment.protocol
    unit = measure_unit(experiment, fold, source)
    records = experiment.records[fold.number]
    if record := records.find(*unit):
        return record
    pairs = source_pairs(experiment, fold, source)
    copies = source == "training"
    known = None if p.phantom else fold  # the fold of the judge and of the true features
    masked = bool(pairs.masks.any())
    with records.making(*unit) as record:
        sets = feature_sets(experiment, pairs, masked)
        if p.phantom:
            record |= by_direction(experiment, sets)
        for name, values in sets.items():
            scale = feature_scales(experiment).get(name, 1)  # plain features have different units
            real = true_features(experiment, known)[name] / scale
            values = values / scale
            record[name] = metrics.frechet_distance(values, real)
            if name == "fd":
                record["kd"] = metrics.kernel_distance(values, real)
        images = (pairs.images, fold.train.images)
        if p.phantom and not copies:
            fresh = phantoms(len(fold.train), p.size, held_out("table1-unknown", fold.number))
            record["nearer"] = metrics.share_nearer(*images, fresh.images)
        elif not copies:  # there are fewer fresh slices than training slices
            record["neighbour"] = metrics.neighbour_ratio(*images, fold.test.images)
        if masked:
            # the judge of real data is trained on the training pairs, so it is tested on others
            judged = fold.test if copies and not p.phantom else pairs
            record["agreement"] = pair_agreement(load_judge(experiment, known), judged)
            shapes = features.mask_statistics(pairs.masks)
            record["masks"] = {"mean": shapes.mean(0).tolist(), "spread": shapes.std(0).tolist()}
    return record
