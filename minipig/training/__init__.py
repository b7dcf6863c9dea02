"""Train a pair model, resume it, and sample it into a folder."""
