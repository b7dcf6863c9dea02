"""Execute notebooks into a folder, and compare what they print with the committed outputs.

    python tests/run_notebooks.py FOLDER                   all of them, on a GPU where there is one
    python tests/run_notebooks.py FOLDER 00_quickstart 06_sampling_pairs

Exits with 1 if a cell failed. A printed value that differs is shown and is no failure: on another
device a network that is trained live ends elsewhere. pytest compares the same on a CPU, and fails.
"""

import sys
import time
from difflib import unified_diff
from pathlib import Path

import nbformat
import torch
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

NOTEBOOKS = Path(__file__).parents[1] / "notebooks"


def printed(cell: dict) -> list[str]:
    """The lines of what a cell printed or showed as text."""
    texts = []
    for output in cell.get("outputs", []):
        text = output.get("text") or output.get("data", {}).get("text/plain", "")
        texts += text.splitlines()
    return texts


def run(path: Path, folder: Path) -> bool:
    """Execute a notebook, write it and the lines that differ; whether every cell ran."""
    committed, notebook = (nbformat.read(path, 4) for _ in range(2))
    where = {"metadata": {"path": str(path.parent)}}
    begun, failed = time.monotonic(), None
    try:
        NotebookClient(notebook, timeout=900, kernel_name="python3", resources=where).execute()
    except CellExecutionError as error:
        failed = error
    nbformat.write(notebook, folder / path.name)
    changed = {}
    for old, new in zip(committed.cells, notebook.cells):
        lines = list(unified_diff(printed(old), printed(new), lineterm="", n=0))[2:]
        if lines and failed is None:
            changed[old.id] = [f"    cell {old.id}", *(f"    {line}" for line in lines)]
    verdict = "a cell FAILED" if failed else f"{len(changed)} cells differ"
    print(f"{path.stem}: {verdict}, {time.monotonic() - begun:.0f} s", flush=True)
    for line in [*sum(changed.values(), []), *str(failed or "").splitlines()[-3:]]:
        print(line, flush=True)
    return failed is None


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "the CPU; no GPU here"
    print(f"torch {torch.__version__} on {device}")
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    wanted = sys.argv[2:] or sorted(path.stem for path in NOTEBOOKS.glob("[0-9]*.ipynb"))
    results = [run(NOTEBOOKS / f"{name}.ipynb", folder) for name in wanted]
    sys.exit(not all(results))
