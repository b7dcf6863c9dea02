"""A student's edition of a notebook: functions to write, no answers in view."""

import ast

TODO = 'raise NotImplementedError("write this function")'


def student_edition(notebook: dict) -> dict:
    """A notebook without outputs and checks, in which cells tagged `write` are left to write.

    Of the functions in such a cell, signature and docstring remain. The checks directly after it
    remain, too: they fail until it is written. A box after the title says so.
    """
    to_write = sum("write" in cell["metadata"].get("tags", []) for cell in notebook["cells"])
    box = f"> **Student's edition.** In {to_write} cells there are functions to write. Until you"
    box += " have written one, it says `NotImplementedError`, and cells that need it fail as well."
    cells = []
    written = False  # whether the code cell before was one to write
    for cell in notebook["cells"]:
        tags = cell["metadata"].get("tags", [])
        if "check" in tags and not written:
            continue
        cell = dict(cell)
        if cell["cell_type"] == "code":
            cell |= dict(outputs=[], execution_count=None)
            # a check of the reader's own work is shown
            cell["metadata"] = {
                key: value
                for key, value in cell["metadata"].items()
                if key != "jupyter" or "check" not in tags
            }
            if "write" in tags:
                cell["source"] = left_open("".join(cell["source"]))
            written = "write" in tags or ("check" in tags and written)
        cells.append(cell)
    if to_write:
        title = cells[0]
        about = dict(cell_type="markdown", id="students-edition", metadata={}, source=box)
        cells = [title, about, *cells[1:]]
    return notebook | dict(cells=cells, metadata=notebook["metadata"] | {"edition": "student"})


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
