"""Reading one image or mask, and resizing it; anything doubtful is refused."""

import re
import warnings
from pathlib import Path

import numpy as np
from PIL import Image

SUFFIXES = {".png", ".tif", ".tiff", ".bmp", ".pgm", ".jpg", ".jpeg"}
KINDS = " ".join(sorted(SUFFIXES))
BITS, PHOTOMETRIC, SAMPLE_FORMAT = 258, 262, 339  # TIFF tags: 0 is white; 2: a sign
CHANNELS = ("red", "green", "blue")
TRACE = 24  # of 255: how far the channels of a grey image may differ
# what to do with a mask in several colours
OF_COLOURS = "minipig prepare --threshold 0 takes all but black; or save those of one class alone"
ORIENTATION = 0x0112  # the EXIF and TIFF tag: 1 is upright, 2 to 8 are rotated or mirrored


class ImageError(ValueError):
    """An image or mask that cannot be used. detail: the problem with the values of this file.

    kind: problem and remedy, the same for all such files, so that they can be counted.
    """

    def __init__(self, path: Path, problem: str, remedy: str, detail: str = ""):
        super().__init__(f"{path} {detail or problem}; {remedy}")
        self.path = path
        self.detail = detail
        self.kind = f"{problem}; {remedy}"


def open_image(path: Path, indices: bool = False) -> Image.Image:
    """Read one upright, opaque image, of mode 1, L, RGB, F or one of I (16 or 32 bits).

    A TIFF whose 0 is white is inverted, as a viewer does. indices: of a palette, keep the numbers
    of its colours, mode P, and of grey the numbers in the file. Raises ImageError unless the pixels
    are those that a viewer shows: image and mask must agree.
    """
    if path.exists() and not path.is_file():  # reading a pipe would never end
        raise ImageError(path, "is not a file", "remove it")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path) as image:
                form, most = stored_form(image)
                # of a TIFF, `load` turns the pixels and deletes the tag
                told = getattr(image, "tag_v2", {}).get(ORIENTATION, 1)
                image.load()
                frames = getattr(image, "n_frames", 1)
                orientation = image.getexif().get(ORIENTATION, told)
                tags = getattr(image, "tag_v2", {})
                clear = image.mode[-1] in "Aa" or "transparency" in image.info
                clear = clear and image.convert("RGBA").getchannel("A").getextrema()[0] < 255
                if indices and image.mode == "P":
                    image, clear = image.copy(), False  # numbers are not transparent
                elif image.mode in ("P", "PA", "LA", "RGBA", "CMYK", "YCbCr"):
                    image = image.convert("RGB")
    except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
        raise ImageError(path, "has more than 89 million pixels", "make it smaller") from error
    # Pillow raises OSError, SyntaxError, ValueError, KeyError, ... for damaged files
    except Exception as error:
        problem = "cannot be read as an image"
        raise ImageError(path, problem, "replace the file", f"{problem} ({error})") from error
    if image.mode not in ("1", "L", "P", "RGB", "F") and not image.mode.startswith("I"):
        raise ImageError(path, f"has colours of type {image.mode}", "save it as grey or RGB")
    if 2 in np.atleast_1d(tags.get(SAMPLE_FORMAT, 1)) and tags.get(BITS, (32,))[0] <= 16:
        raise ImageError(path, "has signed values", "save it with 8 or 16 bits, unsigned")
    if most > 255 and not image.mode.startswith("I"):  # Pillow drops the others without a word
        remedy = "save it as grey with 16 bits, or with 8 bits a channel"
        detail = f"has {most.bit_length()} bits in each channel, of which 8 would be read"
        raise ImageError(path, "has more than 8 bits in each channel", remedy, detail)
    if indices:
        image = as_stored(image, form, most)
    elif image.mode.startswith("I;16") and tags.get(PHOTOMETRIC) == 0:
        image = Image.fromarray(65535 - np.asarray(image))  # Pillow inverts 8 bits, and not 16
    if frames > 1:
        remedy = "save only the one that belongs to the pair"
        raise ImageError(path, "contains several images", remedy, f"contains {frames} images")
    if orientation in range(2, 9):
        problem = f"has EXIF orientation {orientation}"
        raise ImageError(path, problem, "rotate or mirror the pixels, and remove the EXIF tag")
    if clear:
        raise ImageError(path, "is transparent in places", "save it without an alpha channel")
    return image


def stored_form(image: Image.Image) -> tuple[str, int]:
    """Pillow's word for the form of a pixel in a file, and its largest value if that is unusual."""
    tile = image.tile[0] if image.tile else (None, None, None, "")
    form, *more = tile[3] if isinstance(tile[3], tuple) else (tile[3],)
    if str(tile[0]).startswith("ppm"):
        return form, more[0]
    sixteen = ";16" in str(form) and not form.startswith("BGR")  # of a BMP: 16 in all channels
    return str(form), 65535 if sixteen else 0


