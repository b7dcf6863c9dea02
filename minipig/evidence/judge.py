"""Train a segmenter, score it, and let it judge whether a mask and its slice agree."""

from pathlib import Path
from typing import Callable

import torch
from torch import Tensor, nn

from minipig.data.checks import held_out
from minipig.data.pairs import Pairs
from minipig.data.phantoms import phantoms
from minipig.guider import NoisyPair
from minipig.seeds import seeded_network
from minipig.segmentation import SCORES, SegmentationUNet, predict, scores, segmentation_loss
from minipig.training.config import Config, load_data
from minipig.training.loop import Training, finish, fit
from minipig.training.speed import Speed

JUDGE_PAIRS = 8000  # fresh phantoms
JUDGE_STEPS = 600
TEST_PAIRS = 600  # fresh phantoms


def train_segmenter(
    pairs: Pairs,
    training: Training,
    device: torch.device | str = "cpu",
    checkpoint: Path | None = None,
    label: str = "",
    build: Callable[[], nn.Module] = SegmentationUNet,
    speed: Speed = Speed(),
) -> nn.Module:
    """Train a segmenter and return its averaged weights; resumes `checkpoint`.

    build() -> a network from slices (B, 1, H, W) in [-1, 1] to mask logits (B, 1, H, W).
    """

    def loss(net: nn.Module, pair: NoisyPair) -> Tensor:
        return segmentation_loss(net(pair.y0), pair.x0)

    net = seeded_network(build, training.seed).to(device)
    return finish(fit(net, loss, pairs, training, checkpoint, speed=speed), label).average


def score_pairs(segmenter: nn.Module, pairs: Pairs) -> dict[str, float]:
    """Mean Dice, IoU, precision and recall over the pairs, each in [0, 1]."""
    per_image = scores(predict(segmenter, pairs.images), pairs.masks)
    return {name: per_image[name].mean().item() for name in SCORES}


def pair_agreement(judge: nn.Module, pairs: Pairs) -> float:
    """Dice between the judge's masks of the slices and the pairs' own masks.

    The judge must not be trained on generated pairs. Fresh real pairs show what a perfect generator
    would score.
    """
    return score_pairs(judge, pairs)["dice"]


def train_judge(
    config: Config,
    device: torch.device,
    checkpoint: Path,
    build: Callable[[], nn.Module] = SegmentationUNet,
) -> tuple[nn.Module, Pairs]:
    """Train the judge for generators of this configuration; also return fresh real pairs.

    Phantoms: trained on many fresh ones. A folder: trained on the generator's own training pairs,
    so copies of them score well; the fresh pairs are those of the held-out patients.
    """
    seed = held_out("demo-judge")
    if config.data == "phantom":
        known = phantoms(JUDGE_PAIRS, config.size, seed)
        fresh = phantoms(TEST_PAIRS, config.size, held_out("demo-test"))
    else:
        known, fresh = load_data(config)
    training = Training(JUDGE_STEPS, batch=32, rate=3e-3, mirror=config.mirror, seed=seed)
    return train_segmenter(known, training, device, checkpoint, "training the judge", build), fresh


def measure_agreement(judge: nn.Module, synthetic: Pairs, fresh: Pairs) -> dict[str, float]:
    """Pair agreement of synthetic and of fresh real pairs: {"synthetic": ..., "fresh": ...}."""
    found = pair_agreement(judge, synthetic)
    best = pair_agreement(judge, fresh)
    share = found / max(best, 1e-9)
    print(f"pair agreement: synthetic {found:.3f} = {share:.0%} of fresh real's {best:.3f}")
    return {"synthetic": found, "fresh": best}
