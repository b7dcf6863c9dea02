"""Layouts of published sets: where the images are, which masks and which patient each has."""

import fnmatch
import glob
import os
import re
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

from minipig.data.heartbeat import watched
from minipig.data.images import KINDS, SUFFIXES
from minipig.data.manifest import one_form
from minipig.data.tree import Tree, any_case, find, folders_in

LONGEST = 240  # bytes of a name without its ending, of the 255 that file systems take
LETTERS = 50  # of a longer name that are kept
MASK_SUFFIXES = SUFFIXES | {".gif"}
NARROWER = "make --masks or --images more specific"


@dataclass(frozen=True)
class Layout:
    """Where a set has its files; paths are relative to its folder, and separated by /.

    images: a glob; ** stands for any folders. masks: the pattern of the masks of an image, where
    {folder} and {stem} are those of the image, {*} is the text that the first * in the file name of
    `images` stands for, {**} the folders that its ** stands for, and * finds several masks.
    patient: a regular expression, searched in the image's path; the patient is its first non-empty
    group, or the match if it has no groups; None: see pair_table.find_patients. Endings match in
    small letters and in capitals. csv: instead of all this, a table, see pair_table.py; split: only
    its rows of this split.

    threshold: larger values are lesion; label: this value is, or these are; None: a mask must have
    two values, of which the larger is. invert: the other pixels are. merge: join several masks of
    an image. keep_healthy: also pairs whose mask has no lesion. channel: of images in colour,
    "red", "green" or "blue"; None: luminance. size: fit pairs into (height, width); None: as they
    are.
    """

    images: str = ""
    masks: str = ""
    patient: str | None = None
    csv: str | None = None
    split: str | None = None
    threshold: int | None = None
    label: int | tuple[int, ...] | None = None
    invert: bool = False
    merge: bool = False
    keep_healthy: bool = False
    channel: str | None = None
    size: tuple[int, int] | None = None


LAYOUTS = {
    # Al-Dhabyani et al. 2020, doi:10.1016/j.dib.2019.104863:
    # benign/benign (1).png, benign/benign (1)_mask.png, benign/benign (1)_mask_1.png
    "busi": Layout("**/*).png", "{folder}/{stem}_mask*.png", merge=True),
    # Vallez et al. 2025, doi:10.1038/s41597-025-04564-2:
    # images/ALWI_000.png, masks/ALWI_000.png (green: benign, red: malignant)
    "bus-uclm": Layout(
        "**/images/*.png", "{folder}/../masks/{stem}.png", r"([A-Za-z]+)_\d+\.png$", threshold=127
    ),
    # Codella et al. 2019, arXiv 1902.03368, task 1:
    # ..._Input/ISIC_0000000.jpg, ..._GroundTruth/ISIC_0000000_segmentation.png
    "isic2018": Layout(
        "**/*_Input/ISIC_*.jpg", "**/*_GroundTruth/{stem}_segmentation.png", threshold=127
    ),
}


def images_and_masks(
    src: Path, layout: Layout
) -> tuple[list[str], dict[str, list[str]], dict[str, list[str]]]:
    """Find the images, the masks of each, and the files left out, by reason."""
    left_out = defaultdict(list)
    files = [path for path in find(src, any_case(layout.images)) if not (src / path).is_dir()]
    images = [path for path in files if Path(path).suffix.lower() in SUFFIXES]
    if others := sorted(set(files) - set(images)):
        left_out[f"the ending is not {KINDS}; convert the file"] = others
    tree = Tree(src)
    masks_of = {
        path: find_masks(tree, path, layout) for path in watched(images, "looking for masks")
    }
    every_mask = {
        mask for masks in masks_of.values() for mask in masks if ends_as_asked(mask, layout)
    }
    # the glob of the images may find masks, too; these have no masks of their own
    if taken := [path for path in images if path in every_mask and masks_of[path]]:
        left_out[f"it is also a mask of another image; {NARROWER}"] = taken
    images = [path for path in images if path not in every_mask]
    if not images:
        problem = f"no images; correct SRC, --layout or --images{folders_in(src)}"
        if others:
            problem = f"only files such as {others[0]}; convert them to PNG"
        raise ValueError(f"{src}: --images {layout.images} finds {problem}")
    return images, masks_of, left_out


def find_masks(tree: Tree, path: str, layout: Layout) -> list[str]:
    """List the masks of an image; if there are none, files like them of another ending."""
    wanted = mask_pattern(path, layout)
    masks = [mask for mask in tree.find(any_case(wanted)) if mask != path]
    if not masks:
        others = tree.find(f"{os.path.splitext(wanted)[0]}.*")
        return [other for other in others if other != path and not ends_as_asked(other, layout)]
    return [mask for mask in masks if Path(mask).suffix.lower() in MASK_SUFFIXES] or masks


