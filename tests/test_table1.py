"""Table 1's distances, with the committed judge, on sets that are more and more spoilt."""

from pathlib import Path

import pytest
import torch
from torch.nn import functional as F

from minipig.data.pairs import Pairs
from minipig.data.phantoms import SLICES, phantoms
from minipig.evidence.features import plain_slice_features
from minipig.evidence.judge import pair_agreement
from minipig.evidence.metrics import frechet_distance, kernel_distance, share_nearer
from minipig.evidence.tables.experiment import Experiment
from minipig.evidence.tables.protocol import Protocol
from minipig.evidence.tables.table1 import feature_sets, load_judge

RESULTS = Path(__file__).parent.parent / "data_samples" / "results" / "phantom"


@pytest.fixture(scope="module")
def experiment(tmp_path_factory):
    return Experiment(Protocol(), RESULTS, tmp_path_factory.mktemp("work"), torch.device("cpu"))


@pytest.fixture(scope="module")
def sets():
    """One slice of each of 512 patients, and of 512 others."""
    pairs = phantoms(1024 * SLICES, (32, 32), seed=801).subset(range(0, 1024 * SLICES, SLICES))
    return pairs.subset(range(512)), pairs.subset(range(512, 1024))


def with_images(pairs, images):
    return Pairs(pairs.masks, images.clamp(-1, 1), pairs.names, pairs.patients)


def blurred(pairs, amount):
    return with_images(pairs, torch.lerp(pairs.images, F.avg_pool2d(pairs.images, 3, 1, 1), amount))


def grained(pairs, amount):
    noise = torch.randn(pairs.images.shape, generator=torch.Generator().manual_seed(0))
    return with_images(pairs, pairs.images + amount * noise)


def dimmed(pairs, amount):
    return with_images(pairs, pairs.images - amount * pairs.masks)


def shuffled(pairs):
    return Pairs(pairs.masks.roll(1, 0), pairs.images, pairs.names, pairs.patients)


@pytest.mark.parametrize(
    "spoil, amounts", [(blurred, (0.5, 1.0)), (grained, (0.2, 0.4)), (dimmed, (0.05, 0.2))]
)
def test_a_spoilt_set_is_further_than_real_ones_and_a_more_spoilt_one_further_still(
    experiment, sets, spoil, amounts
):
    known, other = sets
    truth = feature_sets(experiment, other, True)
    ranks = [
        feature_sets(experiment, pairs, True)
        for pairs in (known, *(spoil(known, amount) for amount in amounts))
    ]
    for name in ("fd", "fd_lesion"):
        floor, less, more = (frechet_distance(found[name], truth[name]) for found in ranks)
        assert 1.5 * floor < less < more, name
    floor, less, more = (kernel_distance(found["fd"], truth["fd"]) for found in ranks)
    assert abs(floor) < less < more
    if spoil is not dimmed:  # plain features of a whole slice hardly see a lesion
        scale = truth["fd_plain"].std(0)
        floor, less, more = (
            frechet_distance(found["fd_plain"] / scale, truth["fd_plain"] / scale)
            for found in ranks
        )
        assert 1.5 * floor < less < more


def test_shuffled_masks_are_seen_by_agreement_and_by_nothing_else(experiment, sets):
    known, _ = sets
    before = feature_sets(experiment, known, True)
    after = feature_sets(experiment, shuffled(known), True)
    assert all((before[name] == after[name]).all() for name in before)
    net = load_judge(experiment, None)
    assert pair_agreement(net, shuffled(known)) < 0.4 * pair_agreement(net, known)


def test_copies_are_as_near_as_real_slices_and_given_away_by_their_neighbours(experiment, sets):
    known, other = sets
    copies = with_images(known, known.images + 0.001)
    sets = [feature_sets(experiment, pairs, True)["fd"] for pairs in (other, known, copies)]
    truth, of_known, of_copies = sets
    assert frechet_distance(of_copies, truth) < 1.2 * frechet_distance(of_known, truth)
    assert share_nearer(copies.images, known.images, other.images) == 1


def test_real_data_have_plain_features_and_crops_around_their_own_masks(experiment, tmp_path, sets):
    phantoms(10, (16, 16), seed=3).save(tmp_path)
    real = Experiment(
        Protocol(data=str(tmp_path), size=(16, 16), folds=2),
        tmp_path / "out",
        tmp_path / "work",
        experiment.device,
    )
    pairs = real.folds[0].test
    found = feature_sets(real, pairs, masked=True)
    assert (found["fd"] == plain_slice_features(pairs.images)).all() and found[
        "fd_lesion"
    ].shape == (len(pairs), 4 + 3)
    assert set(feature_sets(real, pairs, masked=False)) == {"fd"}


def test_a_judge_made_otherwise_is_refused(tmp_path):
    (tmp_path / "judge.pt").write_bytes((RESULTS / "judge.pt").read_bytes())
    other = Experiment(Protocol(judge_steps=3), tmp_path, tmp_path / "work", torch.device("cpu"))
    with pytest.raises(ValueError, match="judge.pt was made with .* delete it"):
        load_judge(other, None)
