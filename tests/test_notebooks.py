"""Every notebook: run top to bottom without errors, taught, asserted, its exercises solved."""

import ast
import re
from pathlib import Path

import nbformat
import pytest

ROOT = Path(__file__).parent.parent
CHAPTERS = sorted((ROOT / "notebooks").glob("*.ipynb"))
SOLUTIONS = sorted((ROOT / "notebooks" / "solutions").glob("*.ipynb"))
SLIDES = sorted((ROOT / "notebooks" / "slides").glob("*.ipynb"))
README = (ROOT / "notebooks" / "README.md").read_text()
DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef)
ABSOLUTE = re.compile(r"(?<![\w.:/<])/(?:home|root|work|tmp|usr|opt|Users|mnt|var)/\w")


def load(path):
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    return notebook


def code(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code" and cell.source.strip()]


def prose(notebook):
    return "\n\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")


def exercises(notebook):
    return re.findall(r"^#+ Exercise (\d+)", prose(notebook), flags=re.M)


def name(path):
    return str(path.relative_to(ROOT / "notebooks"))


@pytest.mark.parametrize("path", CHAPTERS + SOLUTIONS + SLIDES, ids=name)
def test_executed_in_order_without_errors(path):
    notebook = load(path)
    assert [cell.execution_count for cell in code(notebook)] == list(
        range(1, len(code(notebook)) + 1)
    )
    outputs = [output for cell in code(notebook) for output in cell.outputs]
    assert outputs
    assert not [
        output
        for output in outputs
        if output.output_type == "error" or output.get("name") == "stderr"
    ]
    assert not ABSOLUTE.search(path.read_text()), ABSOLUTE.search(path.read_text())


@pytest.mark.parametrize("path", CHAPTERS + SOLUTIONS + SLIDES, ids=name)
def test_figures_have_an_alternative_text(path):
    """In the metadata of the cell, where nbconvert's template `classic` looks for it."""
    drawn = [
        cell
        for cell in code(load(path))
        if any("image/png" in output.get("data", {}) for output in cell.outputs)
    ]
    assert [cell.id for cell in drawn if not 60 <= len(cell.metadata.get("alt", "")) <= 400] == []


@pytest.mark.parametrize("path", CHAPTERS, ids=name)
def test_taught(path):
    notebook = load(path)
    first = notebook.cells[0]
    assert (
        first.cell_type == "markdown"
        and first.source.startswith("# ")
        and "What you will learn" in first.source
    )
    assert any("assert " in cell.source for cell in code(notebook))
    assert any(
        "image/png" in output.get("data", {}) for cell in code(notebook) for output in cell.outputs
    )
    assert exercises(notebook)


@pytest.mark.parametrize("path", CHAPTERS, ids=name)
def test_cells_are_short(path):
    """At most 25 lines, but for the cell of imports."""
    cells = [cell for cell in code(load(path)) if "\nimport torch" not in cell.source]
    assert [cell.id for cell in cells if len(cell.source.splitlines()) > 25] == []


@pytest.mark.parametrize("path", CHAPTERS + SOLUTIONS, ids=name)
def test_checks_are_folded_and_say_what_they_hold(path):
    checks = [cell for cell in code(load(path)) if "check" in cell.metadata.get("tags", [])]
    for cell in checks:
        assert cell.metadata.jupyter.source_hidden and not cell.outputs, cell.id
        assert cell.source.startswith("# Check: ") and "assert " in cell.source, cell.id


@pytest.mark.parametrize("path", CHAPTERS, ids=name)
def test_every_exercise_is_solved(path):
    solution = load(ROOT / "notebooks" / "solutions" / path.name)
    assert (
        exercises(solution)
        == exercises(load(path))
        == [str(i + 1) for i in range(len(exercises(solution)))]
    )
    assert sum("assert " in cell.source for cell in code(solution)) >= len(exercises(solution))


ITEM = r"((?:Eq|Proposition|Algorithm|Fig)\S* \(?\d+\)?)"
FILE = r"\[`([\w/]+\.py)`\]\(\.\./minipig/\2\)"
CHAPTER = r"\[(\d\d)\]\((\3_\w+\.ipynb)\)"
INDEX = re.findall(rf"^\| {ITEM} \|.*\| {FILE} \| {CHAPTER} \|$", README, flags=re.M)


def docstrings(path):
    nodes = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, DOCUMENTED)]
    return "\n\n".join(ast.get_docstring(node) or "" for node in nodes)


def test_the_readmes_index_is_complete():
    equations = {f"Eq. ({n})" for n in range(1, 13)}
    others = {"Proposition 1", "Algorithm 1", "Algorithm 2"}
    assert {item for item, *_ in INDEX} == equations | others | {f"Fig. {n}" for n in (1, 2, 3)}


def test_the_course_map_lists_every_notebook_in_order():
    rows = re.findall(r"^\| \[(\d\d) .+?\]\((\w+\.ipynb)\) \|", README, flags=re.M)
    assert [link for _, link in rows] == [path.name for path in CHAPTERS]
    assert all(link.startswith(number) for number, link in rows)


@pytest.mark.parametrize("item, file, chapter, link", INDEX, ids=lambda value: value)
def test_every_numbered_thing_is_where_the_index_says(item, file, chapter, link):
    """Numbers may share an "Eq.", as in "Eq. (9) and (10)"."""
    pattern = (
        rf"Eqs?\.\s[^.]*{re.escape(item[4:])}" if item.startswith("Eq") else rf"{re.escape(item)}\b"
    )
    notebook = ROOT / "notebooks" / link
    assert re.search(pattern, docstrings(ROOT / "minipig" / file)), (
        f"{item} is in no docstring of {file}"
    )
    assert re.search(pattern, prose(load(notebook))), (
        f"{item} is not in the prose of {notebook.name}"
    )
