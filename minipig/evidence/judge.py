"""Train a segmenter, score it, and let it judge whether a mask and its slice agree."""

from pathlib import Path
from typing import Callable

import torch
from torch import Tensor, nn

from minipig.data.checks import held_out
from minipig.data.pairs import Pairs, groups, split
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
ENOUGH = 400  # held-out pairs with a lesion, of which half can teach a judge
EXCHANGES = 5  # ways to exchange masks, for the floor of an agreement


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


def agreement(judge: nn.Module, pairs: Pairs) -> dict[str, float]:
    """How well the judge's masks of the slices fit the pairs' own; empty pairs are left out.

    mean, error: Dice and its standard error over the patients, 0 if all pairs are empty; floor: the
    Dice if masks are exchanged among the slices, which a generator reaches whose masks ignore them;
    area: share of lesion pixels; empty: masks without lesion, out of `pairs`; patients: of the
    others. The judge must not be trained on generated pairs.
    """
    rows = pairs.masks.flatten(1).any(1).nonzero().flatten().tolist()
    found = dict(pairs=len(pairs), empty=len(pairs) - len(rows), mean=0.0, error=0.0, floor=0.0)
    found |= dict(area=pairs.masks.double().mean().item(), patients=0)
    if not rows:
        return found
    whole = pairs.subset(rows)
    predicted = predict(judge, whole.images)
    dice = scores(predicted, whole.masks)["dice"]
    # far apart: the slices of one patient follow each other
    shifts = {len(rows) * k // (EXCHANGES + 1) for k in range(1, EXCHANGES + 1)} - {0}
    exchanged = [scores(predicted, whole.masks.roll(k, 0))["dice"].mean().item() for k in shifts]
    found["mean"] = dice.mean().item()
    of = torch.tensor(groups(whole))  # the slices of one patient are alike
    patients = found["patients"] = int(of.max()) + 1
    off = dice.new_zeros(patients).index_add(0, of, dice - dice.mean())
    scatter = off.square().sum().item() * patients / max(patients - 1, 1)
    found["error"] = scatter**0.5 / len(rows)
    found["floor"] = sum(exchanged) / len(exchanged) if exchanged else 0.0
    return found


def pair_agreement(judge: nn.Module, pairs: Pairs) -> float:
    """The mean of `agreement`. Fresh real pairs show what a perfect generator would score."""
    return agreement(judge, pairs)["mean"]


def train_judge(
    config: Config,
    device: torch.device,
    checkpoint: Path,
    build: Callable[[], nn.Module] = SegmentationUNet,
    content: str = "",
) -> tuple[nn.Module, Pairs]:
    """Train the judge for generators of this configuration; also return fresh real pairs.

    Phantoms: trained on many fresh ones. A folder: trained on half of the held-out patients, if
    these have ENOUGH lesions; else on the generator's own training pairs, so copies of them score
    well. It says which. The fresh pairs are those of the other held-out patients. content: see
    load_data, which raises ValueError if the pairs have changed.
    """
    seed = held_out("demo-judge")
    if config.data == "phantom":
        known = phantoms(JUDGE_PAIRS, config.size, seed)
        fresh = phantoms(TEST_PAIRS, config.size, held_out("demo-test"))
    else:
        known, fresh = load_data(config, content)
        lesions = int(fresh.masks.any((1, 2, 3)).sum())
        if lesions >= ENOUGH and len(set(groups(fresh))) > 1:
            known, fresh = split(fresh, (0.5, 0.5), config.seed)
            print("the judge learns from half of the held-out patients; the others are the fresh")
        else:
            print("the judge learns from the generator's own training pairs, so copies score well")
            print(f"(with {ENOUGH} lesions held out, not {lesions}, it would learn from those)")
    training = Training(JUDGE_STEPS, batch=32, rate=3e-3, mirror=config.mirror, seed=seed)
    return train_segmenter(known, training, device, checkpoint, "training the judge", build), fresh


def measure_agreement(judge: nn.Module, synthetic: Pairs, fresh: Pairs) -> dict:
    """Print and return the agreement of synthetic and of fresh real pairs, with their floors.

    {"synthetic": mean, "fresh": mean, "details": `agreement` of both}. A share of fresh real's is
    printed only if the judge finds fresh lesions, and if synthetic masks fit their own slices.
    """
    mine, real = agreement(judge, synthetic), agreement(judge, fresh)
    print(
        f"pair agreement: synthetic {mine['mean']:.3f} ± {mine['error']:.3f}, fresh real "
        f"{real['mean']:.3f} ± {real['error']:.3f}; "
        f"with masks exchanged {mine['floor']:.3f} and {real['floor']:.3f}"
    )
    print(
        f"lesions cover {mine['area']:.1%} of synthetic pixels, {real['area']:.1%} of fresh; "
        f"without lesion: {mine['empty']} of {mine['pairs']} and {real['empty']} of {real['pairs']}"
    )
    print(verdict(mine, real))
    details = {"synthetic": mine, "fresh": real}
    return {"synthetic": mine["mean"], "fresh": real["mean"], "details": details}


def verdict(mine: dict[str, float], real: dict[str, float]) -> str:
    """One sentence on the agreement of synthetic pairs beside that of fresh real ones."""

    def fits(found: dict[str, float]) -> bool:
        return found["patients"] > 1 and found["mean"] - found["floor"] > 2 * found["error"]

    if real["empty"] == real["pairs"]:
        return "no fresh pair has a lesion, so nothing can be said: train with a larger --holdout"
    if not fits(real):
        few = "it needs more pairs, or more of them held out"
        return f"the judge finds fresh lesions no better than strangers' masks do: {few}"
    if mine["pairs"] - mine["empty"] < 2:
        return "fewer than two synthetic masks have a lesion: nothing can be said; give a larger -n"
    if not fits(mine):
        return "synthetic masks fit their own slices no better than others': train for longer"
    return f"synthetic pairs agree {mine['mean'] / real['mean']:.0%} as well as fresh real ones"
