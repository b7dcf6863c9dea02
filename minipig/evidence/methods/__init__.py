"""PIG and its comparators, one file each; all are sampled by the same walk."""
