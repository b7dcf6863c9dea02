"""Pairs of lesion mask and slice: drawn, read from folders, and saved."""
