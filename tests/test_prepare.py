"""`minipig prepare` on small copies of published layouts with their known faults, and on others."""

import json
import os
import unicodedata
from contextlib import suppress
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from test_folder import png, tiff

from minipig.cli import main
from minipig.data import prepare as module
from minipig.data.folder import PairFolder
from minipig.data.layouts import LAYOUTS, Layout, images_and_masks, of_first_star
from minipig.data.pairs import groups
from minipig.data.prepare import prepare, summary
from minipig.data.tree import Tree, find

HEALTHY = "no lesion; --keep-healthy keeps such pairs"
PLAIN = Layout("images/*.png", "masks/{stem}.png")


def picture(seed, size=(20, 30), mode="L"):
    shape = size if mode == "L" else (*size, 3)
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8))


def outline(box, size=(20, 30), colour=255):
    """A mask with one box (top, left, bottom, right), grey or RGB."""
    mask = np.zeros((*size, *np.shape(colour)), np.uint8)
    mask[box[0] : box[2], box[1] : box[3]] = colour
    return Image.fromarray(mask)


def put(root, name, image, **how):
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path, **how)


def run(*arguments):
    return main([str(argument) for argument in arguments])


@pytest.fixture
def busi(tmp_path):
    """BUSI: spaces and brackets, several masks of an image, a normal image, a duplicate."""
    root = tmp_path / "Dataset_BUSI_with_GT"
    for k in (1, 2, 10):
        put(root, f"benign/benign ({k}).png", picture(k, mode="RGB"))
        put(root, f"benign/benign ({k})_mask.png", outline((2, 3, 8, 9)))
    put(root, "benign/benign (10)_mask_1.png", outline((12, 20, 18, 28)))
    put(root, "benign/benign (10)_mask_2.png", outline((0, 0, 2, 2)))
    put(root, "malignant/malignant (1).png", picture(2, mode="RGB"))  # the same as benign (2)
    put(root, "malignant/malignant (1)_mask.png", outline((2, 3, 8, 9)).convert("1"))
    put(root, "normal/normal (1).png", picture(4, mode="RGB"))
    put(root, "normal/normal (1)_mask.png", outline((0, 0, 0, 0)))
    return root


def test_busi(busi, tmp_path, capsys):
    dst = tmp_path / "busi"
    assert run("prepare", busi, dst, "--layout", "busi") == 0
    pairs = PairFolder(dst)
    names = ["benign (1).png", "benign (10).png", "benign (2).png", "malignant (1).png"]
    assert pairs.names == names
    ten = pairs.masks[1, 0]  # all three lesions
    assert ten.sum() == 6 * 6 + 6 * 8 + 2 * 2 and ten[3, 4] and ten[13, 21] and ten[1, 1]
    grey = torch.tensor(np.array(picture(1, mode="RGB").convert("L"))).float() / 127.5 - 1
    assert torch.allclose(pairs.images[0, 0], grey, atol=1e-6)
    report = json.loads((dst / "report.json").read_text())
    assert report["pairs"] == 4 and report["patients"] is None  # nobody has named any
    assert report["left_out"] == {HEALTHY: ["normal/normal (1).png"]}
    assert report["identical"] == [["benign (2).png", "malignant (1).png"]]
    assert len(groups(pairs)) == 4 and len(set(groups(pairs))) == 3  # duplicates share a group
    out = capsys.readouterr().out
    assert "4 pairs of unknown patients (each counts as one of its own; --patient finds them" in out
    assert "left out 1 file(s), such as 'normal/normal (1).png': no lesion; --keep-healthy" in out
    assert "1 images occur more than once, such as benign (2).png and malignant (1).png" in out
    with Image.open(dst / "contact.png") as contact:
        assert contact.width > 300
    manifest = (dst / "manifest.csv").read_text()
    assert "source" in manifest and "benign/benign (10).png" in manifest


def test_several_masks_are_joined_only_when_asked(busi, tmp_path):
    report = prepare(busi, tmp_path / "dst", replace(LAYOUTS["busi"], merge=False))
    several = report["left_out"]["several masks; give --merge to join them"]
    assert report["pairs"] == 3 and several == ["benign/benign (10).png"]


@pytest.mark.parametrize(
    "layout, image, masks",
    [
        (Layout("a.png", "m/{stem}_*.png"), "a.png", ("m/a_1.png", "m/a_2.PNG")),
        (LAYOUTS["busi"], "b (1).png", ("b (1)_mask.png", "b (1)_mask_1.PNG")),
    ],
)
def test_a_second_mask_whose_ending_is_in_capitals_is_found(tmp_path, layout, image, masks):
    src = tmp_path / "src"
    put(src, image, picture(0))
    for name, box in zip(masks, ((2, 3, 8, 9), (12, 20, 18, 28))):
        put(src, name, outline(box))
    with pytest.raises(ValueError, match="several masks; give --merge to join them"):
        prepare(src, tmp_path / "alone", replace(layout, merge=False))
    prepare(src, tmp_path / "joined", replace(layout, merge=True))
    assert PairFolder(tmp_path / "joined").masks.sum() == 6 * 6 + 6 * 8


@pytest.fixture
def bus_uclm(tmp_path):
    """BUS-UCLM: coloured masks, no lesion, a mask of another size, one image of two patients."""
    root = tmp_path / "BUS-UCLM"
    for k, (name, colour) in enumerate(
        {"ALWI_000": (0, 255, 0), "ALWI_001": (255, 0, 0), "CHCO_000": (0, 255, 0)}.items()
    ):
        put(root, f"images/{name}.png", picture(k, mode="RGB"))
        put(root, f"masks/{name}.png", outline((5, 5, 9, 12), colour=colour))
    put(root, "images/CHVI_005.png", picture(2, mode="RGB"))
    put(root, "masks/CHVI_005.png", outline((5, 5, 9, 12), colour=(0, 255, 0)))
    put(root, "images/NODE_000.png", picture(7, mode="RGB"))
    put(root, "masks/NODE_000.png", outline((0, 0, 0, 0), colour=(0, 0, 0)))
    put(root, "images/HESN_002.png", picture(8, mode="RGB"))
    put(root, "masks/HESN_002.png", outline((5, 5, 9, 12), size=(24, 30), colour=(0, 255, 0)))
    (root / "INFO.csv").write_text("Image;Type\n")
    return root


def test_bus_uclm(bus_uclm, tmp_path):
    report = prepare(bus_uclm, tmp_path / "dst", LAYOUTS["bus-uclm"])
    pairs = PairFolder(tmp_path / "dst")
    assert pairs.patients == ["ALWI", "ALWI", "CHCO", "CHVI"]
    assert (pairs.masks.sum((1, 2, 3)) == 4 * 7).all()
    assert report["left_out"] == {
        "image and mask differ in size; make them equal": ["images/HESN_002.png"],
        HEALTHY: ["images/NODE_000.png"],
    }
    assert report["identical"] == [["CHCO_000.png", "CHVI_005.png"]]


@pytest.fixture
def isic(tmp_path):
    """ISIC 2018, task 1: JPEG images, PNG masks in another folder, superpixels, a missing mask."""
    root = tmp_path / "ISIC"
    for part, numbers in {"Training": (0, 1, 3), "Validation": (12255,)}.items():
        inputs, truths = f"ISIC2018_Task1-2_{part}_Input", f"ISIC2018_Task1_{part}_GroundTruth"
        for k in numbers:
            name = f"ISIC_{k:07d}"
            put(root, f"{inputs}/{name}.jpg", picture(k, mode="RGB"))
            put(root, f"{inputs}/{name}_superpixels.png", picture(k + 1, mode="RGB"))
            if k != 3:
                put(root, f"{truths}/{name}_segmentation.png", outline((1, 1, 15, 25)))
        (root / inputs / "LICENSE.txt").write_text("CC-0")
    return root


def test_isic(isic, tmp_path):
    report = prepare(isic, tmp_path / "dst", LAYOUTS["isic2018"])
    names = ["ISIC_0000000.png", "ISIC_0000001.png", "ISIC_0012255.png"]
    assert PairFolder(tmp_path / "dst").names == names
    reason = "no mask matches **/*_GroundTruth/{stem}_segmentation.png; check --masks"
    assert report["left_out"] == {reason: ["ISIC2018_Task1-2_Training_Input/ISIC_0000003.jpg"]}
    told = "note: 3 of 3 masks cover more than half at 20x30; if they are inverted"  # 14 x 24
    assert told in summary(report, tmp_path)


# ---- other layouts


def test_a_jpeg_mask_is_thresholded_only_when_asked(tmp_path, capsys):
    root = tmp_path / "src"
    put(root, "scans/a.jpg", picture(0))
    put(root, "truth/a.jpg", outline((5, 5, 12, 20)), quality=40)
    command = ["prepare", root, tmp_path / "dst"]
    command += ["--images", "scans/*.jpg", "--masks", "truth/{stem}.jpg"]
    assert run(*command) == 2
    error = capsys.readouterr().err
    assert "the mask has more than two values; a mask must hold two: give minipig prepare" in error
    assert (
        "--threshold 127 (blurred or JPEG masks), --threshold 0 (all labels) or --label N" in error
    )
    assert not (tmp_path / "dst").exists()  # so the same command may be repeated with the option
    assert run(*command, "--threshold", 127) == 0
    assert PairFolder(tmp_path / "dst").masks[0, 0, 5:12, 5:20].float().mean() > 0.9


