"""Every method of both tables by its row's name: the networks it trains, how it draws, and what it is called in the field.

A network that two methods share is trained once a fold. All are trained by one loop for equally many steps, and all samples
come from one walk, `start.Start.walk`. What differs besides what the networks are shown: DDPM and DDIM walk as in the paper,
1,024 and 256 steps of first order (DPM++ is their network on everybody's walk); PIG, LDM and ControlNet take two trainings,
the others one, and joint-wide one of twice PIG's cost; and LDM sees slices through its autoencoder, whose errors it inherits.
"""

from dataclasses import dataclass
from functools import partial
from typing import Callable

from torch import Tensor, nn

from ..guider import guider_loss
from ..pairs import Pairs
from ..rules import Binarised, Dithered, Sign
from ..sampler import SOLVERS
from ..unet import PairedUNet
from . import joint, latent, pig, seg_guided, unconditional
from .controlnet import ControlNet
from .start import Start, signs


def paired(settings: dict, *parents: nn.Module) -> PairedUNet:
    """The network of PIG's two: one chain, one guide."""
    return PairedUNet(**settings)


@dataclass(frozen=True)
class Network:
    """How one network comes about. after: networks that must be trained first, handed to `build` and `data` in that order.

    build(settings, *parents) -> a fresh network; loss(net, noisy pair); data(pairs, *parents) -> what it is trained on;
    finish(net, pairs), after the last step; guided: the first parent is the frozen guider of x0_hat.
    """

    build: Callable[..., nn.Module]
    loss: Callable
    after: tuple[str, ...] = ()
    data: Callable[..., Pairs] = lambda pairs, *parents: pairs
    finish: Callable[[nn.Module, Pairs], None] = lambda net, pairs: None
    guided: bool = False


NETWORKS = {
    "slice": Network(unconditional.build, unconditional.loss),
    "mask": Network(unconditional.build, unconditional.mask_loss),
    "joint": Network(joint.build, joint.loss),
    "joint-wide": Network(lambda settings: joint.build(settings | {"base": 2 * settings["base"]}), joint.loss),
    "guider": Network(paired, guider_loss),
    "model_y-clean": Network(paired, seg_guided.loss),
    "model_y-matched": Network(paired, pig.matched_loss, ("guider",), guided=True),
    "model_y-weighted": Network(paired, pig.weighted_loss, ("guider",), guided=True),
    "control": Network(lambda settings, frozen: ControlNet(frozen), seg_guided.loss, ("slice",)),
    "autoencoder": Network(lambda settings: latent.Autoencoder(), latent.autoencoder_loss, finish=latent.fit_scale),
    "latent": Network(lambda settings, _: latent.build(settings), latent.loss, ("autoencoder",), data=latent.to_latents),
}


@dataclass(frozen=True)
class Method:
    """draw(*networks, start) -> (masks ±1 or None, slices), both (B, 1, H, W); solver, steps, eta: how its samples walk."""

    networks: tuple[str, ...]
    draw: Callable[..., tuple[Tensor | None, Tensor]]
    solver: str = "dpm++2m"
    steps: int = SOLVERS["dpm++2m"]["steps"]
    eta: float = 0.0


def slices_alone(net: nn.Module, start: Start) -> tuple[None, Tensor]:
    """For the methods without masks."""
    return None, unconditional.draw(net, start)


def new_masks_first(mask_net: nn.Module, model_y: nn.Module, start: Start) -> tuple[Tensor, Tensor]:
    """SegGuidedDif with masks that a diffusion of masks alone has made: as new as PIG's, but chosen without a slice."""
    start.masks = signs(unconditional.draw(mask_net, start))
    return seg_guided.draw(model_y, start)


def finished_masks(guider: nn.Module, model_y: nn.Module, start: Start) -> tuple[Tensor, Tensor]:
    """PIG in two walks: its masks, and once they are finished slices for them, as SegGuidedDif draws. What PIG's masks are
    worth without a guide that is still at work."""
    start.masks, _ = pig.draw(guider, model_y, start)
    return seg_guided.draw(model_y, start)


METHODS = {
    # Table 1 alone: no masks
    "DDPM": Method(("slice",), slices_alone, "ddim", steps=1024, eta=1.0),
    "DDIM": Method(("slice",), slices_alone, "ddim", steps=256),
    "DPM++": Method(("slice",), slices_alone),  # the same network on the walk that all the others take
    # both tables
    "joint": Method(("joint",), joint.draw),
    "LDM": Method(("autoencoder", "latent"), latent.draw),
    "SegGuidedDif": Method(("model_y-clean",), seg_guided.draw),
    "ControlNet": Method(("control",), seg_guided.draw),
    "PIG": Method(("guider", "model_y-clean"), pig.draw),  # the default guide rule
    "PIG-matched": Method(("guider", "model_y-matched"), pig.draw),
    "PIG-sign": Method(("guider", "model_y-clean"), partial(pig.draw, rule=Sign())),
    "PIG-dithered": Method(("guider", "model_y-clean"), partial(pig.draw, rule=Dithered())),
    # controls: whose masks, finished or not, which network, what a budget of two networks does for one, and the release
    "SegGuidedDif-newmasks": Method(("mask", "model_y-clean"), new_masks_first),
    "PIG-finished": Method(("guider", "model_y-clean"), finished_masks),
    "PIG-matched-oldmasks": Method(("model_y-matched",), seg_guided.draw),
    "joint-wide": Method(("joint-wide",), joint.draw),
    "PIG-binarised": Method(("guider", "model_y-matched"), partial(pig.draw, rule=Binarised())),
    "PIG-thresholded": Method(("guider", "model_y-matched"), partial(pig.draw, rule=Binarised(window=1))),
    "PIG-weighted": Method(("guider", "model_y-weighted"), pig.draw),
    "PIG-release": Method(("guider", "model_y-weighted"), partial(pig.draw, rule=Binarised())),  # both, as the release does
}
