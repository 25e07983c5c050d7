"""A kind of rule that is added by one file and one row."""
