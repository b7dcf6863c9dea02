"""Every method of both tables by the name of its row: its networks, and how it draws samples.

Networks that several methods share are trained once a fold. All samples come from one walk,
`batch.Batch.walk`. All networks are trained for equally many steps, joint-twice for twice as many.
Besides what the networks see, these differ:
DDPM and DDIM take 1,024 and 256 steps of first order, as in the paper (DPM++ is their network on
the walk of the others); PIG, LDM and ControlNet train two networks, the others one, and joint-wide
one at twice the cost of PIG's two; LDM's slices carry the errors of its autoencoder.
"""

from dataclasses import dataclass
from functools import partial
from typing import Callable

from torch import Tensor, nn

from minipig.data.pairs import Pairs
from minipig.evidence.methods import joint, latent, pig, seg_guided, told, unconditional
from minipig.evidence.methods.batch import Batch, signs
from minipig.evidence.methods.controlnet import ControlNet
from minipig.extras.solvers import SOLVERS
from minipig.guider import model_x_loss
from minipig.rules import Binarised, Dithered, LesionWeighted, Matched, Sign, loss_of
from minipig.unet import PairedUNet


def paired(settings: dict, *parents: nn.Module) -> PairedUNet:
    """A network of PIG: one chain, one guide."""
    return PairedUNet(**settings)


@dataclass(frozen=True)
class Network:
    """How one network is built and trained.

    build(settings, *parents) -> a new network; loss(net, noisy pair) -> scalar; parents: networks
    to train before; data(pairs, *parents) -> its training pairs; finalise(net, pairs), after the
    last step; guided: the first parent is the frozen guider of x0_hat; times: how many trainings of
    the others its steps make.
    """

    build: Callable[..., nn.Module]
    loss: Callable
    parents: tuple[str, ...] = ()
    data: Callable[..., Pairs] = lambda pairs, *parents: pairs
    finalise: Callable[[nn.Module, Pairs], None] = lambda net, pairs: None
    guided: bool = False
    times: int = 1


NETWORKS = {
    "slice": Network(unconditional.build, unconditional.loss),
    "mask": Network(unconditional.build, unconditional.mask_loss),
    "joint": Network(joint.build, joint.loss),
    "joint-twice": Network(joint.build, joint.loss, times=2),
    "joint-wide": Network(
        lambda settings: joint.build(settings | {"base": 2 * settings["base"]}), joint.loss
    ),
    "guider": Network(paired, model_x_loss),
    "model_y-clean": Network(paired, seg_guided.loss),
    "model_y-matched": Network(paired, loss_of(Matched()), ("guider",), guided=True),
    "model_y-weighted": Network(paired, loss_of(LesionWeighted()), ("guider",), guided=True),
    "guider-told": Network(told.build, told.told(model_x_loss), data=told.with_flag),
    "model_y-told": Network(told.build, told.told(seg_guided.loss), data=told.with_flag),
    "control": Network(lambda settings, frozen: ControlNet(frozen), seg_guided.loss, ("slice",)),
    "autoencoder": Network(
        lambda settings: latent.Autoencoder(), latent.autoencoder_loss, finalise=latent.fit_scale
    ),
    "latent": Network(
        lambda settings, _: latent.build(settings), latent.loss, ("autoencoder",), latent.to_latents
    ),
}


@dataclass(frozen=True)
class Method:
    """draw(*networks, batch) -> (masks ±1 or None, slices), (B, 1, H, W), and its solver.

    bent_masks: the batch's masks are those of all pairs that the networks learnt from, deformed
    ones included, and not of the real pairs alone.
    """

    networks: tuple[str, ...]
    draw: Callable[..., tuple[Tensor | None, Tensor]]
    solver: str = "dpm++2m"
    steps: int = SOLVERS["dpm++2m"].steps
    eta: float = 0.0
    bent_masks: bool = False


def slices_only(net: nn.Module, batch: Batch) -> tuple[None, Tensor]:
    """Slices without masks."""
    return None, unconditional.draw(net, batch)


def new_masks_first(mask_net: nn.Module, model_y: nn.Module, batch: Batch) -> tuple[Tensor, Tensor]:
    """SegGuidedDif with new masks, which a diffusion of masks draws without slices."""
    batch.masks = signs(unconditional.draw(mask_net, batch))
    return seg_guided.draw(model_y, batch)


def finished_masks(guider: nn.Module, model_y: nn.Module, batch: Batch) -> tuple[Tensor, Tensor]:
    """PIG's finished masks, and slices drawn for them by SegGuidedDif: two walks."""
    batch.masks, _ = pig.draw(guider, model_y, batch)
    return seg_guided.draw(model_y, batch)


PIG_CLEAN = ("guider", "model_y-clean")
PIG_MATCHED = ("guider", "model_y-matched")
PIG_WEIGHTED = ("guider", "model_y-weighted")
METHODS = {
    # Table 1 alone: no masks
    "DDPM": Method(("slice",), slices_only, "ddim", steps=1024, eta=1.0),
    "DDIM": Method(("slice",), slices_only, "ddim", steps=256),
    "DPM++": Method(("slice",), slices_only),  # the same network on the walk of the others
    # both tables
    "joint": Method(("joint",), joint.draw),
    "joint-twice": Method(("joint-twice",), joint.draw),  # as many steps as PIG's two networks
    "LDM": Method(("autoencoder", "latent"), latent.draw),
    "SegGuidedDif": Method(("model_y-clean",), seg_guided.draw),
    "ControlNet": Method(("control",), seg_guided.draw),
    "PIG": Method(PIG_CLEAN, pig.draw),  # the default guide rule
    "PIG-matched": Method(PIG_MATCHED, pig.draw),
    "PIG-sign": Method(PIG_CLEAN, partial(pig.draw, rule=Sign())),
    "PIG-dithered": Method(PIG_CLEAN, partial(pig.draw, rule=Dithered())),
    # controls: other masks, another network, one network at twice PIG's cost
    "SegGuidedDif-newmasks": Method(("mask", "model_y-clean"), new_masks_first),
    "SegGuidedDif-bentmasks": Method(("model_y-clean",), seg_guided.draw, bent_masks=True),
    "ControlNet-bentmasks": Method(("control",), seg_guided.draw, bent_masks=True),
    "PIG-finished": Method(PIG_CLEAN, finished_masks),
    "PIG-finished-fewer": Method(PIG_CLEAN, finished_masks, steps=16),  # at no more calls than PIG
    "PIG-matched-oldmasks": Method(("model_y-matched",), seg_guided.draw),
    "joint-wide": Method(("joint-wide",), joint.draw),
    # told whether a training pair is deformed
    "SegGuidedDif-told": Method(("model_y-told",), told.draw_seg_guided),
    "PIG-told": Method(("guider-told", "model_y-told"), told.draw_pig),
    # the released code: its guide, its loss, and both
    "PIG-binarised": Method(PIG_MATCHED, partial(pig.draw, rule=Binarised())),
    "PIG-thresholded": Method(PIG_MATCHED, partial(pig.draw, rule=Binarised(window=1))),
    "PIG-weighted": Method(PIG_WEIGHTED, pig.draw),
    "PIG-release": Method(PIG_WEIGHTED, partial(pig.draw, rule=Binarised())),
}
