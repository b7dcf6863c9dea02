"""Measure a pair model's completions: masks for given slices, lesions put into healthy slices.

The masks that a pair model samples for one slice are an ensemble (ensembles.py). On fresh phantoms
of other patients it is scored beside three others, all trained on the same pairs:

guider        model_x by conditional.complete: at each level it sees the slice with that noise
uncorrected   the same without corrections, by the second-order solver
mask network  model_x's twin, which sees the clean slice at every level (methods/pig.py)
U-Net         the segmenter of Table 2
"""

from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Callable

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from tqdm import tqdm

from minipig.data.checks import check_counts, held_out
from minipig.data.classical import with_deformed
from minipig.data.files import claim_folder, load_checkpoint, save_checkpoint, write_json
from minipig.data.pairs import Pairs
from minipig.data.phantoms import phantoms
from minipig.evidence.bench.ensembles import central, dice_of, forecast, with_interval
from minipig.evidence.bench.runner import machine
from minipig.evidence.judge import pair_agreement, train_judge, train_segmenter
from minipig.evidence.methods.batch import Batch, signs
from minipig.evidence.methods.pig import mask_loss
from minipig.evidence.tables.protocol import Protocol
from minipig.evidence.tables.table1 import independent_phantoms
from minipig.evidence.tables.text import columns
from minipig.extras.conditional import complete, knows
from minipig.sampler import PairModel
from minipig.schedule import Schedule
from minipig.seeds import SampleNoise
from minipig.segmentation import predict
from minipig.training.config import Config, load_data, network
from minipig.training.loop import Training, finish, fit
from minipig.training.run import load_pair, weights_of

TRAINING = 6002  # the seed of what is trained here
MASKS_A_SLICE = 8  # in an ensemble
MARGIN = 3  # pixels around a lesion that are sampled again when it is put in


def run_completions(
    out: Path, run: Path, n: int, samples: int, device: torch.device, work: Path
) -> dict:
    """Complete n fresh phantoms, `samples` masks for each slice; write and print the scores.

    run: a run on phantoms, else ValueError. The result of each stage, such as one mask of every
    slice, is kept in the folder `work`, for resuming.
    """
    check_counts(2, n=n, samples=samples)
    pair, config = load_pair(run, device)
    if config.data != "phantom":
        raise ValueError(f"{run} was trained on {config.data}; completions need a run on phantoms")
    asked = {"run": asdict(config), "weights": weights_of(run), "n": n, "samples": samples}
    claim_folder(work, asked)
    seed = held_out("completions")
    ill = independent_phantoms(n, config.size, seed)
    images = ill.images.to(device)
    twin, segmenter = train_others(config, device, work)

    def stage(name: str, make: Callable[..., Tensor], *arguments) -> Tensor:
        """The result of make(*arguments), on the CPU, cached in `work`."""
        path = work / f"{name}.pt"
        if not path.exists():
            save_checkpoint(path, {name: make(*arguments).cpu()})
        return load_checkpoint(path, {name})[name]

    by_unet = predict(segmenter, images).sigmoid()
    dice_of_unet = dice_of(by_unet, ill.masks)
    by_guider = partial(complete, pair, slice_=images)
    ways = {
        # a mask for each slice, by the number of its first sample
        "guider": lambda first: by_guider(first=first)[0] > 0,
        "uncorrected": lambda first: by_guider(corrections=0, first=first)[0] > 0,
        "mask network": lambda first: masks_for(twin, images, first, config.noise_schedule) > 0,
    }
    rows = {}
    for name, draw in ways.items():
        bar = tqdm(range(samples), f"masks by {name}", unit="sample", disable=None, leave=False)
        masks = torch.stack([stage(f"{name}-{k}", draw, k * n) for k in bar])
        probability = masks.float().mean(0)
        dice = dice_of(central(masks).float(), ill.masks)
        each = [dice_of(one.float(), ill.masks).mean() for one in masks]
        rows[name] = forecast(probability, ill.masks, samples) | {
            "dice": with_interval(dice),
            "ahead_of_U-Net": with_interval(dice - dice_of_unet),
            "dice_of_one": float(np.mean(each)),
            "dice_of_majority": float(dice_of(probability, ill.masks).mean()),
        }
    rows["U-Net"] = forecast(by_unet, ill.masks) | {"dice": with_interval(dice_of_unet)}

    healthy = phantoms(n, config.size, seed, healthy=True, slices=1)
    inserted = stage("inserted", put_in, pair, ill, healthy, device)
    judge, _ = train_judge(config, device, work / "judge.ckpt")
    lesions = {}
    shown = {"healthy": healthy.images, "inserted": inserted, "true lesion": ill.images}
    for name, slices in shown.items():
        pairs = Pairs(ill.masks, slices, ill.names, ill.patients)
        agreement = pair_agreement(judge, pairs)
        lesions[name] = {"agreement": agreement, "brighter": brighter(pairs, healthy)}
    result = {"asked": asked, "machine": machine(device), "masks": rows, "lesions": lesions}
    write_json(out, result)
    print(table(result))
    return result


