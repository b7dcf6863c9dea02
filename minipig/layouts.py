"""How published sets of images are laid out: which files are images, which masks belong to each, and whose they are.

Images are found by a glob, the masks of each by a pattern, its patient by a regular expression.
"""

import glob
import os
import re
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from .data import SUFFIXES


@dataclass(frozen=True)
class Layout:
    """How a set is laid out; paths are relative to its folder, with / between their parts.

    images: a glob, ** for any folders. masks: the pattern of a mask's path, {folder} and {stem} being its image's, and {*}
    what the first * in the last part of `images` stood for; * for what differs between several. patient: a regular expression
    that is searched in the image's path; the first of its groups that matched, if it has any, is the patient; None: every
    image is a patient of its own. threshold: a mask is lesion above it; None: it must have two values. merge: several
    masks of an image are joined. An ending in capitals is as good as one in small letters.
    """

    images: str
    masks: str
    patient: str | None = None
    threshold: int | None = None
    merge: bool = False


LAYOUTS = {
    # Al-Dhabyani et al. 2020, doi:10.1016/j.dib.2019.104863: benign/benign (1).png, ..._mask.png, ..._mask_1.png
    "busi": Layout("**/*).png", "{folder}/{stem}_mask*.png", merge=True),
    # Vallez et al. 2025, doi:10.1038/s41597-025-04564-2: images/ALWI_000.png; masks/ in colours, green benign, red malignant
    "bus-uclm": Layout("**/images/*.png", "{folder}/../masks/{stem}.png", r"([A-Za-z]+)_\d+\.png$", threshold=127),
    # Codella et al. 2019, arXiv 1902.03368, task 1: ..._Input/ISIC_0000000.jpg, ..._GroundTruth/ISIC_0000000_segmentation.png
    "isic2018": Layout("**/*_Input/ISIC_*.jpg", "**/*_GroundTruth/{stem}_segmentation.png", threshold=127),
}


def images_and_masks(src: Path, layout: Layout, left_out: dict[str, list[str]]) -> tuple[list[str], dict[str, list[str]]]:
    """The images, and the masks of each. Into `left_out` go files that `layout.images` finds and that cannot be images."""
    seen = [path for path in glob_(src, either_case(layout.images)) if not (src / path).is_dir()]
    found = [path for path in seen if Path(path).suffix.lower() in SUFFIXES]
    if others := sorted(set(seen) - set(found)):
        left_out[f"its ending is none of {' '.join(sorted(SUFFIXES))}"] = others
    masks_of = {path: masks(src, path, layout) for path in tqdm(found, desc="looking for masks", leave=False, disable=None)}
    every_mask = {mask for several in masks_of.values() for mask in several}
    if taken := [path for path in found if path in every_mask and masks_of[path]]:
        left_out["it is taken for a mask of another image: make --masks, or --images, narrower"] = taken
    found = [path for path in found if path not in every_mask]  # a glob may catch masks, too
    if not found:
        other = f", but {len(others)} files such as {others[0]}; convert them" if others else ""
        raise ValueError(
            f"{src} has no images {layout.images}{other or '; give another --images, or as SRC the folder it starts from'}"
        )
    return found, masks_of


def glob_(src: Path, wanted: str) -> list[str]:
    """The paths under `src` that a glob finds, sorted."""
    return sorted({os.path.normpath(path) for path in glob.glob(wanted, root_dir=src, recursive=True)})


def either_case(wanted: str) -> str:
    """A glob whose ending may be in small letters or in capitals."""
    start, ending = os.path.splitext(wanted)
    letters = ending[1:]
    return f"{start}.{''.join(f'[{c.lower()}{c.upper()}]' for c in letters)}" if letters.isalnum() else wanted


def masks(src: Path, path: str, layout: Layout) -> list[str]:
    """The paths of an image's masks, as they are there. Raises ValueError for a pattern with other fields, or with none."""
    fields = {"folder": os.path.dirname(path) or ".", "stem": Path(path).stem}
    before, star, after = layout.images.rpartition("/")[2].partition("*")
    if star and (stood := re.fullmatch(f"{wild(before)}(.*?){wild(after)}", os.path.basename(path), re.IGNORECASE)):
        fields["*"] = stood[1]
    try:
        wanted = os.path.normpath(layout.masks.format_map({name: glob.escape(value) for name, value in fields.items()}))
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"--masks {layout.masks}: in braces stand folder, stem, or the * of --images") from error
    if "{" not in layout.masks:
        raise ValueError(f"--masks {layout.masks} is one for all images; say {{stem}} where their names differ")
    return [other for other in glob_(src, wanted) or glob_(src, either_case(wanted)) if other != path and may_be_mask(other)]


def unclaimed(src: Path, layout: Layout, known: set[str]) -> list[str]:
    """The paths in `src` that `layout.masks` would fit for some image or other, without those that are known."""
    several = glob_(src, either_case(layout.masks.format_map({"folder": "**", "stem": "*", "*": "*"})))
    return [path for path in several if path not in known and may_be_mask(path) and not path.startswith("..")]


def may_be_mask(path: str) -> bool:
    """Whether a file of this ending can be a mask: those of images, and GIF."""
    return Path(path).suffix.lower() in SUFFIXES | {".gif"}


def wild(part: str) -> str:
    """A piece of a glob, within one name, as a regular expression."""
    return "".join({"*": ".*", "?": "."}.get(c, re.escape(c)) for c in part)


def pattern(patient: str | None):
    """The function path -> patient of a regular expression; None: nobody. Raises ValueError for a bad one."""
    if patient is None:
        return lambda path: None
    try:
        compiled = re.compile(patient)
    except re.error as error:
        raise ValueError(f"--patient {patient} is no regular expression: {error}") from error

    def of(path: str) -> str:
        match = compiled.search(path)
        groups = [group.strip() for group in (match.groups() or match[:1]) if group and group.strip()] if match else []
        if not groups:
            raise ValueError(f"no patient: {patient} is not in its path")
        return groups[0]

    return of


def named(paths: list[str]) -> dict[str, str]:
    """A file name for each image: its own, or if two are alike those of its folders before it, or numbered, too."""
    plain = [Path(path).with_suffix("").as_posix() for path in paths]
    joined = [path.replace("/", "_") for path in plain]
    for stems in ([Path(path).name for path in plain], joined, [f"{i}_{stem}" for i, stem in enumerate(joined)]):
        if len({stem.casefold() for stem in stems}) == len(stems):  # some file systems do not tell a from A
            break
    return {path: f"{stem}.png" for path, stem in zip(paths, stems)}
