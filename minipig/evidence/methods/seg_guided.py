"""SegGuidedDif (Konz et al. 2024, arXiv 2402.05210): the network sees a clean mask beside y_t.

Its loss is that of model_y under the rule `Clean`, so the two are *the same network*: SegGuidedDif
is PIG without the guider, and takes its masks from the training set. The two rows differ only in
the masks.
"""

from torch import Tensor

from minipig.evidence.methods.batch import Batch
from minipig.extras.conditional import knows
from minipig.guider import Denoiser
from minipig.rules import Clean, loss_of

loss = loss_of(Clean())


def draw(net: Denoiser, batch: Batch) -> tuple[Tensor, Tensor]:
    """The given masks, and slices for them, (B, 1, H, W) each."""
    return batch.masks, batch.walk(knows(batch.masks, batch.schedule), net).y0_hat