def test_patients_come_from_the_path_and_sixteen_bits_are_kept(tmp_path):
    root, deep = tmp_path / "src", np.linspace(0, 65535, 600).reshape(20, 30).astype(np.uint16)
    for patient in ("P07", "P12"):
        put(root, f"{patient}/left/slice.tif", Image.fromarray(deep))
        put(root, f"{patient}/left/slice_roi.tif", outline((5, 5, 9, 12)))
    layout = Layout("**/*.tif", "{folder}/{stem}_roi.tif", r"^(P\d+)/")
    report = prepare(root, tmp_path / "dst", layout)
    pairs = PairFolder(tmp_path / "dst")
    assert pairs.names == ["P07_left_slice.png", "P12_left_slice.png"]
    assert pairs.patients == ["P07", "P12"]
    expected = torch.from_numpy(deep / 32767.5 - 1).float()
    assert torch.allclose(pairs.images[0, 0], expected, atol=1e-6)
    # --images finds the masks, too; they are not used as images
    assert report["left_out"] == {} and report["patients"] == 2


@pytest.mark.parametrize("expression", [r"P\d+", r"(P\d+)", r"(Q\d+)|(P\d+)", r"( *)(P\d+)"])
def test_a_patient_is_the_first_group_with_text_or_the_match(tmp_path, expression):
    put(tmp_path, "src/images/P07.png", picture(0))
    put(tmp_path, "src/masks/P07.png", outline((5, 5, 9, 12)))
    prepare(tmp_path / "src", tmp_path / "dst", replace(PLAIN, patient=expression))
    assert PairFolder(tmp_path / "dst").patients == ["P07"]


