"""Two files are tested at a time (pyproject.toml), so each process takes half of the cores."""

import os

# before torch is imported; the kernels of notebooks inherit it
os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 2) // 2)))
