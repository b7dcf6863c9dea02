"""One pair of a published set: read, checked, and written as PairFolder reads it."""

import os
from pathlib import Path

import numpy as np

from minipig.data.files import write_png
from minipig.data.images import OF_COLOURS, ImageError, open_image, read_image, read_mask
from minipig.data.layouts import MASK_SUFFIXES, Layout, ends_as_asked, mask_pattern, mirrored

LABELS = 16  # values in a mask of labels, at most; a blurred mask has more


class Unusable(ValueError):
    """A pair that cannot be used. The text is the same for all such pairs; detail: of this one."""

    def __init__(self, reason: str, detail: str = ""):
        super().__init__(reason)
        self.detail = detail


def read_pair(
    src: Path, path: str, masks: list[str], layout: Layout
) -> tuple[np.ndarray, np.ndarray, bool, list[np.ndarray]]:
    """Read an image in [0, 1] and its mask, (H, W) float32 and bool; also whether colours are lost.

    Last come the values of each mask of which the larger was taken for the lesion. Raises Unusable,
    whose text says why, without the names of its files.
    """
    if not masks:
        wanted = mask_pattern(path, layout)
        remedy = f"check --masks{mirrored(layout)}"
        remedy += "; give healthy images a black mask" * layout.keep_healthy
        raise Unusable(f"no mask matches {layout.masks}; {remedy}", f"there is no {wanted}")
    if unread := [mask for mask in masks if Path(mask).suffix.lower() not in MASK_SUFFIXES]:
        kinds = " ".join(sorted(MASK_SUFFIXES))
        reason = f"the ending of its mask is not one of {kinds}; convert the mask to PNG"
        raise Unusable(reason, f"its mask is {unread[0]}")
    if others := [mask for mask in masks if not ends_as_asked(mask, layout)]:
        reason = "the ending of its mask is not that of --masks; correct --masks"
        raise Unusable(reason, f"its mask is {others[0]}")
    if len(masks) > 1 and not layout.merge:
        raise Unusable(f"several masks; give --merge to join them{mirrored(layout)}")
    for part in (path, *masks):
        if os.path.isabs(part) or os.path.normpath(part).startswith(".."):
            raise Unusable("a file outside SRC; give a SRC that contains images and masks")
        if not (src / part).resolve().is_relative_to(src.resolve()):
            raise Unusable("a link to a file outside SRC; copy the file")
    try:
        image, coloured = read_image(src / path, layout.channel)
        parts, levels = zip(*(read_levels(src / mask, layout) for mask in masks))
    except ImageError as error:
        which = "image" if error.path == src / path else "mask"
        detail = error.detail and f"it {error.detail}"
        raise Unusable(f"the {which} {error.kind}", detail) from error
    if other := next((part.shape for part in parts if part.shape != image.shape), None):
        sizes = f"they are {' and '.join(f'{h}x{w}' for h, w in (image.shape, other))}"
        raise Unusable("image and mask differ in size; make them equal", sizes)
    mask = np.any(parts, axis=0)
    if not mask.any() and not layout.keep_healthy:
        reason, detail = "no lesion", ""
        if layout.label is not None:
            reason = f"no pixel has the value {layout.label} of --label"
            values = np.unique(np.asarray(open_image(src / masks[0], indices=True)) * 1)  # no bool
            detail = f"its mask has the values {', '.join(map(str, values[:8]))}"
        raise Unusable(f"{reason}; --keep-healthy keeps such pairs", detail)
    if mask.all():
        remedy = "give --label N of the lesions, if this is all background"
        if layout.invert:
            remedy = "leave --invert out, which makes black masks full"
        elif layout.threshold is not None:
            remedy = "correct --threshold"
        elif layout.label is not None:
            remedy = "correct --label"
        raise Unusable(f"the mask is full; outline the lesion, or {remedy}")
    return image, mask, coloured, list(levels)


def read_levels(path: Path, layout: Layout) -> tuple[np.ndarray, np.ndarray]:
    """Read a mask (H, W) bool: the larger of two values, or by the layout's threshold or label.

    Also returns the values, if they decide. Raises ImageError.
    """
    levels = np.empty(0)
    if layout.label is not None:
        mask = read_label(path, layout.label)
    elif layout.threshold is not None:
        mask = read_above(path, layout.threshold)
    else:
        mask, levels = read_mask(path)
    return ~mask if layout.invert else mask, levels


def read_label(path: Path, label: int | tuple[int, ...]) -> np.ndarray:
    """The pixels (H, W) whose value, or number in the palette, is `label` or one of several."""
    image = open_image(path, indices=True)
    values = np.asarray(image)
    if image.mode == "RGB":
        if (values != values[..., :1]).any():
            remedy = f"leave --label out; {OF_COLOURS}"
            raise ImageError(path, "has colours and no numbers", remedy)
        values = values[..., 0]  # grey
    return np.isin(values, label)


def read_above(path: Path, threshold: int) -> np.ndarray:
    """The pixels (H, W) above `threshold`; of colours, those of which one channel is."""
    image = open_image(path)
    values = np.asarray(image.convert("L") if image.mode == "1" else image)
    values = values.max(2) if values.ndim == 3 else values  # of colours, the largest channel
    if 0 < values.max() <= threshold and len(np.unique(values)) <= LABELS:
        detail = f"has values up to {values.max()}, none above --threshold"
        raise ImageError(path, "has no value above --threshold", "lower --threshold", detail)
    return values > threshold


def write_values(path: Path, values: np.ndarray) -> None:
    """Write a mask as 0 and 255, an image in [0, 1] with 8 bits if they are exact, else with 16."""
    eight = values * 255
    if np.abs(eight - eight.round()).max() < 1e-3:
        write_png(path, eight.round().astype(np.uint8))
    else:
        write_png(path, (values * 65535).round().astype(np.uint16))