def test_each_file_that_cannot_be_used_is_left_out_with_its_reason(tmp_path):
    root = tmp_path / "src"
    for name in ("good", "broken", "empty", "full", "link"):
        put(root, f"images/{name}.png", picture(0))
        put(root, f"masks/{name}.png", outline((5, 5, 9, 12)))
    whole = (root / "images/broken.png").read_bytes()
    (root / "images/broken.png").write_bytes(whole[: len(whole) // 2])
    (root / "images/empty.png").write_bytes(b"")
    outline((0, 0, 20, 30)).save(root / "masks/full.png")
    outline((5, 5, 9, 12)).save(tmp_path / "elsewhere.png")
    (root / "masks/link.png").unlink()
    os.symlink(tmp_path / "elsewhere.png", root / "masks/link.png")
    report = prepare(root, tmp_path / "dst", PLAIN)
    assert PairFolder(tmp_path / "dst").names == ["good.png"] and report["pairs"] == 1
    assert report["left_out"] == {
        "the image cannot be read as an image; replace the file": [
            "images/broken.png",
            "images/empty.png",
        ],
        "the mask is full; outline the lesion, or give --label N of the lesions, "
        "if this is all background": ["images/full.png"],
        "a link to a file outside SRC; copy the file": ["images/link.png"],
    }


@pytest.mark.parametrize(
    "layout",
    [
        Layout("images/*.png", "masks/{stem}.png"),
        Layout("**/images/*.png", "{folder}/../masks/{stem}.png"),
        Layout("images/*.png", "masks/{*}.png"),
    ],
)
def test_masks_without_an_image_are_reported(tmp_path, layout):
    root = tmp_path / "src"
    put(root, "images/good.png", picture(0))
    for name in ("good.png", "lost.png", "lost too.PNG"):
        put(root, f"masks/{name}", outline((5, 5, 9, 12)))
    (root / "masks/notes.txt").write_text("no mask at all")
    put(tmp_path, "masks/of another set.png", outline((5, 5, 9, 12)))  # outside of the source
    report = prepare(root, tmp_path / "dst", layout)
    assert report["pairs"] == 1
    lost = ["masks/lost too.PNG", "masks/lost.png"]
    assert report["left_out"] == {"a mask without an image": lost}


def test_a_glob_may_begin_with_a_dot_and_the_sheet_may_lack_the_first_image(tmp_path):
    root = tmp_path / "src"
    put(root, "a.png", picture(0))  # without a mask, and first
    for k in range(40):
        put(root, f"b{k:02d}.png", picture(k))
        put(root, f"b{k:02d}_mask.png", outline((5, 5, 9, 12)))
    report = prepare(root, tmp_path / "dst", Layout("./*.png", "{folder}/{stem}_mask.png"))
    reason = "no mask matches {folder}/{stem}_mask.png; check --masks"
    assert report["pairs"] == 40 and report["left_out"] == {reason: ["a.png"]}
    assert (tmp_path / "dst/contact.png").exists()


def test_a_repeated_command_changes_nothing_and_another_layout_raises(busi, tmp_path, capsys):
    dst = tmp_path / "dst"
    before = prepare(busi, dst, LAYOUTS["busi"])
    files = {path: path.read_bytes() for path in dst.rglob("*.png")}
    assert prepare(busi, dst, LAYOUTS["busi"]) == before
    assert {path: path.read_bytes() for path in dst.rglob("*.png")} == files
    assert run("prepare", busi, dst, "--layout", "busi", "--threshold", 9) == 2
    assert "threshold None there, 9 here); give another DST" in capsys.readouterr().err
    moved = busi.rename(tmp_path / "moved")
    assert run("prepare", moved, dst, "--layout", "busi") == 2
    line = capsys.readouterr().err
    assert f"(src '{busi}' there, '{moved}' here); give another DST, or remove {dst} if" in line


@pytest.mark.parametrize(
    "arguments, message",
    [
        (
            ["--images", "*.png"],
            "give --images and --masks, --csv, or --layout busi or bus-uclm or isic2018",
        ),
        (
            ["--images", "*.bmp", "--masks", "x"],
            "src: --images *.bmp finds no images; correct SRC, --layout or --images",
        ),
        (
            ["--images", "images/*.png", "--masks", "{patient}.png"],
            "--masks {patient}.png has an invalid field; use only {folder}, {stem} and, if",
        ),
        (
            ["--images", "images/*.png", "--masks", "masks/{stem}.png", "--patient", "("],
            "--patient ( is not a regular expression (",
        ),
        (
            ["--images", "images/*.png", "--masks", "nowhere/{stem}.png"],
            "such as 'images/a.png' (there is no nowhere/a.png): no mask matches nowhere/{stem}",
        ),
        (
            ["--images", "images/*.png", "--masks", "masks/{stem}.png", "--patient", "Q"],
            "--patient Q does not match the path; correct it",
        ),
    ],
)
def test_invalid_options_give_one_line(tmp_path, capsys, arguments, message):
    put(tmp_path / "src", "images/a.png", picture(0))
    put(tmp_path / "src", "masks/a.png", outline((5, 5, 9, 12)))
    assert run("prepare", tmp_path / "src", tmp_path / "dst", *arguments) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1
    assert not (tmp_path / "dst" / "manifest.csv").exists()


def test_a_missing_folder_is_named(tmp_path, capsys):
    assert run("prepare", tmp_path / "nowhere", tmp_path / "dst", "--layout", "busi") == 2
    assert "nowhere is not a folder; correct SRC" in capsys.readouterr().err
    (tmp_path / "set.zip").write_bytes(b"")
    assert run("prepare", tmp_path / "set.zip", tmp_path / "dst", "--layout", "busi") == 2
    assert "set.zip is not a folder; unpack it first" in capsys.readouterr().err


# ---- SRC and DST are protected, and pairs are never mixed up


def test_patients_that_were_corrected_by_hand_are_kept(bus_uclm, tmp_path, capsys):
    dst = tmp_path / "dst"
    line = ("prepare", bus_uclm, dst, "--layout", "bus-uclm")
    assert run(*line) == 0
    manifest = dst / "manifest.csv"
    head, first, *rest = manifest.read_text().splitlines()
    name, _, source = first.split(",")
    corrected = "\n".join([head, f"{name},somebody,{source}", *rest, ""])
    manifest.write_text(corrected)
    assert run(*line) == 2
    error = capsys.readouterr().err
    assert f"gives {name} the patient somebody, SRC gives" in error and "new DST" in error
    assert manifest.read_text() == corrected
    manifest.unlink()
    assert run(*line) == 0 and "somebody" not in manifest.read_text()


def test_folders_that_cannot_be_read_are_told(bus_uclm, tmp_path, monkeypatch, capsys):
    closed = bus_uclm / "closed"
    closed.mkdir()
    scan = os.scandir

    def denied(path):
        if os.fspath(path) == str(closed):
            raise PermissionError(13, "Permission denied", str(path))
        return scan(path)

    monkeypatch.setattr(os, "scandir", denied)
    assert run("prepare", bus_uclm, tmp_path / "dst", "--layout", "bus-uclm") == 0
    assert f"note: 1 folders, such as {closed}, cannot be read" in capsys.readouterr().out


def test_a_folder_with_what_a_killed_process_left_counts_as_empty(bus_uclm, tmp_path):
    left = tmp_path / "dst" / f".minipig-{'0' * 16}.part"
    left.parent.mkdir()
    left.touch()
    assert run("prepare", bus_uclm, tmp_path / "dst", "--layout", "bus-uclm") == 0
    assert len(PairFolder(tmp_path / "dst")) == 4


def contents(folder):
    return {path: path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.mark.parametrize("place", ["", "ready", "images/ready"])
def test_the_source_is_never_written_into(bus_uclm, capsys, place):
    before = contents(bus_uclm)
    assert run("prepare", bus_uclm, bus_uclm / place, "--layout", "bus-uclm") == 2
    assert "which must not change; give a DST outside it" in capsys.readouterr().err
    assert contents(bus_uclm) == before


def test_a_folder_with_other_files_is_not_changed(bus_uclm, tmp_path, capsys):
    put(tmp_path / "mine", "images/ALWI_000.png", picture(5))
    before = contents(tmp_path / "mine")
    assert run("prepare", bus_uclm, tmp_path / "mine", "--layout", "bus-uclm") == 2
    assert "mine is not empty; give a new DST" in capsys.readouterr().err
    assert contents(tmp_path / "mine") == before


@pytest.mark.parametrize(
    "images, masks, merge, names",
    [
        # of 1, 10 and a2, the first two match the same mask
        ("*.png", "masks/{stem}*.png", False, ["a2.png"]),
        ("*.png", "masks/{stem}*.png", True, ["a2.png"]),
        ("*.png", "masks/{stem}.png", False, ["10.png", "a2.png"]),  # 1 has none
    ],
)
def test_a_mask_of_two_images_is_used_for_neither(tmp_path, images, masks, merge, names):
    root = tmp_path / "src"
    for k, name in enumerate(("1", "10", "a2")):
        put(root, f"{name}.png", picture(k))
    for name in ("10", "a2"):
        put(root, f"masks/{name}.png", outline((5, 5, 9, 12)))
    report = prepare(root, tmp_path / "dst", Layout(images, masks, merge=merge))
    assert PairFolder(tmp_path / "dst").names == names
    if len(names) == 1:
        reason = (
            "its mask belongs to another image, too; make --masks or --images more specific; "
            "or name the pairs in a table, --csv"
        )
        assert report["left_out"] == {reason: ["1.png", "10.png"]}


def test_an_image_that_is_also_found_as_a_mask_is_reported(tmp_path):
    root = tmp_path / "src"
    for name in ("case1", "case1_post"):
        put(root, f"{name}.png", picture(len(name)))
        put(root, f"{name}_mask.png", outline((5, 5, 9, 12)))
    put(root, "case2.png", picture(2))
    put(root, "case2_mask.png", outline((5, 5, 9, 12)))
    report = prepare(root, tmp_path / "dst", Layout("*.png", "{stem}_*.png"))
    assert PairFolder(tmp_path / "dst").names == ["case2.png"]
    taken = "it is also a mask of another image; make --masks or --images more specific"
    assert report["left_out"][taken] == ["case1_post.png"]
    assert ["case1.png"] in report["left_out"].values()


def test_files_that_vanished_from_the_source_raise_or_are_removed(bus_uclm, tmp_path, capsys):
    dst = tmp_path / "dst"
    prepare(bus_uclm, dst, LAYOUTS["bus-uclm"])
    outline((0, 0, 0, 0), colour=(0, 0, 0)).save(bus_uclm / "masks/ALWI_001.png")
    assert prepare(bus_uclm, dst, LAYOUTS["bus-uclm"])["pairs"] == 3
    assert PairFolder(dst).names == ["ALWI_000.png", "CHCO_000.png", "CHVI_005.png"]
    (bus_uclm / "images/ALWI_000.png").unlink()
    before = contents(dst)
    assert run("prepare", bus_uclm, dst, "--layout", "bus-uclm") == 2
    error = capsys.readouterr().err
    assert "ALWI_000.png does not come from" in error and "; remove it or give a new DST" in error
    assert contents(dst) == before


def test_names_never_collide(tmp_path):
    root = tmp_path / "src"
    for k, folder in enumerate(("P1/2", "P1_2", "p1_2/x")):
        put(root, f"{folder}/img.png", picture(k))
        put(root, f"{folder}/mask.png", outline((5, 5, 9, 12)))
    report = prepare(root, tmp_path / "dst", Layout("**/img.png", "{folder}/mask.png"))
    assert report["pairs"] == len(PairFolder(tmp_path / "dst")) == 3


def test_an_interrupted_command_leaves_every_patient_in_the_manifest(
    bus_uclm, tmp_path, monkeypatch
):
    wrote, write = [], module.write_values

    def stopping(path, values):
        if len(wrote) == 4:
            raise KeyboardInterrupt
        wrote.append(path)
        write(path, values)

    monkeypatch.setattr(module, "write_values", stopping)
    with pytest.raises(KeyboardInterrupt):
        prepare(bus_uclm, tmp_path / "dst", LAYOUTS["bus-uclm"])
    assert PairFolder(tmp_path / "dst").patients == ["ALWI", "ALWI"]


def test_endings_in_capitals_are_found_and_unknown_endings_are_reported(tmp_path):
    root = tmp_path / "src"
    for k, name in enumerate(("a.png", "b.PNG", "c.Png")):
        put(root, f"images/{name}", picture(k), format="PNG")
        put(root, f"masks/{name}", outline((5, 5, 9, 12)), format="PNG")
    put(root, "images/d.gif", picture(4))
    report = prepare(root, tmp_path / "dst", replace(PLAIN, images="images/*.*"))
    reason = "the ending is not .bmp .jpeg .jpg .pgm .png .tif .tiff; convert the file"
    assert report["pairs"] == 3 and report["left_out"] == {reason: ["images/d.gif"]}
    assert prepare(root, tmp_path / "again", PLAIN)["pairs"] == 3
    problem = r"--images images/\*.gif finds only files such as images/d.gif; convert them to PNG"
    with pytest.raises(ValueError, match=problem):
        prepare(root, tmp_path / "none", replace(PLAIN, images="images/*.gif"))


def test_masks_of_one_bit_and_of_labels_are_thresholded_by_their_values(tmp_path):
    root, labels = tmp_path / "src", np.zeros((20, 30), np.uint8)
    labels[5:9, 5:12], labels[10:12, 5:12] = 1, 2
    masks = {
        "bit": outline((5, 5, 9, 12)).convert("1"),
        "label": Image.fromarray(labels),
        "one": Image.fromarray(np.minimum(labels, 1)),
    }
    for k, (name, mask) in enumerate(masks.items()):
        put(root, f"images/{name}.png", picture(k))
        put(root, f"masks/{name}.png", mask)
    report = prepare(root, tmp_path / "0", replace(PLAIN, threshold=0))
    assert report["pairs"] == 3
    assert PairFolder(tmp_path / "0").masks.sum((1, 2, 3)).tolist() == [28, 42, 42]
    report = prepare(root, tmp_path / "127", replace(PLAIN, threshold=127))
    assert PairFolder(tmp_path / "127").names == ["bit.png"]
    low = "the mask has no value above --threshold; lower --threshold"
    assert report["left_out"][low] == ["images/label.png", "images/one.png"]
    details = report["details"][low]
    assert details.startswith("it has values up to ") and details.endswith("none above --threshold")
    nothing = prepare(root, tmp_path / "3", replace(PLAIN, label=77, keep_healthy=True))
    (note,) = nothing["notes"]
    assert note.startswith("3 of 3 masks are empty at 20x30; correct --threshold or --label of")
    with pytest.raises(ValueError, match="--threshold must be at least 0, not -1"):
        prepare(root, tmp_path / "below", replace(PLAIN, threshold=-1))


def test_masks_whose_names_share_a_number_with_their_image(tmp_path):
    """BUS-BRA: Images/bus_0001-l.png and Masks/mask_0001-l.png."""
    root = tmp_path / "BUSBRA"
    for k in (1, 2):
        put(root, f"Images/bus_000{k}-l.png", picture(k))
        put(root, f"Masks/mask_000{k}-l.png", outline((5, 5, 9, 12)))
    layout = Layout("Images/bus_*.png", "Masks/mask_{*}.png", r"bus_(\d+)")
    assert prepare(root, tmp_path / "dst", layout)["patients"] == 2
    assert PairFolder(tmp_path / "dst").names == ["bus_0001-l.png", "bus_0002-l.png"]


def test_isic_unpacked_into_folders_of_the_archives_names(isic, tmp_path):
    for folder in list(isic.iterdir()):
        folder.rename(isic / "moved")
        (isic / folder.name).mkdir()
        (isic / "moved").rename(isic / folder.name / folder.name)
    assert prepare(isic, tmp_path / "dst", LAYOUTS["isic2018"])["pairs"] == 3


@pytest.mark.parametrize(
    "masks, message",
    [
        ("masks/a.png", "--masks masks/a.png names the same file for every image; use {stem}"),
        ("masks/{stem[x]}.png", "has an invalid field; use only {folder}, {stem} and"),
        ("masks/{stem.x}.png", "has an invalid field; use only {folder}, {stem} and"),
        ("masks/{stem.png", "has an invalid field; use only {folder}, {stem} and"),
        (
            "../elsewhere/{stem}.png",
            "a file outside SRC; give a SRC that contains images and masks",
        ),
        ("nowhere/{stem}.png", "no mask matches nowhere/{stem}.png; check --masks"),
    ],
)
def test_invalid_patterns_of_masks(tmp_path, capsys, masks, message):
    put(tmp_path / "src", "images/a.png", picture(0))
    put(tmp_path / "src", "masks/a.png", outline((5, 5, 9, 12)))
    put(tmp_path, "elsewhere/a.png", outline((5, 5, 9, 12)))
    command = ["prepare", tmp_path / "src", tmp_path / "dst", "--images", "images/*.png"]
    assert run(*command, "--masks", masks) == 2
    assert message in capsys.readouterr().err and not (tmp_path / "dst").exists()


# --- every reason is told, with one file and what is in it ---


def test_a_refusal_gives_every_reason_and_the_values_of_a_mask(tmp_path, capsys):
    root = tmp_path / "src"
    for k in range(5):
        put(root, f"images/{k}.png", picture(k))
        mask = np.zeros((20, 30), np.uint8)
        if k < 2:  # fewer than the empty ones
            mask[4:9, 4:9], mask[4, 4:9] = 255, 90
        put(root, f"masks/{k}.png", Image.fromarray(mask))
    options = ("--images", PLAIN.images, "--masks", PLAIN.masks)
    assert run("prepare", root, tmp_path / "dst", *options) == 2
    said = capsys.readouterr().err
    several = f"3 file(s), such as 'images/2.png': {HEALTHY} | 2 file(s), such as 'images/0.png'"
    assert several in said
    assert "(it has 3 values (0, 90, 255))" in said and "--threshold 127" in said
    assert run("prepare", root, tmp_path / "dst", *options, "--threshold", 127) == 0  # the remedy
    assert "2 pairs of" in capsys.readouterr().out


@pytest.mark.parametrize(
    "wanted, name, text",
    [
        ("[i]mg_*.png", "img_7.PNG", "7"),
        ("img_*.[pt][ni][gf]", "img_7.tif", "7"),
        ("img[_-]*_?.png", "img-a_b_c.png", "a_b"),
        ("[!]x]*[*]*.png", "a7*_8.png", "7"),
        ("*_*_*_*.png", "a_b_c_d_e.png", "a"),
        ("img_[*].png", "img_*.png", None),  # a star that stands for itself
        ("img_7.png", "img_7.png", None),
        ("img_[a*.png", "img_[abc.png", "bc"),
        ("*.png", "a\nb.png", "a\nb"),
    ],
)
def test_the_first_star_stands_for_what_the_glob_finds(wanted, name, text):
    found = of_first_star(wanted, name)
    assert (found and found[1]) == text


def test_brackets_in_a_pattern_and_line_breaks_in_a_name_do_no_harm(tmp_path):
    for stem in ("7", "8\n9"):
        put(tmp_path / "src", f"img_{stem}.png", picture(0))
        put(tmp_path / "src", f"seg_{stem}.png", outline((5, 5, 9, 12)))
    report = prepare(tmp_path / "src", tmp_path / "dst", Layout("[i]mg_*.png", "seg_{*}.png"))
    why = "the name has characters that cannot be printed; rename it"
    assert report["pairs"] == 1 and report["left_out"] == {why: ["img_8\n9.png"]}


@pytest.mark.parametrize("ending", ["mat", "webp", "npy"])
def test_a_mask_of_an_unread_ending_is_not_called_missing(tmp_path, ending):
    root = tmp_path / "src"
    for k in range(2):
        put(root, f"images/{k}.png", picture(k))
    put(root, "masks/0.png", outline((5, 5, 9, 12)))
    (root / "masks" / f"1.{ending}").write_bytes(b"something else")
    report = prepare(root, tmp_path / "dst", replace(PLAIN, masks="masks/{stem}.*"))
    (reason,) = report["left_out"]
    assert reason.startswith("the ending of its mask is not one of .bmp .gif")
    assert report["details"][reason] == f"its mask is masks/1.{ending}"
    assert f"'images/1.png' (its mask is masks/1.{ending}): the ending" in summary(report, tmp_path)


@pytest.mark.parametrize("ending", ["gif", "tif"])
def test_a_mask_of_another_ending_than_the_pattern_s_is_named(tmp_path, ending, capsys):
    put(tmp_path / "src", "images/0.png", picture(0))
    put(tmp_path / "src", f"masks/0.{ending}", outline((5, 5, 9, 12)))
    given = ("--images", PLAIN.images, "--masks")
    assert run("prepare", tmp_path / "src", tmp_path / "dst", *given, PLAIN.masks) == 2
    told = f"(its mask is masks/0.{ending}): the ending of its mask is not that of --masks; correct"
    assert told in capsys.readouterr().err
    remedy = f"masks/{{stem}}.{ending}"
    assert run("prepare", tmp_path / "src", tmp_path / "dst", *given, remedy) == 0


def test_an_image_without_a_mask_is_no_mask_of_another_ending(tmp_path):
    put(tmp_path, "src/a.png", picture(0))
    put(tmp_path, "src/a1.png", picture(1))
    put(tmp_path, "src/a1.gif", outline((5, 5, 9, 12)))
    report = prepare(tmp_path / "src", tmp_path / "dst", Layout("*.png", "{stem}.gif"))
    assert report["pairs"] == 1
    assert list(report["left_out"].values()) == [["a.png"]]
    assert list(report["left_out"])[0].startswith("no mask matches")


def test_a_file_beside_a_readable_mask_is_passed_over(tmp_path):
    root = tmp_path / "src"
    put(root, "images/0.png", picture(0))
    put(root, "masks/0.png", outline((5, 5, 9, 12)))
    (root / "masks" / "0.txt").write_text("drawn by hand")
    report = prepare(root, tmp_path / "dst", replace(PLAIN, masks="masks/{stem}.*"))
    assert report["pairs"] == 1 and report["left_out"] == {}


# --- layouts in which masks lie in folders like the images' ---


@pytest.mark.parametrize(
    "image, mask, images, masks",
    [
        ("images/{}/0.png", "masks/{}/0.png", "images/**/*.png", "masks/{**}/{stem}.png"),
        (
            "test/{}/000.png",
            "ground_truth/{}/000_mask.png",
            "test/**/*.png",
            "ground_truth/{**}/{stem}_mask.png",
        ),
        ("a/{}/scan/7.png", "{}/seg/7.png", "a/**/scan/*.png", "{**}/seg/{*}.png"),
        ("{}/i.png", "all/{}.png", "**/i.png", "all/{**}.png"),
        ("i/{}/0.png", "m/{}/0.png", "./i/**/*.png", "m/{**}/{stem}.png"),
    ],
)
def test_mirrored_trees(tmp_path, image, mask, images, masks):
    root = tmp_path / "src"
    for k, folder in enumerate(("P1", "P2")):
        put(root, image.format(folder), picture(k))
        put(root, mask.format(folder), outline((5, 5, 9, 12 + k)))
    put(root, mask.format("P3"), outline((5, 5, 9, 12)))  # of an image that is not there
    report = prepare(root, tmp_path / "dst", Layout(images, masks, r"(P\d)/"))
    assert report["left_out"] == {"a mask without an image": [mask.format("P3")]}
    assert report["pairs"] == report["patients"] == 2
    assert PairFolder(tmp_path / "dst").masks.sum((1, 2, 3)).tolist() == [28, 32]


def test_mirrored_trees_of_no_depth(tmp_path):
    root = tmp_path / "src"
    put(root, "images/0.png", picture(0))
    put(root, "masks/0.png", outline((5, 5, 9, 12)))
    layout = Layout("**/images/*.png", "{**}/masks/{stem}.png")
    assert prepare(root, tmp_path / "dst", layout)["pairs"] == 1


# --- the search for masks ---

NAMES = "a.png b[1].png .hidden.png a_mask.png a_mask_2.PNG x*y.png p?q.png é.png ab.png".split()
WANTED = "* a* *.png a_mask*.png [ab]*.png [!a]*.png b[[]1].png x[*]y.png p[?]q.png ?.png *_mask*"
WANTED = [
    *WANTED.split(),
    *(f"sub/{w}" for w in WANTED.split()),
    *(f"**/{w}" for w in WANTED.split()),
]
WANTED += [
    "su*/deep/*.png",
    "**/deep/a*",
    "sub/**/*.png",
    "../*/src/a.png",
    ".hidden*",
    "none/a.png",
    "[aB]b.png",
    "m_[lR].png",
]


def test_the_tree_finds_what_glob_finds(tmp_path):
    root = tmp_path / "src"
    for folder in (".", "sub", "sub/deep", ".cache", "other"):
        (root / folder).mkdir(parents=True, exist_ok=True)
        for name in NAMES:
            (root / folder / name).touch()
    tree = Tree(root)
    for wanted in WANTED:
        files = [path for path in find(root, wanted) if not (root / path).is_dir()]
        assert tree.find(wanted) == files, wanted
    assert sum(bool(tree.find(wanted)) for wanted in WANTED) > 30


@pytest.mark.parametrize(
    "layout, image, mask",
    [
        (Layout("i/*.png", "m/{stem}_mask*.png"), "i/{:06d}.png", "m/{:06d}_mask.png"),
        (Layout("i/*.png", "m/*_{stem}.png"), "i/{:06d}.png", "m/seg_{:06d}.png"),
        (
            LAYOUTS["isic2018"],
            "A_Input/ISIC_{:07d}.jpg",
            "A_GroundTruth/ISIC_{:07d}_segmentation.png",
        ),
    ],
)
def test_the_search_lists_the_folder_once(tmp_path, monkeypatch, layout, image, mask):
    """Whatever the number of images: it was listed once for each, 10,000 times for 10,000."""
    for i in range(50):
        for name in (image.format(i), mask.format(i)):
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).touch()
    listed, scandir = [], os.scandir
    monkeypatch.setattr(os, "scandir", lambda path: listed.append(path) or scandir(path))
    images, masks_of, _ = images_and_masks(tmp_path, layout)
    assert len(images) == 50 and all(len(masks) == 1 for masks in masks_of.values())
    assert len(listed) < 20


# --- tables of pairs, labels, colours, sizes ---


@pytest.fixture
def listed(tmp_path):
    """Images and masks in no order, and a table that says which belong together."""
    root = tmp_path / "src"
    for k in range(6):
        put(root, f"scans/a/{k}.png", picture(k))
        put(root, f"rois/x{5 - k}.png", outline((2 + k, 3, 9 + k, 9)))
    rows = ["image,mask,patient,split,age"]
    rows += [
        f"scans/a/{k}.png,rois\\x{5 - k}.png, P{k // 2} ,{'train' if k < 4 else 'test'},50"
        for k in range(6)
    ]
    (tmp_path / "pairs.csv").write_text("\n".join(rows), encoding="utf-8-sig")
    return root, tmp_path / "pairs.csv", tmp_path / "dst"


def test_a_table_says_which_mask_and_patient_belong_to_an_image(listed, capsys):
    root, table, dst = listed
    assert run("prepare", root, dst, "--csv", table) == 0
    assert "6 pairs of 3 patients" in capsys.readouterr().out
    pairs = PairFolder(dst)
    assert pairs.patients == ["P0", "P0", "P1", "P1", "P2", "P2"]
    for k, mask in enumerate(pairs.masks[:, 0]):
        assert mask.nonzero()[0].tolist() == [2 + k, 3] and mask.sum() == 42
    assert (dst / "manifest.csv").read_text().splitlines()[1] == "0.png,P0,scans/a/0.png"
    assert run("prepare", root, dst, "--csv", os.path.relpath(table)) == 0  # the same table


def test_a_split_of_the_table_can_be_taken(listed, capsys):
    root, table, dst = listed
    assert run("prepare", root, dst.with_name("both"), "--csv", table) == 0
    told = "note: all splits of the table are used: 4 of train, 2 of test; --split takes one"
    assert told in capsys.readouterr().out
    assert run("prepare", root, dst, "--csv", table, "--split", "test") == 0
    assert "note: rows of other splits are left out: 4 of train" in capsys.readouterr().out
    assert PairFolder(dst).names == ["4.png", "5.png"]
    assert run("prepare", root, dst / "no", "--csv", table, "--split", "val") == 2
    assert "no usable row with split val; there are test, train" in capsys.readouterr().err


def test_several_rows_of_an_image_are_several_masks(listed, capsys):
    root, table, dst = listed
    rows = table.read_text(encoding="utf-8-sig") + "\nscans/a/0.png,rois/x0.png,P0,train,50"
    table.write_text(rows)
    assert run("prepare", root, dst, "--csv", table, "--merge") == 0
    assert PairFolder(dst).masks[0, 0].sum() == 7 * 6 + 5 * 6  # rows 2 to 8, and 7 to 13
    assert run("prepare", root, dst.with_name("alone"), "--csv", table) == 0
    assert "left out 1 file(s), such as 'scans/a/0.png': several masks" in capsys.readouterr().out


def test_images_without_a_named_patient_are_their_own(listed, capsys):
    root, table, dst = listed
    lines = table.read_text(encoding="utf-8-sig").splitlines()
    table.write_text("\n".join(",".join(line.split(",")[:2]) for line in lines))
    assert run("prepare", root, dst, "--csv", table) == 0
    assert "6 pairs of unknown patients" in capsys.readouterr().out
    assert run("prepare", root, dst.with_name("by"), "--csv", table, "--patient", r"a/(\d)") == 0
    assert PairFolder(dst.with_name("by")).patients == list("012345")


def test_an_image_of_which_a_mask_is_missing_is_left_out(listed, capsys):
    root, table, dst = listed
    table.write_text(
        table.read_text(encoding="utf-8-sig") + "\nscans/a/0.png,rois/no.png,P0,train,50"
    )
    assert run("prepare", root, dst, "--csv", table, "--merge") == 0
    assert "0.png" not in PairFolder(dst).names and len(PairFolder(dst)) == 5
    assert "such as 'rois/no.png': the file is not there" in capsys.readouterr().out


def test_repeated_and_empty_rows_capitals_and_absolute_paths_do_no_harm(listed, capsys):
    root, table, dst = listed
    text = table.read_text(encoding="utf-8-sig").replace(
        "image,mask,patient", "Image, MASK ,Patient"
    )
    link = root.with_name("link")
    link.symlink_to(root)
    again = f"\n,,,,\n{root}/scans/a/0.png,{link}/rois/x5.png,P0,train,50"
    table.write_text(text + again)
    assert run("prepare", link, dst, "--csv", table) == 0
    assert PairFolder(dst).patients == ["P0", "P0", "P1", "P1", "P2", "P2"]
    assert "left out" not in capsys.readouterr().out


def test_a_file_elsewhere_is_not_called_a_link(listed, tmp_path, capsys):
    root, table, dst = listed
    other = tmp_path / "elsewhere" / "x5.png"
    other.parent.mkdir()
    other.write_bytes((root / "rois" / "x5.png").read_bytes())
    table.write_text(table.read_text(encoding="utf-8-sig").replace("rois\\x5.png", str(other)))
    assert run("prepare", root, dst, "--csv", table) == 0
    assert "a file outside SRC; give a SRC that" in capsys.readouterr().out


def test_rows_that_name_no_patient_are_told(listed, capsys):
    root, table, dst = listed
    table.write_text(table.read_text(encoding="utf-8-sig").replace(" P1 ", ""))
    assert run("prepare", root, dst, "--csv", table) == 0
    told = "note: 2 images name no patient; each counts as one of its own"
    assert told in capsys.readouterr().out


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda t: t.replace("image,", "picture,"), "it needs image and mask"),
        (lambda t: t.replace(",", ";"), "it needs image and mask, separated by commas"),
        (lambda t: "", "has the columns no columns; it needs"),
        (lambda t: t.replace("scans/a/0.png", ""), "line 2 has no image or no mask; complete it"),
        (lambda t: t + "\nscans/a/0.png,rois/x5.png,P9,train,50", "two patients, P0 and P9"),
        (lambda t: t + "\nscans/a/0.png,rois/x5.png", "to two patients, P0 and nobody"),
        (
            lambda t: t.replace("scans", "scan"),
            "scan/a/0.png: the file is not there; correct --csv",
        ),
        (
            lambda t: t.replace("rois\\x5", "scans/./a/0"),
            "line 2 names scans/a/0.png as image and as its mask; correct it",
        ),
        (lambda t: "image,mask", "has no usable row at all"),
        (lambda t: "image,mask\n\x00\xff", "is not a CSV table in UTF-8"),
    ],
)
def test_a_table_that_cannot_be_used_is_explained(listed, capsys, change, message):
    root, table, dst = listed
    table.write_text(change(table.read_text(encoding="utf-8-sig")), encoding="latin-1")
    assert run("prepare", root, dst, "--csv", table) == 2
    line = capsys.readouterr().err
    assert message in line and str(table) in line and line.count("\n") == 1 and not dst.exists()


