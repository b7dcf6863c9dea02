"""Where the files of the course are: around the notebook, in a checkout, or in the package."""

import re
from pathlib import Path

PACKAGE = Path(__file__).parent.parent
PARTS = (
    "notebooks/*.ipynb",
    "notebooks/slides/*.ipynb",
    "notebooks/solutions/*.ipynb",
    "notebooks/README.md",
    "notebooks/my_rule.py",
    "data_samples/**/*",
)
HIDDEN = re.compile(r"(^|/)\.")  # of an editor, or a lock
REMEDY = "write a copy of the course with `minipig course FOLDER`, and open its notebooks there"


def course_files(home: Path) -> list[Path]:
    """The course's files, relative to `home`: those of a copy, and of the wheel."""
    found = {path for part in PARTS for path in home.glob(part) if path.is_file()}
    files = sorted(path.relative_to(home) for path in found)
    return [file for file in files if not HIDDEN.search(file.as_posix())]


def home() -> Path:
    """The folder of notebooks/ and data_samples/ that belongs to this package.

    Raises FileNotFoundError if it was installed without them.
    """
    for folder in (PACKAGE.parent, PACKAGE / "course" / "files"):
        if (folder / "notebooks" / "README.md").exists():
            return folder
    raise FileNotFoundError("this minipig was installed without its course; install its wheel")


def data_samples(name: str = "") -> Path:
    """A file or folder of data_samples: that of the folders around, else that of the package.

    So a notebook finds it wherever it is run. The path is relative to the working folder if the
    file is in a folder around it. Raises FileNotFoundError, with the remedy, if there is none.
    """
    for depth, around in enumerate((Path.cwd(), *Path.cwd().parents)):
        if (around / "data_samples" / "README.md").exists():
            found = Path(*[".."] * depth, "data_samples", name)
            break
    else:
        found = home() / "data_samples" / name
    if not found.exists():
        raise FileNotFoundError(f"there is no {found}; {REMEDY}")
    return found