def ends_as_asked(mask: str, layout: Layout) -> bool:
    """Whether a mask can be read and has the ending of `layout.masks`, if this has one."""
    asked, ending = (os.path.splitext(path)[1].lower() for path in (layout.masks, mask))
    return ending in MASK_SUFFIXES and (ending == asked or not asked[1:].isalnum())


def mask_pattern(path: str, layout: Layout) -> str:
    """The glob of an image's masks: layout.masks filled in. Raises ValueError if it is invalid."""
    fields = {"folder": os.path.dirname(path) or ".", "stem": Path(path).stem}
    if found := of_first_star(layout.images.rpartition("/")[2], os.path.basename(path)):
        fields["*"] = found[1]
    images = os.path.normpath(layout.images).replace(os.sep, "/")
    outer, double, inner = images.partition("**/")
    if double:
        parts = path.split("/")
        inside = parts[outer.count("/") : len(parts) - inner.count("/") - 1]
        fields["**"] = "/".join(inside) or "."
    fields = {name: glob.escape(value) for name, value in fields.items()}
    try:
        wanted = os.path.normpath(layout.masks.format_map(fields)).replace(os.sep, "/")
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        remedy = "use only {folder}, {stem} and, if --images has a * or a **, {*} or {**}"
        raise ValueError(f"--masks {layout.masks} has an invalid field; {remedy}") from error
    if "{" not in layout.masks:
        problem = "names the same file for every image; use {stem}"
        raise ValueError(f"--masks {layout.masks} {problem}")
    return wanted


def of_first_star(wanted: str, name: str) -> re.Match | None:
    """Match a name with a glob; group 1 is the text that its first * stands for."""
    in_brackets = r"\[!?\]?[^\]]*\]"
    start = rf"((?:{in_brackets}|[^*[]|\[(?!{in_brackets[2:]}))*)"  # or a [ that is never closed
    parts = re.fullmatch(rf"{start}\*(.*)", wanted, re.S)
    if not parts:
        return None
    # without what `translate` puts around the whole
    before, after = (fnmatch.translate(part)[len("(?s:") : -len(r")\Z")] for part in parts.groups())
    return re.fullmatch(f"{before}(.*?){after}", name, re.IGNORECASE | re.S)


def mirrored(layout: Layout) -> str:
    """What to try where the images' folders differ, and --masks may not say which is whose."""
    folders = "*" in os.path.dirname(layout.images)
    told = "{**}" in layout.masks or layout.masks.startswith(("{folder}", "**/"))
    remedy = "; for masks in folders like the images', use ** in --images and {**} in --masks"
    return remedy if folders and not told else ""


def masks_without_image(src: Path, layout: Layout, known: set[str]) -> list[str]:
    """List the paths in `src` that match `layout.masks` for any name, except those in `known`."""
    wanted = layout.masks.format_map({"folder": "**", "stem": "*", "*": "*", "**": "**"})
    masks = [
        path for path in find(src, any_case(wanted)) if Path(path).suffix.lower() in MASK_SUFFIXES
    ]
    return [path for path in masks if path not in known and not path.startswith("..")]


def patient_of(path: str, expression: str | None) -> str | None:
    """The patient in a path; None without an expression. Raises ValueError if there is none."""
    if expression is None:
        return None
    match = re.search(expression, path)
    groups = (match.groups() or (match[0],)) if match else ()
    found = [group.strip() for group in groups if group and group.strip()]
    if not found:
        raise ValueError(f"--patient {expression} does not match the path; correct it")
    return found[0]


def unique_names(paths: list[str]) -> dict[str, str]:
    """A PNG name for each image: its stem, or if two are equal its path, or numbered paths.

    Small letters and capitals are equal, as in some file systems, and so are Unicode forms. Names
    that are too long for a file system are cut and numbered.
    """
    whole = [Path(path).with_suffix("").as_posix().replace("/", "_") for path in paths]
    numbered = [f"{i}_{stem}" for i, stem in enumerate(whole)]
    cut = [f"{i}_{Path(path).stem[:LETTERS]}" for i, path in enumerate(paths)]
    for stems in ([Path(path).stem for path in paths], whole, numbered, cut):
        unique = len({one_form(stem).casefold() for stem in stems}) == len(stems)
        if unique and all(len(os.fsencode(stem)) <= LONGEST for stem in stems):
            break
    return {path: f"{stem}.png" for path, stem in zip(paths, stems)}