def test_rows_without_files_are_told(listed, capsys):
    root, table, dst = listed
    (root / "rois/x1.png").unlink()
    assert run("prepare", root, dst, "--csv", table) == 0
    told = "left out 1 file(s), such as 'rois/x1.png': the file is not there; correct --csv"
    assert told in capsys.readouterr().out and len(PairFolder(dst)) == 5


@pytest.mark.parametrize(
    "options, message",
    [
        (("--layout", "busi"), "--csv says which images and masks; leave --layout out"),
        (("--images", "*.png"), "leave --images and --masks out"),
        (("--threshold", 3, "--label", 2), "both say what is lesion; give one of them"),
        (("--label", -1), "--label must be at least 0, not -1"),
    ],
)
def test_options_that_contradict_are_refused(listed, capsys, options, message):
    root, table, dst = listed
    assert run("prepare", root, dst, "--csv", table, *options) == 2
    assert message in capsys.readouterr().err
    given = ("--images", PLAIN.images, "--masks", PLAIN.masks, "--split", "train")
    assert run("prepare", root, dst, *given) == 2
    assert "--split chooses rows of a table; give --csv" in capsys.readouterr().err
    assert run("prepare", root, dst, "--images", root / "*.png", "--masks", PLAIN.masks) == 2
    assert f"--images {root}/*.png is absolute; give it from {root} on" in capsys.readouterr().err


