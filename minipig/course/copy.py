"""A copy of the course in a folder of the reader's: whole, or with functions to write."""

import ast
import json
import posixpath
import re
from copy import deepcopy
from pathlib import Path

from minipig.course.files import course_files, home
from minipig.data.files import write_atomically

ANSWERS = {"solutions", "slides"}
TODO = 'raise NotImplementedError("write this function")'
LINK = re.compile(r"\[([^\]]+)\]\(([^)\s]+)\)")


def write_course(folder: Path, student: bool = False, answers: bool = True) -> tuple[int, int]:
    """Write notebooks, models and results into `folder`; the numbers of files written and kept.

    A file that is there already is kept: it may be the reader's work. student: with functions to
    write. answers: with solutions and slides. Raises ValueError if `folder` holds another edition
    or a damaged notebook, OSError if it cannot be written.
    """
    answered = (folder / "notebooks" / "solutions").exists()  # maybe before any notebook
    if edition_of(folder) not in (None, (student, answers)) or answered > answers:
        raise ValueError(f"{folder} holds another edition of the course; give a new folder")
    files = [file for file in course_files(home()) if answers or not ANSWERS & set(file.parts)]
    files.sort(key=lambda file: not ANSWERS & set(file.parts))  # first what tells the edition
    there = {place.as_posix() for file in files for place in (file, *file.parents)}
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
    """(is it a student's, has it answers) of the course in a folder; None without a course.

    Raises ValueError if its first notebook is damaged.
    """
    notebooks = sorted((folder / "notebooks").glob("0*.ipynb"))
    if not notebooks:
        return None
    try:
        student = json.loads(notebooks[0].read_bytes())["metadata"].get("edition") == "student"
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        problem = f"{notebooks[0]} is damaged; remove it, and repeat the command"
        raise ValueError(problem) from error
    return student, (folder / "notebooks" / "solutions").exists()


def without_dead_links(text: str, file: Path, there: set[str]) -> str:
    """Markdown whose links to files that the copy lacks, such as the package's, are plain text."""

    def kept(link: re.Match) -> str:
        target = link[2].partition("#")[0]
        path = posixpath.normpath(posixpath.join(file.parent.as_posix(), target))
        outside = target.startswith("https://") or not target
        return link[0] if outside or path in there else link[1]

    return LINK.sub(kept, text)


def student_edition(notebook: dict) -> dict:
    """A notebook without outputs and checks, in which cells tagged `write` are left to write.

    Of the functions in such a cell, signature and docstring remain. The checks directly after it
    remain, too: they fail until it is written. A box after the title says so.
    """
    notebook = deepcopy(notebook)
    notebook["metadata"]["edition"] = "student"
    cells = []
    written = False  # whether the code cell before was one to write, or a check of it
    blanks = 0
    for cell in notebook["cells"]:
        tags = cell["metadata"].get("tags", [])
        if "check" in tags and not written:
            continue
        cells.append(cell)
        if cell["cell_type"] == "code":
            cell |= dict(outputs=[], execution_count=None)
            written = "write" in tags or "check" in tags
        if "check" in tags:
            cell["metadata"].pop("jupyter", None)  # a check of the reader's own work is shown
        if "write" in tags:
            cell["source"] = left_open("".join(cell["source"]))
            blanks += 1
    if blanks:
        count = f"{blanks} cell{'s' * (blanks > 1)}"
        box = f"> **Student's edition.** In {count} there are functions to write. Until you have "
        box += "written one, it says `NotImplementedError`, and cells that need it fail as well."
        about = dict(cell_type="markdown", id="students-edition", metadata={}, source=box)
        cells.insert(1, about)
    return notebook | {"cells": cells}


def left_open(source: str) -> str:
    """Python whose functions have signatures and docstrings only; other statements remain."""
    lines = source.splitlines()
    for node in reversed(ast.parse(source).body):
        if isinstance(node, ast.FunctionDef):
            documented = ast.get_docstring(node) is not None
            first = node.body[1] if documented and len(node.body) > 1 else node.body[0]
            indent = " " * first.col_offset
            lines[first.lineno - 1 : node.end_lineno] = [indent + TODO]
    return "\n".join(lines)
