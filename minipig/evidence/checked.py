"""Is it a guide rule? Asked of a small batch, before anything is trained or any verdict given."""

import torch
from torch import Tensor

from ..guider import GuideRule, NoisyPair
from ..sampler import State
from ..schedule import Schedule
from ..seeds import generator


def checked(rule: GuideRule) -> GuideRule:
    """The rule itself, if on a small batch both of its guides are what a model_y of one channel can be shown.

    Raises ValueError that says what came instead. (What a rule raises itself is left as it is.)
    """
    name = type(rule).__name__
    if isinstance(rule, type) or not all(callable(getattr(rule, method, None)) for method in ("train", "sample")):
        raise ValueError(f"a rule has the methods train and sample; {rule!r} is none")
    draw, schedule = generator("checked rule"), Schedule()
    x0, y0, x, y = torch.randn(4, 2, 1, 32, 32, generator=draw)
    pair = NoisyPair.draw(x0, y0, schedule, draw, model_x=lambda z, t, guide: z)
    state = State(512, 508, x, y, x0.clamp(-1, 1), x, schedule)
    for method, guide in (("train", rule.train(pair)), ("sample", rule.sample(state))):
        wanted = "a guide is a finite tensor of the shape and dtype of the mask, (B, 1, H, W)"
        if not isinstance(guide, Tensor):
            raise ValueError(f"{name}.{method} returned a {type(guide).__name__}; {wanted}")
        if guide.shape != x.shape or guide.dtype != x.dtype:
            told = f"{tuple(guide.shape)} of {guide.dtype} for a mask {tuple(x.shape)} of {x.dtype}"
            raise ValueError(f"{name}.{method} returned {told}; {wanted}")
        if not guide.isfinite().all():
            raise ValueError(f"{name}.{method} returned values that are not finite; {wanted}")
    return rule