def labelled(root, mode):
    """Two labels beside each other, as grey values or as numbers of a palette of equal greys."""
    values = np.zeros((20, 30), np.uint8)
    values[4:9, 4:9], values[10:15, 4:14] = 1, 2
    mask = Image.fromarray(values)
    if mode == "P":
        mask.putpalette([0, 0, 0, 128, 0, 0, 0, 65, 0])  # red and green of the same luminance
    put(root, "images/a.png", picture(0))
    put(root, "masks/a.png", mask)


@pytest.mark.parametrize("mode", ["L", "P"])
@pytest.mark.parametrize("label, area", [(1, 25), (2, 50), (0, 525), ("1,2", 75)])
def test_one_label_of_several_is_the_lesion(tmp_path, mode, label, area):
    labelled(tmp_path / "src", mode)
    given = ("--images", PLAIN.images, "--masks", PLAIN.masks, "--label", label)
    assert run("prepare", tmp_path / "src", tmp_path / "dst", *given) == 0
    assert PairFolder(tmp_path / "dst").masks.sum() == area


def test_labels_that_are_none_are_refused(tmp_path, capsys):
    labelled(tmp_path / "src", "L")
    for label, told in (
        ("1;2", "--label: '1;2' is not a label; give 2, or several as 1,2"),
        ("1,-2", "--label must be at least 0"),
        ("7,8", "no pixel has the value (7, 8) of --label"),
    ):
        given = ("--images", PLAIN.images, "--masks", PLAIN.masks, "--label", label)
        with suppress(SystemExit):
            assert run("prepare", tmp_path / "src", tmp_path / "dst", *given) == 2
        assert told in capsys.readouterr().err


