"""Folders of pairs: what is read, and which error each fault raises."""

import struct
import zlib

import numpy as np
import pytest
import torch
from PIL import Image

from minipig.data.folder import PairFolder
from minipig.data.images import read_image, read_mask


def write(root, name="a.png", image=None, mask=None, **more):
    """One pair of 12x16 pixels: a grey ramp and a square lesion, unless given."""
    for part in ("images", "masks"):
        (root / part).mkdir(parents=True, exist_ok=True)
    ramp = np.arange(12 * 16, dtype=np.uint8).reshape(12, 16)
    square = np.zeros((12, 16), np.uint8)
    square[3:8, 5:11] = 255
    Image.fromarray(ramp if image is None else image).save(root / "images" / name, **more)
    Image.fromarray(square if mask is None else mask).save(root / "masks" / name)
    return ramp, square


@pytest.mark.parametrize("suffix", ["png", "tif", "tiff", "bmp", "pgm", "PNG"])
def test_lossless_formats_are_read_exactly(tmp_path, suffix):
    ramp, square = write(tmp_path, f"a.{suffix}")
    pairs = PairFolder(tmp_path)
    x0, y0 = pairs[:]
    assert pairs.names == [f"a.{suffix}"] and pairs.size == (12, 16)
    assert torch.allclose(y0[0, 0], torch.from_numpy(ramp / 127.5 - 1).float(), atol=1e-6)
    assert torch.equal(x0[0, 0] > 0, torch.from_numpy(square > 0))
    assert set(x0.unique().tolist()) == {-1.0, 1.0}


def test_jpeg_images_with_png_masks(tmp_path):
    ramp, square = write(tmp_path, "a.jpg", quality=95)
    (tmp_path / "masks" / "a.jpg").unlink()
    Image.fromarray(square).save(tmp_path / "masks" / "a.png")
    pairs = PairFolder(tmp_path)
    assert (pairs.images[0, 0] - torch.from_numpy(ramp / 127.5 - 1)).abs().mean() < 0.05
    assert pairs.names == ["a.jpg"] and torch.equal(pairs.masks[0, 0], torch.from_numpy(square > 0))


@pytest.mark.parametrize("suffix", ["png", "tif", "pgm"])
def test_sixteen_bit_equals_eight_bit(tmp_path, suffix):
    ramp, _ = write(tmp_path / "eight", f"a.{suffix}")
    write(tmp_path / "sixteen", f"a.{suffix}", image=ramp.astype(np.uint16) * 257)
    assert torch.allclose(
        PairFolder(tmp_path / "eight").images, PairFolder(tmp_path / "sixteen").images, atol=1e-6
    )


def test_colour_becomes_luminance(tmp_path):
    ramp, _ = write(tmp_path / "grey")
    write(tmp_path / "rgb", image=np.stack([ramp] * 3, axis=-1))
    assert torch.allclose(
        PairFolder(tmp_path / "grey").images, PairFolder(tmp_path / "rgb").images, atol=1e-6
    )


@pytest.mark.parametrize("low,high", [(0, 1), (0, 255), (0, 17)])
def test_the_larger_of_two_values_is_the_lesion(tmp_path, low, high):
    mask = np.full((12, 16), low, np.uint8)
    mask[2:5, 2:5] = high
    write(tmp_path, mask=mask)
    assert PairFolder(tmp_path).masks.sum() == 9


def test_resizing_keeps_the_aspect_and_masks_binary(tmp_path):
    image = np.full((40, 20), 200, np.uint8)
    image[0, 0] = 10
    mask = np.zeros((40, 20), np.uint8)
    mask[10:30, 5:15] = 255
    write(tmp_path, image=image, mask=mask)
    pairs = PairFolder(tmp_path, (20, 20))
    assert pairs.size == (20, 20) and pairs.masks.dtype == torch.bool
    darkest, brightest = torch.tensor(10 / 127.5 - 1), torch.tensor(200 / 127.5 - 1)
    assert torch.allclose(pairs.images[0, 0, :, :5], darkest)
    assert torch.allclose(pairs.images[0, 0, 5:, 5:15], brightest)
    assert pairs.masks[0, 0, 5:15, 7:12].all() and not pairs.masks[0, 0, :, :5].any()
    assert abs(pairs.masks.sum() - 50) <= 10
    assert PairFolder(tmp_path, (80, 64)).size == (80, 64)  # enlarging works too


