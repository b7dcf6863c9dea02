"""The script that executes notebooks into a folder tells what differs and what failed."""

import nbformat
import pytest
from run_notebooks import run


def written(folder, *cells):
    """A notebook of (source, stored text) cells."""
    notebook = nbformat.v4.new_notebook()
    for number, (source, text) in enumerate(cells):
        stored = [nbformat.v4.new_output("stream", text=text)]
        cell = nbformat.v4.new_code_cell(source, outputs=stored, id=f"cell-{number}")
        notebook.cells.append(cell)
    path = folder / "lesson.ipynb"
    nbformat.write(notebook, path)
    return path


@pytest.mark.filterwarnings("ignore")  # of the kernel's connection
def test_a_printed_value_that_differs_is_shown(tmp_path, capsys):
    out = tmp_path / "out"
    out.mkdir()
    path = written(tmp_path, ("print(1)", "1\n"), ("print(2)\nprint(4)", "2\n3\n"))
    assert run(path, out)
    said = capsys.readouterr().out.splitlines()
    assert said[0].startswith("lesson: 1 cells differ")
    assert said[1:4] == ["    cell cell-1", "    @@ -2 +2 @@", "    -3"] and said[4] == "    +4"
    executed = nbformat.read(out / "lesson.ipynb", 4)
    assert executed.cells[1].outputs[0].text == "2\n4\n"
    assert "3" in path.read_text()  # the committed one stays


@pytest.mark.filterwarnings("ignore")
def test_a_cell_that_fails_is_a_failure(tmp_path, capsys):
    out = tmp_path / "out"
    out.mkdir()
    assert not run(written(tmp_path, ("assert 1 > 2, 'too small'", "")), out)
    assert "FAILED" in capsys.readouterr().out