def test_a_label_that_is_not_there_names_those_that_are(tmp_path, capsys):
    labelled(tmp_path / "src", "L")
    given = ("--images", PLAIN.images, "--masks", PLAIN.masks, "--label", 3)
    assert run("prepare", tmp_path / "src", tmp_path / "dst", *given) == 2
    line = capsys.readouterr().err
    assert "(its mask has the values 0, 1, 2): no pixel has the value 3 of --label; --keep" in line


def test_a_label_of_a_mask_of_one_bit_is_told_as_a_number(tmp_path, capsys):
    put(tmp_path / "src", "images/a.png", picture(0))
    put(tmp_path / "src", "masks/a.png", outline((2, 3, 8, 9)).convert("1"))
    given = ("--images", PLAIN.images, "--masks", PLAIN.masks, "--label", 255)
    assert run("prepare", tmp_path / "src", tmp_path / "dst", *given) == 2
    assert "(its mask has the values 0, 1): no pixel has the value 255" in capsys.readouterr().err


def test_of_several_masks_the_one_of_another_size_is_told(tmp_path, capsys):
    put(tmp_path / "src", "a.png", picture(0))
    put(tmp_path / "src", "a_1.bmp", outline((2, 3, 8, 9)))
    put(tmp_path / "src", "a_2.bmp", outline((2, 3, 8, 9), size=(24, 30)))
    given = ("--images", "*.png", "--masks", "{stem}_*.bmp", "--merge")
    assert run("prepare", tmp_path / "src", tmp_path / "dst", *given) == 2
    told = "(they are 20x30 and 24x30): image and mask differ in size; make them equal"
    assert told in capsys.readouterr().err


