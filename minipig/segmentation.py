"""The downstream task: a small U-Net that outlines lesions, its loss, and the scores of Table 2.

To try another network, give it as `build` to evidence.judge.train_segmenter. The tables use this.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

SCORES = ("dice", "iou", "precision", "recall")


def double_conv(channels: int, out: int) -> nn.Sequential:
    """Two 3x3 convolutions with batch norm, (B, C, H, W) -> (B, C', H, W)."""
    layers = []
    for c in (channels, out):
        layers += [nn.Conv2d(c, out, 3, padding=1, bias=False), nn.BatchNorm2d(out), nn.ReLU()]
    return nn.Sequential(*layers)


class SegmentationUNet(nn.Module):
    """A small U-Net (Ronneberger et al. 2015): slices in [-1, 1] -> mask logits, both (B, 1, H, W).

    Height and width must be multiples of 2^levels; forward raises ValueError for others.
    """

    def __init__(self, base: int = 16, levels: int = 3):
        super().__init__()
        widths = [base * 2**i for i in range(levels + 1)]
        self.multiple = 2**levels
        self.down = nn.ModuleList(double_conv(c, w) for c, w in zip([1] + widths, widths))
        self.grow = nn.ModuleList(nn.ConvTranspose2d(w, w // 2, 2, stride=2) for w in widths[:0:-1])
        self.up = nn.ModuleList(double_conv(w, w // 2) for w in widths[:0:-1])
        self.leave = nn.Conv2d(base, 1, 1)

    def forward(self, y: Tensor) -> Tensor:
        *skips, h = self.encode(y)
        for grow, block in zip(self.grow, self.up):
            h = block(torch.cat([skips.pop(), grow(h)], dim=1))
        return self.leave(h)

    def encode(self, y: Tensor) -> list[Tensor]:
        """Each level's features, the finest first: (B, base * 2^i, H / 2^i, W / 2^i)."""
        height, width = y.shape[2:]
        if height % self.multiple or width % self.multiple:
            raise ValueError(
                f"the segmenter takes multiples of {self.multiple} pixels, not {height}x{width}"
            )
        levels = [self.down[0](y)]
        for block in self.down[1:]:
            levels.append(block(F.max_pool2d(levels[-1], 2)))
        return levels


def segmentation_loss(logits: Tensor, x0: Tensor) -> Tensor:
    """Cross entropy plus soft Dice, averaged over the batch; x0: (B, 1, H, W) masks ±1."""
    target = (x0 + 1) / 2
    probability = logits.sigmoid()
    overlap = 2 * (probability * target).sum((1, 2, 3)) + 1
    dice = overlap / (probability.sum((1, 2, 3)) + target.sum((1, 2, 3)) + 1)
    return F.binary_cross_entropy_with_logits(logits, target) + (1 - dice).mean()


def scores(predicted: Tensor, truth: Tensor) -> dict[str, Tensor]:
    """Dice, IoU, precision, recall of each image, (B,) in [0, 1]; masks (B, 1, H, W), lesion > 0.

    If both masks are empty, all four are 1; if one of the two is, all four are 0.
    """
    p = (predicted > 0).flatten(1)
    q = (truth > 0).flatten(1)
    hit = (p & q).sum(1).double()
    n_p = p.sum(1).double()
    n_q = q.sum(1).double()
    both_empty = (n_p + n_q) == 0

    def ratio(a: Tensor, b: Tensor) -> Tensor:
        return torch.where(both_empty, 1.0, a / b.clamp(min=1))

    return {
        "dice": ratio(2 * hit, n_p + n_q),
        "iou": ratio(hit, n_p + n_q - hit),
        "precision": ratio(hit, n_p),
        "recall": ratio(hit, n_q),
    }


@torch.no_grad()
def predict(net: nn.Module, images: Tensor, batch: int = 256) -> Tensor:
    """Logits of all images (N, 1, H, W), on the CPU, by `net` in evaluation mode on its device."""
    net.eval()
    device = next(net.parameters()).device
    return torch.cat([net(part.to(device)).cpu() for part in images.split(batch)])
