"""Two files are tested at a time (pyproject.toml), so each process takes half of the cores."""

import os
import tempfile

# before torch is imported; the kernels of notebooks inherit it
os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 2) // 2)))
# the trials of training/choice.py stay out of the user's cache
os.environ.setdefault("XDG_CACHE_HOME", tempfile.mkdtemp())