LABELS = (np.arange(20 * 30) // 200).reshape(20, 30).astype(np.uint8)  # 0, 1, 2


def few_bits(path, bits):
    """LABELS as a PNG of 2 or 4 bits a pixel."""
    packed = np.unpackbits(LABELS[..., None], axis=2)[..., -bits:].reshape(20, -1)
    png(path, [np.packbits(row).tobytes() for row in packed], 30, bits, 0)


def plain(path, most):
    """LABELS as a PGM in text, of this largest value."""
    path.write_text(f"P2 30 20 {most}\n" + " ".join(map(str, LABELS.flat)))


def white_zero(path, dtype):
    """LABELS as a TIFF whose 0 is white."""
    tiff(path, LABELS.astype(dtype), photometric=0)


@pytest.mark.parametrize(
    "write, how",
    [
        (few_bits, 2),
        (few_bits, 4),
        (plain, 3),
        (plain, 255),
        (plain, 1000),
        (white_zero, np.uint8),
        (white_zero, np.uint16),
    ],
)
def test_labels_are_the_numbers_in_the_file(tmp_path, capsys, write, how):
    """Not what a viewer makes of them: 2 bits are shown as 0, 85, 170, and 0 may be white."""
    put(tmp_path / "src", "images/a.png", picture(0))
    (tmp_path / "src/masks").mkdir()
    write(tmp_path / "src/masks/a.png", how)
    given = ("--images", PLAIN.images, "--masks", PLAIN.masks, "--label")
    assert run("prepare", tmp_path / "src", tmp_path / "dst", *given, 2) == 0
    assert np.array_equal(PairFolder(tmp_path / "dst").masks[0, 0], LABELS == 2)
    assert run("prepare", tmp_path / "src", tmp_path / "no", *given, 3) == 2
    assert "(its mask has the values 0, 1, 2): no pixel has the value 3" in capsys.readouterr().err


def test_a_label_of_grey_in_three_channels_is_read(tmp_path):
    labelled(tmp_path / "src", "L")
    mask = tmp_path / "src/masks/a.png"
    Image.open(mask).convert("RGB").save(mask)
    given = ("--images", PLAIN.images, "--masks", PLAIN.masks, "--label", 2)
    assert run("prepare", tmp_path / "src", tmp_path / "dst", *given) == 0
    assert PairFolder(tmp_path / "dst").masks.sum() == 50


@pytest.mark.parametrize("mode", ["L", "P"])
def test_a_label_of_a_mask_that_lies_on_its_side_is_refused(tmp_path, capsys, mode):
    labelled(tmp_path / "src", mode)
    turned = Image.Exif()
    turned[0x0112] = 6
    mask = Image.open(tmp_path / "src/masks/a.png")
    mask.save(tmp_path / "src/masks/a.png", exif=turned)
    given = ("--images", PLAIN.images, "--masks", PLAIN.masks, "--label", 2)
    assert run("prepare", tmp_path / "src", tmp_path / "dst", *given) == 2
    assert "has EXIF orientation 6" in capsys.readouterr().err


def test_a_label_of_a_mask_of_several_frames_is_refused(tmp_path, capsys):
    labelled(tmp_path / "src", "P")
    mask = Image.open(tmp_path / "src/masks/a.png")
    (tmp_path / "src/masks/a.png").unlink()
    mask.save(tmp_path / "src/masks/a.gif", save_all=True, append_images=[picture(1).convert("P")])
    given = ("--images", PLAIN.images, "--masks", "masks/{stem}.gif", "--label", 2)
    assert run("prepare", tmp_path / "src", tmp_path / "dst", *given) == 2
    assert "contains 2 images" in capsys.readouterr().err


def test_a_label_takes_the_place_of_a_layout_s_threshold(tmp_path):
    labelled(tmp_path / "src/bus", "L")
    (tmp_path / "src/bus/images/a.png").rename(tmp_path / "src/bus/images/ALWI_000.png")
    (tmp_path / "src/bus/masks/a.png").rename(tmp_path / "src/bus/masks/ALWI_000.png")
    given = ("--layout", "bus-uclm", "--label", 1)
    assert run("prepare", tmp_path / "src", tmp_path / "dst", *given) == 0
    assert PairFolder(tmp_path / "dst").masks.sum() == 25


def test_a_label_of_colours_is_explained(tmp_path, capsys):
    put(tmp_path / "src", "images/a.png", picture(0))
    put(tmp_path / "src", "masks/a.png", outline((4, 4, 9, 9), colour=(255, 0, 0)))
    given = ("--images", PLAIN.images, "--masks", PLAIN.masks)
    assert run("prepare", tmp_path / "src", tmp_path / "dst", *given, "--label", 1) == 2
    assert "the mask has colours and no numbers; leave --label out" in capsys.readouterr().err
    assert run("prepare", tmp_path / "src", tmp_path / "dst", *given) == 0  # the remedy


def test_classes_in_several_colours_are_explained(tmp_path, capsys):
    classes = np.zeros((20, 30, 3), np.uint8)
    classes[4:9, 4:9], classes[12:17, 4:9] = (255, 0, 0), (0, 0, 255)
    put(tmp_path / "src", "images/a.png", picture(0))
    put(tmp_path / "src", "masks/a.png", Image.fromarray(classes))
    given = ("--images", PLAIN.images, "--masks", PLAIN.masks)
    for option in ((), ("--label", 1)):
        assert run("prepare", tmp_path / "src", tmp_path / "dst", *given, *option) == 2
        line = capsys.readouterr().err
        assert "--threshold 0 takes all but black; or save those of one class" in line
    assert run("prepare", tmp_path / "src", tmp_path / "dst", *given, "--threshold", 0) == 0
    assert PairFolder(tmp_path / "dst").masks.sum() == 50


@pytest.mark.parametrize("threshold", [(), ("--threshold", 127)])
def test_dark_lesions_are_inverted(tmp_path, threshold):
    dark = Image.fromarray(255 - np.asarray(outline((4, 4, 9, 9))))
    put(tmp_path / "src", "images/a.png", picture(0))
    put(tmp_path / "src", "masks/a.png", dark)
    given = ("--images", PLAIN.images, "--masks", PLAIN.masks, "--invert", *threshold)
    assert run("prepare", tmp_path / "src", tmp_path / "dst", *given) == 0
    mask = PairFolder(tmp_path / "dst").masks[0, 0]
    assert mask.sum() == 25 and mask[4, 4] and not mask[3, 4]


def test_healthy_pairs_are_kept_if_asked_for(busi, tmp_path):
    assert run("prepare", busi, tmp_path / "all", "--layout", "busi", "--keep-healthy") == 0
    pairs = PairFolder(tmp_path / "all")
    assert "normal (1).png" in pairs.names and len(pairs) == 5
    assert not pairs.masks[pairs.names.index("normal (1).png")].any()
    report = json.loads((tmp_path / "all" / "report.json").read_text())
    assert report["left_out"] == {} and report["mask_area"]["least"] == 0
    # an image whose mask is missing is no healthy one
    (busi / "normal/normal (1)_mask.png").unlink()
    assert run("prepare", busi, tmp_path / "few", "--layout", "busi", "--keep-healthy") == 0
    assert "normal (1).png" not in PairFolder(tmp_path / "few").names


def test_a_channel_of_colours_is_taken_and_luminance_is_told(busi, tmp_path, capsys):
    assert run("prepare", busi, tmp_path / "grey", "--layout", "busi") == 0
    told = (
        "note: 4 of 4 images are in colour and become grey (luminance); "
        "minipig prepare --channel red|green|blue takes one channel"
    )
    assert told in capsys.readouterr().out
    for k, channel in enumerate(("red", "green", "blue")):
        dst = tmp_path / channel
        assert run("prepare", busi, dst, "--layout", "busi", "--channel", channel) == 0
        assert "in colour" not in capsys.readouterr().out
        image = PairFolder(dst).images[0, 0]
        values = np.asarray(picture(1, mode="RGB"))[..., k]
        assert torch.equal(image, torch.tensor(values).float() / 255 * 2 - 1)


def test_grey_in_three_channels_is_no_colour(tmp_path, capsys):
    """Nor is what JPEG makes of it."""
    for name, how in (("a.png", {}), ("b.jpg", dict(quality=60))):
        put(tmp_path / "src", f"images/{name}", picture(0).convert("RGB"), **how)
        put(tmp_path / "src", f"masks/{name[0]}.png", outline((4, 4, 9, 9)))
    layout = ("--images", "images/*.*", "--masks", PLAIN.masks)
    assert run("prepare", tmp_path / "src", tmp_path / "dst", *layout) == 0
    assert "in colour" not in capsys.readouterr().out


def test_pairs_can_be_made_small_as_training_would_make_them(tmp_path, capsys):
    root, whole, small = (tmp_path / name for name in ("src", "whole", "small"))
    for k in range(3):
        put(root, f"images/{k}.png", picture(k, (80, 120)))
        # a lesion two of 120 pixels wide is lost in 16
        boxes = ((10, 10, 60, 60), (40, 40, 42, 42), (30, 31, 60, 33))
        put(root, f"masks/{k}.png", outline(boxes[k], (80, 120)))
    layout = ("--images", PLAIN.images, "--masks", PLAIN.masks)
    assert run("prepare", root, whole, *layout) == 0
    assert "raise the size" not in capsys.readouterr().out
    assert run("prepare", root, tmp_path / "few", *layout, "--size", 16) == 0
    told = "left out 2 file(s), such as 'images/1.png': the lesion is too small to be seen at"
    assert told in capsys.readouterr().out and PairFolder(tmp_path / "few").names == ["0.png"]
    assert run("prepare", root, small, *layout, "--size", 16, "--keep-healthy") == 0
    out = capsys.readouterr().out
    now, later = PairFolder(small, (16, 16)), PairFolder(whole, (16, 16))
    assert torch.equal(now.masks, later.masks)
    assert torch.allclose(now.images, later.images, atol=1e-4)  # written with 16 bits
    assert later.notes and all(f"note: {note}" in out for note in later.notes)


def test_the_contact_sheet_is_even_over_what_was_accepted_and_has_names(tmp_path, monkeypatch):
    """Of 30 images the first half has no lesion; five are shown, from the first to the last."""
    for k in range(30):
        put(tmp_path / "src", f"images/{k:02d}.png", picture(k))
        put(
            tmp_path / "src",
            f"masks/{k:02d}.png",
            outline((4, 4, 9, 9) if k > 14 else (0, 0, 0, 0)),
        )
    sheets = []
    draw = module.plot.pair_grid
    monkeypatch.setattr(module, "SHOWN", 5)
    monkeypatch.setattr(
        module.plot, "pair_grid", lambda *a, **k: sheets.append((a, k)) or draw(*a, **k)
    )
    prepare(tmp_path / "src", tmp_path / "dst", PLAIN)
    (masks, images), how = sheets[0]
    assert how["names"] == ["15", "19", "22", "25", "29"] and masks.shape == (5, 1, 96, 96)
    for name, image in zip(how["names"], images[:, 0]):
        middle = np.asarray(picture(int(name))).mean() / 127.5 - 1
        assert abs(image[16:-16].mean() - middle) < 0.02


# patients, and names in other spellings


def test_patients_of_a_manifest_in_the_set_are_taken_over(tmp_path, capsys):
    """A folder whose masks need a threshold keeps its patients on the way through prepare."""
    root = tmp_path / "SET"
    for k in range(4):
        put(root, f"images/{k}.png", picture(k))
        put(root, f"masks/{k}.png", outline((5, 5, 9, 12)))
    (root / "manifest.csv").write_text("name,patient\n0.png,p\n1.png,p\n2.png,q\n3.png,q\n")
    command = ("--images", "images/*.png", "--masks", "masks/{stem}.png")
    assert run("prepare", root, tmp_path / "a", *command) == 0
    assert "4 pairs of 2 patients" in capsys.readouterr().out
    assert PairFolder(tmp_path / "a").patients == ["p", "p", "q", "q"]
    (root / "manifest.csv").write_text("name,patient\n0.png,p\n")
    assert run("prepare", root, tmp_path / "b", *command) == 0
    said = capsys.readouterr().out
    assert "unknown patients" in said and "manifest.csv names no patient for 1.png" in said
    put(root, "more/images/0.png", picture(7))  # whose row is it?
    put(root, "more/masks/0.png", outline((5, 5, 9, 12)))
    everywhere = ("--images", "**/images/*.png", "--masks", "{**}/masks/{stem}.png")
    assert run("prepare", root, tmp_path / "c", *everywhere) == 0
    said = capsys.readouterr().out
    assert "unknown patients" in said and "has one row for 0.png, and several images have" in said
    (root / "manifest.csv").write_text(
        "name,patient\n" + "".join(f"{k}.png,{k}.png\n" for k in "0123")
    )
    assert run("prepare", root, tmp_path / "d", *command) == 0
    assert "4 pairs of unknown patients" in capsys.readouterr().out  # each image is its own


@pytest.mark.parametrize("form", ("NFC", "NFD"))
def test_a_table_may_write_accents_otherwise_than_the_files(tmp_path, form):
    """As when a folder was unpacked on one system and the table written on another."""
    other = {"NFC": "NFD", "NFD": "NFC"}[form]
    root, rows = tmp_path / "SET", ["image,mask"]
    for k, name in enumerate(("série/é0", "série/1", "a2")):
        put(root, unicodedata.normalize(form, f"{name}.png"), picture(k))
        put(root, unicodedata.normalize(form, f"{name}_mask.png"), outline((5, 5, 9, 12)))
        rows.append(unicodedata.normalize(other, f"{name}.png,{name}_mask.png"))
    table = tmp_path / "pairs.csv"
    table.write_text("\n".join(rows), encoding="utf-8")
    report = prepare(root, tmp_path / "dst", Layout(csv=str(table)))
    assert report["pairs"] == 3 and not report["left_out"]


def test_a_patient_called_unknown_is_told(tmp_path):
    """A table that a program has written says nan where nobody is named."""
    root, rows = tmp_path / "SET", ["image,mask,patient"]
    for k, patient in enumerate(("nan", "Unknown", "nan", "Nancy")):
        put(root, f"images/{k}.png", picture(k))
        put(root, f"masks/{k}.png", outline((5, 5, 9, 12)))
        rows.append(f"images/{k}.png,masks/{k}.png,{patient}")
    table = tmp_path / "pairs.csv"
    table.write_text("\n".join(rows))
    notes = prepare(root, tmp_path / "dst", Layout(csv=str(table)))["notes"]
    counted = "which counts as one patient; give each image the patient it is of, or a name of its"
    for told in (f"2 images are of the patient 'nan', {counted}", "1 images are of the patient 'U"):
        assert any(note.startswith(told) for note in notes)
        assert any(note.startswith(told) for note in PairFolder(tmp_path / "dst").notes)
    assert not any("Nancy" in note for note in notes)


def test_the_range_that_images_do_not_use_is_told_by_prepare_too(tmp_path):
    for k in range(3):
        put(tmp_path / "SET", f"images/{k}.png", picture(k).point(lambda value: value // 16))
        put(tmp_path / "SET", f"masks/{k}.png", outline((5, 5, 9, 12)))
    (note,) = prepare(tmp_path / "SET", tmp_path / "dst", PLAIN)["notes"]
    assert note.startswith("in 3 of 3 images the brightest pixel is at most")


def test_patients_of_a_table_are_counted_as_train_counts_them(tmp_path, capsys):
    root = tmp_path / "SET"
    rows = ["image,mask,patient"]
    for k, patient in enumerate(("7", "7.0", "007", "P1", "p1", "8")):
        put(root, f"{k}.png", picture(k))
        put(root, f"{k}_mask.png", outline((5, 5, 9, 12)))
        rows.append(f"{k}.png,{k}_mask.png,{patient}")
    rows.append("0.png,0_mask.png,7.0")  # the same patient in another spelling
    table = tmp_path / "pairs.csv"
    table.write_text("\n".join(rows))
    assert run("prepare", root, tmp_path / "a", "--csv", table) == 0
    assert "6 pairs of 3 patients" in capsys.readouterr().out
    assert len(set(PairFolder(tmp_path / "a").patients)) == 3
    table.write_text("\n".join(rows[:-1]).replace("patient", "patient_id"))
    assert run("prepare", root, tmp_path / "b", "--csv", table) == 0
    told = "note: the column patient_id is not read; patients are in one named patient"
    assert told in capsys.readouterr().out
    assert run("prepare", root, tmp_path / "c", "--csv", table, "--patient", r"(\d)\.png") == 0
    assert "6 pairs of 6 patients" in capsys.readouterr().out


def test_a_mask_in_another_unicode_form_is_found(tmp_path):
    root = tmp_path / "SET"
    put(root, "Ma\u0308rz/e\u0301.png", picture(0))
    put(root, "M\u00e4rz/\u00e9_mask.png", outline((5, 5, 9, 12)))
    layout = Layout("**/e?.png", "**/{stem}_mask.png")
    assert prepare(root, tmp_path / "a", layout)["pairs"] == 1


GIVEN = ("--images", PLAIN.images, "--masks", PLAIN.masks)


def test_blank_images_are_told_and_are_no_copies(tmp_path):
    for k in range(2):
        put(tmp_path, f"src/images/{k}.png", Image.new("L", (30, 20), 90))
        put(tmp_path, f"src/masks/{k}.png", outline((5, 5, 9, 12)))
    report = prepare(tmp_path / "src", tmp_path / "dst", PLAIN)
    assert report["identical"] == []
    assert report["notes"] == ["2 of 2 images have one grey value everywhere; remove them"]


def test_a_value_that_changes_sides_is_told_by_prepare_too(tmp_path):
    for k, (low, high) in enumerate(((0, 1), (1, 2))):
        put(tmp_path / "SET", f"images/{k}.png", picture(k))
        values = np.full((20, 30), low, np.uint8)
        values[5:9, 5:12] = high
        put(tmp_path / "SET", f"masks/{k}.png", Image.fromarray(values))
    (note,) = prepare(tmp_path / "SET", tmp_path / "dst", PLAIN)["notes"]
    assert note.startswith("the value 1 is lesion in some masks and background in others; give")
    threshold = replace(PLAIN, threshold=0)  # which says what is lesion
    assert "value" not in str(prepare(tmp_path / "SET", tmp_path / "two", threshold)["notes"])


@pytest.mark.parametrize("name", "Manifest.csv patients.csv manifest.csv.txt data.xlsx".split())
def test_tables_of_patients_that_are_not_read_are_told_by_prepare_too(tmp_path, name, capsys):
    root = tmp_path / "SET"
    put(root, "images/0.png", picture(0))
    put(root, "masks/0.png", outline((5, 5, 9, 12)))
    (root / name).write_text("name,patient\n0.png,p\n")
    assert run("prepare", root, tmp_path / "a", *GIVEN) == 0
    said = capsys.readouterr().out
    assert "1 pairs of unknown patients" in said
    assert f"note: {name} is not read; patients are read from manifest.csv, with the" in said
    assert run("prepare", root, tmp_path / "b", *GIVEN, "--patient", "images") == 0
    assert "is not read" not in capsys.readouterr().out
    (root / "pairs.csv").write_text("image,mask\nimages/0.png,masks/0.png\n")
    assert run("prepare", root, tmp_path / "c", "--csv", root / "pairs.csv") == 0
    said = capsys.readouterr().out
    assert f"note: {name} is not read; patients are in a column patient of --csv" in said
    assert "pairs.csv is not read" not in said


@pytest.mark.parametrize("column", ["subject", "case", "pid", "Subject_ID", "study_pid", "case_id"])
def test_a_column_that_may_name_patients_is_told(listed, capsys, column):
    root, table, dst = listed
    table.write_text(table.read_text(encoding="utf-8-sig").replace("patient", column))
    assert run("prepare", root, dst, "--csv", table) == 0
    told = f"note: the column {column.lower()} is not read; patients are in one named patient"
    assert told in capsys.readouterr().out


def test_a_full_mask_is_told_with_the_option_that_made_it(tmp_path, capsys):
    put(tmp_path / "SET", "images/0.png", picture(0))
    put(tmp_path / "SET", "masks/0.png", outline((0, 0, 0, 0)))
    for options, told in (
        (("--invert",), "leave --invert out, which makes black masks full"),
        (("--label", 0), "correct --label"),
    ):
        assert run("prepare", tmp_path / "SET", tmp_path / "dst", *GIVEN, *options) == 2
        assert f"the mask is full; outline the lesion, or {told}" in capsys.readouterr().err


def test_a_background_of_one_is_no_lesion_if_the_label_says_so(tmp_path, capsys):
    for k in range(2):
        values = np.ones((20, 30), np.uint8)
        values[5:9, 5:12] += k == 0
        put(tmp_path / "SET", f"images/{k}.png", picture(k))
        put(tmp_path / "SET", f"masks/{k}.png", Image.fromarray(values))
    assert run("prepare", tmp_path / "SET", tmp_path / "a", *GIVEN, "--keep-healthy") == 0
    assert "give --label N of the lesions, if this is all background" in capsys.readouterr().out
    remedy = (*GIVEN, "--keep-healthy", "--label", 2)
    assert run("prepare", tmp_path / "SET", tmp_path / "b", *remedy) == 0
    assert PairFolder(tmp_path / "b").masks.sum((1, 2, 3)).tolist() == [28, 0]


def test_names_that_differ_in_their_unicode_form_get_two_names(tmp_path):
    root = tmp_path / "SET"
    for k, form in enumerate(("NFC", "NFD")):
        stem = unicodedata.normalize(form, "\u00e9")
        put(root, f"images/{k}/{stem}.png", picture(k))
        put(root, f"masks/{k}/{stem}.png", outline((5, 5, 9, 12 + k)))
    layout = Layout("images/**/*.png", "masks/{**}/{stem}.png")
    assert (
        prepare(root, tmp_path / "dst", layout)["pairs"] == len(PairFolder(tmp_path / "dst")) == 2
    )


@pytest.mark.parametrize("folder, stem", [("f" * 200, "scan"), ("a", "n" * 246)])
def test_names_that_are_too_long_are_cut_and_numbered(tmp_path, folder, stem):
    root = tmp_path / "SET"
    for k in range(2):
        put(root, f"images/{folder}/{folder}{k}/{stem}.png", picture(k))
        put(root, f"masks/{folder}/{folder}{k}/{stem}.png", outline((5, 5, 9, 12)))
    layout = Layout("images/**/*.png", "masks/{**}/{stem}.png")
    assert prepare(root, tmp_path / "dst", layout)["pairs"] == 2
    assert PairFolder(tmp_path / "dst").names == [f"{k}_{stem[:50]}.png" for k in range(2)]


def test_a_pattern_in_another_spelling_is_the_same_command(tmp_path):
    put(tmp_path / "SET", "images/0.png", picture(0))
    put(tmp_path / "SET", "masks/0.png", outline((5, 5, 9, 12)))
    for layout in (PLAIN, Layout("./images//*.png", "./masks/./{stem}.png")):
        assert prepare(tmp_path / "SET", tmp_path / "dst", layout)["pairs"] == 1
    with pytest.raises(ValueError, match="another configuration"):
        prepare(
            tmp_path / "SET", tmp_path / "dst", replace(PLAIN, masks="{folder}/../masks/{*}.png")
        )


@pytest.mark.parametrize(
    "images, masks",
    [
        ("images/**/*.png", "masks/{stem}.png"),
        ("images/**/*.png", "masks/**/{stem}.png"),
        ("images/**/*.png", "masks/{folder}/{stem}.png"),
        ("images/*/*.png", "masks/*/{stem}.png"),
        ("images/*/*.png", "masks/{*}/{stem}.png"),
    ],
)
@pytest.mark.parametrize("merge", [False, True])
def test_masks_in_folders_like_the_images_are_told_how_to_be_found(tmp_path, images, masks, merge):
    root = tmp_path / "SET"
    for k in range(2):
        put(root, f"images/P{k}/0.png", picture(k))
        put(root, f"masks/P{k}/0.png", outline((5, 5, 9, 12)))
    told = r"folders like the images', use \*\* in --images and {\*\*} in --masks"
    with pytest.raises(ValueError, match=told):
        prepare(root, tmp_path / "dst", Layout(images, masks, merge=merge))
    layout = Layout("images/**/*.png", "masks/{**}/{stem}.png")
    assert prepare(root, tmp_path / "dst", layout)["pairs"] == 2  # the remedy


def test_a_healthy_image_without_a_mask_is_told_what_to_do(tmp_path):
    put(tmp_path / "SET", "images/0.png", picture(0))
    with pytest.raises(ValueError, match="check --masks; give healthy images a black mask"):
        prepare(tmp_path / "SET", tmp_path / "dst", replace(PLAIN, keep_healthy=True))


@pytest.mark.parametrize("ending", ["webp", "npy", "nii.gz"])
def test_a_mask_beside_the_pattern_whose_ending_is_not_read_is_named(tmp_path, ending):
    put(tmp_path / "SET", "images/0.png", picture(0))
    (tmp_path / "SET/masks").mkdir()
    (tmp_path / "SET/masks" / f"0.{ending}").write_bytes(b"something else")
    told = rf"its mask is masks/0.{ending}\): the ending of its mask is not one of"
    with pytest.raises(ValueError, match=told):
        prepare(tmp_path / "SET", tmp_path / "dst", PLAIN)


def test_folders_that_are_there_are_named_if_no_image_is_found(tmp_path):
    put(tmp_path / "SET", "Images/0.png", picture(0))
    with pytest.raises(ValueError, match=r"finds no images; .* --images \(.*SET has Images\)$"):
        prepare(tmp_path / "SET", tmp_path / "dst", PLAIN)
