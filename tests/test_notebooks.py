"""What every notebook promises: run top to bottom, clean, taught, asserted, and each exercise solved."""

import re
from pathlib import Path

import nbformat
import pytest

ROOT = Path(__file__).parent.parent
CHAPTERS = sorted((ROOT / "notebooks").glob("*.ipynb"))
SOLUTIONS = sorted((ROOT / "notebooks" / "solutions").glob("*.ipynb"))
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


@pytest.mark.parametrize("path", CHAPTERS + SOLUTIONS, ids=name)
def test_executed_in_order_without_a_blemish(path):
    notebook = load(path)
    assert [cell.execution_count for cell in code(notebook)] == list(range(1, len(code(notebook)) + 1))
    outputs = [output for cell in code(notebook) for output in cell.outputs]
    assert outputs
    assert not [output for output in outputs if output.output_type == "error" or output.get("name") == "stderr"]
    assert not ABSOLUTE.search(path.read_text()), ABSOLUTE.search(path.read_text())


@pytest.mark.parametrize("path", CHAPTERS, ids=name)
def test_taught(path):
    notebook = load(path)
    first = notebook.cells[0]
    assert first.cell_type == "markdown" and first.source.startswith("# ") and "What you will learn" in first.source
    assert any("assert " in cell.source for cell in code(notebook))
    assert any("image/png" in output.get("data", {}) for cell in code(notebook) for output in cell.outputs)
    assert exercises(notebook)


@pytest.mark.parametrize("path", CHAPTERS, ids=name)
def test_every_exercise_is_solved(path):
    solution = load(ROOT / "notebooks" / "solutions" / path.name)
    assert exercises(solution) == exercises(load(path)) == [str(i + 1) for i in range(len(exercises(solution)))]
    assert sum("assert " in cell.source for cell in code(solution)) >= len(exercises(solution))


@pytest.mark.parametrize("number", range(1, 8))
def test_every_equation_is_in_the_code_and_in_the_course(number):
    equation = re.compile(rf"Eqs?\.[  ]\(?[^.\n]*\({number}\)")
    assert any(equation.search(path.read_text()) for path in (ROOT / "minipig").glob("*.py"))
    assert any(equation.search(prose(load(path))) for path in CHAPTERS)