def train_others(config: Config, device: torch.device, work: Path) -> tuple[nn.Module, nn.Module]:
    """The mask network, trained like the run's networks, and the U-Net, as in Table 2; resumes."""
    known, _ = load_data(config)
    known = with_deformed(known, config.deformed, config.seed, None)  # as the run's networks
    how = partial(Training, mirror=config.mirror, seed=TRAINING)
    net = network(config, TRAINING).to(device)
    training = how(config.steps, config.batch, config.rate)
    path = work / "twin.ckpt"
    steps = fit(net, mask_loss, known, training, path, schedule=config.noise_schedule)
    twin = finish(steps, "training the mask network").average
    p = Protocol()
    training = how(p.segmenter_steps, p.segmenter_batch, p.segmenter_rate)
    path = work / "segmenter.ckpt"
    return twin, train_segmenter(known, training, device, path, "training the segmenter")


def masks_for(mask_net: nn.Module, images: Tensor, first: int, schedule: Schedule) -> Tensor:
    """A mask ±1 for each slice, by a network that sees the clean slice.

    This is the swapped walk with its first chain given; sample i has the number first + i.
    """
    drawn = []
    for rows in torch.arange(len(images)).split(64):
        noise = SampleNoise(TRAINING, range(first + rows[0], first + rows[-1] + 1), images.device)
        batch = Batch(noise, tuple(images.shape[2:]), images[rows], schedule)
        drawn.append(signs(batch.walk(knows(images[rows], schedule), mask_net).y0_hat))
    return torch.cat(drawn)


def put_in(pair: PairModel, ill: Pairs, healthy: Pairs, device: torch.device) -> Tensor:
    """The healthy slices with lesions for the masks of `ill`; away from them they are given."""
    masks = ill[:][0].to(device)
    images = healthy.images.to(device)
    return complete(pair, masks, torch.where(near(masks > 0), torch.nan, images))[1]


def near(masks: Tensor) -> Tensor:
    """The masks (N, 1, H, W), bool, grown by MARGIN pixels in every direction."""
    return F.max_pool2d(masks.float(), 2 * MARGIN + 1, stride=1, padding=MARGIN) > 0


def brighter(pairs: Pairs, healthy: Pairs) -> float:
    """Mean difference of the lesions to the healthy tissue of the same pixels, on [-1, 1]."""
    return (pairs.images - healthy.images)[pairs.masks].mean().item()


def table(result: dict) -> str:
    """The scores as text: one line for each way to a mask, and for each kind of lesion."""
    headings = ("Dice (95 %)", "ahead of the U-Net", "of one mask", "of the majority", "Brier")
    lines = [["", *headings, "calibration error"]]
    for name, row in result["masks"].items():
        dice = "{:.3f} ({:.3f}..{:.3f})".format(*row["dice"])
        ahead, one, majority = "", "", ""
        if "ahead_of_U-Net" in row:
            ahead = "{:+.3f} ({:+.3f}..{:+.3f})".format(*row["ahead_of_U-Net"])
            one, majority = f"{row['dice_of_one']:.3f}", f"{row['dice_of_majority']:.3f}"
        errors = (f"{row[key]:.4f}" for key in ("brier", "calibration_error"))
        lines.append([name, dice, ahead, one, majority, *errors])
    lesions = [["", "agreement", "brighter than the healthy tissue"]]
    for name, row in result["lesions"].items():
        lesions.append([name, f"{row['agreement']:.3f}", f"{row['brighter']:.3f}"])
    return "\n".join([*columns(lines), "", *columns(lesions)])
