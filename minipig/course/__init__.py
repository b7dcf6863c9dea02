"""The course: where its files are, copies of it, a site, a deck of slides."""
