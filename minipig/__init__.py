"""minipig: Paired Image Generation with Diffusion-Guided Diffusion Models (PIG, MICCAI 2025).

Two diffusion models generate a lesion mask and the slice that belongs to it, from noise. model_x,
the *guider*, denoises the mask while it looks at the noisy slice; its estimate of the mask guides
model_y, which denoises the slice.

The files beside this one are the paper. Read them in this order; they import nothing but each
other:

  schedule      Eq. (1)-(3), (6), (7): noise levels, the clean estimate x0_hat, one sampling step
  unet          the network (z_t, t, guide) -> eps
  guider        Algorithm 1: the noisy pair, and the losses of model_x and model_y
  sampler       Algorithm 2, as a generator of states
  rules         the guide rules: what model_y is shown
  segmentation  the network that the pairs are for
  seeds         randomness as a function of a key

plot draws; cli and commands are the command line. The folders: worlds (for the proof, and with
ideal networks), extras (second-order solvers, a faster network, completions), data (phantoms,
folders of pairs), training (the loop, runs), evidence (the paper's tables, the lab, benchmarks),
course (the notebooks, wherever minipig is installed).

Four pairs from the model in the repository:

>>> from pathlib import Path
>>> from minipig import load_pair, sample
>>> pair, config = load_pair(Path("data_samples/runs/phantom32"))
>>> masks, slices = next(sample(pair, n=4, size=config.size, steps=25))
>>> slices.shape, bool(slices.abs().max() <= 1)
(torch.Size([4, 1, 32, 32]), True)

Two networks of your own, on phantoms (or any Pairs of masks and slices):

>>> from minipig import PRESETS, Clean, PairedUNet, PairModel, Schedule, Training
>>> from minipig import fit, loss_of, model_x_loss, phantoms
>>> pairs, rule = phantoms(16, size=(16, 16)), Clean()
>>> model_x, model_y = PairedUNet(**PRESETS["tiny"]), PairedUNet(**PRESETS["tiny"])
>>> for x in fit(model_x, model_x_loss, pairs, Training(steps=3, seed=0)):
...     pass
>>> for y in fit(model_y, loss_of(rule), pairs, Training(steps=3, seed=1)):
...     pass
>>> pair = PairModel(x.average, y.average, Schedule.linear(), rule)
>>> masks, slices = next(sample(pair, n=2, size=(16, 16), steps=4))

On the command line: minipig --help. The course: jupyter lab notebooks/.
"""

from importlib import import_module

HOME = {
    # the names that a notebook begins with, and where they are defined
    "Schedule": "schedule",
    "PairedUNet": "unet",
    "PRESETS": "unet",
    "model_x_loss": "guider",
    "PairModel": "sampler",
    "sample": "sampler",
    "Clean": "rules",
    "loss_of": "rules",
    "phantoms": "data.phantoms",
    "Training": "training.loop",
    "fit": "training.loop",
    "load_pair": "training.run",
}
__all__ = list(HOME)


def __dir__() -> list[str]:
    return __all__


def __getattr__(name: str):
    """Import a name when it is first used, so that `minipig --help` need not wait for torch."""
    if name not in HOME:
        raise AttributeError(f"module 'minipig' has no attribute {name!r}")
    return getattr(import_module(f"minipig.{HOME[name]}"), name)
