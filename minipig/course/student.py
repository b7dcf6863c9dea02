"""A student's edition of a notebook: functions to write, no answers in view."""

import ast

TODO = 'raise NotImplementedError("write this function")'


def student_edition(notebook: dict) -> dict:
    """A notebook without outputs and checks, in which cells tagged `write` are left to write.

    Of the functions in such a cell, signature and docstring remain. The checks directly after it
    remain, too: they fail until it is written.
    """
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
    return notebook | dict(cells=cells)


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
