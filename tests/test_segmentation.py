"""The four scores against counting by hand, the loss, and a segmenter that learns."""

import pytest
import torch

from minipig.data.phantoms import phantoms
from minipig.seeds import generator, seeded_network
from minipig.segmentation import SCORES, SegmentationUNet, predict, scores, segmentation_loss


def masks(*rows):
    return torch.tensor(rows, dtype=torch.float32).reshape(len(rows), 1, 2, 2) * 2 - 1


def test_scores_by_hand():
    """One hit, one false alarm, two misses: Dice 2/5, IoU 1/4, precision 1/2, recall 1/3."""
    result = scores(masks([1, 1, 0, 0]), masks([1, 0, 1, 1]))
    assert [round(result[s].item(), 6) for s in SCORES] == [0.4, 0.25, 0.5, 0.333333]


def test_scores_of_empty_masks():
    none = [0] * 4
    all_ = [1] * 4
    result = scores(masks(none, none, all_, all_), masks(none, all_, none, all_))
    for score in SCORES:
        assert result[score].tolist() == [1, 0, 0, 1]


def test_scores_agree_with_their_definitions_on_random_masks():
    draw = generator("masks", 0)
    p, q = (torch.randint(0, 2, (50, 1, 6, 7), generator=draw).float() * 2 - 1 for _ in range(2))
    result = scores(p, q)
    for i in range(50):
        a, b = ({tuple(v) for v in (m[i, 0] > 0).nonzero().tolist()} for m in (p, q))
        assert result["dice"][i] == pytest.approx(2 * len(a & b) / (len(a) + len(b)))
        assert result["iou"][i] == pytest.approx(len(a & b) / len(a | b))
        assert result["precision"][i] == pytest.approx(len(a & b) / len(a))
        assert result["recall"][i] == pytest.approx(len(a & b) / len(b))


def test_loss_is_least_for_the_truth():
    truth = masks([1, 0, 0, 1], [0, 0, 0, 0])
    right, unsure, wrong = (segmentation_loss(k * truth, truth).item() for k in (20, 0, -20))
    assert right < 1e-3 < unsure < wrong


def test_a_segmenter_learns():
    """Ten phantoms by heart: the loss falls to less than half in 60 steps."""
    net = seeded_network(lambda: SegmentationUNet(base=8, levels=2), 0)
    x0, y0 = phantoms(10, (16, 16))[:]
    optimiser = torch.optim.Adam(net.parameters(), lr=1e-2)
    losses = []
    for _ in range(60):
        optimiser.zero_grad()
        loss = segmentation_loss(net(y0), x0)
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]


def test_other_sizes_are_refused():
    with pytest.raises(ValueError, match="multiples of 8 pixels, not 32x36"):
        SegmentationUNet()(torch.zeros(1, 1, 32, 36))


def test_predict_is_the_network_in_evaluation_mode_whatever_the_batch():
    net = SegmentationUNet(base=4, levels=2)
    images = phantoms(6, (16, 24)).images
    whole = predict(net, images, batch=6)
    assert torch.allclose(whole, predict(net, images, batch=4), atol=1e-5)
    assert whole.shape == images.shape and not whole.requires_grad and not net.training