def test_manifest_may_have_a_byte_order_mark_and_more_columns(tmp_path):
    write(tmp_path)
    (tmp_path / "manifest.csv").write_text(
        "\ufeffpatient,view,name\nP7,CC,a.png\n", encoding="utf-8"
    )
    assert PairFolder(tmp_path).patients == ["P7"]


def test_empty_and_full_masks_are_allowed_and_counted_in_notes(tmp_path):
    write(tmp_path, "a.png", mask=np.zeros((12, 16), np.uint8))
    write(tmp_path, "b.png", mask=np.full((12, 16), 255, np.uint8))
    write(tmp_path, "c.png")
    pairs = PairFolder(tmp_path)
    assert pairs.notes == ["1 of 3 masks are empty at 12x16", "1 of 3 masks are full at 12x16"]
    joined = pairs.subset([0]) + pairs.subset([1])
    assert joined.notes == pairs.notes  # once, though both parts have them
    assert not pairs.masks[0].any() and pairs.masks[1].all()


def test_thin_lesions_are_told_with_a_size_that_keeps_them(tmp_path):
    lines = np.zeros((256, 256), np.uint8)
    lines[::16] = lines[1::16] = 255  # two pixels thick
    lines[100:120, 100:120] = 255  # and one that stays
    write(tmp_path, "thin.png", image=np.zeros((256, 256), np.uint8) + 200, mask=lines)
    block = np.zeros((256, 256), np.uint8)
    block[64:128, 64:128] = 255
    write(tmp_path, "thick.png", image=np.zeros((256, 256), np.uint8) + 100, mask=block)
    told = "1 of 2 masks lose more than half of their area at 32x32; raise the size: 64x64 would"
    (note,) = [note for note in PairFolder(tmp_path, (32, 32)).notes if "half" in note]
    assert note.startswith(told)
    assert not any("half" in note for note in PairFolder(tmp_path, (64, 64)).notes)


