"""The evidence: the main job, the paper's tables, the lab of guide rules, and the benchmark."""
