"""minipig: Paired Image Generation with Diffusion-Guided Diffusion Models (PIG, MICCAI 2025), as readable code.

Two diffusion models generate a lesion mask and the slice that belongs to it, from noise. model_x, the *guider*, denoises the
mask while it looks at the noisy slice; its estimate of the mask guides model_y, which denoises the slice.

Read the paper's files first, in this order; they import nothing but each other:

  schedule      Eq. (1)-(3), (6), (7): noise levels, the clean estimate x0_hat, one step of the walk
  unet, norm    the network (z_t, t, guide) -> eps
  guider        Algorithm 1, model_y's loss, and what model_y is shown: the guide rules
  sampler       Algorithm 2, as a generator of states
  finite, exact worlds in which every conditional is known: the proof, and ideal networks
  segmentation  the network that the pairs are for
  seeds         randomness as a function of a key

Then data (folders of pairs), run (train a pair model, load it), rules (more guide rules), conditional (a slice for a mask, a
mask for a slice), and evidence (the paper's tables, the lab of guide rules, benchmarks).

Four pairs from the model that lies in the repository:

>>> from pathlib import Path
>>> from minipig.run import load_pair
>>> from minipig.sampler import sample
>>> pair, config = load_pair(Path("data_samples/runs/phantom32"))
>>> masks, slices = next(sample(pair, n=4, size=config.size, steps=25, solver="dpm++2m"))  # masks: lesion where above 0
>>> slices.shape, bool(slices.abs().max() <= 1)
(torch.Size([4, 1, 32, 32]), True)

Two networks of your own, on pairs of mask (bool) and slice ([-1, 1]) that need not come from a folder:

>>> from minipig.guider import Clean, guider_loss, slice_loss
>>> from minipig.phantoms import phantoms
>>> from minipig.sampler import PairModel
>>> from minipig.schedule import Schedule
>>> from minipig.train import Training, fit
>>> from minipig.unet import PRESETS, PairedUNet
>>> pairs, training = phantoms(16, size=(16, 16)), Training(steps=3, batch=4)
>>> model_x, model_y = (PairedUNet(**PRESETS["tiny"]) for _ in range(2))
>>> for progress in fit(model_x, guider_loss, pairs, training):
...     guider = progress.average
>>> for progress in fit(model_y, lambda net, pair: slice_loss(net, pair, Clean()), pairs, training):
...     pair = PairModel(guider, progress.average, Schedule(), Clean())
>>> masks, slices = next(sample(pair, n=2, size=(16, 16), steps=4))

On the command line: python -m minipig --help. The course: jupyter lab notebooks/.
"""
