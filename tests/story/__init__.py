"""One worker in trouble, to be read in order."""
