"""A kind of rule that one file and one row add."""
