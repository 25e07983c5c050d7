"""Claims that hold of every implementation of a port."""
