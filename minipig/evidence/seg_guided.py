"""SegGuidedDif (Konz et al. 2024, arXiv 2402.05210): the slice's network sees a clean mask in a channel beside y_t.

Its loss is that of model_y under the rule `Clean`, so the two are *one and the same network*: SegGuidedDif is PIG without
the guider, and draws its masks from the training set. Whatever the two rows differ by is owed to the masks.
"""

from functools import partial

from torch import Tensor

from ..conditional import knows
from ..guider import Clean, Denoiser, slice_loss
from ..schedule import Schedule
from .start import Start

loss = partial(slice_loss, rule=Clean())


def draw(net: Denoiser, start: Start) -> tuple[Tensor, Tensor]:
    """The masks that were given, and slices for them, (B, 1, H, W) each."""
    return start.masks, start.walk(knows(start.masks, Schedule()), net).y0_hat