def test_lesions_that_resizing_leaves_one_pixel_wide_are_told(tmp_path):
    for name, height in (("line.png", 4), ("block.png", 32)):
        mask = np.zeros((64, 64), np.uint8)
        mask[8 : 8 + height, 8:60] = 255
        write(tmp_path, name, image=mask // 2 + 9, mask=mask)
    plus = np.zeros((64, 64), np.uint8)  # at 16x16 five pixels, none of them in a block
    plus[8:20, 12:16] = plus[12:16, 8:20] = 255
    write(tmp_path, "plus.png", image=plus // 2 + 9, mask=plus)
    told = "the lesions of 1 of 3 masks are at most one pixel wide at 16x16; raise the size"
    assert told in PairFolder(tmp_path, (16, 16)).notes
    assert not any("wide" in note for note in PairFolder(tmp_path, (32, 32)).notes)


def test_a_black_image_is_blank_and_not_dim(tmp_path):
    write(tmp_path)
    write(tmp_path, "b.png", image=np.zeros((12, 16), np.uint8))
    told = ["1 of 2 images have one grey value everywhere; remove them"]
    assert PairFolder(tmp_path).notes == told


def test_images_of_one_grey_value_are_told(tmp_path):
    for k in range(3):
        image = {} if k == 2 else {"image": np.full((12, 16), 128, np.uint8)}
        write(tmp_path, f"{k}.png", **image)
    assert "2 of 3 images have one grey value everywhere; remove them" in PairFolder(tmp_path).notes


@pytest.mark.parametrize(
    "every, told",
    [(0, "gain 100%"), (4, None), (2, "lose 23%")],  # a twentieth lost is no news
)
def test_area_that_lesions_gain_or_lose_by_resizing_is_told(tmp_path, every, told):
    mask = np.zeros((64, 64), np.uint8)
    if every:  # a large lesion, and specks of one pixel that half the size does not keep
        mask[4:36, 4:36] = 255
        mask[40:60:every, 1:61:every] = 255
    else:
        mask[1::8] = mask[2::8] = 255  # each covers half of two rows at 32x32
    write(tmp_path, image=mask // 2 + 9, mask=mask)
    assert not any("together" in note for note in PairFolder(tmp_path).notes)
    found = [note for note in PairFolder(tmp_path, (32, 32)).notes if "together" in note]
    start = f"all lesions together {told} of their area at 32x32, as details are merged or lost;"
    assert len(found) == bool(told) and all(note.startswith(start) for note in found)


def test_one_bright_image_does_not_hide_the_dim_ones(tmp_path):
    ramp, _ = write(tmp_path, "eight.png")
    for k in range(3):
        write(tmp_path, f"twelve{k}.png", image=ramp.astype(np.uint16) * 16)
    (note,) = PairFolder(tmp_path).notes[:1]
    assert note.startswith("in 3 of 4 images the brightest pixel is at most 4.7% of the largest")


def test_files_that_are_not_read_are_told(tmp_path):
    write(tmp_path)
    (tmp_path / "images" / "b.webp").touch()
    (tmp_path / "masks" / "notes.txt").touch()
    (note,) = PairFolder(tmp_path).notes
    told = f"not read: 2 files or folders, such as {tmp_path}/images/b.webp; images and masks have"
    assert note.startswith(told)


def tiff(path, values, **tags):
    """A TIFF of one strip, uncompressed; photometric, sample_format: of its tags 262 and 339."""
    height, width = values.shape
    known = {256: width, 257: height, 258: 8 * values.itemsize, 259: 1}
    known |= {262: tags.get("photometric", 1), 273: 8, 277: 1, 278: height, 279: values.nbytes}
    known |= {339: tags.get("sample_format", 1)}
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in known.items())
    head = b"II*\0" + struct.pack("<I", 8 + values.nbytes)
    path.write_bytes(head + values.tobytes() + struct.pack("<H", len(known)) + entries + bytes(4))


@pytest.mark.parametrize("dtype, factor", [(np.uint8, 1), (np.uint16, 257)])
def test_a_tiff_whose_zero_is_white_is_read_as_a_viewer_shows_it(tmp_path, dtype, factor):
    stored = np.tile(np.linspace(0, 255, 16).round(), (12, 1)).astype(dtype) * dtype(factor)
    for photometric, left, right in ((1, 0, 1), (0, 1, 0)):
        tiff(tmp_path / "film.tif", stored, photometric=photometric)
        image, _ = read_image(tmp_path / "film.tif")
        assert image[0, 0] == left and image[0, -1] == right


@pytest.mark.parametrize("bits", [12, 13, 14])
@pytest.mark.parametrize("photometric", [0, 1])
def test_a_range_that_a_tiff_does_not_use_is_told_whatever_its_zero_is(tmp_path, bits, photometric):
    stored = np.linspace(0, 2**bits - 1, 12 * 16).reshape(12, 16).astype(np.uint16)
    write(tmp_path, "a.tif")
    tiff(tmp_path / "images" / "a.tif", stored, photometric=photometric)
    (note,) = PairFolder(tmp_path).notes
    assert note.startswith("in 1 of 1 images ") and ("rescale" in note)


def test_a_tiff_of_signed_values_is_refused(tmp_path):
    for values in (np.int16(40), np.int16(-1000), np.int8(40), np.int8(-5)):
        tiff(tmp_path / "ct.tif", np.full((12, 16), values), sample_format=2)
        with pytest.raises(ValueError, match="has signed values; save it with 8 or 16 bits"):
            read_image(tmp_path / "ct.tif")


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_a_mask_whose_zero_is_white_is_inverted_like_an_image(tmp_path, dtype):
    square = np.zeros((12, 16), dtype)
    square[3:6, 3:6] = np.iinfo(dtype).max
    for photometric, area in ((1, 9), (0, 12 * 16 - 9)):
        tiff(tmp_path / "mask.tif", square, photometric=photometric)
        assert read_mask(tmp_path / "mask.tif")[0].sum() == area


def test_lesions_lost_in_resizing_and_dark_files_are_in_notes(tmp_path):
    mask = np.zeros((12, 16), np.uint8)
    mask[0, 0] = 255
    write(tmp_path, image=np.full((12, 16), 4095, np.uint16), mask=mask)
    notes = PairFolder(tmp_path, (4, 4)).notes
    assert notes[0] == "1 of 1 masks are too small to be seen at 4x4; raise the size"
    assert notes[1].startswith(
        "in 1 of 1 images the brightest pixel is at most 6.2% of the largest possible value"
    )


# Each of these raises one clear line: the file, what is wrong, what to do.


def image_alone(root):
    (root / "masks" / "a.png").unlink()


def mask_alone(root):
    (root / "images" / "a.png").unlink()


def other_size(root):
    write(root, mask=np.zeros((12, 15), np.uint8))


def many_values(root):
    write(root, mask=np.arange(192, dtype=np.uint8).reshape(12, 16) // 64)


def not_an_image(root):
    (root / "images" / "a.png").write_bytes(b"no image at all")


def truncated(root):
    whole = (root / "images" / "a.png").read_bytes()
    (root / "images" / "a.png").write_bytes(whole[: len(whole) // 2])


def zero_bytes(root):
    (root / "masks" / "a.png").write_bytes(b"")


def no_pairs(root):
    for part in ("images", "masks"):
        (root / part / "a.png").unlink()


def two_of_a_name(root):
    Image.fromarray(np.zeros((12, 16), np.uint8)).save(root / "masks" / "a.bmp")


def floating_point(root):
    (root / "images" / "a.png").unlink()
    Image.fromarray(np.zeros((12, 16), np.float32)).save(root / "images" / "a.tif")


def not_text(root):
    (root / "manifest.csv").write_bytes(b"name,patient\na.png,\xff\xfe")


def missing_column(root):
    (root / "manifest.csv").write_text("name,person\na.png,1\n")


def missing_row(root):
    (root / "manifest.csv").write_text("name,patient\nb.png,1\n")


BROKEN = {
    image_alone: "images/a.png has no partner .*masks/a.png; add it, or remove a.png",
    mask_alone: "masks/a.png has no partner .*images/a.png; add it, or remove a.png",
    other_size: "images/a.png is 12x16 but .*masks/a.png is 12x15 .*must have the same size",
    many_values: r"masks/a.png has 3 values \(0, 1, 2\); a mask must hold two: give minipig",
    not_an_image: "images/a.png cannot be read as an image",
    truncated: "images/a.png cannot be read as an image",
    zero_bytes: "masks/a.png cannot be read as an image",
    no_pairs: r"/images and .*/masks contain no images \(.*\.png .*\); add pairs",
    two_of_a_name: "masks/a.png and a.bmp have the same name; keep one",
    floating_point: "a.tif has 32-bit or floating-point values; save it with 8 or 16 bits",
    not_text: r"manifest.csv is not a CSV table in UTF-8 \(.*; correct or remove it",
    missing_column: "manifest.csv has the columns .*; it needs name and patient",
    missing_row: "manifest.csv names no patient for a.png; add the row a.png,PATIENT or remove",
}


@pytest.mark.parametrize("damage", BROKEN, ids=lambda f: f.__name__)
def test_each_fault_raises_its_own_error(tmp_path, damage):
    write(tmp_path)
    damage(tmp_path)
    with pytest.raises(ValueError, match=BROKEN[damage]):
        PairFolder(tmp_path)


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere/images is not a folder"):
        PairFolder(tmp_path / "nowhere")


@pytest.mark.parametrize("ending", ["gif", "webp", "npy", "nii.gz"])
def test_a_partner_whose_ending_is_not_read_is_named(tmp_path, ending):
    write(tmp_path)
    (tmp_path / "masks" / "a.png").rename(tmp_path / "masks" / f"a.{ending}")
    told = f"no partner .*masks/a.png; a.{ending} has an ending that is not read: convert it to PNG"
    with pytest.raises(ValueError, match=told):
        PairFolder(tmp_path)


def test_images_in_folders_or_of_other_endings_are_named(tmp_path):
    for part in ("images", "masks"):
        (tmp_path / part / "P0").mkdir(parents=True)
    with pytest.raises(ValueError, match="images/P0 is a folder: minipig prepare takes images out"):
        PairFolder(tmp_path)
    (tmp_path / "images" / "P0").rmdir()
    (tmp_path / "masks" / "P0").rmdir()
    (tmp_path / "images" / "a.webp").touch()
    with pytest.raises(ValueError, match="images/a.webp is not read: convert such files to PNG"):
        PairFolder(tmp_path)


def test_folders_of_another_name_are_named(tmp_path):
    write(tmp_path)
    (tmp_path / "images").rename(tmp_path / "Images")
    with pytest.raises(FileNotFoundError, match="images is not a folder; rename Images to images"):
        PairFolder(tmp_path)
    (tmp_path / "Images").rename(tmp_path / "scans")
    with pytest.raises(FileNotFoundError, match=r"masks/ \(.* has masks, scans\)$"):
        PairFolder(tmp_path)


def test_unequal_sizes_need_one_size(tmp_path):
    write(tmp_path)
    write(tmp_path, "b.png", image=np.zeros((9, 9), np.uint8), mask=np.zeros((9, 9), np.uint8))
    problem = "b.png is 9x9 but the first image is 12x16; give size="
    with pytest.raises(ValueError, match=problem):
        PairFolder(tmp_path)
    assert len(PairFolder(tmp_path, (16, 16))) == 2


def png(path, rows, width, bits, colour):
    """A PNG of these rows of bytes; bits of a channel, and the type of its colours."""

    def chunk(kind, data):
        end = struct.pack(">I", zlib.crc32(kind + data))
        return struct.pack(">I", len(data)) + kind + data + end

    head = struct.pack(">IIBBBBB", width, len(rows), bits, colour, 0, 0, 0)
    data = zlib.compress(b"".join(b"\0" + row for row in rows))
    parts = ((b"IHDR", head), (b"IDAT", data), (b"IEND", b""))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*part) for part in parts))


@pytest.mark.parametrize("channels", [2, 3, 4])
@pytest.mark.parametrize("part", ["images", "masks"])
def test_sixteen_bits_in_several_channels_are_refused_and_not_cut(tmp_path, channels, part):
    write(tmp_path)
    rows = [np.full(16 * channels, 65535, np.uint16).tobytes()] * 12
    png(tmp_path / part / "a.png", rows, 16, 16, {2: 4, 3: 2, 4: 6}[channels])
    told = f"{part}/a.png has 16 bits in each channel, of which 8 would be read; save it as grey"
    with pytest.raises(ValueError, match=told):
        PairFolder(tmp_path)


def test_colours_of_ten_bits_are_refused_and_of_a_bitmap_read(tmp_path):
    write(tmp_path)
    row = np.full(12 * 16 * 3, 1023, ">u2").tobytes()
    (tmp_path / "images" / "a.png").write_bytes(b"P6 16 12 1023\n" + row)
    with pytest.raises(ValueError, match="has 10 bits in each channel"):
        PairFolder(tmp_path)
    numbers = (54 + 384, 0, 54, 40, 16, 12, 1, 16, 0, 384, 0, 0, 0, 0)
    head = struct.pack("<2sIIIIiiHHIIiiII", b"BM", *numbers)
    (tmp_path / "images" / "a.png").write_bytes(head + bytes(384))  # 5 bits a channel
    assert (PairFolder(tmp_path).images == -1).all()


# one file of many, and names in other spellings


def test_a_marker_or_an_offset_does_not_hide_that_the_range_is_unused(tmp_path):
    """12 bits stored as 16: with a white marker, and with the values moved up."""
    ramp = np.arange(12 * 16).reshape(12, 16) * 20  # 0 to 3820
    marked, moved = ramp.copy(), 65535 - ramp
    marked[0, 0] = 65535
    for name, image in (("a.png", marked), ("b.png", moved), ("c.png", ramp * 16)):
        write(tmp_path, name, image=image.astype(np.uint16))
    blank = np.full((12, 16), 200, np.uint8)
    write(tmp_path, "d.png", image=blank)  # has no range that could be unused
    write(tmp_path, "e.png", image=blank)
    assert len(set(PairFolder(tmp_path).known_by())) == 5  # blank ones are no copies
    for part in ("images", "masks"):
        (tmp_path / part / "e.png").unlink()
    note, blank = PairFolder(tmp_path).notes
    assert blank.startswith("1 of 4 images have one grey value")
    assert note.startswith("in 2 of 4 images nearly all pixels lie within 5.7% of the possible")


def test_masks_that_may_be_inverted_and_labels_that_change_sides_are_told(tmp_path):
    square = np.zeros((12, 16), np.uint8)
    square[3:8, 5:11] = 1
    for name, mask in (("a.png", square), ("b.png", 2 * square), ("c.png", 2 - square)):
        write(tmp_path, name, mask=mask)
    half, sides = PairFolder(tmp_path).notes
    assert half.startswith("1 of 3 masks cover more than half at 12x16; if they are inverted")
    assert sides.startswith("the value 1 is lesion in some masks and background in others; give")


def test_masks_of_long_slices_are_judged_without_their_padding(tmp_path):
    square = np.zeros((64, 160), np.uint8)
    square[20:40, 60:90] = 255
    for name, mask in (("a.png", square), ("b.png", 255 - square), ("c.png", square | 255)):
        write(tmp_path, name, image=np.arange(64 * 160).reshape(64, 160).astype("u1"), mask=mask)
    full, half = PairFolder(tmp_path, (64, 64)).notes
    assert full == "1 of 3 masks are full at 64x64"
    assert half.startswith("1 of 3 masks cover more than half at 64x64; if they are inverted")


def test_values_of_floating_point_that_change_sides_are_told_as_they_are(tmp_path):
    square = np.zeros((12, 16), np.float32)
    square[3:8, 5:11] = 0.5
    for name, mask in (("a.tif", square), ("b.tif", 0.5 + square)):
        write(tmp_path, name, mask=mask)
    (note,) = PairFolder(tmp_path).notes
    assert note.startswith("the value 0.5 is lesion in some masks and background in others; give")
    write(tmp_path, "b.tif", mask=square)
    assert PairFolder(tmp_path).notes == []


def test_pixels_that_touch_by_a_corner_are_one_lesion(tmp_path):
    mask = np.zeros((64, 64), np.uint8)
    mask[12:32, 12:32] = mask[32, 32] = 255
    write(tmp_path, image=np.arange(64 * 64).reshape(64, 64).astype(np.uint8), mask=mask)
    assert PairFolder(tmp_path, (16, 16)).notes == []


def test_small_lesions_that_vanish_beside_a_large_one_are_counted(tmp_path):
    mask = np.zeros((64, 48), np.uint8)
    mask[8:40, 8:40] = 255
    mask[50:53, 2:46:8] = 255  # six specks
    write(tmp_path, image=np.arange(64 * 48).reshape(64, 48).astype(np.uint8), mask=mask)
    assert PairFolder(tmp_path).notes == PairFolder(tmp_path, (64, 64)).notes == []
    told = "6 lesions of 1 masks that have several are too small to be seen at 16x16; raise"
    assert any(note.startswith(told) for note in PairFolder(tmp_path, (16, 16)).notes)


def test_names_of_another_unicode_form_are_partners_and_capitals_are_hinted_at(tmp_path):
    name = "e\u0301.png"  # as macOS writes it
    write(tmp_path, name)
    (tmp_path / "masks" / name).rename(tmp_path / "masks" / "\u00e9.png")
    assert len(PairFolder(tmp_path)) == 1
    write(tmp_path, "b1.png")
    (tmp_path / "masks" / "b1.png").rename(tmp_path / "masks" / "B1.png")
    with pytest.raises(ValueError, match="no partner .*; rename (b1|B1).png$"):
        PairFolder(tmp_path)


@pytest.mark.parametrize("row", ["A.PNG", "a", "images/a.png", "a.png "])
def test_a_manifest_that_spells_a_name_otherwise_is_quoted(tmp_path, row):
    write(tmp_path)
    (tmp_path / "manifest.csv").write_text(f"name,patient\n{row},p\n")
    told = f"names no patient for a.png; it names '{row}': write names as the files are called"
    with pytest.raises(ValueError, match=told):
        PairFolder(tmp_path)


def test_a_manifest_row_without_a_patient_is_to_be_filled_in(tmp_path):
    write(tmp_path)
    (tmp_path / "manifest.csv").write_text("name,patient\na.png,\n")
    with pytest.raises(
        ValueError, match="names no patient for a.png; its row has no patient: fill"
    ):
        PairFolder(tmp_path)


def test_an_interrupted_prepare_is_named_before_its_missing_masks(tmp_path):
    write(tmp_path)
    write(tmp_path, "b.png")
    (tmp_path / "masks" / "b.png").unlink()
    (tmp_path / "config.json").write_text('{"config": {"src": "there"}}')
    with pytest.raises(ValueError, match="minipig prepare was interrupted; repeat it"):
        PairFolder(tmp_path)
    (tmp_path / "report.json").write_text("{}")
    with pytest.raises(ValueError, match="has no partner"):
        PairFolder(tmp_path)
