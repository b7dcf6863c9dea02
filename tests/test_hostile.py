"""Odd, damaged and malicious files: each gives a correct pair or one clear line, no wrong pair."""

import io
import os
import pickle
import re
import struct
import zlib
from argparse import Namespace

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from minipig.cli import main
from minipig.data.files import load_checkpoint
from minipig.data.folder import PairFolder
from minipig.running import explain
from minipig.training.run import load_pair

OFTEN = settings(
    max_examples=200,
    deadline=None,
    derandomize=True,  # the same cases every time
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
RNG = np.random.default_rng(7)
GREY = RNG.integers(0, 256, (12, 16), dtype=np.uint8)
COLOUR = RNG.integers(0, 256, (12, 16, 3), dtype=np.uint8)
SQUARE = np.zeros((12, 16), bool)
SQUARE[3:8, 5:11] = True


def encoded(image, form="PNG", **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def luminance(rgb):
    """ITU-R 601-2 in whole numbers, as a reader of the standard would write it."""
    return (rgb.astype(float) @ (0.299, 0.587, 0.114)).round()


def folder(root, image: bytes | None = None, mask: bytes | None = None, name="a.png"):
    """A new folder of one pair; a file that is not given is valid."""
    for part in ("images", "masks"):
        (root / part).mkdir(parents=True, exist_ok=True)
        for old in (root / part).iterdir():
            old.unlink()
    image = encoded(Image.fromarray(GREY)) if image is None else image
    mask = encoded(Image.fromarray(SQUARE)) if mask is None else mask
    (root / "images" / name).write_bytes(image)
    (root / "masks" / name).write_bytes(mask)
    return root


def read(root):
    """The pair's (mask, image in 0..255), or the line that the user reads instead."""
    try:
        pairs = PairFolder(root)
    except (ValueError, OSError) as error:
        line = explain(error, Namespace(command="train", out=None))
        assert "\n" not in line and str(root) in line and len(line) < 400, line
        return line
    return pairs.masks[0, 0].numpy(), (pairs.images[0, 0].numpy() + 1) * 127.5


def palette(colours, indices, **options):
    image = Image.fromarray(indices.astype(np.uint8), "P")
    image.putpalette([value for colour in colours for value in colour])
    return encoded(image, **options)


def alpha(values, inside):
    return encoded(Image.merge("LA", [Image.fromarray(values), Image.fromarray(inside)]))


def tiff_of(*frames, **options):
    first, *rest = (Image.fromarray(frame) for frame in frames)
    return encoded(first, "TIFF", save_all=True, append_images=rest, **options)


def bomb(side: int) -> bytes:
    """A PNG of side x side pixels in a few kilobytes."""

    def chunk(kind, data):
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    head = struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)
    rows = zlib.compress(bytes((side + 7) // 8 + 1) * side, 9)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def turned(orientation: int) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return encoded(Image.fromarray(GREY), exif=exif)


ILL, CYAN = (200, 10, 10), (0, 255, 255)
IMAGES = {
    # an image: its pixels, or the error
    "one bit": (encoded(Image.fromarray(SQUARE)), SQUARE * 255.0),
    "palette": (
        palette([ILL, CYAN], SQUARE),
        np.where(SQUARE, luminance(np.array(CYAN)), luminance(np.array(ILL))),
    ),
    "palette with one colour transparent": (
        palette([ILL, CYAN], SQUARE, transparency=b"\xff\x00"),
        "transparent in places",
    ),
    "palette with a table of opaque colours": (
        palette([ILL, CYAN], SQUARE, transparency=b"\xff\xff"),
        np.where(SQUARE, luminance(np.array(CYAN)), luminance(np.array(ILL))),
    ),
    "opaque alpha": (alpha(GREY, np.full_like(GREY, 255)), GREY),
    "transparent in places": (
        alpha(GREY, GREY),
        "transparent in places; save it without an alpha channel",
    ),
    "colour": (encoded(Image.fromarray(COLOUR)), luminance(COLOUR)),
    "CMYK": (encoded(Image.fromarray(COLOUR).convert("CMYK"), "TIFF"), luminance(COLOUR)),
    "CIELAB": (
        encoded(Image.new("LAB", (16, 12), (128, 0, 0)), "TIFF"),
        "has colours of type LAB; save it as grey or RGB",
    ),
    "16 bit": (encoded(Image.fromarray(GREY.astype(np.uint16) * 257)), GREY),
    "16 bit, big-endian": (
        encoded(Image.frombytes("I;16B", (16, 12), (GREY * 257.0).astype(">u2").tobytes()), "TIFF"),
        GREY,
    ),
    "32 bit": (
        encoded(Image.fromarray(GREY.astype(np.int32) * 70_000), "TIFF"),
        "32-bit or floating-point",
    ),
    "negative": (
        encoded(Image.fromarray(GREY.astype(np.int32) - 9), "TIFF"),
        "32-bit or floating-point",
    ),
    "float": (
        encoded(Image.fromarray(GREY.astype(np.float32)), "TIFF"),
        "32-bit or floating-point",
    ),
    "NaN": (
        encoded(Image.fromarray(np.full((12, 16), np.nan, np.float32)), "TIFF"),
        "32-bit or floating-point",
    ),
    "upright by EXIF": (turned(1), GREY),
    "turned by EXIF": (turned(6), "has EXIF orientation 6; rotate or mirror the pixels"),
    "upside down by EXIF": (turned(3), "has EXIF orientation 3; rotate or mirror the pixels"),
    "two frames": (tiff_of(GREY, GREY), "contains 2 images; save only the one"),
    "two frames in a PNG": (
        encoded(Image.fromarray(GREY), save_all=True, append_images=[Image.fromarray(255 - GREY)]),
        "contains 2 images",
    ),
    "bomb": (bomb(20_000), "has more than 89 million pixels; make it smaller"),
    "small bomb": (bomb(10_000), "has more than 89 million pixels; make it smaller"),
    "empty file": (b"", "cannot be read as an image"),
    "text": (b"P5 and nothing else", "cannot be read as an image"),
    "a web page": (b"<html><body>404</body></html>", "cannot be read as an image"),
    "wrong ending": (encoded(Image.fromarray(GREY), "BMP"), GREY),
    "no pixels": (b"P5 0 0 255\n", "cannot be read as an image"),
    "PostScript": (
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(x) run\n",
        "cannot be read as an image",
    ),
}
BLUE, AS_BRIGHT = (0, 0, 255), (97, 0, 0)  # both have the luminance 29
MASKS = {
    # a mask: its lesion, or the error
    "one bit": (encoded(Image.fromarray(SQUARE)), SQUARE),
    "0 and 1": (encoded(Image.fromarray(SQUARE.astype(np.uint8))), SQUARE),
    "16 bit": (encoded(Image.fromarray(SQUARE.astype(np.uint16) * 300)), SQUARE),
    "32 bit": (encoded(Image.fromarray(SQUARE.astype(np.int32) * 70_000), "TIFF"), SQUARE),
    "float, 0 and a half": (
        encoded(Image.fromarray(SQUARE.astype(np.float32) / 2), "TIFF"),
        SQUARE,
    ),
    "float with NaN": (
        encoded(Image.fromarray(np.where(SQUARE, np.nan, 0).astype(np.float32)), "TIFF"),
        "has the values 0.0 and nan; save it with 0 and 255",
    ),
    "negative": (
        encoded(Image.fromarray(SQUARE.astype(np.int32) - 1), "TIFF"),
        "has the values -1 and 0; save it with 0 and 255",
    ),
    "palette": (palette([(0, 0, 0), ILL], SQUARE), SQUARE),
    "colours that are equally bright": (
        palette([AS_BRIGHT, BLUE], SQUARE),
        "colours of the same grey; save it in black and white",
    ),
    "three colours, two equally bright": (
        palette([(0, 0, 0), BLUE, AS_BRIGHT], SQUARE * (1 + (GREY > 99))),
        "colours of the same grey; save it in black and white",
    ),
    "three colours": (palette([(0, 0, 0), ILL, CYAN], SQUARE * (1 + (GREY > 99))), "has 3 values"),
    "the lesion in the alpha channel": (
        alpha(SQUARE * np.uint8(0), SQUARE * np.uint8(255)),
        "transparent in places",
    ),
    "two frames": (tiff_of(SQUARE.astype(np.uint8), SQUARE.astype(np.uint8)), "contains 2 images"),
    "JPEG": (
        encoded(Image.fromarray(SQUARE * np.uint8(255)), "JPEG"),
        "a mask must hold two: give minipig prepare",
    ),
    "nowhere": (encoded(Image.fromarray(SQUARE & False)), SQUARE & False),
    "everywhere": (encoded(Image.fromarray(SQUARE | True)), SQUARE | True),
    "turned by EXIF": (turned(8), "has EXIF orientation"),
    "bomb": (bomb(20_000), "has more than 89 million pixels; make it smaller"),
}


def check(result, expected):
    if isinstance(expected, str):
        assert isinstance(result, str) and re.search(expected, result), result
    else:
        assert not isinstance(result, str), result
        found = result[0] if expected.dtype == bool else result[1]
        np.testing.assert_allclose(found, expected, atol=1.001)


@pytest.mark.parametrize("name", IMAGES)
def test_odd_images(tmp_path, name):
    content, expected = IMAGES[name]
    expected = expected if isinstance(expected, str) else np.asarray(expected, float)
    check(read(folder(tmp_path, image=content)), expected)


@pytest.mark.parametrize("orientation", range(2, 9))
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("compression", [None, "tiff_lzw"])
def test_a_tiff_that_lies_on_its_side_is_refused(tmp_path, compression, dtype, orientation):
    """Pillow turns it on loading, and forgets that it did."""
    image = Image.fromarray(GREY.astype(dtype))
    content = encoded(image, "TIFF", compression=compression, tiffinfo={274: orientation})
    line = read(folder(tmp_path, image=content))
    assert f"images/a.png has EXIF orientation {orientation}; rotate or mirror the pixels" in line
    content = encoded(image, "TIFF", compression=compression, tiffinfo={274: 1})
    assert not isinstance(read(folder(tmp_path, image=content)), str)


@pytest.mark.parametrize("name", MASKS)
def test_odd_masks(tmp_path, name):
    content, expected = MASKS[name]
    check(read(folder(tmp_path, mask=content)), expected)


FORMS = {
    "PNG": dict(),
    "TIFF": dict(),
    "TIFF, LZW": dict(compression="tiff_lzw"),
    "TIFF, deflate": dict(compression="tiff_adobe_deflate"),
    "BMP": dict(),
    "PPM": dict(),
    "JPEG": dict(quality=95),
}


@pytest.mark.parametrize("form", FORMS)
def test_cut_off_at_every_kilobyte(tmp_path, form):
    """Also in its first and last bytes: an error, or the whole image if no pixel is missing."""
    pixels = RNG.integers(0, 256, (160, 160), dtype=np.uint8)
    whole = encoded(Image.fromarray(pixels), form.partition(",")[0], **FORMS[form])
    mask = encoded(Image.fromarray(pixels > 127))
    _, expected = read(folder(tmp_path, whole, mask))
    cuts = {*range(0, len(whole), 1024), *range(40), *range(len(whole) - 24, len(whole))}
    refused = 0
    for cut in sorted(cuts):
        result = read(folder(tmp_path, whole[:cut], mask))
        refused += isinstance(result, str)
        if not isinstance(result, str):
            np.testing.assert_array_equal(result[1], expected)
    assert refused > 0.6 * len(cuts)


@pytest.mark.parametrize("form", FORMS)
def test_bytes_exchanged_at_random(tmp_path, form):
    """Any content gives a pair or one line."""
    rng = np.random.default_rng(11)
    content = encoded(Image.fromarray(GREY), form.partition(",")[0], **FORMS[form])
    whole = np.frombuffer(content, np.uint8)
    refused = 0
    for _ in range(100):
        damaged = whole.copy()
        damaged[rng.integers(0, len(whole), rng.integers(1, 9))] = rng.integers(0, 256)
        refused += isinstance(read(folder(tmp_path, image=damaged.tobytes())), str)
    assert refused > 0


@OFTEN
@given(
    st.sampled_from(["L", "1", "P", "LA", "RGB", "RGBA", "I;16"]),
    st.sampled_from(["PNG", "TIFF"]),
    st.tuples(st.integers(1, 20), st.integers(1, 20)),
    st.integers(0, 2**32 - 1),
)
def test_pixels_survive_every_form(tmp_path, mode, form, size, seed):
    """Two random grey levels, as image and as mask, are read as they were written."""
    rng = np.random.default_rng(seed)
    lesion, levels = rng.random(size) < 0.5, np.sort(rng.choice(256, 2, replace=False))
    levels = np.array([0, 255]) if mode == "1" else levels
    if mode == "I;16":
        image = Image.fromarray(levels[lesion * 1].astype(np.uint16) * 257)
    else:
        image = Image.fromarray(levels[lesion * 1].astype(np.uint8)).convert(mode)
    content = encoded(image, form)
    mask, pixels = read(folder(tmp_path, content, content))
    np.testing.assert_allclose(pixels, levels[lesion * 1], atol=1e-3)
    assert (mask == (lesion if lesion.any() and not lesion.all() else levels[lesion * 1] > 0)).all()


@OFTEN
@given(
    st.lists(st.lists(st.text(max_size=8), max_size=4), max_size=5),
    st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "latin-1"]),
)
def test_manifests(tmp_path, rows, encoding):
    """Any table gives the patient that it names, or one line that says what is wrong."""
    folder(tmp_path)
    table = "\n".join(",".join(row) for row in [["name", "patient"], ["a.png", "P1"], *rows])
    (tmp_path / "manifest.csv").write_bytes(table.encode(encoding, "replace"))
    result = read(tmp_path)
    if not isinstance(result, str):
        assert PairFolder(tmp_path).patients == ["P1"]


def test_a_manifest_that_contradicts_itself_raises(tmp_path):
    table = "name,patient\na.png,P1\nb.png,P2\na.png, P1 \n"
    (folder(tmp_path) / "manifest.csv").write_text(table)
    assert PairFolder(tmp_path).patients == ["P1"]  # said twice, with a blank: no contradiction
    (tmp_path / "manifest.csv").write_text(table + "a.png,P2\n")
    assert "gives a.png to two patients, P1 and P2; keep one row" in read(tmp_path)
    (tmp_path / "manifest.csv").write_text("name;patient\na.png;P1\n")
    assert (
        "has the columns ['name;patient']; it needs name and patient, separated by commas"
        in read(tmp_path)
    )


NAMES = [
    "a b.png",
    "ü–ß 乳房.png",
    "..a..png",
    "-a.png",
    "a\nb.png",
    "a'\"$x.png",
    os.fsdecode(b"a\xff.png"),
    "%s{}.png",
]


@pytest.mark.parametrize("name", [name for name in NAMES if not name.startswith(".")])
def test_names(tmp_path, name):
    assert not isinstance(read(folder(tmp_path, name=name)), str)
    assert PairFolder(tmp_path).names == [name]
    assert isinstance(read(folder(tmp_path, name=name, image=b"")), str)


def test_hidden_files_are_ignored(tmp_path):
    folder(tmp_path)
    (tmp_path / "images" / "._a.png").write_bytes(b"\0\5\26\7 of another system")
    (tmp_path / "masks" / ".DS_Store").write_bytes(b"")
    assert PairFolder(tmp_path).names == ["a.png"]


def test_links_pipes_and_folders_among_the_files(tmp_path):
    inside, outside = folder(tmp_path / "in"), tmp_path / "outside.png"
    outside.write_bytes(encoded(Image.fromarray(GREY)))
    image = inside / "images" / "a.png"
    for odd, line in (
        (lambda: image.symlink_to(outside), None),
        (lambda: image.symlink_to(tmp_path / "nothing.png"), "cannot be read as an image"),
        (lambda: image.symlink_to(image), "a.png"),
        (lambda: image.mkdir(), "is not a file; remove it"),
        (lambda: os.mkfifo(image), "is not a file; remove it"),
    ):
        image.rmdir() if image.is_dir() else image.unlink()
        odd()
        result = read(inside)
        assert line in result if line else not isinstance(result, str)


@pytest.mark.parametrize("name", NAMES)
def test_prepare_takes_or_leaves_odd_names(tmp_path, name, capsys):
    src = tmp_path / "src"
    src.mkdir()
    for stem, content in (("good", GREY), (name[:-4], GREY.T)):
        (src / f"{stem}.png").write_bytes(encoded(Image.fromarray(content)))
        mask = SQUARE if content is GREY else SQUARE.T
        (src / f"{stem}_mask.png").write_bytes(encoded(Image.fromarray(mask)))
    patterns = ["--images", "*.png", "--masks", "{folder}/{stem}_mask.png"]
    assert main(["prepare", str(src), str(tmp_path / "dst"), *patterns]) == 0
    pairs = PairFolder(tmp_path / "dst", (16, 16))
    usable = name.isprintable() and name[0] != "."
    assert set(pairs.names) == ({"good.png", name} if usable else {"good.png"})
    reported = (
        "the name has characters that cannot be printed; rename it" in capsys.readouterr().out
    )
    assert reported == (not name.isprintable())


class Malicious:
    """An object whose pickle calls a function, here one that leaves a trace."""

    def __init__(self, trace):
        self.trace = trace

    def __reduce__(self):
        return os.mkdir, (str(self.trace),)


@pytest.mark.parametrize("keys", [("config", "model_x", "model_y"), ("weights", "record")])
def test_a_checkpoint_that_carries_code_does_not_run_it(tmp_path, keys):
    trace, path = tmp_path / "trace", tmp_path / "pair.pt"
    for save in (torch.save, lambda state, file: file.write_bytes(pickle.dumps(state))):
        save(dict.fromkeys(keys, Malicious(trace)), path)
        with pytest.raises(
            ValueError, match=r"pair.pt is unreadable \(.*; if it is damaged, delete it"
        ):
            load_checkpoint(path, set(keys))
        with pytest.raises(ValueError, match=r"pair.pt is unreadable \("):
            load_pair(tmp_path)
        assert not trace.exists()
    pickle.loads(path.read_bytes())  # without weights_only, the call is made
    assert trace.exists()