def as_stored(image: Image.Image, form: str, most: int) -> Image.Image:
    """The numbers in a grey file: Pillow spreads few bits over 0 to 255, and inverts some."""
    values = np.asarray(image)
    if image.mode == "L" and (grey := re.match("L;([24]?)(I?)", form)):
        values = 255 - values if grey[2] else values
        values = values // {"2": 85, "4": 17}.get(grey[1], 1)
    elif form == "L" and most:  # PGM
        values = (values * (most / (255 if image.mode == "L" else 65535))).round().astype(np.int32)
    else:
        return image
    return Image.fromarray(values)


def in_colour(image: Image.Image) -> bool:
    """Whether an opened image has colours, more than the traces that JPEG leaves in grey."""
    if image.mode != "RGB":
        return False
    values = np.asarray(image).astype(np.int16)
    return bool((values.max(2) - values.min(2)).max() > TRACE)


def read_image(path: Path, channel: str | None = None) -> tuple[np.ndarray, bool]:
    """An image (H, W) float32 in [0, 1], and whether it has colours, which become luminance.

    8 bits over 255, 16 bits over 65535. channel: the one of CHANNELS to take from colours instead.
    Raises ImageError.
    """
    image = open_image(path)
    if image.mode.startswith("I"):  # 16 bits are I;16 or, from PGM, 32-bit integers
        values = np.asarray(image).astype(np.float32)
        if values.min() >= 0 and values.max() <= 65535:
            return values / 65535, False
    if image.mode.startswith(("I", "F")):
        remedy = "save it with 8 or 16 bits"
        raise ImageError(path, "has 32-bit or floating-point values", remedy)
    if channel and image.mode == "RGB":
        grey = image.getchannel(CHANNELS.index(channel))
    else:
        grey = image.convert("L")
    return np.asarray(grey).astype(np.float32) / 255, in_colour(image) and not channel


def read_mask(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """The lesion (H, W) bool, and the values of a mask: of two, the larger is the lesion.

    Of one value, the mask is empty if this is 0, else full. Raises ImageError for others.
    """
    image = open_image(path)
    values = np.asarray(image.convert("L") if image.mode == "RGB" else image)
    levels = np.unique(values)
    if len(levels) > 2:
        some = ", ".join(map(str, levels[:5])) + (", ..." if len(levels) > 5 else "")
        remedy = (
            "a mask must hold two: give minipig prepare --threshold 127 (blurred or JPEG masks), "
            "--threshold 0 (all labels) or --label N (one of them)"
        )
        detail = f"has {len(levels)} values ({some})"
        if in_colour(image):
            remedy = f"a mask must hold two: {OF_COLOURS}"
        raise ImageError(path, "has more than two values", remedy, detail)
    if not (np.isfinite(levels).all() and levels[0] >= 0):
        problem = "has negative or non-finite values"
        detail = f"has the values {' and '.join(map(str, levels))}"
        raise ImageError(path, problem, "save it with 0 and 255", detail)
    if image.mode == "RGB" and len(image.getcolors(2) or "???") > len(levels):
        raise ImageError(path, "has colours of the same grey", "save it in black and white")
    return (values == levels[-1]) & (levels[-1] > 0), levels


def fit_mask(mask: np.ndarray, size: tuple[int, int] | None) -> np.ndarray:
    """A mask (H, W) bool fitted into `size`: lesion where at least half of a pixel is."""
    return fit_into(mask.astype(np.float32), size, fill=0) >= 0.5


def fit_into(image: np.ndarray, size: tuple[int, int] | None, fill: float) -> np.ndarray:
    """Resize to fit `size`, aspect kept, centred, padded with `fill`; float32.

    Smaller by Pillow's box filter, which weights the pixels under a new one by 1 or 0; larger by
    bilinear interpolation.
    """
    if size is None:
        return image
    place = place_of(image.shape, size)
    height, width = (side.stop - side.start for side in place)
    smaller = height <= image.shape[0] and width <= image.shape[1]
    method = Image.Resampling.BOX if smaller else Image.Resampling.BILINEAR
    small = np.asarray(Image.fromarray(image.astype(np.float32)).resize((width, height), method))
    canvas = np.full(size, fill, np.float32)
    canvas[place] = small
    return canvas


def place_of(shape: tuple[int, int], size: tuple[int, int]) -> tuple[slice, slice]:
    """Where an image of this shape lies in `size`: aspect kept, centred."""
    scale = min(size[0] / shape[0], size[1] / shape[1])
    sides = [max(1, round(side * scale)) for side in shape]
    starts = [(whole - side) // 2 for whole, side in zip(size, sides)]
    return tuple(slice(start, start + side) for start, side in zip(starts, sides))
