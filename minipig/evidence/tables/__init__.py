"""Tables 1 and 2 of the paper, on phantoms and on real pairs."""
