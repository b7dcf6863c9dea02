"""Worlds in which every conditional is known: the proof in tables, and ideal networks."""
