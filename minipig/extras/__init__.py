"""What is not in the paper, each file usable alone."""
