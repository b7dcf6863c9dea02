"""What are a pair model's completions worth? Masks for given slices, against a segmenter; lesions put into healthy slices.

The masks that a pair model draws for one slice are an ensemble (ensembles.py). It is scored, on fresh phantoms of other
patients, beside those of three others which have learnt from the same pairs:

guider        model_x, as it is, through conditional.complete: at each level it sees the slice under that level's noise
uncorrected   the same without corrections, on the short walk of second order
mask network  model_x's twin, trained for the purpose: it sees the clean slice at every level (evidence/swapped.py)
U-Net         the segmenter of Table 2
"""

import platform
from dataclasses import asdict
from pathlib import Path
from typing import Callable

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from tqdm import tqdm

from ..claim import claim_folder
from ..conditional import complete, knows
from ..files import load_checkpoint, save_checkpoint, write_json
from ..pairs import Pairs
from ..phantoms import SLICES, phantoms
from ..run import load_data, load_pair, network, require, weights_of
from ..sampler import PairModel
from ..schedule import Schedule
from ..seeds import SampleNoise
from ..segmentation import predict
from ..train import Training, finish, fit
from .demo import train_judge
from .ensembles import central, dice_of, forecast, with_interval
from .likeness import strangers
from .metrics import pair_agreement, train_segmenter
from .protocol import Protocol
from .start import Start, signs
from .swapped import mask_loss

TEST, TRAINING = 6001, 6002  # seeds of the phantoms that are completed, and of what is trained here
MASKS_A_SLICE = 8  # an ensemble
MARGIN = 3  # pixels around a lesion that are drawn anew when it is put in


def run_completions(out: Path, run: Path, n: int, samples: int, device: torch.device, work: Path) -> dict:
    """Complete n fresh phantoms, `samples` masks for each slice, by the phantom run's pair model; write and print the scores.

    Each stage's result, such as one mask of every slice, is kept in the folder `work`, to go on from. Raises ValueError for a
    run that is not of phantoms.
    """
    require(2, n=n, samples=samples)
    pair, config = load_pair(run, device)
    if config.data != "phantom" or config.seed == TEST:
        raise ValueError(f"{run} has learnt from {config.data}, seed {config.seed}; fresh phantoms are completed")
    asked = {"run": asdict(config), "weights": weights_of(run)}
    asked |= {"n": n, "samples": samples}
    claim_folder(work, asked)
    known, ill = load_data(config)[0], strangers(n, config.size, TEST)
    images = ill.images.to(device)

    def stage(name: str, make: Callable[[], Tensor]) -> Tensor:
        """What make() returns, on the CPU: made once."""
        path = work / f"{name}.pt"
        if not path.exists():
            save_checkpoint(path, {name: make().cpu()})
        return load_checkpoint(path, {name})[name]

    def ensemble(name: str, draw: Callable[[int], Tensor]) -> Tensor:
        """Masks of every sample of every slice, (samples, n, 1, H, W), bool: a stage for each sample."""
        bar = tqdm(range(samples), desc=f"masks by {name}", unit="sample", disable=None, leave=False)
        return torch.stack([stage(f"{name}-{k}", lambda: draw(k * n) > 0) for k in bar])  # noqa: B023

    drawn = {
        "guider": ensemble("guider", lambda first: complete(pair, slice_=images, first=first)[0]),
        "uncorrected": ensemble("uncorrected", lambda first: complete(pair, slice_=images, corrections=0, first=first)[0]),
    }
    twin = network(config, TRAINING).to(device)
    training = Training(config.steps, config.batch, config.rate, mirror=config.mirror, seed=TRAINING)
    steps = fit(twin, mask_loss, known, training, work / "twin.ckpt")
    twin = finish(steps, training, "training the mask network").average.eval().requires_grad_(False)
    drawn["mask network"] = ensemble("mask network", lambda first: masks_for(twin, images, first))
    protocol = Protocol()
    own = (protocol.segmenter_steps, protocol.segmenter_batch, protocol.segmenter_rate)
    training = Training(*own, mirror=config.mirror, seed=TRAINING)
    segmenter = train_segmenter(known, training, device, work / "segmenter.ckpt", "training the segmenter")
    probability = {name: masks.float().mean(0) for name, masks in drawn.items()}
    probability["U-Net"] = predict(segmenter, images).sigmoid()

    rows = {name: forecast(p, ill.masks, samples if name in drawn else None) for name, p in probability.items()}
    unet = dice_of(probability["U-Net"], ill.masks)
    rows["U-Net"]["dice"] = with_interval(unet)
    for name, masks in drawn.items():
        dice = dice_of(central(masks).float(), ill.masks)
        rows[name] |= {"dice": with_interval(dice), "ahead_of_U-Net": with_interval(dice - unet)}
        rows[name]["dice_of_one"] = float(np.mean([dice_of(one.float(), ill.masks).mean() for one in masks]))
        rows[name]["dice_of_majority"] = float(dice_of(probability[name], ill.masks).mean())

    healthy = phantoms(n * SLICES, config.size, TEST, healthy=True).subset(range(0, n * SLICES, SLICES))
    inserted = Pairs(ill.masks, stage("inserted", lambda: put_in(pair, ill, healthy, device)), ill.names, ill.patients)
    judge, _ = train_judge(config, device, work / "judge.ckpt")
    before = Pairs(ill.masks, healthy.images, ill.names, ill.patients)
    lesions = {
        name: {"agreement": pair_agreement(judge, pairs), "brighter": brighter(pairs, healthy)}
        for name, pairs in (("healthy", before), ("inserted", inserted), ("true lesion", ill))
    }
    machine = {"python": platform.python_version(), "torch": torch.__version__, "device": str(device)}
    result = {"asked": asked, "machine": machine, "masks": rows, "lesions": lesions}
    write_json(out, result)
    print(table(result))
    return result


