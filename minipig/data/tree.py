"""The files of a folder by glob, fast where many patterns are asked of many files."""

import glob
import os
import re
from bisect import bisect_left
from fnmatch import fnmatchcase
from pathlib import Path
from string import ascii_lowercase

from minipig.data.manifest import one_form


def find(src: Path, wanted: str) -> list[str]:
    """List the paths under `src` that match a glob, sorted, with / on every system."""
    found = glob.glob(wanted, root_dir=src, recursive=True)
    return sorted({os.path.normpath(path).replace(os.sep, "/") for path in found})


def unreadable(src: Path) -> list[str]:
    """A note on the folders under `src` that cannot be read, if there are any."""
    errors: list[OSError] = []
    for _ in os.walk(src, onerror=errors.append):
        pass
    if not errors:
        return []
    first = f"{len(errors)} folders, such as {errors[0].filename}, cannot be read"
    return [f"{first}; what is in them is missing"]


def folders_in(root: Path) -> str:
    """The names of some folders in a folder, for a message about one that is not there; or ""."""
    names = sorted(path.name for path in root.glob("[!.]*") if path.is_dir())
    return f" ({root} has {', '.join(names[:3])}{', ...' * (len(names) > 3)})" if names else ""


class Tree:
    """All files under `src`, listed once: `find` by the start or the end of a path."""

    def __init__(self, src: Path):
        self.src = src
        paths = [path for path in find(src, "**/*") if not (src / path).is_dir()]
        forms = [one_form(path).casefold() for path in paths]
        # by the start of the path, by its end, and by the start of the file's name
        keys = forms, [form[::-1] for form in forms], [form.rpartition("/")[2] for form in forms]
        self.ranked = [sorted(zip(key, paths)) for key in keys]

    def find(self, wanted: str) -> list[str]:
        """`find`, in a time that grows with what is found and not with the number of files.

        Names may be in another Unicode form than `wanted`.
        """
        wanted = one_form(wanted)
        name = wanted.rpartition("/")[2]
        hidden = any(part.startswith(".") for part in wanted.split("/"))  # or outside `src`
        if hidden or "**" in name:
            return find(self.src, wanted)
        start, start_of_name = (as_letters(re.match(LETTERS, text)[0]) for text in (wanted, name))
        end = as_letters(re.search(f"{LETTERS}$", name)[0])[::-1]
        ranges = []
        for ranked, first in zip(self.ranked, (start, end, start_of_name)):
            low = bisect_left(ranked, (first,))
            ranges.append(ranked[low : bisect_left(ranked, (first + chr(0x10FFFF),))])
        parts = wanted.split("/")
        found = (path for _, path in min(ranges, key=len))
        return sorted(path for path in found if matches(one_form(path).split("/"), parts))


# letters that stand for themselves, are escaped ([*]), or may be small or capitals ([pP])
LETTERS = rf"(?:[^*?\[\]]|\[[*?\[]\]|\[(?:{'|'.join(c + c.upper() for c in ascii_lowercase)})\])*"


def as_letters(escaped: str) -> str:
    """The text, in small letters, that glob.escape, or any_case, made `escaped` of."""
    return re.sub(r"\[(.)[A-Z]?\]", r"\1", escaped).casefold()


def matches(path: list[str], wanted: list[str]) -> bool:
    """Whether the parts of a path match those of a glob; hidden names need a . in the glob."""
    if not path or not wanted:
        return path == wanted
    hidden = path[0].startswith(".")
    if wanted[0] == "**":
        deeper = not hidden and matches(path[1:], wanted)
        return deeper or matches(path, wanted[1:])
    fits = fnmatchcase(path[0], wanted[0]) and (not hidden or wanted[0].startswith("."))
    return fits and matches(path[1:], wanted[1:])


def any_case(wanted: str) -> str:
    """Let the ending of a glob match in small letters and in capitals."""
    start, ending = os.path.splitext(wanted)
    if not ending[1:].isalnum():
        return wanted
    return f"{start}.{''.join(f'[{c.lower()}{c.upper()}]' for c in ending[1:])}"
