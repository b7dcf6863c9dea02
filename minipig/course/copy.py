"""A copy of the course in a folder of the reader's."""

import json
import posixpath
import re
from pathlib import Path

from minipig.course.files import course_files, home
from minipig.course.student import student_edition
from minipig.data.files import write_atomically

ANSWERS = {"solutions", "slides"}
LINK = re.compile(r"\[([^\]]+)\]\(([^)\s]+)\)")


def write_course(folder: Path, student: bool = False, answers: bool = True) -> tuple[int, int]:
    """Write notebooks, models and results into `folder`; the numbers of files written and kept.

    A file that is there already is kept: it may be the reader's work. student: with functions to
    write. answers: with solutions and slides. Raises ValueError if `folder` holds another edition,
    OSError if it cannot be written.
    """
    if edition_of(folder) not in (None, (student, answers)):
        raise ValueError(f"{folder} holds another edition of the course; give a new folder")
    files = [file for file in course_files(home()) if answers or not ANSWERS & set(file.parts)]
    there = {file.as_posix() for file in files}
    written = 0
    for file in files:
        if (folder / file).exists():
            continue
        data = (home() / file).read_bytes()
        if file.suffix == ".md":
            data = without_dead_links(data.decode(), file, there).encode()
        elif file.suffix == ".ipynb" and student and not ANSWERS & set(file.parts):
            notebook = student_edition(json.loads(data))
            for cell in notebook["cells"]:
                if cell["cell_type"] == "markdown":
                    cell["source"] = without_dead_links("".join(cell["source"]), file, there)
            data = json.dumps(notebook, ensure_ascii=False, indent=1).encode()
        write_atomically(folder / file, data)
        written += 1
    return written, len(files) - written


def edition_of(folder: Path) -> tuple[bool, bool] | None:
    """(is it a student's, has it answers) of the course in a folder; None without a course."""
    notebooks = sorted((folder / "notebooks").glob("0*.ipynb"))
    if not notebooks:
        return None
    student = json.loads(notebooks[0].read_bytes())["metadata"].get("edition") == "student"
    return student, (folder / "notebooks" / "solutions").exists()


def without_dead_links(text: str, file: Path, there: set[str]) -> str:
    """Markdown whose links to files that the copy lacks, such as the package's, are plain text."""

    def kept(link: re.Match) -> str:
        target = link[2].partition("#")[0]
        path = posixpath.normpath(posixpath.join(file.parent.as_posix(), target))
        outside = target.startswith("https://") or not target
        alive = outside or any(f == path or f.startswith(f"{path}/") for f in there)
        return link[0] if alive else link[1]

    return LINK.sub(kept, text)