def masks_for(mask_net, images: Tensor, first: int) -> Tensor:
    """A mask ±1 for each slice, by a network that is shown the clean slice: the swapped walk, with its first chain known."""
    drawn = []
    for rows in torch.arange(len(images)).split(64):
        noise = SampleNoise(TRAINING, range(first + rows[0], first + rows[-1] + 1), images.device)
        start = Start(noise, tuple(images.shape[2:]), masks=images[rows])
        drawn.append(signs(start.walk(knows(images[rows], Schedule()), mask_net).y0_hat))
    return torch.cat(drawn)


def put_in(pair: PairModel, ill: Pairs, healthy: Pairs, device: torch.device) -> Tensor:
    """The healthy slices with the lesions of `ill` drawn into them: given are the mask, and the slice away from it."""
    masks, images = ill[:][0].to(device), healthy.images.to(device)
    return complete(pair, masks, torch.where(near(masks > 0), torch.nan, images))[1]


def near(masks: Tensor) -> Tensor:
    """The masks (N, 1, H, W), bool, grown by MARGIN pixels in every direction."""
    return F.max_pool2d(masks.float(), 2 * MARGIN + 1, stride=1, padding=MARGIN) > 0


def brighter(pairs: Pairs, healthy: Pairs) -> float:
    """By how many grey levels of [-1, 1] the lesions are brighter than the healthy tissue of the same pixels, on average."""
    return (pairs.images - healthy.images)[pairs.masks].mean().item()


def table(result: dict) -> str:
    """The scores of each way to a mask, and of the lesions that were put in."""
    lines = [
        f"{'':14}{'Dice (95 %)':>20}{'ahead of the U-Net':>26}{'of any mask':>13}{'of the majority':>17}"
        f"{'Brier':>8}{'calibration error':>19}"
    ]
    for name, row in result["masks"].items():
        mean, low, high = row["dice"]
        one, majority = (f"{row[key]:.3f}" if key in row else "" for key in ("dice_of_one", "dice_of_majority"))
        ahead = "{:+.3f} ({:+.3f}..{:+.3f})".format(*row["ahead_of_U-Net"]) if one else ""
        lines.append(
            f"{name:14}{f'{mean:.3f} ({low:.3f}..{high:.3f})':>20}{ahead:>26}{one:>13}{majority:>17}"
            f"{row['brier']:8.4f}{row['calibration_error']:19.4f}"
        )
    for name, row in result["lesions"].items():
        lines.append(f"{name:14} agreement {row['agreement']:.3f}, brighter than the healthy tissue by {row['brighter']:.3f}")
    return "\n".join(lines)
